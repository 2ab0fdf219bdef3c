#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When the disk under the store is full, acknowledgements stop, both ends say so, nothing is lost, and everything goes
on by itself when there is room again."""

import devices
import harness
import oracle
from daemons import MIB
from harness import check
from scenario import Protected, now_between_writes, raw_disk


def test(case):
    disk = raw_disk(case, size_bytes=64 * MIB)
    small = raw_disk(case, "store", 400 * MIB)
    devices.make_file_system(case, "ext4", small.device)
    mount = devices.Mount(case, small.device, case.directory / "small")
    full = [r"full|no space|No space|room"]
    protected = Protected(case, [disk], store=mount.directory / "store", ring_bytes=256 * MIB, agent_allowed=full,
                          receiver_allowed=full, wire={"compression": "none"})
    run = oracle.StampRun(case, {1: disk.device}, rate=6 * MIB, max_bytes=65536, flush_every=5)
    protected.start()
    times = [now_between_writes(run)]
    ballast = mount.directory / "ballast"
    free = int(case.run("df", "--output=avail", "-B1", mount.directory).stdout.split()[1])
    case.run("fallocate", "-l", free - 20 * MIB, ballast)
    case.say(protected.receiver.wait_for_log(r"(WARNING|ERROR).*(full|[Nn]o space).*").group(0))
    case.say(protected.agent.wait_for_log(r"(WARNING|ERROR).*(full|[Nn]o space).*").group(0))
    stuck = protected.agent.status()["acknowledged_seq"]
    times.append(now_between_writes(run))
    check(protected.agent.status()["acknowledged_seq"] == stuck, "acknowledgements went on without room")
    ballast.unlink()
    case.wait_until("acknowledgements go on", lambda: protected.agent.status()["acknowledged_seq"] > stuck)
    protected.agent.wait_realtime()
    times.append(now_between_writes(run))
    run.stop()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
