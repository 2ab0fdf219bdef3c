#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""understudyctl stop, restart: nothing is sent meanwhile, also not by an agent that is killed and started again;
capture goes on, and afterwards everything is there without a gap and without copying."""

import harness
import oracle
from daemons import CONTROL, MIB
from harness import check, program
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case)
    run = oracle.StampRun(case, {1: disk.device}, rate=4 * MIB, max_bytes=64 << 10, zero=5, flush_every=10)
    protected = Protected(case, [disk], ring_bytes=128 * MIB, receiver_allowed=[r"session|connection"])
    protected.start()
    agent = protected.agent

    def control(verb, status=0):
        return case.run(program(CONTROL), "--socket", agent.socket, verb, status=status).stdout.strip()

    def wait_state(name):
        case.wait_until(f"replication is {name}", lambda: agent.status()["state"] == name, alive=[agent.process])

    wait_state("realtime-replicating")
    check(agent.status()["state_code"] == 9, "the code is not that of the specification")
    times = [now_between_writes(run)]
    case.say(control("stop"))
    wait_state("realtime-stopped")
    durable = protected.receiver.store_status()["durable_seq"]
    run.wait_for(100)
    agent.kill()
    run.wait_for(50)
    agent.start()
    wait_state("realtime-stopped")
    times.append(now_between_writes(run))
    check(protected.receiver.store_status()["durable_seq"] == durable, "something was sent although it was stopped")
    check(agent.status()["rpo_now_ns"] > 0, "the age of the recovery point is not shown")
    control("repair", status=1)
    case.say(control("restart"))
    agent.wait_realtime()
    wait_state("realtime-replicating")
    times.append(now_between_writes(run))
    run.stop()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
