// SPDX-License-Identifier: Apache-2.0
// `understudy-agent --probe`: which rung of the capture ladder this host gets, and why. Everything is found out by
// trying; nothing is guessed from version numbers. Leaves nothing behind and writes to no disk.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// One thing that was looked at.
struct ProbeCheck {
  std::string name;  // "btf", "ring-buffer", "bpf-loop", "address-translation", ...
  bool ok = false;
  bool required = true;  // the rung cannot be used without it
  std::string detail;    // one line: what was found, or what is missing and what would help
};

struct ProbeRung {
  std::string name;  // "bpf", "module", "scan"
  bool usable = false;
  std::string reason;  // one line: why (not)
  std::vector<ProbeCheck> checks;
};

struct ProbeDisk {
  std::string path;
  bool usable = false;
  std::string reason;  // why not; empty when usable
  std::string detail;  // name, size, what is mounted
};

struct ProbeReport {
  std::string kernel;            // uname -r and machine
  std::vector<ProbeRung> rungs;  // best first
  std::string best;              // name of the first usable rung that keeps write order; empty = none
  std::vector<ProbeDisk> disks;  // those asked about
  // Writes that no bio tracepoint sees, whatever the rung: shown so that nobody relies on their capture.
  std::vector<std::string> unseen_writes;
};

struct ProbeOptions {
  std::vector<std::string> disks;  // looked at as inspect_disk() does; may be empty
  std::string bpffs = "/sys/fs/bpf";
};

ProbeReport probe_host(const ProbeOptions& options = {});

// For people, and for machines.
std::string probe_text(const ProbeReport& report);
std::string probe_json(const ProbeReport& report);

// Prints the report to stdout. Exit status: 0 = a rung that keeps write order is usable (and every disk asked about),
// 5 = none.
int run_probe(const ProbeOptions& options = {}, bool json = false);

}  // namespace understudy
