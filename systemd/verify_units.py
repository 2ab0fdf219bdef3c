#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs systemd-analyze verify on the units and checks what it does not: our hardening rules.

    verify_units.py INSTALLED=BUILT... UNIT...

Each INSTALLED=BUILT replaces the path of an installed program by where it was built, so that it is found already.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIRED = ['NoNewPrivileges=yes', 'ProtectSystem=strict', 'SystemCallArchitectures=native', 'Type=notify',
            'MemoryDenyWriteExecute=yes', 'RestrictNamespaces=yes', 'UMask=0077', 'RestartPreventExitStatus=2 4 5 6',
            'ExecReload=/bin/kill -HUP $MAINPID']
# Not at all: what would end the process that guards a freeze together with the agent.
FORBIDDEN = re.compile(r'^(KillMode=(mixed|process)|OOMPolicy=kill|SendSIGHUP=yes|ProtectHome=(yes|tmpfs))$')
# A setting of these kinds that widens what a service may do needs a comment right above it.
WIDENED = re.compile(r'^(Protect\w+=no|PrivateDevices=no|DeviceAllow=.*|ReadWritePaths=.*|CapabilityBoundingSet=.+|'
                     r'SystemCallFilter=.*[a-z]+_\w+.*|RestrictAddressFamilies=.*NETLINK.*)$')


def check_rules(name: str, text: str) -> list[str]:
    lines = text.splitlines()
    problems = [f'{name}: lacks {setting}' for setting in REQUIRED if setting not in lines]
    for number, line in enumerate(lines):
        if name == 'understudy-agent.service' and FORBIDDEN.match(line):
            problems.append(f'{name}:{number + 1}: {line}: frozen file systems would stay so, or could not be reached')
        above = number - 1
        # Lines of one block share the comment above it.
        while above >= 0 and lines[above] and not lines[above].startswith('#') and WIDENED.match(line):
            above -= 1
        if WIDENED.match(line) and (above < 0 or not lines[above].startswith('#')):
            problems.append(f'{name}:{number + 1}: {line}: widened without a comment that says why')
    return problems


# Exposure in tenths, as systemd-analyze security gives it; what a unit has reached it may not lose.
EXPOSURE_MAX = {'understudy-agent.service': 43, 'understudy-receiver.service': 18,
                'understudy-orchestrator.service': 18}


def check_exposure(name: str, path: Path) -> list[str]:
    done = subprocess.run(['systemd-analyze', 'security', '--offline=true', f'--threshold={EXPOSURE_MAX[name]}',
                           str(path)], capture_output=True, text=True)
    if done.returncode == 0:
        return []
    verdict = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()]
    return [f'{name}: more exposed than {EXPOSURE_MAX[name] / 10}: {verdict[0]}']


def main() -> int:
    replacements = [argument.split('=', 1) for argument in sys.argv[1:] if '=' in argument]
    units = [Path(argument) for argument in sys.argv[1:] if '=' not in argument]
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        for unit in units:
            text = unit.read_text(encoding='utf-8')
            problems += check_rules(unit.name, text)
            for installed, built in replacements:
                text = text.replace(installed, built)
            copy = Path(directory) / unit.name
            copy.write_text(text, encoding='utf-8')
            problems += check_exposure(unit.name, copy)
            verified = subprocess.run(['systemd-analyze', 'verify', '--man=no', str(copy)], capture_output=True,
                                      text=True)
            messages = [line for line in verified.stderr.splitlines() if unit.name in line]
            if verified.returncode != 0 or messages:
                problems += messages or [f'{unit.name}: systemd-analyze verify ended with {verified.returncode}: '
                                         f'{verified.stderr.strip()}']
    print('\n'.join(problems) if problems else f'{len(units)} units verified')
    return 1 if problems or not units else 0


if __name__ == '__main__':
    sys.exit(main())
