// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/replication_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <system_error>

namespace understudy {
namespace {

constexpr std::uint64_t kStatusIntervalNs = 1'000'000'000;
// While a read is under way the thread sleeps on the read engine, not on the ring, and looks at the ring this often.
constexpr std::uint64_t kReadingNs = 1'000'000;

}  // namespace

Result<std::unique_ptr<ReplicationThread>> ReplicationThread::start(Parts parts) {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error::from_errno(errno, "create eventfd");
  std::unique_ptr<ReplicationThread> thread(new ReplicationThread(std::move(parts), std::move(wake)));
  try {
    thread->thread_ = std::thread([raw = thread.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return Error::from_errno(error.code().value(), "start the replication thread");
  }
  return thread;
}

ReplicationThread::ReplicationThread(Parts parts, UniqueFd wake) : parts_(std::move(parts)), wake_fd_(std::move(wake)) {
  replicator_ = std::make_unique<Replicator>(parts_.options, *parts_.tracker, *parts_.reader, *parts_.link,
                                             system_clock(), parts_.digest_reader.get());
  last_status_ = replicator_->status();
  last_step_ns_ = last_status_ns_ = system_clock().boot_ns();
  told_state_ = parts_.options.state;
  parts_.link->set_waker([this] { this->wake(); });
}

ReplicationThread::~ReplicationThread() {
  stop_now_ = true;
  wake();
  if (thread_.joinable()) thread_.join();
  // Batches in the link point into the reader's buffers and the tracker's ring; the link calls the waker until its end.
  parts_.link.reset();
  replicator_.reset();
  parts_.reader.reset();
  parts_.digest_reader.reset();
  parts_.tracker.reset();
}

void ReplicationThread::wake() {
  ::eventfd_write(wake_fd_.get(), 1);
  parts_.tracker->wake();
}

void ReplicationThread::post(std::function<void(Replicator&)> work) {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  wake();
}

void ReplicationThread::run_posted() {
  std::vector<std::function<void(Replicator&)>> work;
  {
    std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (auto& one : work) one(*replicator_);
}

void ReplicationThread::run() {
  ::pthread_setname_np(::pthread_self(), "replication");
  std::uint64_t status_at_ns = 0;
  while (!stop_now_) {
    run_posted();
    const StepResult result = replicator_->step();
    watch_state();
    const std::uint64_t now_ns = system_clock().boot_ns();
    last_step_ns_.store(now_ns, std::memory_order_relaxed);
    while (auto event = replicator_->take_event()) parts_.on_event(*event);
    if (const auto request = replicator_->take_survey_request(); request && parts_.on_survey_wanted) {
      parts_.on_survey_wanted(*request);
    }
    if (status_at_ns == 0 || now_ns - status_at_ns >= kStatusIntervalNs) {
      status_at_ns = now_ns;
      const ReplicationStatus status = replicator_->status();
      parts_.on_status(status);
      std::lock_guard lock(mutex_);
      last_status_ = status;
      last_status_ns_ = now_ns;
    }
    if (stop_deadline_ns_ != 0) {
      if (replicator_->stop_complete() || now_ns >= stop_deadline_ns_) {
        const ReplicationStatus last = replicator_->status();
        drained_ = last.backlog_bytes == 0;
        std::lock_guard lock(mutex_);
        last_status_ = last;
        last_status_ns_ = now_ns;
        return;
      }
    }
    if (result.wait != StepResult::Wait::kNot) sleep(result);
  }
}

void ReplicationThread::sleep(const StepResult& result) {
  const std::uint64_t now_ns = system_clock().boot_ns();
  std::uint64_t until_ns = result.until_ns;
  if (stop_deadline_ns_ != 0) until_ns = std::min(until_ns, stop_deadline_ns_);
  const bool copying = parts_.reader->in_progress() > 0;
  const bool comparing = parts_.digest_reader != nullptr && parts_.digest_reader->in_progress() > 0;
  const bool reading = copying || comparing;
  if (result.wait == StepResult::Wait::kEvents && !reading) {
    if (until_ns > now_ns) parts_.tracker->wait(std::chrono::nanoseconds(until_ns - now_ns));
    return;
  }
  if (result.wait == StepResult::Wait::kEvents) until_ns = std::min(until_ns, now_ns + kReadingNs);
  const std::uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
  const timespec timeout{.tv_sec = static_cast<time_t>(left_ns / 1'000'000'000),
                         .tv_nsec = static_cast<long>(left_ns % 1'000'000'000)};
  // A descriptor below zero is not looked at.
  pollfd descriptors[3] = {
      {.fd = wake_fd_.get(), .events = POLLIN, .revents = 0},
      {.fd = copying ? parts_.reader->engine().event_fd() : -1, .events = POLLIN, .revents = 0},
      {.fd = comparing ? parts_.digest_reader->engine().event_fd() : -1, .events = POLLIN, .revents = 0}};
  if (::ppoll(descriptors, 3, &timeout, nullptr) > 0 && descriptors[0].revents != 0) {
    eventfd_t value = 0;
    ::eventfd_read(wake_fd_.get(), &value);
  }
}

ReplicationStatus ReplicationThread::status(std::uint64_t timeout_ns) {
  auto promise = std::make_shared<std::promise<ReplicationStatus>>();
  auto future = promise->get_future();
  post([promise](Replicator& replicator) { promise->set_value(replicator.status()); });
  if (future.wait_for(std::chrono::nanoseconds(timeout_ns)) == std::future_status::ready) return future.get();
  std::lock_guard lock(mutex_);
  return aged(last_status_, system_clock().boot_ns() - last_status_ns_);
}

void ReplicationThread::watch_state() {
  const ReplicationState& state = replicator_->replication_state();
  const bool same = state.state == told_state_.state && state.direction == told_state_.direction &&
                    state.resume == told_state_.resume && state.repair_begun == told_state_.repair_begun &&
                    state.reason == told_state_.reason;
  if (same) return;
  told_state_ = state;
  ++state_changes_;
  if (parts_.on_state) parts_.on_state(state_changes_, state);
}

Result<ReplicationThread::Commanded> ReplicationThread::command(ReplicationCommand command, std::uint64_t timeout_ns) {
  auto promise = std::make_shared<std::promise<Result<Commanded>>>();
  auto future = promise->get_future();
  post([this, promise, command](Replicator& replicator) {
    Status status = replicator.command(command);
    if (!status.ok()) {
      promise->set_value(std::move(status).error());
      return;
    }
    watch_state();
    promise->set_value(Commanded{state_changes_, replicator.replication_state()});
  });
  if (future.wait_for(std::chrono::nanoseconds(timeout_ns)) == std::future_status::ready) return future.get();
  return Error(ErrorKind::kTimeout, "the replication thread does not answer");
}

bool ReplicationThread::drain_and_stop(std::uint64_t timeout_ns) {
  const std::uint64_t deadline_ns = system_clock().boot_ns() + std::max<std::uint64_t>(timeout_ns, 1);
  post([this, deadline_ns](Replicator& replicator) {
    replicator.request_stop();
    stop_deadline_ns_ = deadline_ns;
  });
  if (thread_.joinable()) thread_.join();
  return drained_;
}

Status ReplicationThread::detach() {
  CHECK(!thread_.joinable());
  return parts_.tracker->detach();
}

}  // namespace understudy
