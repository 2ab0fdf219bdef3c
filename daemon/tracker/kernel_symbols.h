// SPDX-License-Identifier: Apache-2.0
// The few addresses of the kernel that capture asks /proc/kallsyms for.
//
// libbpf can look them up itself (extern ... __ksym), but then reads and scans the whole file, a quarter million lines,
// once per loaded object: half of the time an agent needed to start. Here it is read once, up to the last name wanted.
#pragma once

#include <cstdint>
#include <string>

namespace understudy {

// Addresses; 0 = not among the symbols, or hidden (kernel.kptr_restrict).
struct KernelSymbols {
  std::uint64_t vmemmap_base = 0;      // variables: known with CONFIG_KALLSYMS_ALL only
  std::uint64_t page_offset_base = 0;
  std::uint64_t bio_chain_endio = 0;   // function
};

// Of a file in the format of /proc/kallsyms (proc(5)): all 0 if it cannot be read. Lines of modules do not count.
KernelSymbols read_kernel_symbols(const std::string& path);

// Of the running kernel; read at the first call. Any thread.
const KernelSymbols& kernel_symbols();

}  // namespace understudy
