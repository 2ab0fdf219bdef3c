#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a store costs that has grown: how long the first byte of a view takes in process (open the store, find a time,
open the view, read 4 KiB) with 10 million records, how that grows from a million, and how much memory it needs,
reckoned for 100 GiB of 4 KiB records. Medians over points spread over history. The newest segment is half full in
both stores: it has no index yet, so its tables are read."""
import os
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


def main() -> None:
    build = Path(os.environ['UNDERSTUDY_BUILD'])
    program = build / 'tests' / 'bench' / 'store_open'
    with tempfile.TemporaryDirectory(prefix='understudy-bench-', dir=build) as directory:
        small, large = Path(directory) / 'small', Path(directory) / 'large'
        subprocess.run([program, 'make', small, str(SMALL)], check=True)
        subprocess.run([program, 'make', large, str(LARGE)], check=True)
        runs = [(open_views(program, small), open_views(program, large)) for _ in range(3)]
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
