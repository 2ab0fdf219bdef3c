#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk that changed behind the capture's back: `repair` finds exactly the changed granules and sends little more than
them. A receiver that is killed in the middle of a repair is no reason to ask again: it goes on by itself."""

import digest_disks
import harness
from daemons import MIB
from digest_disks import GRANULE
from harness import check
from scenario import Protected, raw_disk

SIZE = 512 * MIB


def test(case):
    disk = raw_disk(case, size_bytes=SIZE)
    digest_disks.fill(disk.device, SIZE)
    protected = Protected(case, [disk], scrub={"enabled": "false"},
                          agent_allowed=[r"repair: .*were not what the disks hold", r"gap from seq", r"retrying"])
    protected.start()
    agent = protected.agent
    agent.stop()
    changed = digest_disks.pick(40, SIZE, seed=1)
    disk.flush()
    digest_disks.change(disk.image, changed)
    disk.flush()

    agent.start()
    agent.wait_realtime()
    check(agent.status()["generation"] == 1, "the capture was lost: this is not the case to be tested")
    before = agent.status()
    digest_disks.begin_repair(agent)
    status = digest_disks.wait_repaired(case, agent)
    digest = status["digest"]
    sent = status["wire_bytes_sent"] - before["wire_bytes_sent"]
    case.say(f"repair: {digest}, {sent} bytes sent")
    check(digest["different_bytes"] == len(changed) * GRANULE,
          f"{digest['different_bytes']} bytes are said to differ, {len(changed) * GRANULE} do")
    check(digest["equal_bytes"] == SIZE - len(changed) * GRANULE and digest["undecided_bytes"] == 0,
          "not everything else was proved equal")
    check(sent <= 1.1 * len(changed) * GRANULE + 64 * 1024, f"{sent} bytes were sent for {len(changed)} granules")
    protected.check_identical()

    # Once more, with a receiver that stands still and then dies: the scan is under way, and goes on afterwards.
    more = digest_disks.pick(25, SIZE, seed=2)
    disk.flush()
    digest_disks.change(disk.image, more)
    disk.flush()
    protected.receiver.pause()
    digest_disks.begin_repair(agent)
    case.wait_until("the repair is under way", lambda: agent.status()["digest"]["active"], alive=[agent.process])
    protected.receiver.kill()
    protected.receiver.start()
    digest_disks.wait_repaired(case, agent)
    protected.check_identical()
    reasons = [gap["reason"] for gap in protected.gaps()]
    check(reasons == ["initial-copy", "requested", "requested"], f"unexpected gaps: {reasons}")


harness.main(test)
