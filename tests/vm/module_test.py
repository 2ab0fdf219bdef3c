#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Capture by the kernel module, built against the headers of the guest's kernel, on LVM volumes.

`module_test.py NAME` runs one of SCENARIOS in a guest. The oracle is that of capture_test.py: replicas made of events
alone equal the volumes byte for byte, or differ in dirty granules only where something was lost.
"""
import re
import sys
import tempfile
from pathlib import Path

import lvm
from capture_test import FUNCTIONS
from kernel_module import built_module
from vm import Guest, GuestError, built, make_disk, terminate_cleanly

# Two volumes: `a` lies on both disks, so its table has two lines.
VOLUMES = r'''
insmod /understudy.ko
lvm pvcreate -q /dev/vda /dev/vdb
lvm vgcreate -q vg /dev/vda /dev/vdb
lvm lvcreate -q -y -Zn -n a -L 400M vg
lvm lvcreate -q -y -Zn -n b -L 320M vg
test "$(dmsetup table vg-a | wc -l)" = 2
a=$(readlink -f /dev/vg/a)
b=$(readlink -f /dev/vg/b)
mkdir -p /mnt/a /mnt/b
'''
# What must be true when no capture is there any more.
GONE = r'''
test -z "$(dmsetup table | grep understudy)"
rmmod understudy
'''

# The byte-identical oracle with discards, and with buffers that change while they are written.
ORACLE = VOLUMES + r'''
start_capture lower --module "$a" "$b"
dmsetup table
dmsetup status
test "$(dmsetup table vg-a | grep -c ' understudy lower ')" = 2
rmmod understudy && exit 1  # in use
mke2fs -q -t ext4 /dev/vg/a
mkfs.xfs -q -f /dev/vg/b
mount -t ext4 -o discard /dev/vg/a /mnt/a
mount -t xfs /dev/vg/b /mnt/b
load /mnt/a 20 & first=$!
load /mnt/b 20 & second=$!
until test -e /mnt/a/direct.0.0 && test -e /mnt/b/direct.0.0; do sleep 0.1; done
racing-writer /mnt/a/racing 300
racing-writer /mnt/b/racing 300
kill -USR1 "$lower_pid"
dmsetup message vg-a 0 mark
wait $first && wait $second
fstrim /mnt/a
fstrim /mnt/b
umount /mnt/a /mnt/b
wait_for lower 'prefix copied'
end_capture lower
check_ext4 "/tmp/lower/prefix-$(basename "$a")" 0
check_xfs "/tmp/lower/prefix-$(basename "$b")" 0
''' + GONE

# A ring far too small: whatever differs lies in dirty granules.
OVERFLOW = VOLUMES + r'''
start_capture lower --module --ring-bytes 1048576 --losses "$a" "$b"
mke2fs -q -t ext4 /dev/vg/a
mkfs.xfs -q -f /dev/vg/b
mount -t ext4 -o discard /dev/vg/a /mnt/a
mount -t xfs /dev/vg/b /mnt/b
load /mnt/a 20 & first=$!
load /mnt/b 20 & second=$!
wait $first && wait $second
umount /mnt/a /mnt/b
end_capture lower
''' + GONE

# The process that reads the ring is killed again and again while the load goes on; devices are suspended and resumed.
RESTART = VOLUMES + r'''
start_capture lower --module "$a" "$b"
mke2fs -q -t ext4 /dev/vg/a
mkfs.xfs -q -f /dev/vg/b
mount -t ext4 /dev/vg/a /mnt/a
mount -t xfs /dev/vg/b /mnt/b
load /mnt/a 20 & first=$!
load /mnt/b 20 & second=$!
for turn in $(seq 8); do
    sleep 0.5
    test $turn -gt 2 || kill -0 $first  # the load goes on
    kill -KILL "$lower_pid"
    wait "$lower_pid" || true
    dmsetup suspend vg-a
    sleep 0.1
    dmsetup resume vg-a
    start_capture lower --module --resume "$a" "$b"
done
wait $first && wait $second
umount /mnt/a /mnt/b
end_capture lower
''' + GONE

# Attached, detached, unloaded and loaded again under load, a hundred times.
CYCLES = VOLUMES + r'''
mke2fs -q -t ext4 /dev/vg/a
mkfs.xfs -q -f /dev/vg/b
mount -t ext4 -o discard /dev/vg/a /mnt/a
mount -t xfs /dev/vg/b /mnt/b
churn() {  # directory
    while test ! -e /tmp/enough; do
        fio --name=churn --directory="$1" --rw=randrw --bsrange=512-256k --size=16m --io_size=8m --rate=3m,3m \
            --ioengine=psync --randrepeat=0 --fdatasync=32 --verify=crc32c --minimal >/dev/null
        rm -f "$1"/churn*
    done
}
churn /mnt/a & first=$!
churn /mnt/b & second=$!
for turn in $(seq 100); do
    capture-replica --server cycle --ring-bytes 4194304 --cycle $((turn % 20 + 1)) "$a" "$b" >/tmp/cycle.log 2>&1 ||
        { cat /tmp/cycle.log; exit 1; }
    rmmod understudy
    insmod /understudy.ko
    test $((turn % 20)) -ne 0 || echo "cycle $turn"
done
cat /tmp/cycle.log
touch /tmp/enough
wait $first && wait $second
umount /mnt/a /mnt/b
e2fsck -fn /dev/vg/a
xfs_repair -n /dev/vg/b >/tmp/repair 2>&1 || { cat /tmp/repair; exit 1; }
echo "cycles: identical, done"
''' + GONE

# Somebody replaces the table, the device below answers with errors, capture is switched off by message: all of it is
# loss that is counted and dirty, and ends when it ends.
TROUBLE = VOLUMES + r'''
lvm lvcreate -q -y -Zn -n c -L 8M vg
dmsetup create below --table "0 16384 linear $(readlink -f /dev/vg/c) 0"
node() { echo "/dev/$(dmsetup info -c --noheadings -o blkdevname "$1")"; }
dmsetup create top --table "0 16384 linear $(node below) 0"
top=$(node top)
start_capture lower --module --losses "$a" "$b" "$top"
dd if=/dev/urandom of="$top" bs=64k count=16 oflag=direct 2>/dev/null
dmsetup load below --table "0 8192 linear $(readlink -f /dev/vg/c) 0
8192 8192 error"
dmsetup resume below
dd if=/dev/urandom of="$top" bs=64k count=100 oflag=direct 2>/dev/null && exit 1
dmsetup load below --table "0 16384 linear $(readlink -f /dev/vg/c) 0"
dmsetup resume below
mke2fs -q -t ext4 /dev/vg/a
mount -t ext4 /dev/vg/a /mnt/a
load /mnt/a 10
dmsetup message vg-b 0 degrade
dmsetup status vg-b | grep -q degraded
dd if=/dev/urandom of=/dev/vg/b bs=64k count=16 oflag=direct 2>/dev/null
dmsetup message vg-b 0 resume
dd if=/dev/urandom of=/dev/vg/b bs=64k count=16 seek=64 oflag=direct 2>/dev/null
dmsetup table vg-a | sed 's/ understudy lower [0-9]* / linear /' >/tmp/linear
dmsetup load vg-a </tmp/linear
dmsetup resume vg-a
dd if=/dev/urandom of=/mnt/a/unseen bs=64k count=16 conv=fsync 2>/dev/null
until dmsetup table vg-a | grep -q understudy; do sleep 0.1; done  # put back by who reads the ring
rm /mnt/a/unseen
umount /mnt/a
end_capture lower
grep -q 'identical.*lost=' /tmp/lower.log
test -z "$(dmsetup table | grep understudy)"
dmsetup remove top
dmsetup remove below
# No such server, slot, device.
size=$(blockdev --getsz /dev/vg/b)
for line in "nobody 0 /dev/vda 0" "lower 0" "lower 99 /dev/vda 0"; do
    echo "0 $size understudy $line" | dmsetup load vg-b 2>/dev/null && exit 1
done
''' + GONE

# A reader that stores nonsense into the pages it shares with the module, and calls that make no sense: who writes to
# the volume reads back what he wrote, although the device was written from the ring.
HOSTILE = VOLUMES + r'''
module-hostile ioctls 1 5000
mke2fs -q -t ext4 /dev/vg/a
mount -t ext4 /dev/vg/a /mnt/a
module-hostile scribble "$a" >/tmp/hostile.log 2>&1 & hostile=$!
until grep -q scribbling /tmp/hostile.log; do kill -0 $hostile || { cat /tmp/hostile.log; exit 1; }; sleep 0.1; done
fio --name=checked --directory=/mnt/a --rw=randwrite --bsrange=4k-256k --size=32m --io_size=96m --direct=1 \
    --ioengine=psync --numjobs=2 --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/dev/null
module-hostile ioctls 2 1500
kill -0 $hostile
kill -TERM $hostile
wait $hostile
umount /mnt/a
e2fsck -fn /dev/vg/a
echo "hostile: identical, done"
''' + GONE

SCENARIOS = {
    'oracle': dict(body=ORACLE),
    'overflow': dict(body=OVERFLOW, expect=r'lost=[1-9]'),
    'restart': dict(body=RESTART),
    'cycles': dict(body=CYCLES, expect='done'),
    'hostile': dict(body=HOSTILE, expect='done'),
    'trouble': dict(body=TROUBLE, expect=r'lost=[1-9]'),
}


def run(name: str, directory: Path) -> None:
    scenario = SCENARIOS[name]
    disks = [make_disk(directory / f'disk{index}', 384) for index in range(2)]
    options = lvm.guest_options()
    options['programs'] += [built('tests/vm/capture-replica'), built('tests/vm/racing-writer'),
                            built('tests/vm/module-hostile'), 'mke2fs', 'e2fsck',
                            'mkfs.xfs', 'xfs_repair', 'fio']
    options['files']['/understudy.ko'] = built_module()
    with Guest(f'module-{name}', body=FUNCTIONS + scenario['body'], disks=disks,
               modules=[*lvm.MODULES, 'ext4', 'xfs', 'loop'], memory_mib=2048, timeout_s=900, **options) as guest:
        status = guest.run()
        print(guest.output())
        if status != 0:
            raise guest.error(f'the body ended with status {status}')
        expected = scenario.get('expect', r'lost=0')
        if not re.search('identical.*' + expected, guest.output()):
            raise guest.error(f"nothing was compared, or not with '{expected}'")


def main() -> None:
    terminate_cleanly()
    if len(sys.argv) != 2 or sys.argv[1] not in SCENARIOS:
        sys.exit(f"usage: module_test.py {'|'.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(prefix='understudy-vm-module-') as directory:
        run(sys.argv[1], Path(directory))


if __name__ == '__main__':
    try:
        main()
    except GuestError as error:
        sys.exit(str(error))
