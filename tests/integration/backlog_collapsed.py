#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A receiver that is away for longer than the policy keeps a backlog second by second: what was written meanwhile, to
the same places again and again, comes as a gap that says why and as one copy of each. Points from before it are exact,
the replica is the disk, and a point of the time of its absence is refused by name."""

import harness
import oracle
from daemons import MIB, rfc3339
from harness import check, wall_ns
from scenario import Protected, now_between_writes, raw_disk

COLLAPSE_AFTER = "3s"


def test(case):
    disk = raw_disk(case, size_bytes=16 * MIB)  # small: everything is written several times
    run = oracle.StampRun(case, {1: disk.device}, rate=16 * MIB, max_bytes=256 << 10, zero=5, flush_every=10)
    protected = Protected(case, [disk], ring_bytes=256 * MIB,
                          agent_allowed=[r"retrying", r"backlog is older", r"gap from"],
                          wire={"compression": "none", "deltas": "off"}, backlog={"collapse_after": COLLAPSE_AFTER})
    protected.start()
    agent = protected.agent
    before = now_between_writes(run)
    case.wait_until("that point is durable", lambda: agent.status()["backlog_bytes"] < MIB)
    protected.receiver.kill()
    agent.wait_for_log(r"WARNING.*retrying")
    first = agent.status()
    case.wait_until("64 MiB wait in the ring", lambda: agent.status()["backlog_bytes"] > 64 * MIB, timeout=60)
    during = wall_ns()
    run.wait_for(20)
    protected.receiver.start()
    said = agent.wait_for_log(r"the backlog is older than 3 s: [0-9]+ writes of ([0-9.]+) MiB become a gap")
    copied = agent.wait_for_log(r"resync: [^\n]*\n(?:[^\n]*\n)*?[^\n]*copied ([0-9.]+) MiB in")
    check(float(said.group(1)) > 32, f"only {said.group(1)} MiB were passed over")
    check(float(copied.group(1)) * 2 < float(said.group(1)), f"{copied.group(0)} instead of {said.group(1)} MiB")
    agent.wait_realtime()
    run.stop()
    agent.wait_caught_up()
    last = agent.status()
    check(last["losses"]["total"] == first["losses"]["total"] == 0, f"the ring overflowed: {last['losses']}")
    protected.check_identical()
    gaps = protected.gaps()
    check([gap["reason"] for gap in gaps] == ["initial-copy", "collapsed"], f"the gaps are {gaps}")
    protected.check_time(before, run, {1: (0, 0)})
    refused = protected.restore.run(rfc3339(during), case.directory / "mem" / "refused.img", status=1)
    check("collapsed" in refused.stderr, f"the refusal does not say why: {refused.stderr}")


harness.main(test)
