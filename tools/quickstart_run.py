#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The story that tools/quickstart tells, after the build: a live database is protected, its disk is torn away, and it
is recovered at the last moment and at an earlier second. Made of the parts of the integration tests."""

import fcntl
import os
import struct
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
import oracle  # noqa: E402
import postgres  # noqa: E402
from daemons import MIB, rfc3339  # noqa: E402
from harness import check, wall_ns  # noqa: E402
from scenario import CLOCK_TOLERANCE_NS, Protected  # noqa: E402

DISK_BYTES = 1280 * MIB
FILE_SYSTEM_BYTES = 1024 * MIB
STAMPED = 1
FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32): from now on the file system fails everything, as without its disk
SHUTDOWN_NO_LOG_FLUSH = 2


class Primary:
    """The production host: a disk with PostgreSQL on ext4 and a raw partition of stamped sectors, both busy."""

    def __init__(self, case):
        self.case = case
        case.say("making a disk with two partitions: ext4 for PostgreSQL, and raw sectors for stamps")
        self.disk = devices.LoopDisk(case, case.directory / "primary.img", DISK_BYTES, [FILE_SYSTEM_BYTES, 0])
        self.offset = self.disk.partition_offset(2)
        devices.make_file_system(case, "ext4", self.disk.partition(1))
        self.mount = devices.Mount(case, self.disk.partition(1), case.directory / "primary")
        self.server = postgres.Postgres(case, "postgres", self.mount.directory / "data")
        self.server.make()
        self.server.start()
        case.say(f"PostgreSQL of {self.server.programs} runs on it; starting pgbench, a client and the stamp writer")
        self.bench = self.server.start_pgbench()
        self.client = self.server.start_numbered_client()
        self.stamps = oracle.StampRun(case, {STAMPED: self.disk.partition(2)}, rate=4 * MIB, max_bytes=256 << 10,
                                      flush_every=8, durable=5)

    def tear_away(self, agent):
        """The zone is lost: agent killed, file system cut off in the middle of its work, image gone. Returns when."""
        directory = os.open(self.mount.directory, os.O_RDONLY)
        killed_ns = wall_ns()
        agent.kill()
        fcntl.ioctl(directory, FS_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NO_LOG_FLUSH))
        os.close(directory)
        for process in (self.stamps.process, self.bench, self.client.process, self.server.process):
            process.kill()
        self.mount.unmount()
        self.disk.detach()
        self.disk.image.unlink()
        return killed_ns


class Recovered:
    """A restored image with its database, started on it as on a new host."""

    def __init__(self, case, protected, point, name):
        self.case = case
        self.name = name
        self.began_ns = wall_ns()
        self.image = case.directory / f"{name}.img"
        protected.restore.run(point, self.image)
        self.disk = devices.LoopDisk(case, self.image, DISK_BYTES)
        case.run("partx", "--update", self.disk.device)
        self.mount = devices.Mount(case, self.disk.partition(1), case.directory / name)
        self.server = postgres.Postgres(case, f"postgres-{name}", self.mount.directory / "data")
        (self.mount.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        self.server.start()
        self.rto_ms = (wall_ns() - self.began_ns) / 1e6

    def newest_row(self, expected):
        return postgres.check_numbered(self.server, expected)

    def check_disk_and_remove(self, primary, **requirements):
        """The file system is sound and the stamped sectors are an exact prefix; returns the oracle's figures."""
        self.server.stop()
        self.mount.unmount()
        devices.check_without_replay(self.case, "ext4", self.disk.partition(1))
        figures = oracle.verify(self.case, primary.stamps, {STAMPED: f"{self.image}@{primary.offset}"}, **requirements)
        self.disk.detach()
        self.image.unlink()
        return figures


def protect(case, primary):
    case.say("making certificates, starting a receiver and an agent (the full copy runs under the load)")
    protected = Protected(case, [primary.disk], "quickstart", ring_bytes=256 * MIB)
    protected.start(wait_realtime=False)
    shown = 0.0
    while (status := protected.agent.status())["phase"] != "realtime":
        check(protected.agent.process.running() and status["phase"] != "error", f"the agent cannot go on: {status}")
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            done, total = status["copy_done_bytes"] // MIB, status["copy_total_bytes"] // MIB
            case.say(f"  {status['phase']}: {done} of {total} MiB")
        time.sleep(0.05)
    case.say("protected: every write is on its way to the receiver as it happens")
    return protected


def run_for_a_while(case, primary, protected):
    """Lets the load run on both sides of a full second that is noted for later."""
    start = primary.client.rows()[-1][0]
    case.wait_until("300 more rows are committed", lambda: primary.client.rows()[-1][0] > start + 300, timeout=120)
    earlier_ns = (wall_ns() // 10**9 + 1) * 10**9
    case.wait_until("5 s more are written", lambda: wall_ns() > earlier_ns + 5 * 10**9,
                    alive=[primary.bench, primary.client.process, primary.stamps.process])
    rpo = protected.agent.status().get("rpo_now_ns")
    case.say(f"row {primary.client.rows()[-1][0]} is committed; the agent says it is {(rpo or 0) / 1e6:.0f} ms behind")
    return earlier_ns


def recover_latest(case, primary, protected, killed_ns):
    case.say("recovering the latest point")
    latest = Recovered(case, protected, "latest", "latest")
    case.say(f"PostgreSQL answers on the recovered disk {latest.rto_ms:.0f} ms after the order")
    newest = latest.newest_row(0)
    lost_rows_ms = primary.client.lost_ms(newest, killed_ns)
    figures = latest.check_disk_and_remove(primary, kill=killed_ns)
    rpo_ms = max(lost_rows_ms, figures["rpo_ms"])
    committed = primary.client.newest_before(killed_ns)
    case.say(f"rows to {newest} of {committed} acknowledged are there, stamped writes are an exact prefix, "
             f"{figures['missing_completed']} of {figures['operations_logged']} are missing: {rpo_ms:.0f} ms are lost")
    check(rpo_ms < 5000, f"{rpo_ms:.0f} ms of acknowledged work are lost; that is no second")
    return newest, rpo_ms, latest.rto_ms, figures["bytes_verified"]


def recover_earlier(case, primary, protected, earlier_ns, latest_row):
    case.say(f"recovering the earlier second {rfc3339(earlier_ns)}")
    earlier = Recovered(case, protected, rfc3339(earlier_ns), "earlier")
    committed = primary.client.newest_before(earlier_ns - CLOCK_TOLERANCE_NS)
    newest = earlier.newest_row(committed)
    check(newest < latest_row, f"the earlier second shows row {newest}, no earlier state than row {latest_row}")
    figures = earlier.check_disk_and_remove(primary, not_after=earlier_ns + CLOCK_TOLERANCE_NS,
                                            flushed_before=earlier_ns - CLOCK_TOLERANCE_NS)
    case.say(f"it shows rows to {newest}: {committed} had been committed by then, and nothing later is there")
    return figures["bytes_verified"]


def quickstart(case):
    primary = Primary(case)
    protected = protect(case, primary)
    earlier_ns = run_for_a_while(case, primary, protected)
    killed_ns = primary.tear_away(protected.agent)
    case.say("the agent is killed and the disk is gone")
    newest, rpo_ms, rto_ms, verified = recover_latest(case, primary, protected, killed_ns)
    verified += recover_earlier(case, primary, protected, earlier_ns, newest)
    protected.receiver.stop()
    return f"quickstart: ok rpo_ms={rpo_ms:.0f} rto_ms={rto_ms:.0f} bytes_verified={verified}"


harness.main(quickstart)
