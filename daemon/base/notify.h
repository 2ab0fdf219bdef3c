// SPDX-License-Identifier: Apache-2.0
// The service manager's notification protocol, spoken by ourselves: one datagram of NAME=value lines to the socket
// that NOTIFY_SOCKET names. Without a service manager every call does nothing.
// Source: sd_notify(3), sd_watchdog_enabled(3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

// Calls may come from any thread, but watchdog() only from the main event loop: it says that this loop turns.
class Notifier {
 public:
  // Talks to nobody.
  Notifier() = default;
  // From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. An error means that the manager named a socket that cannot be
  // used; a daemon logs it and goes on with a default Notifier.
  static Result<Notifier> from_environment();

  bool connected() const { return fd_.valid(); }

  Status ready(std::string_view status_line) const;   // recovered and listening
  Status status(std::string_view status_line) const;  // one plain line: "3 disks protected, behind by 120 ms"
  Status reloading() const;                           // followed by ready() when done
  Status stopping(std::string_view status_line) const;
  Status failed(int error_number, std::string_view status_line) const;
  Status watchdog() const;

  // How often watchdog() must be called at least; 0 = the manager does not watch. Call it at half this interval.
  std::uint64_t watchdog_interval_ns() const { return watchdog_interval_ns_; }

 private:
  Status send(const std::string& message) const;

  UniqueFd fd_;
  std::uint64_t watchdog_interval_ns_ = 0;
};

}  // namespace understudy
