#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A resync after an outage. The receiver is down while 1 % of a disk (in runs of 1 MiB, spread over all of it) is
written through a ring that cannot hold it; then it comes back, and only what is dirty is read and sent. Disks are
sparse loop devices over memory. Needs root.

  bytes_ratio        bytes on the wire by bytes dirtied, from the receiver's return until everything is acknowledged;
                     the data does not compress
  size_growth_ratio  time from the reconnection to the HEAL on the large disk by that on the small one, the same
                     number of bytes dirty on both

BENCH_SMALL_GIB, BENCH_LARGE_GIB, BENCH_RUNS change the run."""

import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
from daemons import MIB, Agent, Authority, Receiver  # noqa: E402
from harness import check  # noqa: E402

GIB = 1 << 30
SMALL = int(os.environ.get("BENCH_SMALL_GIB", "4")) * GIB
LARGE = int(os.environ.get("BENCH_LARGE_GIB", "16")) * GIB
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
DIRTY_BYTES = SMALL // 100 // MIB * MIB


def dirty(device, disk_bytes, number):
    """Writes random runs of 1 MiB at even distances, past the page cache's delays."""
    runs = DIRTY_BYTES // MIB
    descriptor = os.open(device, os.O_WRONLY)
    try:
        for run in range(runs):
            slot = disk_bytes // runs // MIB
            offset = (run * slot + number % slot) * MIB
            os.pwrite(descriptor, os.urandom(MIB), offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seconds_of(agent, since):
    """From 'connected' to 'copied' as the agent says: `copied 40 MiB in 1.2 s`."""
    said = agent.wait_for_log(r"copied [^\n]* in ([0-9.]+) (ms|s|us|min)\b", since=since, timeout=300)
    return float(said.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60}[said.group(2)], said.group(0)


def measure(case, authority, memory, name, disk_bytes):
    disk = devices.LoopDisk(case, memory / f"{name}.img", disk_bytes)
    server = f"bench-{os.getpid()}-{name}"
    receiver = Receiver(case, authority, server, name=f"dr-{name}", store=memory / f"store-{name}",
                        segment_bytes=256 * MIB)
    receiver.start()
    agent = Agent(case, authority, server, [disk], receiver, ring_bytes=MIB, wire={"compression": "none"},
                  allowed=[r"gap|lacks|overflow|receiver|connect"])
    agent.start()
    agent.wait_realtime(timeout=300)
    agent.wait_caught_up()
    seconds, ratios = [], []
    for number in range(RUNS):
        receiver.stop()
        case.wait_until("the agent has noticed", lambda: not agent.status()["connected"])
        before = agent.status()
        mark = agent.log_size()
        dirty(disk.device, disk_bytes, number)
        receiver.start()
        took, said = seconds_of(agent, mark)
        agent.wait_realtime(timeout=300)
        agent.wait_caught_up()
        sent = agent.status()["wire_bytes_sent"] - before["wire_bytes_sent"]
        seconds.append(took)
        ratios.append(sent / DIRTY_BYTES)
        print(f"{name} run {number}: {took:.3f} s, {sent} bytes sent for {DIRTY_BYTES} dirty ({said})", flush=True)
    check(agent.status()["losses"]["ring_full"] > 0, "nothing was lost: the ring held everything")
    agent.detach()
    receiver.stop()
    disk.detach()
    return statistics.median(seconds), statistics.median(ratios)


def bench(case):
    memory = case.tmpfs("mem")
    authority = Authority(case)
    small_seconds, small_ratio = measure(case, authority, memory, "small", SMALL)
    large_seconds, large_ratio = measure(case, authority, memory, "large", LARGE)
    return "\n".join([f"bench resync bytes_ratio {max(small_ratio, large_ratio):.3f}",
                      f"bench resync size_growth_ratio {large_seconds / small_seconds:.3f}"])


harness.main(bench)
