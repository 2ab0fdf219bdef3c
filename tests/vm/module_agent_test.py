#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent with capture by the kernel module: volumes of LVM, replicated to a receiver on the host.

The agent is killed and started again under load: the module kept capture, nothing was missed. The table of a volume is
replaced behind its back: a gap, a resync of that volume, and the target is back. In the end the volumes restored on the
host are byte-identical to those of the guest, and after the detach the module can be unloaded.
"""
import hashlib
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'integration'))

import harness
from end_to_end_test import SERVER, Site
from harness import check
from kernel_module import built_module

CONFIG = '''
server: {server}
disks: [/dev/vg/raw, /dev/vg/data]
receiver: {{address: 10.0.2.2, port: {port}, name: {receiver}}}
tls: {{authority: /etc/understudy/ca.crt, certificate: /etc/understudy/agent.crt, key: /etc/understudy/agent.key}}
capture: {{method: module, ring_bytes: 64MiB}}
copy: {{existing_data_only: false}}
state_directory: /tmp/understudy
control_socket: /run/agent.sock
'''

BODY = r'''
agent=understudy-agent
insmod /understudy.ko
lvm pvcreate -q /dev/vda /dev/vdb
lvm vgcreate -q vg /dev/vda /dev/vdb
lvm lvcreate -q -y -Zn -n raw -L 16M vg
lvm lvcreate -q -y -Zn -n data -L 112M vg
$agent --probe /dev/vg/raw /dev/vg/data | tee /tmp/probe
grep -q '^rung module: usable' /tmp/probe
$agent --probe /dev/vda >/tmp/probe
grep -q '^rung module: not usable.*no device-mapper device' /tmp/probe
mke2fs -q -t ext4 /dev/vg/data
mkdir -p /mnt/data
mount -t ext4 /dev/vg/data /mnt/data
start_agent() {
    $agent --config /etc/understudy/agent.yaml 2>&1 &
    pid=$!
}
status_is() {  # regular expression
    understudyctl --socket /run/agent.sock status --json 2>/dev/null | tr -d ' \n' >/tmp/status &&
        grep -qE "$1" /tmp/status
}
settled() {
    until status_is '"phase":"realtime"' && status_is '"backlog_bytes":0[,}]'; do
        kill -0 $pid
        sleep 0.2
    done
}
load() {  # name
    cp /usr/bin/dash /usr/bin/lvm "/mnt/data/"
    dd if=/dev/urandom of="/mnt/data/$1" bs=64k count=32 conv=fsync 2>/dev/null
    dd if=/dev/urandom of=/dev/vg/raw bs=4k count=64 seek=$2 oflag=direct 2>/dev/null
}
load before 0
start_agent
settled
test "$(dmsetup table | grep -c ' understudy ')" -ge 2
load running 100
kill -KILL $pid
wait $pid || true
load dead 200
start_agent
settled
status_is '"generation":1[,}]'
status_is '"rung":"module-dm"'
dmsetup table vg-raw | sed 's/ understudy [^ ]* [0-9]* / linear /' >/tmp/linear
dmsetup load vg-raw </tmp/linear
dmsetup resume vg-raw
load unseen 300
until dmsetup table vg-raw | grep -q understudy; do kill -0 $pid; sleep 0.2; done
load seen 400
umount /mnt/data
settled
echo "settled $(cat /tmp/status)"
sha256sum /dev/vg/raw /dev/vg/data
kill -TERM $pid
wait $pid
$agent --detach --config /etc/understudy/agent.yaml 2>&1
test -z "$(dmsetup table | grep understudy)"
rmmod understudy
'''


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_module(case):
    site = Site(case)
    site.receiver.start()
    config = CONFIG.format(server=SERVER, port=site.receiver.port, receiver=site.receiver.certificate_name)
    files = {'/etc/understudy/agent.yaml': config.encode(), '/understudy.ko': built_module(), **site.certificates}
    guest = site.guest('module', BODY, site.disks, files, network=True)
    status = guest.wait()
    check(status == 0, f'the guest ended with status {status}:\n{guest.output()[-6000:]}')
    check('taken up again: nothing was missed' in guest.output(), 'the restarted agent did not find its capture')
    wanted = re.findall(r'^([0-9a-f]{64})  /dev/vg/', guest.output(), re.MULTILINE)
    check(len(wanted) == 2, f'the guest named {len(wanted)} sums')
    newest = site.restore.timeline()['newest']['seq']
    found = [sha256_of(image) for image in site.images(f'seq:{newest}')]
    check(found == wanted, f'restored volumes differ from those of the guest: {found}, {wanted}')
    gaps = [gap['reason'] for gap in site.restore.timeline()['gaps']]
    check(gaps == ['initial-copy', 'overflow'], f'the gaps of the stream are {gaps}')
    case.say('captured by the module over a kill of the agent and a replaced table: volumes byte-identical')
    site.receiver.stop()


if __name__ == '__main__':
    harness.main(by_module)
