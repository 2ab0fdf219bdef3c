// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/quiesce.h"

#include <utility>

namespace understudy {

QuiesceOutcome run_quiesced(const std::string& name, const MarkPolicy& policy, const QuiesceParts& parts) {
  QuiesceOutcome outcome;
  outcome.mark.name = name;
  std::string reason;
  const auto note = [&reason](const Status& status) {
    if (!status.ok() && reason.empty()) reason = status.error().message();
    return status.ok();
  };

  std::vector<PreResult> pre(policy.hooks.size(), PreResult::kNotRun);
  bool calm = !policy.freeze || note(parts.prepare_freeze());
  for (std::size_t i = 0; calm && i < policy.hooks.size(); ++i) {
    calm = policy.hooks[i].pre.empty() || note(parts.pre(policy.hooks[i]));
    pre[i] = calm ? PreResult::kOk : PreResult::kFailed;
  }
  const bool frozen = calm && policy.freeze && note(parts.freeze());
  outcome.placed = parts.place(frozen);
  if (frozen) note(parts.thaw());
  if (frozen && !outcome.placed.ok() && outcome.placed.error().kind() == ErrorKind::kTimeout) {
    note(outcome.placed);
    outcome.placed = parts.place(false);
  }
  outcome.mark.reason = mark_reason(reason);
  outcome.mark.consistency = reason.empty() ? Consistency::kApplication : Consistency::kCrash;
  if (outcome.placed.ok()) parts.describe(outcome.mark);

  const bool quiesced = outcome.placed.ok() && reason.empty();
  for (std::size_t i = policy.hooks.size(); i-- > 0;) {
    if (policy.hooks[i].post.empty()) continue;
    if (Status status = parts.post(policy.hooks[i], pre[i], quiesced); !status.ok()) {
      outcome.warnings.push_back(status.error().message());
    }
  }
  return outcome;
}

}  // namespace understudy
