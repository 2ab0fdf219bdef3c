# SPDX-License-Identifier: Apache-2.0
"""What oracle_ext4 and oracle_xfs share: a server with two disks in one stream, one of them partitioned with a busy
file system; stamped writes in a file, through a partition and on a whole disk; points from all over the run."""

import devices
import oracle
import workloads
from daemons import MIB, rfc3339
from harness import check, wall_ns
from scenario import CLOCK_TOLERANCE_NS, Protected, raw_disk

FILE_SYSTEM_BYTES = 640 * MIB
STAMPED_FILE, STAMPED_PARTITION, STAMPED_DISK = 1, 2, 3
POINTS = 4


class Server:
    def __init__(self, case, kind):
        self.case = case
        self.kind = kind
        self.second = raw_disk(case, "second", 128 * MIB)
        self.first = devices.LoopDisk(case, case.directory / "mem" / "first.img", 800 * MIB, [FILE_SYSTEM_BYTES, 0])
        devices.make_file_system(case, kind, self.first.partition(1))
        self.offset = self.first.partition_offset(2)
        self.mount = devices.Mount(case, self.first.partition(1), case.directory / "mnt")
        self.stamped_file = self.mount.directory / "stamped"
        devices.write_zeros(self.stamped_file, 32 * MIB)
        case.run("sync")

    def start_load(self):
        root = self.mount.directory
        targets = {STAMPED_FILE: self.stamped_file, STAMPED_PARTITION: self.first.partition(2),
                   STAMPED_DISK: self.second.device}
        self.run = oracle.StampRun(self.case, targets, rate=12 * MIB, threads=6, max_bytes=4 * MIB, durable=5, zero=8,
                                   flush_every=20)
        self.loads = [workloads.Fio(self.case, root / "fio", size_mib=40, rate_mib=3),
                      workloads.FileMixer(self.case, root / "mix"), workloads.Trimmer(self.case, root)]
        self.sqlite = workloads.SqliteLoad(self.case, root / "numbered.sqlite")
        self.loads.append(self.sqlite)

    def stop_load(self):
        for load in self.loads:
            load.stop()
        self.run.stop()
        self.mount.unmount()

    def check_images(self, images, **requirements):
        """The first disk's file system, its stamped file, the raw partition and the second disk, at one cut."""
        case = self.case
        copy = devices.LoopDisk(case, images[0], self.first.size_bytes)
        copy.partitioned = True
        case.run("partx", "--update", copy.device)
        devices.check_file_system(case, self.kind, copy.partition(1))
        mount = devices.Mount(case, copy.partition(1), case.directory / "restored",
                              "nouuid" if self.kind == "xfs" else "defaults")
        figures = oracle.verify(case, self.run, {
            STAMPED_FILE: mount.directory / "stamped", STAMPED_PARTITION: f"{images[0]}@{self.offset}",
            STAMPED_DISK: images[1]}, **requirements)
        row = self.sqlite.check_copy(mount.directory / "numbered.sqlite", requirements.get("flushed_before", 0))
        mount.unmount()
        copy.detach()
        for image in images:
            image.unlink()
        return figures["newest_contained"], row


def run(case, kind):
    server = Server(case, kind)
    server.start_load()
    protected = Protected(case, [server.first, server.second], ring_bytes=256 * MIB)
    protected.start()
    case.say("in real time after a full copy under load")
    times, positions = [], []
    for _ in range(POINTS):
        server.run.wait_for(150)
        times.append(wall_ns())
        server.run.wait_for(150)
        positions.append(protected.agent.status()["acknowledged_seq"])
    server.stop_load()
    free = devices.free_extents(case, kind, server.first.partition(1), server.first.partition_offset(1))
    protected.check_identical({0: free})
    protected.check_no_gap_but_the_first()
    newest = []
    for time_ns, position in zip(times, positions):
        found = server.check_images(protected.restore_all(rfc3339(time_ns), "time"),
                                    not_after=time_ns + CLOCK_TOLERANCE_NS, flushed_before=time_ns - CLOCK_TOLERANCE_NS)
        case.say(f"at {rfc3339(time_ns)}: exact, newest stamped write and SQLite row {found}")
        newest.append(found)
        found = server.check_images(protected.restore_all(f"seq:{position}", "position"))
        case.say(f"at seq {position}: exact, newest stamped write and SQLite row {found}")
        newest.append(found)
    check(newest == sorted(newest) and newest[0] < newest[-1], f"points do not follow one another: {newest}")
    server.check_images(protected.restore_all("latest", "latest"), completed_before="all")
