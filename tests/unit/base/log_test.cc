// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "daemon/base/atomic_file.h"
#include "daemon/base/limits.h"
#include "daemon/base/unique_fd.h"
#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

constexpr MessageId kTestId{"00000000000000000000000000000001"};

// What `write` puts on stderr; with `as_stream`, stderr is what JOURNAL_STREAM names.
std::string logged(bool as_stream, LogLevel level, const std::function<void()>& write) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("stderr");
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  struct stat status {};
  REQUIRE(::fstat(file.get(), &status) == 0);
  if (as_stream) {
    ::setenv("JOURNAL_STREAM", (std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino)).c_str(), 1);
  } else {
    ::unsetenv("JOURNAL_STREAM");
  }
  const UniqueFd saved(::dup(STDERR_FILENO));
  ::dup2(file.get(), STDERR_FILENO);
  log_init("test", level);
  write();
  ::dup2(saved.get(), STDERR_FILENO);
  ::unsetenv("JOURNAL_STREAM");
  log_init("test", LogLevel::kInfo);
  return read_file(path, 1u << 20).value();
}

// Without the time stamp in front.
std::string after_time(const std::string& line) { return line.substr(line.find(' ') + 1); }

}  // namespace

TEST_CASE("a message is one plain line with time, level and program") {
  const std::string text = logged(false, LogLevel::kInfo, [] {
    log_message(LogLevel::kWarning, kTestId, "connect to 'dr-1': refused, retrying in 5 s",
                {{"UNDERSTUDY_SERVER", "a"}});
  });
  CHECK(text.substr(0, 2) == "20");
  CHECK(text.find("Z WARNING ") == 23);
  CHECK(after_time(text) == "WARNING test: connect to 'dr-1': refused, retrying in 5 s\n");
}

TEST_CASE("messages under the level are not written") {
  CHECK(logged(false, LogLevel::kWarning, [] { log_message(LogLevel::kInfo, kTestId, "hidden"); }).empty());
  const std::string text = logged(false, LogLevel::kWarning, [] {
    log_set_level(LogLevel::kDebug);
    log_message(LogLevel::kDebug, kTestId, "shown");
  });
  CHECK(after_time(text) == "DEBUG test: shown\n");
}

TEST_CASE("each line of a message stands by itself and control characters are shown") {
  const std::string text = logged(true, LogLevel::kInfo, [] {
    log_error(kTestId, Error(ErrorKind::kInvalidConfig, "a.yaml:1:1: x\na.yaml:2:1: \x1b[2Jy"));
  });
  // A journald that does not take fields reads the level from the prefix.
  if (::access("/run/systemd/journal/socket", F_OK) != 0) CHECK(text == "<3>a.yaml:1:1: x\n<3>a.yaml:2:1: \\x1b[2Jy\n");
}

TEST_CASE("a message that is too long is cut and says so") {
  const std::string text = logged(
      false, LogLevel::kInfo, [] { log_message(LogLevel::kInfo, kTestId, std::string(kLogMessageBytesMax + 5, 'x')); });
  CHECK(text.size() < kLogMessageBytesMax + 100);
  CHECK(text.find("x ... (message cut here)\n") != std::string::npos);
}
