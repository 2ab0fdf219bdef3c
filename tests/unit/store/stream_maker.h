// SPDX-License-Identifier: Apache-2.0
// Random but possible streams, and the disks they describe, kept the naive way: arrays of bytes changed record by
// record.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "daemon/record/batch.h"
#include "daemon/record/record.h"

namespace understudy {

// A record that owns its payload.
struct OwnedRecord {
  Record record;
  std::vector<std::byte> payload;
};

OwnedRecord make_record(RecordKind kind, std::uint16_t disk, std::uint64_t offset, std::uint64_t length,
                        std::vector<std::byte> payload, std::uint8_t flags = 0);

// The disks after some prefix of a stream.
struct Model {
  std::vector<DiskGeometry> geometry;
  std::map<std::uint16_t, std::vector<std::byte>> content;
  bool whole = false;  // no gap is open and the first full copy has ended
  void apply(const OwnedRecord& owned);
};

class StreamMaker {
 public:
  explicit StreamMaker(std::uint64_t seed);

  const Uuid& server() const { return server_; }
  Seq next_seq() const { return next_seq_; }
  std::uint64_t generation = 1;
  std::uint64_t epoch = 1;

  // The next records, as encoded batch. After `initial_copy_batches` batches the first full copy is healed.
  std::vector<std::byte> next_batch();
  // Batch of given records.
  std::vector<std::byte> encode(std::vector<OwnedRecord> records);

  // Everything made so far, record n at n - 1.
  const std::vector<OwnedRecord>& history() const { return history_; }
  // Goes back to after `seq`, as an agent does whose receiver does not have more.
  void rewind(Seq seq);
  std::mt19937_64& random() { return random_; }

 private:
  OwnedRecord random_record();
  OwnedRecord random_extent(RecordKind kind, std::uint8_t flags);
  OwnedRecord geometry_record();
  std::vector<std::byte> random_bytes(std::size_t count);

  std::mt19937_64 random_;
  Uuid server_;
  Uuid capture_;
  Seq next_seq_ = 1;
  std::uint64_t time_ns_ = 1'700'000'000'000'000'000;
  std::vector<OwnedRecord> history_;
  Model model_;
};

}  // namespace understudy
