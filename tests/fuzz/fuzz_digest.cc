// SPDX-License-Identifier: Apache-2.0
// What the two ends of a digest scan may send each other, through both halves of the comparison, and what a file of
// proofs may hold. The first byte of an input says which.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "daemon/base/check.h"
#include "daemon/base/checksum.h"
#include "daemon/base/little_endian.h"
#include "daemon/digest/digest_check.h"
#include "daemon/digest/digest_proofs.h"
#include "daemon/digest/digest_region.h"

namespace understudy {
namespace {

constexpr std::uint64_t kDiskBytes = 3 * kDigestChunkBytes + 4096;

class Replica final : public DigestContent {
 public:
  explicit Replica(Seq seq) : seq_(seq) {}
  Seq seq() const override { return seq_; }
  std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const override {
    return disk < 2 ? std::optional(kDiskBytes) : std::nullopt;
  }
  bool known_zeros(std::uint16_t, std::uint64_t offset, std::uint64_t length) const override {
    CHECK(length <= kDiskBytes && offset <= kDiskBytes - length);
    return offset % (2 * kDigestChunkBytes) == 0;
  }
  Result<std::span<const std::byte>> read(std::uint16_t, std::uint64_t offset, std::span<std::byte> room) override {
    CHECK(room.size() <= kDiskBytes && offset <= kDiskBytes - room.size());
    std::fill(room.begin(), room.end(), std::byte{1});
    return std::span<const std::byte>(room);
  }

 private:
  Seq seq_;
};

// A receiver and any question.
void ask(std::span<const std::byte> bytes) {
  const auto question = decode_digest_question(bytes);
  if (!question.ok()) return;
  std::vector<std::byte> again;
  encode_digest_question(*question, again);
  CHECK(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
  Replica replica(question->seq);
  static DigestCheck check;  // what it remembers of earlier inputs must not matter to the next
  const DigestAnswer answer = check.answer(*question, replica);
  again.clear();
  encode_digest_answer(answer, again);
  CHECK(decode_digest_answer(again).value() == answer);
}

// An agent and any answers, one behind the other: the first two bytes are the length of each.
void answer(std::span<const std::byte> bytes) {
  DigestRegion region(0, 0, kDiskBytes, 0b1011);
  const std::vector<std::byte> data(kDigestChunkBytes);
  while (const auto chunk = region.next_to_read()) {
    region.read_begins(*chunk, 0);
    region.read_finished(*chunk, std::span(data).first(region.chunk_bytes(*chunk)), 0);
  }
  CHECK(region.complete(0) && region.ask_region(1, 7));
  while (bytes.size() >= 2) {
    const auto length = std::min<std::size_t>(std::to_integer<std::size_t>(bytes[0]) |
                                                  std::to_integer<std::size_t>(bytes[1]) << 8, bytes.size() - 2);
    const auto message = decode_digest_answer(bytes.subspan(2, length));
    bytes = bytes.subspan(2 + length);
    if (!message.ok()) continue;
    if (const auto question = region.take_answer(*message)) CHECK(digest_question_mistake(*question).empty());
    CHECK((region.equal_chunks() & region.different_chunks()) == 0);
    CHECK(((region.equal_chunks() | region.different_chunks()) & ~region.wanted()) == 0);
  }
}

void restore(std::vector<std::byte> file) {
  DiskGeometry disk;
  disk.id.bytes[0] = std::byte{1};
  disk.size_bytes = 70 * kDigestChunkBytes + 512;
  DigestProofs proofs(std::span(&disk, 1));
  (void)proofs.restore(file, Uuid());
  le64 checksum;
  checksum = xxh3_64(file);
  const auto bytes = std::as_bytes(std::span(&checksum, 1));
  file.insert(file.end(), bytes.begin(), bytes.end());
  const bool ok = proofs.restore(file, Uuid()).ok();
  CHECK_LE(proofs.proved_bytes(0), proofs.provable_bytes());
  CHECK_LE(proofs.provable_bytes(), disk.size_bytes);
  if (ok) CHECK(proofs.restore(proofs.encode(Uuid()), Uuid()).ok());
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  if (size == 0) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> input(bytes + 1, bytes + size);  // exact size: reading behind it is found
  switch (data[0] % 3) {
    case 0: ask(input); break;
    case 1: answer(input); break;
    default: restore(std::move(input)); break;
  }
  return 0;
}
