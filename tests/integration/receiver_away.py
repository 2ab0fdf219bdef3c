#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A receiver that is away for a while loses nothing and makes no gap as long as the ring has room: points from the time
of its absence are exact."""

import harness
import oracle
from daemons import MIB
from harness import check, wall_ns
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case)
    run = oracle.StampRun(case, {1: disk.device}, rate=8 * MIB, max_bytes=256 << 10, zero=5, flush_every=10)
    protected = Protected(case, [disk], ring_bytes=128 * MIB, agent_allowed=[r"retrying"])
    protected.start()
    times = [now_between_writes(run)]
    protected.receiver.kill()
    protected.agent.wait_for_log(r"WARNING.*retrying")
    case.wait_until("24 MiB wait in the ring", lambda: protected.agent.status()["backlog_bytes"] > 24 * MIB, timeout=60)
    check(protected.agent.status()["phase"] != "realtime", "the agent claims real time without a receiver")
    times.append(wall_ns())
    run.wait_for(200)
    protected.receiver.start()
    protected.agent.wait_realtime()
    times.append(now_between_writes(run))
    run.stop()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
