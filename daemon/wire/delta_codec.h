// SPDX-License-Identifier: Apache-2.0
// A batch as what changed against recent block contents, and back. Used on the wire only: what comes out of
// DeltaDecoder is the batch byte for byte as the agent had it before compression, proved by the batch's own checksums
// (header, table, payload section, and every record's checksum made at capture), or an error and nothing.
//
// Encoder and decoder make the same calls to caches of the same size, frame by frame, so the frames must be decoded in
// the order in which they were encoded. After an error the caches differ: the session is over.
// Format: FORMAT.md in this folder, "Deltas".
//
// Threads: one at a time for each object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/wire/delta_cache.h"

namespace understudy {

// What changed, in two streams that compress well each by itself: (skip, literal) lengths as varints, and the literal
// bytes. Skipped bytes are those of the cached blocks.
struct DeltaStreams {
  std::vector<std::byte> operations;
  std::vector<std::byte> literals;
};

class DeltaEncoder {
 public:
  // Forgets everything; the decoder must be resized at the same place in the stream.
  void resize(std::uint64_t bytes) { cache_.resize(bytes); }

  // Compares the batch with the cache, fills `streams` (emptied before) and takes the batch's blocks into the cache.
  // False = the batch neither gains anything nor changes the cache: send it as it is.
  bool encode(const std::vector<Record>& records, DeltaStreams& streams);

  const DeltaCache& cache() const { return cache_; }

 private:
  bool concerns(const std::vector<Record>& records) const;
  DeltaCache cache_;
};

// The streams of a batch of which nothing is to be left out: what it carries, and nothing skipped. For a batch that is
// in the cache of the encoder, and so must get into that of the decoder, but is smaller as a whole.
void whole_streams(const std::vector<Record>& records, DeltaStreams& streams);

// Payload of a DELTA_BATCH frame, appended to `frame`. `plain` begins with the batch encoded without payload
// compression; only its header and table are taken. The receiver will keep the batch with the same codec, at its lowest
// level.
void append_delta_batch(std::span<const std::byte> plain, const BatchInfo& info, const DeltaStreams& streams,
                        const Compression& compression, std::vector<std::byte>& frame);

class DeltaDecoder {
 public:
  void resize(std::uint64_t bytes) { cache_.resize(bytes); }

  // Rebuilds the batch of a DELTA_BATCH payload, proves it, and appends it to `batch` compressed with the codec the
  // sender named. kCorrupt when anything in the payload contradicts anything else or the proof fails; `batch` is
  // untouched then.
  Status decode(std::span<const std::byte> payload, std::vector<std::byte>& batch);

  const DeltaCache& cache() const { return cache_; }

 private:
  DeltaCache cache_;
};

}  // namespace understudy
