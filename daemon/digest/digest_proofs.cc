// SPDX-License-Identifier: Apache-2.0
// The bytes (FORMAT.md in this folder): a header, then for each disk its id, its size and a time for each region.
#include "daemon/digest/digest_proofs.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "daemon/base/limits.h"
#include "daemon/digest/proofs_format.h"

namespace understudy {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

template <typename T>
void append_struct(const T& value, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <typename T>
bool take(std::span<const std::byte>& rest, T& value) {
  if (rest.size() < sizeof(T)) return false;
  std::memcpy(&value, rest.data(), sizeof(T));
  rest = rest.subspan(sizeof(T));
  return true;
}

bool leaf_bit(const std::vector<std::uint16_t>& masks, std::uint64_t leaf) {
  const std::uint64_t chunk = leaf / kDigestLeavesPerChunk;
  return chunk < masks.size() && (masks[chunk] >> (leaf % kDigestLeavesPerChunk) & 1) != 0;
}

// Runs of leaves that are left out.
void append_left_out(const std::vector<std::uint16_t>& left_out, std::vector<std::byte>& out) {
  const std::size_t count_at = out.size();
  le64 run_count;
  run_count = 0;
  append_struct(run_count, out);
  std::uint64_t runs = 0;
  const std::uint64_t leaves = left_out.size() * kDigestLeavesPerChunk;
  for (std::uint64_t i = 0; i < leaves; ++runs) {
    while (i < leaves && !leaf_bit(left_out, i)) ++i;
    const std::uint64_t first = i;
    while (i < leaves && leaf_bit(left_out, i)) ++i;
    if (first == i) break;
    ProofsRun run;
    run.first = first;
    run.count = i - first;
    append_struct(run, out);
  }
  run_count = runs;
  std::memcpy(out.data() + count_at, &run_count, sizeof(run_count));
}

Error corrupt(const char* what) { return Error(ErrorKind::kCorrupt, std::string("digest proofs: ") + what); }

}  // namespace

DigestProofs::DigestProofs(std::span<const DiskGeometry> disks) {
  for (const DiskGeometry& disk : disks) {
    const std::uint64_t chunks = (disk.size_bytes + kDigestChunkBytes - 1) / kDigestChunkBytes;
    disks_[disk.disk] = Disk{disk.id, disk.size_bytes, std::vector<std::uint32_t>(chunks), {}};
  }
}

void DigestProofs::set(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                       std::uint32_t seconds) {
  const auto found = disks_.find(disk);
  if (found == disks_.end() || length_bytes == 0) return;
  std::vector<std::uint32_t>& chunks = found->second.chunks;
  const std::uint64_t last = (offset_bytes + length_bytes - 1) / kDigestChunkBytes;
  for (std::uint64_t i = offset_bytes / kDigestChunkBytes; i <= last && i < chunks.size(); ++i) chunks[i] = seconds;
  ++version_;
}

void DigestProofs::note_equal(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                              std::uint64_t wall_ns) {
  set(disk, offset_bytes, length_bytes, static_cast<std::uint32_t>(wall_ns / kNsPerSecond));
  for (std::uint64_t at = 0; at < length_bytes; at += kDigestLeafBytes) note_leaf_equal(disk, offset_bytes + at);
}

void DigestProofs::note_rest_equal(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t wall_ns) {
  set(disk, offset_bytes, 1, static_cast<std::uint32_t>(wall_ns / kNsPerSecond));
}

void DigestProofs::forget(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  set(disk, offset_bytes, length_bytes, 0);
}

void DigestProofs::forget_all() {
  for (auto& [slot, disk] : disks_) std::fill(disk.chunks.begin(), disk.chunks.end(), 0);
  ++version_;
}

void DigestProofs::begin_full_copy() {
  for (auto& [slot, disk] : disks_) disk.left_out.clear();
  left_out_known_ = true;
  ++version_;
}

void DigestProofs::note_left_out(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const auto found = disks_.find(disk);
  if (found == disks_.end() || length_bytes == 0) return;
  const std::uint64_t leaves = (found->second.size_bytes + kDigestLeafBytes - 1) / kDigestLeafBytes;
  std::vector<std::uint16_t>& left_out = found->second.left_out;
  left_out.resize(found->second.chunks.size());
  const std::uint64_t last = (offset_bytes + length_bytes - 1) / kDigestLeafBytes;
  for (std::uint64_t i = offset_bytes / kDigestLeafBytes; i <= last && i < leaves; ++i) {
    left_out[i / kDigestLeavesPerChunk] |= static_cast<std::uint16_t>(1u << (i % kDigestLeavesPerChunk));
  }
  ++version_;
}

void DigestProofs::note_leaf_equal(std::uint16_t disk, std::uint64_t offset_bytes) {
  if (!is_left_out(disk, offset_bytes)) return;
  const std::uint64_t leaf = offset_bytes / kDigestLeafBytes;
  disks_.at(disk).left_out[leaf / kDigestLeavesPerChunk] &=
      static_cast<std::uint16_t>(~(1u << (leaf % kDigestLeavesPerChunk)));
  ++version_;
}

bool DigestProofs::is_left_out(std::uint16_t disk, std::uint64_t offset_bytes) const {
  const auto found = disks_.find(disk);
  return found != disks_.end() && leaf_bit(found->second.left_out, offset_bytes / kDigestLeafBytes);
}

std::uint64_t DigestProofs::left_out_bytes(const Disk& disk, std::uint64_t chunk) {
  if (chunk >= disk.left_out.size() || disk.left_out[chunk] == 0) return 0;
  const std::uint64_t end = std::min(disk.size_bytes, (chunk + 1) * kDigestChunkBytes);
  const std::uint64_t bytes = static_cast<std::uint64_t>(std::popcount(disk.left_out[chunk])) * kDigestLeafBytes;
  const std::uint64_t last_leaf = (end - 1) / kDigestLeafBytes;  // may be shorter
  return leaf_bit(disk.left_out, last_leaf) ? bytes - ((last_leaf + 1) * kDigestLeafBytes - end) : bytes;
}

std::uint64_t DigestProofs::proved_bytes(std::uint64_t since_wall_ns) const {
  const auto since = std::max<std::uint64_t>(since_wall_ns / kNsPerSecond, 1);
  std::uint64_t bytes = 0;
  for (const auto& [slot, disk] : disks_) {
    for (std::uint64_t i = 0; i < disk.chunks.size(); ++i) {
      if (disk.chunks[i] < since) continue;
      bytes += std::min(kDigestChunkBytes, disk.size_bytes - i * kDigestChunkBytes) - left_out_bytes(disk, i);
    }
  }
  return bytes;
}

std::uint64_t DigestProofs::provable_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [slot, disk] : disks_) {
    bytes += disk.size_bytes;
    for (std::uint64_t i = 0; i < disk.left_out.size(); ++i) bytes -= left_out_bytes(disk, i);
  }
  return bytes;
}

