#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A ring of 1 MiB overflows while the receiver stands still: the stream gets a gap, what was lost is read again, points
before the gap stay exact, points inside it are refused with their neighbours named, and the replica ends identical."""

import re

import harness
import oracle
from daemons import MIB, rfc3339
from harness import check, wall_ns
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case)
    slow = oracle.StampRun(case, {1: f"{disk.device},length={128 * MIB}"}, rate=MIB // 2, max_bytes=16384, threads=2,
                           flush_every=10)
    protected = Protected(case, [disk], ring_bytes=MIB, agent_allowed=[r"overflow|lacks|gap"])
    protected.start()
    before = [now_between_writes(slow, 20) for _ in range(3)]
    gaps_before = len(protected.gaps())
    protected.receiver.pause()
    fast = oracle.StampRun(case, {2: f"{disk.device},offset={128 * MIB}"}, rate=40 * MIB, max_bytes=MIB, zero=10)
    case.wait_until("the ring has overflown", lambda: protected.agent.status()["losses"]["ring_full"] > 0)
    fast.wait_for(100)
    inside_ns = wall_ns()
    fast.wait_for(100)
    fast.stop()
    protected.receiver.resume()
    protected.agent.wait_realtime()
    after = now_between_writes(slow, 20)
    slow.stop()
    protected.check_identical()

    gaps = protected.gaps()[gaps_before:]
    check(gaps and all(gap["reason"] == "overflow" for gap in gaps), f"expected gaps of overflow, found {gaps}")
    for time_ns in before:
        protected.check_time(time_ns, slow, {1: (0, 0)})
    both = {1: (0, 0), 2: (0, 128 * MIB)}
    protected.check_raw_point(rfc3339(after), [slow, fast], both, not_after=after + MIB)
    protected.check_raw_point("latest", [slow, fast], both, completed_before="all")
    at_time = next(gap for gap in gaps if gap["first"]["time_ns"] <= inside_ns < gap["healed"]["time_ns"])
    middle = (gaps[0]["first"]["seq"] + gaps[0]["healed"]["seq"]) // 2
    for point, gap in ((rfc3339(inside_ns), at_time), (f"seq:{middle}", gaps[0])):
        first, healed = gap["first"]["seq"], gap["healed"]["seq"]
        refused = protected.restore.run(point, case.directory / "refused.img", status=None)
        case.say(f"{point} is refused: {refused.stderr.strip()}")
        check(refused.returncode != 0 and "gap" in refused.stderr, f"{point} inside a gap was not refused as such")
        named = [int(seq) for seq in re.findall(r"seq:(\d+)", refused.stderr)]
        check(len(named) == 2 and named[0] < first and named[1] == healed,
              f"the nearest points around the gap of seq {first} to {healed} are not named")
        for seq in named:
            protected.check_raw_point(f"seq:{seq}", [slow, fast], both)
        check(not (case.directory / "refused.img").exists(), "a refused restore left a file behind")


harness.main(test)
