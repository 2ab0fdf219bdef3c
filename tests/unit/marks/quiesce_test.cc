// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/quiesce.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

// Notes what is called, and fails where it is told to.
struct Recorder {
  std::string calls;
  std::string failing;  // the call that fails
  ErrorKind kind = ErrorKind::kBusy;
  MarkPolicy policy;
  MarkInfo described;

  Recorder() { policy.hooks = {{"a", "/a-pre", "/a-post"}, {"b", "/b-pre", "/b-post"}, {"c", "", "/c-post"}}; }

  Status call(const std::string& what) {
    calls += (calls.empty() ? "" : " ") + what;
    return what == failing ? Status(Error(kind, what + " failed")) : ok_status();
  }
  QuiesceOutcome run() {
    static constexpr const char* kPre[] = {"not-run", "failed", "ok"};
    QuiesceParts parts;
    parts.pre = [this](const Hook& hook) { return call("pre-" + hook.name); };
    parts.post = [this](const Hook& hook, PreResult pre, bool quiesced) {
      return call("post-" + hook.name + "(" + kPre[static_cast<int>(pre)] + (quiesced ? ",quiet" : "") + ")");
    };
    parts.prepare_freeze = [this] { return call("prepare"); };
    parts.freeze = [this] { return call("freeze"); };
    parts.thaw = [this] { return call("thaw"); };
    parts.place = [this](bool frozen) { return call(frozen ? "place(frozen)" : "place"); };
    parts.describe = [this](const MarkInfo& mark) {
      described = mark;
      (void)call("describe");
    };
    return run_quiesced("m", policy, parts);
  }
};

}  // namespace

TEST_CASE("quiesce: the whole sequence") {
  Recorder recorder;
  const QuiesceOutcome outcome = recorder.run();
  CHECK(recorder.calls ==
        "prepare pre-a pre-b freeze place(frozen) thaw describe post-c(ok,quiet) post-b(ok,quiet) "
        "post-a(ok,quiet)");
  CHECK(outcome.placed.ok());
  CHECK(recorder.described.consistency == Consistency::kApplication);
  CHECK(recorder.described.reason.empty());
  CHECK(recorder.described.name == "m");
}

TEST_CASE("quiesce: a pre hook that fails: crash-consistent with the reason, every post hook runs") {
  Recorder recorder;
  recorder.failing = "pre-a";
  const QuiesceOutcome outcome = recorder.run();
  CHECK(recorder.calls == "prepare pre-a place describe post-c(not-run) post-b(not-run) post-a(failed)");
  CHECK(outcome.placed.ok());
  CHECK(recorder.described.consistency == Consistency::kCrash);
  CHECK(recorder.described.reason == "pre-a failed");
}

TEST_CASE("quiesce: a freeze that fails") {
  Recorder recorder;
  recorder.failing = "freeze";
  recorder.run();
  CHECK(recorder.calls == "prepare pre-a pre-b freeze place describe post-c(ok) post-b(ok) post-a(ok)");
  CHECK(recorder.described.reason == "freeze failed");
  recorder = Recorder();
  recorder.failing = "prepare";
  recorder.run();
  CHECK(recorder.calls == "prepare place describe post-c(not-run) post-b(not-run) post-a(not-run)");
  CHECK(recorder.described.reason == "prepare failed");
}

TEST_CASE("quiesce: thawed too early: the mark does not claim what was not") {
  Recorder recorder;
  recorder.failing = "thaw";
  const QuiesceOutcome outcome = recorder.run();
  CHECK(recorder.calls == "prepare pre-a pre-b freeze place(frozen) thaw describe post-c(ok) post-b(ok) post-a(ok)");
  CHECK(outcome.placed.ok());
  CHECK(recorder.described.consistency == Consistency::kCrash);
  CHECK(recorder.described.reason == "thaw failed");
}

TEST_CASE("quiesce: no place within the deadline: thaw, then a crash-consistent place") {
  Recorder recorder;
  recorder.failing = "place(frozen)";
  recorder.kind = ErrorKind::kTimeout;
  const QuiesceOutcome outcome = recorder.run();
  CHECK(recorder.calls ==
        "prepare pre-a pre-b freeze place(frozen) thaw place describe post-c(ok) post-b(ok) post-a(ok)");
  CHECK(outcome.placed.ok());
  CHECK(recorder.described.reason == "place(frozen) failed");
}

TEST_CASE("quiesce: no place at all: no mark, everything is let go") {
  Recorder recorder;
  recorder.failing = "place(frozen)";
  const QuiesceOutcome outcome = recorder.run();
  CHECK(recorder.calls == "prepare pre-a pre-b freeze place(frozen) thaw post-c(ok) post-b(ok) post-a(ok)");
  CHECK_FALSE(outcome.placed.ok());
}

TEST_CASE("quiesce: a post hook that fails takes nothing from the mark") {
  Recorder recorder;
  recorder.failing = "post-b(ok,quiet)";
  const QuiesceOutcome outcome = recorder.run();
  CHECK(recorder.described.consistency == Consistency::kApplication);
  CHECK(outcome.warnings == std::vector<std::string>{"post-b(ok,quiet) failed"});
  CHECK(recorder.calls.ends_with("post-a(ok,quiet)"));
}

TEST_CASE("quiesce: hooks alone") {
  Recorder recorder;
  recorder.policy.freeze = false;
  recorder.run();
  CHECK(recorder.calls == "pre-a pre-b place describe post-c(ok,quiet) post-b(ok,quiet) post-a(ok,quiet)");
  CHECK(recorder.described.consistency == Consistency::kApplication);
}

}  // namespace understudy
