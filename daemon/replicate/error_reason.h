// SPDX-License-Identifier: Apache-2.0
// Why replication is in the state replication-error: a closed list, each with its text and with what to do about it.
// Shown in status, in the journal and in understudyctl; other programs may rely on the names.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

enum class ErrorReason : std::uint8_t {
  kNone = 0,
  kInterrupted = 1,           // the connection is gone, and policy.auto_resume is off
  kReceiverRefused = 2,       // the receiver will not have us
  kFenced = 3,                // the store is at another epoch: somebody else is the writer (I9)
  kStoreOnProtectedDisk = 4,  // the receiver would feed its own writes back to itself
  kReceiverAhead = 5,         // it has, or acknowledges, what was never sent
  kDiskChanged = 6,           // a disk has another size, or was written behind its end
  kDiskGone = 7,              // a disk does not answer
  kCaptureFailed = 8,         // the tracker cannot do what it must
};

struct ErrorReasonEntry {
  ErrorReason reason = ErrorReason::kNone;
  std::string_view name;
  std::string_view text;    // what it means
  std::string_view advice;  // what to do
  // The condition ends without an operator: with auto_resume, replication then goes on by itself.
  bool clears_itself = false;
};

// All of them, in the order of their numbers.
std::span<const ErrorReasonEntry> error_reasons();
const ErrorReasonEntry& error_reason_entry(ErrorReason reason);
// kInvalidArgument for an unknown name.
Result<ErrorReason> parse_error_reason(std::string_view name);

}  // namespace understudy
