// SPDX-License-Identifier: Apache-2.0
// store_merge trace DIRECTORY MIB SEGMENT_MIB FILES: a store that takes in MIB MiB of 4 KiB writes in batches of 1 MiB
// (half of their bytes compress), three quarters of them to a twentieth of a disk of 64 GiB, with its segments indexed
// and merged as they are sealed. Prints what came in, what was written for it, in bytes, and the most memory that the
// process had. It ends as a killed process does, without a clean end.
// store_merge recover DIRECTORY: opens it for writing and prints the milliseconds.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "daemon/base/checksum.h"
#include "daemon/base/clock.h"
#include "daemon/store/journal.h"
#include "daemon/store/merge_policy.h"
#include "daemon/store/run_merge.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr std::uint64_t kRecordBytes = 4096;
constexpr std::uint64_t kDiskBlocks = (64ull << 30) / kRecordBytes;
constexpr std::size_t kRecordsPerBatch = 256;

class Trace {
 public:
  Trace(std::string directory, std::uint64_t segment_bytes, std::size_t files)
      : directory_(std::move(directory)), server_(Uuid::random()) {
    StoreOptions options;
    options.directory = directory_;
    options.segment_bytes_max = segment_bytes;
    policy_.unit_bytes = segment_bytes;
    policy_.files = files;
    store_ = Store::create(options, {server_, "bench", 1}).value();
  }

  Status run(std::uint64_t batches) {
    for (std::uint64_t i = 0; i < batches; ++i) {
      RETURN_IF_ERROR(add_batch());
      if (store_->sealed_segments() == sealed_) continue;
      sealed_ = store_->sealed_segments();
      RETURN_IF_ERROR(do_jobs());
    }
    const std::shared_ptr<const JournalSnapshot> snapshot = store_->snapshot();
    std::printf("ingested %llu\nappended %llu\nindexed %llu\nmerged %llu\njournal %llu\nfiles %zu\n", number(ingested_),
                number(appended_), number(indexed_), number(merged_), number(store_->journal_bytes()),
                snapshot->segments().size());
    return ok_status();
  }

 private:
  static unsigned long long number(std::uint64_t value) { return value; }

  Status add_batch() {
    BatchWriter writer;
    writer.start(server_, seq_, 1, 1);
    const std::vector<std::byte> geometry =
        encode_geometry(std::vector<DiskGeometry>{{0, server_, "bench", kDiskBlocks * kRecordBytes, 512}});
    if (seq_ == 1) writer.add({RecordKind::kGeometry, 0, 0, 0, 0, 1, xxh3_64(geometry), geometry});
    std::vector<std::uint64_t> data(kRecordsPerBatch * kRecordBytes / 8);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = i % 512 < 256 ? random_() : 0;
    for (std::size_t i = 0; i < kRecordsPerBatch; ++i) {
      const std::span<const std::byte> payload = std::as_bytes(std::span(data)).subspan(i * kRecordBytes, kRecordBytes);
      const std::uint64_t block = random_() % (random_() % 4 != 0 ? kDiskBlocks / 20 : kDiskBlocks);
      writer.add({RecordKind::kWrite, 0, 0, block * kRecordBytes, kRecordBytes, seq_, xxh3_64(payload), payload});
    }
    seq_ += writer.record_count();
    bytes_.clear();
    writer.encode({Codec::kZstd, 1}, bytes_);
    ingested_ += bytes_.size();
    const std::uint64_t before = store_->journal_bytes();
    RETURN_IF_ERROR(store_->append(bytes_));
    const Result<Seq> committed = store_->commit();
    appended_ += store_->journal_bytes() - before;
    return committed.ok() ? ok_status() : Status(committed.error());
  }

  // As the receiver's job does, but at once.
  Status do_jobs() {
    FileSystem& file_system = posix_file_system();
    std::shared_ptr<const JournalSnapshot> snapshot = store_->snapshot();
    const std::size_t newest = snapshot->segments().size() - 2;
    const Result<bool> written = write_segment_index(file_system, *snapshot, newest);
    if (!written.ok()) return written.error();
    ASSIGN_OR_RETURN(
        const std::unique_ptr<File> index,
        file_system.open(journal_path(directory_) + "/" + index_name(snapshot->segments()[newest].info.first_seq),
                         FileMode::kRead));
    ASSIGN_OR_RETURN(const std::uint64_t index_bytes, index->size());
    indexed_ += index_bytes;
    while (const auto choice = choose_merge(snapshot->segments(), policy_, {})) {
      ASSIGN_OR_RETURN(std::unique_ptr<RunMerge> merge,
                       RunMerge::begin(file_system, directory_, snapshot, choice->first, choice->count, {}));
      while (true) {
        ASSIGN_OR_RETURN(const bool done, merge->step());
        if (done) break;
      }
      merged_ += merge->written_bytes();
      const MergedRun run = merge->run();
      merge.reset();
      snapshot.reset();
      RETURN_IF_ERROR(store_->adopt_run(run));
      const Result<std::size_t> kept = store_->remove_superseded();
      if (!kept.ok()) return kept.error();
      snapshot = store_->snapshot();
    }
    return ok_status();
  }

  const std::string directory_;
  const Uuid server_;
  MergePolicy policy_;
  std::unique_ptr<Store> store_;
  std::mt19937_64 random_{1};
  Seq seq_ = 1;
  std::size_t sealed_ = 0;
  std::vector<std::byte> bytes_;
  std::uint64_t ingested_ = 0;
  std::uint64_t appended_ = 0;
  std::uint64_t indexed_ = 0;
  std::uint64_t merged_ = 0;
};

int recover(const std::string& directory) {
  const std::uint64_t start_ns = system_clock().boot_ns();
  StoreOptions options;
  options.directory = directory;
  const Result<std::unique_ptr<Store>> store = Store::open(options, OpenMode::kReadWrite, {});
  const double took_ms = static_cast<double>(system_clock().boot_ns() - start_ns) / 1e6;
  if (store.ok() && !(*store)->read_only()) {
    std::printf("ms %.3f\n", took_ms);
    std::fflush(stdout);
    ::_exit(0);
  }
  std::fprintf(stderr, "store_merge: %s\n", store.ok() ? "the store is damaged" : store.error().message().c_str());
  return 1;
}

int trace(char** arguments) {
  auto made = std::make_unique<Trace>(arguments[2], std::strtoull(arguments[4], nullptr, 10) << 20,
                                      std::strtoull(arguments[5], nullptr, 10));
  if (const Status status = made->run(std::strtoull(arguments[3], nullptr, 10)); !status.ok()) {
    std::fprintf(stderr, "store_merge: %s\n", status.error().message().c_str());
    return 1;
  }
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 1;
  std::printf("kib %ld\n", usage.ru_maxrss);
  std::fflush(stdout);
  ::_exit(0);
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  if (argc == 6 && std::strcmp(argv[1], "trace") == 0) return understudy::trace(argv);
  if (argc == 3 && std::strcmp(argv[1], "recover") == 0) return understudy::recover(argv[2]);
  std::fprintf(stderr, "usage: store_merge trace DIRECTORY MIB SEGMENT_MIB FILES | store_merge recover DIRECTORY\n");
  return 2;
}
