#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent's unit leaves it is enough: below a systemd of its own (PID 1 of its namespaces) and in the unit's
sandbox capture programs load, io_uring works, a hook may become another user and file systems freeze. And when the main
process is killed, or the service stopped, in the middle of a freeze, the service manager does not kill the guard."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import devices
import harness
from daemons import AGENT, MIB
from harness import Skip, check, program
from writers import Progress

HOLD = "tests/integration/freeze/hold-freeze"
UNIT = "understudy-agent.service"
ROOT = "/run/understudy-test"  # in the memory of the namespace
SETUP = """
set -eu
hostname understudy-test
mount -t tmpfs -o mode=755 tmpfs /run
cp -r "$STAGE" {root}
mkdir -p /run/understudy /run/data
touch {root}/console
mount --bind {root}/console /dev/console
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount "$DEVICE" /run/data
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs -o mode=1777 tmpfs /tmp
exec env -i container=understudy-test SYSTEMD_UNIT_PATH={root}/units PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --system --unit=understudy-test.target --log-target=console --show-status=no
"""
# In place of the agent, which would want a receiver: what it does, in the same sandbox.
COMMANDS = """Type=exec
Restart=no
ExecStartPre=-{root}/sbin/understudy-agent --probe --json $DEVICE
ExecStartPre={root}/try
ExecStart={root}/sbin/hold-freeze {root}/sbin/understudy-agent 600000 /run/data
StandardOutput=append:{root}/log
StandardError=append:{root}/log
"""
TRY = """#!/bin/sh
set -e
python3 -c 'import ctypes
print("io_uring_setup", ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120)) >= 0)'
[ "$(setpriv --reuid=nobody --regid=nogroup --clear-groups id -un)" = nobody ]
grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status
echo > /run/understudy/hook
"""


def stage(case, device):
    """What the namespace is given: programs, and the unit with its commands replaced."""
    path = case.directory / "stage"
    units = path / "units"
    units.mkdir(parents=True)
    (path / "sbin").mkdir()
    for source in (AGENT, HOLD):
        shutil.copy(program(source), path / "sbin")
    lines = (Path(__file__).resolve().parents[2] / "systemd" / f"{UNIT}.in").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("Exec", "Type=", "Restart", "AssertPathIsMountPoint="))]
    at = kept.index("[Service]") + 1
    commands = COMMANDS.format(root=ROOT).replace("$DEVICE", device)
    (units / UNIT).write_text("\n".join(kept[:at] + [commands] + kept[at:]) + "\n")
    for target in ("sysinit", "basic", "shutdown", "local-fs", "network", "nss-lookup", "umount", "understudy-test"):
        (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (path / "try").write_text(TRY)
    (path / "try").chmod(0o755)
    return path


def make_cgroup(case):
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    point = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if point is None:
        raise Skip("no cgroup2 is mounted")
    group = point / f"understudy-test-{os.getpid()}"
    group.mkdir()
    case.defer(remove_cgroup, case, group)
    return group


def remove_cgroup(case, group):
    def gone():
        for path in sorted(group.glob("**/"), key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):
                path.rmdir()
        return not group.exists()
    case.wait_until(f"{group} can be removed", gone, timeout=30)


class Machine:
    def __init__(self, case, device):
        self.case = case
        group = make_cgroup(case)
        setup = case.directory / "setup"
        setup.write_text(SETUP.format(root=ROOT))
        environment = dict(os.environ, STAGE=str(stage(case, device)), DEVICE=device)
        # With --kill-child the whole pid namespace goes with its parent.
        self.process = case.spawn("machine", "sh", "-c", f"echo $$ > {group}/cgroup.procs; exec unshare --mount --pid "
                                  f"--fork --kill-child --uts --ipc --cgroup --mount-proc sh {setup}", env=environment)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.first = case.wait_until("the namespace has its first process",
                                     lambda: children.exists() and children.read_text().split(),
                                     alive=[self.process])[0]
        case.wait_until("its service manager answers",
                        lambda: self.systemctl("list-units", status=None).returncode == 0, alive=[self.process])

    def systemctl(self, *words, status=0):
        return self.case.run("nsenter", "--target", self.first, "--mount", "--pid", "--", "systemctl", *words,
                             status=status)

    def log(self):
        path = Path(f"/proc/{self.first}/root{ROOT}/log")
        return path.read_text(errors="replace") if path.exists() else ""

    def start_frozen(self, writer):
        before = len(self.log())
        done = self.systemctl("start", UNIT, status=None)
        check(done.returncode == 0, f"the service did not start: {done.stderr}\n{self.log()}")
        self.case.wait_until("it has frozen", lambda: "frozen" in self.log()[before:])
        said = self.log()[before:]
        check("\nfrozen " in "\n" + said, f"it said: {said}")
        count = writer.settle()
        check(not writer.moved_since(count), "the writer got through the freeze")
        return said

    def wait_for_end(self, writer):
        writer.wait_for_more(timeout=60)
        self.case.wait_until("the service has ended", lambda: self.systemctl("is-active", UNIT, status=None)
                             .stdout.strip() in ("inactive", "failed"), timeout=60)


def check_sandbox(case, said):
    check("Seccomp:\t2" in said and "NoNewPrivs:\t1" in said, f"the unit's filter is not in force: {said}")
    bounding = int(said.split("CapBnd:\t")[1].split()[0], 16)
    check(bounding >> 21 & 1 and not bounding >> 16 & 1, f"capabilities are not bounded by the unit: {bounding:x}")
    check("io_uring_setup True" in said, f"io_uring is not allowed: {said}")
    # The probe's programs are loaded and attached; but they know a process by its number outside of the namespace, so
    # that its own read is not told apart here. What the sandbox forbade would be said as EPERM.
    rung = json.loads(said[said.index("{"):said.rindex("}") + 1])["rungs"][0]
    failed = [probe for probe in rung["checks"] if probe["required"] and not probe["ok"]]
    check(all("was not seen by the tracepoint" in probe["detail"] for probe in failed), f"the probe failed: {failed}")
    case.say(f"{sum(probe['ok'] for probe in rung['checks'])} checks of the probe passed")


def test(case):
    if not Path("/lib/systemd/systemd").exists():
        raise Skip("there is no systemd")
    disk = devices.LoopDisk(case, case.tmpfs("mem") / "disk.img", 512 * MIB)
    devices.make_file_system(case, "ext4", disk.device)
    data = devices.Mount(case, disk.device, case.directory / "data")
    writer = Progress(case, "data", data.directory)
    machine = Machine(case, disk.device)

    check_sandbox(case, machine.start_frozen(writer))
    machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", UNIT)
    machine.wait_for_end(writer)
    machine.systemctl("reset-failed", UNIT)
    machine.start_frozen(writer)
    machine.systemctl("stop", UNIT)
    machine.wait_for_end(writer)
    writer.stop()


harness.main(test)
