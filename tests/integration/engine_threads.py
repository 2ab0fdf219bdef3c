#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The full copy is the same with io_uring and, where the kernel refuses io_uring, with threads; asking for io_uring by
name there is an error that says what to do."""

from pathlib import Path

import harness
import oracle
from daemons import MIB
from harness import Skip, check
from scenario import Protected, raw_disk

SYSCTL = Path("/proc/sys/kernel/io_uring_disabled")


def switch(value):
    SYSCTL.write_text(f"{value}\n")


def copy_with(case, disk, engine, name):
    protected = Protected(case, [disk], name)
    protected.agent.config["copy"] = {"engine": "auto"}
    run = oracle.StampRun(case, {1: disk.device}, rate=8 * MIB, max_bytes=256 << 10)
    protected.start()
    run.stop()
    check(f"{engine}" in protected.agent.log_since(0), f"the agent does not say that it reads with {engine}")
    protected.check_identical()
    protected.check_raw_point("latest", run, {1: (0, 0)}, completed_before="all")
    protected.agent.detach()
    protected.receiver.stop()


def needs():
    harness.requirements()
    if not SYSCTL.exists():
        raise Skip("the kernel has no sysctl kernel.io_uring_disabled")


def test(case):
    case.defer(switch, SYSCTL.read_text().strip())
    switch(0)
    copy_with(case, raw_disk(case, "uring"), "io_uring", "uring")
    switch(2)
    copy_with(case, raw_disk(case, "threads"), "threads", "threads")
    protected = Protected(case, [raw_disk(case, "named")], "named")
    protected.agent.config["copy"] = {"engine": "io_uring"}
    protected.receiver.start()
    protected.agent.expect_refusal(5, "io_uring", "kernel.io_uring_disabled")


harness.main(test, needs)
