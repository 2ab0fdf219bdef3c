#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""understudyctl as an operator calls it: exit codes, messages, certificates, and its talk with a daemon."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

PROGRAM = sys.argv.pop(1)


def call(*words):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


class FakeDaemon:
    """A control socket that gives prepared answers and keeps what it was asked."""

    def __init__(self, path, *answers):
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with self.listener:
            for answer in self.answers:
                client, _ = self.listener.accept()
                with client, client.makefile('rwb') as stream:
                    self.requests.append(json.loads(stream.readline()))
                    stream.write(answer + b'\n')


class Cli(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.directory = Path(self.temporary.name)

    def test_version_and_help(self):
        status, out, _ = call('--version')
        self.assertEqual(status, 0)
        self.assertRegex(out, r'^understudyctl \d+\.\d+\.\d+\n$')
        status, out, _ = call('--help')
        self.assertEqual(status, 0)
        self.assertIn('usage: understudyctl status', out)

    def test_bad_arguments_are_named(self):
        for words, message in [
                ([], 'no command given'),
                (['statsu'], "did you mean 'status'?"),
                (['status', 'extra'], "'status' takes nothing behind it"),
                (['view'], 'view needs one of open, list and close'),
                (['view', 'show'], "one of open, list and close, not 'show'"),
                (['view', 'open'], 'view open needs one SERVER@POINT'),
                (['view', 'open', 'web-1'], "'web-1' names no point: wanted SERVER@POINT"),
                (['view', 'close'], 'view close needs the number of one view'),
                (['mount', 'web-1@latest'], "'mount' takes SERVER@POINT and a directory"),
                (['umount'], "'umount' takes the directory where a view is mounted"),
                (['diff', 'web-1@latest'], "'diff' takes two points"),
                (['diff', 'web-1@1', 'web-2@2'], 'points of two servers'),
                (['restore', 'web-1@1', '--store', '/nowhere'], 'restore needs --to'),
                (['restore', 'web-1@1', '--store', '/nowhere', '--to', 'x', '--format', 'vmdk'], 'wanted raw or qcow2'),
                (['points', '/nowhere', '--plot=png'], '--plot=png: wanted --plot=text or --plot=svg'),
                (['status', '--files'], "--files means nothing to 'status'"),
                (['status', '--role', 'agent'], "--role means nothing to 'status'"),
                (['mark', 'a', 'b'], "'mark' takes one label at most"),
                (['mark', 'a', '--label', 'b'], 'the mark was given two labels'),
                (['status', '--wait'], "--wait means nothing to 'status'"),
                (['status', '--jsno'], '--jsno'),
                (['pki'], 'pki needs one of init, issue and show'),
                (['pki', 'revoke'], "not 'revoke'"),
                (['pki', 'init'], "needs the authority's directory"),
                (['pki', 'issue', 'x', '--role', 'agent'], 'needs --name'),
                (['pki', 'issue', 'x', '--name', 'a', '--role', 'boss'],
                 "--role is 'boss'; use agent, receiver or orchestrator"),
                (['pki', 'issue', 'x', '--name', 'a', '--role', 'agent', '--days', '0'], '--days must be at least 1')]:
            with self.subTest(words=words):
                status, out, err = call(*words)
                self.assertEqual((status, out), (2, ''))
                self.assertIn(message, err)
                self.assertEqual(err.count('\n'), 1)

    def test_the_shell_completes_what_the_program_knows(self):
        status, script, _ = call('--completion', 'bash')
        self.assertEqual(status, 0)

        def completed(*words):
            line = ' '.join(f"'{word}'" for word in ('understudyctl', *words))
            ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _understudyctl; echo "${{COMPREPLY[@]}}"'
            done = subprocess.run(['bash', '-c', f'{script}\n{ask}'], capture_output=True, text=True, check=True)
            return done.stdout.split()
        self.assertEqual(completed('fail'), ['failover', 'failback'])
        self.assertEqual(completed('failover', 'web-1', '--d'), ['--dry-run'])
        self.assertEqual(completed('points', '--w'), [])
        self.assertTrue(call('--completion', 'zsh')[1].startswith('autoload -U +X bashcompinit'))
        self.assertEqual(call('--completion', 'fish')[0], 2)

    def test_no_daemon_is_exit_7(self):
        status, out, err = call('status', '--socket', self.directory / 'none.sock')
        self.assertEqual((status, out), (7, ''))
        self.assertIn('the daemon is not running', err)

    def test_status_is_asked_and_shown(self):
        path = self.directory / 'agent.sock'
        daemon = FakeDaemon(path, b'{"ok":true,"result":{"server":"web-1","phase":"realtime"}}')
        status, out, err = call('status', '--socket', path)
        self.assertEqual((status, err), (0, ''))
        self.assertIn("agent of server 'web-1'\n  phase        realtime\n", out)
        self.assertEqual(daemon.requests, [{'command': 'status'}])

    def test_status_json_is_the_daemons_own(self):
        path = self.directory / 'agent.sock'
        FakeDaemon(path, b'{"ok":true,"result":{"phase":"realtime","last_seq":18446744073709551615}}')
        status, out, _ = call('--socket', path, 'status', '--json')
        self.assertEqual(status, 0)
        self.assertEqual(json.loads(out), {'phase': 'realtime', 'last_seq': 18446744073709551615})

    def test_a_daemons_error_is_shown_with_its_exit_code(self):
        path = self.directory / 'agent.sock'
        FakeDaemon(path, b'{"ok":false,"error":{"kind":"permission","message":"not for you"}}')
        status, _, err = call('mark', 'before-upgrade', '--socket', path)
        self.assertEqual(status, 4)
        self.assertEqual(err, 'understudyctl: not for you\n')

    def test_mark_sends_the_label(self):
        for words in (['before upgrade'], ['--label', 'before upgrade']):
            path = self.directory / f'agent-{len(words)}.sock'
            daemon = FakeDaemon(path, b'{"ok":true,"result":{"id":5}}')
            status, out, _ = call('mark', *words, '--socket', path)
            self.assertEqual(status, 0)
            self.assertIn('mark ordered', out)
            self.assertEqual(daemon.requests, [{'command': 'mark', 'label': 'before upgrade', 'consistency': 'crash'}])

    def test_mark_waits_until_it_is_durable(self):
        path = self.directory / 'agent.sock'
        daemon = FakeDaemon(path, b'{"ok":true,"result":{"id":5}}', b'{"ok":true,"result":{"id":5,"state":"working"}}',
                            b'{"ok":true,"result":{"id":5,"state":"durable","label":"a","consistency":"application",'
                            b'"seq":7}}')
        status, out, _ = call('mark', '--application-consistent', '--wait', '--socket', path)
        self.assertEqual((status, out), (0, "marked 'a' at seq 7, application-consistent\n"))
        self.assertEqual(daemon.requests, [{'command': 'mark', 'consistency': 'application'},
                                           *[{'command': 'mark-outcome', 'id': 5}] * 2])

    def test_a_mark_that_is_less_than_asked_for_is_a_failure(self):
        path = self.directory / 'agent.sock'
        FakeDaemon(path, b'{"ok":true,"result":{"id":5}}',
                   b'{"ok":true,"result":{"id":5,"state":"durable","label":"a","consistency":"crash","seq":7,'
                   b'"reason":"hook \'x\' failed"}}')
        status, out, err = call('mark', '--application-consistent', '--wait', '--socket', path)
        self.assertEqual((status, out), (1, "marked 'a' at seq 7, crash-consistent\n"))
        self.assertEqual(err, "understudyctl: the mark is crash-consistent only: hook 'x' failed\n")

    def test_an_answer_that_is_no_json_is_an_error(self):
        path = self.directory / 'agent.sock'
        FakeDaemon(path, b'hello')
        status, out, err = call('status', '--socket', path)
        self.assertEqual(out, '')
        self.assertNotEqual(status, 0)
        self.assertIn(f"answer from '{path}'", err)

    def test_certificates_are_issued_and_proved_by_openssl(self):
        authority, out = self.directory / 'pki', self.directory / 'web-1'
        self.assertEqual(call('pki', 'init', authority)[0], 0)
        status, text, err = call('pki', 'issue', authority, '--role', 'agent', '--name', 'web-1', '--out', out)
        self.assertEqual((status, err), (0, ''))
        self.assertIn(f'{out}/web-1.crt', text)
        self.assertEqual((out / 'web-1.key').stat().st_mode & 0o777, 0o600)
        verified = subprocess.run(['openssl', 'verify', '-CAfile', authority / 'ca.crt', out / 'web-1.crt'],
                                  capture_output=True, text=True)
        self.assertEqual(verified.returncode, 0, verified.stderr)
        status, text, _ = call('pki', 'show', out / 'web-1.crt', '--json')
        self.assertEqual(status, 0)
        self.assertEqual(json.loads(text)['identity'], 'understudy:agent:web-1')
        self.assertIn('identity    understudy:agent:web-1\n', call('pki', 'show', out / 'web-1.crt')[1])
        # The directory may also be given as an option.
        status, _, err = call('pki', 'issue', '--directory', authority, '--role', 'receiver', '--name', 'dr-1')
        self.assertEqual((status, err), (0, ''))
        self.assertTrue((authority / 'dr-1.crt').exists())

    def test_nothing_is_overwritten(self):
        authority = self.directory / 'pki'
        self.assertEqual(call('pki', 'init', authority)[0], 0)
        before = (authority / 'ca.key').read_bytes()
        status, _, err = call('pki', 'init', authority)
        self.assertEqual(status, 1)
        self.assertIn(str(authority), err)
        self.assertEqual((authority / 'ca.key').read_bytes(), before)

    def test_points_of_what_is_no_store(self):
        status, out, err = call('points', self.directory)
        self.assertNotEqual(status, 0)
        self.assertEqual(out, '')
        self.assertIn(str(self.directory), err)

    def test_output_that_cannot_be_written_is_a_failure(self):
        path = self.directory / 'agent.sock'
        FakeDaemon(path, b'{"ok":true,"result":{"phase":"realtime"}}')
        with open('/dev/full', 'w', encoding='ascii') as full:
            done = subprocess.run([PROGRAM, 'status', '--socket', path], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn('cannot write', done.stderr)


if __name__ == '__main__':
    os.environ['TZ'] = 'UTC'
    unittest.main()
