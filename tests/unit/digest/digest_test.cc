// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "daemon/digest/digest_check.h"
#include "daemon/digest/digest_proofs.h"
#include "daemon/digest/digest_region.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kMib = 1 << 20;

std::vector<std::byte> random_bytes(std::size_t length, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, length - i));
  }
  return bytes;
}

// One disk in slot 3.
class Replica final : public DigestContent {
 public:
  explicit Replica(std::vector<std::byte> content) : bytes(std::move(content)) {}
  Seq seq() const override { return at; }
  std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const override {
    return disk == 3 ? std::optional<std::uint64_t>(bytes.size()) : std::nullopt;
  }
  bool known_zeros(std::uint16_t, std::uint64_t offset, std::uint64_t length) const override {
    return tell_zeros && std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                                     bytes.begin() + static_cast<std::ptrdiff_t>(offset + length),
                                     [](std::byte b) { return b == std::byte{0}; });
  }
  Result<std::span<const std::byte>> read(std::uint16_t, std::uint64_t offset, std::span<std::byte> room) override {
    if (unreadable >= offset && unreadable < offset + room.size()) return Error(ErrorKind::kCorrupt, "flipped bits");
    bytes_read += room.size();
    if (together) return std::span<const std::byte>(bytes).subspan(offset, room.size());
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), room.size(), room.begin());
    return std::span<const std::byte>(room);
  }
  bool together = false;  // what is read lies in memory
  std::vector<std::byte> bytes;
  Seq at = 7;
  bool tell_zeros = true;
  std::uint64_t unreadable = ~std::uint64_t{0};
  std::uint64_t bytes_read = 0;
};

struct Outcome {
  std::vector<std::uint64_t> different;  // offsets of leaves
  std::uint64_t equal_chunks = 0;
  std::uint64_t undecided_chunks = 0;
  std::uint64_t wire_bytes = 0;
  unsigned exchanges = 0;
};

void read_all(DigestRegion& region, std::span<const std::byte> disk, std::uint64_t head = 100) {
  while (const auto chunk = region.next_to_read()) {
    region.read_begins(*chunk, head);
    region.read_finished(*chunk, disk.subspan(region.chunk_offset_bytes(*chunk), region.chunk_bytes(*chunk)), head);
  }
}

Outcome compare(DigestRegion& region, DigestCheck& check, DigestContent& content, Seq seq = 7) {
  Outcome outcome;
  auto question = region.ask_region(1, seq);
  while (question) {
    ++outcome.exchanges;
    std::vector<std::byte> bytes;
    encode_digest_question(*question, bytes);
    const auto sent = decode_digest_question(bytes);
    REQUIRE(sent.ok());
    REQUIRE(*sent == *question);
    const DigestAnswer answer = check.answer(*sent, content);
    outcome.wire_bytes += bytes.size();
    bytes.clear();
    encode_digest_answer(answer, bytes);
    outcome.wire_bytes += bytes.size();
    const auto back = decode_digest_answer(bytes);
    REQUIRE(back.ok());
    question = region.take_answer(*back);
  }
  outcome.equal_chunks = region.equal_chunks();
  outcome.undecided_chunks = region.undecided_chunks();
  for (unsigned chunk = 0; chunk < digest_chunk_count(region.length_bytes()); ++chunk) {
    for (unsigned leaf = 0; leaf < kDigestLeavesPerChunk; ++leaf) {
      if ((region.different_leaves(chunk) >> leaf & 1) == 0) continue;
      outcome.different.push_back(region.chunk_offset_bytes(chunk) + leaf * kDigestLeafBytes);
    }
  }
  return outcome;
}

}  // namespace

TEST_CASE("the digest of a leaf of zeros is the one that is built in") {
  const std::vector<std::byte> zeros(kDigestLeafBytes);
  CHECK(xxh3_128(zeros) == kDigestOfZeroLeaf);
  CHECK(digest_of_zeros(kDigestLeafBytes) == kDigestOfZeroLeaf);
  CHECK(digest_of_zeros(512) == xxh3_128(std::vector<std::byte>(512)));
}

