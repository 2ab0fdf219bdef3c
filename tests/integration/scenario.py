# SPDX-License-Identifier: Apache-2.0
"""A protected server as most tests want it: a receiver with a store, an agent on some disks, proofs about points."""

import os

import devices
import oracle
from daemons import MIB, Agent, Authority, Receiver, Restore, rfc3339
from harness import check, wall_ns

CLOCK_TOLERANCE_NS = 1_000_000  # records carry the agent's idea of the wall clock, stamps the writer's


class Protected:
    """disks: LoopDisks, in the order of their slots. Everything is set up; start() starts receiver and agent."""

    def __init__(self, case, disks, name="web-1", ring_bytes=64 * MIB, agent_allowed=(), receiver_allowed=(),
                 authority=None, store=None, **settings):
        self.case = case
        self.disks = disks
        self.server = f"{name}-{os.getpid()}"
        self.authority = authority or Authority(case, f"pki-{name}")
        self.receiver = Receiver(case, self.authority, self.server, f"dr-{name}", store=store, allowed=receiver_allowed)
        self.agent = Agent(case, self.authority, self.server, disks, self.receiver, ring_bytes=ring_bytes,
                           allowed=agent_allowed, **settings)
        self.restore = Restore(case, self.receiver.store)

    def start(self, wait_realtime=True):
        self.receiver.start()
        self.agent.start()
        if wait_realtime:
            self.agent.wait_realtime()

    # --- proofs ---

    def restore_all(self, point, name):
        """Every disk at a point, as new files in memory; returns their paths in the order of the disks."""
        return [self.restore.image(point, f"{name}-{slot}.img", slot) for slot in range(len(self.disks))]

    def check_identical(self, free=None):
        """The replica at `latest` equals the devices byte for byte, but for the free extents of each slot in `free`.
        For a load that has stopped."""
        for disk in self.disks:
            disk.flush()
        self.agent.wait_caught_up()
        for slot, (disk, image) in enumerate(zip(self.disks, self.restore_all("latest", "final"))):
            if free and slot in free:
                compared = devices.require_identical_but(self.case, disk.device, image, free[slot])
                self.case.say(f"slot {slot}: {compared // MIB} MiB that are in use are identical")
            else:
                devices.require_identical(self.case, disk.device, image)
            image.unlink()
        self.case.say("the replica is byte-identical to the devices")

    def check_raw_point(self, point, run, targets, **requirements):
        """Restores a point and lets the oracle judge it. targets: {id: (disk index, offset in bytes)}."""
        images = self.restore_all(point, "point")
        figures = oracle.verify(self.case, run, {identity: f"{images[disk]}@{offset}"
                                                 for identity, (disk, offset) in targets.items()}, **requirements)
        for image in images:
            image.unlink()
        self.case.say(f"{point}: exact, newest write {figures['newest_contained']}")
        return figures

    def check_time(self, time_ns, run, targets):
        """A time is exact, holds nothing later and everything that a flush had covered by then."""
        return self.check_raw_point(rfc3339(time_ns), run, targets, not_after=time_ns + CLOCK_TOLERANCE_NS,
                                    flushed_before=time_ns - CLOCK_TOLERANCE_NS)

    def gaps(self):
        return self.restore.timeline()["gaps"]

    def check_no_gap_but_the_first(self):
        gaps = self.gaps()
        check([gap["reason"] for gap in gaps] == ["initial-copy"], f"there are gaps beside the first copy: {gaps}")


def raw_disk(case, name="disk", size_bytes=256 * MIB):
    """A whole disk in memory for the stamp writer alone."""
    memory = case.directory / "mem"
    if not memory.exists():
        case.tmpfs("mem")
    return devices.LoopDisk(case, memory / f"{name}.img", size_bytes)


def now_between_writes(run, count=50):
    """A wall time with `count` stamped operations before and after it, so that it is a point of its own."""
    run.wait_for(count)
    time_ns = wall_ns()
    run.wait_for(count)
    return time_ns


