#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The harness itself: the guest boots, has BTF, bpffs and tracefs, sees its disks, hands an exit status back."""
import sys
import tempfile
from pathlib import Path

from vm import Guest, GuestError, make_disk, terminate_cleanly

BODY = '''
uname -r
test -s /sys/kernel/btf/vmlinux
grep -q "^bpf /sys/fs/bpf bpf " /proc/mounts
test -e /sys/kernel/tracing/events/block/block_bio_queue
test "$(cat /sys/block/vda/size)" = 131072
test "$(cat /sys/block/vdb/size)" = 65536
mke2fs -t ext4 -q /dev/vda
mount -t ext4 /dev/vda /mnt
echo understudy >/mnt/file
umount /mnt
dd if=/dev/vda of=/dev/vdb bs=512 count=8 conv=fsync 2>/dev/null
ping -c 1 -W 5 10.0.2.2 >/dev/null
exit 42
'''


def boots(directory: Path) -> None:
    first = make_disk(directory / 'first', 64)
    second = make_disk(directory / 'second', 32)
    with Guest('boot', body=BODY, disks=[first, second], programs=['mke2fs'], modules=['ext4', 'xfs', 'loop'],
               network=True, timeout_s=600) as guest:
        status = guest.run()
        print(guest.output())
        if status != 42:
            raise guest.error(f'the body ended with status {status}, not 42')
        if guest.kernel.release not in guest.output():
            raise guest.error(f'the guest does not run {guest.kernel.release}')
    image = first.read_bytes()
    if image[:4096] != second.read_bytes()[:4096] or b'understudy' not in image:
        raise GuestError('the disks do not hold what the guest wrote')


def tells_trouble() -> None:
    """A kernel that falls over is an error of its own, and so is one that only warns while the body is content."""
    for body, expected in (('echo c >/proc/sysrq-trigger', 'kernel trouble'),
                           ("echo '<4>WARNING: made by the test' >/dev/kmsg", 'kernel trouble'),
                           ('sleep 100', 'timed out'), ('poweroff -f', 'before its test body ended')):
        with Guest('trouble', body=body, timeout_s=30 if expected == 'timed out' else 600) as guest:
            try:
                status = guest.run()
            except GuestError as error:
                if expected not in str(error).splitlines()[0]:
                    raise
                continue
            raise guest.error(f"'{body}' ended with status {status} and no error")


def cuts_power(directory: Path) -> None:
    """After kill() the disk holds what was synced before, and the machine's files are gone."""
    disk = make_disk(directory / 'cut', 8)
    body = 'echo before-the-cut | dd of=/dev/vda conv=fsync 2>/dev/null\necho written\nsleep 1000\n'
    with Guest('cut', body=body, disks=[disk], timeout_s=600) as guest:
        guest.start()
        guest.wait_for('^written$')
        guest.kill()
        leftover = guest.directory
    if not disk.read_bytes().startswith(b'before-the-cut') or leftover.exists():
        raise GuestError(f"the power cut lost what was written, or left '{leftover}' behind")


def main() -> None:
    terminate_cleanly()
    with tempfile.TemporaryDirectory(prefix='understudy-vm-boot-') as directory:
        boots(Path(directory))
        cuts_power(Path(directory))
    tells_trouble()


if __name__ == '__main__':
    try:
        main()
    except GuestError as error:
        sys.exit(str(error))
