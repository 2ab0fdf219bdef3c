// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/result.h"

#include <cerrno>
#include <cstring>

namespace understudy {

std::string_view error_kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument: return "invalid-argument";
    case ErrorKind::kInvalidConfig: return "invalid-config";
    case ErrorKind::kNotFound: return "not-found";
    case ErrorKind::kAlreadyExists: return "already-exists";
    case ErrorKind::kPermission: return "permission";
    case ErrorKind::kUnsupported: return "unsupported";
    case ErrorKind::kBusy: return "busy";
    case ErrorKind::kCorrupt: return "corrupt";
    case ErrorKind::kRefused: return "refused";
    case ErrorKind::kNoSpace: return "no-space";
    case ErrorKind::kIo: return "io";
    case ErrorKind::kTimeout: return "timeout";
    case ErrorKind::kClosed: return "closed";
    case ErrorKind::kInternal: return "internal";
  }
  return "unknown";
}

namespace {

ErrorKind kind_of_errno(int error_number) {
  switch (error_number) {
    case EINVAL: return ErrorKind::kInvalidArgument;
    case ENOENT: case ENODEV: case ENXIO: return ErrorKind::kNotFound;
    case EEXIST: return ErrorKind::kAlreadyExists;
    case EPERM: case EACCES: case EROFS: return ErrorKind::kPermission;
    case ENOSYS: case EOPNOTSUPP: case ENOTTY: return ErrorKind::kUnsupported;
    case EBUSY: case EAGAIN: case EADDRINUSE: return ErrorKind::kBusy;
    case ENOSPC: case EDQUOT: return ErrorKind::kNoSpace;
    case ETIMEDOUT: return ErrorKind::kTimeout;
    case EPIPE: case ECONNRESET: case ECONNREFUSED: case ENOTCONN: return ErrorKind::kClosed;
    default: return ErrorKind::kIo;
  }
}

}  // namespace

Error Error::from_errno(int error_number, std::string_view what) {
  char buffer[128];
  // GNU strerror_r: thread-safe, returns the text.
  const char* text = strerror_r(error_number, buffer, sizeof(buffer));
  return Error(kind_of_errno(error_number), std::string(what) + ": " + text, error_number);
}

}  // namespace understudy
