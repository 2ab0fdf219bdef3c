// SPDX-License-Identifier: Apache-2.0
// SHA-256 goes through OpenSSL's plain functions, not EVP: the running state must be copied for every digest(), and the
// static restore tool must not load providers. They pick the CPU's SHA instructions by themselves.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "daemon/base/checksum.h"

#include <openssl/sha.h>
#include <xxhash.h>

#include <cstring>

#ifdef __x86_64__
// xxh3_vector.c
extern "C" {
std::uint64_t understudy_xxh3_64_avx2(const void* data, std::size_t size);
std::uint64_t understudy_xxh3_64_avx512f(const void* data, std::size_t size);
void understudy_xxh3_128_avx2(const void* data, std::size_t size, unsigned char* canonical);
void understudy_xxh3_128_avx512f(const void* data, std::size_t size, unsigned char* canonical);
}
#endif

namespace understudy {
namespace {

struct Xxh3 {
  std::uint64_t (*hash_64)(const void* data, std::size_t size);
  void (*hash_128)(const void* data, std::size_t size, unsigned char* canonical);
};

std::uint64_t plain_64(const void* data, std::size_t size) { return XXH3_64bits(data, size); }

void plain_128(const void* data, std::size_t size, unsigned char* canonical) {
  XXH128_canonical_t result;
  XXH128_canonicalFromHash(&result, XXH3_128bits(data, size));
  std::memcpy(canonical, result.digest, sizeof(result.digest));
}

// The widest vectors that processor and kernel have: the results are the same.
Xxh3 choose_xxh3() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return {understudy_xxh3_64_avx512f, understudy_xxh3_128_avx512f};
  if (__builtin_cpu_supports("avx2")) return {understudy_xxh3_64_avx2, understudy_xxh3_128_avx2};
#endif
  return {plain_64, plain_128};
}

// Not a global object: checksums may be wanted before main().
const Xxh3& xxh3() {
  static const Xxh3 chosen = choose_xxh3();
  return chosen;
}

}  // namespace

std::uint64_t xxh3_64(std::span<const std::byte> data) { return xxh3().hash_64(data.data(), data.size()); }

Xxh128Digest xxh3_128(std::span<const std::byte> data) {
  Xxh128Digest digest;
  xxh3().hash_128(data.data(), data.size(), reinterpret_cast<unsigned char*>(digest.data()));
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
