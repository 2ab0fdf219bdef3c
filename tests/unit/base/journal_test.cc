// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/journal.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

// A journald: receives datagrams, or the content of the memory file that came instead.
class Journald {
 public:
  explicit Journald(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  }
  std::string take(bool* by_file) {
    char buffer[4096];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec part{buffer, sizeof(buffer)};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t size = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
    if (size < 0) return "(nothing)";
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    *by_file = header != nullptr;
    if (header == nullptr) return std::string(buffer, static_cast<std::size_t>(size));
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
    const UniqueFd file(descriptor);
    CHECK(::fcntl(file.get(), F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
    struct stat status {};
    REQUIRE(::fstat(file.get(), &status) == 0);
    std::string content(static_cast<std::size_t>(status.st_size), '\0');
    REQUIRE(::pread(file.get(), content.data(), content.size(), 0) == status.st_size);
    return content;
  }

 private:
  UniqueFd fd_;
};

}  // namespace

TEST_CASE("values with line breaks are sent with their length") {
  CHECK(encode_journal_entry({{"MESSAGE", "one line"}, {"PRIORITY", "6"}}) == "MESSAGE=one line\nPRIORITY=6\n");
  CHECK(encode_journal_entry({{"MESSAGE", "a\nb"}}) == std::string("MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n", 20));
}

TEST_CASE("a short entry is one datagram, a very long one comes as a sealed file") {
  const TemporaryDirectory directory;
  Journald journald(directory.file("socket"));
  const auto socket = JournalSocket::open(directory.file("socket"));
  REQUIRE(socket.ok());
  bool by_file = true;
  REQUIRE(socket->send("MESSAGE=short\n").ok());
  CHECK(journald.take(&by_file) == "MESSAGE=short\n");
  CHECK_FALSE(by_file);

  const std::string entry = "MESSAGE=" + std::string(8u << 20, 'x') + "\n";
  REQUIRE(socket->send(entry).ok());
  CHECK(journald.take(&by_file) == entry);
  CHECK(by_file);
}

TEST_CASE("no journald is an error") {
  const auto socket = JournalSocket::open("/nonexistent/socket");
  REQUIRE_FALSE(socket.ok());
  CHECK(socket.error().kind() == ErrorKind::kNotFound);
}

TEST_CASE("a journal stream is recognised by device and inode") {
  struct stat status {};
  REQUIRE(::fstat(STDERR_FILENO, &status) == 0);
  const std::string same = std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
  CHECK(is_journal_stream(STDERR_FILENO, same.c_str()));
  CHECK_FALSE(is_journal_stream(STDERR_FILENO, (same + "1").c_str()));
  CHECK_FALSE(is_journal_stream(STDERR_FILENO, "nonsense"));
  CHECK_FALSE(is_journal_stream(STDERR_FILENO, nullptr));
}
