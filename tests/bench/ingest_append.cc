// SPDX-License-Identifier: Apache-2.0
// ingest_append DIRECTORY MIB: makes a store in DIRECTORY, appends MIB batches of 1 MiB (256 records of 4 KiB that do
// not compress), commits each, and prints the bytes of payload a second. Making the batches is not measured. Segments
// are a sixteenth of the usual size, and the receiver's low-priority job merges them meanwhile, eight into one.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "daemon/base/checksum.h"
#include "daemon/base/clock.h"
#include "daemon/receiver/store_jobs.h"
#include "daemon/receiver/store_threads.h"
#include "daemon/store/store.h"

namespace understudy {
namespace {

constexpr std::size_t kRecordBytes = 4096;
constexpr std::size_t kRecordsPerBatch = 256;

int run(const std::string& directory, unsigned batches) {
  StoreOptions options;
  options.directory = directory;
  options.segment_bytes_max = 16 << 20;
  const Uuid server = Uuid::random();
  std::shared_ptr<Store> store = Store::create(options, {server, "bench", 1}).value();
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> noise(kRecordsPerBatch * kRecordBytes / 8);
  for (std::uint64_t& word : noise) word = random();
  const std::span<const std::byte> data = std::as_bytes(std::span(noise));
  const std::vector<std::byte> geometry =
      encode_geometry(std::vector<DiskGeometry>{{0, server, "bench", 1ull << 40, 512}});

  std::vector<std::vector<std::byte>> encoded(batches);
  Seq seq = 1;
  for (std::vector<std::byte>& batch : encoded) {
    BatchWriter writer;
    writer.start(server, seq, 1, 1);
    if (seq == 1) writer.add({RecordKind::kGeometry, 0, 0, 0, 0, 1, xxh3_64(geometry), geometry});
    for (std::size_t i = 0; i < kRecordsPerBatch; ++i) {
      const std::span<const std::byte> payload = data.subspan(i * kRecordBytes, kRecordBytes);
      writer.add({RecordKind::kWrite, 0, 0, random() % (1u << 28) * kRecordBytes, kRecordBytes, seq, xxh3_64(payload),
                  payload});
    }
    seq += writer.record_count();
    writer.encode({Codec::kZstd, 1}, batch);
  }

  StoreThreads threads(1, StoreThreads::Priority::kLow);
  StoreJobs jobs("bench", options, threads, system_clock());
  const std::uint64_t start_ns = system_clock().boot_ns();
  std::size_t sealed = 0;
  for (const std::vector<std::byte>& batch : encoded) {
    const Status status = store->append(batch);
    const Result<Seq> committed = store->commit();
    jobs.committed();
    if (store->sealed_segments() != std::exchange(sealed, store->sealed_segments())) jobs.post(store);
    if (status.ok() && committed.ok()) continue;
    std::fprintf(stderr, "ingest_append: %s\n", (status.ok() ? committed.error() : status.error()).message().c_str());
    return 1;
  }
  const double seconds = static_cast<double>(system_clock().boot_ns() - start_ns) / 1e9;
  if (store->position().seq + 1 != seq) return 1;
  std::fprintf(stderr, "%llu merges meanwhile\n", static_cast<unsigned long long>(jobs.figures().merges));
  std::printf("%.0f\n", static_cast<double>(batches) * kRecordsPerBatch * kRecordBytes / seconds);
  return 0;
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: ingest_append DIRECTORY MIB\n");
    return 2;
  }
  return understudy::run(argv[1], static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)));
}
