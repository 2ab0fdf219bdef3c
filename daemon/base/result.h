// SPDX-License-Identifier: Apache-2.0
// Operating errors as values. Everything that can fail for a reason outside the program (disk, network, input,
// permission) returns Result<T> or Status; exceptions of third-party libraries are caught in the one file that
// wraps them. A broken promise of our own code is not an Error but a CHECK (check.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "daemon/base/check.h"

namespace understudy {

// What kind of thing went wrong; decides what a caller may do about it and which exit status a program ends with.
enum class ErrorKind : std::uint8_t {
  kInvalidArgument,    // the caller or the user asked for something that cannot be
  kInvalidConfig,      // a configuration file is wrong; the message starts with file:line:column
  kNotFound,
  kAlreadyExists,
  kPermission,
  kUnsupported,        // the kernel or the hardware cannot do it
  kBusy,               // held by someone else, named in the message
  kCorrupt,            // stored or received bytes are not what was written
  kRefused,            // the peer, or a rule of ours, said no
  kNoSpace,
  kIo,                 // the operating system reported an I/O error
  kTimeout,
  kClosed,             // the peer or the object is gone
  kInternal,
};

std::string_view error_kind_name(ErrorKind kind);

// An error: a kind, the errno when the kernel gave one (else 0), and one lower-case sentence that names the
// operation, the object and the values. Contexts are put in front by with_context(): "open store: read manifest: ...".
class [[nodiscard]] Error {
 public:
  Error(ErrorKind kind, std::string message, int error_number = 0)
      : kind_(kind), error_number_(error_number), message_(std::move(message)) {}

  // kind from errno (ENOENT -> kNotFound, ENOSPC -> kNoSpace ...), message "<what>: <strerror text>".
  static Error from_errno(int error_number, std::string_view what);

  ErrorKind kind() const { return kind_; }
  int error_number() const { return error_number_; }
  const std::string& message() const { return message_; }

  Error with_context(std::string_view context) && {
    message_.insert(0, std::string(context) + ": ");
    return std::move(*this);
  }

 private:
  ErrorKind kind_;
  int error_number_;
  std::string message_;
};

// A value or an Error. Must be looked at; value() on an error is a bug and aborts.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}   // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { require_value(); return *std::get_if<0>(&state_); }
  const T& value() const& { require_value(); return *std::get_if<0>(&state_); }
  T&& value() && { require_value(); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { require_error(); return *std::get_if<1>(&state_); }
  Error&& error() && { require_error(); return std::move(*std::get_if<1>(&state_)); }

 private:
  void require_value() const {
    if (!ok()) check_failed("Result holds a value", __FILE__, __LINE__, std::get_if<1>(&state_)->message());
  }
  void require_error() const { CHECK(!ok()); }
  std::variant<T, Error> state_;
};

// Success or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const& { CHECK(!ok()); return *error_; }
  Error&& error() && { CHECK(!ok()); return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

inline Status ok_status() { return Status(); }

}  // namespace understudy

#define UNDERSTUDY_CONCAT_INNER(a, b) a##b
#define UNDERSTUDY_CONCAT(a, b) UNDERSTUDY_CONCAT_INNER(a, b)

// Returns the error of a Status or Result expression to the caller.
#define RETURN_IF_ERROR(expression)                                            \
  do {                                                                         \
    if (auto status_or_result = (expression); !status_or_result.ok())          \
      return std::move(status_or_result).error();                              \
  } while (false)

// `ASSIGN_OR_RETURN(auto x, f());` binds the value or returns the error.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_IMPL(UNDERSTUDY_CONCAT(result_at_line_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                  \
  if (!result.ok()) return std::move(result).error();          \
  declaration = std::move(result).value()
