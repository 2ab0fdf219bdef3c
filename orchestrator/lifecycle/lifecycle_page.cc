// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/lifecycle/lifecycle_page.h"

#include "orchestrator/lifecycle/lifecycle.h"
#include "orchestrator/lifecycle/transitions.h"

namespace understudy {
namespace {

std::string target_text(const Transition& row) {
  if (row.effect == TransitionEffect::kReturn) return "(the state before)";
  std::string text(lifecycle_state_name(row.to));
  if (row.effect == TransitionEffect::kQueueRestart) text += " (runs when it has ended)";
  return text;
}

std::string condition_text(TransitionGuard guard, bool strict) {
  std::string text(guard_text(guard));
  if (!strict) text += std::string(text.empty() ? "" : "; ") + "not in strict mode";
  return text;
}

std::string row_text(std::string_view id, std::string_view from, std::string_view trigger, std::string_view to,
                     std::string_view condition) {
  std::string text = "|";
  for (const std::string_view cell : {id, from, trigger, to, condition}) {
    text += cell.empty() ? " |" : " " + std::string(cell) + " |";
  }
  return text + "\n";
}

std::string state_rows() {
  std::string text;
  for (const LifecycleState state : all_lifecycle_states()) {
    std::string operations;
    for (const Transition& row : transitions()) {
      const std::string name(trigger_name(row.trigger));
      if (row.from != state || !is_operation(row.trigger)) continue;
      operations += (operations.empty() ? "" : ", ") + name + (row.strict ? "" : " (+)");
    }
    for (const DrillStart& start : drill_starts()) {
      if (start.from != state) continue;
      operations += std::string(operations.empty() ? "" : ", ") + "drill" + (start.strict ? "" : " (+)");
    }
    text += "| " + std::to_string(static_cast<int>(state)) + " | " + std::string(lifecycle_state_name(state)) + " | " +
            std::string(state_kind_name(lifecycle_state_kind(state))) + " |" +
            (operations.empty() ? "" : " " + operations) + " |\n";
  }
  return text;
}

}  // namespace

std::string lifecycle_page() {
  std::string text =
      "# The lifecycle of a protected server\n"
      "\n"
      "Made from `transitions.cc` (`UNDERSTUDY_GOLDEN_WRITE=1 build/tests/golden/golden_lifecycle`); a test compares\n"
      "the two. The diagram stands in `lifecycle.h`.\n"
      "\n"
      "## States, and the operations each takes\n"
      "\n"
      "(+) = not in strict mode. A drill that is there can be cleaned in every state.\n"
      "\n"
      "| number | state | kind | operations |\n"
      "|---|---|---|---|\n" +
      state_rows() +
      "\n"
      "## Transitions\n"
      "\n"
      "The first row that fits counts. What no row says is refused when it was asked for, and means nothing when it\n"
      "happened.\n"
      "\n"
      "| id | from | operation or event | to | when |\n"
      "|---|---|---|---|---|\n";
  for (const Transition& row : transitions()) {
    text += row_text(row.id, lifecycle_state_name(row.from), trigger_name(row.trigger), target_text(row),
                     condition_text(row.guard, row.strict));
  }
  text +=
      "\n"
      "## The drill, beside the state\n"
      "\n"
      "| id | from | operation or event | to | when |\n"
      "|---|---|---|---|---|\n";
  for (const DrillTransition& row : drill_transitions()) {
    text += row_text(row.id, drill_state_name(row.from), trigger_name(row.trigger), drill_state_name(row.to),
                     row.trigger == Trigger::kDrill ? "the server's state takes it" : "");
  }
  return text;
}

}  // namespace understudy
