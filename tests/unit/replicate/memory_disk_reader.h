// SPDX-License-Identifier: Apache-2.0
// Reads of simulated disks that take a while and see writes half way: a read proceeds in pieces, in any order, between
// the steps of the agent, so that what is written meanwhile is in some sectors and not in others.
#pragma once

#include <cerrno>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "daemon/replicate/disk_reader.h"
#include "daemon/tracker/simulated_tracker.h"

namespace understudy {

class MemoryDiskReader final : public DiskReader {
 public:
  MemoryDiskReader(const SimulatedCapture& capture, std::uint32_t buffers, std::uint32_t bytes)
      : capture_(capture), buffers_(buffers, std::vector<std::byte>(bytes)), bytes_(bytes), busy_(buffers, false) {}

  std::uint32_t buffer_count() const override { return static_cast<std::uint32_t>(buffers_.size()); }
  std::uint32_t buffer_bytes() const override { return bytes_; }
  std::span<std::byte> buffer(std::uint32_t index) override { return buffers_.at(index); }
  Status submit(std::uint16_t disk, std::uint64_t offset_bytes, std::uint32_t bytes, std::uint32_t index,
                std::uint64_t tag) override {
    CHECK(!busy_.at(index));
    busy_[index] = true;
    Read read{disk, offset_bytes, bytes, index, tag, {}};
    for (std::uint32_t at = 0; at < bytes; at += kPiece) read.pieces.push_back(at);
    reads_.push_back(std::move(read));
    return ok_status();
  }
  std::optional<ReadCompletion> reap() override {
    if (meanwhile) meanwhile();
    if (done_.empty()) return std::nullopt;
    const ReadCompletion completion = done_.front();
    done_.pop_front();
    busy_[completion.buffer] = false;
    return completion;
  }
  std::uint32_t in_progress() const override { return static_cast<std::uint32_t>(reads_.size() + done_.size()); }
  // Called in the middle of the agent's steps: what other CPUs do meanwhile.
  std::function<void()> meanwhile;

  Result<std::uint64_t> size_bytes(std::uint16_t disk) override {
    if (vanished.count(disk) > 0) return Error(ErrorKind::kNotFound, "no such device");
    const auto changed = sizes.find(disk);
    return changed != sizes.end() ? changed->second : capture_.disk_bytes(disk).size();
  }

  std::optional<std::uint64_t> written_bytes(std::uint16_t /*disk*/) override { return written; }

  // Lets some pieces of some reads happen.
  void progress(std::mt19937_64& random, std::uint32_t pieces) {
    while (pieces-- > 0 && !reads_.empty()) {
      const std::size_t at = random() % reads_.size();
      Read& read = reads_[at];
      if (!read.pieces.empty()) {
        const std::size_t piece = random() % read.pieces.size();
        const std::uint32_t offset = read.pieces[piece];
        read.pieces.erase(read.pieces.begin() + static_cast<std::ptrdiff_t>(piece));
        const std::uint32_t length = std::min(kPiece, read.bytes - offset);
        capture_.read_disk(read.disk, read.offset_bytes + offset,
                           std::span(buffers_[read.buffer]).subspan(offset, length));
      }
      if (!read.pieces.empty()) continue;
      finish(read);
      reads_.erase(reads_.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  void finish_all(std::mt19937_64& random) {
    while (!reads_.empty()) progress(random, 1);
  }

  std::set<std::uint64_t> bad_offsets;           // a read that touches one of these bytes (any disk) fails with EIO
  std::map<std::uint16_t, std::uint64_t> sizes;  // other than the capture's
  std::set<std::uint16_t> vanished;
  std::uint64_t reads_done = 0;
  std::optional<std::uint64_t> written;          // what each disk says

 private:
  static constexpr std::uint32_t kPiece = 2048;
  struct Read {
    std::uint16_t disk;
    std::uint64_t offset_bytes;
    std::uint32_t bytes;
    std::uint32_t buffer;
    std::uint64_t tag;
    std::vector<std::uint32_t> pieces;
  };

  void finish(const Read& read) {
    ++reads_done;
    ReadCompletion completion{read.buffer, read.tag, 0, read.bytes};
    const auto bad = bad_offsets.lower_bound(read.offset_bytes);
    if (bad != bad_offsets.end() && *bad < read.offset_bytes + read.bytes) {
      completion.error_number = EIO;
      completion.bytes_read = 0;
      // What a failed read leaves in its buffer must never be used.
      std::fill(buffers_[read.buffer].begin(), buffers_[read.buffer].end(), std::byte{0xee});
    }
    done_.push_back(completion);
  }

  const SimulatedCapture& capture_;
  std::vector<std::vector<std::byte>> buffers_;
  std::uint32_t bytes_;
  std::vector<bool> busy_;
  std::vector<Read> reads_;
  std::deque<ReadCompletion> done_;
};

}  // namespace understudy
