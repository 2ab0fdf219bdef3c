# SPDX-License-Identifier: Apache-2.0
"""Loop disks, partitions, file systems and mounts, each undone when the case ends."""

import os
import re
import subprocess
from pathlib import Path

from harness import Failure, check

MIB = 1 << 20


class LoopDisk:
    """A whole block device over a file. With partitions=[bytes, ..., 0]: a GPT, 0 = the rest of the disk."""

    def __init__(self, case, path, size_bytes, partitions=(), read_only=False):
        self.case = case
        self.image = Path(path)
        self.size_bytes = size_bytes
        self.partitioned = bool(partitions)
        if not self.image.exists():
            with open(self.image, "xb") as file:
                file.truncate(size_bytes)
        if partitions:
            self._partition(partitions)
        self.device = None
        self.attach(read_only)

    def _partition(self, partitions):
        lines = ["label: gpt"] + [f"size={size // 512}" if size else "size=+" for size in partitions]
        self.case.run("sfdisk", "--quiet", self.image, input="\n".join(lines) + "\n")

    def attach(self, read_only=False):
        access = ["--read-only"] if read_only else []
        self.device = self.case.run("losetup", "--find", "--show", "--partscan", *access, self.image).stdout.strip()
        self.case.defer(self.detach)
        if self.partitioned:  # kernels without a GPT parser are told what the table says
            self.case.run("partx", "--update", self.device)

    def detach(self):
        """Takes the disk away, with whatever is still using it left behind."""
        if self.device is not None:
            device, self.device = self.device, None
            self.case.run("losetup", "--detach", device)

    def partition(self, number):
        node = f"{self.device}p{number}"
        self.case.wait_until(f"{node} is there", lambda: os.path.exists(node), timeout=10)
        return node

    def partition_offset(self, number):
        """Bytes from the start of the disk."""
        name = os.path.basename(self.device)
        return int(Path(f"/sys/block/{name}/{name}p{number}/start").read_text()) * 512

    def flush(self):
        self.case.run("blockdev", "--flushbufs", self.device)


def make_file_system(case, kind, device, discard=True, options=()):
    """Without discard, what stood in the free space before stays there."""
    command = {"ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0," +
                        ("discard" if discard else "nodiscard")],
               "xfs": ["mkfs.xfs", "-q", "-f", *([] if discard else ["-K"])]}[kind]
    case.run(*command, *options, device)


def free_extents(case, kind, device, offset=0):
    """[(begin, end)] in bytes, `offset` added, of what a clean file system does not use, by its own tools."""
    if kind == "ext4":
        text = case.run("dumpe2fs", device).stdout
        block = int(re.search(r"^Block size: +(\d+)$", text, re.MULTILINE)[1])
        parts = [part.strip().split("-") for line in re.findall(r"^  Free blocks: (.*)$", text, re.MULTILINE)
                 for part in line.split(",") if part.strip()]
        # With clusters, dumpe2fs names the first block of the last free cluster as the end.
        cluster = re.search(r"^Cluster size: +(\d+)$", text, re.MULTILINE)
        step = int(cluster[1]) // block if cluster else 1
        extents = [(int(part[0]), int(part[-1]) + step) for part in parts]
    else:
        super_block = case.run("xfs_db", "-r", "-c", "sb 0", "-c", "p blocksize agblocks", device).stdout
        block, group_blocks = (int(value) for value in re.findall(r"= (\d+)", super_block))
        rows = [list(map(int, line.split())) for line in case.run("xfs_db", "-r", "-c", "freesp -d", device)
                .stdout.splitlines() if re.fullmatch(r"[ \d]+", line)]
        extents = [(row[0] * group_blocks + row[1], row[0] * group_blocks + row[1] + row[2]) for row in rows
                   if len(row) == 3]
    return sorted((offset + begin * block, offset + end * block) for begin, end in extents)


class Mount:
    def __init__(self, case, device, directory, options="defaults"):
        self.case = case
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        case.run("mount", "-o", options, device, self.directory)
        self.mounted = True
        case.defer(self.unmount)

    def unmount(self):
        """Waits for the last users to go: killed servers leave children that notice a little later."""
        if self.mounted:
            self.case.wait_until(f"{self.directory} can be unmounted", self.try_unmount, timeout=30, interval=0.1)

    def try_unmount(self):
        self.mounted = self.mounted and self.case.run("umount", self.directory, status=None).returncode != 0
        return not self.mounted


def write_zeros(path, size_bytes):
    """A file whose blocks are allocated, written and known to the file system: later writes do not move anything."""
    with open(path, "xb") as file:
        for _ in range(size_bytes // MIB):
            file.write(bytes(MIB))
        file.flush()
        os.fsync(file.fileno())


def require_identical(case, first, second):
    """Byte for byte; the message names the first difference."""
    done = case.run("cmp", first, second, status=None)
    check(done.returncode == 0, f"not identical: {done.stdout.strip()}{done.stderr.strip()}")


def require_identical_but(case, first, second, free):
    """Byte for byte but for the extents `free` (sorted); the number of bytes compared."""
    compared, at = 0, 0
    size = os.path.getsize(second)
    for begin, end in [*free, (size, size)]:
        if begin > at:
            done = case.run("cmp", "--ignore-initial", at, "--bytes", begin - at, first, second, status=None)
            check(done.returncode == 0, f"not identical from {at} on: {done.stdout.strip()}{done.stderr.strip()}")
            compared += begin - at
        at = max(at, end)
    return compared


def check_file_system(case, kind, device):
    """Replays the journal by mounting (as a recovering host would), then checks without repairing anything."""
    point = case.directory / "journal-replay"
    mount = Mount(case, device, point, "nouuid" if kind == "xfs" else "defaults")
    mount.unmount()
    check_without_replay(case, kind, device)


def check_without_replay(case, kind, device):
    command = ["e2fsck", "-fn", device] if kind == "ext4" else ["xfs_repair", "-n", device]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise Failure(f"'{' '.join(command)}' found damage:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
