#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What capture costs the application: fio on a loop device over memory, with capture against without.

Memory is the worst case: a real disk hides the copying behind its own time. Runs without and with capture alternate;
each pair gives a ratio, and the median is printed. The consumer drains and gives back every event, with the ring at
its default size. Needs root.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

PAIRS = int(os.environ.get('BENCH_PAIRS', '7'))
SECONDS = os.environ.get('BENCH_SECONDS', '4')
DISK_MIB = 512
LOADS = {
    'random_4k_ratio': ['--rw=randwrite', '--bs=4k', '--iodepth=16'],
    'sequential_256k_ratio': ['--rw=write', '--bs=256k', '--iodepth=8'],
}


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def fio(disk: str, load: list[str]) -> float:
    """Writes per second."""
    out = run('fio', '--name=load', f'--filename={disk}', '--direct=1', '--ioengine=libaio', '--time_based',
              f'--runtime={SECONDS}', f'--size={DISK_MIB}m', '--randrepeat=0', '--norandommap', '--refill_buffers=0',
              '--output-format=json', *load)
    return json.loads(out[out.index('{'):])['jobs'][0]['write']['iops']


class Capture:
    """The consumer, for as long as the block runs."""

    def __init__(self, program: Path, bpffs: str, disk: str):
        self.command = [str(program), bpffs, disk]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != 'ready':
            self.process.wait()
            raise RuntimeError('the capture consumer did not start')
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        words = self.process.stdout.read().split()
        if self.process.wait() != 0 or len(words) != 6:
            raise RuntimeError('the capture consumer failed')
        self.events, self.bytes, self.losses = (int(words[i]) for i in (1, 3, 5))


def main() -> int:
    program = Path(os.environ['UNDERSTUDY_BUILD']) / 'tests' / 'bench' / 'capture_consumer'
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix='understudy-bench-'))
        memory, bpffs = f'{place}/memory', f'{place}/bpf'
        for kind, path, options in (('tmpfs', memory, f'size={DISK_MIB + 64}m'), ('bpf', bpffs, 'mode=0700')):
            os.mkdir(path)
            run('mount', '-t', kind, '-o', options, kind, path)
            stack.callback(run, 'umount', path)
        image = f'{memory}/disk'
        run('dd', 'if=/dev/zero', f'of={image}', 'bs=1M', f'count={DISK_MIB}', 'status=none')
        disk = run('losetup', '-f', '--show', image).strip()
        stack.callback(run, 'losetup', '-d', disk)
        for metric, load in LOADS.items():
            fio(disk, load)  # warms up
            ratios = []
            for _ in range(PAIRS):
                without = fio(disk, load)
                with Capture(program, bpffs, disk) as capture:
                    captured = fio(disk, load)
                ratios.append(captured / without)
                print(f'{metric}: {without:.0f} writes/s without, {captured:.0f} with, ratio {ratios[-1]:.3f}, '
                      f'{capture.events} events, {capture.bytes} bytes, {capture.losses} lost')
                if capture.losses or not capture.events:
                    raise RuntimeError('writes were lost: this run measured something else')
            print(f'bench capture {metric} {statistics.median(ratios):.4f}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
