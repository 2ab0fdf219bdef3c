#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory of the agent beyond the buffers of its configuration, at its highest, while it copies a disk in full, follows
writes in real time and copies again what was written while the receiver was away. Needs root.

mib_over_buffers  resident memory, without the ring (copy of the kernel's own mapping), without copy.buffers of
                  copy.buffer_bytes; goal at most 64, and 32 more for each TiB of disk

Resident pages are counted per mapping (/proc/PID/smaps): pages that are shared with other processes count in part.
BENCH_MIB changes the size of the disk, BENCH_DELTA_MIB the cache for deltas, which is a configured buffer, too.
"""

import os
import re
import sys
import threading
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
    """(name, size, proportional resident bytes) of each."""
    found = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = HEAD.match(line)
        if head:
            found.append([head.group(3), int(head.group(2), 16) - int(head.group(1), 16), 0])
        elif line.startswith("Pss:"):
            found[-1][2] = int(line.split()[1]) * 1024
    return found


class Watch:
    """The highest figure of each phase."""

    def __init__(self, agent):
        self.pid = agent.process.pid
        self.phase = "start"
        self.highest = {}
        self.over = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            try:
                rows = mappings(self.pid)
            except (FileNotFoundError, ProcessLookupError):
                return
            other = sum(pss for name, size, pss in rows if not ("bpf" in name and size >= RING_BYTES))
            if other > self.highest.get(self.phase, (0, None))[0]:
                self.highest[self.phase] = (other, rows)
            time.sleep(0.05)

    def end(self):
        self.over = True
        self.thread.join()


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
    watch = Watch(agent)
    case.defer(watch.end)
    watch.phase = "full_copy"
    agent.wait_realtime(timeout=300)
    agent.wait_caught_up()
    watch.phase = "realtime"
    write_for(disk.device, 5, 1)
    agent.wait_caught_up()
    receiver.stop()
    case.wait_until("the agent has noticed", lambda: not agent.status()["connected"])
    watch.phase = "outage"
    while agent.status()["losses"]["ring_full"] == 0:
        write_for(disk.device, 1, 2)
    receiver.start()
    watch.phase = "resync"
    agent.wait_realtime(timeout=300)
    agent.wait_caught_up()
    watch.phase = "digest"
    digest_disks.begin_repair(agent)
    digest_disks.wait_repaired(case, agent, interval=0.2)
    watch.end()
    agent.detach()
    receiver.stop()
    buffers = BUFFERS * BUFFER_BYTES + DELTA_BYTES
    highest = 0
    for phase, (bytes_, rows) in watch.highest.items():
        print(f"{phase}: {(bytes_ - buffers) / MIB:.1f} MiB over {buffers // MIB} MiB of buffers; the largest: " +
              ", ".join(f"{name or 'anonymous'} {pss / MIB:.1f}"
                        for name, _, pss in sorted(rows, key=lambda row: -row[2])[:6]), flush=True)
        highest = max(highest, bytes_ - buffers)
    check(set(watch.highest) >= {"full_copy", "realtime", "resync"}, f"not every phase was seen: {watch.highest}")
    return f"bench agent mib_over_buffers {highest / MIB:.1f}"


harness.main(bench)
