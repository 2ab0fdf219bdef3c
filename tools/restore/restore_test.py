#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs understudy-restore on the stored example of format version 1: restore_test.py PROGRAM EXAMPLE.

What the disks must be is computed here from the description of the example stream, not taken from the program. Needs
root for the parts with loop devices.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM, EXAMPLE = sys.argv.pop(1), sys.argv.pop(1)
CHAIN_HEAD = '998639e2b39274b08ca10de70e14bffb351f87969bac448c3054c73616e28eec'


def pattern(count: int, salt: int) -> bytes:
    """example_bytes() of tests/format/example_stream.h."""
    out = bytearray()
    value = salt * 2654435761 & 0xffffffff
    for i in range(count):
        if i % 64 == 0:
            value = (value * 1664525 + 1013904223) & 0xffffffff
        out.append(value >> (i % 4 * 8) & 0xff)
    return bytes(out)


def disks_at(seq: int) -> list[bytes]:
    """The disks of the example after record `seq` (7 or more)."""
    disks = [bytearray(32768), bytearray(16384)]

    def put(at_seq: int, disk: int, offset: int, data: bytes) -> None:
        if at_seq <= seq:
            disks[disk][offset:offset + len(data)] = data

    put(3, 0, 0, pattern(8192, 1))
    put(5, 1, 0, pattern(512, 2))
    put(6, 1, 512, pattern(15872, 3))
    put(9, 0, 4096, pattern(1024, 4))
    put(12, 0, 0, bytes(2048))
    put(14, 0, 16384, pattern(4096, 5))
    put(15, 1, 4096, pattern(4096, 6))
    put(18, 1, 8192, pattern(4096, 7))
    return [bytes(disk) for disk in disks]


