// SPDX-License-Identifier: Apache-2.0
// A group of many servers: how long its plan takes, and an orchestrator's start with it. Prints "plan_ms start_ms".
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "orchestrator/drivers/unconnected_driver.h"
#include "orchestrator/reconcile/reconciler.h"

namespace {

using namespace understudy;

constexpr int kRounds = 9;
constexpr double kNsPerMs = 1e6;

// Ten more servers in each step: a change may not add more.
std::vector<DeclaredSource> group_of(int servers) {
  std::string text =
      "production:\n  name: east\n  region: r\n  zone: z1\n  vpc: {name: a, subnets: [10.1.0.0/16]}\n"
      "  subnet: 10.1.0.0/16\nrecovery:\n  name: west\n  zone: z2\n  vpc: {name: b, subnets: [10.2.0.0/16]}\n"
      "  subnet: 10.2.0.0/16\nservers:\n";
  for (int i = 0; i < servers; ++i) {
    const std::string number = std::to_string(i);
    text += "  - name: web-" + number + "\n    address: 10.1." + std::to_string(i / 200) + "." +
            std::to_string(i % 200 + 1) +
            "\n    os: {family: debian}\n    flavor: {vcpus: 2, memory: 4GiB}\n    disks: [/dev/vda]\n";
    if (i > 0) text += "    boot_after: [web-" + std::to_string(i / 2) + "]\n";
  }
  return {DeclaredSource{"bench", {{"bench.yaml", text}}, ""}};
}

[[noreturn]] void end(const Error& error) {
  std::fprintf(stderr, "orchestrator_load: %s\n", error.message().c_str());
  std::exit(1);
}

double median_ms(std::vector<std::uint64_t> times_ns) {
  std::sort(times_ns.begin(), times_ns.end());
  return static_cast<double>(times_ns[times_ns.size() / 2]) / kNsPerMs;
}

void run(const std::string& path, int servers) {
  DeclaredOptions declared;
  declared.quotas["r"] = 200;
  UnconnectedDriver driver;
  std::vector<std::uint64_t> plans_ns;
  std::vector<std::uint64_t> starts_ns;
  {
    auto state = OrchestratorState::open(path);
    if (!state.ok()) end(state.error());
    auto reconciler = Reconciler::open({**state, driver, system_clock(), declared, {}, {}});
    if (!reconciler.ok()) end(reconciler.error());
    for (int count = 10; count <= servers; count += 10) {
      if (auto taken = (*reconciler)->declare(group_of(count)); !taken.ok()) end(taken.error());
    }
    if (Status status = (*reconciler)->tick(); !status.ok()) end(status.error());
    for (int i = 0; i < kRounds; ++i) {
      const std::uint64_t begun_ns = system_clock().boot_ns();
      if ((*reconciler)->plans().front().entries.size() != static_cast<std::size_t>(servers)) std::exit(1);
      plans_ns.push_back(system_clock().boot_ns() - begun_ns);
    }
  }
  for (int i = 0; i < kRounds; ++i) {
    const std::uint64_t begun_ns = system_clock().boot_ns();
    auto state = OrchestratorState::open(path);
    if (!state.ok()) end(state.error());
    auto reconciler = Reconciler::open({**state, driver, system_clock(), declared, {}, {}});
    if (!reconciler.ok()) end(reconciler.error());
    if ((*reconciler)->servers().size() != static_cast<std::size_t>(servers)) std::exit(1);
    starts_ns.push_back(system_clock().boot_ns() - begun_ns);
  }
  std::printf("%.3f %.3f\n", median_ms(plans_ns), median_ms(starts_ns));
}

}  // namespace

int main(int argc, char** argv) {
  const int servers = argc == 3 ? std::atoi(argv[2]) : 0;
  if (servers < 10 || servers > 200) {
    std::fprintf(stderr, "usage: orchestrator_load DATABASE SERVERS (10 to 200)\n");
    return 2;
  }
  run(argv[1], servers);
  return 0;
}
