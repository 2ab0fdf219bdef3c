#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that cannot be protected are refused, each with a sentence that names the disk and the reason, and the exit
status that keeps a service manager from trying again."""

import os

import devices
import harness
import oracle
from daemons import MIB, Agent
from harness import check
from scenario import Protected, raw_disk

REFUSED = [r"agent"]  # every line of an agent that is expected to refuse


class Refusals:
    def __init__(self, case, protected):
        self.case = case
        self.protected = protected
        self.count = 0

    def expect(self, disk, *texts):
        """An agent of another server on `disk` (a path) ends with an error that has all texts."""
        self.count += 1
        agent = Agent(self.case, self.protected.authority, f"refused-{self.count}", [disk], self.protected.receiver,
                      bpffs=self.protected.agent.bpffs, allowed=REFUSED)
        agent.start(wait=False)
        ended = agent.process.wait(30)
        said = agent.log_since(0).strip()
        self.case.say(f"exit status {ended}: {said}")
        check(ended in (1, 2, 5, 6), f"the agent ended with {ended} for '{disk}'")
        for text in (str(disk), *texts):
            check(text in said, f"the refusal of '{disk}' does not say '{text}'")
        check(not (agent.bpffs / "understudy" / agent.server).exists(), "the refused agent left pins behind")


def test(case):
    disk = raw_disk(case)
    protected = Protected(case, [disk])
    run = oracle.StampRun(case, {1: disk.device}, rate=4 * MIB, max_bytes=65536)
    protected.start()
    refusals = Refusals(case, protected)

    refusals.expect("/dev/does-not-exist", "No such file")
    plain = case.directory / "plain-file"
    plain.write_bytes(bytes(MIB))
    refusals.expect(plain, "not a block device")
    partitioned = devices.LoopDisk(case, case.directory / "mem" / "parts.img", 64 * MIB, [16 * MIB, 0])
    refusals.expect(partitioned.partition(1), "partition", os.path.basename(partitioned.device))
    small = raw_disk(case, "small", 512 << 10)
    refusals.expect(small.device, "too small", "at least 1048576")
    read_only = devices.LoopDisk(case, case.directory / "mem" / "ro.img", 64 * MIB, read_only=True)
    refusals.expect(read_only.device, "read-only")
    mounted = raw_disk(case, "mounted", 64 * MIB)
    devices.make_file_system(case, "ext4", mounted.device)
    devices.Mount(case, mounted.device, case.directory / "mounted-ro", "ro")
    refusals.expect(mounted.device, "read-only")
    refusals.expect(disk.device, "already protected", protected.server)

    run.stop()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    protected.check_raw_point("latest", run, {1: (0, 0)}, completed_before="all")


harness.main(test)
