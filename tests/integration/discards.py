#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Discards, write-zeroes and punched holes among writes of 512 bytes to 4 MiB keep their place in the order."""

import harness
import oracle
from daemons import MIB
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case)
    run = oracle.StampRun(case, {1: disk.device}, zero=25, max_bytes=4 * MIB, rate=25 * MIB, durable=10, flush_every=10)
    protected = Protected(case, [disk])
    protected.start()
    times = [now_between_writes(run) for _ in range(4)]
    run.stop()
    protected.check_identical()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
