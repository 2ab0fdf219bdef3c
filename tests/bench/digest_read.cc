// SPDX-License-Identifier: Apache-2.0
// The yardstick of the digest benchmark: reads a whole disk in order, past the page cache, with the engine, buffers and
// depth that a digest scan has, and does nothing with the bytes. Prints "seconds S".
//
//     digest_read DISK auto|io_uring|threads
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "daemon/disk_io/read_engine.h"

int main(int argc, char** argv) {
  using namespace understudy;
  constexpr std::uint32_t kBuffers = 8;
  constexpr std::uint32_t kBytes = 1u << 20;
  if (argc != 3) {
    std::fprintf(stderr, "usage: digest_read DISK auto|io_uring|threads\n");
    return 2;
  }
  const std::string_view wanted = argv[2];
  auto engine = make_read_engine(wanted == "io_uring"  ? ReadEngineChoice::kUring
                                 : wanted == "threads" ? ReadEngineChoice::kThreads
                                                       : ReadEngineChoice::kAuto,
                                 kBuffers, kBytes);
  const int fd = ::open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (!engine.ok() || fd < 0) {
    std::fprintf(stderr, "digest_read: cannot read '%s'\n", argv[1]);
    return 1;
  }
  const auto size = static_cast<std::uint64_t>(::lseek(fd, 0, SEEK_END));
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t at = 0;
  std::uint64_t done = 0;
  const auto submit = [&](std::uint32_t buffer) {
    if (at >= size) return;
    const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(kBytes, size - at));
    if (!(*engine)->submit(fd, at, bytes, buffer, buffer).ok()) std::exit(1);
    at += bytes;
  };
  for (std::uint32_t i = 0; i < kBuffers; ++i) submit(i);
  while (done < size) {
    const auto read = (*engine)->reap(true);
    if (!read || read->error_number != 0 || read->bytes_read == 0) return 1;
    done += read->bytes_read;
    submit(read->buffer);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("seconds %.6f\n", seconds.count());
  return 0;
}
