#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire for a database's load: PostgreSQL on ext4 on a protected loop device, pgbench at a steady rate,
real agent and receiver. Each round measures byte-level deltas with compression, then (by a reload) compression alone;
both against the bytes written to the disk (/sys/block/<disk>/stat). Caches are empty at the beginning of a round and
are let fill for a while first. At the end the replica must equal the disk byte for byte. Needs root.

BENCH_SECONDS, BENCH_WARM_SECONDS, BENCH_ROUNDS, BENCH_SCALE, BENCH_RATE (transactions a second) change the run;
BENCH_CACHE the size of the cache, BENCH_COMPRESSION and BENCH_LEVEL the codec."""

import os
import signal
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
import postgres  # noqa: E402
from daemons import MIB  # noqa: E402
from harness import check  # noqa: E402
from scenario import Protected  # noqa: E402

SECONDS = int(os.environ.get("BENCH_SECONDS", "40"))
WARM_SECONDS = int(os.environ.get("BENCH_WARM_SECONDS", "20"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
SCALE = int(os.environ.get("BENCH_SCALE", "5"))
RATE = int(os.environ.get("BENCH_RATE", "200"))
DISK_BYTES = 1024 * MIB
WIRE = {"compression": os.environ.get("BENCH_COMPRESSION", "zstd"), "level": int(os.environ.get("BENCH_LEVEL", "1")),
        "delta_cache_bytes": os.environ.get("BENCH_CACHE", "64MiB")}


class Load:
    """PostgreSQL with pgbench's tables on the disk."""

    def __init__(self, case, disk):
        self.case = case
        devices.make_file_system(case, "ext4", disk.device)
        self.mount = devices.Mount(case, disk.device, case.directory / "primary")
        self.server = postgres.Postgres(case, "postgres", self.mount.directory / "data")
        self.server.make()
        self.server.start()
        self.options = ["-h", self.server.sockets, "-p", postgres.PORT, "-U", "postgres"]
        self.server.query("CREATE DATABASE bench")
        case.run(self.server.programs / "pgbench", "-i", "-q", "-s", SCALE, *self.options, "bench", timeout=300)

    def run(self, seconds):
        self.case.run(self.server.programs / "pgbench", "-n", "-c", 4, "-j", 2, "-R", RATE, "-T", seconds,
                      *self.options, "bench", timeout=seconds + 120)


def written_bytes(disk):
    return int(Path(f"/sys/block/{os.path.basename(disk.device)}/stat").read_text().split()[6]) * 512


def wait_for_sent(case, agent):
    """Everything captured is acknowledged, a database at rest writes little."""
    os.sync()
    case.wait_until("everything is acknowledged", lambda: agent.status()["backlog_bytes"] == 0, interval=0.02,
                    alive=[agent.process])
    return agent.status()


def set_deltas(agent, on):
    agent.config["wire"] = {**WIRE, "deltas": "on" if on else "off"}
    agent.write_config()
    before = agent.log_size()
    agent.process.signal(signal.SIGHUP)
    agent.wait_for_log("configuration reloaded", since=before)


def measure(case, agent, disk, load, what):
    """Wire bytes for each byte that was written while the load ran."""
    load.run(WARM_SECONDS)
    first = wait_for_sent(case, agent)
    written = written_bytes(disk)
    load.run(SECONDS)
    last = wait_for_sent(case, agent)
    written = written_bytes(disk) - written
    wire, raw, changed = (last[name] - first[name] for name in ("wire_bytes_sent", "raw_bytes_sent",
                                                                "changed_bytes_sent"))
    print(f"{what}: {written / MIB:.1f} MiB written to the disk, {raw / MIB:.1f} captured and sent, "
          f"{changed / MIB:.1f} after deltas, {wire / MIB:.2f} on the wire; cache "
          f"{last['delta_cache_bytes'] / MIB:.0f} MiB, effort {last['effort']}, losses {last['losses']['total']}",
          flush=True)
    check(written > 4 * MIB, f"the load wrote only {written} bytes")
    check(raw > 0.95 * written, f"{written} bytes were written, only {raw} were sent")
    check(last["losses"]["total"] == first["losses"]["total"], "the stream was not whole")
    return wire / written


def flat(status):
    return {**status, **status["wire"]}


def bench(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    load = Load(case, disk)
    protected = Protected(case, [disk], "bench-wire", ring_bytes=256 * MIB, wire={**WIRE, "deltas": "on"})
    protected.start()
    agent = protected.agent
    plain_status = agent.status
    agent.status = lambda: flat(plain_status())
    ratios = {True: [], False: []}
    for number in range(ROUNDS):
        for on in (True, False):
            set_deltas(agent, on)
            ratios[on].append(measure(case, agent, disk, load,
                                      f"round {number}, {'deltas' if on else 'compression only'}"))
    load.server.stop()
    load.mount.unmount()
    protected.check_identical()
    agent.detach()
    protected.receiver.stop()
    return (f"bench wire oltp_ratio {statistics.median(ratios[True]):.3f}\n"
            f"bench wire oltp_compression_only_ratio {statistics.median(ratios[False]):.3f}")


harness.main(bench)
