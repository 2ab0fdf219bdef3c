// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/digest_worker.h"

#include <atomic>
#include <utility>

#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"
#include "daemon/view/end_view.h"

namespace understudy {
namespace {

// What is known of a journal outlives the last question by so much; a store that was too large is tried again then.
constexpr std::uint64_t kIdleNs = 600'000'000'000;

std::atomic<std::uint64_t> index_bytes_of_all{0};

}  // namespace

class DigestWorker::Content final : public DigestContent {
 public:
  EndView& view() { return view_; }
  Seq seq() const override { return view_.seq(); }
  std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const override { return view_.disk_bytes(disk); }
  bool known_zeros(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) const override {
    return view_.known_zeros(disk, offset_bytes, length_bytes);
  }
  Result<std::span<const std::byte>> read(std::uint16_t disk, std::uint64_t offset_bytes,
                                          std::span<std::byte> room) override {
    return view_.read(disk, offset_bytes, room);
  }

 private:
  EndView view_;
};

DigestWorker::DigestWorker(std::string server_name, StoreExecutor& executor, const Clock& clock)
    : server_name_(std::move(server_name)), executor_(executor), clock_(clock) {}

DigestWorker::~DigestWorker() {
  stop_soon();
  executor_.forget(*this);
  drop_content();
}

void DigestWorker::stop_soon() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  queue_.clear();
}

void DigestWorker::ask(DigestQuestion question, std::shared_ptr<const JournalSnapshot> snapshot, Answer answer) {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    queue_.push_back(Item{std::move(question), std::move(snapshot), std::move(answer)});
    ++statistics_.questions;
  }
  executor_.wake(*this);
}

void DigestWorker::forget() {
  std::lock_guard lock(mutex_);
  queue_.clear();
}

DigestWorker::Statistics DigestWorker::statistics() const {
  std::lock_guard lock(mutex_);
  return statistics_;
}

bool DigestWorker::next_item() {
  std::lock_guard lock(mutex_);
  if (stop_) {
    item_.reset();
    return false;
  }
  if (item_) return true;
  if (queue_.empty()) return false;
  item_ = std::move(queue_.front());
  queue_.pop_front();
  stage_ = Stage::kNew;
  return true;
}

std::optional<std::uint64_t> DigestWorker::turn() {
  const std::uint64_t now_ns = clock_.boot_ns();
  if (!next_item()) {
    if (content_ == nullptr) return std::nullopt;
    if (now_ns - last_used_ns_ < kIdleNs) return kIdleNs;
    drop_content();
    return std::nullopt;
  }
  last_used_ns_ = now_ns;
  if (const auto answer = work()) finish(*answer);
  return 0;
}

void DigestWorker::finish(const DigestAnswer& answer) {
  {
    std::lock_guard lock(mutex_);
    statistics_.bytes_compared = check_.bytes_compared();
    if (answer.verdict == DigestVerdict::kDifferent && answer.level == DigestLevel::kRegion) {
      ++statistics_.regions_different;
    }
  }
  if (auto error = check_.take_error()) {
    log_error(kMessageStoreDamaged,
              std::move(*error).with_context("compare the store of server '" + server_name_ + "' with its source"),
              {{"UNDERSTUDY_SERVER", server_name_}});
  }
  const Item item = std::move(*item_);
  item_.reset();
  item.answer(answer);
}

DigestAnswer DigestWorker::not_now(DigestVerdict verdict) const {
  DigestAnswer answer;
  answer.token = item_->question.token;
  answer.level = item_->question.level;
  answer.verdict = verdict;
  return answer;
}

std::optional<DigestAnswer> DigestWorker::work() {
  if (stage_ == Stage::kNew) {
    if (auto answer = begin()) return answer;
  }
  if (stage_ == Stage::kIndexing) return index();
  return check_.go_on(*content_, kDigestSliceBytes);
}

std::optional<DigestAnswer> DigestWorker::begin() {
  if (item_->question.level != DigestLevel::kRegion) {
    return content_ == nullptr ? not_now(DigestVerdict::kAgain) : check_.begin(item_->question, *content_);
  }
  if (item_->snapshot->position().seq != item_->question.seq) return not_now(DigestVerdict::kAgain);
  if (clock_.boot_ns() < too_large_until_ns_) return not_now(DigestVerdict::kUnavailable);
  if (content_ != nullptr && !content_->view().continues(*item_->snapshot)) drop_content();
  if (content_ == nullptr) content_ = std::make_unique<Content>();
  content_->view().follow(item_->snapshot);
  stage_ = Stage::kIndexing;
  return std::nullopt;
}

std::optional<DigestAnswer> DigestWorker::index() {
  const Result<bool> done = content_->view().go_on(kDigestSliceBatches);
  if (!done.ok()) {
    drop_content();
    log_error(kMessageStoreDamaged,
              Error(done.error()).with_context("compare the store of server '" + server_name_ +
                                               "' with its source: read its journal"),
              {{"UNDERSTUDY_SERVER", server_name_}});
    return not_now(DigestVerdict::kUnavailable);
  }
  const std::uint64_t bytes = content_->view().index_bytes();
  const std::uint64_t of_all = index_bytes_of_all += bytes - index_bytes_;
  index_bytes_ = bytes;
  if (of_all > kDigestIndexBytesMax) {
    drop_content();
    too_large_until_ns_ = clock_.boot_ns() + kIdleNs;
    log_message(LogLevel::kWarning, kMessageDigestScan,
                "compare the store of server '" + server_name_ + "' with its source: its index takes " +
                    format_bytes(bytes) + " of memory, allowed are " + format_bytes(kDigestIndexBytesMax) +
                    " for all stores, retrying in " + format_duration_ns(kIdleNs),
                {{"UNDERSTUDY_SERVER", server_name_}});
    return not_now(DigestVerdict::kUnavailable);
  }
  if (!*done) return std::nullopt;
  stage_ = Stage::kReading;
  return check_.begin(item_->question, *content_);
}

void DigestWorker::drop_content() {
  content_.reset();
  index_bytes_of_all -= std::exchange(index_bytes_, 0);
}

}  // namespace understudy
