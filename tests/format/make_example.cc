// SPDX-License-Identifier: Apache-2.0
// Writes the stored example of the current format version: make_example DIRECTORY [runs]. Run once for a version, then
// its output is committed and never changed. With "runs" all sealed segments but the last are merged, twice.
#include <cstdio>
#include <memory>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/run_merge.h"
#include "daemon/store/store.h"
#include "tests/format/example_stream.h"

namespace understudy {
namespace {

Status merge(Store& store, const std::string& directory, std::size_t count) {
  RunMergeOptions options;
  options.block_bytes = 2048;
  ASSIGN_OR_RETURN(std::unique_ptr<RunMerge> job,
                   RunMerge::begin(posix_file_system(), directory, store.snapshot(), 0, count, options));
  while (true) {
    ASSIGN_OR_RETURN(const bool done, job->step());
    if (done) break;
  }
  const MergedRun run = job->run();
  job.reset();  // and its snapshot
  RETURN_IF_ERROR(store.adopt_run(run));
  const Result<std::size_t> kept = store.remove_superseded();
  return kept.ok() ? ok_status() : Status(kept.error());
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  using namespace understudy;
  const bool runs = argc == 3 && std::string(argv[2]) == "runs";
  if (argc != 2 && !runs) {
    std::fprintf(stderr, "usage: make_example DIRECTORY [runs]\n");
    return 2;
  }
  StoreOptions options;
  options.directory = argv[1];
  options.segment_bytes_max = runs ? 1024 : 4096;
  std::unique_ptr<Store> store = Store::create(options, {example_server(), "example-1", 1}).value();
  std::vector<ExampleBatch> stream = example_stream();
  for (const std::vector<std::byte>& batch : encode_example(stream)) {
    const Status status = store->append(batch);
    if (status.ok() && store->commit().ok()) continue;
    std::fprintf(stderr, "make_example: failed\n");
    return 1;
  }
  if (runs)
    for (const std::size_t count : {std::size_t{2}, store->snapshot()->segments().size() - 3})
      if (const Status status = merge(*store, argv[1], count); !status.ok()) {
        std::fprintf(stderr, "make_example: %s\n", status.error().message().c_str());
        return 1;
      }
  std::printf("chain head %s\n", to_hex(store->chain_head()).c_str());
  return 0;
}
