// SPDX-License-Identifier: Apache-2.0
// The bytes of the agent's file of digest proofs, as FORMAT.md in this folder describes them.
#pragma once

#include <cstdint>

#include "daemon/base/little_endian.h"

namespace understudy {

inline constexpr std::uint32_t kProofsMagic = 0x70645355;  // "USdp" read as little-endian
inline constexpr std::uint32_t kProofsVersion = 1;

struct ProofsHeader {
  le32 magic;
  le32 version;
  std::uint8_t capture_id[16];
  le32 disk_count;
  le32 left_out_known;  // 0 or 1
};
static_assert(sizeof(ProofsHeader) == 32 && alignof(ProofsHeader) == 1);

// Behind it: region_count times le32, run_count le64, run_count times ProofsRun.
struct ProofsDisk {
  std::uint8_t id[16];
  le64 size_bytes;
  le64 region_count;
};
static_assert(sizeof(ProofsDisk) == 32 && alignof(ProofsDisk) == 1);

// Leaves that are left out.
struct ProofsRun {
  le64 first;
  le64 count;
};
static_assert(sizeof(ProofsRun) == 16 && alignof(ProofsRun) == 1);

}  // namespace understudy
