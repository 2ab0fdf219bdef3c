# SPDX-License-Identifier: Apache-2.0
"""Real agents and receivers on loopback, with certificates of their own, and the tools that speak to them."""

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

from harness import Failure, check, program, tail

AGENT = "daemon/agent/understudy-agent"
RECEIVER = "daemon/receiver/understudy-receiver"
CONTROL = "tools/understudyctl/understudyctl"
RESTORE = "tools/restore/understudy-restore"
KIB, MIB = 1 << 10, 1 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Authority:
    """A certificate authority and what it has issued."""

    def __init__(self, case, name="pki"):
        self.case = case
        self.directory = case.directory / name
        case.run(program(CONTROL), "pki", "init", "--directory", self.directory)

    def issue(self, role, name, into):
        self.case.run(program(CONTROL), "pki", "issue", "--directory", self.directory, "--role", role, "--name", name,
                      "--out", into)

    def tls(self, role, name):
        """Certificate files for a configuration."""
        into = self.case.directory / f"{self.directory.name}-{role}-{name}"
        if not into.exists():
            self.issue(role, name, into)
        return {"authority": into / "ca.crt", "certificate": into / f"{name}.crt", "key": into / f"{name}.key"}


def to_yaml(value, indent=0):
    """YAML of maps, lists and scalars; strings are quoted."""
    pad = "  " * indent
    if isinstance(value, dict):
        return "\n".join(f"{pad}{key}:\n{to_yaml(item, indent + 1)}" if isinstance(item, (dict, list))
                         else f"{pad}{key}: {to_yaml(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "\n".join(f"{pad}- {to_yaml(item, indent + 1).lstrip()}" for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else f"'{value}'"


class Daemon:
    """What agents and receivers have in common: a configuration file, a control socket, starts and ends."""

    def __init__(self, case, name, binary, config, allowed=()):
        self.case = case
        self.name = name
        self.binary = binary
        self.config = config
        self.config_path = case.directory / f"{name}.yaml"
        self.socket = Path(config["control_socket"])
        self.environment = None
        self.prefix = []  # of the command, to run it somewhere else
        self.process = None
        self.allowed = list(allowed)
        case.watch_log(case.directory / f"{name}.log", self.allowed)

    def write_config(self):
        self.config_path.write_text(to_yaml(self.config) + "\n")

    def start(self, wait=True):
        self.write_config()
        self.process = self.case.spawn(self.name, *self.prefix, program(self.binary), "--config", self.config_path,
                                       env=self.environment)
        if wait:
            self.case.wait_until(f"{self.name} answers on its control socket", self.try_status, alive=[self.process])

    def expect_refusal(self, status, *texts):
        """Starts, and wants it to end with `status`, having said all of `texts` in a line that is then no failure."""
        self.allowed.append(re.escape(texts[0]))
        before = self.log_size()
        self.start(wait=False)
        ended = self.process.wait(30)
        said = self.log_since(before)
        check(ended == status, f"{self.name} ended with {ended}, expected {status}; it said:\n{said}")
        for text in texts:
            check(text in said, f"{self.name} did not say '{text}'; it said:\n{said}")
        return said

    def kill(self):
        return self.process.kill()

    def stop(self):
        ended = self.process.stop()
        check(ended == 0, f"{self.name} ended with {ended} on SIGTERM:\n{tail(self.process.log_path)}")

    def pause(self):
        self.process.signal(signal.SIGSTOP)

    def resume(self):
        self.process.signal(signal.SIGCONT)

    def status(self):
        return json.loads(self.case.run(program(CONTROL), "--socket", self.socket, "status", "--json").stdout)

    def try_status(self):
        done = self.case.run(program(CONTROL), "--socket", self.socket, "status", "--json", status=None)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def log_path(self):
        return self.case.directory / f"{self.name}.log"

    def log_size(self):
        return self.log_path().stat().st_size if self.log_path().exists() else 0

    def log_since(self, offset):
        return self.log_path().read_bytes()[offset:].decode(errors="replace")

    def wait_for_log(self, expression, since=0, timeout=60, alive=True):
        return self.case.wait_until(f"{self.name} says '{expression}'",
                                    lambda: re.search(expression, self.log_since(since)), timeout=timeout,
                                    alive=[self.process] if alive else [])


class Receiver(Daemon):
    def __init__(self, case, authority, server, name="dr-1", store=None, tls=None, segment_bytes=32 * MIB, allowed=()):
        self.certificate_name = name
        self.port = free_port()
        self.store = Path(store) if store else case.directory / f"{name}-store"
        super().__init__(case, f"receiver-{name}", RECEIVER, {
            "name": name, "listen": {"address": "127.0.0.1", "port": self.port},
            "tls": tls or authority.tls("receiver", name),
            "stores": [{"server": server, "path": self.store}], "segment_bytes": segment_bytes,
            "control_socket": case.directory / f"receiver-{name}.sock", "log_level": "info"}, allowed)

    def store_status(self):
        return self.status()["stores"][0]


class Agent(Daemon):
    def __init__(self, case, authority, server, disks, receiver, name=None, tls=None, ring_bytes=64 * MIB, allowed=(),
                 bpffs=None, **settings):
        name = name or server
        self.server = server
        self.bpffs = bpffs or case.directory / f"{name}-bpffs"
        if not bpffs:
            self.bpffs.mkdir()
            case.run("mount", "-t", "bpf", "bpf", self.bpffs)
            case.defer(case.run, "umount", self.bpffs)
        super().__init__(case, f"agent-{name}", AGENT, {
            "server": server, "disks": [getattr(disk, "device", disk) for disk in disks],
            "receiver": {"address": "127.0.0.1", "port": receiver.port, "name": receiver.certificate_name},
            "tls": tls or authority.tls("agent", server),
            "capture": {"ring_bytes": ring_bytes, "granule_bytes": 64 * KIB},
            "state_directory": case.directory / f"agent-{name}-state",
            "control_socket": case.directory / f"agent-{name}.sock", "bpffs": self.bpffs, "log_level": "info",
            **settings}, allowed)
        self.captured = False

    def start(self, wait=True):
        if not self.captured:
            self.captured = True
            self.case.defer(self._end_capture)
        super().start(wait)

    def _end_capture(self):
        """Removing the pins ends capture even when the agent cannot be asked to."""
        shutil.rmtree(self.bpffs / "understudy" / self.server, ignore_errors=True)

    def detach(self):
        if self.process is not None and self.process.running():
            self.stop()
        self.case.run(program(AGENT), "--config", self.config_path, "--detach")

    # --- what the status says ---

    def wait_realtime(self, timeout=120):
        """Everything copied, no gap open."""
        self.case.wait_until(f"{self.name} is in real time", lambda: self._is_realtime(self.try_status()),
                             timeout=timeout, interval=0.05, alive=[self.process])

    def wait_caught_up(self, timeout=120):
        """Real time, and everything captured until now is acknowledged. For a load that has stopped."""
        self.case.wait_until(f"{self.name} has nothing unacknowledged", lambda: self._is_caught_up(self.try_status()),
                             timeout=timeout, interval=0.05, alive=[self.process])

    @staticmethod
    def _is_realtime(status):
        return status is not None and status["phase"] == "realtime"

    @classmethod
    def _is_caught_up(cls, status):
        return cls._is_realtime(status) and status["backlog_bytes"] == 0


class Restore:
    """understudy-restore on a store directory. Disks are named by their slot."""

    def __init__(self, case, store):
        self.case = case
        self.store = store

    def timeline(self):
        return json.loads(self.case.run(program(RESTORE), "list", self.store, "--json").stdout)

    def run(self, point, output, slot=0, status=0):
        return self.case.run(program(RESTORE), "restore", self.store, f"--point={point}", "--disk", slot,
                             "--to", output, "--quiet", status=status)

    def verify(self, status=0):
        return self.case.run(program(RESTORE), "verify", self.store, "--quiet", status=status)

    def image(self, point, name, slot):
        """Restores into a new file in memory and returns its path."""
        path = self.case.directory / "mem" / name
        self.run(point, path, slot)
        return path


def rfc3339(wall_ns):
    seconds, fraction = divmod(wall_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"
