#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes flipped in the middle of a journal segment are found and named when read or verified, points before them
stay exact, points behind them are never restored wrong; a receiver does not build on a segment it cannot read."""

import harness
import oracle
from daemons import MIB, rfc3339
from harness import check
from scenario import Protected, now_between_writes, raw_disk


def flip(path, offset, count=16):
    with open(path, "r+b") as file:
        file.seek(offset)
        data = file.read(count)
        file.seek(offset)
        file.write(bytes(byte ^ 0xff for byte in data))


def test(case):
    disk = raw_disk(case, size_bytes=64 * MIB)
    run = oracle.StampRun(case, {1: disk.device}, rate=10 * MIB, max_bytes=128 << 10, flush_every=5)
    protected = Protected(case, [disk], receiver_allowed=[r"damage|corrupt|checksum"])
    protected.start()
    early = now_between_writes(run)
    segments = lambda: sorted((protected.receiver.store / "journal").glob("*.wal"))  # noqa: E731
    count = len(segments())
    case.wait_until("three more segments are written", lambda: len(segments()) >= count + 3, alive=[run.process])
    late = now_between_writes(run)
    run.stop()
    protected.agent.wait_caught_up()
    protected.agent.stop()
    protected.receiver.stop()

    victim = segments()[count]
    middle = victim.stat().st_size // 2
    flip(victim, middle)
    protected.check_time(early, run, {1: (0, 0)})
    output = case.directory / "mem" / "damaged.img"
    refused = protected.restore.run(rfc3339(late), output, status=None)
    case.say(refused.stderr.strip())
    check(refused.returncode != 0, "a point behind the damage was restored without a word")
    check(victim.name in refused.stderr, f"the damaged file '{victim.name}' is not named")
    output.unlink(missing_ok=True)
    found = protected.restore.verify(status=None)
    check(found.returncode != 0 and victim.name in found.stdout + found.stderr, f"verify names no damage: {found}")

    flip(victim, middle)
    flip(victim, 0)
    before = protected.receiver.log_size()
    protected.receiver.start()
    said = protected.receiver.wait_for_log(rf"ERROR.*{victim.name}.*", since=before)
    case.say(said.group(0))
    check(protected.receiver.store_status()["state"] in ("failed", "read-only"),
          "the receiver builds on a store whose segment has no readable header")
    protected.receiver.stop()
    flip(victim, 0)
    protected.receiver.start()
    protected.agent.start()
    protected.check_identical()
    protected.check_time(late, run, {1: (0, 0)})


harness.main(test)
