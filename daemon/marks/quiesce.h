// SPDX-License-Identifier: Apache-2.0
// The sequence of an application-consistent mark. Pure but for the parts it is given.
//
//   prepare freeze -> pre hooks, in order -> freeze -> PLACE -> thaw -> describe -> post hooks, in reverse order
//
// Whatever fails before the mark has its place, the mark is made nevertheless: crash-consistent, with the reason in its
// record. Every post hook runs, always, also those whose pre hook did not: what one may have left held must be let go.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/marks/mark_policy.h"
#include "daemon/record/record.h"

namespace understudy {

// How far the pre hook of a hook got, for its post hook.
enum class PreResult : std::uint8_t { kNotRun, kFailed, kOk };

struct QuiesceParts {
  std::function<Status(const Hook&)> pre;
  std::function<Status(const Hook&, PreResult, bool quiesced)> post;
  // May take long and may fail without harm: nothing stands still yet.
  std::function<Status()> prepare_freeze;
  std::function<Status()> freeze;                 // all or nothing
  std::function<Status()> thaw;                   // ok = frozen until now
  std::function<Status(bool frozen)> place;       // fixes where the mark stands; frozen: kTimeout at the deadline
  std::function<void(const MarkInfo&)> describe;  // what it says
};

struct QuiesceOutcome {
  Status placed;  // an error: there is no mark at all
  MarkInfo mark;
  std::vector<std::string> warnings;  // of what failed behind the mark: it is as good as it says nevertheless
};

QuiesceOutcome run_quiesced(const std::string& name, const MarkPolicy& policy, const QuiesceParts& parts);

}  // namespace understudy
