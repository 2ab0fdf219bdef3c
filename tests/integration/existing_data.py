#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A full copy under load moves what file systems use. The disks were full of garbage before file systems were made on
them: a partitioned one with ext4 of three kinds, XFS, swap and a raw partition, busy while it is copied, and one whose
ext4 and XFS are not mounted. What is recovered has sound file systems with every file, and every used byte."""

import os
import random
import subprocess

import devices
import harness
import oracle
import workloads
from daemons import MIB, rfc3339
from harness import check
from scenario import CLOCK_TOLERANCE_NS, Protected, now_between_writes

SIZES = [320 * MIB, 400 * MIB, 96 * MIB, 100 * MIB, 120 * MIB, 0]
EXT4, XFS, SWAP, SMALL_BLOCKS, CLUSTERS, RAW = range(1, 7)
# What is mounted: name: (partition, kind, options of mkfs).
MOUNTED = {"ext4": (EXT4, "ext4", []), "xfs": (XFS, "xfs", []), "small-blocks": (SMALL_BLOCKS, "ext4", ["-b", "1024"]),
           "clusters": (CLUSTERS, "ext4", ["-O", "bigalloc", "-C", "16384"])}
BUSY_BYTES = 1080 * MIB
QUIET_BYTES = 650 * MIB
STAMPED_EXT4, STAMPED_XFS, STAMPED_RAW = 1, 2, 3
# What copies move beside used blocks: the other parts of their granules.
SLACK_BYTES = 24 * MIB


def garbage(path, size_bytes):
    block = random.randbytes(MIB)
    with open(path, "xb") as file:
        for _ in range(size_bytes // MIB):
            file.write(block)


def fill(directory, files, seed):
    """Files of all sizes, some of them deleted again. Every byte is known from the seed."""
    source = random.Random(seed)
    for number in range(files):
        (directory / f"file-{number}").write_bytes(source.randbytes(source.randrange(600_000)))
    for number in range(0, files, 4):
        (directory / f"file-{number}").unlink()


def not_free_bytes(directory, size_bytes):
    """Files and metadata: what a file system on a partition of this size does not call free."""
    figures = os.statvfs(directory)
    return size_bytes - figures.f_bfree * figures.f_frsize


def partition_bytes(disk, number):
    name = disk.device.removeprefix("/dev/")
    with open(f"/sys/block/{name}/{name}p{number}/size", encoding="ascii") as file:
        return int(file.read()) * 512


def sectors_written(disk):
    name = disk.device.removeprefix("/dev/")
    with open(f"/sys/block/{name}/stat", encoding="ascii") as file:
        return int(file.read().split()[6])


def whole_partition(disk, number):
    begin = disk.partition_offset(number)
    return begin, begin + partition_bytes(disk, number)


class Busy:
    """The mounted disk and what is going on on it."""

    def __init__(self, case, memory):
        self.case = case
        garbage(memory / "busy.img", BUSY_BYTES)
        self.disk = devices.LoopDisk(case, memory / "busy.img", BUSY_BYTES, SIZES)
        self.mounts = {}
        for name, (number, kind, options) in MOUNTED.items():
            devices.make_file_system(case, kind, self.disk.partition(number), discard=False, options=options)
            self.mounts[name] = devices.Mount(case, self.disk.partition(number), case.directory / name)
            fill(self.mounts[name].directory, 100, number)
            devices.write_zeros(self.mounts[name].directory / "stamped", 8 * MIB)
        case.run("blkdiscard", "--zeroout", self.disk.partition(RAW))  # the oracle knows zeros and stamps only
        case.run("mkswap", "--label", "spare", self.disk.partition(SWAP))
        case.run("sync")
        self.used_bytes = sum(not_free_bytes(self.mounts[name].directory, partition_bytes(self.disk, number))
                              for name, (number, _, _) in MOUNTED.items())
        self.raw_bytes = BUSY_BYTES - self.disk.partition_offset(RAW)

    def start_load(self):
        directories = {name: mount.directory for name, mount in self.mounts.items()}
        self.run = oracle.StampRun(self.case, {STAMPED_EXT4: directories["ext4"] / "stamped",
                                               STAMPED_XFS: directories["xfs"] / "stamped",
                                               STAMPED_RAW: self.disk.partition(RAW)},
                                   rate=4 * MIB, max_bytes=256 << 10, flush_every=20)
        self.loads = [workloads.FileMixer(self.case, directory / "mix", seed=seed)
                      for seed, directory in enumerate(directories.values())]

    def stop_load(self):
        for load in self.loads:
            load.stop()
        self.run.stop()
        self.case.run("sync")

    def free(self):
        """What need not be identical. All of the one with clusters: a used cluster may hold blocks that no file maps
        and nobody has written. Its files are compared."""
        extents = [whole_partition(self.disk, CLUSTERS)]
        for number, kind, _ in MOUNTED.values():
            if number != CLUSTERS:
                extents += devices.free_extents(self.case, kind, self.disk.partition(number),
                                                self.disk.partition_offset(number))
        return sorted(extents)

    def check_image(self, image, compare_with=None, **requirements):
        """File systems of a recovered disk; with `compare_with`, a file for file comparison."""
        case = self.case
        copy = devices.LoopDisk(case, image, BUSY_BYTES)
        copy.partitioned = True
        case.run("partx", "--update", copy.device)
        label = case.run("blkid", "-p", "-o", "value", "-s", "LABEL", copy.partition(SWAP)).stdout.strip()
        check(label == "spare", f"the swap area of the recovered disk has the label '{label}'")
        stamped = {STAMPED_RAW: f"{image}@{self.disk.partition_offset(RAW)}"}
        mounts = []
        for name, (number, kind, _) in MOUNTED.items():
            devices.check_file_system(case, kind, copy.partition(number))
            mount = devices.Mount(case, copy.partition(number), case.directory / f"restored-{name}",
                                  "nouuid" if kind == "xfs" else "defaults")
            mounts.append(mount)
            if name in ("ext4", "xfs"):
                stamped[STAMPED_EXT4 if name == "ext4" else STAMPED_XFS] = mount.directory / "stamped"
            if compare_with:
                done = subprocess.run(["diff", "-r", "--no-dereference", compare_with[name], mount.directory],
                                      capture_output=True, text=True, check=False)
                check(done.returncode == 0, f"{name}: files differ:\n{done.stdout[:2000]}{done.stderr[:500]}")
        figures = oracle.verify(case, self.run, stamped, **requirements)
        for mount in mounts:
            mount.unmount()
        copy.detach()
        return figures


def quiet_disk(case, memory):
    """Two file systems that are not mounted; what they use."""
    garbage(memory / "quiet.img", QUIET_BYTES)
    disk = devices.LoopDisk(case, memory / "quiet.img", QUIET_BYTES, [280 * MIB, 0])
    used = 0
    for kind, number in (("ext4", 1), ("xfs", 2)):
        devices.make_file_system(case, kind, disk.partition(number), discard=False)
        if kind == "xfs":  # as clones have it: blocks that bear another identity than the super block
            case.run("xfs_admin", "-U", "generate", disk.partition(number))
        mount = devices.Mount(case, disk.partition(number), case.directory / f"quiet-{kind}")
        fill(mount.directory, 100, 10 + number)
        case.run("sync")
        used += not_free_bytes(mount.directory, partition_bytes(disk, number))
        mount.unmount()
    return disk, used


def quiet_free(case, disk):
    return sorted(devices.free_extents(case, "ext4", disk.partition(1), disk.partition_offset(1)) +
                  devices.free_extents(case, "xfs", disk.partition(2), disk.partition_offset(2)))


def check_bytes(case, protected, status, used, raw, written):
    """Sent: what is used, what is raw, what was written meanwhile, and little more."""
    total = sum(disk.size_bytes for disk in protected.disks)
    left_out = status["copy_left_out_bytes"]
    allowed = used + raw + SLACK_BYTES
    case.say(f"of {total // MIB} MiB, {used // MIB} MiB are used and {raw // MIB} MiB raw; {left_out // MIB} MiB were "
             f"left out, {status['copy_total_bytes'] // MIB} MiB copied, {status['raw_bytes_sent'] // MIB} MiB sent")
    check(status["copy_total_bytes"] == total - left_out, f"the total is not what was to be sent: {status}")
    for figure, limit in (("copy_total_bytes", allowed + written), ("raw_bytes_sent", allowed + 2 * written)):
        check(status[figure] <= limit, f"{figure} is {status[figure] // MIB} MiB, more than {limit // MIB}")


def test(case):
    memory = case.tmpfs("mem")
    busy = Busy(case, memory)
    quiet, quiet_used = quiet_disk(case, memory)
    busy.start_load()
    protected = Protected(case, [busy.disk, quiet], ring_bytes=256 * MIB, copy={"leave_out_swap": True})
    before = sectors_written(busy.disk)
    protected.start()
    written = (sectors_written(busy.disk) - before) * 512
    status = protected.agent.status()
    check_bytes(case, protected, status, busy.used_bytes + quiet_used, busy.raw_bytes, written)
    codes = {finding["code"] for finding in status["findings"]}
    check("root-elsewhere" in codes and "not-left-out" not in codes, f"findings: {status['findings']}")
    time_ns = now_between_writes(busy.run, 100)
    busy.stop_load()
    protected.agent.wait_caught_up()
    images = protected.restore_all("latest", "live")
    busy.check_image(images[0], {name: mount.directory for name, mount in busy.mounts.items()}, completed_before="all")
    for mount in busy.mounts.values():
        mount.unmount()
    protected.check_identical({0: sorted([*busy.free(), swap_content(busy.disk)]), 1: quiet_free(case, quiet)})
    earlier = protected.restore_all(rfc3339(time_ns), "earlier")
    busy.check_image(earlier[0], not_after=time_ns + CLOCK_TOLERANCE_NS, flushed_before=time_ns - CLOCK_TOLERANCE_NS)
    protected.check_no_gap_but_the_first()


def swap_content(disk):
    begin = disk.partition_offset(SWAP)
    return begin + (64 << 10), begin + SIZES[SWAP - 1]


harness.main(test)
