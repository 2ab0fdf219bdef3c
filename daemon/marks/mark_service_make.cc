// SPDX-License-Identifier: Apache-2.0
// The making of one mark: names, hooks, freezes, places.
#include <algorithm>
#include <ctime>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/marks/freeze_targets.h"
#include "daemon/marks/hook_runner.h"
#include "daemon/marks/mark_service_impl.h"
#include "daemon/marks/quiesce.h"

namespace understudy {
namespace {

// For the replication to give a mark its place, when no freeze sets a shorter limit.
constexpr std::uint64_t kPlaceNs = 10'000'000'000;
// How long the stream waits at a mark for its description: a thaw is a matter of milliseconds.
constexpr std::uint64_t kHoldNsMax = 5'000'000'000;
// What a stop of the agent leaves to a post hook.
constexpr std::uint64_t kStopHookNs = 10'000'000'000;

std::string made_label(Consistency consistency, std::uint64_t wall_ns) {
  const auto seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  (void)std::strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &utc);
  return (consistency == Consistency::kCrash ? "crash-" : "application-") + std::string(text);
}

// What a mark will say, between the thread that finds out and the one that writes it into the stream.
class Ticket {
 public:
  explicit Ticket(std::string name) : name_(std::move(name)) {}

  void describe(const MarkInfo& mark) {
    std::lock_guard lock(mutex_);
    if (!mark_) mark_ = mark;
  }
  // The thread that finds out may be stuck in the kernel; the stream is not to be.
  std::optional<MarkInfo> read(std::uint64_t boot_ns) {
    std::lock_guard lock(mutex_);
    if (first_read_ns_ == 0) first_read_ns_ = boot_ns;
    if (!mark_ && boot_ns - first_read_ns_ > kHoldNsMax) {
      mark_ = MarkInfo{name_, Consistency::kCrash, "it was not known in time whether all file systems stood still"};
    }
    return mark_;
  }

 private:
  const std::string name_;
  std::mutex mutex_;
  std::optional<MarkInfo> mark_;
  std::uint64_t first_read_ns_ = 0;
};

std::string seconds_text(std::uint64_t duration_ns) {
  return std::to_string((duration_ns + 999'999'999) / 1'000'000'000);
}

std::string_view pre_word(PreResult pre) {
  switch (pre) {
    case PreResult::kNotRun: return "not-run";
    case PreResult::kFailed: return "failed";
    case PreResult::kOk: return "ok";
  }
  return "not-run";
}

// With the hook's own words, which is where the cause stands.
Status with_output(HookResult result, const std::string& what) {
  if (result.status.ok()) return ok_status();
  std::string words = result.output.empty() ? "" : ", it said: " + result.output + (result.output_cut ? " ..." : "");
  return Error(result.status.error().kind(), what + ": " + result.status.error().message() + words);
}

}  // namespace

// One mark that is being made.
class MarkService::Making {
 public:
  Making(MarkService& service, std::uint64_t id, MarkRequest request, MarkPolicy policy)
      : service_(service),
        parts_(service.parts_),
        shared_(service.shared_),
        id_(id),
        policy_(std::move(policy)),
        wanted_(request.consistency),
        name_(request.label.empty() ? made_label(request.consistency, parts_.clock->wall_ns()) : request.label),
        ticket_(std::make_shared<Ticket>(name_)) {}

  void run() {
    Status status = parts_.ready();
    if (status.ok() && wanted_ == Consistency::kCrash) {
      ticket_->describe({name_, Consistency::kCrash, ""});
      status = place(parts_.clock->boot_ns() + kPlaceNs);
    } else if (status.ok()) {
      status = make_quiesced();
    }
    if (status.ok()) return;
    finish(*shared_, id_, wanted_, *ticket_, std::move(status).error().with_context("mark '" + name_ + "'"));
  }

 private:
  Status make_quiesced() {
    QuiesceParts steps;
    steps.pre = [this](const Hook& hook) { return pre(hook); };
    steps.post = [this](const Hook& hook, PreResult result, bool quiesced) { return post(hook, result, quiesced); };
    steps.prepare_freeze = [this] { return prepare_freeze(); };
    steps.freeze = [this] {
      frozen_since_ns_ = parts_.clock->boot_ns();
      return freezer().freeze();
    };
    steps.thaw = [this] { return thaw(); };
    steps.place = [this](bool frozen) {
      // A freeze must not wait for a replication that does not turn; without one there is time.
      return place(frozen ? frozen_since_ns_ + policy_.freeze_deadline_ns : parts_.clock->boot_ns() + kPlaceNs);
    };
    steps.describe = [this](const MarkInfo& mark) { ticket_->describe(mark); };
    const QuiesceOutcome outcome = run_quiesced(name_, policy_, steps);
    freezer().abandon();  // a guard that was prepared, and not needed because a hook failed
    for (const std::string& warning : outcome.warnings) shared_->on_event({MarkEvent::Kind::kHookFailed, warning});
    return outcome.placed;
  }

  Freezer& freezer() {
    if (!service_.freezer_) service_.freezer_ = std::make_unique<Freezer>(parts_.guard_program);
    return *service_.freezer_;
  }

  Status prepare_freeze() {
    ASSIGN_OR_RETURN(const auto file_systems, file_systems_on(parts_.disks()));
    ASSIGN_OR_RETURN(auto targets, open_freeze_targets(file_systems));
    return freezer().prepare(std::move(targets), policy_.freeze_deadline_ns);
  }

