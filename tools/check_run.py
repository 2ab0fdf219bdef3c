#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The body of tools/check: builds twice, runs the tests, counts. See there."""
import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
# Suites that touch nothing but files of their own: run again under the sanitizers, and by --unit.
PURE_SUITES = {'unit', 'sim', 'golden', 'format', 'fuzz', 'tidy'}
PASSED = {'OK', 'EXPECTEDFAIL'}
SKIPPED = {'SKIP'}


class BuildFailed(Exception):
    """A build step went wrong; its output was shown."""


def step(text: str) -> None:
    print(f'check: {text}', flush=True)


def run_quietly(what: str, command: list[str], environment: dict | None = None) -> None:
    """Runs a command and shows its output only when it fails."""
    done = subprocess.run(command, cwd=SOURCE, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace')
    if done.returncode != 0:
        lines = done.stdout.splitlines()
        # From the first step that failed; without one, the end.
        failed = [number for number, line in enumerate(lines) if line.startswith('FAILED:') or ': error' in line]
        print('\n'.join(lines[failed[0]:failed[0] + 200] if failed else lines[-200:]))
        raise BuildFailed(f"{what} failed: '{' '.join(command[:6])}' exit status {done.returncode}")


def configure(build: Path, options: list[str]) -> None:
    if (build / 'build.ninja').exists():
        run_quietly('configuration', ['meson', 'configure', str(build), *options])
    else:
        run_quietly('configuration', ['meson', 'setup', str(build), *options])


def tests_of(build: Path) -> list[dict]:
    listed = subprocess.run(['meson', 'introspect', '--tests', str(build)], cwd=SOURCE, check=True,
                            capture_output=True, text=True)
    return json.loads(listed.stdout)


def suites_of(test: dict) -> set[str]:
    return {suite.split(':')[-1] for suite in test['suite']}


def ninja_targets(build: Path, tests: list[dict]) -> list[str]:
    """What these tests run, as ninja knows it: programs they are given and programs they depend on."""
    listed = subprocess.run(['meson', 'introspect', '--targets', str(build)], cwd=SOURCE, check=True,
                            capture_output=True, text=True)
    files_of = {target['id']: target['filename'] for target in json.loads(listed.stdout)}
    built = {os.path.relpath(name, build) for names in files_of.values() for name in names}
    targets = set()
    for test in tests:
        # meson writes some programs as absolute names and others relative to the build directory.
        for word in test['cmd']:
            targets.add(os.path.relpath(build / word, build))
        for target in test['depends']:
            targets |= {os.path.relpath(name, build) for name in files_of.get(target, [])}
    return sorted(targets & built)


def run_tests(build: Path, suites: set[str] | None, timeout_multiplier: int) -> list[dict]:
    """Runs the tests of some suites (None = all) and returns meson's record of each."""
    log = build / 'meson-logs' / 'testlog.json'
    log.unlink(missing_ok=True)
    command = ['meson', 'test', '-C', str(build), '--no-rebuild', '--quiet', '--timeout-multiplier',
               str(timeout_multiplier)]
    for suite in sorted(suites or []):
        command += ['--suite', suite]
    environment = dict(os.environ)
    environment.setdefault('ASAN_OPTIONS', 'detect_leaks=1:abort_on_error=0')
    environment.setdefault('UBSAN_OPTIONS', 'print_stacktrace=1:halt_on_error=1')
    subprocess.run(command, cwd=SOURCE, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    if not log.exists():
        raise BuildFailed(f"'{' '.join(command)}' left no record of any test")
    return [json.loads(line) for line in log.read_text(encoding='utf-8', errors='replace').splitlines()]


# What names the reason in the output of a test: doctest, the Python harness, the sanitizers, an abort.
REASON = re.compile(r'ERROR:|FAILED|^CHECK failed|Traceback|[A-Za-z]*(Error|Failure|Exception): |Sanitizer: |'
                    r'runtime error: |panic|Oops|BUG:|timed out|TIMEOUT')


def reasons_of(record: dict) -> list[str]:
    """The lines that say what failed, each with what stands around it, and the end of the output."""
    output = record.get('stdout', '').splitlines()
    lines = output + record.get('stderr', '').splitlines()
    chosen = set(range(max(0, len(output) - 12), len(output)))
    for number, line in enumerate(lines):
        if REASON.search(line):
            # What an exception says goes on over many lines: the ends of a guest's logs.
            behind = 60 if line.startswith('Traceback') else 7
            chosen |= set(range(max(0, number - 3), min(len(lines), number + behind)))
    return [lines[number] for number in sorted(chosen)][-80:]


def show_failure(build: Path, record: dict) -> None:
    print(f"\n--- {record['result']}: {record['name']} ({build.name}) after {record.get('duration', 0):.1f} s, "
          f"all of its output is in {build}/meson-logs/testlog.txt ---")
    print('\n'.join(reasons_of(record)), flush=True)


class Counts:
    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0
        self.names_failed: list[str] = []

    def add(self, build: Path, records: list[dict]) -> None:
        for record in records:
            if record['result'] in PASSED:
                self.passed += 1
            elif record['result'] in SKIPPED:
                self.skipped += 1
                print(f"check: skipped: {record['name']} ({build.name}): {last_line(record)}")
            else:
                self.failed += 1
                self.names_failed.append(f"{record['name']} ({build.name})")
                show_failure(build, record)


def last_line(record: dict) -> str:
    lines = (record.get('stdout', '') + record.get('stderr', '')).strip().splitlines()
    return lines[-1] if lines else 'no reason given'


def main_build(arguments, counts: Counts) -> None:
    build = arguments.build / 'main'
    step(f'building in {build}')
    configure(build, ['-Dwerror=true'])
    run_quietly('build', ['ninja', '-C', str(build)])
    step('running all tests' if not arguments.unit else 'running the suites that need no root')
    known = set().union(*(suites_of(test) for test in tests_of(build)))
    # Timeouts are there to end what hangs, not to time anything: generous, since machines and units run side by side.
    counts.add(build, run_tests(build, PURE_SUITES & known if arguments.unit else None, 3))


def sanitizer_build(arguments, counts: Counts) -> None:
    build = arguments.build / 'sanitizers'
    step(f'building with AddressSanitizer and UBSan in {build}')
    configure(build, ['-Dwerror=true', '-Db_sanitize=address,undefined', '-Db_lundef=false', '-Doptimization=1'])
    suites = PURE_SUITES - {'tidy'}
    tests = [test for test in tests_of(build) if suites_of(test) & suites]
    targets = ninja_targets(build, tests)
    if not targets:
        raise BuildFailed('the sanitizer build has no tests')
    run_quietly('build', ['ninja', '-C', str(build), *targets])
    step('running unit and simulation tests under the sanitizers')
    counts.add(build, run_tests(build, suites & set().union(*(suites_of(test) for test in tests)), 4))


def main() -> int:
    parser = argparse.ArgumentParser(prog='tools/check')
    parser.add_argument('--unit', action='store_true', help='only what needs no root')
    parser.add_argument('--build', type=Path, default=SOURCE / 'build-check', help='directory of both builds')
    arguments = parser.parse_args()
    arguments.build = arguments.build.resolve()
    counts = Counts()
    started = time.monotonic()
    for part in (main_build, sanitizer_build):
        try:
            part(arguments, counts)
        except (BuildFailed, subprocess.CalledProcessError) as error:
            print(f'check: {error}')
            counts.failed += 1
    in_ci = os.environ.get('CI') == 'true'
    if in_ci and counts.skipped:
        print(f'check: {counts.skipped} skipped: in CI a skip is a failure')
    for name in counts.names_failed:
        step(f'failed: {name}')
    step(f'took {time.monotonic() - started:.0f} s')
    print(f'{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped')
    return 1 if counts.failed or (in_ci and counts.skipped) else 0


if __name__ == '__main__':
    sys.exit(main())