TEST_CASE("an equal region costs one exchange and far less than a thousandth of its bytes") {
  const auto disk = random_bytes(64 * kMib, 1);
  Replica replica(disk);
  DigestCheck check;
  DigestRegion region(3, 0, disk.size(), ~std::uint64_t{0});
  read_all(region, disk);
  CHECK_FALSE(region.complete(99));  // the stream does not reach the reads yet
  REQUIRE(region.complete(100));
  const Outcome outcome = compare(region, check, replica);
  CHECK(outcome.exchanges == 1);
  CHECK(outcome.equal_chunks == ~std::uint64_t{0});
  CHECK(outcome.different.empty());
  CHECK(outcome.wire_bytes * 100'000 < disk.size());
}

TEST_CASE("every flipped leaf is found, and no other") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const std::uint64_t bytes = 512 * (1 + random() % (6 * kMib / 512));
    const auto disk = random_bytes(bytes, seed);
    Replica replica(disk);
    std::vector<std::uint64_t> expected;
    for (std::uint64_t flips = random() % 8; flips > 0; --flips) {
      const std::uint64_t at = random() % bytes;
      replica.bytes[at] ^= std::byte{1};
      if (replica.bytes[at] != disk[at]) expected.push_back(at / kDigestLeafBytes * kDigestLeafBytes);
    }
    std::erase_if(expected, [&](std::uint64_t leaf) {  // flipped back
      const std::uint64_t end = std::min(leaf + kDigestLeafBytes, bytes);
      return std::equal(disk.begin() + static_cast<std::ptrdiff_t>(leaf),
                        disk.begin() + static_cast<std::ptrdiff_t>(end),
                        replica.bytes.begin() + static_cast<std::ptrdiff_t>(leaf));
    });
    std::sort(expected.begin(), expected.end());
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    DigestCheck check;
    const unsigned chunks = digest_chunk_count(bytes);
    DigestRegion region(3, 0, bytes, (std::uint64_t{1} << chunks) - 1);
    read_all(region, disk);
    const Outcome outcome = compare(region, check, replica);
    CHECK(outcome.different == expected);
    CHECK(outcome.undecided_chunks == 0);
    CHECK(outcome.exchanges == (expected.empty() ? 1u : 2u));
  }
}

TEST_CASE("what the receiver never allocated costs it no reading") {
  std::vector<std::byte> disk(8 * kMib);
  disk[5 * kMib] = std::byte{1};
  Replica replica(disk);
  DigestCheck check;
  DigestRegion region(3, 0, disk.size(), 0xff);
  read_all(region, disk);
  CHECK(compare(region, check, replica).equal_chunks == 0xff);
  CHECK(replica.bytes_read == kMib);
}

TEST_CASE("a chunk that is written while it is read is read again, and left out in the end") {
  const auto disk = random_bytes(4 * kMib, 2);
  DigestRegion region(3, 0, disk.size(), 0xf);
  const auto read = [&](unsigned chunk, std::uint64_t head) {
    REQUIRE(region.next_to_read() == chunk);
    region.read_begins(chunk, head);
    region.read_finished(chunk, std::span(disk).subspan(chunk * kMib, kMib), head);
  };
  for (unsigned chunk = 0; chunk < 4; ++chunk) read(chunk, 100);
  region.note_event(3, 2 * kMib - 512, 512, 90);   // in the stream before the read: in the bytes
  region.note_event(2, 2 * kMib, 4096, 120);       // another disk
  CHECK(region.complete(100));
  region.note_event(3, 2 * kMib - 512, 1024, 130);  // over the seam of chunks 1 and 2
  CHECK_FALSE(region.complete(200));
  read(1, 140);
  read(2, 140);
  CHECK(region.complete(140));
  for (std::uint64_t head = 150; head < 250; head += 10) {
    region.note_event(3, 2 * kMib, 512, head);
    if (region.next_to_read()) read(2, head + 1);
  }
  REQUIRE(region.complete(1000));
  Replica replica(disk);
  DigestCheck check;
  const Outcome outcome = compare(region, check, replica);
  CHECK(outcome.equal_chunks == 0b1011);
  CHECK(outcome.undecided_chunks == 0b0100);
}

TEST_CASE("events between the read and its end count, too") {
  const auto disk = random_bytes(kMib, 3);
  DigestRegion region(3, 0, disk.size(), 1);
  region.read_begins(0, 10);
  region.note_event(3, 0, 512, 11);
  region.read_finished(0, disk, 20);
  CHECK(region.next_to_read() == 0u);
}

TEST_CASE("another position, another disk, a forgotten region decide nothing") {
  const auto disk = random_bytes(2 * kMib, 4);
  Replica replica(disk);
  DigestCheck check;
  for (const auto& [slot, seq] : {std::pair<std::uint16_t, Seq>{3, 8}, {4, 7}}) {
    DigestRegion region(slot, 0, disk.size(), 3);
    read_all(region, disk);
    CHECK(compare(region, check, replica, seq).undecided_chunks == 3);
  }
  replica.bytes[5] ^= std::byte{1};
  DigestRegion region(3, 0, disk.size(), 3);
  read_all(region, disk);
  const auto question = region.ask_region(1, 7);
  const auto leaves = region.take_answer(check.answer(*question, replica));
  REQUIRE(leaves);
  DigestCheck restarted;
  CHECK_FALSE(region.take_answer(restarted.answer(*leaves, replica)));
  CHECK(region.undecided_chunks() == 1);
  CHECK(region.equal_chunks() == 2);
}

TEST_CASE("bytes that the receiver cannot read differ from any") {
  const auto disk = random_bytes(2 * kMib, 5);
  Replica replica(disk);
  replica.unreadable = kMib + 3 * kDigestLeafBytes + 77;
  DigestCheck check;
  DigestRegion region(3, 0, disk.size(), 3);
  read_all(region, disk);
  const Outcome outcome = compare(region, check, replica);
  CHECK(outcome.different == std::vector<std::uint64_t>{kMib + 3 * kDigestLeafBytes});
  const auto error = check.take_error();
  REQUIRE(error);
  CHECK(error->message().find("flipped bits") != std::string::npos);
}

