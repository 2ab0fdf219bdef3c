#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A digest scan of a disk that is equal to its replica, against reading that disk: the same engine, buffers and depth,
one disk in memory, half of it bytes that do not compress. The scan is a repair: everything is read, hashed and asked
about, and the receiver on the same machine reads and hashes its copy. Runs alternate; each pair gives a ratio, and the
median is printed. Needs root.

speed_ratio  speed of the scan by that of the plain read (goal 0.8)
wire_ratio   bytes of questions and answers by bytes of the disk (goal below 0.001)

BENCH_PAIRS and BENCH_MIB change the run.
"""

import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import digest_disks  # noqa: E402
import harness  # noqa: E402
from daemons import MIB, Agent, Authority, Receiver  # noqa: E402
from harness import check, program  # noqa: E402

PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
DISK_BYTES = int(os.environ.get("BENCH_MIB", "2048")) * MIB


def read_seconds(case, device, engine):
    said = case.run(program("tests/bench/digest_read"), device, engine).stdout
    return float(said.split()[1])


def bench(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    digest_disks.fill(disk.device, DISK_BYTES)
    disk.flush()
    authority = Authority(case)
    server = f"bench-{os.getpid()}"
    receiver = Receiver(case, authority, server, store=memory / "store", segment_bytes=256 * MIB)
    receiver.start()
    agent = Agent(case, authority, server, [disk], receiver, scrub={"enabled": "false"}, allowed=[r"gap from seq"])
    agent.start()
    agent.wait_caught_up()
    engine = agent.status()["read_engine"]
    ratios, wires = [], []
    for number in range(PAIRS):
        plain = read_seconds(case, disk.device, engine)
        before = agent.status()["digest"]["wire_bytes"]
        digest_disks.begin_repair(agent)
        digest = digest_disks.wait_repaired(case, agent, interval=0.5)["digest"]  # asking costs, too
        check(digest["equal_bytes"] == DISK_BYTES and digest["different_bytes"] == 0, f"not all is equal: {digest}")
        scan = digest["duration_ns"] / 1e9
        ratios.append(plain / scan)
        wires.append((digest["wire_bytes"] - before) / DISK_BYTES)
        print(f"pair {number}: plain read {plain:.3f} s, scan {scan:.3f} s ({engine})", flush=True)
    agent.detach()
    receiver.stop()
    return (f"bench digest speed_ratio {statistics.median(ratios):.3f}\n"
            f"bench digest wire_ratio {statistics.median(wires):.8f}")


harness.main(bench)
