// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/api/directory_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <system_error>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB;

}  // namespace

Result<DirectoryWatch> DirectoryWatch::open(const std::string& directory) {
  UniqueFd fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "watch " + quote(directory));
  if (::inotify_add_watch(fd.get(), directory.c_str(), kEvents | IN_ONLYDIR) < 0) {
    return Error::from_errno(errno, "watch " + quote(directory));
  }
  DirectoryWatch watch(std::move(fd), directory);
  watch.watch_drop_ins();
  return watch;
}

void DirectoryWatch::take() {
  std::array<char, 16 << 10> buffer;
  while (::read(fd_.get(), buffer.data(), buffer.size()) > 0) {
  }
  watch_drop_ins();
}

void DirectoryWatch::watch_drop_ins() {
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory_, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (!it->is_directory(ignored) || !it->path().filename().string().ends_with(".yaml.d")) continue;
    // One that is watched already stays as it is; one that is gone again is no loss.
    (void)::inotify_add_watch(fd_.get(), it->path().c_str(), kEvents | IN_ONLYDIR);
  }
}

}  // namespace understudy
