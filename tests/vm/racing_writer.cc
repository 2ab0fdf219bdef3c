// SPDX-License-Identifier: Apache-2.0
// racing-writer: writes a file with O_DIRECT out of a buffer that is changed at the same time.
//
//   racing-writer FILE WRITES
//
// What the file holds afterwards is anybody's guess; a replica made of captured writes must hold the same. Exit status:
// 0 written, 1 an error, 2 bad arguments.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

int main(int argc, char** argv) {
  constexpr std::size_t kBufferBytes = 64 * 1024;
  constexpr off_t kFileBytes = 8 * 1024 * 1024;
  if (argc != 3) {
    std::fprintf(stderr, "usage: racing-writer FILE WRITES\n");
    return 2;
  }
  const int file = ::open(argv[1], O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
  auto* const buffer = static_cast<char*>(std::aligned_alloc(4096, kBufferBytes));
  if (file < 0 || buffer == nullptr) {
    std::fprintf(stderr, "racing-writer: open '%s': %s\n", argv[1], std::strerror(errno));
    return 1;
  }
  std::atomic<bool> done = false;
  std::thread scribbler([&] {
    for (std::uint64_t turn = 0; !done.load(); ++turn) {
      volatile char* const bytes = buffer;
      for (std::size_t i = turn % 64; i < kBufferBytes; i += 64) bytes[i] = static_cast<char>(turn + i);
    }
  });
  int status = 0;
  const long writes = std::strtol(argv[2], nullptr, 10);
  for (long i = 0; i < writes && status == 0; ++i) {
    const off_t offset = i * static_cast<off_t>(kBufferBytes) % kFileBytes;
    if (::pwrite(file, buffer, kBufferBytes, offset) != static_cast<ssize_t>(kBufferBytes)) {
      std::fprintf(stderr, "racing-writer: write '%s': %s\n", argv[1], std::strerror(errno));
      status = 1;
    }
  }
  done.store(true);
  scribbler.join();
  ::close(file);
  std::free(buffer);
  return status;
}
