// SPDX-License-Identifier: Apache-2.0
// The far side of a stream, as simple as can be: a Link in memory and a store that applies batches to plain images.
// Batches are encoded only when they "travel", so memory that the agent gave away too early shows as a bad checksum.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/digest/digest_check.h"
#include "daemon/record/batch.h"
#include "daemon/replicate/link.h"

namespace understudy {

// What is durable. Base and journal are kept apart, because a captured write always wins over the base (store.h).
struct ModelStore {
  struct Image {
    std::vector<std::byte> base;
    std::vector<std::byte> journal;
    std::vector<bool> in_journal;  // per sector
  };
  StreamPosition position;
  std::map<std::uint16_t, Image> images;
  std::vector<std::pair<Seq, MarkInfo>> marks;
  std::map<std::string, std::vector<std::byte>> content_at_mark;  // of disk 0, by name
  std::uint64_t copied_bytes = 0;
  std::uint64_t initial_copies = 0;
  std::uint64_t gaps = 0;

  void apply(const BatchReader& batch);
  // Base data of copies that never became durable: it may be there all the same.
  void leak_to_base(const BatchReader& batch);
  std::vector<std::byte> content(std::uint16_t disk) const;
  // Whole sectors of it, within the disk.
  void read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const;
  bool whole() const { return position.seq > 0 && !position.gap_open && position.initial_copy_done; }

 private:
  void put(const Record& record);
};

class ModelReceiver final : public Link {
 public:
  // --- Link ---
  void set_waker(std::function<void()> waker) override { waker_ = std::move(waker); }
  std::optional<LinkEvent> poll() override;
  void send(std::unique_ptr<OutgoingBatch> batch) override;
  LinkStatistics statistics() const override;
  void ask_digest(const DigestQuestion& question) override;

  // --- the test's side ---
  void connect();                       // LinkUp with the durable position
  void cut(bool keep_undurable);        // LinkDown; what was not durable is kept (and becomes so) or lost
  void refuse(const std::string& text);
  void notice(bool active, const std::string& text, const std::string& code = "test");
  void travel(std::size_t batches_max); // batches arrive (encoded and decoded)
  void commit(std::size_t batches_max); // arrived batches become durable; LinkAck
  void commit_silently(std::size_t batches_max);  // ... but the acknowledgement is lost
  void acknowledge();                   // once more what is durable
  void lie(Seq seq);                    // acknowledges what it may not have
  bool connected() const { return connected_; }
  bool idle() const { return queued_.empty() && arrived_.empty(); }
  std::size_t queued() const { return queued_.size(); }
  std::size_t arrived() const { return arrived_.size(); }

  ModelStore store;
  bool digests = true;                  // says that it answers questions
  std::uint64_t questions_asked = 0;
  std::uint64_t digest_wire_bytes = 0;  // questions and answers, encoded
  std::uint64_t answers_not_now = 0;

  Uuid boot_id;
  std::vector<std::uint64_t> store_devices;
  // Called in the middle of the agent's steps: what other CPUs do meanwhile.
  std::function<void()> meanwhile;
  // Called after each batch that became durable.
  std::function<void(const BatchReader&)> on_durable;

 private:
  struct Arrived {
    std::vector<std::byte> bytes;
    std::unique_ptr<BatchReader> reader;
  };
  void answer_questions();
  std::deque<DigestQuestion> questions_;
  DigestCheck check_;
  bool connected_ = false;
  Seq next_seq_ = 1;
  std::deque<LinkEvent> events_;
  std::deque<std::unique_ptr<OutgoingBatch>> queued_;
  std::deque<Arrived> arrived_;
  LinkStatistics statistics_;
  std::function<void()> waker_;
};

}  // namespace understudy
