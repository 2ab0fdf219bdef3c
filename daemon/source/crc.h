// SPDX-License-Identifier: Apache-2.0
// The checksums that file systems keep of their metadata. Pure.
// Sources: crc32c: RFC 3720 B.4 (reflected polynomial 0x82f63b78); crc16: reflected polynomial 0xa001, as ext4 uses it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace understudy {

// Without inversion at either end: ext4 keeps it like this, XFS inverts the result.
std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> data);
std::uint16_t crc16(std::uint16_t seed, std::span<const std::byte> data);

}  // namespace understudy
