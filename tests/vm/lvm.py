# SPDX-License-Identifier: Apache-2.0
"""LVM for a guest: what to put into it, without udev or any daemon. Called in the body as `lvm pvcreate ...`."""
from pathlib import Path

from packages import unpacked

MODULES = ['dm_mod', 'dm_snapshot']
_CONFIGURATION = b'''devices { scan = [ "/dev" ] use_devicesfile = 0 issue_discards = 1 }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
global { use_lvmpolld = 0 event_activation = 0 locking_dir = "/run/lock" }
backup { backup = 0 archive = 0 }
'''


def guest_options() -> dict:
    """Arguments for Guest: programs, files and library_path. Add to them what else the test needs."""
    event_library = unpacked('libdevmapper-event1.02.1')
    return {'programs': [_existing(unpacked('lvm2'), 'sbin/lvm'), 'dmsetup'],
            'files': {'/etc/lvm/lvm.conf': _CONFIGURATION},
            'library_path': ':'.join(str(event_library / directory / 'x86_64-linux-gnu')
                                     for directory in ('lib', 'usr/lib'))}


def _existing(root: Path, path: str) -> Path:
    return next(candidate for candidate in (root / path, root / 'usr' / path) if candidate.exists())
