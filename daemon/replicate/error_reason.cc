// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/error_reason.h"

#include <array>
#include <string>

namespace understudy {
namespace {

constexpr std::array<ErrorReasonEntry, 9> kReasons{{
    {ErrorReason::kNone, "none", "", "", false},
    {ErrorReason::kInterrupted, "interrupted",
     "the connection to the receiver was interrupted, and policy.auto_resume is off",
     "when the receiver can be reached again: 'understudyctl repair' to verify everything, 'understudyctl restart' to "
     "go on at the break-point",
     true},
    {ErrorReason::kReceiverRefused, "receiver-refused", "the receiver refused this server",
     "the message says why: certificate, name of the server, its list of stores, or version; correct it there", true},
    {ErrorReason::kFenced, "fenced", "another writer has taken over the store since (its epoch is another one)",
     "do not force this server back: after a failover it is the old side, and failback brings it up to date", true},
    {ErrorReason::kStoreOnProtectedDisk, "store-on-protected-disk",
     "the receiver runs on this machine and stores on a disk that is protected",
     "put the store on another disk, or take that disk out of 'disks'", true},
    {ErrorReason::kReceiverAhead, "receiver-ahead",
     "the receiver has or acknowledges records that this server never sent",
     "find out whether this machine was set back to an older state, or whether two machines use one identity; then "
     "'understudyctl repair' begins a new generation and copies everything",
     false},
    {ErrorReason::kDiskChanged, "disk-changed", "a protected disk does not have the size it is protected with",
     "a disk that has grown is taken over by itself; one that shrank has to be taken out of 'disks' (reload), and can "
     "then be added again",
     true},
    {ErrorReason::kDiskGone, "disk-gone", "a protected disk does not answer",
     "bring it back, or take it out of 'disks' and reload", true},
    {ErrorReason::kCaptureFailed, "capture-failed", "capture in the kernel does not do what it must",
     "restart the agent; if it stays, 'understudy-agent --probe' says what this kernel can do", true},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < kReasons.size(); ++i) {
    if (static_cast<std::size_t>(kReasons[i].reason) != i) return false;
  }
  return true;
}
static_assert(in_order());

}  // namespace

std::span<const ErrorReasonEntry> error_reasons() { return kReasons; }

const ErrorReasonEntry& error_reason_entry(ErrorReason reason) { return kReasons.at(static_cast<std::size_t>(reason)); }

Result<ErrorReason> parse_error_reason(std::string_view name) {
  for (const ErrorReasonEntry& entry : kReasons) {
    if (entry.name == name) return entry.reason;
  }
  return Error(ErrorKind::kInvalidArgument, "'" + std::string(name) + "' is no reason of a replication error");
}

}  // namespace understudy
