#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Capture goes on without the agent: what is written while it is down, killed or stopped, is in the stream afterwards,
in order and without a gap."""

import harness
import oracle
from daemons import MIB
from harness import check, wall_ns
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case)
    run = oracle.StampRun(case, {1: disk.device}, rate=8 * MIB, max_bytes=256 << 10, zero=5, flush_every=10)
    protected = Protected(case, [disk], ring_bytes=128 * MIB, receiver_allowed=[r"session|connection"])
    protected.start()
    capture = protected.agent.status()["capture_id"]
    times = []
    for end in (protected.agent.kill, protected.agent.stop):
        end()
        run.wait_for(100)
        times.append(wall_ns())
        run.wait_for(100)
        protected.agent.start()
        protected.agent.wait_realtime()
        times.append(now_between_writes(run))
        check(protected.agent.status()["capture_id"] == capture, "the capture was begun anew instead of continued")
    run.stop()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
