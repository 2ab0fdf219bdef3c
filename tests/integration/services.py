#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemons as a service manager sees them: ready only when they work, one status line, watchdog, reload, a clean
stop, journal fields with message ids, and configurations checked to the line and column."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys

import harness
from daemons import AGENT, CONTROL, MIB, RECEIVER, to_yaml
from harness import check, program
from scenario import Protected, raw_disk


class NotifySocket:
    """The manager's end of sd_notify(3)."""

    def __init__(self, case, name):
        self.path = case.directory / f"{name}.notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.seen = []

    def messages(self):
        while True:
            try:
                self.seen.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return self.seen

    def environment(self):
        return dict(os.environ, NOTIFY_SOCKET=str(self.path), WATCHDOG_USEC="2000000")

    def wait_for(self, case, expression, since=0, alive=()):
        return case.wait_until(f"the manager is told {expression}", lambda: next(
            (m for m in self.messages()[since:] if re.search(expression, m, re.M)), None), alive=alive)


def check_life_cycle(case, daemon):
    manager = NotifySocket(case, daemon.name)
    daemon.environment = manager.environment()
    daemon.start()
    ready = manager.wait_for(case, r"^READY=1$", alive=[daemon.process])
    check(re.search(r"^STATUS=.+", ready, re.M), f"{daemon.name} is ready without a status line: {ready!r}")
    manager.wait_for(case, r"^WATCHDOG=1$", alive=[daemon.process])
    before = len(manager.messages())
    daemon.process.signal(signal.SIGHUP)
    manager.wait_for(case, r"^RELOADING=1\nMONOTONIC_USEC=\d+", since=before, alive=[daemon.process])
    manager.wait_for(case, r"^READY=1$", since=before, alive=[daemon.process])
    return manager


def check_bad_reload(case, daemon):
    """A broken file on reload: an error with its place, and the old configuration stays in force."""
    good = daemon.config_path.read_text()
    before = daemon.log_size()
    daemon.config_path.write_text(good + "unknown_key: 1\n")
    line = good.count("\n") + 1
    daemon.process.signal(signal.SIGHUP)
    daemon.wait_for_log(rf"ERROR.*{re.escape(daemon.config_path.name)}:{line}:1: .*unknown_key", since=before)
    daemon.config_path.write_text(good)
    daemon.status()


def check_configurations(case, daemon, binary):
    """--check-config: 0 for a good file, 6 and every mistake with its place for a bad one."""
    case.run(program(binary), "--config", daemon.config_path, "--check-config")
    bad = case.directory / f"bad-{daemon.name}.yaml"
    config = dict(daemon.config)
    config.pop("tls")
    bad.write_text(to_yaml(config) + "\nlog_level: shouting\nfirst_mistake: 1\nsecond_mistake: 2\n")
    lines = bad.read_text().splitlines()
    done = case.run(program(binary), "--config", bad, "--check-config", status=6)
    said = done.stdout + done.stderr
    for word in ("first_mistake", "second_mistake"):
        place = f"{bad}:{lines.index(next(l for l in lines if l.startswith(word))) + 1}:1: "
        check(any(place in line and word in line for line in said.splitlines()), f"no '{place}...{word}' in:\n{said}")
    check("tls" in said, f"the missing 'tls' is not named in:\n{said}")
    case.run(program(binary), "--config", case.directory / "no-such.yaml", "--check-config", status=6)
    case.run(program(binary), "--no-such-option", status=2)


def decode_entry(data):
    """One entry of journald's native protocol as a dictionary."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            size = struct.unpack("<Q", data[:8])[0]
            value, data = data[8:8 + size], data[8 + size + 1:]
        fields[name.decode()] = value.decode()
    return fields


def check_journal(case, daemon):
    """Runs this file again in a mount namespace that has a journal socket of its own."""
    daemon.write_config()
    done = case.run("unshare", "--mount", "--propagation", "private", sys.executable, __file__, "--journal",
                    daemon.config_path, timeout=60)
    case.say(done.stdout.strip())


def journal_child(config_path):
    os.makedirs("/run/systemd/journal", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/systemd/journal"], check=True)
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind("/run/systemd/journal/socket")
    journal.settimeout(30)
    stream, stream_end = socket.socketpair()
    status = os.fstat(stream_end.fileno())
    environment = dict(os.environ, JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    daemon = subprocess.Popen([program(RECEIVER), "--config", config_path], stderr=stream_end, env=environment)
    try:
        while True:
            fields = decode_entry(journal.recv(65536))
            check(fields["SYSLOG_IDENTIFIER"] == "understudy-receiver" and fields["PRIORITY"].isdigit(), f"{fields}")
            if fields.get("MESSAGE_ID") == "91c7ff48d61a4425bfd48f1b1b9877d9":  # kMessageDaemonReady
                print(f"journal entry: {fields}")
                return
    finally:
        daemon.terminate()
        daemon.wait()
        stream.close()


def test(case):
    protected = Protected(case, [raw_disk(case, size_bytes=32 * MIB)], agent_allowed=[r"unknown_key"],
                          receiver_allowed=[r"unknown_key", r"session|connection"])
    managers = [check_life_cycle(case, daemon) for daemon in (protected.receiver, protected.agent)]
    protected.agent.wait_realtime()
    managers[1].wait_for(case, r"^STATUS=realtime: 1 disk")
    for daemon, binary in ((protected.receiver, RECEIVER), (protected.agent, AGENT)):
        check_bad_reload(case, daemon)
        check_configurations(case, daemon, binary)
    for daemon, manager in ((protected.agent, managers[1]), (protected.receiver, managers[0])):
        before = len(manager.messages())
        daemon.stop()
        manager.wait_for(case, r"^STOPPING=1$", since=before)
        check(not daemon.socket.exists(), f"{daemon.name} left its control socket behind")
    done = case.run(program(CONTROL), "--socket", protected.agent.socket, "status", status=7)
    check("not running" in done.stderr, f"a stopped daemon is not called so: {done.stderr}")
    check_journal(case, protected.receiver)


if len(sys.argv) > 1 and sys.argv[1] == "--journal":
    journal_child(sys.argv[2])
else:
    harness.main(test)
