#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a store costs that has grown: how long the first byte of a view takes in process (open the store, find a time,
open the view, read 4 KiB) with 10 million records, how that grows from a million, and how much memory it needs,
reckoned for 100 GiB of 4 KiB records. Medians over points spread over history. The newest segment is half full in
both stores: it has no index yet, so its tables are read.

What merging costs: bytes written to the store's disk for each byte that came in, over a trace with as many segments as
a day of 64 GiB has, each a sixty-fourth of the usual size (nothing is thinned yet, so every version is kept). And how
long a receiver that was killed behind that trace takes to open the store again; the newest segment, whose bytes are
what takes the time, is of the usual size there."""
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

SEGMENT_RECORDS = 256 * 1024  # a segment is sealed at so many
SMALL = 7 * SEGMENT_RECORDS // 2    # 0.92 million
LARGE = 77 * SEGMENT_RECORDS // 2   # 10.09 million
POINTS = 15
RECORDS_IN_100_GIB = 100 * 2**30 // 4096


def open_views(program: Path, store: Path) -> tuple[list[float], float]:
    result = subprocess.run([program, 'open', store, str(POINTS)], check=True, capture_output=True, text=True)
    lines = [line.split() for line in result.stdout.splitlines()]
    return [float(value) for name, value in lines if name == 'ms'], float(dict(lines)['kib'])

SEGMENTS = 256
SEGMENT_MIB = 4
FILES = 8
RECOVER_MIB = 700  # compressed to a little more than half: one segment of 256 MiB and a half


def trace(program: Path, store: Path, mib: int, segment_mib: int) -> dict[str, int]:
    result = subprocess.run([program, 'trace', store, str(mib), str(segment_mib), str(FILES)], check=True,
                            capture_output=True, text=True)
    return {name: int(value) for name, value in (line.split() for line in result.stdout.splitlines())}


def recover_ms(program: Path, store: Path) -> float:
    result = subprocess.run([program, 'recover', store], check=True, capture_output=True, text=True)
    return float(result.stdout.split()[1])


def merging(program: Path, directory: Path) -> None:
    figures = trace(program, directory / 'merged', SEGMENTS * SEGMENT_MIB * 2, SEGMENT_MIB)
    written = figures['appended'] + figures['indexed'] + figures['merged']
    mib = {name: value // 2**20 for name, value in figures.items()}
    print(f'{mib["ingested"]} MiB came in, {mib["appended"]} appended, {mib["indexed"]} indexes, {mib["merged"]} '
          f'merged; {mib["journal"]} MiB in {figures["files"]} files, {figures["kib"] // 1024} MiB of memory')
    print(f'bench store write_amplification {written / figures["ingested"]:.2f}')
    shutil.rmtree(directory / 'merged')
    trace(program, directory / 'killed', RECOVER_MIB, 256)
    recoveries = [recover_ms(program, directory / 'killed') for _ in range(5)]
    print(f'bench store recovery_ms {statistics.median(recoveries):.1f}')


def main() -> None:
    build = Path(os.environ['UNDERSTUDY_BUILD'])
    program = build / 'tests' / 'bench' / 'store_open'
    with tempfile.TemporaryDirectory(prefix='understudy-bench-', dir=build) as directory:
        small, large = Path(directory) / 'small', Path(directory) / 'large'
        subprocess.run([program, 'make', small, str(SMALL)], check=True)
        subprocess.run([program, 'make', large, str(LARGE)], check=True)
        runs = [(open_views(program, small), open_views(program, large)) for _ in range(3)]
        merging(program.with_name('store_merge'), Path(directory))
    small_ms = statistics.median(value for run in runs for value in run[0][0])
    large_values = [value for run in runs for value in run[1][0]]
    large_ms = statistics.median(large_values)
    print(f'{SMALL} records {small_ms:.1f} ms, {LARGE} records {large_ms:.1f} ms, slowest {max(large_values):.1f} ms')
    kib = statistics.median(run[1][1] - run[0][1] for run in runs)
    print(f'bench store open_ms {large_ms:.2f}')
    print(f'bench store open_growth_ratio {large_ms / small_ms:.3f}')
    print(f'bench store mib_per_100gib {kib / 1024 * RECORDS_IN_100_GIB / (LARGE - SMALL):.1f}')


if __name__ == '__main__':
    main()
