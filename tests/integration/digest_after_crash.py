#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The capture is gone, as after a reboot, and meanwhile 1 % of a 2 GiB disk changed: that is sent, and digests."""

import digest_disks
import harness
from daemons import MIB
from digest_disks import GRANULE
from harness import check
from scenario import Protected, raw_disk

SIZE = 2048 * MIB


def test(case):
    disk = raw_disk(case, size_bytes=SIZE)
    digest_disks.fill(disk.device, SIZE, share=0.3)
    protected = Protected(case, [disk], agent_allowed=[r"gap from seq"], scrub={"enabled": "false"})
    protected.start()
    agent = protected.agent
    agent.detach()
    changed = digest_disks.pick(SIZE // GRANULE // 100, SIZE, seed=3)
    digest_disks.change(disk.device, changed)
    disk.flush()

    agent.start()
    agent.wait_caught_up()
    status = agent.status()
    digest = status["digest"]
    sent = status["wire_bytes_sent"]
    case.say(f"after the crash: {digest}, {sent} bytes sent")
    check(status["generation"] == 2, "the capture was not a new one")
    check(digest["purpose"] == "after-crash", f"the scan was for '{digest['purpose']}'")
    dirty = len(changed) * GRANULE
    check(digest["different_bytes"] == dirty, f"{digest['different_bytes']} bytes are said to differ, {dirty} do")
    check(digest["wire_bytes"] < SIZE // 1000, f"{digest['wire_bytes']} bytes of digests for {SIZE}")
    check(sent <= 1.1 * dirty + digest["wire_bytes"], f"{sent} bytes were sent, {dirty} had changed")
    protected.check_identical()


harness.main(test)
