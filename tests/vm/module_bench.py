#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What capture by the module costs: a volume with capture against the same volume as dm-linear, in one guest.

    UNDERSTUDY_BUILD=build tests/vm/module_bench.py [SECONDS]

Emulation makes absolute figures meaningless; the ratios of neighbouring runs are printed, and their median.
"""
import re
import statistics
import sys
import tempfile
from pathlib import Path

import lvm
from kernel_module import built_module
from vm import Guest, GuestError, built, make_disk, terminate_cleanly

PAIRS = 5
LOADS = {'4 KiB random': '--rw=randwrite --bs=4k --numjobs=4', '256 KiB sequential': '--rw=write --bs=256k --numjobs=1'}

BODY = r'''
insmod /understudy.ko
lvm pvcreate -q /dev/vda
lvm vgcreate -q vg /dev/vda
lvm lvcreate -q -y -Zn -n a -L 400M vg
a=$(readlink -f /dev/vg/a)
run() {  # label, fio's arguments
    label=$1
    shift
    fio --name=bench --filename="$a" --direct=1 --ioengine=psync --time_based --runtime=@SECONDS@ --group_reporting \
        --randrepeat=0 --minimal "$@" | sed "s/^/figures $label /"
}
pair() {
    run linear "$@"
    capture-replica --server bench --cycle 10000000 "$a" >/tmp/cycle.log 2>&1 & reader=$!
    until dmsetup table vg-a | grep -q understudy; do kill -0 $reader; sleep 0.1; done
    run captured "$@"
    dmsetup status vg-a
    kill -TERM $reader
    wait $reader
}
dd if=/dev/zero of="$a" bs=1M oflag=direct 2>/dev/null || true
@PAIRS@
'''


def bench(seconds: int, directory: Path) -> None:
    pairs = '\n'.join(f'echo "load {name}"\n' + f'pair {arguments}\n' * PAIRS for name, arguments in LOADS.items())
    options = lvm.guest_options()
    options['programs'] += [built('tests/vm/capture-replica'), 'fio']
    options['files']['/understudy.ko'] = built_module()
    body = BODY.replace('@SECONDS@', str(seconds)).replace('@PAIRS@', pairs)
    with Guest('module-bench', body=body, disks=[make_disk(directory / 'disk', 512)], modules=lvm.MODULES,
               memory_mib=2048, timeout_s=900, **options) as guest:
        if guest.run() != 0:
            raise guest.error('the body failed')
        report(guest.output())


def report(output: str) -> None:
    for section in output.split('load ')[1:]:
        # fio's terse format: the 48th field is the bandwidth of writes in KiB/s.
        rates = {label: [int(line.split(';')[47]) for line in re.findall(rf'^figures {label} (.*)$', section,
                                                                         re.MULTILINE)]
                 for label in ('linear', 'captured')}
        lost = sum(int(count) for count in re.findall(r' lost (\d+) ', section))
        ratios = [captured / linear for linear, captured in zip(rates['linear'], rates['captured'])]
        print(f"{section.splitlines()[0]}: linear {rates['linear']} KiB/s, captured {rates['captured']} KiB/s, ratios "
              f"{[round(ratio, 2) for ratio in ratios]}, median {statistics.median(ratios):.2f}; writes lost: {lost}")


def main() -> None:
    terminate_cleanly()
    with tempfile.TemporaryDirectory(prefix='understudy-vm-module-bench-') as directory:
        bench(int(sys.argv[1]) if len(sys.argv) > 1 else 4, Path(directory))


if __name__ == '__main__':
    try:
        main()
    except GuestError as error:
        sys.exit(str(error))
