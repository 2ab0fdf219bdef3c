// SPDX-License-Identifier: Apache-2.0
// view_store DIRECTORY DISK_MIB WRITES WRITE_BYTES: makes a store of one disk: a first copy of it, then WRITES writes
// of WRITE_BYTES at random places, a barrier after each thousand. Half of each payload is noise, half of it compresses.
// Sealed segments have their indexes, as a receiver's jobs make them.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "daemon/base/check.h"
#include "daemon/base/checksum.h"
#include "daemon/store/journal.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store.h"

namespace understudy {
namespace {

constexpr std::size_t kCopyBytes = 256 << 10;
constexpr std::size_t kBatchBytes = 1 << 20;
constexpr std::uint64_t kStartNs = 1'760'000'000'000'000'000;
constexpr std::uint64_t kStepNs = 100'000;
constexpr std::uint64_t kBarrierEvery = 1000;

class Maker {
 public:
  explicit Maker(const std::string& directory) {
    StoreOptions options;
    options.directory = directory;
    store_ = Store::create(options, {server_, "bench", 1}).value();
    noise_.resize(1 << 20);
    for (std::uint64_t& word : noise_) word = random_();
    writer_.start(server_, next_seq_, 1, 1);
  }

  const Uuid& server() const { return server_; }
  std::uint64_t random() { return random_(); }

  void add(RecordKind kind, std::uint8_t flags, std::uint64_t offset, std::uint32_t length,
           std::vector<std::byte> payload) {
    Record record;
    record.kind = kind;
    record.flags = flags;
    record.offset_bytes = offset;
    record.length_bytes = length;
    record.time_ns = kStartNs + next_seq_ * kStepNs;
    record.checksum = payload.empty() ? 0 : xxh3_64(payload);
    payloads_.push_back(std::move(payload));
    record.payload = payloads_.back();
    bytes_ += record.payload.size();
    writer_.add(record);
    ++next_seq_;
    if (bytes_ >= kBatchBytes || payloads_.size() >= 4096) flush(false);
  }

  void add_data(RecordKind kind, std::uint8_t flags, std::uint64_t offset, std::size_t length) {
    std::vector<std::byte> payload(length);
    const std::span<const std::byte> noise = std::as_bytes(std::span(noise_));
    for (std::size_t at = 0; at < length; at += 512)
      std::memcpy(payload.data() + at, noise.data() + random_() % (noise.size() - 256), 256);
    add(kind, flags, offset, static_cast<std::uint32_t>(length), std::move(payload));
  }

  void flush(bool commit) {
    if (!payloads_.empty()) {
      std::vector<std::byte> batch;
      writer_.encode({Codec::kZstd, 1}, batch);
      CHECK(store_->append(batch).ok());
      payloads_.clear();
      bytes_ = 0;
      writer_.start(server_, next_seq_, 1, 1);
    }
    if (commit || ++flushes_ % 64 == 0) CHECK(store_->commit().ok());
  }

  void write_indexes() {
    const std::shared_ptr<const JournalSnapshot> snapshot = store_->snapshot();
    for (std::size_t i = 0; i + 1 < snapshot->segments().size(); ++i)
      CHECK(write_segment_index(posix_file_system(), *snapshot, i).ok());
  }

 private:
  const Uuid server_ = Uuid::random();
  std::unique_ptr<Store> store_;
  std::mt19937_64 random_{1};
  std::vector<std::uint64_t> noise_;
  BatchWriter writer_;
  std::vector<std::vector<std::byte>> payloads_;
  std::size_t bytes_ = 0;
  Seq next_seq_ = 1;
  std::uint64_t flushes_ = 0;
};

int run(const std::string& directory, std::uint64_t disk_bytes, std::uint64_t writes, std::size_t write_bytes) {
  Maker maker(directory);
  maker.add(RecordKind::kGeometry, 0, 0, 0,
            encode_geometry(std::vector<DiskGeometry>{{0, maker.server(), "/dev/vda", disk_bytes, 512}}));
  maker.add(RecordKind::kGap, 0, 0, 0, encode_gap({GapReason::kInitialCopy}));
  for (std::uint64_t at = 0; at < disk_bytes; at += kCopyBytes)
    maker.add_data(RecordKind::kCopy, kRecordInitial, at, kCopyBytes);
  maker.add(RecordKind::kHeal, 0, 0, 0, {});
  for (std::uint64_t i = 1; i <= writes; ++i) {
    maker.add_data(RecordKind::kWrite, 0, maker.random() % (disk_bytes / write_bytes) * write_bytes, write_bytes);
    if (i % kBarrierEvery == 0 || i == writes) maker.add(RecordKind::kBarrier, 0, 0, 0, {});
  }
  maker.flush(true);
  maker.write_indexes();
  return 0;
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: view_store DIRECTORY DISK_MIB WRITES WRITE_BYTES\n");
    return 2;
  }
  return understudy::run(argv[1], std::strtoull(argv[2], nullptr, 10) << 20, std::strtoull(argv[3], nullptr, 10),
                         std::strtoull(argv[4], nullptr, 10));
}
