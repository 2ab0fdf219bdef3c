// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/digest_worker.h"

#include <pthread.h>

#include <semaphore>
#include <utility>

#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/view/end_view.h"

namespace understudy {
namespace {

std::counting_semaphore<kDigestStoresAtATimeMax>& turns() {
  static std::counting_semaphore<kDigestStoresAtATimeMax> semaphore(kDigestStoresAtATimeMax);
  return semaphore;
}

DigestAnswer not_now(const DigestQuestion& question, DigestVerdict verdict) {
  DigestAnswer answer;
  answer.token = question.token;
  answer.level = question.level;
  answer.verdict = verdict;
  return answer;
}

}  // namespace

class DigestWorker::Content final : public DigestContent {
 public:
  Status advance(std::shared_ptr<const JournalSnapshot> snapshot) { return view_.advance(std::move(snapshot)); }
  Seq seq() const override { return view_.seq(); }
  std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const override { return view_.disk_bytes(disk); }
  bool known_zeros(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) const override {
    return view_.known_zeros(disk, offset_bytes, length_bytes);
  }
  Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) override {
    return view_.read(disk, offset_bytes, out);
  }

 private:
  EndView view_;
};

DigestWorker::DigestWorker(std::string server_name) : server_name_(std::move(server_name)) {}

DigestWorker::~DigestWorker() {
  request_stop();
  if (thread_.joinable()) thread_.join();
}

void DigestWorker::request_stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    queue_.clear();
  }
  wake_.notify_all();
}

void DigestWorker::ask(DigestQuestion question, std::shared_ptr<const JournalSnapshot> snapshot, Answer answer) {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    queue_.push_back(Item{std::move(question), std::move(snapshot), std::move(answer)});
    ++statistics_.questions;
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  wake_.notify_all();
}

void DigestWorker::forget() {
  std::lock_guard lock(mutex_);
  queue_.clear();
}

DigestWorker::Statistics DigestWorker::statistics() const {
  std::lock_guard lock(mutex_);
  return statistics_;
}

void DigestWorker::run() {
  ::pthread_setname_np(::pthread_self(), "digest");
  while (true) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (stop_) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    turns().acquire();
    const DigestAnswer result = answer(item);
    turns().release();
    {
      std::lock_guard lock(mutex_);
      statistics_.bytes_compared = check_.bytes_compared();
      if (result.verdict == DigestVerdict::kDifferent && result.level == DigestLevel::kRegion) {
        ++statistics_.regions_different;
      }
    }
    if (auto error = check_.take_error()) {
      log_error(kMessageStoreDamaged,
                std::move(*error).with_context("compare the store of server '" + server_name_ + "' with its source"),
                {{"UNDERSTUDY_SERVER", server_name_}});
    }
    item.answer(result);
  }
}

DigestAnswer DigestWorker::answer(const Item& item) {
  if (item.question.level == DigestLevel::kRegion) {
    if (item.snapshot->position().seq != item.question.seq) return not_now(item.question, DigestVerdict::kAgain);
    if (content_ == nullptr) content_ = std::make_unique<Content>();
    if (Status status = content_->advance(item.snapshot); !status.ok()) {
      content_.reset();
      log_error(kMessageStoreDamaged,
                std::move(status).error().with_context("compare the store of server '" + server_name_ +
                                                       "' with its source: read its journal"),
                {{"UNDERSTUDY_SERVER", server_name_}});
      return not_now(item.question, DigestVerdict::kUnavailable);
    }
  }
  if (content_ == nullptr) return not_now(item.question, DigestVerdict::kAgain);
  return check_.answer(item.question, *content_);
}

}  // namespace understudy
