#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""understudy-restore names points in every documented way, restores into files and devices, and refuses what would
mislead: the future, the time before the first copy ended, a device that is too small."""

import time

import devices
import harness
import oracle
from daemons import CONTROL, MIB, rfc3339
from harness import check, program, wall_ns
from scenario import Protected, now_between_writes, raw_disk

RAW = {1: (0, 0)}


def newest(protected, point, run):
    return protected.check_raw_point(point, run, RAW)["newest_contained"]


def check_names_of_points(protected, run, time_ns, marked_ns, seq):
    """Every way to name a point; each is exact, and they follow one another as their times do."""
    second = time_ns // 1_000_000_000 + 1
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
    order = [newest(protected, rfc3339(time_ns), run), newest(protected, f"seq:{seq}", run)]
    check(order[0] <= order[1], f"the time {rfc3339(time_ns)} is later than seq {seq}, which was noted after it")
    marked = protected.check_raw_point("@before-upgrade", run, RAW, completed_before=marked_ns)["newest_contained"]
    check(marked >= order[1], "the mark is older than what was acknowledged before it")
    at_second = protected.check_raw_point(local, run, RAW, not_after=second * 10**9 + MIB)["newest_contained"]
    check(at_second >= order[0], "the local second is older than the time within it")
    latest = protected.check_raw_point("latest", run, RAW, completed_before="all")["newest_contained"]
    earlier = newest(protected, "-2s", run)
    check(earlier < latest, "two seconds before the newest record is not older than it")


def check_restore_into_device(case, protected, disk):
    target = raw_disk(case, "target", disk.size_bytes)
    protected.restore.run("latest", target.device)
    devices.require_identical(case, disk.device, target.device)
    small = raw_disk(case, "small", disk.size_bytes - MIB)
    refused = protected.restore.run("latest", small.device, status=None)
    case.say(f"too small a device: {refused.stderr.strip()}")
    check(refused.returncode != 0 and str(disk.size_bytes) in refused.stderr,
          "a device that is too small was not refused with the size that is needed")


def check_refusals(case, protected, before_ns):
    output = case.directory / "refused.img"
    for point, text in ((rfc3339(wall_ns() + 10**12), "nearest good points"),
                        (rfc3339(before_ns), "nearest good points"), ("seq:999999999", "future"),
                        ("@before-upgrad", "did you mean '@before-upgrade'"),
                        ("yesterday noon", "yesterday noon")):
        refused = protected.restore.run(point, output, status=None)
        case.say(f"'{point}': {refused.stderr.strip()}")
        check(refused.returncode != 0, f"'{point}' was not refused")
        check(text in refused.stderr, f"the refusal of '{point}' does not say '{text}'")
        check(not output.exists(), f"the refused '{point}' left a file behind")


def test(case):
    before_ns = wall_ns()
    disk = raw_disk(case, size_bytes=128 * MIB)
    run = oracle.StampRun(case, {1: disk.device}, rate=6 * MIB, max_bytes=128 << 10, flush_every=5)
    protected = Protected(case, [disk])
    protected.start()
    time_ns = now_between_writes(run)
    seq = protected.agent.status()["acknowledged_seq"]
    marked_ns = wall_ns()
    case.run(program(CONTROL), "--socket", protected.agent.socket, "mark", "before-upgrade", "--wait")
    case.wait_until("two seconds are written", lambda: run.wait_for(20) or wall_ns() - time_ns > 5 * 10**9)
    run.stop()
    protected.agent.wait_caught_up()
    timeline = protected.restore.timeline()
    check([mark["name"] for mark in timeline["marks"]] == ["before-upgrade"], f"the list lacks the mark: {timeline}")
    check_names_of_points(protected, run, time_ns, marked_ns, seq)
    check_restore_into_device(case, protected, disk)
    check_refusals(case, protected, before_ns)


harness.main(test)