std::uint64_t DigestProofs::proved_at(std::uint16_t disk, std::uint64_t offset_bytes) const {
  const auto found = disks_.find(disk);
  if (found == disks_.end() || offset_bytes >= found->second.size_bytes) return 0;
  return found->second.chunks[offset_bytes / kDigestChunkBytes] * kNsPerSecond;
}

std::vector<std::byte> DigestProofs::encode(const Uuid& capture_id) const {
  ProofsHeader header{};
  header.magic = kProofsMagic;
  header.version = kProofsVersion;
  std::memcpy(header.capture_id, capture_id.bytes.data(), sizeof(header.capture_id));
  header.left_out_known = left_out_known_ ? 1 : 0;
  header.disk_count = static_cast<std::uint32_t>(disks_.size());
  std::vector<std::byte> out;
  append_struct(header, out);
  for (const auto& [slot, disk] : disks_) {
    ProofsDisk bytes{};
    std::memcpy(bytes.id, disk.id.bytes.data(), sizeof(bytes.id));
    bytes.size_bytes = disk.size_bytes;
    bytes.region_count = (disk.chunks.size() + kDigestChunksPerRegion - 1) / kDigestChunksPerRegion;
    append_struct(bytes, out);
    for (std::size_t i = 0; i < disk.chunks.size(); i += kDigestChunksPerRegion) {
      const std::size_t end = std::min<std::size_t>(i + kDigestChunksPerRegion, disk.chunks.size());
      le32 oldest;
      oldest = *std::min_element(disk.chunks.begin() + static_cast<std::ptrdiff_t>(i),
                                 disk.chunks.begin() + static_cast<std::ptrdiff_t>(end));
      append_struct(oldest, out);
    }
    append_left_out(disk.left_out, out);
  }
  le64 checksum;
  checksum = xxh3_64(out);
  append_struct(checksum, out);
  return out;
}

