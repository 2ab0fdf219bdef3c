#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Deltas and the bandwidth limit are changed by reload while stamped writes run; a receiver that allows less memory,
and one that comes back, are followed. Whatever is set, every point is exact and the replica is the disk."""

import signal

import harness
import oracle
from daemons import KIB, MIB
from harness import check
from scenario import Protected, now_between_writes, raw_disk

STEPS = [  # settings, what the session then may use
    ({"deltas": "off"}, 0),
    ({"deltas": "on", "delta_cache_bytes": "1MiB"}, MIB),
    ({"deltas": "on", "delta_cache_bytes": "8MiB", "compression": "lz4"}, 8 * MIB),
    ({"deltas": "on", "delta_cache_bytes": "64MiB", "bandwidth": {"limit": "64MiB/s"}}, 16 * MIB),
    ({"deltas": "on", "delta_cache_bytes": "8MiB", "compression": "none"}, 8 * MIB),
]


def reload(agent, wire):
    agent.config["wire"] = wire
    agent.write_config()
    before = agent.log_size()
    agent.process.signal(signal.SIGHUP)
    agent.wait_for_log("configuration reloaded", since=before)


def test(case):
    disk = raw_disk(case, size_bytes=32 * MIB)  # small: blocks are written again and again
    run = oracle.StampRun(case, {1: disk.device}, rate=4 * MIB, max_bytes=64 * KIB, zero=5, flush_every=10, durable=5)
    protected = Protected(case, [disk], agent_allowed=[r"retrying"],
                          receiver_allowed=[r"session|connection|agent of server"])
    protected.receiver.config["delta_cache_bytes_max"] = 16 * MIB
    protected.start()
    agent, receiver = protected.agent, protected.receiver
    times = []
    for wire, granted in STEPS:
        reload(agent, wire)
        run.wait_for(200)
        case.wait_until(f"deltas against {granted} bytes at both ends",
                        lambda granted=granted: agent.status()["wire"]["delta_cache_bytes_max"] == granted
                        and receiver.store_status()["peer"]["delta_cache_bytes_max"] == granted,
                        alive=[agent.process, receiver.process])
        limit = agent.status()["wire"]["bandwidth_limit"]
        check(limit == (64 * MIB if "bandwidth" in wire else None), f"with {wire} the limit is {limit}")
        times.append(now_between_writes(run))
    check(receiver.store_status()["peer"]["delta_batches"] > 0, "no batch came as a delta")
    receiver.kill()
    run.wait_for(50)
    receiver.start()
    agent.wait_realtime()
    run.wait_for(200)
    times.append(now_between_writes(run))
    check(receiver.store_status()["peer"]["delta_batches"] > 0, "no batch came as a delta to the new receiver")
    run.stop()
    protected.check_identical()
    protected.check_no_gap_but_the_first()
    for time_ns in times:
        protected.check_time(time_ns, run, {1: (0, 0)})


harness.main(test)