class Restore(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix='understudy-restore-')
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def run_tool(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess:
        result = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True,
                                env={**os.environ, 'TZ': 'UTC'})
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def refused(self, *arguments: str, status: int = 1) -> str:
        return self.run_tool(*arguments, status=status).stderr

    def copy_of_example(self) -> str:
        store = self.path('store')
        shutil.copytree(EXAMPLE, store)
        return store

    def loop(self, size: int) -> str:
        backing = self.path(f'disk-{size}')
        Path(backing).write_bytes(b'\xa5' * size)  # what was there before must not shine through
        device = subprocess.run(['losetup', '-f', '--show', backing], check=True, capture_output=True,
                                text=True).stdout.strip()
        self.addCleanup(subprocess.run, ['losetup', '-d', device], check=True)
        return device

    def test_static(self) -> None:
        listed = subprocess.run(['ldd', PROGRAM], capture_output=True, text=True)
        self.assertIn('not a dynamic executable', listed.stdout + listed.stderr)

    def test_list(self) -> None:
        listed = json.loads(self.run_tool('list', EXAMPLE, '--json').stdout)
        self.assertEqual(listed['server']['name'], 'example-1')
        self.assertEqual([disk['size_bytes'] for disk in listed['disks']], [32768, 16384])
        self.assertEqual([(r['first']['seq'], r['last']['seq']) for r in listed['ranges']], [(7, 12), (16, 18)])
        self.assertEqual(listed['guaranteed_back_to']['seq'], 7)
        self.assertEqual([gap['reason'] for gap in listed['gaps']], ['initial-copy', 'overflow'])
        self.assertEqual(listed['marks'][0]['name'], 'before-upgrade')
        self.assertEqual(listed['latest']['seq'], 17)
        text = self.run_tool('list', EXAMPLE).stdout
        self.assertRegex(text, r'\nhistory guaranteed back to 2025-10-09 08:53:2\S+ \(seq:7\), but for the gap\n')
        self.assertIn('mark @before-upgrade: 2025-10-09 08:53:22.750 (seq:11), application-consistent', text)

    def test_every_point_into_files(self) -> None:
        for seq in [*range(7, 13), 16, 17, 18]:
            with self.subTest(seq=seq):
                target = self.path(f'all-{seq}')
                self.run_tool('restore', EXAMPLE, '--point', f'seq:{seq}', '--to-directory', target)
                for slot, expected in enumerate(disks_at(seq)):
                    self.assertEqual(Path(target, f'{slot}.img').read_bytes(), expected)

    def test_names_of_points_and_disks(self) -> None:
        for point, seq in [('latest', 17), ('@before-upgrade', 11), ('2025-10-09 08:53:22.6', 10), ('-0s', 17),
                           ('-1750ms', 10), ('08:53:24.250', 17)]:
            with self.subTest(point=point):
                target = self.path(f'disk-{point}')
                result = self.run_tool('restore', EXAMPLE, '--point', point, '--disk', '/dev/vdb', '--to', target,
                                       '--json')
                self.assertEqual(json.loads(result.stdout)['point']['seq'], seq)
                self.assertEqual(Path(target).read_bytes(), disks_at(seq)[1])

    def test_files_are_sparse(self) -> None:
        target = self.path('sparse')
        self.run_tool('restore', EXAMPLE, '-p', 'seq:12', '-d', '0', '--to', target)
        self.assertLess(os.stat(target).st_blocks * 512, 32768)

    def test_device_is_written_whole(self) -> None:
        device = self.loop(65536)
        self.run_tool('restore', EXAMPLE, '--point', 'latest', '--disk', '0', '--to', device)
        with open(device, 'rb') as disk:
            content = disk.read()
        self.assertEqual(content[:32768], disks_at(17)[0])
        self.assertEqual(content[32768:], b'\xa5' * 32768)

    def test_device_that_is_too_small(self) -> None:
        device = self.loop(16384)
        self.assertIn('is too small: it has 16384 bytes',
                      self.refused('restore', EXAMPLE, '-p', 'latest', '-d', '0', '--to', device, status=2))

    def test_mounted_device(self) -> None:
        device = self.loop(8 << 20)
        mount = self.path('mount')
        os.mkdir(mount)
        subprocess.run(['mkfs.ext4', '-q', device], check=True)
        subprocess.run(['mount', device, mount], check=True)
        try:
            self.assertIn('is in use', self.refused('restore', EXAMPLE, '-p', 'latest', '-d', '0', '--to', device))
        finally:
            subprocess.run(['umount', mount], check=True)

    def test_locked_device(self) -> None:
        device = self.loop(65536)
        command = [PROGRAM, 'restore', EXAMPLE, '-p', 'latest', '-d', '0', '--to', device]
        result = subprocess.run(['flock', device, *command], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn('holds the lock', result.stderr)

    def test_refusals(self) -> None:
        target = self.path('target')
        Path(target).write_text('precious')
        self.assertIn('has 8 B already', self.refused('restore', EXAMPLE, '-p', 'latest', '-d', '0', '--to', target))
        self.assertEqual(Path(target).read_text(), 'precious')
        self.run_tool('restore', EXAMPLE, '-p', 'latest', '-d', '0', '--to', target, '--overwrite')
        self.assertEqual(Path(target).read_bytes(), disks_at(17)[0])
        new = self.path('new')
        gap = self.refused('restore', EXAMPLE, '-p', 'seq:14', '-d', '0', '--to', new)
        self.assertIn('lies in a gap (overflow', gap)
        self.assertIn('seq:10', gap)
        self.assertIn('seq:16', gap)
        self.assertIn('several disks: 0 (/dev/vda), 1 (/dev/vdb)',
                      self.refused('restore', EXAMPLE, '-p', 'latest', '--to', new, status=2))
        self.assertIn("no disk 'sdz'", self.refused('restore', EXAMPLE, '-p', 'latest', '-d', 'sdz', '--to', new))
        store = self.copy_of_example()
        self.assertIn('inside the store', self.refused('restore', store, '-p', 'latest', '--to-directory',
                                                       store + '/base'))
        self.assertFalse(os.path.exists(new))
        for arguments in (['restore', EXAMPLE], ['frobnicate', EXAMPLE], ['list'], [], ['list', EXAMPLE, '--bogus'],
                          ['restore', EXAMPLE, '-p', 'latest']):
            self.refused(*arguments, status=2)
        self.assertIn('No such file', self.refused('list', self.path('nothing')))

    def test_verify(self) -> None:
        self.assertIn(f'chain head: {CHAIN_HEAD}', self.run_tool('verify', EXAMPLE).stdout)
        last = sorted(Path(EXAMPLE, 'journal').iterdir())[-1]
        self.assertEqual(hashlib.sha256(last.read_bytes()).hexdigest(), CHAIN_HEAD)

    def test_verify_compares_the_head_that_was_noted(self) -> None:
        self.assertIn('the noted head is that of seq:18: nothing up to there was altered',
                      self.run_tool('verify', EXAMPLE, '--head', CHAIN_HEAD.upper()).stdout)
        # What the head was when the journal ended with its first segment, and at each commit before.
        first, second = sorted(Path(EXAMPLE, 'journal').iterdir())[:2]
        content = first.read_bytes()
        ends = {len(content): int(second.stem) - 1}
        frames = [at for at in range(0, len(content), 8) if content[at:at + 8] == b'UNDSFRAM']
        for at in frames[1:]:
            ends[at] = int.from_bytes(content[at + 8:at + 16], 'little') - 1
        self.assertGreater(len(ends), 1)
        for end, seq in ends.items():
            noted = hashlib.sha256(content[:end]).hexdigest()
            self.assertIn(f'is that of seq:{seq}:', self.run_tool('verify', EXAMPLE, '--head', noted).stdout)
            found = json.loads(self.run_tool('verify', EXAMPLE, '--head', noted, '--json').stdout)
            self.assertEqual((found['head_seq'], found['chain_head']), (seq, CHAIN_HEAD))
        other = 'f' * 64
        self.assertIn(f'the chain head is {CHAIN_HEAD}, and {other} never was',
                      self.refused('verify', EXAMPLE, '--head', other))
        self.assertIn('wanted 64 hexadecimal digits', self.refused('verify', EXAMPLE, '--head', 'abc', status=2))
        self.assertIn("belongs to 'verify'", self.refused('list', EXAMPLE, '--head', other, status=2))
        # History that was cut at the end of a segment lacks the head that was noted.
        store = self.copy_of_example()
        sorted(Path(store, 'journal').iterdir())[-1].unlink()
        cut = subprocess.run([PROGRAM, 'verify', store, '--head', CHAIN_HEAD], capture_output=True, text=True)
        self.assertEqual(cut.returncode, 1, cut.stderr)

    def test_damage_is_found_and_named(self) -> None:
        store = self.copy_of_example()
        image = Path(store, 'base', '0.img')
        content = bytearray(image.read_bytes())
        content[100] ^= 1
        image.write_bytes(content)
        result = self.run_tool('verify', store, status=1)
        self.assertIn("damage: 'base/0.img' at byte 0, 8192 bytes: bytes are not what was copied", result.stdout)
        target = self.path('target')
        self.assertIn('the target is incomplete',
                      self.refused('restore', store, '-p', 'seq:8', '-d', '0', '--to', target))
        self.assertFalse(os.path.exists(target))

    def test_nothing_in_the_store_changes(self) -> None:
        store = self.copy_of_example()
        with open(Path(store, 'journal', '00000000000000000018.wal'), 'ab') as journal:
            journal.write(b'torn')
        Path(store, 'MANIFEST').touch()
        before = {path: path.read_bytes() for path in Path(store).rglob('*') if path.is_file()}
        result = self.run_tool('list', store)
        self.assertIn('ends in an unfinished batch', result.stderr)
        self.run_tool('restore', store, '-p', 'latest', '--to-directory', self.path('all'))
        self.run_tool('verify', store)
        after = {path: path.read_bytes() for path in Path(store).rglob('*') if path.is_file()}
        self.assertEqual(before, after)


if __name__ == '__main__':
    if os.geteuid() != 0:
        print('needs root for loop devices')
        sys.exit(77)
    unittest.main(verbosity=1)
