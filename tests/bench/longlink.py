#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How much of a long link is used: the full copy of a disk of noise, real agent and receiver in two network namespaces
with a round trip of BENCH_RTT_MS (100) between them. The carrier between them manages some 200 MiB/s. Needs root.

  one_mib_per_second       one connection
  plain_mib_per_second     the same through a send buffer as the kernel grows it by itself

The replica must equal the disk byte for byte. BENCH_MIB changes the size of the disk."""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
from daemons import MIB  # noqa: E402
from harness import check  # noqa: E402
from long_link import ADDRESSES, LongLink  # noqa: E402
from scenario import Protected  # noqa: E402

RTT_MS = float(os.environ.get("BENCH_RTT_MS", "100"))
DISK_BYTES = int(os.environ.get("BENCH_MIB", "768")) * MIB
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60}


def measure(case, link, disk, name, prefix=(), **settings):
    protected = Protected(case, [disk], name, wire={"compression": "none", "deltas": "off", **settings})
    receiver, agent = protected.receiver, protected.agent
    receiver.config["listen"]["address"] = ADDRESSES[1]
    receiver.prefix = link.far
    agent.config["receiver"]["address"] = ADDRESSES[1]
    agent.prefix = [*link.near, *prefix]
    protected.start(wait_realtime=False)
    largest = 0

    def copied():
        nonlocal largest
        largest = max(largest, agent.status()["wire"]["send_buffer_bytes"])
        return re.search(r"copied [^\n]* in ([0-9.]+) (us|ms|s|min)\b", agent.log_since(0))

    said = case.wait_until("the disk is copied", copied, timeout=300, interval=0.2, alive=[agent.process])
    rate = DISK_BYTES / MIB / (float(said.group(1)) * UNITS[said.group(2)])
    protected.check_identical()
    agent.detach()
    receiver.stop()
    case.run("rm", "-rf", receiver.store)
    print(f"{name}: {rate:.1f} MiB/s ({said.group(0)}), send buffer up to {largest / MIB:.0f} MiB", flush=True)
    return rate


def bench(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    with open(disk.device, "wb") as out:
        for _ in range(DISK_BYTES // MIB):
            out.write(os.urandom(MIB))
    disk.flush()
    link = LongLink(case, RTT_MS / 2000)
    plain = measure(case, link, disk, "plain", prefix=["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"])
    one = measure(case, link, disk, "one")
    check(one > 0 and plain > 0, "nothing was copied")
    return (f"bench longlink one_mib_per_second {one:.1f}\n"
            f"bench longlink plain_mib_per_second {plain:.1f}")


harness.main(bench)