TEST_CASE("proofs: share, forgetting, and what comes back after a restart") {
  std::vector<DiskGeometry> disks(2);
  disks[0].size_bytes = 100 * kMib;
  disks[0].id.bytes[0] = std::byte{1};
  disks[1].disk = 5;
  disks[1].size_bytes = 3 * kMib + 512;
  disks[1].id.bytes[0] = std::byte{2};
  constexpr std::uint64_t kSecond = 1'000'000'000;
  DigestProofs proofs(disks);
  CHECK(proofs.proved_bytes(0) == 0);
  CHECK(proofs.provable_bytes() == 103 * kMib + 512);
  proofs.note_equal(5, 0, 3 * kMib + 512, 1000 * kSecond);
  proofs.note_equal(0, 0, 64 * kMib, 2000 * kSecond);
  proofs.note_equal(0, 64 * kMib, kMib, 3000 * kSecond);
  CHECK(proofs.proved_bytes(0) == 68 * kMib + 512);
  CHECK(proofs.proved_bytes(2000 * kSecond) == 65 * kMib);
  CHECK(proofs.proved_at(0, 64 * kMib + 5) == 3000 * kSecond);
  proofs.forget(0, 10 * kMib, 512);
  CHECK(proofs.proved_at(0, 10 * kMib) == 0);
  proofs.note_equal(0, 10 * kMib, kMib, 1500 * kSecond);

  const Uuid capture = Uuid::random();
  auto bytes = proofs.encode(capture);
  DigestProofs again(disks);
  REQUIRE(again.restore(bytes, capture).ok());
  CHECK(again.proved_at(0, 0) == 1500 * kSecond);   // of a region, the oldest is kept
  CHECK(again.proved_at(0, 64 * kMib) == 0);        // not all of that region was proved
  CHECK(again.proved_bytes(0) == 67 * kMib + 512);
  DigestProofs other(disks);
  REQUIRE(other.restore(bytes, Uuid::random()).ok());
  CHECK(other.proved_bytes(0) == 0);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{0x40};
    CHECK_FALSE(other.restore(bytes, capture).ok());
    bytes[i] ^= std::byte{0x40};
    CHECK_FALSE(other.restore(std::span(bytes).first(i), capture).ok());
  }
}

TEST_CASE("proofs: what was left out is not provable until it is equal") {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  std::vector<DiskGeometry> disks(1);
  disks[0].size_bytes = 2 * kMib + 4096;  // the last leaf is short
  disks[0].id.bytes[0] = std::byte{1};
  DigestProofs proofs(disks);
  CHECK_FALSE(proofs.left_out_known());
  proofs.begin_full_copy();
  CHECK(proofs.left_out_known());
  proofs.note_left_out(0, kMib + 100, 64 << 10);  // parts of two leaves
  proofs.note_left_out(0, 2 * kMib, 4096);
  CHECK(proofs.provable_bytes() == 2 * kMib - (128 << 10));
  proofs.note_equal(0, 0, kMib, 10 * kSecond);
  proofs.note_rest_equal(0, kMib, 10 * kSecond);
  CHECK(proofs.proved_bytes(0) == 2 * kMib - (128 << 10));
  DigestProofs again(disks);
  REQUIRE(again.restore(proofs.encode(Uuid()), Uuid()).ok());
  CHECK(again.is_left_out(0, kMib + 70'000));
  CHECK(again.provable_bytes() == proofs.provable_bytes());
  again.note_leaf_equal(0, kMib);
  CHECK_FALSE(again.is_left_out(0, kMib));
  again.note_equal(0, 2 * kMib, 4096, 20 * kSecond);
  CHECK(again.provable_bytes() == 2 * kMib + 4096 - (64 << 10));
  again.begin_full_copy();
  CHECK(again.provable_bytes() == 2 * kMib + 4096);
}

TEST_CASE("a long question is answered in slices, as if at once") {
  Replica replica(std::vector<std::byte>(5 * kMib, std::byte{7}));
  replica.tell_zeros = false;
  DigestQuestion question;
  question.disk = 3;
  question.seq = replica.at;
  question.length_bytes = 5 * kMib;
  question.chunk_mask = 0b11011;
  question.digests.resize(1);
  for (const bool together : {false, true}) {
    CAPTURE(together);
    replica.together = together;
    DigestCheck check;
    REQUIRE_FALSE(check.begin(question, replica));
    replica.bytes_read = 0;
    CHECK_FALSE(check.go_on(replica, 2 * kMib));
    CHECK(replica.bytes_read == 2 * kMib);
    CHECK_FALSE(check.go_on(replica, 1));
    CHECK(replica.bytes_read == 3 * kMib);
    const auto answer = check.go_on(replica, kMib);
    REQUIRE(answer);
    CHECK(replica.bytes_read == 4 * kMib);
    CHECK(*answer == DigestCheck().answer(question, replica));
  }
}

}  // namespace understudy
