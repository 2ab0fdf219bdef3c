#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A protected disk that grows while it is protected is noticed and named; what was protected before stays exact."""

import harness
import oracle
from daemons import MIB
from harness import check
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case, size_bytes=64 * MIB)
    protected = Protected(case, [disk], agent_allowed=[r"size|grew|grown"])
    run = oracle.StampRun(case, {1: f"{disk.device},length={64 * MIB}"}, rate=4 * MIB, max_bytes=65536, flush_every=5)
    protected.start()
    time_ns = now_between_writes(run)
    with open(disk.image, "r+b") as image:
        image.truncate(96 * MIB)
    case.run("losetup", "--set-capacity", disk.device)
    said = protected.agent.wait_for_log(rf"(WARNING|ERROR).*{disk.device}.*size", timeout=30)
    case.say(said.group(0))
    check(protected.agent.status()["phase"] == "error", "the status does not show that the disk changed its size")
    run.stop()
    protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
