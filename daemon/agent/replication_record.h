// SPDX-License-Identifier: Apache-2.0
// What outlives the agent of the state of replication: `<state directory>/replication.json`. Written when the state
// changes, never per record.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "daemon/replicate/replication_state.h"

namespace understudy {

// What is kept; without a file, `initialized`. kCorrupt when it cannot be understood, kUnsupported for a newer version:
// a stop that an operator asked for must not be forgotten silently.
Result<ReplicationState> load_replication_record(const std::string& directory);
// Atomic and durable when it returns.
Status save_replication_record(const std::string& directory, const ReplicationState& state);

// Whether the two differ in what is kept.
bool same_record(const ReplicationState& a, const ReplicationState& b);

// Saves what is newer than what was saved last. Thread-safe.
class ReplicationRecorder {
 public:
  explicit ReplicationRecorder(std::string directory) : directory_(std::move(directory)) {}
  // `number` counts changes; an older one than that of the last call is ignored.
  Status save(std::uint64_t number, const ReplicationState& state);

 private:
  const std::string directory_;
  std::mutex mutex_;
  std::uint64_t saved_number_ = 0;
  std::optional<ReplicationState> saved_;
};

}  // namespace understudy
