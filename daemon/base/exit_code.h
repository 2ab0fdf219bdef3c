// SPDX-License-Identifier: Apache-2.0
// What our programs end with: the LSB numbers, as systemd decodes them. The units do not restart a daemon that ended
// with 2, 4, 5 or 6: trying again cannot help. Source: systemd.exec(5), "Process Exit Codes".
#pragma once

#include "daemon/base/result.h"

namespace understudy {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitBadArguments = 2,
  kExitNotImplemented = 3,
  kExitNoPermission = 4,
  kExitNotInstalled = 5,  // the kernel or the machine cannot do it
  kExitBadConfig = 6,
  kExitNotRunning = 7,
};

// The exit status a program ends with when it cannot go on because of an error of this kind.
constexpr ExitCode exit_code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument: return kExitBadArguments;
    case ErrorKind::kInvalidConfig: return kExitBadConfig;
    case ErrorKind::kPermission: return kExitNoPermission;
    case ErrorKind::kUnsupported: return kExitNotInstalled;
    default: return kExitFailure;
  }
}

}  // namespace understudy
