// SPDX-License-Identifier: Apache-2.0
// XXH3 of the installed xxHash, compiled once for each kind of vectors that this processor family may have; checksum.cc
// chooses at run time. C, not C++: an inline function of a C++ header, compiled here for AVX-512, might be the one that
// the linker keeps for everybody.
// Source: https://github.com/Cyan4973/xxHash (xxhash.h, XXH_INLINE_ALL; XXH_VECTOR follows the compiler's target).
#define XXH_INLINE_ALL
#include <xxhash.h>

#define JOIN_(name, vectors) name##_##vectors
#define JOIN(name, vectors) JOIN_(name, vectors)

XXH64_hash_t JOIN(understudy_xxh3_64, UNDERSTUDY_VECTORS)(const void* data, size_t size);
XXH64_hash_t JOIN(understudy_xxh3_64, UNDERSTUDY_VECTORS)(const void* data, size_t size) {
  return XXH3_64bits(data, size);
}

void JOIN(understudy_xxh3_128, UNDERSTUDY_VECTORS)(const void* data, size_t size, unsigned char* canonical);
void JOIN(understudy_xxh3_128, UNDERSTUDY_VECTORS)(const void* data, size_t size, unsigned char* canonical) {
  XXH128_canonicalFromHash((XXH128_canonical_t*)canonical, XXH3_128bits(data, size));
}
