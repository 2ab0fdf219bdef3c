// SPDX-License-Identifier: Apache-2.0
// Makes marks: those of the policy at their times, and those that an operator asks for. One at a time, on a thread of
// its own, which may wait for hooks and file systems; nobody waits for it but who asks for a result.
//
// Threads: all public functions may be called from any thread. The functions of MarkServiceParts are called on the
// service's thread, except `on_event`, which is also called where a mark's `done` is.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "daemon/marks/file_systems.h"
#include "daemon/marks/mark_policy.h"
#include "daemon/record/record.h"

namespace understudy {

// A mark on its way into the stream.
struct MarkPlacement {
  std::string name;
  // What the mark says; nullopt = not known yet, hold the stream there. Bounded by itself; thread-safe.
  std::function<std::optional<MarkInfo>()> description;
  // Once: the seq when the mark is durable, or why there is none.
  std::function<void(Result<Seq>)> done;
};

struct MarkRequest {
  std::string label;  // empty = one is made of kind and time
  Consistency consistency = Consistency::kCrash;
};

struct MarkOutcome {
  enum class State : std::uint8_t {
    kQueued,
    kWorking,  // hooks, freeze
    kPlaced,   // it stands in the stream; the receiver has not acknowledged it yet
    kDurable,  // it is a point
    kFailed,   // there is no such mark
  };
  std::uint64_t id = 0;
  MarkRequest request;
  bool scheduled = false;
  State state = State::kQueued;
  std::uint64_t time_ns = 0;    // wall clock, when it got its place
  MarkInfo mark;                // from kPlaced on
  Seq seq = 0;                  // with kDurable
  std::uint64_t frozen_ns = 0;  // how long file systems stood still
  std::string error;            // with kFailed
  ErrorKind error_kind = ErrorKind::kInternal;
};
std::string_view mark_state_name(MarkOutcome::State state);

// What should be logged once.
struct MarkEvent {
  enum class Kind : std::uint8_t { kMade, kNotQuiesced, kFailed, kHookFailed };
  Kind kind = Kind::kMade;
  std::string text;
};

struct MarkServiceParts {
  MarkPolicy policy;
  std::string server;                                // for hooks
  std::string run_directory;                         // where hooks may keep files between pre and post; on no disk
  std::function<std::vector<DeviceNumber>()> disks;  // the protected ones, whole
  // An error when no mark could become a point now (the stream lacks writes): then applications are left alone.
  std::function<Status()> ready;
  // Gives the mark its place behind everything captured until then. Returns as soon as it has it; an error, at
  // `until_ns` (boot clock) at the latest, when it has none and will not get one.
  std::function<Status(MarkPlacement, std::uint64_t until_ns)> place;
  std::function<void(const MarkEvent&)> on_event;
  std::string guard_program = "/proc/self/exe";  // freezer.h
  const Clock* clock = &system_clock();
};

class MarkService {
 public:
  static Result<std::unique_ptr<MarkService>> start(MarkServiceParts parts);
  // stop().
  ~MarkService();
  MarkService(const MarkService&) = delete;
  MarkService& operator=(const MarkService&) = delete;

  // Takes effect after the mark that is being made.
  void set_policy(MarkPolicy policy);
  // Queues a mark; its number. kInvalidArgument: the label; kBusy: too many wait.
  Result<std::uint64_t> request(MarkRequest request);
  // kNotFound: never was, or is one of too many since.
  Result<MarkOutcome> outcome(std::uint64_t id) const;
  // The newest ones, oldest first.
  std::vector<MarkOutcome> recent() const;
  // When the next scheduled one of a kind is due, on the wall clock; 0 = never.
  std::uint64_t next_ns(Consistency consistency) const;
  // Ends what is under way: hooks are killed, file systems thawed, post hooks run. Idempotent.
  void stop();

 private:
  struct Shared;
  class Making;
  explicit MarkService(MarkServiceParts parts);
  void run();
  // The mark to be made now; nullopt after a wait.
  std::optional<std::uint64_t> next_job();
  std::optional<MarkRequest> scheduled();
  void make(std::uint64_t id);

  MarkServiceParts parts_;
  std::shared_ptr<Shared> shared_;          // also held by marks that wait for their acknowledgement
  std::unique_ptr<class Freezer> freezer_;  // the service's thread only
  std::thread thread_;
};

}  // namespace understudy
