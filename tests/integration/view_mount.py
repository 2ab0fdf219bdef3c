#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""understudyctl mount and diff: the file systems of a server at a second, ext4 and XFS on partitions and on a whole
disk, while they are mounted and written to at the source; nothing is left behind, whatever is killed."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import devices
import harness
from daemons import CONTROL, MIB
from harness import check, program
from scenario import Protected
from views_control import Views


def digests(directory):
    """{relative path: sha256} of the files below a directory."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def loops_below(directory):
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if path.read_text().startswith(str(directory)):
                found.append(path.parent.parent.name)
        except OSError:
            continue
    return found


def check_nothing_left(case, views):
    case.wait_until("no loop device of a view is left", lambda: not loops_below(views.directory), timeout=10)
    table = Path("/proc/self/mountinfo").read_text()
    check(str(views.directory) not in table, f"mounts are left:\n{table}")
    check(views.processes() == [], f"processes are left: {views.processes()}")
    left = [path.name for path in views.directory.iterdir() if path.name != "lock"]
    check(not left, f"files are left: {left}")


def mark(case, protected, name):
    case.run(program(CONTROL), "--socket", protected.agent.socket, "mark", name, "--wait")


def change(mounts):
    """Of each kind of change one, on each file system."""
    for mount in mounts:
        with open(mount / "grown", "ab") as file:
            file.write(b"more")
        data = bytearray((mount / "rewritten").read_bytes())
        data[100] ^= 1
        times = os.stat(mount / "rewritten")
        (mount / "rewritten").write_bytes(data)  # same length, same time: only its bytes tell
        os.utime(mount / "rewritten", ns=(times.st_atime_ns, times.st_mtime_ns))
        (mount / "gone").unlink()
        (mount / "new dir").mkdir()
        (mount / "new dir" / "new\nname").write_text("new")
        (mount / "mode").chmod(0o600)
        (mount / "link").unlink()
        (mount / "link").symlink_to("elsewhere")
    os.sync()


def fill(mounts):
    for number, mount in enumerate(mounts):
        for name in ("kept", "grown", "rewritten", "gone", "mode"):
            (mount / name).write_bytes(os.urandom(20000 + number))
        (mount / "link").symlink_to("kept")
        (mount / "deep" / "er").mkdir(parents=True)
        (mount / "deep" / "er" / "file").write_text(f"{number}")
    os.sync()


def check_mount(case, views, expected):
    """Several file systems: a directory each, read-only, with the files of the point."""
    target = case.directory / "at point"
    target.mkdir()
    mounted = views.mount("before", target)
    names = {volume["directory"]: volume["type"] for volume in mounted["volumes"] if volume["directory"]}
    check(names == {f"{target}/0p1": "ext4", f"{target}/0p2": "xfs", f"{target}/1": "ext4"}, f"mounted: {names}")
    for directory, files in zip(names, expected):
        check(digests(directory) == files, f"'{directory}' has other files than the source had")
        refused = case.run("touch", f"{directory}/new", status=None)
        check("Read-only" in refused.stderr, f"'{directory}' can be written to")
    busy = views.control("view", "close", mounted["view"], status=1)
    check("is mounted at" in busy.stderr, f"a mounted view was closed: {busy.stderr}")
    holder = case.spawn("holder", "sleep", "1000", cwd=f"{target}/0p2")
    case.wait_until("the mount is in use", lambda: os.path.exists(f"/proc/{holder.pid}/cwd"))
    check("is in use" in views.control("umount", target, status=1).stderr, "a mount in use was not named")
    holder.kill()
    views.control("umount", target)
    check(list(target.iterdir()) == [], "something is still mounted")
    check("no view is mounted at" in views.control("umount", target, status=1).stderr, "unmounted twice")
    check_nothing_left(case, views)


def check_single(case, views, expected):
    """One file system stands at the directory itself; a disk without any is refused."""
    target = case.directory / "single"
    target.mkdir()
    views.mount("before", target, "--disk", "1")
    check(digests(target) == expected, "the single file system has other files")
    views.control("umount", target)
    refused = views.control("mount", views.word("before"), target, "--disk", "2", *views.receiver(), status=1)
    check("there is no file system" in refused.stderr and "disk 2" in refused.stderr, refused.stderr)
    missing = views.control("mount", views.word("before"), target / "nowhere", *views.receiver(), status=None)
    check(missing.returncode != 0 and "No such file" in missing.stderr, missing.stderr)
    check_nothing_left(case, views)


def check_diff(case, protected, views):
    """By files: each kind of change on each file system and nothing else. By blocks: exactly where images differ."""
    words = [views.word("before"), "@after", "--json", *views.receiver()]
    files = json.loads(views.control("diff", *words, "--files").stdout)
    check([volume["volume"] for volume in files["volumes"]] == ["0p1", "0p2", "1"], f"compared: {files}")
    expected = {("gone", "removed", ()), ("grown", "changed", ("size", "content", "time")),
                ("link", "changed", ("target", "time")), ("mode", "changed", ("mode",)), ("new dir", "added", ()),
                (r"new dir/new\x0aname", "added", ()), ("rewritten", "changed", ("content",))}
    for volume in files["volumes"]:
        found = {(change["path"], change["change"], tuple(change["what"])) for change in volume["changes"]}
        check(found == expected, f"volume {volume['volume']}: {found ^ expected}")
    check_nothing_left(case, views)
    same = json.loads(views.control("diff", views.word("before"), views.word("before"), "--files", "--json",
                                    *views.receiver()).stdout)
    check(all(volume["changes"] == [] for volume in same["volumes"]), f"a point differs from itself: {same}")
    blocks = json.loads(views.control("diff", *words).stdout)
    before, after = protected.restore_all("@before", "old"), protected.restore_all("@after", "new")
    for disk, old, new in zip(blocks["disks"], before, after):
        ranges = changed_blocks(old, new)
        check([(r["offset_bytes"], r["length_bytes"]) for r in disk["ranges"]] == ranges,
              f"disk {disk['slot']} differs elsewhere: {disk['ranges'][:5]}, {ranges[:5]}")
    check(len(blocks["disks"]) == 3 and blocks["disks"][0]["ranges"] and not blocks["disks"][2]["ranges"],
          "the disks differ where nothing was written, or not at all")
    other = views.control("diff", views.word("before"), "web-0@after", *views.receiver(), status=2)
    check("cannot be compared" in other.stderr, other.stderr)
    for image in before + after:
        image.unlink()


def changed_blocks(first, second, block=4096):
    """[(offset, length)] of the blocks that differ, neighbours joined."""
    ranges = []
    with open(first, "rb") as left, open(second, "rb") as right:
        at = 0
        while data := left.read(block):
            if data != right.read(block):
                if ranges and sum(ranges[-1]) == at:
                    ranges[-1] = (ranges[-1][0], ranges[-1][1] + len(data))
                else:
                    ranges.append((at, len(data)))
            at += len(data)
    return ranges


def check_killed(case, views):
    """Whatever is killed: the next call cleans up."""
    target = case.directory / "killed"
    target.mkdir()
    for victim in ("nbdkit", "nbdfuse"):
        views.mount("before", target)
        for pid, name in views.processes():
            if name.startswith(victim):
                os.kill(pid, signal.SIGKILL)
        said = views.control("view", "list").stderr
        check("had lost its server: removed" in said, f"the dead mount was not told of: {said}")
        check(list(target.iterdir()) == [], "something is still mounted")
        check_nothing_left(case, views)


def check_mount_killed(case, views):
    """understudyctl itself, at whatever moment of a mount."""
    target = case.directory / "interrupted"
    target.mkdir()
    for delay_ms in (0, 30, 60, 100, 150, 220, 300):
        process = case.spawn(f"mount-{delay_ms}", program(CONTROL), "mount", views.word("before"), target, "--views",
                             views.directory, *views.receiver())
        until = time.monotonic() + delay_ms / 1000
        case.wait_until("it has worked a while", lambda: time.monotonic() >= until, interval=0.005)
        process.kill()
        for view in views.list():
            views.control("view", "close", view["view"], "--force")
        check(list(target.iterdir()) == [], "something is still mounted")
        check_nothing_left(case, views)


def test(case):
    memory = case.tmpfs("mem")
    first = devices.LoopDisk(case, memory / "first.img", 400 * MIB, partitions=[64 * MIB, 0])
    second = devices.LoopDisk(case, memory / "second.img", 64 * MIB)
    third = devices.LoopDisk(case, memory / "third.img", 16 * MIB)
    mounts = []
    for kind, device in (("ext4", first.partition(1)), ("xfs", first.partition(2)), ("ext4", second.device)):
        devices.make_file_system(case, kind, device)
        mounts.append(devices.Mount(case, device, case.directory / f"source-{len(mounts)}").directory)
    protected = Protected(case, [first, second, third])
    views = Views(case, protected)
    fill(mounts)
    protected.start()
    expected = [digests(mount) for mount in mounts]
    mark(case, protected, "before")
    change(mounts)
    mark(case, protected, "after")
    check_mount(case, views, expected)
    check_single(case, views, expected[2])
    check_diff(case, protected, views)
    check_killed(case, views)
    check_mount_killed(case, views)


harness.main(test)
