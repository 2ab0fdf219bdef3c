// SPDX-License-Identifier: Apache-2.0
// What the kernel says of a mounted file system's free space, and what it may say instead.
#include "daemon/source/mounted_free_space.h"

#include <linux/fsmap.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>

#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

// As the kernel counts it; and as it writes it into a record.
std::uint32_t device_of(const TemporaryDirectory& directory, std::uint32_t* encoded = nullptr) {
  struct stat status {};
  REQUIRE(::stat(directory.path().c_str(), &status) == 0);
  const std::uint32_t high = major(status.st_dev);
  const std::uint32_t low = minor(status.st_dev);
  if (encoded != nullptr) *encoded = (low & 0xff) | high << 8 | (low & ~0xffu) << 12;
  return high << 20 | low;
}

std::uint32_t told_device = 0;
int calls = 0;

void tell(fsmap_head* head, std::uint64_t at, std::uint64_t length, std::uint64_t owner, std::uint32_t flags) {
  fsmap& record = head->fmh_recs[head->fmh_entries++];
  record = fsmap{};
  record.fmr_device = told_device;
  record.fmr_physical = at;
  record.fmr_length = length;
  record.fmr_owner = owner;
  record.fmr_flags = flags;
}

Result<ExtentList> ask(const TemporaryDirectory& directory, AskFreeSpace answer, bool cancelled = false) {
  const std::atomic<bool> cancel{cancelled};
  calls = 0;
  const std::uint32_t device = device_of(directory, &told_device);
  return mounted_free_space(directory.path(), device, 4096, cancel, answer);
}

}  // namespace

TEST_CASE("a kernel that cannot list free space has the file system read whole, and says so") {
  const TemporaryDirectory directory;
  const AskFreeSpace cannot[] = {
      [](int, fsmap_head*) { return errno = ENOTTY, -1; },
      [](int, fsmap_head*) { return errno = EOPNOTSUPP, -1; },
  };
  for (const AskFreeSpace answer : cannot) {
    const auto free = ask(directory, answer);
    REQUIRE_FALSE(free.ok());
    CHECK(free.error().kind() == ErrorKind::kUnsupported);
    CHECK(free.error().message().find("the kernel cannot say what is free in it") != std::string::npos);
  }
  const auto failed = ask(directory, [](int, fsmap_head*) { return errno = EIO, -1; });
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().message().find("ask for its free space") != std::string::npos);
}

TEST_CASE("only what this device calls free is taken from the kernel's list, over as many calls as it takes") {
  const TemporaryDirectory directory;
  const auto free = ask(directory, [](int, fsmap_head* head) {
    head->fmh_entries = 0;
    if (++calls == 1) return errno = EINTR, -1;
    constexpr std::uint32_t kSpecial = FMR_OF_SPECIAL_OWNER;
    if (calls == 2) {
      tell(head, 0, 8192, FMR_OWN_FREE, kSpecial);
      tell(head, 8192, 4096, FMR_OWN_METADATA, kSpecial);
      tell(head, 16384, 8192, 77, 0);
      tell(head, 24576, 512, FMR_OWN_FREE, kSpecial);  // too short
      return 0;
    }
    REQUIRE(head->fmh_keys[0].fmr_physical == 24576);
    tell(head, 32768, 16384, FMR_OWN_FREE, kSpecial);
    head->fmh_recs[0].fmr_device ^= 0x100;  // the log, on a device of its own
    tell(head, 65536, 16384, FMR_OWN_FREE, kSpecial | FMR_OF_LAST);
    return 0;
  });
  REQUIRE(free.ok());
  CHECK(calls == 3);
  CHECK(*free == ExtentList{{0, 8192}, {65536, 16384}});
}

TEST_CASE("a list that is not in order is not believed; another device, or the end of the agent, ends the asking") {
  const TemporaryDirectory directory;
  const auto disorder = ask(directory, [](int, fsmap_head* head) {
    head->fmh_entries = 0;
    tell(head, 65536, 8192, FMR_OWN_FREE, FMR_OF_SPECIAL_OWNER);
    tell(head, 4096, 8192, FMR_OWN_FREE, FMR_OF_SPECIAL_OWNER | FMR_OF_LAST);
    return 0;
  });
  REQUIRE_FALSE(disorder.ok());
  CHECK(disorder.error().kind() == ErrorKind::kCorrupt);
  CHECK(ask(directory, &ask_kernel_free_space, true).error().kind() == ErrorKind::kClosed);
  const std::atomic<bool> cancel{false};
  const auto other = mounted_free_space(directory.path(), device_of(directory) + 1, 4096, cancel);
  REQUIRE_FALSE(other.ok());
  CHECK(other.error().kind() == ErrorKind::kNotFound);
}

}  // namespace understudy
