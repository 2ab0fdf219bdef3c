# SPDX-License-Identifier: Apache-2.0
"""An orchestrator with real agents and receivers as its nodes: certificates by enrolment, groups from YAML."""

import json
import os
import re

from daemons import AGENT, CONTROL, KIB, MIB, RECEIVER, Agent, Authority, Daemon, Restore, free_port
from harness import check, program

ORCHESTRATOR = "orchestrator/api/understudy-orchestrator"

GROUP = """# Kept by its operators.
production:
  name: shop-east
  region: east
  zone: z1
  vpc: {{name: net-shop, subnets: [10.1.0.0/24]}}
  subnet: 10.1.0.0/24
recovery:
  name: shop-west
  zone: z2
  vpc: {{name: net-shop-r, subnets: [10.2.0.0/24]}}
  subnet: 10.2.0.0/24
  # The shadow host.
  receiver: {{name: {receiver}, address: 127.0.0.1, port: {port}}}
"""

SERVER = """  - name: {name}
    address: 10.1.0.5
    os: {{family: debian, version: "12"}}
    flavor: {{vcpus: 2, memory: 4GiB}}
    disks: [{disks}]
    phase: {phase}
"""


class Orchestrator(Daemon):
    def __init__(self, case, allowed=()):
        self.authority = Authority(case, "pki-nodes")
        self.port = free_port()
        self.groups = case.directory / "groups.d"
        self.groups.mkdir()
        state = case.directory / "orchestrator-state"
        state.mkdir()
        super().__init__(case, "orchestrator", ORCHESTRATOR, {
            "groups_directory": self.groups, "state_directory": state,
            "nodes": {"listen": {"address": "127.0.0.1", "port": self.port},
                      "tls": self.authority.tls("orchestrator", "main"),
                      "authority_directory": self.authority.directory},
            "control_socket": case.directory / "orchestrator.sock"}, allowed)

    def control(self, *words, status=0, input=None):
        return self.case.run(program(CONTROL), "--socket", self.socket, *words, status=status, input=input)

    def ask(self, *words):
        return json.loads(self.control(*words, "--json").stdout)

    def try_status(self):
        done = self.control("group", "list", "--json", status=None)
        return {"groups": json.loads(done.stdout)} if done.returncode == 0 else None

    def address(self):
        return {"address": "127.0.0.1", "port": self.port, "name": "main"}

    def enroll(self, role, name):
        """Certificate files for a node, made with a token."""
        into = self.case.directory / f"node-{role}-{name}"
        token = self.control("enroll-token", role, name).stdout
        path = self.case.directory / f"token-{role}-{name}"
        path.write_text(token)
        said = self.case.run(program(CONTROL), "enroll", path, "--orchestrator", f"127.0.0.1:{self.port}", "--out",
                             into)
        check(f"this node is {role} '{name}'" in said.stdout, f"enroll said: {said.stdout}")
        return {"authority": into / "ca.crt", "certificate": into / f"{name}.crt", "key": into / f"{name}.key"}

    def server(self, name):
        for group in self.ask("group", "list"):
            for server in group["servers"]:
                if server["server"] == name:
                    return server
        return None

    def wait_state(self, name, state, timeout=120, alive=()):
        """Until a server is in a state; None = in no group."""
        def reached():
            server = self.server(name)
            return server is None if state is None else server is not None and server["state"] == state
        self.case.wait_until(f"{name} is {state}", reached, timeout=timeout, interval=0.1,
                             alive=[self.process, *alive])

    def tasks(self, **filters):
        words = [word for key, value in filters.items() for word in (f"--{key}", value)]
        return self.ask("tasks", *words)


class NodeReceiver(Daemon):
    """A receiver that knows only its orchestrator."""

    def __init__(self, case, orchestrator, name="dr-1", allowed=()):
        self.certificate_name = name
        self.port = free_port()
        self.stores = case.directory / f"{name}-stores"
        super().__init__(case, f"receiver-{name}", RECEIVER, {
            "name": name, "listen": {"address": "127.0.0.1", "port": self.port},
            "tls": orchestrator.enroll("receiver", name), "orchestrator": orchestrator.address(),
            "stores_directory": self.stores, "segment_bytes": 32 * MIB,
            "control_socket": case.directory / f"receiver-{name}.sock", "log_level": "info"}, allowed)


class NodeAgent(Agent):
    """An agent that knows only its orchestrator."""

    def __init__(self, case, orchestrator, server, allowed=()):
        self.server = server
        self.bpffs = case.directory / f"{server}-bpffs"
        self.bpffs.mkdir()
        case.run("mount", "-t", "bpf", "bpf", self.bpffs)
        case.defer(case.run, "umount", self.bpffs)
        Daemon.__init__(self, case, f"agent-{server}", AGENT, {
            "server": server, "orchestrator": orchestrator.address(), "tls": orchestrator.enroll("agent", server),
            "capture": {"ring_bytes": 64 * MIB, "granule_bytes": 64 * KIB},
            "state_directory": case.directory / f"agent-{server}-state",
            "control_socket": case.directory / f"agent-{server}.sock", "bpffs": self.bpffs, "log_level": "info"},
            allowed)
        self.captured = False


class Site:
    """An orchestrator, a receiver and the agent of one server with the given disks; all started, in no group."""

    def __init__(self, case, disks, allowed=()):
        self.case = case
        self.disks = disks
        self.name = f"web-1-{os.getpid()}"
        self.orchestrator = Orchestrator(case, allowed)
        self.orchestrator.start()
        self.receiver = NodeReceiver(case, self.orchestrator, allowed=allowed)
        self.agent = NodeAgent(case, self.orchestrator, self.name, allowed)
        self.receiver.start()
        self.agent.start()
        self.restore = Restore(case, self.receiver.stores / self.name)
        case.wait_until("both nodes are connected",
                        lambda: sum(node["connected"] for node in self.orchestrator.ask("node", "list")) == 2,
                        alive=[self.agent.process, self.receiver.process])

    def group_text(self, phase=None, policy="", more="", server=""):
        """The group's file: without servers when there is no phase."""
        text = GROUP.format(receiver=self.receiver.certificate_name, port=self.receiver.port) + policy
        if phase is None:
            return text + "servers: []\n"
        disks = ", ".join(disk.device for disk in self.disks)
        return text + more + "servers:\n" + SERVER.format(name=self.name, disks=disks, phase=phase) + server

    def path(self):
        return self.orchestrator.groups / "shop.yaml"

    def declare(self, *arguments, **more):
        self.path().write_text(self.group_text(*arguments, **more))

    def wait(self, state, **more):
        self.orchestrator.wait_state(self.name, state, alive=[self.agent.process, self.receiver.process], **more)

    def store_exists(self):
        return (self.receiver.stores / self.name / "MANIFEST").exists()

    def mark_names(self):
        return [mark["name"] for mark in self.restore.timeline()["marks"]]

    def failed_tasks(self):
        return [(task["operation"], task.get("error", "")) for task in self.orchestrator.tasks(state="failed")]

    def done_operations(self):
        return [task["operation"] for task in reversed(self.orchestrator.tasks(state="done"))
                if re.fullmatch(r"[a-z-]+", task["operation"])]
