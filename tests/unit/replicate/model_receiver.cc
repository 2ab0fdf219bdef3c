// SPDX-License-Identifier: Apache-2.0

#include "tests/unit/replicate/model_receiver.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

#include <algorithm>
#include <cstring>

namespace understudy {
namespace {
constexpr std::uint64_t kSector = 512;

class ModelContent final : public DigestContent {
 public:
  explicit ModelContent(const ModelStore& store) : store_(store) {}
  Seq seq() const override { return store_.position.seq; }
  std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const override {
    const auto image = store_.images.find(disk);
    if (image == store_.images.end()) return std::nullopt;
    return image->second.base.size();
  }
  bool known_zeros(std::uint16_t, std::uint64_t, std::uint64_t) const override { return false; }
  Result<std::span<const std::byte>> read(std::uint16_t disk, std::uint64_t offset_bytes,
                                          std::span<std::byte> room) override {
    store_.read(disk, offset_bytes, room);
    return std::span<const std::byte>(room);
  }

 private:
  const ModelStore& store_;
};

}  // namespace

void ModelStore::put(const Record& record) {
  Image& image = images.at(record.disk);
  REQUIRE(record.offset_bytes + record.length_bytes <= image.journal.size());
  const bool to_base = record.kind == RecordKind::kCopy && (record.flags & kRecordInitial) != 0;
  std::byte* target = (to_base ? image.base : image.journal).data() + record.offset_bytes;
  const bool zeros = record.kind == RecordKind::kZero || (record.flags & kRecordZeros) != 0;
  if (zeros) {
    std::memset(target, 0, record.length_bytes);
  } else {
    REQUIRE(record.payload.size() == record.length_bytes);
    std::memcpy(target, record.payload.data(), record.length_bytes);
  }
  if (to_base) return;
  for (std::uint64_t at = 0; at < record.length_bytes; at += kSector) {
    image.in_journal[(record.offset_bytes + at) / kSector] = true;
  }
}

void ModelStore::apply(const BatchReader& batch) {
  const BatchInfo& info = batch.info();
  REQUIRE(info.first_seq == position.seq + 1);
  REQUIRE(info.generation >= position.generation);
  for (const Record& record : batch.records()) {
    ++position.seq;
    REQUIRE(record.time_ns >= position.last_time_ns);
    position.last_time_ns = record.time_ns;
    switch (record.kind) {
      case RecordKind::kCopy:
        REQUIRE(position.gap_open);  // copies belong into gaps
        if ((record.flags & kRecordInitial) != 0) REQUIRE(!position.initial_copy_done);
        copied_bytes += record.length_bytes;
        initial_copies += (record.flags & kRecordInitial) != 0;
        put(record);
        break;
      case RecordKind::kWrite:
      case RecordKind::kZero: put(record); break;
      case RecordKind::kBarrier: break;
      case RecordKind::kMark: {
        auto mark = decode_mark(record.payload);
        REQUIRE(mark.ok());
        marks.emplace_back(position.seq, *mark);
        content_at_mark[mark->name] = content(0);
        break;
      }
      case RecordKind::kGap: {
        const auto gap = decode_gap(record.payload);
        REQUIRE(gap.ok());
        if (!position.gap_open) position.gap_reason = gap->reason;  // as the real store: the first reason stands
        position.gap_open = true;
        ++gaps;
        break;
      }
      case RecordKind::kHeal:
        REQUIRE(position.gap_open);
        position.gap_open = false;
        position.initial_copy_done = true;
        break;
      case RecordKind::kGeometry: {
        auto disks = decode_geometry(record.payload);
        REQUIRE(disks.ok());
        position.disks = *disks;
        for (const DiskGeometry& disk : *disks) {
          Image& image = images[disk.disk];
          image.base.resize(disk.size_bytes);
          image.journal.resize(disk.size_bytes);
          image.in_journal.resize(disk.size_bytes / kSector);
        }
        break;
      }
    }
  }
  position.epoch = info.epoch;
  position.generation = info.generation;
  position.cursor = info.cursor;
}

void ModelStore::leak_to_base(const BatchReader& batch) {
  for (const Record& record : batch.records()) {
    if (record.kind != RecordKind::kCopy || (record.flags & kRecordInitial) == 0) continue;
    if (images.count(record.disk) > 0) put(record);
  }
}

std::vector<std::byte> ModelStore::content(std::uint16_t disk) const {
  std::vector<std::byte> bytes(images.at(disk).base.size());
  read(disk, 0, bytes);
  return bytes;
}

void ModelStore::read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const {
  const Image& image = images.at(disk);
  std::memcpy(out.data(), image.base.data() + offset_bytes, out.size());
  for (std::size_t at = 0; at < out.size(); at += kSector) {
    const std::uint64_t from = offset_bytes + at;
    if (image.in_journal[from / kSector]) std::memcpy(out.data() + at, image.journal.data() + from, kSector);
  }
}

std::optional<LinkEvent> ModelReceiver::poll() {
  if (events_.empty()) return std::nullopt;
  LinkEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void ModelReceiver::send(std::unique_ptr<OutgoingBatch> batch) {
  REQUIRE(batch != nullptr);
  REQUIRE(!batch->batch.empty());
  if (!connected_) return;
  statistics_.queued_bytes += batch->batch.raw_payload_bytes();
  queued_.push_back(std::move(batch));
}

LinkStatistics ModelReceiver::statistics() const {
  if (meanwhile) meanwhile();
  return statistics_;
}

void ModelReceiver::connect() {
  REQUIRE(!connected_);
  connected_ = true;
  next_seq_ = store.position.seq + 1;
  questions_.clear();
  events_.push_back(LinkUp{store.position, "model", boot_id, store_devices, digests});
  if (waker_) waker_();
}

void ModelReceiver::cut(bool keep_undurable) {
  if (!connected_) return;
  connected_ = false;
  if (keep_undurable) commit_silently(arrived_.size());
  for (const Arrived& lost : arrived_) store.leak_to_base(*lost.reader);
  queued_.clear();
  arrived_.clear();
  questions_.clear();
  statistics_.queued_bytes = 0;
  events_.push_back(LinkDown{Error(ErrorKind::kClosed, "connection cut")});
}

void ModelReceiver::refuse(const std::string& text) {
  connected_ = false;
  queued_.clear();
  arrived_.clear();
  statistics_.queued_bytes = 0;
  events_.push_back(LinkRefused{Error(ErrorKind::kRefused, text)});
}

void ModelReceiver::notice(bool active, const std::string& text, const std::string& code) {
  events_.emplace_back(LinkNotice{active, code, text});
}

void ModelReceiver::travel(std::size_t batches_max) {
  for (; batches_max > 0 && !queued_.empty(); --batches_max) {
    std::unique_ptr<OutgoingBatch> batch = std::move(queued_.front());
    queued_.pop_front();
    Arrived arrived;
    const BatchInfo info = batch->batch.encode({Codec::kNone, 0}, arrived.bytes);
    ++statistics_.batches_sent;
    statistics_.raw_bytes_sent += info.raw_payload_bytes;
    statistics_.wire_bytes_sent += info.encoded_bytes;
    statistics_.queued_bytes -= info.raw_payload_bytes;
    batch.reset();
    auto reader = BatchReader::decode(arrived.bytes, Verify::kRecords);
    REQUIRE_MESSAGE(reader.ok(), (reader.ok() ? "" : reader.error().message()));
    arrived.reader = std::make_unique<BatchReader>(std::move(reader).value());
    REQUIRE(arrived.reader->info().first_seq == next_seq_);
    next_seq_ = arrived.reader->info().last_seq() + 1;
    arrived_.push_back(std::move(arrived));
  }
}

void ModelReceiver::commit_silently(std::size_t batches_max) {
  for (; batches_max > 0 && !arrived_.empty(); --batches_max) {
    answer_questions();
    const Arrived arrived = std::move(arrived_.front());
    arrived_.pop_front();
    store.apply(*arrived.reader);
    if (on_durable) on_durable(*arrived.reader);
  }
}

void ModelReceiver::commit(std::size_t batches_max) {
  if (batches_max == 0) return;
  if (arrived_.empty()) return answer_questions();
  commit_silently(batches_max);
  acknowledge();
}

void ModelReceiver::lie(Seq seq) { events_.emplace_back(LinkAck{seq}); }
void ModelReceiver::ask_digest(const DigestQuestion& question) {
  if (!connected_) return;
  std::vector<std::byte> bytes;
  encode_digest_question(question, bytes);
  digest_wire_bytes += bytes.size();
  ++questions_asked;
  const auto decoded = decode_digest_question(bytes);
  REQUIRE(decoded.ok());
  REQUIRE(*decoded == question);
  questions_.push_back(*decoded);
}

// Those whose position is the durable end; as a real receiver does, between two batches.
void ModelReceiver::answer_questions() {
  while (connected_ && !questions_.empty() &&
         (questions_.front().seq <= store.position.seq || questions_.front().level == DigestLevel::kLeaves)) {
    ModelContent content(store);
    const DigestAnswer answer = check_.answer(questions_.front(), content);
    questions_.pop_front();
    answers_not_now += answer.verdict != DigestVerdict::kEqual && answer.verdict != DigestVerdict::kDifferent;
    std::vector<std::byte> bytes;
    encode_digest_answer(answer, bytes);
    digest_wire_bytes += bytes.size();
    const auto decoded = decode_digest_answer(bytes);
    REQUIRE(decoded.ok());
    REQUIRE(*decoded == answer);
    events_.push_back(LinkDigestAnswer{*decoded});
  }
}

void ModelReceiver::acknowledge() {
  answer_questions();
  if (connected_) events_.push_back(LinkAck{store.position.seq});
}

}  // namespace understudy
