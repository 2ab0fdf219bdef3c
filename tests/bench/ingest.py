#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Durable appends to a store (1 MiB batches of 4 KiB records, a commit each) against fio writing the same size to the
same file system with fdatasync after each MiB. Prints the median ratio of several interleaved pairs."""
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

PAIRS = 5
MIB = 256


def fio_bytes_per_second(directory: str) -> float:
    path = Path(directory) / 'fio.data'
    command = ['fio', '--name=ingest', f'--filename={path}', '--rw=write', '--bs=1m', f'--size={MIB}m',
               '--ioengine=psync', '--fdatasync=1', '--refill_buffers', '--output-format=json']
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    path.unlink()
    job = json.loads(result.stdout)['jobs'][0]
    return job['write']['io_bytes'] / (job['job_runtime'] / 1000)


def store_bytes_per_second(program: Path, directory: str) -> float:
    store = Path(directory) / 'store'
    result = subprocess.run([program, store, str(MIB)], check=True, capture_output=True, text=True)
    shutil.rmtree(store)
    return float(result.stdout)


def main() -> None:
    build = Path(os.environ['UNDERSTUDY_BUILD'])
    program = build / 'tests' / 'bench' / 'ingest_append'
    with tempfile.TemporaryDirectory(prefix='understudy-bench-', dir=build) as directory:
        pairs = []
        for _ in range(PAIRS):
            pairs.append((store_bytes_per_second(program, directory), fio_bytes_per_second(directory)))
    for store, fio in pairs:
        print(f'store {store / 2**20:.0f} MiB/s, fio {fio / 2**20:.0f} MiB/s')
    print(f'bench ingest durable_ratio {statistics.median(store / fio for store, fio in pairs):.3f}')


if __name__ == '__main__':
    main()
