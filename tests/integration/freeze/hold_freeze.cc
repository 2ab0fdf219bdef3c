// SPDX-License-Identifier: Apache-2.0
// Freezes file systems with the product's Freezer and holds them, so that a test can do to this process, and to its
// guard, what may befall an agent in the middle of a freeze.
//
// usage: hold-freeze GUARD_PROGRAM DEADLINE_MS MOUNT_POINT...
//
// Says "frozen GUARD_PID" or "not frozen: reason" on stdout; a line on stdin thaws, and it says "held" or "not held:
// reason" and ends. Without an input it holds on until it is killed.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "daemon/marks/freezer.h"

namespace understudy {
namespace {

// The one child of this process.
std::string child() {
  std::ifstream file("/proc/self/task/" + std::to_string(::getpid()) + "/children");
  std::string pid;
  file >> pid;
  return pid;
}

int run(int argc, char** argv) {
  if (argc < 4) return 2;
  std::vector<FreezeTarget> targets;
  for (int i = 3; i < argc; ++i) {
    targets.push_back({argv[i], "test", UniqueFd(::open(argv[i], O_RDONLY | O_CLOEXEC)), 0});
    if (!targets.back().fd.valid()) return 2;
  }
  Freezer freezer(argv[1]);
  Status status = freezer.prepare(std::move(targets), std::strtoull(argv[2], nullptr, 10) * 1'000'000);
  if (status.ok()) status = freezer.freeze();
  if (!status.ok()) {
    std::cout << "not frozen: " << status.error().message() << std::endl;
    return 1;
  }
  std::cout << "frozen " << child() << std::endl;
  std::string line;
  if (!std::getline(std::cin, line)) ::pause();
  status = freezer.thaw();
  std::cout << (status.ok() ? "held" : "not held: " + status.error().message()) << std::endl;
  return 0;
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) { return understudy::run(argc, argv); }
