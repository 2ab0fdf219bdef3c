// SPDX-License-Identifier: Apache-2.0
// When each chunk of the disks was last proved equal to the replica: what the scrub reports, and what stays known when
// the agent is started again. Pure. Threads: one.
//
// Beside it, which leaves are left out: free space that a full copy did not send, so that they may differ. A leaf is
// left out until it is proved equal, or everything is to be copied again. It is known from the beginning of a full copy
// on; a file that belongs to the capture makes it known, too.
//
// 4 bytes a chunk in memory (4 MiB a TiB). Kept on disk per region, the oldest time of its chunks (64 KiB a TiB). A
// proof belongs to a capture: under another one nothing is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"
#include "daemon/digest/digest_tree.h"
#include "daemon/record/record.h"

namespace understudy {

class DigestProofs {
 public:
  explicit DigestProofs(std::span<const DiskGeometry> disks);

  // Wall clock, nanoseconds since 1970. The extent begins with a chunk.
  void note_equal(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, std::uint64_t wall_ns);
  // The same of a chunk, of which only leaves differ that are left out.
  void note_rest_equal(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t wall_ns);
  void forget(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes);
  void forget_all();

  // Everything is copied again: nothing is left out, until note_left_out() says it.
  void begin_full_copy();
  void note_left_out(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes);
  // A leaf of a chunk that is not equal as a whole. It is not left out any more.
  void note_leaf_equal(std::uint16_t disk, std::uint64_t offset_bytes);
  bool is_left_out(std::uint16_t disk, std::uint64_t offset_bytes) const;
  // False = a full copy of an earlier agent may have left out what is not noted here.
  bool left_out_known() const { return left_out_known_; }

  // Bytes that were proved at or after `since_wall_ns`, without what is left out; goes over everything.
  std::uint64_t proved_bytes(std::uint64_t since_wall_ns) const;
  // All there are, without what is left out.
  std::uint64_t provable_bytes() const;
  // When this chunk was last proved, nanoseconds since 1970; 0 = never.
  std::uint64_t proved_at(std::uint16_t disk, std::uint64_t offset_bytes) const;
  // Moves whenever something did; for telling whether to write again.
  std::uint64_t version() const { return version_; }

  std::vector<std::byte> encode(const Uuid& capture_id) const;
  // Takes over what belongs to these disks and this capture. kCorrupt when these are no such bytes.
  Status restore(std::span<const std::byte> bytes, const Uuid& capture_id);

 private:
  struct Disk {
    Uuid id;
    std::uint64_t size_bytes = 0;
    std::vector<std::uint32_t> chunks;  // seconds since 1970; 0 = never
    std::vector<std::uint16_t> left_out;  // of each chunk, a bit for each leaf; empty = none is
  };
  static std::uint64_t left_out_bytes(const Disk& disk, std::uint64_t chunk);
  void set(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, std::uint32_t seconds);

  std::map<std::uint16_t, Disk> disks_;
  bool left_out_known_ = false;
  std::uint64_t version_ = 0;
};

}  // namespace understudy
