// SPDX-License-Identifier: Apache-2.0
// store_open make DIRECTORY RECORDS: a store of so many records, as a receiver would leave it: full copy, then 512-byte
// writes all over the disk with barriers, sealed segments indexed, the last one half full.
// store_open open DIRECTORY COUNT: what an operator waits for, COUNT times for points spread over history, each with a
// store opened anew: open the store, resolve a time, open the view, read 4 KiB. Prints the milliseconds of each, and
// the most memory that the process had, in KiB.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "daemon/base/checksum.h"
#include "daemon/base/clock.h"
#include "daemon/store/journal.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store.h"
#include "daemon/view/view.h"

namespace understudy {
namespace {

constexpr std::uint64_t kRecordBytes = 512;
constexpr std::uint64_t kDiskBytes = 64ull << 30;
constexpr std::uint64_t kStartNs = 1'700'000'000'000'000'000;
constexpr std::uint64_t kStepNs = 1'000'000;
constexpr std::uint64_t kRecordsPerBatch = 1024;

class Maker {
 public:
  Maker(const std::string& directory, std::uint64_t records) : server_(Uuid::random()), records_(records) {
    StoreOptions options;
    options.directory = directory;
    store_ = Store::create(options, {server_, "bench", 1}).value();
    geometry_ = encode_geometry(std::vector<DiskGeometry>{{0, server_, "bench", kDiskBytes, 512}});
    gap_ = encode_gap({GapReason::kInitialCopy});
    payload_.assign(kRecordBytes, std::byte{0x5a});
    checksum_ = xxh3_64(payload_);
  }

  Status run() {
    while (seq_ <= records_) RETURN_IF_ERROR(add_batch());
    RETURN_IF_ERROR(store_->commit());
    const std::shared_ptr<const JournalSnapshot> snapshot = store_->snapshot();
    for (std::size_t i = 0; i + 1 < snapshot->segments().size(); ++i)
      RETURN_IF_ERROR(write_segment_index(posix_file_system(), *snapshot, i));
    return ok_status();
  }

 private:
  Status add_batch() {
    BatchWriter writer;
    writer.start(server_, seq_, 1, 1);
    if (seq_ == 1) {
      writer.add({RecordKind::kGeometry, 0, 0, 0, 0, time(0), xxh3_64(geometry_), geometry_});
      writer.add({RecordKind::kGap, 0, 0, 0, 0, time(1), xxh3_64(gap_), gap_});
      writer.add({RecordKind::kCopy, kRecordInitial | kRecordZeros, 0, 0, kDiskBytes, time(2), 0, {}});
      writer.add({RecordKind::kHeal, 0, 0, 0, 0, time(3), 0, {}});
    }
    while (writer.record_count() < kRecordsPerBatch && seq_ + writer.record_count() <= records_) {
      const std::uint64_t now = time(writer.record_count());
      if (writer.record_count() % 64 == 63)
        writer.add({RecordKind::kBarrier, 0, 0, 0, 0, now, 0, {}});
      else
        writer.add({RecordKind::kWrite, 0, 0, random_() % (kDiskBytes / kRecordBytes) * kRecordBytes, kRecordBytes, now,
                    checksum_, payload_});
    }
    seq_ += writer.record_count();
    bytes_.clear();
    writer.encode({Codec::kZstd, 1}, bytes_);
    return store_->append(bytes_);
  }
  std::uint64_t time(std::uint64_t index) const { return kStartNs + (seq_ + index) * kStepNs; }

  std::unique_ptr<Store> store_;
  Uuid server_;
  std::uint64_t records_;
  Seq seq_ = 1;
  std::mt19937_64 random_{1};
  std::vector<std::byte> geometry_;
  std::vector<std::byte> gap_;
  std::vector<std::byte> payload_;
  std::vector<std::byte> bytes_;
  std::uint64_t checksum_ = 0;
};

Result<double> open_once(const std::string& directory, double share, std::uint64_t offset_bytes) {
  const std::uint64_t start_ns = system_clock().boot_ns();
  StoreOptions options;
  options.directory = directory;
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::open(options, OpenMode::kReadOnly, {}));
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(*store));
  const double back_ms = static_cast<double>(timeline.last_time_ns - kStartNs) / 1e6 * share;
  ASSIGN_OR_RETURN(const Point point, resolve_point(timeline, "-" + std::to_string(static_cast<int>(back_ms)) + "ms"));
  ASSIGN_OR_RETURN(const std::unique_ptr<PointInTimeView> view, PointInTimeView::open(*store, point));
  std::vector<std::byte> out(4096);
  RETURN_IF_ERROR(view->read(0, offset_bytes, out));
  return static_cast<double>(system_clock().boot_ns() - start_ns) / 1e6;
}

int run(const std::string& command, const std::string& directory, std::uint64_t number) {
  if (command == "make") {
    const Status made = Maker(directory, number).run();
    if (!made.ok()) std::fprintf(stderr, "store_open: %s\n", made.error().message().c_str());
    return made.ok() ? 0 : 1;
  }
  std::mt19937_64 random(number);
  for (std::uint64_t i = 0; i < number; ++i) {
    const Result<double> took = open_once(directory, (static_cast<double>(i) + 0.5) / static_cast<double>(number),
                                          random() % (kDiskBytes / 4096) * 4096);
    if (!took.ok()) {
      std::fprintf(stderr, "store_open: %s\n", took.error().message().c_str());
      return 1;
    }
    std::printf("ms %.3f\n", *took);
  }
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 1;
  std::printf("kib %ld\n", usage.ru_maxrss);
  return 0;
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  if (argc != 4 || (std::strcmp(argv[1], "make") != 0 && std::strcmp(argv[1], "open") != 0)) {
    std::fprintf(stderr, "usage: store_open make DIRECTORY RECORDS | store_open open DIRECTORY COUNT\n");
    return 2;
  }
  return understudy::run(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10));
}
