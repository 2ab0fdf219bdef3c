// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/replication_record.h"

#include "daemon/base/atomic_file.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

#include <cstdlib>
#include <filesystem>

namespace understudy {
namespace {

struct Directory {
  Directory() {
    char name[] = "/tmp/replication-record-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string path;
};

}  // namespace

TEST_CASE("replication record: every state comes back as it was kept") {
  const Directory directory;
  const auto fresh = load_replication_record(directory.path);
  REQUIRE(fresh.ok());
  CHECK(fresh->state == ReplicationStateName::kInitialized);
  for (std::size_t i = 0; i < kReplicationStates; ++i) {
    for (const Direction direction : {Direction::kForward, Direction::kReverse}) {
      ReplicationState state;
      state.state = static_cast<ReplicationStateName>(i);
      state.direction = direction;
      state.resume = ResumePhase::kRepair;
      state.repair_begun = true;
      state.reason = ErrorReason::kFenced;
      REQUIRE(save_replication_record(directory.path, state).ok());
      const auto back = load_replication_record(directory.path);
      REQUIRE(back.ok());
      // Forward, the two starting states share a name; for a new process they are one.
      CHECK(state_code(back->state, direction) == state_code(state.state, direction));
      const bool same = same_record(*back, state);
      CHECK((same || (direction == Direction::kForward && state.state == ReplicationStateName::kFullStarting)));
    }
  }
}

TEST_CASE("replication record: what cannot be understood is an error that names the file, and so is a newer version") {
  const Directory directory;
  const std::string path = directory.path + "/replication.json";
  for (const char* bad : {"", "{}", "{\"version\":1}",
                          "{\"version\":1,\"direction\":\"forward\",\"state\":\"idle\"}"}) {
    CAPTURE(bad);
    REQUIRE(write_file_atomically(path, std::string_view(bad)).ok());
    const auto state = load_replication_record(directory.path);
    REQUIRE_FALSE(state.ok());
    CHECK(state.error().kind() == ErrorKind::kCorrupt);
    CHECK(state.error().message().find(path) != std::string::npos);
  }
  REQUIRE(write_file_atomically(path, std::string_view("{\"version\":2}")).ok());
  CHECK(load_replication_record(directory.path).error().kind() == ErrorKind::kUnsupported);
}

TEST_CASE("replication recorder: an older change does not undo a newer one") {
  const Directory directory;
  ReplicationRecorder recorder(directory.path);
  ReplicationState stopped;
  stopped.state = ReplicationStateName::kRealtimeStopped;
  ReplicationState running;
  running.state = ReplicationStateName::kRealtime;
  REQUIRE(recorder.save(2, stopped).ok());
  REQUIRE(recorder.save(1, running).ok());
  CHECK(load_replication_record(directory.path)->state == ReplicationStateName::kRealtimeStopped);
  REQUIRE(recorder.save(3, running).ok());
  CHECK(load_replication_record(directory.path)->state == ReplicationStateName::kRealtime);
}

}  // namespace understudy
