#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""understudy-orchestrator as a process: its checks, what it does when files change, and understudyctl's talk with it.

    daemon_test.py ORCHESTRATOR UNDERSTUDYCTL
"""
import json
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

CONTROL = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)
PATIENCE_SECONDS = 60

GROUP = '''production:
  name: {id}-east
  region: east
  zone: z1
  vpc: {{name: net-{id}, subnets: [10.1.0.0/24]}}
  subnet: 10.1.0.0/24
recovery:
  name: {id}-west
  zone: z2
  vpc: {{name: net-{id}-r, subnets: [10.2.0.0/24]}}
  subnet: 10.2.0.0/24
servers:
  - name: {id}-1
    address: 10.1.0.5
    os: {{family: debian, version: "12"}}
    flavor: {{vcpus: 2, memory: 4GiB}}
    disks: [/dev/vda]
    phase: {phase}
'''


class Orchestrator(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.groups = self.directory / 'groups.d'
        self.groups.mkdir()
        (self.directory / 'state').mkdir()
        self.config = self.directory / 'orchestrator.yaml'
        self.config.write_text('groups_directory: groups.d\nstate_directory: state\ncontrol_socket: o.sock\n')
        self.log = self.directory / 'log'

    def declare(self, group, phase='replicating', text=None):
        (self.groups / f'{group}.yaml').write_text(text if text is not None else GROUP.format(id=group, phase=phase))

    def check(self):
        done = subprocess.run([PROGRAM, '--check-config', '--config', str(self.config)], capture_output=True, text=True)
        return done.returncode, done.stderr

    def start(self):
        with self.log.open('a') as log:
            process = subprocess.Popen([PROGRAM, '--config', str(self.config)], stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.until(lambda: self.ask('group', 'list')[0] == 0 or process.poll() is not None)
        return process

    def ask(self, *words):
        done = subprocess.run([CONTROL, *words, '--socket', str(self.directory / 'o.sock')], capture_output=True,
                              text=True)
        return done.returncode, done.stdout, done.stderr

    def until(self, condition):
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end, self.log.read_text() if self.log.exists() else '')
            time.sleep(0.05)

    def until_logged(self, text):
        self.until(lambda: text in self.log.read_text())

    def test_check_config_names_every_mistake_of_all_files(self):
        self.declare('shop')
        self.assertEqual(self.check(), (0, ''))
        self.declare('shop', 'replicatin')
        self.declare('bank', text=GROUP.format(id='bank', phase='stopped').replace('z2', 'z1'))
        status, err = self.check()
        self.assertEqual(status, 6)
        self.assertIn(f"{self.groups}/bank.yaml:9:9: 'recovery.zone': 'z1'", err)
        self.assertIn(f"{self.groups}/shop.yaml:18:12: 'servers[0].phase' is 'replicatin', not allowed", err)
        self.config.write_text('quotas: [{region: east, clients: 201}]\n')
        status, err = self.check()
        self.assertEqual(status, 6)
        self.assertIn(f"{self.config}:1:34: 'quotas[0].clients' is '201', out of range; allowed: 1 to 200", err)

    def test_files_that_change_are_read_again_and_wrong_ones_change_nothing(self):
        self.declare('shop')
        self.start()
        status, out, _ = self.ask('group', 'show', 'shop')
        self.assertEqual(status, 0)
        self.assertIn('group shop (shop-east-shop-west), region east, z1 -> z2', out)
        self.declare('bank', 'initialized')
        self.until(lambda: 'group bank' in self.ask('group', 'list')[1])
        self.declare('bank', 'nonsense')
        self.until_logged("'servers[0].phase' is 'nonsense'")
        self.assertIn('declared initialized', self.ask('group', 'show', 'bank')[1])
        drop_ins = self.groups / 'bank.yaml.d'
        drop_ins.mkdir()
        self.declare('bank', 'initialized')
        (drop_ins / '10-name.yaml').write_text('name: the-bank\n')
        self.until(lambda: 'group bank (the-bank)' in self.ask('group', 'list')[1])
        status, _, err = self.ask('group', 'show', 'shpo')
        self.assertIn("no group 'shpo'; did you mean 'shop'?", err)
        self.assertNotEqual(status, 0)

    def test_orders_wait_for_servers_and_outlive_the_process(self):
        self.declare('shop')
        process = self.start()
        self.until(lambda: 'client-installing' in self.ask('group', 'show', 'shop')[1])
        self.until_logged("'shop-1' is not connected; the order waits for it")
        self.assertIn("# waits for 'client-installing' to end\n    ~ start: initialized -> realtime-replicating",
                      self.ask('plan', 'shop-1')[1])
        tasks = json.loads(self.ask('tasks', '--json')[1])
        self.assertEqual([(task['operation'], task['state']) for task in tasks], [('add', 'open')])
        process.kill()
        process.wait()
        self.start()
        self.until(lambda: json.loads(self.ask('tasks', '--json')[1])[0]['id'] == tasks[0]['id'])
        self.assertEqual(len(json.loads(self.ask('tasks', '--state', 'open', '--json')[1])), 1)
        self.assertEqual(json.loads(self.ask('tasks', '--state', 'failed', '--json')[1]), [])
        self.assertIn("is no operation or event", self.ask('tasks', '--operation', 'explode')[2])
        self.assertIn("nothing waits for the approval of 'shop-1:recovery-points'",
                      self.ask('approve', 'shop-1:recovery-points')[2])

    def test_a_wrong_file_at_start_keeps_what_was_in_force(self):
        self.declare('shop')
        process = self.start()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=PATIENCE_SECONDS), 0)
        self.declare('shop', 'nonsense')
        process = self.start()
        self.assertIsNone(process.poll())
        self.assertIn('declared replicating', self.ask('group', 'show', 'shop')[1])
        self.until_logged('keeping the declaration that was in force')
        self.declare('shop', 'initialized')
        process.send_signal(signal.SIGHUP)
        self.until(lambda: 'declared initialized' in self.ask('group', 'show', 'shop')[1])

    def test_without_anything_in_force_a_wrong_file_ends_it(self):
        self.declare('shop', 'nonsense')
        process = self.start()
        self.assertEqual(process.wait(timeout=PATIENCE_SECONDS), 6)


if __name__ == '__main__':
    unittest.main()
