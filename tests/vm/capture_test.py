#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Capture on Debian's kernel, on disks a container cannot have: what was captured rebuilds every disk byte for byte.

`capture_test.py NAME` runs one of SCENARIOS in a guest. capture-replica is attached before the first write, so replicas
made of events alone must equal the disks at the end; a prefix taken in mid-load must hold file systems that a power cut
could have left: journals replay and the checkers are content.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import lvm
from vm import Guest, GuestError, built, make_disk, terminate_cleanly

FUNCTIONS = r'''
mkdir -p /tmp/lower /tmp/upper
start_capture() {  # name, then capture-replica's further arguments
    capture_name=$1
    shift
    : >"/tmp/$capture_name.log"
    capture-replica --server "$capture_name" --replicas "/tmp/$capture_name" "$@" >"/tmp/$capture_name.log" 2>&1 &
    eval "${capture_name}_pid=$!"
    wait_for "$capture_name" capturing
}
wait_for() {  # name, word
    until grep -q "$2" "/tmp/$1.log"; do
        eval "kill -0 \$${1}_pid" || { cat "/tmp/$1.log"; exit 1; }
        sleep 0.1
    done
}
end_capture() {  # name
    eval "kill -TERM \$${1}_pid; wait \$${1}_pid" || { cat "/tmp/$1.log"; exit 1; }
    cat "/tmp/$1.log"
}
# Files of all sizes, overwrites in place by direct and buffered I/O, synchronous appends, removals.
load() {  # directory, megabytes of random writes
    cp -r /usr/bin "$1"
    fio --name=direct --directory="$1" --rw=randwrite --bsrange=4k-4m --size=24m --io_size="$2m" --direct=1 \
        --ioengine=psync --randrepeat=0 --fsync=16 --minimal >/dev/null
    fio --name=buffered --directory="$1" --rw=randrw --bsrange=512-128k --size=16m --io_size="$2m" \
        --ioengine=psync --randrepeat=0 --fdatasync=32 --minimal >/dev/null
    for number in $(seq 60); do
        echo "line $number" | dd of="$1/appended" oflag=append conv=notrunc,fsync 2>/dev/null
    done
    rm -rf "$1/bin" "$1/direct.0.0"
    sync
    cp -r /usr/bin "$1/again"
}
check_ext4() {  # device or image, offset
    mkdir -p /tmp/check
    device=$(losetup -f)
    losetup -o "$2" "$device" "$1"
    mount -t ext4 "$device" /tmp/check  # replays the journal
    umount /tmp/check
    e2fsck -fn "$device"
    losetup -d "$device"
}
check_xfs() {
    mkdir -p /tmp/check
    device=$(losetup -f)
    losetup -o "$2" "$device" "$1"
    mount -t xfs -o nouuid "$device" /tmp/check
    umount /tmp/check
    xfs_repair -n "$device" >/tmp/repair 2>&1 || { cat /tmp/repair; exit 1; }
    losetup -d "$device"
}
'''

# Two disks in one ring: /dev/vda has an ext4 and an XFS partition, /dev/vdb is one ext4.
PARTITIONS = r'''
start_capture lower @VARIANT@ /dev/vda /dev/vdb
mke2fs -q -t ext4 /dev/vda1
mkfs.xfs -q -f /dev/vda2
mke2fs -q -t ext4 -E lazy_itable_init=0 /dev/vdb
mkdir -p /mnt/a /mnt/b /mnt/c
mount -t ext4 -o discard /dev/vda1 /mnt/a
mount -t xfs /dev/vda2 /mnt/b
mount -t ext4 /dev/vdb /mnt/c
load /mnt/a 40 & first=$!
load /mnt/b 40 & second=$!
until test -e /mnt/a/buffered.0.0 && test -e /mnt/b/buffered.0.0; do sleep 0.1; done
load /mnt/c 20 & third=$!
until test -e /mnt/c/direct.0.0; do sleep 0.1; done
kill -USR1 "$lower_pid"
wait $first && wait $second && wait $third
fstrim /mnt/b
fstrim /mnt/c
umount /mnt/a /mnt/b /mnt/c
wait_for lower 'prefix copied'
end_capture lower
'''
# Where nothing was lost, the prefix is a state that a power cut could have left.
CHECK_PREFIX = r'''
check_ext4 /tmp/lower/prefix-vda $(($(cat /sys/block/vda/vda1/start) * 512))
check_xfs /tmp/lower/prefix-vda $(($(cat /sys/block/vda/vda2/start) * 512))
check_ext4 /tmp/lower/prefix-vdb 0
'''

