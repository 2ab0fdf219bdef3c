// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/uuid.h"

#include <sys/random.h>

#include <cerrno>
#include <span>

#include "daemon/base/check.h"
#include "daemon/base/checksum.h"

namespace understudy {
namespace {

constexpr std::size_t kTextLength = 36;

constexpr bool is_dash_position(std::size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string Uuid::to_string() const {
  std::string text = to_hex(bytes);
  for (std::size_t at : {8u, 13u, 18u, 23u}) text.insert(at, 1, '-');
  return text;
}

Uuid Uuid::random() {
  Uuid uuid;
  ssize_t got;
  // 16 bytes are never cut short once the kernel's pool is ready; before that the call waits.
  do got = ::getrandom(uuid.bytes.data(), uuid.bytes.size(), 0);
  while (got < 0 && errno == EINTR);
  CHECK_EQ(got, static_cast<ssize_t>(uuid.bytes.size()));
  uuid.bytes[6] = (uuid.bytes[6] & std::byte{0x0f}) | std::byte{0x40};
  uuid.bytes[8] = (uuid.bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  return uuid;
}

Result<Uuid> Uuid::parse(std::string_view text) {
  const auto refuse = [&] {
    return Error(ErrorKind::kInvalidArgument,
                 "'" + std::string(text.substr(0, 64)) + "' is not a UUID: wanted 32 hex digits as 8-4-4-4-12");
  };
  if (text.size() != kTextLength) return refuse();
  Uuid uuid;
  std::size_t digits = 0;
  for (std::size_t i = 0; i < kTextLength; ++i) {
    if (is_dash_position(i)) {
      if (text[i] != '-') return refuse();
      continue;
    }
    const int value = hex_value(text[i]);
    if (value < 0) return refuse();
    std::byte& target = uuid.bytes[digits / 2];
    target = (target << 4) | static_cast<std::byte>(value);
    ++digits;
  }
  return uuid;
}

}  // namespace understudy
