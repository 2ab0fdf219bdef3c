#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast a disk is copied in full: agent and receiver against `nbdcopy --flush` between two nbdkit file plugins over
TCP, on the same source and the same file system. The disk is a loop device over memory: half of it does not compress,
half looks like text. Ours runs from the start of the agent until the HEAL is acknowledged, durable and checksummed.
Runs alternate; each pair gives a ratio (nbdcopy's time by ours), and the median is printed. Needs root.

full_ratio is the product as configured by default (zstd level 1, left out while it slows the stream down).
ext4_20pct_ratio and xfs_20pct_ratio: our time for a disk with a mounted file system that uses a fifth of it, by our
time for the full disk of the same size, of the same round; both from the start of the agent. The rest of such a disk
holds the bytes of the full one: leaving them out is what is measured, not that they are zeros. What was copied is
compared byte for byte.
BENCH_COMPRESSION=none|lz4|zstd, BENCH_PAIRS, BENCH_MIB, BENCH_USED_MIB and BENCH_ONLY=full|used change the run.
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
from daemons import MIB, Agent, Authority, Receiver, Restore, free_port  # noqa: E402
from harness import Skip, check  # noqa: E402

PAIRS = int(os.environ.get("BENCH_PAIRS", "3"))
DISK_BYTES = int(os.environ.get("BENCH_MIB", "2048")) * MIB
USED_BYTES = int(os.environ.get("BENCH_USED_MIB", "4096")) * MIB
ONLY = os.environ.get("BENCH_ONLY", "full used").split()
WORDS = (b"the understudy learns the leading part, rehearses it, and goes on when the lead cannot; "
         b"select order_id, customer_name, total from orders where status = 'open' order by 1\n").split()


def fill(path, size_bytes):
    """Half random, half like text, in stretches of 1 MiB."""
    seed = 1
    with open(path, "r+b") as disk:
        for index in range(size_bytes // MIB):
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


class UsedDisk:
    """A full disk on which a file system was made, a fifth of it used by files of the disk's own kind of bytes."""

    def __init__(self, case, memory, kind, full):
        self.case = case
        self.kind = kind
        image = memory / f"{kind}.img"
        shutil.copyfile(full.image, image)
        self.disk = devices.LoopDisk(case, image, full.size_bytes)
        devices.make_file_system(case, kind, self.disk.device, discard=False)
        self.mount = devices.Mount(case, self.disk.device, case.directory / f"{kind}-mount")
        with open(full.device, "rb") as source:
            for number in range(full.size_bytes // 5 // (8 * MIB)):
                (self.mount.directory / f"file-{number}").write_bytes(source.read(8 * MIB))
        case.run("sync")
        case.run("sysctl", "-q", "vm.drop_caches=1")

    def compare(self, image):
        devices.check_without_replay(self.case, self.kind, self.disk.device)
        free = devices.free_extents(self.case, self.kind, self.disk.device)
        return devices.require_identical_but(self.case, self.disk.device, image, free)

    def mount_again(self):
        self.mount = devices.Mount(self.case, self.disk.device, self.mount.directory)

    def remove(self):
        self.mount.unmount()
        self.disk.detach()
        self.disk.image.unlink()


def our_seconds(case, authority, disk, store_directory, number, used=None):
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
    check(status["copy_done_bytes"] + status["copy_left_out_bytes"] == disk.size_bytes,
          f"the copy is not whole: {status}")
    check(used is not None or status["copy_left_out_bytes"] == 0, f"something was left out: {status}")
    if used is not None:  # as it was unmounted: what that writes is captured, too
        used.mount.unmount()
        agent.wait_caught_up()
    agent.detach()
    receiver.stop()
    if used is not None:
        image = store_directory / f"restored-{number}.img"
        Restore(case, receiver.store).run("latest", image)
        copied += f"; {used.compare(image) // MIB} MiB in use compared"
        image.unlink()
    else:
        check(subprocess.run(["cmp", "--silent", disk.device, base_image(receiver)], check=False).returncode == 0,
              "the base image differs from the disk")
    shutil.rmtree(receiver.store)
    return seconds, copied


def base_image(receiver):
    return next((receiver.store / "base").iterdir())


def against_nbdcopy(case, authority, memory):
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    fill(disk.device, DISK_BYTES)
    ratios = []
    for number in range(PAIRS):
        theirs = nbdcopy_seconds(case, disk.device, memory, number)
        ours, said = our_seconds(case, authority, disk, memory, number)
        ratios.append(theirs / ours)
        print(f"pair {number}: nbdcopy {theirs:.2f} s, ours {ours:.2f} s (the agent says: {said})", flush=True)
    disk.detach()
    disk.image.unlink()
    return f"bench fullcopy full_ratio {statistics.median(ratios):.3f}"


def used_against_full(case, authority, memory):
    full = devices.LoopDisk(case, memory / "full.img", USED_BYTES)
    fill(full.device, USED_BYTES)
    figures = []
    for kind in ("ext4", "xfs"):
        used = UsedDisk(case, memory, kind, full)
        ratios = []
        for number in range(PAIRS):
            whole, said = our_seconds(case, authority, full, memory, f"{kind}-full-{number}")
            print(f"{kind} {number}: full {whole:.2f} s (the agent says: {said})", flush=True)
            part, said = our_seconds(case, authority, used.disk, memory, f"{kind}-{number}", used)
            print(f"{kind} {number}: a fifth used {part:.2f} s (the agent says: {said})", flush=True)
            ratios.append(part / whole)
            used.mount_again()
        used.remove()
        figures.append(f"bench fullcopy {kind}_20pct_ratio {statistics.median(ratios):.3f}")
    return "\n".join(figures)


def bench(case):
    for tool in ("nbdkit", "nbdcopy", "nbdinfo"):
        if shutil.which(tool) is None:
            raise Skip(f"needs {tool}")
    memory = case.tmpfs("mem")
    authority = Authority(case)
    figures = []
    if "full" in ONLY:
        figures.append(against_nbdcopy(case, authority, memory))
    if "used" in ONLY:
        figures.append(used_against_full(case, authority, memory))
    return "\n".join(figures)


harness.main(bench)
