// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/store/stream_maker.h"

#include <algorithm>
#include <cstring>

#include "daemon/base/checksum.h"

namespace understudy {
namespace {

constexpr std::uint64_t kDiskBytes = 48 << 10;
constexpr std::uint64_t kSector = 512;
constexpr Seq kInitialCopyRecords = 60;

Uuid uuid_of(std::mt19937_64& random) {
  Uuid uuid;
  for (std::byte& b : uuid.bytes) b = static_cast<std::byte>(random());
  return uuid;
}

}  // namespace

OwnedRecord make_record(RecordKind kind, std::uint16_t disk, std::uint64_t offset, std::uint64_t length,
                        std::vector<std::byte> payload, std::uint8_t flags) {
  OwnedRecord owned;
  owned.record.kind = kind;
  owned.record.flags = flags;
  owned.record.disk = disk;
  owned.record.offset_bytes = offset;
  owned.record.length_bytes = length;
  owned.record.checksum = payload.empty() ? 0 : xxh3_64(payload);
  owned.payload = std::move(payload);
  return owned;
}

void Model::apply(const OwnedRecord& owned) {
  const Record& record = owned.record;
  const auto fill = [&](bool zero) {
    std::vector<std::byte>& disk = content.at(record.disk);
    if (record.offset_bytes >= disk.size()) return;
    const std::size_t length = std::min<std::uint64_t>(record.length_bytes, disk.size() - record.offset_bytes);
    if (zero)
      std::memset(disk.data() + record.offset_bytes, 0, length);
    else
      std::memcpy(disk.data() + record.offset_bytes, owned.payload.data(), length);
  };
  switch (record.kind) {
    case RecordKind::kWrite: fill(false); break;
    case RecordKind::kZero: fill(true); break;
    case RecordKind::kCopy: fill((record.flags & kRecordZeros) != 0); break;
    case RecordKind::kGap: whole = false; break;
    case RecordKind::kHeal: whole = true; break;
    case RecordKind::kGeometry: {
      std::vector<DiskGeometry> disks = decode_geometry(owned.payload).value();
      std::map<std::uint16_t, std::vector<std::byte>> next;
      for (const DiskGeometry& disk : disks) {
        std::vector<std::byte>& bytes = next[disk.disk];
        for (const DiskGeometry& old : geometry)
          if (old.disk == disk.disk && old.id == disk.id) bytes = content.at(disk.disk);
        bytes.resize(disk.size_bytes);
      }
      geometry = std::move(disks);
      content = std::move(next);
      break;
    }
    default: break;
  }
}

StreamMaker::StreamMaker(std::uint64_t seed) : random_(seed), server_(uuid_of(random_)), capture_(uuid_of(random_)) {}

std::vector<std::byte> StreamMaker::random_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  if (random_() % 3 == 0) {  // compressible
    const auto value = static_cast<std::byte>(random_());
    for (std::size_t i = 0; i < count; ++i) bytes[i] = i % 16 == 0 ? static_cast<std::byte>(random_()) : value;
  } else {
    for (std::byte& b : bytes) b = static_cast<std::byte>(random_());
  }
  return bytes;
}

OwnedRecord StreamMaker::random_extent(RecordKind kind, std::uint8_t flags) {
  const DiskGeometry& disk = model_.geometry[random_() % model_.geometry.size()];
  const std::uint64_t sectors = disk.size_bytes / kSector;
  const std::uint64_t first = random_() % sectors;
  const std::uint64_t count = 1 + random_() % std::min<std::uint64_t>(sectors - first, random_() % 5 == 0 ? 40 : 6);
  const bool has_payload = kind != RecordKind::kZero && (flags & kRecordZeros) == 0;
  return make_record(kind, disk.disk, first * kSector, count * kSector,
                     has_payload ? random_bytes(count * kSector) : std::vector<std::byte>(), flags);
}

