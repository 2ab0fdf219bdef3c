#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing keeps a file system frozen: on ext4 and XFS with writers, the process that holds a freeze is killed, stopped,
or forgets about it, and its guard is killed or stopped. The writers go on, at the deadline at the latest."""

import os
import signal
import subprocess

import devices
import harness
from daemons import AGENT, MIB
from harness import Failure, check, program
from writers import Progress

HOLD = "tests/integration/freeze/hold-freeze"
DEADLINE_MS = 2000
LONG_MS = 600_000


class Holder:
    def __init__(self, case, directories, deadline_ms=DEADLINE_MS):
        self.case = case
        self.child = subprocess.Popen([program(HOLD), program(AGENT), str(deadline_ms), *map(str, directories)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        case.defer(self.end)
        self.said = self.child.stdout.readline().strip()
        self.guard = int(self.said.split()[1]) if self.said.startswith("frozen ") else None

    def thaw(self):
        self.child.stdin.write("\n")
        said = self.child.stdout.readline().strip()
        check(self.child.wait(30) == 0, "the holder failed")
        return said

    def signal(self, number):
        self.child.send_signal(number)

    def end(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


def require_frozen(case, writers):
    counts = [writer.settle() for writer in writers]
    check(not any(writer.moved_since(count) for writer, count in zip(writers, counts)), "a writer got through a freeze")
    case.say(f"frozen at {counts}")


def gone(pid):
    try:
        return b") Z " in open(f"/proc/{pid}/stat", "rb").read()
    except FileNotFoundError:
        return True


def check_all_go_on(case, holder, writers):
    for writer in writers:
        writer.wait_for_more(timeout=60)
    case.wait_until("the guard is gone", lambda: gone(holder.guard), timeout=60)


def test(case):
    memory = case.tmpfs("mem")
    directories = []
    for kind in ("ext4", "xfs"):
        disk = devices.LoopDisk(case, memory / f"{kind}.img", 512 * MIB)
        devices.make_file_system(case, kind, disk.device)
        directories.append(devices.Mount(case, disk.device, case.directory / f"on-{kind}").directory)
    writers = [Progress(case, path.name, path) for path in directories]

    holder = Holder(case, directories, LONG_MS)
    check(holder.guard, f"a quiet freeze failed: {holder.said}")
    require_frozen(case, writers)
    check(holder.thaw() == "held", "a thaw in time was not told as held")
    check_all_go_on(case, holder, writers)

    holder = Holder(case, directories)
    check_all_go_on(case, holder, writers)  # the deadline
    said = holder.thaw()
    check("not held: the deadline of 2 s passed" in said, f"after the deadline it was said: {said}")

    # A long deadline, so that it is the death that thaws.
    holder = Holder(case, directories, LONG_MS)
    require_frozen(case, writers)
    holder.signal(signal.SIGKILL)
    check_all_go_on(case, holder, writers)

    holder = Holder(case, directories)
    holder.signal(signal.SIGSTOP)
    check_all_go_on(case, holder, writers)
    holder.signal(signal.SIGCONT)
    check("not held" in holder.thaw(), "a holder that was stopped over its deadline was told that it held")

    # What signals can be ignored are; the guard that is killed after all has its holder behind it.
    holder = Holder(case, directories, LONG_MS)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM):
        os.kill(holder.guard, number)
    require_frozen(case, writers)
    os.kill(holder.guard, signal.SIGKILL)
    check("not held" in holder.thaw(), "a freeze without its guard was told as held")
    check_all_go_on(case, holder, writers)

    holder = Holder(case, directories)
    os.kill(holder.guard, signal.SIGSTOP)
    check("not held" in holder.thaw(), "a freeze with a guard that was stopped was told as held")
    check_all_go_on(case, holder, writers)

    somebody_else(case, directories, writers)
    for writer in writers:
        writer.stop()


def somebody_else(case, directories, writers):
    """Tools that freeze and thaw the same file systems are told apart from us, and left alone."""
    case.run("fsfreeze", "--freeze", directories[1])
    try:
        holder = Holder(case, directories)
        check("frozen already" in holder.said and str(directories[1]) in holder.said, f"it was said: {holder.said}")
        writers[0].wait_for_more()
        count = writers[1].settle()
        check(not writers[1].moved_since(count), "the freeze of somebody else was ended")
    finally:
        case.run("fsfreeze", "--unfreeze", directories[1])
    holder = Holder(case, directories, LONG_MS)
    if holder.guard is None:
        raise Failure(f"it was said: {holder.said}")
    case.run("fsfreeze", "--unfreeze", directories[0])
    said = holder.thaw()
    check("thawed by somebody else" in said, f"it was said: {said}")
    check_all_go_on(case, holder, writers)


harness.main(test)
