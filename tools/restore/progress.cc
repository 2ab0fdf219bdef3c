// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "tools/restore/commands.h"

namespace understudy {
namespace {

constexpr std::uint64_t kTerminalPeriodNs = 200'000'000;
constexpr std::uint64_t kLogPeriodNs = 5'000'000'000;

}  // namespace

ProgressLine::ProgressLine(std::string what, bool quiet)
    : what_(std::move(what)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_ns_(system_clock().boot_ns()),
      shown_ns_(start_ns_) {}

ProgressLine::~ProgressLine() {
  if (shown_ && terminal_) std::fputc('\n', stderr);
}

void ProgressLine::update(std::uint64_t done_bytes, std::uint64_t total_bytes) {
  const std::uint64_t now_ns = system_clock().boot_ns();
  const bool last = done_bytes == total_bytes;
  if (quiet_ || (!last && now_ns - shown_ns_ < (terminal_ ? kTerminalPeriodNs : kLogPeriodNs))) return;
  shown_ns_ = now_ns;
  const double seconds = static_cast<double>(now_ns - start_ns_) / 1e9;
  const double bytes_per_second = seconds > 0.001 ? static_cast<double>(done_bytes) / seconds : 0;
  const std::uint64_t percent = total_bytes == 0 ? 100 : done_bytes * 100 / total_bytes;
  std::fprintf(stderr, "%s%s: %s of %s, %llu %%, %s/s%s", terminal_ ? "\r" : "", what_.c_str(),
               format_bytes(done_bytes).c_str(), format_bytes(total_bytes).c_str(),
               static_cast<unsigned long long>(percent),
               format_bytes(static_cast<std::uint64_t>(bytes_per_second)).c_str(), terminal_ ? "   " : "\n");
  std::fflush(stderr);
  shown_ = true;
}

}  // namespace understudy
