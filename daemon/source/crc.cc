// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/crc.h"

#include <array>
#include <cstring>

namespace understudy {
namespace {

constexpr std::array<std::array<std::uint32_t, 256>, 8> make_table32() {
  std::array<std::array<std::uint32_t, 256>, 8> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0u);
    table[0][i] = value;
  }
  for (std::size_t slice = 1; slice < 8; ++slice) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = table[slice - 1][i];
      table[slice][i] = (before >> 8) ^ table[0][before & 0xff];
    }
  }
  return table;
}
constexpr auto kTable32 = make_table32();

}  // namespace

std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> data) {
  std::uint32_t crc = seed;
  const auto* at = reinterpret_cast<const unsigned char*>(data.data());
  std::size_t left = data.size();
  for (; left >= 8; left -= 8, at += 8) {
    const std::uint32_t low = crc ^ (at[0] | at[1] << 8 | at[2] << 16 | static_cast<std::uint32_t>(at[3]) << 24);
    crc = kTable32[7][low & 0xff] ^ kTable32[6][low >> 8 & 0xff] ^ kTable32[5][low >> 16 & 0xff] ^
          kTable32[4][low >> 24] ^ kTable32[3][at[4]] ^ kTable32[2][at[5]] ^ kTable32[1][at[6]] ^ kTable32[0][at[7]];
  }
  for (; left > 0; --left, ++at) crc = (crc >> 8) ^ kTable32[0][(crc ^ *at) & 0xff];
  return crc;
}

std::uint16_t crc16(std::uint16_t seed, std::span<const std::byte> data) {
  std::uint16_t crc = seed;
  for (const std::byte byte : data) {
    crc = static_cast<std::uint16_t>(crc ^ static_cast<std::uint16_t>(byte));
    for (int bit = 0; bit < 8; ++bit) crc = static_cast<std::uint16_t>((crc >> 1) ^ ((crc & 1) != 0 ? 0xa001 : 0));
  }
  return crc;
}

}  // namespace understudy
