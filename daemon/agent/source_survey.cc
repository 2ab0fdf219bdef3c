// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/source_survey.h"

#include <pthread.h>

#include <system_error>
#include <utility>

namespace understudy {

SourceSurvey::SourceSurvey(const std::vector<TrackedDisk>& disks, bool free_space, bool leave_out_swap)
    : free_space_(free_space), leave_out_swap_(leave_out_swap) {
  for (const TrackedDisk& disk : disks) {
    disks_.push_back({disk.slot, disk.path, disk.device, disk.size_bytes, disk.granule_bytes});
  }
}

Status SourceSurvey::start(Answer answer) {
  try {
    thread_ = std::thread([this, answer = std::move(answer)] { run(answer); });
  } catch (const std::system_error& error) {
    return Error::from_errno(error.code().value(), "start the survey thread");
  }
  return ok_status();
}

void SourceSurvey::stop() {
  {
    std::lock_guard lock(mutex_);
    cancel_ = true;
  }
  asked_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void SourceSurvey::ask(std::uint64_t request) {
  {
    std::lock_guard lock(mutex_);
    request_ = request;
  }
  asked_.notify_all();
}

std::vector<Finding> SourceSurvey::findings() const {
  std::lock_guard lock(mutex_);
  return findings_;
}

void SourceSurvey::run(const Answer& answer) {
  ::pthread_setname_np(::pthread_self(), "survey");
  (void)look(false);
  while (true) {
    std::optional<std::uint64_t> request;
    {
      std::unique_lock lock(mutex_);
      asked_.wait(lock, [this] { return cancel_ || request_.has_value(); });
      if (cancel_) return;
      request = std::exchange(request_, std::nullopt);
    }
    std::vector<GranuleRange> free = look(free_space_);
    if (cancel_) return;
    answer(*request, std::move(free));
  }
}

std::vector<GranuleRange> SourceSurvey::look(bool free_space) {
  SurveyOptions options;
  options.disks = disks_;
  options.leave_out_swap = leave_out_swap_;
  options.free_space = free_space;
  Survey found = survey(options, cancel_);
  std::vector<GranuleRange> free;
  for (const DiskFreeSpace& disk : found.disks) {
    for (const SurveyDisk& known : disks_) {
      if (known.slot != disk.slot) continue;
      for (const Extent& extent : disk.free) {
        const std::uint64_t first = extent.offset_bytes / known.granule_bytes;
        const std::uint64_t end = (extent.end_bytes() + known.granule_bytes - 1) / known.granule_bytes;
        free.push_back({disk.slot, first, end - first});
      }
    }
  }
  std::lock_guard lock(mutex_);
  findings_ = std::move(found.findings);
  return free;
}

}  // namespace understudy
