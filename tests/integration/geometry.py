#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that grow, come and go while they are protected and written: only what is new is copied, the others are not,
and points of before come back in their old shape."""

import signal

import devices
import harness
import oracle
from daemons import MIB, rfc3339
from harness import check
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    first, second = raw_disk(case, "first", 96 * MIB), raw_disk(case, "second", 64 * MIB)
    added = raw_disk(case, "added", 32 * MIB)
    for disk in (second, added):  # the oracle knows every byte of the first
        case.run("dd", "if=/dev/urandom", f"of={disk.device}", "bs=1M", f"count={16}", "oflag=direct", "status=none")
    protected = Protected(case, [first, second], agent_allowed=[r"size", r"gap from seq", r"disk"],
                          receiver_allowed=[r"session|connection"])
    run = oracle.StampRun(case, {1: f"{first.device},length={32 * MIB}"}, rate=2 * MIB, max_bytes=65536, flush_every=5)
    protected.start()
    agent = protected.agent
    case.wait_until("real time", lambda: agent.status()["state"] == "realtime-replicating", alive=[agent.process])
    capture, generation = agent.status()["capture_id"], agent.status()["generation"]
    before_ns = now_between_writes(run)

    def gap_count():
        return len(protected.gaps())

    def wait_shape(gaps, sizes):
        case.wait_until("the new shape is protected", lambda: [disk["size_bytes"] for disk in
                        (agent.try_status() or {}).get("disks", [])] == sizes, alive=[agent.process])
        case.wait_until("what is new is copied", lambda: gap_count() == gaps, alive=[agent.process])
        agent.wait_realtime()
        status = agent.status()
        check(status["capture_id"] == capture and status["generation"] == generation,
              f"the capture was begun anew instead of extended: {status}")

    with open(second.image, "r+b") as image:
        image.truncate(80 * MIB)
    case.run("losetup", "--set-capacity", second.device)
    wait_shape(2, [96 * MIB, 80 * MIB])
    case.run("dd", "if=/dev/urandom", f"of={second.device}", "bs=1M", "count=4", "seek=70", "oflag=direct",
             "conv=notrunc", "status=none")
    copied = agent.status()["copy_total_bytes"]
    check(copied <= 17 * MIB, f"{copied} bytes were copied of a disk that grew by {16 * MIB}")
    grown_ns = now_between_writes(run)

    agent.config["disks"].append(added.device)
    protected.disks.append(added)
    agent.write_config()
    agent.process.signal(signal.SIGHUP)
    wait_shape(3, [96 * MIB, 80 * MIB, 32 * MIB])
    copied = agent.status()["copy_total_bytes"]
    check(copied <= 33 * MIB, f"{copied} bytes were copied for a new disk of {32 * MIB}")
    case.run("dd", "if=/dev/urandom", f"of={added.device}", "bs=1M", "count=4", "seek=8", "oflag=direct",
             "conv=notrunc", "status=none")
    added_ns = now_between_writes(run)
    run.stop()
    protected.check_identical()
    case.say("grown and added disks are whole, the others were not copied")

    agent.config["disks"] = [first.device, added.device]
    agent.write_config()
    agent.process.signal(signal.SIGHUP)
    wait_shape(3, [96 * MIB, 32 * MIB])
    case.run("dd", "if=/dev/urandom", f"of={first.device}", "bs=1M", "count=1", "seek=40", "conv=notrunc,fsync",
             "status=none")  # a barrier behind the change, so that `latest` is one
    agent.wait_caught_up()
    image = protected.restore.image("latest", "added-copy.img", 2)
    devices.require_identical(case, added.device, image)
    protected.restore.run("latest", case.directory / "mem" / "gone.img", slot=1, status=1)

    for time_ns, size in ((before_ns, 64 * MIB), (grown_ns, 80 * MIB)):
        image = protected.restore.image(rfc3339(time_ns), f"shape-{size}.img", 1)
        check(image.stat().st_size == size, f"{image.stat().st_size} bytes, but the disk had {size} then")
        image.unlink()
    for time_ns in (before_ns, grown_ns, added_ns):
        image = protected.restore.image(rfc3339(time_ns), f"first-{time_ns}.img", 0)
        oracle.verify(case, run, {1: f"{image}@0"}, not_after=time_ns + 1_000_000, flushed_before=time_ns - 1_000_000)
        image.unlink()
    protected.restore.run(rfc3339(before_ns), case.directory / "mem" / "gone.img", slot=2, status=1)


harness.main(test)
