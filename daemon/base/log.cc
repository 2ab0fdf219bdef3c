// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <span>

#include "daemon/base/clock.h"
#include "daemon/base/journal.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

// Where messages go, decided once by log_init().
struct Sink {
  std::string program = "understudy";
  bool journal_stream = false;           // stderr is read by journald: "<N>" says the level
  bool terminal = false;                 // a person reads stderr: no time stamps
  std::optional<JournalSocket> journal;  // fields and message ids go through here
};

Sink& sink() {
  static Sink instance;
  return instance;
}

std::atomic<LogLevel> g_level{LogLevel::kInfo};

std::string_view level_word(LogLevel level) {
  switch (level) {
    case LogLevel::kCritical: return "CRITICAL";
    case LogLevel::kError: return "ERROR";
    case LogLevel::kWarning: return "WARNING";
    case LogLevel::kNotice: return "NOTICE";
    case LogLevel::kInfo: return "INFO";
    case LogLevel::kDebug: return "DEBUG";
  }
  return "ERROR";
}

char level_digit(LogLevel level) { return static_cast<char>('0' + static_cast<int>(level)); }

// Each line of a message stands by itself: a configuration error has one line per mistake.
std::string plain_lines(LogLevel level, std::string_view message) {
  std::string prefix;
  if (sink().journal_stream) {
    prefix = {'<', level_digit(level), '>'};
  } else {
    if (!sink().terminal) prefix = format_time_utc(system_clock().wall_ns()) + " ";
    prefix += std::string(level_word(level)) + " " + sink().program + ": ";
  }
  std::string out;
  while (true) {
    const auto end = message.find('\n');
    out += prefix + printable(message.substr(0, end)) + "\n";
    if (end == std::string_view::npos) return out;
    message.remove_prefix(end + 1);
  }
}

void write_stderr(std::string_view text) {
  // One write(2) a message keeps lines of several threads apart. What stderr does not take has nowhere else to go.
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

bool send_to_journal(LogLevel level, MessageId id, std::string_view message, std::span<const LogField> fields,
                     std::string_view error_number) {
  if (!sink().journal) return false;
  const char priority = level_digit(level);
  JournalFields entry;
  entry.emplace_back("MESSAGE", message);
  entry.emplace_back("PRIORITY", std::string_view(&priority, 1));
  entry.emplace_back("SYSLOG_IDENTIFIER", sink().program);
  if (!id.hex.empty()) entry.emplace_back("MESSAGE_ID", id.hex);
  if (!error_number.empty()) entry.emplace_back("ERRNO", error_number);
  for (const LogField& field : fields) entry.emplace_back(field.name, field.value);
  return sink().journal->send(encode_journal_entry(entry)).ok();
}

void write_message(LogLevel level, MessageId id, std::string_view message, std::span<const LogField> fields,
                   std::string_view error_number) {
  if (level > g_level.load(std::memory_order_relaxed)) return;
  std::string cut;
  if (message.size() > kLogMessageBytesMax) {
    cut = std::string(message.substr(0, kLogMessageBytesMax)) + " ... (message cut here)";
    message = cut;
  }
  if (!send_to_journal(level, id, message, fields, error_number)) write_stderr(plain_lines(level, message));
}

}  // namespace

void log_init(std::string_view program, LogLevel level) {
  g_level.store(level, std::memory_order_relaxed);
  Sink& target = sink();
  target.program = std::string(program);
  target.terminal = ::isatty(STDERR_FILENO) == 1;
  target.journal_stream = is_journal_stream(STDERR_FILENO, std::getenv("JOURNAL_STREAM"));
  target.journal.reset();
  if (!target.journal_stream) return;
  if (auto socket = JournalSocket::open(); socket.ok()) target.journal.emplace(std::move(socket).value());
}

void log_set_level(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }

LogLevel log_level() { return g_level.load(std::memory_order_relaxed); }

void log_message(LogLevel level, MessageId id, std::string_view message, std::initializer_list<LogField> fields) {
  write_message(level, id, message, {fields.begin(), fields.size()}, {});
}

void log_error(MessageId id, const Error& error, std::initializer_list<LogField> fields) {
  const std::string number = error.error_number() == 0 ? "" : std::to_string(error.error_number());
  write_message(LogLevel::kError, id, error.message(), {fields.begin(), fields.size()}, number);
}

}  // namespace understudy
