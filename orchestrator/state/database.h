// SPDX-License-Identifier: Apache-2.0
// SQLite behind Result: one connection, write-ahead log, every commit on stable storage before it returns. Only
// orchestrator_state.cc uses it. Not thread-safe. Source: sqlite.org/wal.html, sqlite.org/c3ref.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace understudy {

// A prepared statement: bind(), then step() row by row. The first error is kept and comes back from step().
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  // Values are bound from left to right.
  Statement& bind(std::string_view text);
  Statement& bind(std::uint64_t number);  // CHECKed to fit SQLite's signed 64 bits

  // true = there is a row, to be read by column; false = finished.
  Result<bool> step();
  Status run();  // for statements without rows
  std::string text(int column) const;
  std::uint64_t number(int column) const;

 private:
  friend class Database;
  Statement(sqlite3* connection, sqlite3_stmt* statement) : connection_(connection), statement_(statement) {}
  sqlite3* connection_;
  sqlite3_stmt* statement_;
  int bound_ = 0;
  int code_ = 0;
};

// What a commit survives. kProcess is for tests that lose the process and not the machine: it saves every fsync.
enum class Durability : std::uint8_t { kPowerCut, kProcess };

class Database {
 public:
  // Creates the file (mode 0600) when it is not there. kCorrupt when it is no database.
  static Result<std::unique_ptr<Database>> open(const std::string& path, Durability durability = Durability::kPowerCut);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  Result<Statement> prepare(std::string_view sql);
  Status execute(const std::string& sql);  // several statements, no values
  Status begin() { return execute("BEGIN IMMEDIATE"); }
  Status commit() { return execute("COMMIT"); }
  // Nothing happens when no transaction is open (SQLite ends it by itself after some errors).
  void roll_back();
  std::uint64_t last_id() const;

 private:
  explicit Database(sqlite3* connection) : connection_(connection) {}
  sqlite3* connection_;
};

// Rolls back what was not committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(other.database_) { other.database_ = nullptr; }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction() {
    if (database_ != nullptr) database_->roll_back();
  }
  Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace understudy
