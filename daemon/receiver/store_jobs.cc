// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/store_jobs.h"

#include <utility>

#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/store/segment_index_writer.h"

namespace understudy {
namespace {

// After an index could not be written: a full disk, mostly. Reading goes without it meanwhile.
constexpr std::uint64_t kRetryNs = 60'000'000'000;

}  // namespace

StoreJobs::StoreJobs(std::string server_name, FileSystem& file_system, StoreExecutor& executor)
    : server_name_(std::move(server_name)), file_system_(file_system), executor_(executor) {}

StoreJobs::~StoreJobs() { stop(); }

void StoreJobs::post(std::shared_ptr<const JournalSnapshot> snapshot) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    posted_ = std::move(snapshot);
  }
  executor_.wake(*this);
}

void StoreJobs::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  executor_.forget(*this);
}

StoreJobs::Figures StoreJobs::figures() const {
  const std::lock_guard lock(mutex_);
  return figures_;
}

std::optional<std::uint64_t> StoreJobs::turn() {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return std::nullopt;
    if (posted_ != nullptr) snapshot_ = std::move(posted_);
    posted_ = nullptr;
  }
  if (snapshot_ == nullptr) return std::nullopt;
  const std::size_t sealed = snapshot_->segments().empty() ? 0 : snapshot_->segments().size() - 1;
  // Segments are only added, so what is done stays done.
  for (; next_ < sealed; ++next_) {
    const Seq first_seq = snapshot_->segments()[next_].info.first_seq;
    if (unreadable_.contains(first_seq)) continue;
    const Result<bool> written = write_segment_index(file_system_, *snapshot_, next_);
    const std::lock_guard lock(mutex_);
    figures_.segments_waiting = sealed - next_;
    if (!written.ok()) {
      const bool damaged = written.error().kind() == ErrorKind::kCorrupt;
      if (damaged || figures_.last_error != written.error().message())
        log_message(damaged ? LogLevel::kError : LogLevel::kWarning,
                    damaged ? kMessageStoreDamaged : kMessageStoreIndex,
                    "store of server '" + server_name_ + "': " + written.error().message() +
                        (damaged ? "; views of later points will fail" : ", retrying in 60 s"),
                    {{"UNDERSTUDY_SERVER", server_name_}});
      figures_.last_error = written.error().message();
      if (!damaged) return kRetryNs;
      unreadable_.insert(first_seq);
    } else if (*written) {
      ++figures_.indexes_written;
      figures_.last_error.clear();
      ++next_;
      break;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    figures_.segments_waiting = sealed - next_;
  }
  if (next_ < sealed) return 0;
  snapshot_ = nullptr;
  return std::nullopt;
}

}  // namespace understudy
