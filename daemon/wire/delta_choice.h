// SPDX-License-Identifier: Apache-2.0
// Whether a batch is to travel as what changed in it, or whole: what is smaller depends on how well either compresses,
// for a compressor finds by itself much of what is the same within a batch, and changes torn out of their blocks may
// compress worse than whole blocks. Pure: decides from what was measured on batches that were encoded in both ways.
//
// Which batches are these? Those about which a forecast (size before compression, times what the compression of such
// streams came to lately) says nothing clear, and one of kProbeBatches of the others, so that the forecast stays true.
// Where little of a batch is left out, both ways come to about the same; then the last comparison counts.
// Threads: one at a time.
#pragma once

#include <cstdint>

namespace understudy {

class DeltaChoice {
 public:
  static constexpr unsigned kProbeBatches = 16;

  enum class Way : std::uint8_t { kChanges, kWhole, kCompare };
  // `whole_bytes`: the batch's payload; `changed_bytes`: what deltas leave of it, both before compression.
  // `may_compare` = false: there is no time to encode it twice.
  Way decide(std::uint64_t whole_bytes, std::uint64_t changed_bytes, bool may_compare);

  // A batch was encoded in both ways; sizes after compression.
  void compared(std::uint64_t whole_bytes, std::uint64_t changed_bytes, std::uint64_t whole_stored_bytes,
                std::uint64_t changed_stored_bytes);
  // A new session, or another compression.
  void reset() { *this = DeltaChoice(); }

 private:
  // How much is left by compression, as decaying sums.
  struct Share {
    double raw = 0;
    double stored = 0;
    void add(std::uint64_t raw_bytes, std::uint64_t stored_bytes);
    double of(std::uint64_t raw_bytes) const { return static_cast<double>(raw_bytes) * stored / raw; }
  };
  Share whole_;
  Share changed_;
  unsigned since_probe_ = 0;
  bool compared_ = false;
  bool changes_won_ = true;
};

}  // namespace understudy
