#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What cannot be proved complete is noticed: pins that are gone (as after a reboot), a pin set that is not whole, and a
receiver whose store is an older copy. Each begins a new generation and copies; points of before stay exact."""

import shutil

import harness
import oracle
from daemons import MIB
from harness import check
from scenario import Protected, now_between_writes, raw_disk


def write_unseen(case, disk, offset_mib):
    case.run("dd", "if=/dev/urandom", f"of={disk.device}", "bs=1M", "count=1", f"seek={offset_mib}", "oflag=direct",
             "conv=notrunc", "status=none")


def test(case):
    disk = raw_disk(case, size_bytes=64 * MIB)
    protected = Protected(case, [disk], agent_allowed=[r"gap from seq", r"retrying", r"capture made anew"],
                          receiver_allowed=[r"session|connection"])
    run = oracle.StampRun(case, {1: f"{disk.device},length={32 * MIB}"}, rate=4 * MIB, max_bytes=65536, flush_every=5)
    protected.start()
    agent, receiver = protected.agent, protected.receiver
    time_ns = now_between_writes(run)
    run.stop()
    protected.check_identical()
    reasons = ["initial-copy"]
    generation = agent.status()["generation"]

    def expect_new_generation(reason):
        nonlocal generation
        agent.wait_realtime()
        status = agent.status()
        check(status["generation"] > generation, f"no new generation: {status}")
        generation = status["generation"]
        reasons.append(reason)
        protected.check_identical()
        found = [gap["reason"] for gap in protected.gaps()]
        check(found == reasons, f"the gaps are {found}, expected {reasons}")

    pins = agent.bpffs / "understudy" / protected.server
    agent.stop()
    shutil.rmtree(pins)
    write_unseen(case, disk, 40)
    agent.start()
    expect_new_generation("new-capture")
    case.say("all pins gone: a new generation")

    agent.kill()
    next(pins.glob("link_*")).unlink()
    write_unseen(case, disk, 41)
    agent.start()
    expect_new_generation("new-capture")
    case.say("one pin gone: a new generation")

    agent.stop()
    receiver.stop()
    older = case.directory / "older-store"
    shutil.copytree(receiver.store, older)
    receiver.start()
    agent.start()
    agent.wait_realtime()
    write_unseen(case, disk, 42)  # seen, this time: captured and acknowledged
    agent.wait_caught_up()
    agent.kill()
    receiver.kill()
    shutil.rmtree(receiver.store)
    shutil.copytree(older, receiver.store)
    receiver.start()
    agent.start()
    expect_new_generation("receiver-behind")
    case.say("an older store: a new generation")
    protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
