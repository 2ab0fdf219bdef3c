// SPDX-License-Identifier: Apache-2.0
// Stands in for libFuzzer where it is not built: runs the target on every file of the given directories, and on simple
// mutations of each (cut, and one byte changed at many places), so that the corpus is a regression test.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::vector<std::uint8_t>& input) { LLVMFuzzerTestOneInput(input.data(), input.size()); }

std::size_t run_with_mutations(std::vector<std::uint8_t> input) {
  run(input);
  std::size_t runs = 1;
  const std::size_t step = 1 + input.size() / 400;
  for (std::size_t at = 0; at < input.size(); at += step, runs += 3) {
    run({input.begin(), input.begin() + static_cast<std::ptrdiff_t>(at)});
    const std::uint8_t kept = input[at];
    for (const int value : {0xff, kept ^ 1}) {
      input[at] = static_cast<std::uint8_t>(value);
      run(input);
    }
    input[at] = kept;
  }
  return runs;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t files = 0;
  std::size_t runs = 0;
  for (int i = 1; i < argc; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream stream(entry.path(), std::ios::binary);
      std::vector<std::uint8_t> input{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
      runs += run_with_mutations(std::move(input));
      ++files;
    }
  std::printf("%zu inputs, %zu runs\n", files, runs);
  return files == 0 ? 1 : 0;
}
