// SPDX-License-Identifier: Apache-2.0
#include "daemon/disk_io/read_engine.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/disk_io/read_buffers.h"

namespace understudy {
namespace {

constexpr std::uint32_t kBufferBytes = 64 << 10;

std::byte pattern(std::uint64_t offset) { return static_cast<std::byte>((offset * 2654435761u) >> 13); }

// A file with known bytes; memory-backed.
UniqueFd make_file(std::size_t bytes) {
  UniqueFd fd(::memfd_create("read-engine-test", MFD_CLOEXEC));
  std::vector<std::byte> data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = pattern(i);
  REQUIRE(::pwrite(fd.get(), data.data(), bytes, 0) == static_cast<ssize_t>(bytes));
  return fd;
}

std::unique_ptr<ReadEngine> make(ReadEngineChoice choice, std::uint32_t buffers) {
  auto engine = make_read_engine(choice, buffers, kBufferBytes);
  REQUIRE_MESSAGE(engine.ok(), (engine.ok() ? "" : engine.error().message()));
  return std::move(engine).value();
}

// Restores a sysctl however the test ends.
class SysctlGuard {
 public:
  explicit SysctlGuard(std::string path) : path_(std::move(path)) {
    std::ifstream file(path_);
    std::getline(file, old_);
  }
  ~SysctlGuard() {
    if (!old_.empty()) write(old_);
  }
  bool write(const std::string& value) const {
    std::ofstream file(path_);
    file << value << std::flush;
    return file.good();
  }
  bool exists() const { return !old_.empty(); }

