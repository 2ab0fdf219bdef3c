// SPDX-License-Identifier: Apache-2.0
// The commands of understudy-restore. Each prints its result on stdout, progress and notes on stderr, and returns an
// Error for the caller to print.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "daemon/store/store.h"

namespace understudy {

struct RestoreOptions {
  std::string store;
  std::string base_directory;  // empty = as the store says
  std::string point;
  std::optional<std::string> disk;  // slot or name
  std::string to;                   // file or device for one disk
  std::string to_directory;         // or a directory for all of them: <slot>.img
  std::string head;                 // verify: the chain head that is to be found, in hexadecimal; empty = any
  bool overwrite = false;
  bool json = false;
  bool quiet = false;  // no progress
};

Status run_list(const RestoreOptions& options);
Status run_restore(const RestoreOptions& options);
Status run_verify(const RestoreOptions& options);

// Opens the store read-only and reports damage and a torn tail on stderr.
Result<std::unique_ptr<Store>> open_store_to_read(const RestoreOptions& options);

// "12 MiB of 1.0 GiB, 1 %, 300 MiB/s" on stderr: one line rewritten on a terminal, a line every few seconds elsewhere.
class ProgressLine {
 public:
  ProgressLine(std::string what, bool quiet);
  ~ProgressLine();
  void update(std::uint64_t done_bytes, std::uint64_t total_bytes);

 private:
  const std::string what_;
  const bool quiet_;
  const bool terminal_;
  std::uint64_t start_ns_ = 0;
  std::uint64_t shown_ns_ = 0;
  bool shown_ = false;
};

}  // namespace understudy
