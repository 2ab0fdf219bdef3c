// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/kernel_symbols.h"

#include <fstream>
#include <string>

#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>

namespace understudy {
namespace {

std::string written(const TemporaryDirectory& directory, const std::string& text) {
  const std::string path = directory.file("kallsyms");
  std::ofstream(path) << text;
  return path;
}

TEST_CASE("names are found wherever they stand, and only whole names") {
  const TemporaryDirectory directory;
  std::string text = "ffffffff81000000 T _text\nffffffff81400010 t bio_chain_endio.cold\n";
  // So long that lines lie across the reads.
  for (int i = 0; i < 40'000; ++i)
    text += "ffffffff8100" + std::to_string(1000 + i % 9000) + " t name_" + std::to_string(i) + "\n";
  text += "ffffffff81400020 t bio_chain_endio\n";
  for (int i = 0; i < 40'000; ++i) text += "ffffffff82000000 t other_" + std::to_string(i) + "\n";
  text += "ffffffff82a00000 D vmemmap_base\nffffffff82a00008 D page_offset_base";  // a last line without an end
  const KernelSymbols symbols = read_kernel_symbols(written(directory, text + "\n"));
  CHECK(symbols.bio_chain_endio == 0xffffffff81400020);
  CHECK(symbols.vmemmap_base == 0xffffffff82a00000);
  CHECK(symbols.page_offset_base == 0xffffffff82a00008);
}

TEST_CASE("what is hidden, missing, a module's or no symbol file at all is 0") {
  const TemporaryDirectory directory;
  const KernelSymbols symbols = read_kernel_symbols(written(
      directory,
      "0000000000000000 T bio_chain_endio\nffffffffc0000000 d vmemmap_base\t[other]\n \n\nx y\nzz page_offset_base\n"));
  CHECK(symbols.bio_chain_endio == 0);
  CHECK(symbols.vmemmap_base == 0);
  CHECK(symbols.page_offset_base == 0);
  CHECK(read_kernel_symbols(directory.file("missing")).bio_chain_endio == 0);
  CHECK(read_kernel_symbols(written(directory, std::string(1 << 20, 'f'))).vmemmap_base == 0);
}

}  // namespace
}  // namespace understudy
