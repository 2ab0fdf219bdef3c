// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/mark_service.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/marks/mark_service_impl.h"

namespace understudy {
namespace {

constexpr std::size_t kQueuedMax = 32;
// Clocks jump and machines sleep: looked at so often while a schedule runs.
constexpr std::uint64_t kLookNs = 5'000'000'000;
// A scheduled mark that could not be made is tried again.
constexpr std::uint64_t kRetryNs = 10'000'000'000;

}  // namespace

std::string_view mark_state_name(MarkOutcome::State state) {
  switch (state) {
    case MarkOutcome::State::kQueued: return "queued";
    case MarkOutcome::State::kWorking: return "working";
    case MarkOutcome::State::kPlaced: return "placed";
    case MarkOutcome::State::kDurable: return "durable";
    case MarkOutcome::State::kFailed: return "failed";
  }
  return "unknown";
}

MarkService::MarkService(MarkServiceParts parts) : parts_(std::move(parts)) {
  shared_ = std::make_shared<Shared>(parts_.policy, parts_.clock->wall_ns());
  shared_->on_event = parts_.on_event;
}

Result<std::unique_ptr<MarkService>> MarkService::start(MarkServiceParts parts) {
  std::unique_ptr<MarkService> service(new MarkService(std::move(parts)));
  try {
    service->thread_ = std::thread([raw = service.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return Error::from_errno(error.code().value(), "start the thread of marks");
  }
  return service;
}

MarkService::~MarkService() { stop(); }

void MarkService::stop() {
  shared_->stop = true;
  { std::lock_guard lock(shared_->mutex); }  // not between a look at `stop` and the sleep behind it
  shared_->changed.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MarkService::set_policy(MarkPolicy policy) {
  std::lock_guard lock(shared_->mutex);
  const std::uint64_t wall_ns = parts_.clock->wall_ns();
  if (!(policy.crash_consistent == shared_->policy.crash_consistent))
    shared_->crash = MarkSchedule(policy.crash_consistent, wall_ns);
  if (!(policy.application_consistent == shared_->policy.application_consistent))
    shared_->application = MarkSchedule(policy.application_consistent, wall_ns);
  shared_->policy = std::move(policy);
  shared_->changed.notify_all();
}

Result<std::uint64_t> MarkService::request(MarkRequest request) {
  if (!request.label.empty() && !is_valid_name(request.label)) {
    return Error(ErrorKind::kInvalidArgument,
                 "label " + quote(request.label) + ": a label has 1 to 255 bytes of UTF-8 without control characters");
  }
  std::lock_guard lock(shared_->mutex);
  if (shared_->queue.size() >= kQueuedMax) {
    return Error(ErrorKind::kBusy, std::to_string(kQueuedMax) + " marks wait to be made already");
  }
  const std::uint64_t id = shared_->add(std::move(request), false);
  shared_->queue.push_back(id);
  shared_->changed.notify_all();
  return id;
}

Result<MarkOutcome> MarkService::outcome(std::uint64_t id) const {
  std::lock_guard lock(shared_->mutex);
  if (const MarkOutcome* found = shared_->find(id)) return *found;
  return Error(ErrorKind::kNotFound, "mark number " + std::to_string(id) + " is not known (any more)");
}

std::vector<MarkOutcome> MarkService::recent() const {
  std::lock_guard lock(shared_->mutex);
  return {shared_->outcomes.begin(), shared_->outcomes.end()};
}

std::uint64_t MarkService::next_ns(Consistency consistency) const {
  std::lock_guard lock(shared_->mutex);
  return consistency == Consistency::kCrash ? shared_->crash.next_ns() : shared_->application.next_ns();
}

void MarkService::run() {
  ::pthread_setname_np(::pthread_self(), "marks");
  while (!shared_->stop) {
    if (const auto id = next_job()) make(*id);
  }
}

std::optional<std::uint64_t> MarkService::next_job() {
  {
    std::lock_guard lock(shared_->mutex);
    if (!shared_->queue.empty()) {
      const std::uint64_t id = shared_->queue.front();
      shared_->queue.pop_front();
      return id;
    }
  }
  if (auto request = scheduled()) {
    std::lock_guard lock(shared_->mutex);
    return shared_->add(*std::move(request), true);
  }
  std::unique_lock lock(shared_->mutex);
  if (shared_->stop || !shared_->queue.empty()) return std::nullopt;
  if (shared_->crash.next_ns() == 0 && shared_->application.next_ns() == 0 && !shared_->owed) {
    shared_->changed.wait(lock);
    return std::nullopt;
  }
  std::uint64_t wait_ns = kLookNs;
  const std::uint64_t wall_ns = parts_.clock->wall_ns();
  for (const std::uint64_t next : {shared_->crash.next_ns(), shared_->application.next_ns()}) {
    if (next != 0) wait_ns = std::min(wait_ns, next > wall_ns ? next - wall_ns : 0);
  }
  // A millisecond more than needed, not to turn in place just before the slot.
  shared_->changed.wait_for(lock, std::chrono::nanoseconds(wait_ns + 1'000'000));
  return std::nullopt;
}

// An application-consistent mark serves both schedules. What could not be made at its time is owed, once.
std::optional<MarkRequest> MarkService::scheduled() {
  const std::uint64_t boot_ns = parts_.clock->boot_ns();
  {
    std::lock_guard lock(shared_->mutex);
    const std::uint64_t wall_ns = parts_.clock->wall_ns();
    const bool application = shared_->application.due(wall_ns, boot_ns);
    const bool crash = shared_->crash.due(wall_ns, boot_ns);
    if (application || crash) {
      const bool owed_application = shared_->owed == Consistency::kApplication;
      shared_->owed = application || owed_application ? Consistency::kApplication : Consistency::kCrash;
      shared_->retry_ns = boot_ns;
    }
    if (!shared_->owed || boot_ns < shared_->retry_ns) return std::nullopt;
    shared_->retry_ns = boot_ns + kRetryNs;
  }
  // Not under the lock: the replication may be waiting for it to tell us about another mark.
  const Status ready = parts_.ready();
  std::unique_lock lock(shared_->mutex);
  if (ready.ok()) {
    shared_->owed_told = false;
    const Consistency consistency = *std::exchange(shared_->owed, std::nullopt);
    if (consistency == Consistency::kApplication) shared_->crash.satisfied(boot_ns);
    return MarkRequest{"", consistency};
  }
  const bool told = std::exchange(shared_->owed_told, true);
  lock.unlock();
  if (!told) {
    shared_->on_event({MarkEvent::Kind::kFailed,
                       "scheduled mark: " + ready.error().message() + ", retrying in " + format_duration_ns(kRetryNs)});
  }
  return std::nullopt;
}

}  // namespace understudy
