#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast a disk is copied in full: agent and receiver against `nbdcopy --flush` between two nbdkit file plugins over
TCP, on the same source and the same file system. The disk is a loop device over memory: half of it does not compress,
half looks like text. Ours runs from the start of the agent until the HEAL is acknowledged, durable and checksummed.
Runs alternate; each pair gives a ratio (nbdcopy's time by ours), and the median is printed. Needs root.

full_ratio is the product as configured by default (zstd level 1, left out while it slows the stream down).
BENCH_COMPRESSION=none|lz4|zstd, BENCH_PAIRS and BENCH_MIB change the run.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
from daemons import MIB, Agent, Authority, Receiver, free_port  # noqa: E402
from harness import Skip, check  # noqa: E402

PAIRS = int(os.environ.get("BENCH_PAIRS", "3"))
DISK_BYTES = int(os.environ.get("BENCH_MIB", "1024")) * MIB
WORDS = (b"the understudy learns the leading part, rehearses it, and goes on when the lead cannot; "
         b"select order_id, customer_name, total from orders where status = 'open' order by 1\n").split()


def fill(path):
    """Half random, half like text, in stretches of 1 MiB."""
    seed = 1
    with open(path, "r+b") as disk:
        for index in range(DISK_BYTES // MIB):
            if index % 2 == 0:
                disk.write(os.urandom(MIB))
                continue
            line = bytearray()
            while len(line) < MIB // 16:
                seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
                line += WORDS[(seed >> 33) % len(WORDS)] + b" %d " % (seed >> 44)
            disk.write((bytes(line) * 17)[:MIB])
        disk.flush()
        os.fsync(disk.fileno())


def nbdcopy_seconds(case, source, target_directory, number):
    target = target_directory / f"nbd-{number}.img"
    with open(target, "xb") as file:
        file.truncate(DISK_BYTES)
    ports = []
    servers = []
    for name, path, options in (("source", source, ["-r"]), ("target", target, [])):
        port = free_port()
        ports.append(port)
        servers.append(case.spawn(f"nbdkit-{name}-{number}", "nbdkit", "-f", *options, "-i", "127.0.0.1", "-p", port,
                                  "file", path))
    for port in ports:
        case.wait_until("nbdkit listens", lambda: case.run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}",
                                                           status=None).returncode == 0)
    begin = time.monotonic()
    case.run("nbdcopy", "--flush", *(f"nbd://127.0.0.1:{port}" for port in ports))
    seconds = time.monotonic() - begin
    for server in servers:
        server.stop()
    check(subprocess.run(["cmp", "--silent", source, target], check=False).returncode == 0,
          "nbdcopy's result differs from the source")
    target.unlink()
    return seconds


def our_seconds(case, authority, disk, store_directory, number):
    server = f"bench-{os.getpid()}-{number}"
    settings = {}
    if "BENCH_COMPRESSION" in os.environ:
        settings["wire"] = {"compression": os.environ["BENCH_COMPRESSION"]}
    receiver = Receiver(case, authority, server, name=f"dr-{number}", store=store_directory / f"store-{number}",
                        segment_bytes=256 * MIB)
    receiver.start()
    agent = Agent(case, authority, server, [disk], receiver, ring_bytes=64 * MIB, **settings)
    begin = time.monotonic()
    agent.start(wait=False)
    finished = agent.wait_for_log(r"copied [^\n]* in [^\n]*", timeout=300)
    case.wait_until("the agent is in real time", lambda: (agent.try_status() or {}).get("phase") == "realtime",
                    interval=0.005, alive=[agent.process])
    seconds = time.monotonic() - begin
    copied = finished.group(0)
    status = agent.status()
    check(status["copy_done_bytes"] == DISK_BYTES, f"the copy is not whole: {status}")
    agent.detach()
    receiver.stop()
    base = next((receiver.store / "base").iterdir())
    check(subprocess.run(["cmp", "--silent", disk.device, base], check=False).returncode == 0,
          "the base image differs from the disk")
    shutil.rmtree(receiver.store)
    return seconds, copied


def bench(case):
    for tool in ("nbdkit", "nbdcopy", "nbdinfo"):
        if shutil.which(tool) is None:
            raise Skip(f"needs {tool}")
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    fill(disk.device)
    authority = Authority(case)
    ratios = []
    for number in range(PAIRS):
        theirs = nbdcopy_seconds(case, disk.device, memory, number)
        ours, said = our_seconds(case, authority, disk, memory, number)
        ratios.append(theirs / ours)
        print(f"pair {number}: nbdcopy {theirs:.2f} s, ours {ours:.2f} s (the agent says: {said})", flush=True)
    return f"bench fullcopy full_ratio {statistics.median(ratios):.3f}"


harness.main(bench)
