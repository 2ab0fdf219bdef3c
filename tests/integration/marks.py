#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Application-consistent marks of a busy server with ext4, XFS and a loop file system on one protected disk, the
agent's own log and state on it, too: what is restored by them is clean, and whatever befalls the agent while the file
systems are frozen (SIGKILL, SIGSTOP), the writers go on at the deadline."""

import contextlib
import json
import os
import signal
from pathlib import Path

import devices
import harness
from daemons import AGENT, CONTROL, MIB
from harness import check, program, wall_ns
from scenario import Protected
from workloads import SqliteLoad
from writers import Progress, meet_a_freeze

DEADLINE_S = 3


def mark(case, protected, label, status=0, application=True):
    command = [program(CONTROL), "--socket", protected.agent.socket, "mark", "--label", label, "--wait", "--json"]
    done = case.run(*command, *(["--application-consistent"] if application else []), status=status, timeout=120)
    return (json.loads(done.stdout) if done.stdout else None), done.stderr


def order(case, protected, label):
    case.run(program(CONTROL), "--socket", protected.agent.socket, "mark", "--label", label, "--application-consistent")


def listed(protected, label):
    found = [entry for entry in protected.restore.timeline()["marks"] if entry["name"] == label]
    check(len(found) == 1, f"the list has {len(found)} marks '{label}'")
    return found[0]


def set_hooks(protected, *hooks):
    policy = {"freeze": {"deadline": f"{DEADLINE_S}s"}}
    protected.agent.config["marks"] = policy | ({"hooks": list(hooks)} if hooks else {})
    before = protected.agent.log_size()
    protected.agent.write_config()
    protected.agent.process.signal(signal.SIGHUP)
    protected.agent.wait_for_log("configuration reloaded", since=before)


def script(case, name, body):
    path = case.directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def guards():
    """Process numbers of the freeze guards of our agent that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"--freeze-guard" in path.read_bytes() and os.readlink(path.parent / "exe") == program(AGENT):
                found.append(int(path.parent.name))
    return found


def check_clean_at(case, protected, label, disk, kinds):
    """A frozen ext4 needs no journal replay; XFS leaves its log to be replayed by design, and is sound after that."""
    image = protected.restore_all(f"@{label}", f"at-{label}")[0]
    copy = devices.LoopDisk(case, image, disk.size_bytes)
    copy.partitioned = True
    case.run("partx", "--update", copy.device, status=None)
    for number, kind in kinds.items():
        if kind == "ext4":
            devices.check_without_replay(case, kind, copy.partition(number))
        devices.check_file_system(case, kind, copy.partition(number))
    copy.detach()
    image.unlink()


def failures(case, protected):
    """Each thing that may go wrong gives a crash-consistent mark that says so, and nothing stays frozen."""
    marker = case.directory / "post-ran"
    post = script(case, "post", f"echo $UNDERSTUDY_PRE_RESULT >> {marker}")
    expected = 0
    for label, pre, reason in (
            ("failing", "echo broken; exit 3", "ended with exit status 3, it said: broken"),
            ("hanging", "exec sleep 1000", "did not end within 1 s"),
            ("garbage", "printf '\\033[2J\\377\\000'; head -c 100000 /dev/urandom; exit 1", "it said: \\x1b[2J\\xff")):
        hook = {"name": label, "pre": script(case, f"pre-{label}", pre), "post": post, "timeout": "1s"}
        set_hooks(protected, hook)
        made, said = mark(case, protected, label, status=1)
        check(made["consistency"] == "crash" and made["state"] == "durable", f"'{label}' became {made}")
        check(reason in made["reason"], f"'{label}': the reason is '{made['reason']}', not '{reason}'")
        check(reason in said, f"'{label}': understudyctl said '{said}'")
        entry = listed(protected, label)
        check(entry["consistency"] == "crash" and entry["reason"] == made["reason"], f"listed as {entry}")
        expected += 1
        case.wait_until("the post hook ran", lambda: marker.exists() and len(marker.read_text().split()) >= expected)
    check(marker.read_text().split() == ["failed"] * expected, f"post hooks were told {marker.read_text().split()}")


