#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent as its unit runs it, below a systemd of its own (PID 1 of its namespaces): the system call filter, the
capabilities and the mounts that the unit leaves are enough to capture, to read with io_uring, to freeze and to run
hooks as another user; and when the agent is killed in the middle of a freeze, its guard is not."""

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import devices
import harness
from daemons import AGENT, CONTROL, MIB, Authority, Receiver, Restore, to_yaml
from harness import Skip, check, program
from writers import Progress, meet_a_freeze

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
HOOK = """#!/bin/sh
set -e
[ "$(setpriv --reuid=nobody --regid=nogroup --clear-groups id -un)" = nobody ]
echo held > "$UNDERSTUDY_RUN_DIRECTORY/hook"
"""
DROP_IN = f"[Service]\nStandardOutput=append:{ROOT}/agent.log\nStandardError=append:{ROOT}/agent.log\n"


def stage(case, config):
    """What the namespace is given: programs, the unit as installed, the configuration."""
    path = case.directory / "stage"
    units = path / "units"
    (units / f"{UNIT}.d").mkdir(parents=True)
    (path / "sbin").mkdir()
    shutil.copy(program(AGENT), path / "sbin")
    source = Path(__file__).resolve().parents[2] / "systemd" / f"{UNIT}.in"
    (units / UNIT).write_text(source.read_text().replace("@sbindir@", f"{ROOT}/sbin").replace("@sysconfdir@",
                                                                                             f"{ROOT}/etc"))
    (units / f"{UNIT}.d" / "test.conf").write_text(DROP_IN)
    for target in ("sysinit", "basic", "shutdown", "local-fs", "network", "nss-lookup", "umount"):
        (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (units / "understudy-test.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={UNIT}\n")
    (path / "etc" / "understudy").mkdir(parents=True)
    for key, file in config["tls"].items():
        shutil.copy(file, path / "etc" / "understudy" / file.name)
        config["tls"][key] = file.name
    (path / "etc" / "understudy" / "agent.yaml").write_text(to_yaml(config) + "\n")
    (path / "hook").write_text(HOOK)
    (path / "hook").chmod(0o755)
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
    def __init__(self, case, config, device):
        self.case = case
        group = make_cgroup(case)
        setup = case.directory / "setup"
        setup.write_text(SETUP.format(root=ROOT))
        environment = dict(os.environ, STAGE=str(stage(case, config)), DEVICE=device)
        # With --kill-child the whole pid namespace goes with its parent.
        self.process = case.spawn("machine", "sh", "-c", f"echo $$ > {group}/cgroup.procs; exec unshare --mount --pid "
                                  f"--fork --kill-child --uts --ipc --cgroup --mount-proc sh {setup}", env=environment)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.first = int(case.wait_until("the namespace has its first process",
                                         lambda: children.exists() and children.read_text().split(),
                                         alive=[self.process])[0])
        case.defer(self.say_log)

    def command(self, *words, namespaces=("--mount", "--pid")):
        return ["nsenter", "--target", self.first, *namespaces, "--", *words]

    def run(self, *words, status=0):
        return self.case.run(*self.command(*words), status=status).stdout.strip()

    def is_active(self):
        return self.run("systemctl", "is-active", UNIT, status=None) == "active"

    def agent_pid(self):
        """As seen from here: the newest process of the agent that is no guard."""
        return next((pid for pid, words in self.agents() if b"--freeze-guard" not in words), None)

    def guards(self):
        return [pid for pid, words in self.agents() if b"--freeze-guard" in words]

    @staticmethod
    def agents():
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "exe") == f"{ROOT}/sbin/understudy-agent":
                    yield int(path.name), (path / "cmdline").read_bytes().split(b"\0")

    def control(self, *words, status=0):
        # The program is ours; only the socket is in there.
        socket = f"/proc/{self.first}/root/run/understudy/agent.sock"
        return self.case.run(program(CONTROL), "--socket", socket, *words, "--json", status=status)

    def status(self):
        done = self.control("status", status=None)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_realtime(self):
        self.case.wait_until("the agent is in real time", lambda: (self.status() or {}).get("phase") == "realtime",
                             timeout=90, interval=0.1, alive=[self.process])

    def say_log(self):
        for name in ("agent.log", "console"):
            path = Path(f"/proc/{self.first}/root{ROOT}/{name}")
            with contextlib.suppress(OSError):
                print(f"--- {name}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-25:]), flush=True)


def check_sandbox(machine):
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{machine.agent_pid()}/status").read_text().splitlines()
                  if ":\t" in line)
    check(fields["Seccomp"] == "2" and fields["NoNewPrivs"] == "1", f"the unit's filter is not in force: {fields}")
    capabilities = int(fields["CapBnd"], 16)
    check(capabilities >> 21 & 1 and not capabilities >> 16 & 1, f"CapBnd is {fields['CapBnd']}")
    status = machine.status()
    check(status["rung"] == "bpf" and status["read_engine"] == "io_uring", f"{status['rung']}, {status['read_engine']}")


def check_mark(machine, label):
    done = machine.control("mark", "--label", label, "--application-consistent", "--wait", status=None)
    check(done.returncode == 0 and json.loads(done.stdout)["consistency"] == "application",
          f"mark '{label}': {done.stdout}{done.stderr}")


def kill_while_frozen(case, machine, writer):
    def done(label):
        recent = machine.status()["marks"]["recent"]
        return any(entry["label"] == label and entry["state"] == "durable" for entry in recent)
    agent = machine.agent_pid()
    meet_a_freeze(case, [writer], "killed",
                  lambda label: machine.control("mark", "--label", label, "--application-consistent"), machine.guards,
                  done, lambda: os.kill(agent, signal.SIGSTOP), lambda: os.kill(agent, signal.SIGCONT))
    os.kill(agent, signal.SIGKILL)
    writer.wait_for_more(timeout=60)
    case.wait_until("the guard is gone", lambda: not machine.guards())
    case.wait_until("the service is up again", lambda: machine.is_active() and machine.agent_pid() not in (None, agent),
                    timeout=120)


def test(case):
    if not Path("/lib/systemd/systemd").exists():
        raise Skip("there is no systemd")
    disk = devices.LoopDisk(case, case.tmpfs("mem") / "disk.img", 512 * MIB)
    devices.make_file_system(case, "ext4", disk.device)
    server = f"unit-{os.getpid()}"
    authority = Authority(case)
    receiver = Receiver(case, authority, server)
    receiver.start()
    machine = Machine(case, {
        "server": server, "disks": [disk.device],
        "receiver": {"address": "127.0.0.1", "port": receiver.port, "name": receiver.certificate_name},
        "tls": authority.tls("agent", server),
        "marks": {"hooks": [{"name": "user", "pre": f"{ROOT}/hook"}], "freeze": {"deadline": "60s"}}}, disk.device)
    case.wait_until("the service is up", machine.is_active, timeout=90, alive=[machine.process])
    machine.wait_realtime()
    check_sandbox(machine)
    writer = Progress(case, "data", f"/proc/{machine.first}/root/run/data")
    check_mark(machine, "first")
    kill_while_frozen(case, machine, writer)
    machine.wait_realtime()
    check_mark(machine, "second")
    machine.run("systemctl", "reload", UNIT)
    machine.run("systemctl", "stop", UNIT)
    writer.stop()
    marks = [mark["name"] for mark in Restore(case, receiver.store).timeline()["marks"]]
    check(marks[0] == "first" and marks[-1] == "second", f"the store has the marks {marks}")


harness.main(test)
