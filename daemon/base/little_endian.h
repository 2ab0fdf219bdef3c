// SPDX-License-Identifier: Apache-2.0
// Little-endian integers for everything that is stored or sent. They have alignment 1 and no padding, so a struct
// of them is its own byte layout on every machine; each such struct pins its size with a static_assert.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>

namespace understudy {

template <std::unsigned_integral T>
class LittleEndian {
 public:
  LittleEndian() = default;
  LittleEndian(T value) { *this = value; }  // NOLINT: implicit by design

  LittleEndian& operator=(T value) {
    value = convert(value);
    std::memcpy(bytes_, &value, sizeof(T));
    return *this;
  }
  operator T() const {  // NOLINT: implicit by design
    T value;
    std::memcpy(&value, bytes_, sizeof(T));
    return convert(value);
  }

 private:
  static T convert(T value) {
    if constexpr (std::endian::native == std::endian::little || sizeof(T) == 1) {
      return value;
    } else {
      T swapped = 0;
      for (unsigned i = 0; i < sizeof(T); ++i) swapped = static_cast<T>((swapped << 8) | ((value >> (8 * i)) & 0xff));
      return swapped;
    }
  }
  unsigned char bytes_[sizeof(T)] = {};
};

using le16 = LittleEndian<std::uint16_t>;
using le32 = LittleEndian<std::uint32_t>;
using le64 = LittleEndian<std::uint64_t>;

static_assert(sizeof(le16) == 2 && sizeof(le32) == 4 && sizeof(le64) == 8 && alignof(le64) == 1);

}  // namespace understudy