def frozen_by_somebody_else(case, protected, directory, writer):
    set_hooks(protected)
    case.run("fsfreeze", "--freeze", directory)
    try:
        made, _ = mark(case, protected, "taken", status=1)
        check("frozen already" in made["reason"], f"the reason is '{made['reason']}'")
        count = writer.settle()
        check(not writer.moved_since(count), "the freeze of somebody else was ended")
    finally:
        case.run("fsfreeze", "--unfreeze", directory)


def outcome(protected, label):
    recent = protected.agent.status()["marks"]["recent"]
    return next((entry for entry in reversed(recent) if entry["label"] == label), None)


def stop_while_frozen(case, protected, name, writers):
    return meet_a_freeze(case, writers, name, lambda label: order(case, protected, label), guards,
                         lambda label: outcome(protected, label)["state"] == "durable", protected.agent.pause,
                         protected.agent.resume)


def check_agent_stopped(case, protected, writers):
    label = stop_while_frozen(case, protected, "stopped", writers)
    for writer in writers:  # at the deadline, with the agent still stopped
        writer.wait_for_more(timeout=DEADLINE_S + 60)
    protected.agent.resume()
    case.wait_until("the mark is made", lambda: outcome(protected, label)["state"] == "durable")
    made = outcome(protected, label)
    check(made["consistency"] == "crash" and "deadline" in made["reason"], f"the mark became {made}")
    check(listed(protected, label)["consistency"] == "crash", "the list claims more than was")
    case.wait_until("the guard is gone", lambda: not guards())


def check_agent_killed(case, protected, writers):
    stop_while_frozen(case, protected, "killed", writers)
    protected.agent.kill()
    for writer in writers:
        writer.wait_for_more(timeout=DEADLINE_S + 60)
    case.wait_until("the guard is gone", lambda: not guards())
    protected.agent.start()
    protected.agent.wait_realtime()
    made, _ = mark(case, protected, "after-kill")
    check(made["consistency"] == "application", f"after the restart a mark became {made}")


def test(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", 1024 * MIB, partitions=[384 * MIB, 0])
    kinds = {1: "ext4", 2: "xfs"}
    mounts = {}
    for number, kind in kinds.items():
        devices.make_file_system(case, kind, disk.partition(number))
        mounts[kind] = devices.Mount(case, disk.partition(number), case.directory / f"on-{kind}")
    inner = devices.LoopDisk(case, mounts["xfs"].directory / "inner.img", 128 * MIB)
    devices.make_file_system(case, "ext4", inner.device)
    mounts["inner"] = devices.Mount(case, inner.device, case.directory / "on-inner")
    second = devices.Mount(case, disk.partition(1), case.directory / "on-ext4-again")
    bind = case.directory / "bind"
    bind.mkdir()
    case.run("mount", "--bind", mounts["xfs"].directory, bind)
    case.defer(case.run, "umount", bind)
    # The agent's own state lies on what it freezes.
    state = mounts["ext4"].directory / "agent-state"
    protected = Protected(case, [disk], agent_allowed=["is crash-consistent only", "gap from seq .* overflow"],
                          state_directory=state, marks={"freeze": {"deadline": f"{DEADLINE_S}s"}})
    protected.start()
    database = SqliteLoad(case, mounts["xfs"].directory / "numbered.db")
    writers = [Progress(case, name, mount.directory) for name, mount in mounts.items()]

    made, _ = mark(case, protected, "calm")
    case.say(f"frozen for {made['frozen_ns'] / 1e6:.1f} ms")
    check(made["consistency"] == "application" and made["reason"] is None, f"the mark became {made}")
    entry = listed(protected, "calm")
    check(entry["consistency"] == "application" and entry["reason"] is None, f"listed as {entry}")
    before_ns = wall_ns()
    mark(case, protected, "calm-2")
    crash, _ = mark(case, protected, "crash", application=False)
    check(crash["consistency"] == "crash" and crash["reason"] is None, f"the crash-consistent mark became {crash}")
    check_clean_at(case, protected, "calm-2", disk, kinds)
    check(database.committed_before(before_ns) > 0, "the database wrote nothing")

    failures(case, protected)
    frozen_by_somebody_else(case, protected, mounts["ext4"].directory, writers[0])
    check_agent_stopped(case, protected, writers)
    check_agent_killed(case, protected, writers)
    for writer in writers:
        writer.wait_for_more()

    database.stop()
    for writer in writers:
        writer.stop()
    second.unmount()


harness.main(test)
