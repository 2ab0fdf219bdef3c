// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/kernel_symbols.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <vector>

#include "daemon/base/unique_fd.h"

namespace understudy {

namespace {

constexpr std::size_t kReadBytes = 256u << 10;

// "ffffffff81000000 T name" or, for a module's, "... name\t[module]".
void take_line(std::string_view line, KernelSymbols& symbols) {
  const std::size_t name_at = line.rfind(' ');
  if (name_at == std::string_view::npos || name_at < 2) return;
  const std::string_view name = line.substr(name_at + 1);
  std::uint64_t* place = name == "vmemmap_base"       ? &symbols.vmemmap_base
                         : name == "page_offset_base" ? &symbols.page_offset_base
                         : name == "bio_chain_endio"  ? &symbols.bio_chain_endio
                                                      : nullptr;
  if (place == nullptr) return;
  std::uint64_t address = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), address, 16);
  if (error == std::errc() && *end == ' ') *place = address;
}

bool all_found(const KernelSymbols& symbols) {
  return symbols.vmemmap_base != 0 && symbols.page_offset_base != 0 && symbols.bio_chain_endio != 0;
}

}  // namespace

KernelSymbols read_kernel_symbols(const std::string& path) {
  KernelSymbols symbols;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return symbols;
  std::vector<char> buffer(kReadBytes);
  std::size_t kept = 0;  // the beginning of a line whose end was not read yet
  while (!all_found(symbols)) {
    const ssize_t got = ::read(file.get(), buffer.data() + kept, buffer.size() - kept);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    std::string_view text(buffer.data(), kept + static_cast<std::size_t>(got));
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
      take_line(text.substr(0, end), symbols);
      text.remove_prefix(end + 1);
    }
    kept = text.size() < buffer.size() ? text.size() : 0;  // no symbol fills the buffer
    std::copy(text.end() - static_cast<std::ptrdiff_t>(kept), text.end(), buffer.begin());
  }
  return symbols;
}

const KernelSymbols& kernel_symbols() {
  static const KernelSymbols symbols = read_kernel_symbols("/proc/kallsyms");
  return symbols;
}

}  // namespace understudy
