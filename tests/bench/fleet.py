#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many agents on one receiver: 200 of them, 0.5 MB/s each, all on this machine with the receiver; acknowledged means
durable in 200 stores. Three figures:

  p99_rpo_ms         99 of 100 agents had, for 99 % of the time, nothing unacknowledged that was older
  greedy_p99_rpo_ms  the same while one more agent sends as fast as it is let
  mib_per_server     memory of the receiver's process at its highest, by agent

Threads and open files of the receiver are checked against what daemon/receiver/README.md promises. Needs no devices.
BENCH_AGENTS, BENCH_RATE (bytes a second and agent) and BENCH_SECONDS change the run; BENCH_DIRECTORY says where the
stores lie (default: in memory, for the machine's disk would be measured instead)."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import harness  # noqa: E402
from daemons import Authority, Receiver  # noqa: E402
from harness import check, program  # noqa: E402

AGENTS = int(os.environ.get("BENCH_AGENTS", "200"))
RATE = int(os.environ.get("BENCH_RATE", "500000"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "30"))
DIRECTORY = os.environ.get("BENCH_DIRECTORY")
THREADS_MAX = 24
FILES_OF_AGENT = 5  # socket; lock, segment, base image of its one disk, the same for reading
FILES_BESIDE = 40


def figures_of(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {"peak_mib": int(fields["VmHWM"].split()[0]) / 1024, "threads": int(fields["Threads"]),
            "files": len(list(Path(f"/proc/{process.pid}/fd").iterdir()))}


def load(case, authority, receiver, name, agents, *options):
    certificates = case.directory / f"certificates-{name}"
    certificates.mkdir()
    running = case.spawn(f"load-{name}", program("tests/bench/fleet_load"), authority.directory, certificates,
                         receiver.port, agents, RATE, SECONDS, *options)
    seen = {"threads": 0, "files": 0}

    def ended():
        figures = figures_of(receiver.process)
        for key in seen:
            seen[key] = max(seen[key], figures[key])
        return not running.running()

    case.wait_until(f"the load '{name}' ends", ended, timeout=10 * SECONDS + 120, interval=0.2,
                    alive=[receiver.process])
    check(running.child.returncode == 0, f"fleet_load failed:\n{running.output()}")
    result = json.loads(running.output().strip().splitlines()[-1])
    steady = agents - (1 if options else 0)
    reached = result["bytes_per_second"] / (steady * RATE)
    print(f"{name}: {json.dumps(result)}; {seen['threads']} threads, {seen['files']} files", flush=True)
    check(reached > 0.95, f"the agents reached only {reached:.2f} of their rate")
    check(seen["threads"] <= THREADS_MAX, f"the receiver has {seen['threads']} threads, {THREADS_MAX} are allowed")
    files_max = FILES_BESIDE + FILES_OF_AGENT * agents
    check(seen["files"] <= files_max, f"the receiver has {seen['files']} open files, at most {files_max} are allowed")
    return result


def bench(case):
    stores = Path(DIRECTORY) / f"understudy-fleet-{os.getpid()}" if DIRECTORY else case.tmpfs("stores")
    if DIRECTORY:
        stores.mkdir()
        case.defer(case.run, "rm", "-rf", stores)
    authority = Authority(case)
    receiver = Receiver(case, authority, "fleet-0")
    receiver.config["stores"] = [{"server": f"fleet-{number}", "path": stores / f"fleet-{number}"}
                                 for number in range(AGENTS + 1)]
    receiver.start()
    before = figures_of(receiver.process)
    steady = load(case, authority, receiver, "steady", AGENTS)
    after = figures_of(receiver.process)
    greedy = load(case, authority, receiver, "greedy", AGENTS + 1, "--greedy")
    print(f"receiver: {before['peak_mib']:.1f} MiB at most without agents, {after['peak_mib']:.1f} MiB with {AGENTS}, "
          f"{figures_of(receiver.process)['peak_mib']:.1f} MiB with a greedy one", flush=True)
    receiver.stop()
    return "\n".join([f"bench fleet p99_rpo_ms {steady['p99_ms']:.2f}",
                      f"bench fleet greedy_p99_rpo_ms {greedy['p99_ms']:.2f}",
                      f"bench fleet mib_per_server {after['peak_mib'] / AGENTS:.3f}"])


def requirements():
    if os.geteuid() != 0 and not DIRECTORY:
        raise harness.Skip("needs root for a file system in memory, or BENCH_DIRECTORY")


harness.main(bench, requirements)
