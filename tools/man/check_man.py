#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each program's page has the sections an operator looks for and exactly the options that --help lists.

    check_man.py PROGRAM...
"""
import re
import subprocess
import sys
from pathlib import Path

PAGES = Path(__file__).resolve().parent
SECTIONS = ['NAME', 'SYNOPSIS', 'EXIT STATUS', 'FILES', 'EXAMPLES', 'SEE ALSO']
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z-]*')


def problems_of(program: Path) -> list[str]:
    pages = [path for path in PAGES.glob(program.name + '.[18]')]
    if len(pages) != 1:
        return [f'{program.name}: {len(pages)} pages']
    text = pages[0].read_text(encoding='utf-8')
    sections = SECTIONS + (['SIGNALS'] if pages[0].suffix == '.8' else [])
    found = [f'{pages[0].name}: no section {name}' for name in sections if f'.SH {name}\n' not in text]
    documented = set(OPTION.findall(text.replace('\\-', '-')))
    shown = subprocess.run([program, '--help'], capture_output=True, text=True, check=True).stdout
    offered = set(OPTION.findall(shown)) | {'--help'}
    # Options of another program that an example calls.
    documented -= {'--point', '--socket'} - offered
    found += [f'{pages[0].name}: says nothing of {name}' for name in sorted(offered - documented)]
    found += [f'{pages[0].name}: {name} is no option' for name in sorted(documented - offered)]
    return found


def main() -> int:
    problems = [problem for argument in sys.argv[1:] for problem in problems_of(Path(argument))]
    print('\n'.join(problems) or f'{len(sys.argv) - 1} pages checked')
    return 1 if problems or len(sys.argv) < 2 else 0


if __name__ == '__main__':
    sys.exit(main())
