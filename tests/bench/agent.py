#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory of the agent beyond the buffers of its configuration, at its highest, while it copies a disk in full, follows
writes in real time and copies again what was written while the receiver was away. Needs root.

mib_over_buffers  resident memory, without the ring (copy of the kernel's own mapping), without copy.buffers of
                  copy.buffer_bytes; goal at most 64, and 32 more for each TiB of disk

Everything that is resident counts, libraries, too (/proc/PID/status and smaps).
BENCH_MIB changes the size of the disk, BENCH_DELTA_MIB the cache for deltas, which is a configured buffer, too.
"""

import os
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import digest_disks  # noqa: E402
import harness  # noqa: E402
from daemons import MIB, Agent, Authority, Receiver  # noqa: E402
from harness import check  # noqa: E402

DISK_BYTES = int(os.environ.get("BENCH_MIB", "1024")) * MIB
DELTA_BYTES = int(os.environ.get("BENCH_DELTA_MIB", "16")) * MIB
RING_BYTES = 64 * MIB
BUFFERS, BUFFER_BYTES = 16, MIB
HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)$")


def mappings(pid):
    """(name, size, resident bytes) of each."""
    found = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = HEAD.match(line)
        if head:
            found.append([head.group(3), int(head.group(2), 16) - int(head.group(1), 16), 0])
        elif line.startswith("Rss:"):
            found[-1][2] = int(line.split()[1]) * 1024
    return found


def over_buffers(agent):
    """Bytes at the highest so far. The ring's pages stay resident once they were touched, so what they take now is at
    least what they took then."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    peak = int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE).group(1)) * 1024
    rows = mappings(agent.process.pid)
    ring = sum(resident for name, size, resident in rows if "bpf" in name and size >= RING_BYTES)
    over = peak - ring - BUFFERS * BUFFER_BYTES - DELTA_BYTES
    largest = sorted(rows, key=lambda row: -row[2])[:6]
    return over, f"peak {peak / MIB:.1f} MiB, of it ring {ring / MIB:.1f}; the largest mappings: " + ", ".join(
        f"{name or 'anonymous'} {resident / MIB:.1f}" for name, _, resident in largest)


def write_for(device, seconds, seed):
    """Random writes of 4 KiB to 64 KiB."""
    until = time.monotonic() + seconds
    descriptor = os.open(device, os.O_WRONLY | os.O_DSYNC)
    data = os.urandom(MIB)
    try:
        number = seed
        while time.monotonic() < until:
            number = (number * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            length = 4096 << (number >> 20) % 5
            os.pwrite(descriptor, data[:length], (number >> 24) % ((DISK_BYTES - length) // 4096) * 4096)
    finally:
        os.close(descriptor)


def bench(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    digest_disks.fill(disk.device, DISK_BYTES)
    authority = Authority(case)
    server = f"bench-{os.getpid()}"
    receiver = Receiver(case, authority, server, store=memory / "store", segment_bytes=256 * MIB)
    receiver.start()
    agent = Agent(case, authority, server, [disk], receiver, ring_bytes=RING_BYTES,
                  allowed=[r"gap|lacks|overflow|receiver|connect"],
                  copy={"buffers": BUFFERS, "buffer_bytes": BUFFER_BYTES},
                  wire={"compression": "zstd", "delta_cache_bytes": DELTA_BYTES})
    agent.start(wait=False)
    figures = {}
    agent.wait_realtime(timeout=300)
    agent.wait_caught_up()
    figures["full copy"] = over_buffers(agent)
    write_for(disk.device, 5, 1)
    agent.wait_caught_up()
    figures["real time"] = over_buffers(agent)
    mark = agent.log_size()
    receiver.stop()
    case.wait_until("the agent has noticed", lambda: not agent.status()["connected"])
    for number in range(60):
        write_for(disk.device, 1, 2 + number)
        if agent.status()["losses"]["ring_full"] > 0:
            break
    check(agent.status()["losses"]["ring_full"] > 0, "nothing was lost: the ring held everything")
    receiver.start()
    agent.wait_for_log(r"copied [^\n]* in ", since=mark, timeout=300)
    agent.wait_realtime(timeout=300)
    agent.wait_caught_up()
    figures["resync"] = over_buffers(agent)
    agent.detach()
    receiver.stop()
    for phase, (over, text) in figures.items():
        print(f"after {phase}: {over / MIB:.1f} MiB over the buffers ({text})", flush=True)
    return f"bench agent mib_over_buffers {max(over for over, _ in figures.values()) / MIB:.1f}"


harness.main(bench)
