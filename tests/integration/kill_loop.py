#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Agent and receiver are killed at random moments a hundred times under load: nothing acknowledged is lost, the stream
has no gap beside the first copy, every point is exact and the replica ends identical."""

import random
import time

import harness
import oracle
from daemons import MIB
from harness import check
from scenario import Protected, now_between_writes, raw_disk

KILLS_IN_COPY = 20
KILLS = 100
# What an end says when the other one is killed; every line of these is survived by itself.
AGENT_MAY_SAY = [r"retrying"]
RECEIVER_MAY_SAY = [r"torn|cut", r"connection", r"session"]


class Killer:
    def __init__(self, case, protected, seed):
        self.case = case
        self.protected = protected
        self.random = random.Random(seed)
        self.acknowledged = 0
        self.kills = 0

    def note_acknowledged(self):
        status = self.protected.agent.try_status()
        if status is not None:
            now = status["acknowledged_seq"]
            # 0 = no session yet since the agent's start.
            check(now == 0 or now >= self.acknowledged,
                  f"acknowledged seq went back from {self.acknowledged} to {now} after kill {self.kills}")
            self.acknowledged = max(now, self.acknowledged)

    def kill_one(self):
        # The random moment itself, not a wait for something: while it starts, connects, copies or streams.
        time.sleep(self.random.uniform(0, self.random.choice([0.3, 1.5])))
        self.note_acknowledged()
        victim = self.random.choice([self.protected.agent, self.protected.receiver])
        victim.kill()
        self.kills += 1
        time.sleep(self.random.choice([0, 0, 0.2]))
        victim.start(wait=False)

    def kill_until(self, count):
        while self.kills < count:
            self.kill_one()


def test(case):
    seed = int.from_bytes(random.randbytes(4), "little")
    case.say(f"seed {seed}")
    disk = raw_disk(case, size_bytes=512 * MIB)
    run = oracle.StampRun(case, {1: disk.device}, rate=10 * MIB, max_bytes=MIB, durable=5, zero=3, flush_every=10)
    protected = Protected(case, [disk], ring_bytes=512 * MIB, agent_allowed=AGENT_MAY_SAY,
                          receiver_allowed=RECEIVER_MAY_SAY)
    protected.start(wait_realtime=False)
    killer = Killer(case, protected, seed)
    killer.kill_until(KILLS_IN_COPY)
    protected.agent.wait_realtime(timeout=240)
    times = []
    while killer.kills < KILLS:
        killer.kill_until(killer.kills + 10)
        times.append(now_between_writes(run, 10))
    case.say(f"killed {killer.kills} times")
    run.stop()
    protected.agent.wait_caught_up(timeout=240)
    killer.note_acknowledged()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})
    protected.check_raw_point("latest", run, {1: (0, 0)}, completed_before="all")


harness.main(test)
