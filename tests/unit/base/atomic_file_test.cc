// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/atomic_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <iterator>

#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

std::size_t entry_count(const std::string& directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

}  // namespace

TEST_CASE("a file is replaced as a whole, with the mode asked for") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("state");
  const mode_t old_mask = ::umask(0077);
  REQUIRE(write_file_atomically(path, std::string_view("first"), 0644).ok());
  REQUIRE(write_file_atomically(path, std::string_view("second, longer"), 0640).ok());
  ::umask(old_mask);
  CHECK(read_file(path, 100).value() == "second, longer");
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0640);
  CHECK(entry_count(directory.path()) == 1);
}

TEST_CASE("a write that fails leaves the old content and no litter") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("occupied");
  // A directory that is not empty cannot be replaced by a file.
  std::filesystem::create_directories(path + "/below");
  const Status status = write_file_atomically(path, std::string_view("x"));
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().message().find("rename") != std::string::npos);
  CHECK(entry_count(directory.path()) == 1);
}

TEST_CASE("a missing directory is an error that names the file") {
  const Status status = write_file_atomically("/nonexistent/state", std::string_view("x"));
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().kind() == ErrorKind::kNotFound);
  CHECK(status.error().message().find("'/nonexistent/state'") != std::string::npos);
}

TEST_CASE("a file longer than the bound is refused") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("long");
  REQUIRE(write_file_atomically(path, std::string(1000, 'x')).ok());
  CHECK(read_file(path, 1000).value().size() == 1000);
  const auto result = read_file(path, 999);
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().kind() == ErrorKind::kInvalidArgument);
}

TEST_CASE("parent directories") {
  CHECK(parent_directory("/a/b") == "/a");
  CHECK(parent_directory("/a") == "/");
  CHECK(parent_directory("a") == ".");
}
