#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/tidy finds each breach in a small tree; tools/bench passes on figures and nothing else; tools/check counts."""
import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[3] / 'tools'
SPDX = '// SPDX-License-Identifier: Apache-2.0\n'
HEADER = SPDX + '#pragma once\n'
ID = '0123456789abcdef0123456789abcdef'


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tidy(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        for folder in ('daemon', 'daemon/base', 'daemon/store', 'daemon/wire', 'kmod-shim', 'tools', 'tests', 'config',
                       'systemd', 'orchestrator'):
            self.write(f'{folder}/README.md', '# a page\n')
        self.write('daemon/README.md', '| `base/` | | x |\n| `store/` | `base/` | x |\n| `wire/` | `base/` | x |\n')
        self.write('daemon/base/message_ids.h',
                   HEADER + f'inline constexpr MessageId kMessageReady{{"{ID}"}};\n')
        self.write('systemd/understudy.catalog', f'-- {ID}\nSubject: Ready\n\nAll is well.\n')

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')

    def breaches(self, *rules):
        words = [word for rule in rules for word in ('--rule', rule)]
        done = subprocess.run([TOOLS / 'tidy', *words, self.root], capture_output=True, text=True)
        self.assertEqual(done.stderr, '')
        self.assertEqual(done.returncode, 1 if done.stdout else 0)
        return done.stdout

    def test_a_tidy_tree_has_no_breach(self):
        self.assertEqual(self.breaches(), '')

    def test_files(self):
        self.write('daemon/base/a.h', '#include <x>\n' + 'int a;\n' * 900)
        self.write('daemon/base/b.cc', SPDX + 'int b;  \n' + 'x' * 121 + '\n// TO' + 'DO later\n')
        found = self.breaches('files')
        self.assertIn('daemon/base/a.h:801: 901 lines', found)
        self.assertIn("daemon/base/a.h:1: no 'SPDX", found)
        self.assertIn("daemon/base/a.h:1: no '#pragma once'", found)
        self.assertIn('daemon/base/b.cc:2: blanks at the end', found)
        self.assertIn('daemon/base/b.cc:3: 121 columns', found)
        self.assertIn('daemon/base/b.cc:4: leftover', found)

    def test_may_use(self):
        self.write('daemon/store/a.cc', SPDX + '#include "daemon/base/x.h"\n#include "daemon/wire/frame.h"\n')
        self.write('daemon/base/b.cc', SPDX + '#include "tools/x.h"\n')
        found = self.breaches('may-use')
        self.assertIn("daemon/store/a.cc:3: 'daemon/store' may not include 'daemon/wire/frame.h'", found)
        self.assertIn("daemon/base/b.cc:2: 'daemon/base' may not include 'tools/x.h'", found)
        self.assertEqual(found.count('\n'), 2)
        self.write('daemon/fresh/c.cc', SPDX)
        self.assertIn("no row for the folder 'daemon/fresh'", self.breaches('may-use'))

    def test_orchestrator_may_use(self):
        self.write('orchestrator/README.md', '# x\n\n| folder | may use |\n|---|---|\n| `spec/` | |\n'
                   '| `plan/` | `spec/` |\n')
        self.write('orchestrator/plan/a.cc', SPDX + '#include "orchestrator/spec/x.h"\n#include "daemon/base/y.h"\n'
                   '#include "daemon/store/z.h"\n')
        self.write('orchestrator/spec/b.cc', SPDX + '#include "orchestrator/plan/x.h"\n')
        self.write('orchestrator/fresh/c.cc', SPDX)
        found = self.breaches('orchestrator-may-use')
        self.assertIn("orchestrator/plan/a.cc:4: 'orchestrator/plan' may not include 'daemon/store/z.h'", found)
        self.assertIn("orchestrator/spec/b.cc:2: 'orchestrator/spec' may not include 'orchestrator/plan/x.h'", found)
        self.assertIn("no row for the folder 'orchestrator/fresh'", found)
        self.assertEqual(found.count('\n'), 3)

    def test_heavy_includes_stay_in_their_folder(self):
        self.write('daemon/wire/tls_util.h', HEADER + '#include <openssl/ssl.h>\n')
        self.write('daemon/wire/tls.h', HEADER + '#include "daemon/wire/tls_util.h"\n')
        self.write('daemon/wire/tls.cc', SPDX + '#include "daemon/wire/tls.h"\n')
        self.assertEqual(self.breaches('heavy-includes'), '')
        self.write('daemon/store/a.cc', SPDX + '#include "daemon/wire/tls.h"\n')
        self.assertIn("daemon/store/a.cc:2: 'daemon/wire/tls.h' brings in", self.breaches('heavy-includes'))

    def test_formats_and_readmes(self):
        self.write('daemon/wire/frame_format.h', HEADER)
        self.write('daemon/fresh/a.cc', SPDX)
        found = self.breaches('formats', 'readmes')
        self.assertIn("daemon/wire/frame_format.h:1: no 'daemon/wire/FORMAT.md' beside it", found)
        self.assertIn('daemon/fresh/README.md:1: missing', found)
        self.write('daemon/wire/FORMAT.md', 'something else\n')
        self.assertIn("daemon/wire/FORMAT.md:1: does not mention 'frame_format.h'", self.breaches('formats'))

    def test_message_ids(self):
        other = 'f' * 32
        self.write('daemon/base/message_ids.h', HEADER + f'inline constexpr MessageId kMessageReady{{"{ID}"}};\n'
                   f'inline constexpr MessageId kMessageOther{{"{ID}"}};\nMessageId kMessageShort{{"12"}};\n')
        self.write('systemd/understudy.catalog', f'-- {other}\nno subject\n' + 'x' * 77 + '\n')
        found = self.breaches('message-ids')
        self.assertIn("'kMessageOther' has the id of 'kMessageReady'", found)
        self.assertIn("'kMessageShort' is not 32 lower-case hex digits", found)
        self.assertIn("no 'Subject:' behind the id", found)
        self.assertIn(f"'{other}' is not in daemon/base/message_ids.h", found)
        self.assertIn('understudy.catalog:3: 77 columns', found)

    def test_functions(self):
        body = '  if (x) {\n    const auto f = [&] { return "}{"; };  // }\n  }\n' * 25
        long_one = 'struct S {\n  int f(int x) const {\n' + body + '  }\n};\n'
        self.write('daemon/base/a.cc',
                   SPDX + 'namespace n {\nint g() { return 1; }\n' + long_one + '}  // namespace n\n')
        self.assertIn("daemon/base/a.cc:5: function 'f' has 77 lines; allowed: 70\n", self.breaches('functions'))
        self.write('tools/tidy_ratchet.txt', 'daemon/base/a.cc f 77\n')
        self.assertEqual(self.breaches('functions'), '')
        self.write('tools/tidy_ratchet.txt', 'daemon/base/a.cc f 76\ndaemon/base/a.cc gone 90\n')
        found = self.breaches('functions')
        self.assertIn('allowed: 76', found)
        self.assertIn("'daemon/base/a.cc gone' is gone or short enough", found)


class Bench(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        (self.root / 'tools').mkdir()
        (self.root / 'tests/bench').mkdir(parents=True)
        (self.root / 'build').mkdir()
        (self.root / 'build/build.ninja').touch()
        shutil.copy(TOOLS / 'bench', self.root / 'tools/bench')

    def add(self, name, script):
        path = self.root / 'tests/bench' / name
        path.write_text('#!/bin/sh\n' + script, encoding='utf-8')
        path.chmod(0o755)

    def run_bench(self, *words):
        environment = {key: value for key, value in os.environ.items() if not key.startswith('UNDERSTUDY_')}
        return subprocess.run([self.root / 'tools/bench', *words], capture_output=True, text=True, env=environment)

    def test_only_figures_reach_stdout(self):
        self.add('view.sh', 'echo warming up; echo bench view open_ms 1.5; echo bench other open_ms 2; '
                            'echo bench view ratio 0.98')
        done = self.run_bench('view')
        self.assertEqual((done.returncode, done.stdout), (0, 'bench view open_ms 1.5\nbench view ratio 0.98\n'))
        self.assertIn('warming up', done.stderr)
        self.assertEqual(json.loads(self.run_bench('--json', 'view').stdout),
                         [{'name': 'view', 'metric': 'open_ms', 'value': 1.5},
                          {'name': 'view', 'metric': 'ratio', 'value': 0.98}])

    def test_failures_and_silence_are_failures(self):
        self.add('broken', 'echo bench broken x 1; exit 3')
        self.add('silent', 'exit 0')
        for name, reason in (('broken', 'exit status 3'), ('silent', 'printed no figure')):
            done = self.run_bench(name)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"'{name}' failed: {reason}", done.stderr)

    def test_names(self):
        self.add('a.py', 'exit 0')
        self.add('b', 'exit 0')
        self.assertEqual(self.run_bench('--list').stdout, 'a\nb\n')
        self.assertEqual(self.run_bench('c').returncode, 2)
        self.assertEqual(self.run_bench().returncode, 2)
        self.assertEqual(self.run_bench('--build', '/nonexistent', 'a').returncode, 2)


class Check(unittest.TestCase):
    def test_counts(self):
        counts = load('check_run').Counts()
        with contextlib.redirect_stdout(io.StringIO()) as out:
            counts.add(Path('/b'), [{'name': name, 'result': result, 'stdout': 'why\n'} for name, result in (
                ('a', 'OK'), ('b', 'FAIL'), ('c', 'SKIP'), ('d', 'TIMEOUT'), ('e', 'ERROR'), ('f', 'UNEXPECTEDPASS'),
                ('g', 'EXPECTEDFAIL'))])
        self.assertEqual((counts.passed, counts.failed, counts.skipped), (2, 4, 1))
        self.assertIn('skipped: c (b): why', out.getvalue())
        self.assertIn('--- TIMEOUT: d (b)', out.getvalue())


if __name__ == '__main__':
    sys.dont_write_bytecode = True
    unittest.main()
