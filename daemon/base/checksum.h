// SPDX-License-Identifier: Apache-2.0
// The checksums of the product. xxh3-64 proves that bytes are what was captured (I7): fast enough to run on every
// byte several times. xxh3-128 stands for bytes that the two ends compare without sending them. SHA-256 chains segments
// so that a store can be proved unaltered offline. Sources: https://github.com/Cyan4973/xxHash (XXH3_64bits,
// XXH3_128bits, seed 0), FIPS 180-4.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace understudy {

std::uint64_t xxh3_64(std::span<const std::byte> data);

// In xxHash's canonical order (most significant byte first).
using Xxh128Digest = std::array<std::byte, 16>;
Xxh128Digest xxh3_128(std::span<const std::byte> data);

using Sha256Digest = std::array<std::byte, 32>;

// Incremental SHA-256. Not thread-safe; movable.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> data);
  // The digest of everything so far; the object can be updated further.
  Sha256Digest digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string to_hex(std::span<const std::byte> data);

}  // namespace understudy
