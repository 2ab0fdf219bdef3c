# SPDX-License-Identifier: Apache-2.0
"""Builds understudy.ko for the guest's kernel, against its own headers, once a build directory."""
import fcntl
import os
import subprocess
from pathlib import Path

from packages import Kernel, kernel_headers
from vm import GuestError

SOURCE = Path(__file__).resolve().parents[2] / 'kmod-shim/module'


def built_module() -> Path:
    """The module's file. Raises GuestError with the compiler's output when it does not build without a word."""
    build = os.environ.get('UNDERSTUDY_BUILD')
    if not build:
        raise GuestError('UNDERSTUDY_BUILD does not name the build directory')
    release = Kernel().release
    target = Path(build) / 'tests/vm' / f'module-{release}'
    target.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix('.lock'), 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run([SOURCE / 'build.sh', kernel_headers(release), target], capture_output=True, text=True)
    words = made.stdout + made.stderr
    if made.returncode != 0 or words:
        raise GuestError(f'the kernel module does not build, or not without warnings:\n{words}')
    return target / 'understudy.ko'
