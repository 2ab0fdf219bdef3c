// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

// Says that something in groups.d, or in one of its drop-in directories, was written, moved or removed. It does not say
// what: the reader looks at everything again. Not thread-safe. Source: inotify(7).
class DirectoryWatch {
 public:
  static Result<DirectoryWatch> open(const std::string& directory);

  // For poll(2): readable when something happened.
  int fd() const { return fd_.get(); }
  // Takes what happened, and looks for drop-in directories that are new.
  void take();

 private:
  DirectoryWatch(UniqueFd fd, std::string directory) : fd_(std::move(fd)), directory_(std::move(directory)) {}
  void watch_drop_ins();
  UniqueFd fd_;
  std::string directory_;
};

}  // namespace understudy
