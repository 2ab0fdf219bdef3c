// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/state/database.h"

#include <fcntl.h>
#include <sqlite3.h>

#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"

namespace understudy {
namespace {

// Nobody else may have it open: this is only for one that is just ending.
constexpr int kBusyTimeoutMs = 500;

Error sqlite_error(sqlite3* connection, int code, std::string_view what) {
  ErrorKind kind = ErrorKind::kIo;
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: kind = ErrorKind::kCorrupt; break;
    case SQLITE_FULL: kind = ErrorKind::kNoSpace; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: kind = ErrorKind::kBusy; break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH: kind = ErrorKind::kPermission; break;
    case SQLITE_CONSTRAINT: kind = ErrorKind::kAlreadyExists; break;
    default: break;
  }
  return Error(kind, std::string(what) + ": " + (connection == nullptr ? sqlite3_errstr(code)
                                                                      : sqlite3_errmsg(connection)));
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_), statement_(other.statement_), bound_(other.bound_), code_(other.code_) {
  other.statement_ = nullptr;
}

Statement::~Statement() { sqlite3_finalize(statement_); }

Statement& Statement::bind(std::string_view text) {
  const int code = sqlite3_bind_text64(statement_, ++bound_, text.data() == nullptr ? "" : text.data(), text.size(),
                                       SQLITE_TRANSIENT, SQLITE_UTF8);
  if (code_ == SQLITE_OK) code_ = code;
  return *this;
}

Statement& Statement::bind(std::uint64_t number) {
  CHECK_LE(number, static_cast<std::uint64_t>(INT64_MAX));
  const int code = sqlite3_bind_int64(statement_, ++bound_, static_cast<sqlite3_int64>(number));
  if (code_ == SQLITE_OK) code_ = code;
  return *this;
}

Result<bool> Statement::step() {
  if (code_ == SQLITE_OK) {
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    code_ = code;
  }
  return sqlite_error(connection_, code_, "database");
}

Status Statement::run() {
  ASSIGN_OR_RETURN(const bool row, step());
  CHECK(!row);
  return ok_status();
}

std::string Statement::text(int column) const {
  const auto* bytes = sqlite3_column_text(statement_, column);
  if (bytes == nullptr) return {};
  return std::string(reinterpret_cast<const char*>(bytes),
                     static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
}

std::uint64_t Statement::number(int column) const {
  return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, Durability durability) {
  // Made by us first, so that it never has another mode.
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid()) return Error::from_errno(errno, "open database " + quote(path));
  sqlite3* connection = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Database> database(new Database(connection));
  if (code != SQLITE_OK) return sqlite_error(connection, code, "open database " + quote(path));
  sqlite3_busy_timeout(connection, kBusyTimeoutMs);
  sqlite3_extended_result_codes(connection, 1);
  const char* synchronous =
      durability == Durability::kPowerCut ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=OFF";
  // Exclusive: two orchestrators on one database would each give orders.
  for (const char* pragma : {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", synchronous}) {
    if (Status status = database->execute(pragma); !status.ok()) {
      if (status.error().kind() == ErrorKind::kBusy) {
        return Error(ErrorKind::kBusy, "open " + quote(path) + ": another process has it open; is an orchestrator "
                                       "running already?");
      }
      return std::move(status).error().with_context("open " + quote(path));
    }
  }
  return database;
}

Database::~Database() { sqlite3_close_v2(connection_); }

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code =
      sqlite3_prepare_v2(connection_, sql.data(), static_cast<int>(sql.size()), &statement, /* tail= */ nullptr);
  if (code != SQLITE_OK) return sqlite_error(connection_, code, "database");
  return Statement(connection_, statement);
}

Status Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(connection_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? ok_status() : Status(sqlite_error(connection_, code, "database"));
}

void Database::roll_back() {
  if (sqlite3_get_autocommit(connection_) == 0) (void)execute("ROLLBACK");
}

std::uint64_t Database::last_id() const { return static_cast<std::uint64_t>(sqlite3_last_insert_rowid(connection_)); }

Result<Transaction> Transaction::begin(Database& database) {
  RETURN_IF_ERROR(database.begin());
  return Transaction(database);
}

Status Transaction::commit() {
  CHECK(database_ != nullptr);
  RETURN_IF_ERROR(database_->commit());
  database_ = nullptr;
  return ok_status();
}

}  // namespace understudy
