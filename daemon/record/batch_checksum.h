// SPDX-License-Identifier: Apache-2.0
// The bound section checksum shared by writer and reader (FORMAT.md, "Checksums"). Internal to record/.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "daemon/base/checksum.h"
#include "daemon/record/batch_format.h"

namespace understudy {

inline std::uint64_t bound_checksum(std::span<const std::byte> stored, const BatchHeader& header,
                                    std::uint64_t section) {
  BatchBinding binding;
  binding.content_checksum = xxh3_64(stored);
  std::memcpy(binding.server, header.server, sizeof(binding.server));
  binding.first_seq = header.first_seq;
  binding.section = section;
  return xxh3_64(std::as_bytes(std::span(&binding, 1)));
}

inline std::uint64_t batch_header_checksum(const BatchHeader& header) {
  return xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(BatchHeader, header_checksum)));
}

}  // namespace understudy