Status DigestProofs::restore(std::span<const std::byte> bytes, const Uuid& capture_id) {
  if (bytes.size() < sizeof(ProofsHeader) + sizeof(le64)) return corrupt("too short");
  le64 checksum;
  std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof(checksum), sizeof(checksum));
  std::span<const std::byte> rest = bytes.first(bytes.size() - sizeof(checksum));
  if (xxh3_64(rest) != checksum) return corrupt("checksum is wrong");
  ProofsHeader header;
  if (!take(rest, header) || header.magic != kProofsMagic) return corrupt("not such a file");
  if (header.version != kProofsVersion) return corrupt("of another version");
  if (header.disk_count > kDisksMax) return corrupt("too many disks");
  if (std::memcmp(header.capture_id, capture_id.bytes.data(), sizeof(header.capture_id)) != 0) return ok_status();
  if (header.left_out_known > 1) return corrupt("a flag is unknown");
  left_out_known_ = header.left_out_known == 1;
  for (std::uint32_t i = 0; i < header.disk_count; ++i) {
    ProofsDisk entry;
    if (!take(rest, entry)) return corrupt("too short");
    if (entry.region_count > rest.size() / sizeof(le32)) return corrupt("too short");
    const std::span<const std::byte> times = rest.first(entry.region_count * sizeof(le32));
    rest = rest.subspan(times.size());
    le64 run_count;
    if (!take(rest, run_count) || run_count > rest.size() / sizeof(ProofsRun)) return corrupt("too short");
    const std::span<const std::byte> runs = rest.first(run_count * sizeof(ProofsRun));
    rest = rest.subspan(runs.size());
    for (auto& [slot, disk] : disks_) {
      const std::uint64_t regions = (disk.chunks.size() + kDigestChunksPerRegion - 1) / kDigestChunksPerRegion;
      if (std::memcmp(entry.id, disk.id.bytes.data(), sizeof(entry.id)) != 0 || entry.size_bytes != disk.size_bytes ||
          entry.region_count != regions) {
        continue;
      }
      for (std::size_t chunk = 0; chunk < disk.chunks.size(); ++chunk) {
        le32 seconds;
        std::memcpy(&seconds, times.data() + chunk / kDigestChunksPerRegion * sizeof(seconds), sizeof(seconds));
        disk.chunks[chunk] = seconds;
      }
      for (std::size_t at = 0; at < runs.size(); at += sizeof(ProofsRun)) {
        ProofsRun run;
        std::memcpy(&run, runs.data() + at, sizeof(run));
        const std::uint64_t leaves = (disk.size_bytes + kDigestLeafBytes - 1) / kDigestLeafBytes;
        if (run.first >= leaves || run.count > leaves - run.first) return corrupt("a run of leaves is behind its disk");
        note_left_out(slot, run.first * kDigestLeafBytes, run.count * kDigestLeafBytes);
      }
    }
  }
  return rest.empty() ? ok_status() : Status(corrupt("too long"));
}

}  // namespace understudy