OwnedRecord StreamMaker::geometry_record() {
  std::vector<DiskGeometry> disks = model_.geometry;
  const unsigned what = disks.empty() ? 0 : static_cast<unsigned>(random_() % 5);
  if (disks.empty()) {
    for (std::uint16_t slot = 0; slot < 3; ++slot)
      disks.push_back({slot, uuid_of(random_), "/dev/vd" + std::string(1, static_cast<char>('a' + slot)),
                       kDiskBytes + slot * 4096, 512});
  } else if (what == 0) {
    disks[random_() % disks.size()].size_bytes += 4096;
  } else if (what == 1) {
    DiskGeometry& disk = disks[random_() % disks.size()];
    if (disk.size_bytes > 16384) disk.size_bytes -= 4096;
  } else if (what == 2) {
    disks[random_() % disks.size()].id = uuid_of(random_);  // another disk in this slot
  } else if (what == 3 && disks.size() > 1) {
    disks.erase(disks.begin() + static_cast<std::ptrdiff_t>(random_() % disks.size()));
  } else {
    const auto slot = static_cast<std::uint16_t>(random_() % 6);
    if (std::none_of(disks.begin(), disks.end(), [&](const DiskGeometry& disk) { return disk.disk == slot; }))
      disks.push_back({slot, uuid_of(random_), "extra-" + std::to_string(slot), kDiskBytes, 4096});
  }
  return make_record(RecordKind::kGeometry, 0, 0, 0, encode_geometry(disks));
}

OwnedRecord StreamMaker::random_record() {
  if (next_seq_ == 1) return geometry_record();
  if (next_seq_ == 2) return make_record(RecordKind::kGap, 0, 0, 0, encode_gap({GapReason::kInitialCopy}));
  const unsigned dice = static_cast<unsigned>(random_() % 100);
  if (next_seq_ < kInitialCopyRecords) {
    if (dice < 45) return random_extent(RecordKind::kCopy, kRecordInitial);
    if (dice < 55) return random_extent(RecordKind::kCopy, kRecordInitial | kRecordZeros);
  } else if (next_seq_ == kInitialCopyRecords) {
    return make_record(RecordKind::kHeal, 0, 0, 0, {});
  } else if (!model_.whole) {
    if (dice < 20) return make_record(RecordKind::kHeal, 0, 0, 0, {});
    if (dice < 45) return random_extent(RecordKind::kCopy, 0);
    if (dice < 50) return random_extent(RecordKind::kCopy, kRecordZeros);
  } else if (dice < 3) {
    return make_record(RecordKind::kGap, 0, 0, 0, encode_gap({GapReason::kOverflow}));
  } else if (dice < 6) {
    return geometry_record();
  } else if (dice < 8) {
    return make_record(RecordKind::kMark, 0, 0, 0,
                       encode_mark({"mark-" + std::to_string(next_seq_), Consistency::kApplication}));
  }
  if (dice < 60) return random_extent(RecordKind::kWrite, 0);
  if (dice < 75) return random_extent(RecordKind::kZero, dice < 65 ? kRecordDiscard : std::uint8_t{0});
  if (dice < 90) return make_record(RecordKind::kBarrier, 0, 0, 0, {});
  return random_extent(RecordKind::kWrite, kRecordFua);
}

std::vector<std::byte> StreamMaker::next_batch() {
  std::vector<OwnedRecord> records;
  const std::size_t count = 1 + random_() % 12;
  const Seq first = next_seq_;
  for (std::size_t i = 0; i < count; ++i) {
    records.push_back(random_record());
    model_.apply(records.back());
    ++next_seq_;
  }
  next_seq_ = first;
  return encode(std::move(records));
}

std::vector<std::byte> StreamMaker::encode(std::vector<OwnedRecord> records) {
  BatchWriter writer;
  writer.start(server_, next_seq_, epoch, generation);
  for (OwnedRecord& owned : records) {
    time_ns_ += random_() % 5'000'000;
    owned.record.time_ns = time_ns_;
    owned.record.payload = owned.payload;
    writer.add(owned.record);
  }
  next_seq_ += records.size();
  writer.set_cursor({capture_, next_seq_ * 1000, 0});
  std::vector<std::byte> out;
  const Codec codec = static_cast<Codec>(random_() % 3);
  writer.encode({codec, 1}, out);
  for (OwnedRecord& owned : records) {
    owned.record.payload = {};
    history_.push_back(std::move(owned));
  }
  return out;
}

void StreamMaker::rewind(Seq seq) {
  history_.resize(seq);
  next_seq_ = seq + 1;
  model_ = Model{};
  for (const OwnedRecord& owned : history_) model_.apply(owned);
}

}  // namespace understudy