# Volumes over both disks: one linear across them (ext4), one striped (XFS). Capture below, on the disks, and at the
# same time above, on the volumes.
LVM = r'''
start_capture lower @VARIANT@ /dev/vda /dev/vdb
lvm pvcreate -q /dev/vda /dev/vdb
lvm vgcreate -q vg /dev/vda /dev/vdb
lvm lvcreate -q -y -Zn -n striped -i 2 -I 64k -L 320M vg
lvm lvcreate -q -y -Zn -n linear -L 280M vg
dmsetup table
test "$(dmsetup table vg-linear | wc -l)" = 2  # it lies on both disks
start_capture upper @VARIANT@ "$(readlink -f /dev/vg/linear)" "$(readlink -f /dev/vg/striped)"
mke2fs -q -t ext4 /dev/vg/linear
mkfs.xfs -q -f /dev/vg/striped
mkdir -p /mnt/a /mnt/b
mount -t ext4 -o discard /dev/vg/linear /mnt/a
mount -t xfs /dev/vg/striped /mnt/b
load /mnt/a 20 & first=$!
load /mnt/b 20 & second=$!
wait $first && wait $second
fstrim -v /mnt/a
fstrim -v /mnt/b
umount /mnt/a /mnt/b
end_capture upper
# Moving a volume's table and copying on write happen in the kernel, below any file system.
lvm lvcreate -q -y -s -n before -L 48M vg/linear
mount -t ext4 /dev/vg/linear /mnt/a
dd if=/dev/urandom of=/mnt/a/buffered.0.0 bs=1M count=12 conv=notrunc,fsync 2>/dev/null
umount /mnt/a
e2fsck -fn /dev/vg/before
lvm lvconvert -q -y --merge vg/before
e2fsck -fp /dev/vg/linear  # would end with 1 had it corrected anything
lvm lvextend -q -L +8M vg/linear
# resize2fs wants a full check after the last mount.
e2fsck -fy /dev/vg/linear
resize2fs /dev/vg/linear
lvm vgchange -q -an vg
end_capture lower
'''

PARTITIONED = dict(sizes=(704, 192), partitions='label: gpt\nsize=256M\nsize=+\n')
SCENARIOS = {
    'partitions': dict(body=PARTITIONS + CHECK_PREFIX, **PARTITIONED),
    'lvm': dict(body=LVM, sizes=(384, 384)),
    'overflow': dict(body=PARTITIONS, **PARTITIONED, variant='--ring-bytes 1048576 --losses',
                     expect=r'lost=[1-9]'),
    # Kernels before 5.17 have no bpf_loop() and lose a bio of very many pieces, most machines have no fifth level of
    # page tables.
    'bounded': dict(body=PARTITIONS, **PARTITIONED, variant='--without-bpf-loop --losses', cpu='max,la57=off',
                    expect=r'lost='),
}


def run(name: str, directory: Path) -> None:
    scenario = SCENARIOS[name]
    disks = [make_disk(directory / f'disk{index}', size) for index, size in enumerate(scenario['sizes'])]
    if 'partitions' in scenario:
        subprocess.run(['sfdisk', '--quiet', disks[0]], input=scenario['partitions'].encode(), check=True)
    options = lvm.guest_options()
    options['programs'] += [built('tests/vm/capture-replica'), 'mke2fs', 'e2fsck',
                            'resize2fs', 'mkfs.xfs', 'xfs_repair', 'fio']
    body = (FUNCTIONS + scenario['body']).replace('@VARIANT@', scenario.get('variant', ''))
    with Guest(f'capture-{name}', body=body, disks=disks, modules=[*lvm.MODULES, 'ext4', 'xfs', 'loop'],
               cpu=scenario.get('cpu', 'max'), memory_mib=3072, timeout_s=900, **options) as guest:
        status = guest.run()
        print(guest.output())
        if status != 0:
            raise guest.error(f'the body ended with status {status}')
        expected = scenario.get('expect', r'lost=0')
        if not re.search('identical.*' + expected, guest.output()):
            raise guest.error(f"no replica was compared, or not with '{expected}'")


def main() -> None:
    terminate_cleanly()
    if len(sys.argv) != 2 or sys.argv[1] not in SCENARIOS:
        sys.exit(f"usage: capture_test.py {'|'.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(prefix='understudy-vm-capture-') as directory:
        run(sys.argv[1], Path(directory))


if __name__ == '__main__':
    try:
        main()
    except GuestError as error:
        sys.exit(str(error))
