#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pull the plug: a guest with LVM over two disks is protected live, loses its power, and comes back elsewhere.

1. The source: LVM over two whole disks, ext4 on one volume, stamped writes in a file and on a raw volume. The agent
   protects both disks while the load runs, to a receiver on the host. In real time, qemu is killed.
2. Every write that the agent's last words called safe must be there: another guest starts from the restored disks,
   activates the volumes, replays the journal, checks the file system, and the oracle judges the stamps.
3. The source comes back on its own disks. Nothing is known about what it wrote last: a new generation, a gap, a resync,
   and then the replica must equal its disks byte for byte (which only a copy of everything can give; the first copy
   leaves out the free space of the volumes).
"""
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'integration'))

import harness
import lvm
import oracle
from daemons import AGENT, CONTROL, Authority, Receiver, Restore
from harness import check
from vm import Guest, built, make_disk

SERVER = 'guest-1'
DISK_MIB = 96
STATUS_LINES = 12  # in real time and under load, before the plug is pulled
STAMPED_FILE, STAMPED_VOLUME = 1, 2

AGENT_CONFIG = '''
server: {server}
disks: [/dev/vda, /dev/vdb]
receiver: {{address: 10.0.2.2, port: {port}, name: {receiver}}}
tls: {{authority: /etc/understudy/ca.crt, certificate: /etc/understudy/agent.crt, key: /etc/understudy/agent.key}}
capture: {{ring_bytes: 64MiB}}
copy: {{existing_data_only: {existing_data_only}}}
wire: {{compression: lz4}}
state_directory: /mnt/data/understudy
control_socket: /run/agent.sock
log_level: info
'''

# The stamp log lies in persistent memory with DAX: its pages are the image file's own, whatever happens to qemu. Its
# blocks are allocated before the load begins (the log is copied onto itself while the writer stands still), so that
# nothing about it is left in the guest's page cache.
SOURCE = r'''
lvm pvcreate -q /dev/vda /dev/vdb
lvm vgcreate -q vg /dev/vda /dev/vdb
lvm lvcreate -q -y -n raw -i 2 -L 16M vg
lvm lvcreate -q -y -n data -L 112M vg
test "$(dmsetup table vg-data | wc -l)" = 2  # it lies on both disks
mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/vg/data
mkdir -p /mnt/data /mnt/log
mount -t ext4 /dev/vg/data /mnt/data
mkdir /mnt/data/before
cp /usr/bin/lvm /usr/bin/stamp-* /mnt/data/before
dd if=/dev/zero of=/mnt/data/stamped bs=1M count=16 conv=fsync 2>/dev/null
dd if=/dev/zero of=/dev/vg/raw bs=1M count=16 conv=fsync 2>/dev/null
sync
mke2fs -q -t ext4 -b 4096 /dev/pmem0
mount -t ext4 -o dax=always /dev/pmem0 /mnt/log
stamp-writer --log /mnt/log/stamps --log-slots 200000 --target 1=/mnt/data/stamped --target 2=/dev/vg/raw \
    --threads 2 --max-bytes 65536 --rate 400000 --durable 5 --flush-every 25 >/tmp/writer.log 2>&1 &
writer=$!
until test "$(stat -c %s /mnt/log/stamps 2>/dev/null || echo 0)" -gt 4096; do sleep 0.05; done
kill -STOP $writer
dd if=/mnt/log/stamps of=/mnt/log/stamps bs=1M conv=notrunc,fsync 2>/dev/null
sync
kill -CONT $writer
understudy-agent --config /etc/understudy/agent.yaml 2>&1 &
agent=$!
number=0
while kill -0 $agent && kill -0 $writer; do
    now=$(date +%s%N)
    if understudyctl --socket /run/agent.sock status --json >/tmp/status 2>/tmp/status.err; then
        echo "status $now $(tr -d '\n' </tmp/status)"
    fi
    number=$((number + 1))
    echo "line $number" >>/mnt/data/lines
    cp /usr/bin/dash "/mnt/data/copy-$((number % 4))"
    sleep 0.3
done
cat /tmp/writer.log
exit 1
'''

# What a recovering host does with its disks.
RECOVERED = r'''
lvm vgck vg
lvm vgchange -q -ay vg
mkdir -p /mnt/data
mount -t ext4 /dev/vg/data /mnt/data  # replays the journal
for program in /mnt/data/before/*; do
    cmp "$program" "/usr/bin/${program##*/}"
done
test -s /mnt/data/before/lvm
umount /mnt/data
e2fsck -fn /dev/vg/data
mount -t ext4 -o ro /dev/vg/data /mnt/data
stamp-verify --log /stamps --image 1=/mnt/data/stamped --image 2=/dev/vg/raw @REQUIREMENTS@
umount /mnt/data
lvm vgchange -q -an vg
'''

RETURNED = r'''
lvm vgchange -q -ay vg
mkdir -p /mnt/data
mount -t ext4 /dev/vg/data /mnt/data
understudy-agent --config /etc/understudy/agent.yaml 2>&1 &
agent=$!
status_is() {  # regular expression
    understudyctl --socket /run/agent.sock status --json 2>/dev/null | tr -d ' \n' >/tmp/status &&
        grep -qE "$1" /tmp/status
}
echo returned >>/mnt/data/lines
rm -rf /mnt/data/before
until status_is '"phase":"realtime"'; do kill -0 $agent; sleep 0.2; done
cp /usr/bin/dash /mnt/data/after
sync
fsfreeze --freeze /mnt/data
until status_is '"phase":"realtime"' && status_is '"backlog_bytes":0[,}]'; do sleep 0.2; done
echo "settled $(cat /tmp/status)"
sleep 1000
'''


class Site:
    """The recovery side on the host, and what the guests are made of."""

    def __init__(self, case):
        self.case = case
        memory = case.tmpfs('mem')
        self.disks = [make_disk(memory / name, DISK_MIB) for name in ('vda', 'vdb')]
        self.log_image = make_disk(memory / 'log', 64)
        authority = Authority(case)
        self.receiver = Receiver(case, authority, SERVER)
        self.restore = Restore(case, self.receiver.store)
        tls = authority.tls('agent', SERVER)
        self.certificates = {'/etc/understudy/ca.crt': tls['authority'],
                             '/etc/understudy/agent.crt': tls['certificate'],
                             '/etc/understudy/agent.key': tls['key']}

    def agent_files(self, existing_data_only):
        config = AGENT_CONFIG.format(server=SERVER, port=self.receiver.port, receiver=self.receiver.certificate_name,
                                     existing_data_only='true' if existing_data_only else 'false')
        return {'/etc/understudy/agent.yaml': config.encode(), **self.certificates}

    def guest(self, name, body, disks, files=None, **options):
        base = lvm.guest_options()
        base['files'].update(files or {})
        base['programs'] += [built(AGENT), built(CONTROL), built('tests/integration/oracle/stamp-writer'),
                             built('tests/integration/oracle/stamp-verify'), 'mke2fs', 'e2fsck', 'date']
        guest = Guest(name, body=body, disks=disks, modules=[*lvm.MODULES, 'ext4'], memory_mib=1536, timeout_s=600,
                      **base, **options)
        self.case.defer(guest.__exit__, None, None, None)
        guest.start()
        return guest

    def images(self, point):
        return [self.restore.image(point, f'restored-{slot}', slot) for slot in range(len(self.disks))]


def status_lines(guest):
    """(wall ns of the guest before it asked, status) of every whole line."""
    return [(int(when), json.loads(text))
            for when, text in re.findall(r'^status (\d+) (\{.*\})$', guest.output(), re.MULTILINE)]


def in_realtime(guest):
    return [(when, status) for when, status in status_lines(guest) if status['phase'] == 'realtime']


def pull_the_plug(case, site):
    """Returns the wall time (of the guest) up to which the agent had called everything safe."""
    guest = site.guest('source', SOURCE, site.disks, site.agent_files(True), network=True,
                       persistent_memory=site.log_image)
    case.say('the source boots')
    guest.wait_until('real time', lambda: in_realtime(guest))
    case.say('in real time after a full copy under load')
    first = len(in_realtime(guest))
    guest.wait_until(f'{STATUS_LINES} more statuses', lambda: len(in_realtime(guest)) >= first + STATUS_LINES)
    guest.kill()
    guest.check_kernel_log()
    safe = [(when - status['rpo_now_ns'], status) for when, status in in_realtime(guest)
            if status['rpo_now_ns'] is not None]
    check(safe, 'no status in real time named an RPO')
    when, status = max(safe, key=lambda item: item[0])
    check(status['losses']['total'] == 0, f"the capture lost writes: {status['losses']}")
    check(status['copy_left_out_bytes'] > 40 << 20,
          f"the linear volume's free space was not left out: {status['copy_left_out_bytes']}, {status['findings']}")
    case.say(f"power cut; the agent said: rpo {status['rpo_now_ns'] / 1e6:.0f} ms, acknowledged seq "
             f"{status['acknowledged_seq']}, p99 {(status['rpo_p99_ns'] or 0) / 1e6:.0f} ms")
    return when


def read_log(case, site):
    """The stamp log as it was in the persistent memory when the power went."""
    case.run('e2fsck', '-fy', site.log_image, status=None)  # replays the journal of the log's own file system
    log = case.directory / 'stamps'
    case.run('debugfs', '-R', f'dump /stamps {log}', site.log_image)
    return log


def recover_elsewhere(case, site, point, log, requirement):
    """Boots a guest from the disks restored at a point, and says what the oracle measured."""
    images = site.images(point)
    body = RECOVERED.replace('@REQUIREMENTS@', f'{requirement} --kill {oracle.newest_completion(log)}')
    guest = site.guest('recovered', body, images, {'/stamps': log})
    status = guest.wait()
    check(status == 0, f"the host recovered at '{point}' is not sound:\n{guest.output()[-4000:]}")
    figures = json.loads(re.findall(r'^\{.*bytes_verified.*\}$', guest.output(), re.MULTILINE)[-1])
    check(figures['sectors_stamped'] > 0, f"the disks recovered at '{point}' hold no stamps: {figures}")
    for image in images:
        image.unlink()
    case.say(f"recovered elsewhere at '{point}': file system clean, {figures['bytes_verified']} bytes judged by the "
             f"oracle, rpo {figures['rpo_ms']:.0f} ms, of flushed writes {figures['rpo_flushed_ms']:.0f} ms")


def come_back(case, site):
    """The source boots from its own disks as the power cut left them; its replica must become equal again."""
    guest = site.guest('returned', RETURNED, site.disks, site.agent_files(False), network=True)
    settled = json.loads(guest.wait_for(r'^settled (\{.*\})$').group(1))
    guest.kill()
    guest.check_kernel_log()
    check(settled['generation'] == 2, f"a reboot did not start a new generation: {settled['generation']}")
    for disk, image in zip(site.disks, site.images('latest')):
        case.run('cmp', disk, image)
        image.unlink()
    gaps = [gap['reason'] for gap in site.restore.timeline()['gaps']]
    check(gaps == ['initial-copy', 'new-capture'], f'the gaps of the stream are {gaps}')
    case.say('back on its own disks: a gap, a resync, and the replica is byte-identical')


def power_cut(case):
    site = Site(case)
    site.receiver.start()
    safe_until = pull_the_plug(case, site)
    log = read_log(case, site)
    site.restore.verify()
    # `latest` goes back to a barrier: what a flush covered is there. The newest record is exact: all is there.
    recover_elsewhere(case, site, 'latest', log, f'--flushed-before {safe_until}')
    newest = site.restore.timeline()['newest']['seq']
    recover_elsewhere(case, site, f'seq:{newest}', log, f'--completed-before {safe_until}')
    come_back(case, site)
    site.receiver.stop()


if __name__ == '__main__':
    harness.main(power_cut)
