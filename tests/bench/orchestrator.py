#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An orchestrator with one group of 200 servers in a boot order: time of a plan, and from start to ready. Then one with
1,000 nodes that report every second, in 200 groups: its share of one processor and its memory at rest, and the time
from an edit of a group's file to the new orders at the node."""
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

SERVERS = 200
GROUPS, SERVERS_OF_GROUP = 200, 5
SETTLE_SECONDS = 5
REST_SECONDS = 15
EDITS = 60
PATIENCE_SECONDS = 120
CONTROL = 'tools/understudyctl/understudyctl'

GROUP = '''production:
  name: g{group}-east
  region: r{group}
  zone: z1
  vpc: {{name: net-{group}, subnets: [10.1.0.0/24]}}
  subnet: 10.1.0.0/24
recovery:
  name: g{group}-west
  zone: z2
  vpc: {{name: net-{group}-r, subnets: [10.2.0.0/24]}}
  subnet: 10.2.0.0/24
servers:
'''
SERVER = '''  - name: web-{number}
    address: 10.1.0.{host}
    os: {{family: debian}}
    flavor: {{vcpus: 2, memory: 4GiB}}
    disks: [/dev/vda]
    phase: {phase}
'''


def plan_and_restart(build: Path, directory: Path) -> None:
    result = subprocess.run([build / 'tests/bench/orchestrator_load', directory / 'bench.db', str(SERVERS)],
                            check=True, capture_output=True, text=True)
    plan_ms, restart_ms = map(float, result.stdout.split())
    print(f'bench orchestrator plan_ms {plan_ms:.3f}')
    print(f'bench orchestrator restart_ms {restart_ms:.3f}', flush=True)


class Fleet:
    """The orchestrator as a process, and its nodes as another one."""

    def __init__(self, build: Path, directory: Path) -> None:
        self.build, self.directory = build, directory
        self.groups = directory / 'groups.d'
        for path in (self.groups, directory / 'state', directory / 'nodes'):
            path.mkdir()
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        self.phases = {}
        for group in range(GROUPS):
            self.declare(group, {})
        pki = directory / 'pki'
        subprocess.run([build / CONTROL, 'pki', 'init', pki], check=True, capture_output=True)
        subprocess.run([build / CONTROL, 'pki', 'issue', pki, '--role', 'orchestrator', '--name', 'main'], check=True,
                       capture_output=True)
        (directory / 'orchestrator.yaml').write_text(
            f'groups_directory: groups.d\nstate_directory: state\ncontrol_socket: o.sock\nlog_level: error\n'
            f'nodes:\n  listen: {{address: 127.0.0.1, port: {self.port}}}\n'
            f'  tls: {{authority: pki/ca.crt, certificate: pki/main.crt, key: pki/main.key}}\n')
        self.orchestrator = subprocess.Popen([build / 'orchestrator/api/understudy-orchestrator', '--config',
                                              directory / 'orchestrator.yaml'])
        self.wait(lambda: (directory / 'o.sock').exists())
        self.nodes = subprocess.Popen([build / 'tests/bench/orchestrator_nodes', pki, directory / 'nodes',
                                       str(self.port), str(GROUPS * SERVERS_OF_GROUP)], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        if self.nodes.stdout.readline() != 'ready\n':
            raise SystemExit('the nodes did not connect')
        self.told: dict[tuple[str, str], int] = {}
        self.changed = threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    def declare(self, group: int, phases: dict[int, str]) -> None:
        text = GROUP.format(group=group)
        for i in range(SERVERS_OF_GROUP):
            number = group * SERVERS_OF_GROUP + i
            text += SERVER.format(number=number, host=i + 1, phase=phases.get(number, 'replicating'))
        new = self.groups / f'.{group}.new'
        new.write_text(text)
        new.rename(self.groups / f'g{group}.yaml')

    def listen(self) -> None:
        for line in self.nodes.stdout:
            server, phase, time_ns = line.split()
            with self.changed:
                self.told[server, phase] = int(time_ns)
                self.changed.notify_all()

    def wait(self, condition) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > end or self.orchestrator.poll() is not None:
                raise SystemExit('waited in vain')
            time.sleep(0.05)

    def wait_told(self, server: str, phase: str) -> int:
        with self.changed:
            if not self.changed.wait_for(lambda: (server, phase) in self.told, timeout=PATIENCE_SECONDS):
                raise SystemExit(f'{server} was never told {phase}')
            return self.told.pop((server, phase))

    def processor_seconds(self) -> float:
        fields = Path(f'/proc/{self.orchestrator.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def resident_mib(self) -> float:
        status = Path(f'/proc/{self.orchestrator.pid}/status').read_text()
        return int(status.split('VmRSS:')[1].split()[0]) / 1024

    def measure(self) -> None:
        for number in range(GROUPS * SERVERS_OF_GROUP):
            self.wait_told(f'web-{number}', 'replicating')
        time.sleep(SETTLE_SECONDS)
        before, began = self.processor_seconds(), time.monotonic()
        time.sleep(REST_SECONDS)
        share = (self.processor_seconds() - before) / (time.monotonic() - began)
        print(f'bench orchestrator cpu_share {share:.4f}')
        print(f'bench orchestrator rss_mib {self.resident_mib():.1f}', flush=True)
        times_ms = []
        for edit in range(EDITS):
            group = edit * 7 % GROUPS
            number = group * SERVERS_OF_GROUP + edit % SERVERS_OF_GROUP
            edited_ns = time.monotonic_ns()
            self.declare(group, {number: 'stopped'})
            times_ms.append((self.wait_told(f'web-{number}', 'stopped') - edited_ns) / 1e6)
        times_ms.sort()
        print(f'bench orchestrator apply_p50_ms {times_ms[len(times_ms) // 2]:.1f}')
        print(f'bench orchestrator apply_p99_ms {times_ms[-1]:.1f}', flush=True)

    def stop(self) -> None:
        for process in (self.nodes, self.orchestrator):
            process.send_signal(signal.SIGTERM)
            process.wait()


def main() -> None:
    build = Path(os.environ['UNDERSTUDY_BUILD'])
    with tempfile.TemporaryDirectory(prefix='understudy-bench-', dir=build) as name:
        directory = Path(name)
        plan_and_restart(build, directory)
        fleet = Fleet(build, directory)
        try:
            fleet.measure()
        finally:
            fleet.stop()


if __name__ == '__main__':
    main()
