// SPDX-License-Identifier: Apache-2.0
// SHA-256 goes through OpenSSL's plain functions, not EVP: the running state must be copied for every digest(), and the
// static restore tool must not load providers. They pick the CPU's SHA instructions by themselves.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "daemon/base/checksum.h"

#include <openssl/sha.h>
#include <xxhash.h>

#include <cstring>

namespace understudy {

std::uint64_t xxh3_64(std::span<const std::byte> data) { return XXH3_64bits(data.data(), data.size()); }

Xxh128Digest xxh3_128(std::span<const std::byte> data) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(data.data(), data.size()));
  Xxh128Digest digest;
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

struct Sha256::State {
  SHA256_CTX context;
};

Sha256::Sha256() : state_(std::make_unique<State>()) { SHA256_Init(&state_->context); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> data) { SHA256_Update(&state_->context, data.data(), data.size()); }

Sha256Digest Sha256::digest() const {
  SHA256_CTX copy = state_->context;
  Sha256Digest digest;
  SHA256_Final(reinterpret_cast<unsigned char*>(digest.data()), &copy);
  return digest;
}

std::string to_hex(std::span<const std::byte> data) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(data.size() * 2);
  for (std::byte b : data) {
    text.push_back(kDigits[std::to_integer<unsigned>(b) >> 4]);
    text.push_back(kDigits[std::to_integer<unsigned>(b) & 15]);
  }
  return text;
}

}  // namespace understudy