  Status thaw() {
    Status status = freezer().thaw();
    std::lock_guard lock(shared_->mutex);
    if (MarkOutcome* outcome = shared_->find(id_)) outcome->frozen_ns = parts_.clock->boot_ns() - frozen_since_ns_;
    return status;
  }

  // Until `until_ns`. What was placed but not described yet waits for describe().
  Status place(std::uint64_t until_ns) {
    MarkPlacement placement;
    placement.name = name_;
    placement.description = [ticket = ticket_, clock = parts_.clock] { return ticket->read(clock->boot_ns()); };
    placement.done = [shared = shared_, id = id_, wanted = wanted_, ticket = ticket_](Result<Seq> result) {
      finish(*shared, id, wanted, *ticket, std::move(result));
    };
    RETURN_IF_ERROR(parts_.place(std::move(placement), until_ns));
    std::lock_guard lock(shared_->mutex);
    MarkOutcome* outcome = shared_->find(id_);
    if (outcome != nullptr && outcome->state == MarkOutcome::State::kWorking) {
      outcome->state = MarkOutcome::State::kPlaced;
      outcome->time_ns = parts_.clock->wall_ns();
    }
    return ok_status();
  }

  // Whatever became of it. Also called where the acknowledgement arrives, long after this object is gone.
  static void finish(Shared& shared, std::uint64_t id, Consistency wanted, Ticket& ticket, Result<Seq> result) {
    MarkEvent event;
    {
      std::lock_guard lock(shared.mutex);
      MarkOutcome forgotten;
      MarkOutcome* found = shared.find(id);
      MarkOutcome& outcome = found != nullptr ? *found : forgotten;
      outcome.state = result.ok() ? MarkOutcome::State::kDurable : MarkOutcome::State::kFailed;
      if (result.ok()) {
        outcome.mark = ticket.read(0).value();  // described, or it would not be durable
        outcome.seq = *result;
        event = made_event(outcome, wanted);
      } else {
        outcome.error = result.error().message();
        outcome.error_kind = result.error().kind();
        event = {MarkEvent::Kind::kFailed, outcome.error};
      }
    }
    shared.on_event(event);
  }

  static MarkEvent made_event(const MarkOutcome& outcome, Consistency wanted) {
    const bool less = wanted == Consistency::kApplication && outcome.mark.consistency == Consistency::kCrash;
    std::string text = "mark '" + outcome.mark.name + "' at seq " + std::to_string(outcome.seq) + " is ";
    text += outcome.mark.consistency == Consistency::kApplication ? "application-consistent" : "crash-consistent";
    if (less) return {MarkEvent::Kind::kNotQuiesced, text + " only: " + outcome.mark.reason};
    if (outcome.frozen_ns != 0) text += ", file systems stood still for " + format_duration_ns(outcome.frozen_ns);
    return {MarkEvent::Kind::kMade, text};
  }

  Status pre(const Hook& hook) {
    return with_output(run_hook(call(hook, hook.pre, "pre"), &shared_->stop), "pre hook '" + hook.name + "'");
  }

  // Also when the agent stops: what the pre hook holds must be let go.
  Status post(const Hook& hook, PreResult result, bool quiesced) {
    HookCall wanted = call(hook, hook.post, "post");
    wanted.environment.push_back("UNDERSTUDY_PRE_RESULT=" + std::string(pre_word(result)));
    wanted.environment.push_back(std::string("UNDERSTUDY_QUIESCED=") + (quiesced ? "yes" : "no"));
    if (shared_->stop) wanted.timeout_ns = std::min(wanted.timeout_ns, kStopHookNs);
    return with_output(run_hook(wanted), "post hook '" + hook.name + "'");
  }

  HookCall call(const Hook& hook, const std::string& program, const std::string& phase) const {
    HookCall call;
    call.program = program;
    call.timeout_ns = hook.timeout_ns;
    // What a pre hook may hold at most: until all the hooks behind it have run and the file systems are thawed.
    std::uint64_t hold_ns = policy_.freeze_deadline_ns;
    for (const Hook& other : policy_.hooks) hold_ns += other.timeout_ns;
    call.environment = {"UNDERSTUDY_PHASE=" + phase,
                        "UNDERSTUDY_HOOK=" + hook.name,
                        "UNDERSTUDY_SERVER=" + parts_.server,
                        "UNDERSTUDY_MARK=" + name_,
                        "UNDERSTUDY_RUN_DIRECTORY=" + parts_.run_directory,
                        "UNDERSTUDY_TIMEOUT_SECONDS=" + seconds_text(hook.timeout_ns),
                        "UNDERSTUDY_HOLD_SECONDS=" + seconds_text(hold_ns)};
    return call;
  }

  MarkService& service_;
  const MarkServiceParts& parts_;
  const std::shared_ptr<Shared> shared_;
  const std::uint64_t id_;
  const MarkPolicy policy_;
  const Consistency wanted_;
  const std::string name_;
  const std::shared_ptr<Ticket> ticket_;
  std::uint64_t frozen_since_ns_ = 0;  // boot clock; 0 = no freeze was tried
};

void MarkService::make(std::uint64_t id) {
  std::unique_lock lock(shared_->mutex);
  MarkOutcome* outcome = shared_->find(id);
  if (outcome == nullptr) return;
  outcome->state = MarkOutcome::State::kWorking;
  Making making(*this, id, outcome->request, shared_->policy);
  lock.unlock();
  making.run();
}

}  // namespace understudy
