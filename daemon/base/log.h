// SPDX-License-Identifier: Apache-2.0
// Logging for daemons and tools. Under systemd (JOURNAL_STREAM set) a message goes to journald with structured fields
// and a message id that the catalog explains; elsewhere it is one plain line on stderr. Library code never logs: it
// returns an Error, and the function that handles the error logs it once.
// Sources: sd_journal_send(3), systemd.journal-fields(7), sd-daemon(3) for the "<N>" prefixes.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

enum class LogLevel : std::uint8_t { kCritical = 2, kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

// A 128-bit message id, 32 lower-case hex digits; all of them stand in message_ids.h and in the journal catalog.
struct MessageId {
  std::string_view hex;
};

struct LogField {
  std::string_view name;  // upper case, e.g. "UNDERSTUDY_DISK"
  std::string value;
};

// Sets the program's name and the lowest level that is written. Called once at start, before threads.
void log_init(std::string_view program, LogLevel level);
void log_set_level(LogLevel level);
LogLevel log_level();

// Thread-safe; one line per call.
void log_message(LogLevel level, MessageId id, std::string_view message, std::initializer_list<LogField> fields = {});
void log_error(MessageId id, const Error& error, std::initializer_list<LogField> fields = {});

}  // namespace understudy
