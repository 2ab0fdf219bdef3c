// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "daemon/base/little_endian.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

// The entry in a sealed memory file, whose descriptor takes the place of the datagram's content.
Result<UniqueFd> make_sealed_file(std::string_view entry) {
  UniqueFd file(::memfd_create("journal-entry", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return Error::from_errno(errno, "create memory file for a journal entry");
  while (!entry.empty()) {
    const ssize_t written = ::write(file.get(), entry.data(), entry.size());
    if (written < 0) return Error::from_errno(errno, "write memory file of a journal entry");
    entry.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return Error::from_errno(errno, "seal memory file of a journal entry");
  }
  return file;
}

Status send_descriptor(int socket, int descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0) return Error::from_errno(errno, "send journal entry as a file");
  return ok_status();
}

}  // namespace

std::string encode_journal_entry(const JournalFields& fields) {
  std::string entry;
  for (const auto& [name, value] : fields) {
    entry += name;
    if (value.find('\n') == std::string_view::npos) {
      entry += '=';
    } else {
      const le64 length = static_cast<std::uint64_t>(value.size());
      entry += '\n';
      entry.append(reinterpret_cast<const char*>(&length), sizeof(length));
    }
    entry += value;
    entry += '\n';
  }
  return entry;
}

Result<JournalSocket> JournalSocket::open(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(ErrorKind::kInvalidArgument, "open journal socket: path '" + path + "' is too long");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error::from_errno(errno, "create journal socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Error::from_errno(errno, "connect to journal socket '" + path + "'");
  }
  return JournalSocket(std::move(fd));
}

Status JournalSocket::send(std::string_view entry) const {
  if (::send(fd_.get(), entry.data(), entry.size(), MSG_NOSIGNAL) >= 0) return ok_status();
  if (errno != EMSGSIZE && errno != ENOBUFS) return Error::from_errno(errno, "send journal entry");
  ASSIGN_OR_RETURN(const UniqueFd file, make_sealed_file(entry));
  return send_descriptor(fd_.get(), file.get());
}

bool is_journal_stream(int fd, const char* journal_stream) {
  if (journal_stream == nullptr) return false;
  const std::string_view text = journal_stream;
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const auto device = parse_unsigned(text.substr(0, colon));
  const auto inode = parse_unsigned(text.substr(colon + 1));
  struct stat status {};
  return device && inode && ::fstat(fd, &status) == 0 && status.st_dev == *device && status.st_ino == *inode;
}

}  // namespace understudy
