#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples pass --check-config as they stand and with every commented setting switched on, and what they show as a
default is the default.

    check_examples.py UNDERSTUDYCTL AGENT RECEIVER ORCHESTRATOR
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
# A commented setting: "# key:", "#   key: value" or "  # - item"; prose has no colon right behind its first word.
SETTING = re.compile(r'^(\s*)# ((?:  )*(?:- )?(?:[a-z_]+:(?: .*)?|- .*))$')
# Settings with a commented value that is an example and not a default.
NOT_DEFAULT = {'base_path', 'limit', 'path', 'rate_limit', 'queue_bytes', 'at', 'name', 'pre', 'post', 'timeout',
               'region', 'clients', 'groups_directory', 'collapse_after'}
# Maps that are not there by default: what stands in them is an example.
OPTIONAL_MAPS = {'orchestrator', 'nodes'}


def run(*command: object, expected: int = 0) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != expected:
        sys.exit(f"'{' '.join(map(str, command))}' ended with {done.returncode}, not {expected}:\n{done.stdout}"
                 f'{done.stderr}')
    return done.stdout + done.stderr


def switched_on(text: str) -> str:
    return '\n'.join(SETTING.sub(r'\1\2', line) for line in text.splitlines()) + '\n'


def commented_defaults(text: str) -> dict[str, str]:
    found = {}
    optional = None  # the indentation of the optional map that the line is in
    for line in text.splitlines():
        match = SETTING.match(line)
        if match is None:
            continue
        indentation = len(match.group(2)) - len(match.group(2).lstrip())
        if optional is not None and indentation > optional:
            continue
        optional = indentation if match.group(2).strip().rstrip(':') in OPTIONAL_MAPS else None
        setting = re.match(r'\s*([a-z_]+): (\S.*)$', match.group(2))
        if setting and setting.group(1) not in NOT_DEFAULT:
            found[setting.group(1)] = setting.group(2)
    return found


def check(program: Path, directory: Path, example: str) -> None:
    text = (EXAMPLES / example).read_text(encoding='utf-8')
    path = directory / example
    path.write_text(text, encoding='utf-8')
    run(program, '--check-config', '--config', path)
    printed = run(program, '--print-config', '--config', path)
    defaults = commented_defaults(text)
    if not defaults:
        sys.exit(f'{example}: found no commented default')
    for key, value in defaults.items():
        if not re.search(rf'(?m)^\s*{key}: "?{re.escape(value)}"?  # default$', printed):
            sys.exit(f"{example}: shows '{key}: {value}' as a default, but --print-config says:\n{printed}")
    known = set(re.findall(r'(?m)^\s*(?:- )?([a-z_]+):', switched_on(text)))
    for key in re.findall(r'(?m)^\s*(?:- )?([a-z_]+):', printed):
        if key not in known:
            sys.exit(f"{example}: says nothing of '{key}'")
    path.write_text(switched_on(text), encoding='utf-8')
    run(program, '--check-config', '--config', path)
    path.write_text(text + 'no_such_key: 1\n', encoding='utf-8')
    said = run(program, '--check-config', '--config', path, expected=6)
    place = f'{path}:{len(text.splitlines()) + 1}:1: '
    if place not in said:
        sys.exit(f"{example}: a mistake at '{place}' was reported as:\n{said}")


def main() -> None:
    control, agent, receiver, orchestrator = map(Path, sys.argv[1:5])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        run(control, 'pki', 'init', directory / 'pki')
        for role, identity in (('agent', 'web-1'), ('receiver', 'dr-1')):
            run(control, 'pki', 'issue', directory / 'pki', '--role', role, '--name', identity, '--out', directory)
        check(agent, directory, 'agent.yaml')
        check(receiver, directory, 'receiver.yaml')
        # With the example groups beside it.
        (directory / 'orchestrator.yaml.d').mkdir()
        drop_in = f'groups_directory: {EXAMPLES}/groups.d\n'
        (directory / 'orchestrator.yaml.d/10-examples.yaml').write_text(drop_in, encoding='utf-8')
        check(orchestrator, directory, 'orchestrator.yaml')
        json.loads(run(orchestrator, '--print-schema'))
    print('examples checked')


if __name__ == '__main__':
    os.environ.pop('JOURNAL_STREAM', None)
    main()
