#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A protected disk that shrinks is noticed and named; what was protected before stays exact. (Growing: geometry.py.)"""

import harness
import oracle
from daemons import MIB
from harness import check
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case, size_bytes=64 * MIB)
    protected = Protected(case, [disk], agent_allowed=[r"size|shrunk|gap from seq"])
    run = oracle.StampRun(case, {1: f"{disk.device},length={32 * MIB}"}, rate=4 * MIB, max_bytes=65536, flush_every=5)
    protected.start()
    time_ns = now_between_writes(run)
    with open(disk.image, "r+b") as image:
        image.truncate(48 * MIB)
    case.run("losetup", "--set-capacity", disk.device)
    said = protected.agent.wait_for_log(rf"(WARNING|ERROR).*{disk.device}.*size", timeout=30)
    case.say(said.group(0))
    check(protected.agent.status()["phase"] == "error", "the status does not show that the disk changed its size")
    check(protected.agent.status()["error"]["reason"] == "disk-changed", "the reason is another one")
    run.stop()
    protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
