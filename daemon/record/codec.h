// SPDX-License-Identifier: Apache-2.0
// Compression of one section of a batch: zstd frames and lz4 blocks, each without a size of its own (the batch header
// has both sizes). Sources: https://facebook.github.io/zstd/zstd_manual.html, https://github.com/lz4/lz4 lz4.h.
// Thread-safe: contexts are kept per thread.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/batch.h"

namespace understudy {

// Appends `raw` to `out`, compressed if that makes it smaller by more than 1/16, else as it is. Returns the codec used.
// Sections that look incompressible by a sample are not tried.
Codec append_compressed(std::span<const std::byte> raw, const Compression& compression, std::vector<std::byte>& out);

// Fills `raw` exactly, or says why `stored` is not what was compressed. Not for Codec::kNone.
Status decompress(Codec codec, std::span<const std::byte> stored, std::span<std::byte> raw);

}  // namespace understudy
