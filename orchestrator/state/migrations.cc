// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/state/migrations.h"

#include <array>
#include <string>

#include "orchestrator/state/database.h"
#include "orchestrator/state/orchestrator_state.h"

namespace understudy {
namespace {

// kMigrations[n] brings version n to n + 1. One that was released is never changed.
constexpr std::array<const char*, kStateVersion> kMigrations{
    R"sql(
CREATE TABLE declared (
  id TEXT NOT NULL, position INTEGER NOT NULL, path TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (id, position)) WITHOUT ROWID;
CREATE TABLE server (
  name TEXT NOT NULL PRIMARY KEY, group_id TEXT NOT NULL,
  state TEXT NOT NULL, drill TEXT NOT NULL, before TEXT NOT NULL, resume TEXT NOT NULL,
  realtime_reached INTEGER NOT NULL, restart_queued INTEGER NOT NULL, confirm_begun INTEGER NOT NULL,
  deregister_begun INTEGER NOT NULL, usable_point INTEGER NOT NULL, source_lost INTEGER NOT NULL,
  healthy INTEGER NOT NULL, drill_healthy INTEGER NOT NULL, client_version TEXT NOT NULL,
  applied_point TEXT NOT NULL, applied_drill TEXT NOT NULL, repair_done INTEGER NOT NULL,
  restart_done INTEGER NOT NULL, failed_over_ns INTEGER NOT NULL, rolled_back INTEGER NOT NULL,
  failures INTEGER NOT NULL, retry_at_ns INTEGER NOT NULL, failed_operation TEXT NOT NULL,
  newest_order INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE approval (
  object TEXT NOT NULL PRIMARY KEY, approved_by TEXT NOT NULL, given_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE task (
  id INTEGER PRIMARY KEY AUTOINCREMENT, group_id TEXT NOT NULL, server TEXT NOT NULL, operation TEXT NOT NULL,
  state TEXT NOT NULL, because TEXT NOT NULL, approved_by TEXT NOT NULL, destroys TEXT NOT NULL, step TEXT NOT NULL,
  error TEXT NOT NULL, progress_permille INTEGER NOT NULL, attempt INTEGER NOT NULL, begun_ns INTEGER NOT NULL,
  ended_ns INTEGER NOT NULL);
CREATE INDEX task_by_group ON task (group_id, id);
CREATE UNIQUE INDEX task_open ON task (server, (operation IN ('drill', 'clean-drill'))) WHERE state = 'open';
)sql",
    R"sql(
CREATE TABLE node (
  role TEXT NOT NULL, name TEXT NOT NULL, machine TEXT NOT NULL, enrolled_ns INTEGER NOT NULL,
  PRIMARY KEY (role, name)) WITHOUT ROWID;
CREATE TABLE enrolment (
  secret_sha256 TEXT NOT NULL PRIMARY KEY, role TEXT NOT NULL, name TEXT NOT NULL, made_by TEXT NOT NULL,
  made_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE orders (
  server TEXT NOT NULL PRIMARY KEY, task INTEGER NOT NULL, phase TEXT NOT NULL, epoch INTEGER NOT NULL,
  restart INTEGER NOT NULL, repair INTEGER NOT NULL, receiver TEXT NOT NULL, receiver_address TEXT NOT NULL,
  receiver_port INTEGER NOT NULL) WITHOUT ROWID;
)sql",
};

}  // namespace

Status migrate_state(Database& database) {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(database));
  std::uint64_t version = 0;
  {
    ASSIGN_OR_RETURN(Statement statement, database.prepare("PRAGMA user_version"));
    ASSIGN_OR_RETURN(const bool row, statement.step());
    CHECK(row);
    version = statement.number(0);
  }
  if (version > kStateVersion) {
    return Error(ErrorKind::kUnsupported, "the database has version " + std::to_string(version) +
                                              ", written by a newer program; this one knows versions up to " +
                                              std::to_string(kStateVersion) + ": install the newer one again");
  }
  for (; version < kStateVersion; ++version) RETURN_IF_ERROR(database.execute(kMigrations[version]));
  RETURN_IF_ERROR(database.execute("PRAGMA user_version=" + std::to_string(kStateVersion)));
  return transaction.commit();
}

}  // namespace understudy
