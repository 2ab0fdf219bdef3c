// SPDX-License-Identifier: Apache-2.0
// Writes the stored example of the current format version: make_example DIRECTORY. Run once for a version, then its
// output is committed and never changed.
#include <cstdio>

#include "daemon/store/store.h"
#include "tests/format/example_stream.h"

int main(int argc, char** argv) {
  using namespace understudy;
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_example DIRECTORY\n");
    return 2;
  }
  StoreOptions options;
  options.directory = argv[1];
  options.segment_bytes_max = 4096;
  std::unique_ptr<Store> store = Store::create(options, {example_server(), "example-1", 1}).value();
  std::vector<ExampleBatch> stream = example_stream();
  for (const std::vector<std::byte>& batch : encode_example(stream)) {
    const Status status = store->append(batch);
    if (status.ok() && store->commit().ok()) continue;
    std::fprintf(stderr, "make_example: failed\n");
    return 1;
  }
  std::printf("chain head %s\n", to_hex(store->chain_head()).c_str());
  return 0;
}
