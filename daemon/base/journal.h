// SPDX-License-Identifier: Apache-2.0
// journald's native datagram protocol, spoken by ourselves so that the portable agent needs no libsystemd.
// Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

using JournalFields = std::vector<std::pair<std::string_view, std::string_view>>;

// The bytes of one entry: "NAME=value\n", or with a length where the value has line breaks.
std::string encode_journal_entry(const JournalFields& fields);

// One connection to journald. send() may be called from several threads.
class JournalSocket {
 public:
  // kNotFound / kClosed when no journald listens at `path`.
  static Result<JournalSocket> open(const std::string& path = "/run/systemd/journal/socket");

  // Sends one encoded entry; what is too long for a datagram goes as a sealed memory file. Never blocks: a full socket
  // is an error of kind kBusy.
  Status send(std::string_view entry) const;

 private:
  explicit JournalSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// True when file descriptor `fd` is the stream that JOURNAL_STREAM ("device:inode") names.
bool is_journal_stream(int fd, const char* journal_stream);

}  // namespace understudy
