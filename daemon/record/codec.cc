// SPDX-License-Identifier: Apache-2.0
#include "daemon/record/codec.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>

namespace understudy {
namespace {

constexpr std::size_t kTinyBytes = 64;              // compressing less never pays
constexpr std::size_t kSampleFromBytes = 64 << 10;  // below, trying costs less than sampling
constexpr std::size_t kSamplePieceBytes = 1 << 10;
constexpr std::size_t kSamplePieces = 16;

// What compressed data must stay below to be worth decompressing again.
constexpr std::size_t worthwhile_bytes(std::size_t raw_bytes) { return raw_bytes - raw_bytes / 16; }

int char_count(std::size_t bytes) { return static_cast<int>(bytes); }
const char* chars(std::span<const std::byte> data) { return reinterpret_cast<const char*>(data.data()); }

// Takes 16 KiB spread over the section and tries the fast codec on it: encrypted or already compressed data is told
// apart for 1/50 of what a real attempt costs.
bool looks_incompressible(std::span<const std::byte> raw) {
  std::array<std::byte, kSamplePieceBytes * kSamplePieces> sample;
  const std::size_t stride = (raw.size() - kSamplePieceBytes) / (kSamplePieces - 1);
  for (std::size_t i = 0; i < kSamplePieces; ++i)
    std::copy_n(raw.begin() + static_cast<std::ptrdiff_t>(i * stride), kSamplePieceBytes,
                sample.begin() + static_cast<std::ptrdiff_t>(i * kSamplePieceBytes));
  std::array<char, kSamplePieceBytes * kSamplePieces> target;
  const int room = char_count(worthwhile_bytes(sample.size()));
  return LZ4_compress_default(chars(sample), target.data(), char_count(sample.size()), room) == 0;
}

ZSTD_CCtx* compression_context() {
  thread_local std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  CHECK(context != nullptr);
  return context.get();
}

ZSTD_DCtx* decompression_context() {
  thread_local std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), &ZSTD_freeDCtx);
  CHECK(context != nullptr);
  return context.get();
}

// Compressed size, 0 = does not fit into `room` (or failed, which is the same to the caller: store it plain).
std::size_t compress_into(std::span<const std::byte> raw, const Compression& compression, std::span<std::byte> room) {
  if (compression.codec == Codec::kLz4) {
    const int got = LZ4_compress_default(chars(raw), reinterpret_cast<char*>(room.data()), char_count(raw.size()),
                                         char_count(room.size()));
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  const std::size_t got = ZSTD_compressCCtx(compression_context(), room.data(), room.size(), raw.data(), raw.size(),
                                            std::clamp(compression.level, 1, 19));
  return ZSTD_isError(got) ? 0 : got;
}

}  // namespace

std::string_view codec_name(Codec codec) {
  switch (codec) {
    case Codec::kNone: return "none";
    case Codec::kLz4: return "lz4";
    case Codec::kZstd: return "zstd";
  }
  return "unknown";
}

Codec append_compressed(std::span<const std::byte> raw, const Compression& compression, std::vector<std::byte>& out) {
  const bool try_it = compression.codec != Codec::kNone && raw.size() >= kTinyBytes &&
                      (raw.size() < kSampleFromBytes || !looks_incompressible(raw));
  if (try_it) {
    const std::size_t before = out.size();
    out.resize(before + worthwhile_bytes(raw.size()));
    const std::size_t got = compress_into(raw, compression, std::span(out).subspan(before));
    out.resize(before + got);
    if (got > 0) return compression.codec;
  }
  out.insert(out.end(), raw.begin(), raw.end());
  return Codec::kNone;
}

Status decompress(Codec codec, std::span<const std::byte> stored, std::span<std::byte> raw) {
  if (codec == Codec::kLz4) {
    const int got = LZ4_decompress_safe(chars(stored), reinterpret_cast<char*>(raw.data()), char_count(stored.size()),
                                        char_count(raw.size()));
    if (got == char_count(raw.size())) return ok_status();
    return Error(ErrorKind::kCorrupt,
                 "decompress lz4: got " + std::to_string(got) + " bytes, wanted " + std::to_string(raw.size()));
  }
  CHECK(codec == Codec::kZstd);
  const std::size_t got =
      ZSTD_decompressDCtx(decompression_context(), raw.data(), raw.size(), stored.data(), stored.size());
  if (got == raw.size()) return ok_status();
  return Error(ErrorKind::kCorrupt,
               "decompress zstd: " +
                   (ZSTD_isError(got) ? std::string(ZSTD_getErrorName(got))
                                      : "got " + std::to_string(got) + " bytes, wanted " + std::to_string(raw.size())));
}

}  // namespace understudy
