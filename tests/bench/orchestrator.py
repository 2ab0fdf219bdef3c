#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An orchestrator with one group of 200 servers in a boot order: time of a plan, and from start to ready."""
import os
import subprocess
import tempfile
from pathlib import Path

SERVERS = 200


def main() -> None:
    build = Path(os.environ['UNDERSTUDY_BUILD'])
    with tempfile.TemporaryDirectory(prefix='understudy-bench-', dir=build) as directory:
        result = subprocess.run([build / 'tests/bench/orchestrator_load', Path(directory) / 'bench.db', str(SERVERS)],
                                check=True, capture_output=True, text=True)
    plan_ms, restart_ms = map(float, result.stdout.split())
    print(f'bench orchestrator plan_ms {plan_ms:.3f}')
    print(f'bench orchestrator restart_ms {restart_ms:.3f}')


if __name__ == '__main__':
    main()
