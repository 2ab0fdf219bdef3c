#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire for a database's load: PostgreSQL on ext4 on a protected loop device, pgbench at a steady rate,
real agent and receiver. What the receiver's store has recorded is then encoded again (wire_replay), once with
byte-level deltas and compression, once with compression alone: both figures are of the very same writes, by the bytes
written to the disk (/sys/block/<disk>/stat) while they were recorded. The first BENCH_WARM_SECONDS only fill the
cache. What the agent really sent, deltas on, is printed for comparison; it is more, for it does less for a batch while
that is what slows it down. The replica must equal the disk byte for byte, and every batch must come out of the decoder
as it was recorded. Needs root.

BENCH_SECONDS, BENCH_WARM_SECONDS, BENCH_SCALE, BENCH_RATE (transactions a second) change the load; BENCH_CACHE the size
of the cache in MiB, BENCH_COMPRESSION and BENCH_LEVEL the codec; BENCH_KEEP=DIR keeps a copy of the recording."""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
import postgres  # noqa: E402
from daemons import MIB  # noqa: E402
from harness import check  # noqa: E402
from scenario import Protected  # noqa: E402

SECONDS = int(os.environ.get("BENCH_SECONDS", "60"))
WARM_SECONDS = int(os.environ.get("BENCH_WARM_SECONDS", "20"))
SCALE = int(os.environ.get("BENCH_SCALE", "5"))
RATE = int(os.environ.get("BENCH_RATE", "200"))
CACHE_BYTES = int(os.environ.get("BENCH_CACHE", "64")) * MIB
KEEP = os.environ.get("BENCH_KEEP")
DISK_BYTES = 1024 * MIB
CODEC = os.environ.get("BENCH_COMPRESSION", "zstd")
LEVEL = int(os.environ.get("BENCH_LEVEL", "1"))
REPLAY_FIELDS = ("raw_bytes", "changed_bytes", "wire_bytes", "batches", "delta_batches", "encode_ns")


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


def record(case, agent, disk, load):
    """The load under the agent's eyes: the seqs that count, the bytes written to the disk, sent, and on the wire."""
    load.run(WARM_SECONDS)
    first = wait_for_sent(case, agent)
    written = written_bytes(disk)
    load.run(SECONDS)
    last = wait_for_sent(case, agent)
    written = written_bytes(disk) - written
    raw, wire = (last[name] - first[name] for name in ("raw_bytes_sent", "wire_bytes_sent"))
    print(f"{written / MIB:.1f} MiB written to the disk, {raw / MIB:.1f} captured and sent, {wire / MIB:.2f} on the "
          f"wire ({wire / written:.3f}); effort {last['wire']['effort']}, losses {last['losses']['total']}", flush=True)
    check(written > 4 * MIB, f"the load wrote only {written} bytes")
    check(raw > 0.95 * written, f"{written} bytes were written, only {raw} were sent")
    check(last["losses"]["total"] == first["losses"]["total"], "the stream was not whole")
    return (first["acknowledged_seq"] + 1, last["acknowledged_seq"]), written, raw, wire


def replay(case, store, seqs, *settings):
    program = Path(os.environ["UNDERSTUDY_BUILD"]) / "tests" / "bench" / "wire_replay"
    output = case.run(program, store, *seqs, *settings, timeout=300).stdout
    figures = dict(zip(REPLAY_FIELDS, map(int, output.split())))
    print(f"{' '.join(settings)}: {figures['raw_bytes'] / MIB:.1f} MiB of payload, "
          f"{figures['changed_bytes'] / MIB:.1f} after deltas, {figures['wire_bytes'] / MIB:.3f} on the wire; "
          f"{figures['delta_batches']} of {figures['batches']} batches as deltas; "
          f"{figures['encode_ns'] / 1e6:.0f} ms of processor time", flush=True)
    return figures


def bench(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    load = Load(case, disk)
    wire = {"compression": CODEC, "level": LEVEL, "deltas": "on", "delta_cache_bytes": CACHE_BYTES}
    protected = Protected(case, [disk], "bench-wire", ring_bytes=256 * MIB, wire=wire)
    protected.start()
    seqs, written, raw, sent = record(case, protected.agent, disk, load)
    load.server.stop()
    load.mount.unmount()
    protected.check_identical()
    protected.agent.detach()
    protected.receiver.stop()

    store = protected.receiver.store
    if KEEP:
        shutil.copytree(store / "journal", Path(KEEP) / "journal")
        print(f"kept in {KEEP}: seq {seqs}, {written} bytes written", flush=True)
    codec = (f"codec={CODEC}", f"level={LEVEL}")
    with_deltas = replay(case, store, seqs, f"deltas={CACHE_BYTES}", *codec)
    alone = replay(case, store, seqs, "deltas=0", *codec)
    check(0.98 * raw <= alone["raw_bytes"] <= 1.02 * raw, f"{raw} bytes were sent, {alone['raw_bytes']} replayed")
    check(with_deltas["wire_bytes"] < 1.05 * sent, "the recording needs more on the wire than the agent did")
    return (f"bench wire oltp_ratio {with_deltas['wire_bytes'] / written:.3f}\n"
            f"bench wire oltp_compression_only_ratio {alone['wire_bytes'] / written:.3f}")


harness.main(bench)
