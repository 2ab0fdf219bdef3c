// SPDX-License-Identifier: Apache-2.0
// Where the kernel keeps memory, so that a BPF program can read the bytes behind a `struct page *`:
//     address = (page - vmemmap_base) / page_struct_bytes * 4096 + direct_map_base
// Both bases are random per boot on most kernels. They are looked for in this order, and each find has to pass the same
// proof before it is used: the program must read, through them, random bytes out of the pages of several reads.
//   symbols      the kernel's own variables (CONFIG_KALLSYMS_ALL)
//   kcore        the program headers of /proc/kcore
//   fixed        the values of kernels that randomise nothing
//   calibration  vmemmap from a page whose frame number /proc/self/pagemap tells; the direct map by trying the few
//                1 GiB steps below a kernel object that lies in it
//
// x86-64 only. Source: Documentation/arch/x86/x86_64/mm.rst, arch/x86/mm/kaslr.c. Thread-safe: no state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct AddressTranslation {
  std::uint64_t vmemmap_base = 0;
  std::uint64_t direct_map_base = 0;
  std::uint32_t page_struct_bytes = 0;
  std::string method;              // "symbols", "kcore", "fixed" or "calibration"
  std::vector<std::string> tried;  // ways that came before and why each failed
};

// Which ways to try; all by default. Tests switch some off.
struct TranslationWays {
  bool symbols = true;
  bool kcore = true;
  bool fixed = true;
  bool calibration = true;
};

// Reads the first block of the disk at `disk_path` a number of times; writes nothing. kUnsupported when no way passed
// the proof: the message says what each one found.
Result<AddressTranslation> find_address_translation(const std::string& disk_path, std::uint32_t device,
                                                    std::uint32_t logical_block_bytes,
                                                    const TranslationWays& ways = {});

// The bases by /proc/kcore's program headers: every pair that is possible by them, best first. `kcore` is the beginning
// of that file. Public for its test.
struct TranslationBases {
  std::uint64_t vmemmap_base = 0;
  std::uint64_t direct_map_base = 0;
  auto operator<=>(const TranslationBases&) const = default;
};
std::vector<TranslationBases> bases_of_kcore(std::string_view kcore);

}  // namespace understudy