 private:
  std::string path_;
  std::string old_;
};

void check_many_reads(ReadEngineChoice choice) {
  const std::uint64_t file_bytes = 1 << 20;
  const UniqueFd file = make_file(file_bytes);
  auto engine = make(choice, 4);
  std::map<std::uint64_t, std::uint64_t> offset_of_tag;
  std::vector<std::uint32_t> free_buffers = {0, 1, 2, 3};
  std::uint64_t next = 0;
  std::uint64_t seen = 0;
  while (seen < file_bytes) {
    while (!free_buffers.empty() && next < file_bytes) {
      offset_of_tag[next + 7] = next;
      REQUIRE(engine->submit(file.get(), next, kBufferBytes, free_buffers.back(), next + 7).ok());
      free_buffers.pop_back();
      next += kBufferBytes;
    }
    CHECK(engine->in_progress() == 4 - free_buffers.size());
    const auto completion = engine->reap(true);
    REQUIRE(completion.has_value());
    REQUIRE(completion->error_number == 0);
    REQUIRE(completion->bytes_read == kBufferBytes);
    const std::uint64_t offset = offset_of_tag.at(completion->tag);
    const auto data = engine->buffer(completion->buffer);
    for (std::uint32_t i = 0; i < kBufferBytes; ++i) REQUIRE(data[i] == pattern(offset + i));
    free_buffers.push_back(completion->buffer);
    seen += kBufferBytes;
  }
  CHECK(engine->in_progress() == 0);
  CHECK_FALSE(engine->reap(false).has_value());
}

void check_end_of_device(ReadEngineChoice choice) {
  const UniqueFd file = make_file(kBufferBytes + 1536);
  auto engine = make(choice, 2);
  REQUIRE(engine->submit(file.get(), kBufferBytes, kBufferBytes, 0, 1).ok());
  REQUIRE(engine->submit(file.get(), 4 * kBufferBytes, kBufferBytes, 1, 2).ok());
  for (int i = 0; i < 2; ++i) {
    const auto completion = engine->reap(true);
    CHECK(completion->error_number == 0);
    CHECK(completion->bytes_read == (completion->tag == 1 ? 1536 : 0));
    if (completion->tag == 1) CHECK(engine->buffer(0)[1535] == pattern(kBufferBytes + 1535));
  }
}

void check_read_errors(ReadEngineChoice choice) {
  auto engine = make(choice, 1);
  // Process memory that is not mapped reads as EIO, for every kernel and file system alike.
  const UniqueFd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  REQUIRE(memory.valid());
  REQUIRE(engine->submit(memory.get(), 4096, kBufferBytes, 0, 5).ok());
  const auto completion = engine->reap(true);
  CHECK(completion->error_number == EIO);
  CHECK(completion->tag == 5);
  const UniqueFd directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(engine->submit(directory.get(), 0, kBufferBytes, 0, 6).ok());
  CHECK(engine->reap(true)->error_number == EISDIR);
}

void check_event_fd(ReadEngineChoice choice) {
  const UniqueFd file = make_file(kBufferBytes * 2);
  auto engine = make(choice, 2);
  pollfd waiting{.fd = engine->event_fd(), .events = POLLIN, .revents = 0};
  REQUIRE_FALSE(engine->reap(false).has_value());
  CHECK(::poll(&waiting, 1, 0) == 0);
  for (int round = 0; round < 50; ++round) {
    REQUIRE(engine->submit(file.get(), 0, kBufferBytes, 0, 1).ok());
    REQUIRE(engine->submit(file.get(), kBufferBytes, kBufferBytes, 1, 2).ok());
    int seen = 0;
    while (seen < 2) {
      REQUIRE(::poll(&waiting, 1, 10000) == 1);
      while (engine->reap(false)) ++seen;
    }
    CHECK(::poll(&waiting, 1, 0) == 0);
  }
}

}  // namespace

TEST_CASE("io_uring: many reads arrive whole and under their tags") { check_many_reads(ReadEngineChoice::kUring); }
TEST_CASE("threads: many reads arrive whole and under their tags") { check_many_reads(ReadEngineChoice::kThreads); }
TEST_CASE("io_uring: a read over the end of the device is short, behind it empty") {
  check_end_of_device(ReadEngineChoice::kUring);
}
TEST_CASE("threads: a read over the end of the device is short, behind it empty") {
  check_end_of_device(ReadEngineChoice::kThreads);
}
TEST_CASE("io_uring: a failed read carries its errno") { check_read_errors(ReadEngineChoice::kUring); }
TEST_CASE("threads: a failed read carries its errno") { check_read_errors(ReadEngineChoice::kThreads); }
TEST_CASE("io_uring: the event fd follows completions") { check_event_fd(ReadEngineChoice::kUring); }
TEST_CASE("threads: the event fd follows completions") { check_event_fd(ReadEngineChoice::kThreads); }

TEST_CASE("an engine may be destroyed with reads in progress") {
  const UniqueFd file = make_file(kBufferBytes);
  for (const auto choice : {ReadEngineChoice::kUring, ReadEngineChoice::kThreads}) {
    auto engine = make(choice, 8);
    for (std::uint32_t i = 0; i < 8; ++i) REQUIRE(engine->submit(file.get(), 0, kBufferBytes, i, i).ok());
    engine.reset();
  }
}

TEST_CASE("auto takes io_uring where it works and threads where it is switched off") {
  CHECK(make(ReadEngineChoice::kAuto, 2)->name() == "io_uring");

  const SysctlGuard guard("/proc/sys/kernel/io_uring_disabled");
  REQUIRE_MESSAGE(guard.exists(), "this test needs a kernel with the sysctl kernel.io_uring_disabled");
  REQUIRE_MESSAGE(guard.write("2"), "this test needs root");
  CHECK(make(ReadEngineChoice::kAuto, 2)->name() == "threads");
  const auto refused = make_read_engine(ReadEngineChoice::kUring, 2, kBufferBytes);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().kind() == ErrorKind::kUnsupported);
  CHECK(refused.error().message().find("kernel.io_uring_disabled=0") != std::string::npos);
  check_many_reads(ReadEngineChoice::kAuto);
}

TEST_CASE("buffers are page-aligned, and odd sizes are refused with the allowed ones") {
  auto buffers = ReadBuffers::make(3, kBufferBytes);
  REQUIRE(buffers.ok());
  for (std::uint32_t i = 0; i < 3; ++i) {
    CHECK(reinterpret_cast<std::uintptr_t>(buffers->at(i).data()) % 4096 == 0);
    CHECK(buffers->at(i).size() == kBufferBytes);
  }
  CHECK_FALSE(ReadBuffers::make(0, kBufferBytes).ok());
  const auto odd = ReadBuffers::make(1, 1000);
  REQUIRE_FALSE(odd.ok());
  CHECK(odd.error().message().find("multiple of 4096") != std::string::npos);
}

}  // namespace understudy
