# SPDX-License-Identifier: Apache-2.0
"""Boots Debian's cloud kernel under qemu's software emulation and runs a shell script in it.

    with Guest('lvm', body=SCRIPT, disks=[path], programs=['lvm'], modules=['dm_mod']) as guest:
        guest.start()
        status = guest.wait()           # exit status of the body; raises GuestError when the guest went wrong

The body runs as root under `dash -eu` (busybox's shell would prefer its applets to our programs); what it misses in
/usr/bin comes from busybox. Its output comes through the second serial port (`guest.output()`), apart from the kernel's
messages on the first (`guest.kernel_log()`), so that neither can garble the other. Disks are /dev/vda, /dev/vdb ... in
the order given. A kernel warning, oops, lock-up or hung task is a failure whatever the body says. `guest.kill()` is the
power cut: qemu gets SIGKILL, nothing in the guest is told.
"""
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import initramfs
from packages import Kernel

# Messages of the kernel that mean it is not well. Only lines with the kernel's own time stamp are looked at.
KERNEL_TROUBLE = re.compile(
    r'^\[ *\d+\.\d+\] .*?(?:\bWARNING: |\bBUG: |\bOops\b|Kernel panic|general protection fault|blocked for more than'
    r'|soft lockup|hard LOCKUP|detected stalls|self-detected stall|refcount_t: |UBSAN: |KASAN: |kernel BUG at'
    r'|Internal error|corrupted |EXT4-fs error|XFS .*(?:[Cc]orruption|Internal error))', re.MULTILINE)

INIT_HEAD = '''#!/bin/busybox sh
export PATH=/usr/bin:/bin HOME=/root LC_ALL=C TERM=dumb
/bin/busybox mkdir -p /bin /usr/bin /sbin /proc /sys /dev /run /tmp /root /mnt /etc /var
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/mounts /etc/mtab
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo 'root:x:0:' >/etc/group
echo '127.0.0.1 localhost' >/etc/hosts
hostname guest
ip link set lo up
'''

INIT_TAIL = '''
exec 3>/dev/ttyS1
stty -opost </dev/ttyS1
dash -eu /body </dev/null >&3 2>&1 3>&-
status=$?
cd /
sync
printf '\\nguest-exit %s %s\\n' @TOKEN@ $status >&3
exec 3>&-  # the last close waits until the port has sent everything
poweroff -f
'''


class GuestError(Exception):
    """The guest did not do what it was started for: no boot, time-out, kernel trouble. The text has the logs' ends."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def terminate_cleanly() -> None:
    """Makes SIGTERM unwind the stack, so that a test stopped by its runner cleans up. Call from main()."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


class Guest:
    """One virtual machine. Owns a temporary directory (`directory`), removed on exit with everything in it."""

    def __init__(self, name: str, *, body: str, disks=(), programs=(), modules=(), files=None, library_path: str = '',
                 memory_mib: int = 1024, cpus: int = 2, cpu: str = 'max', network: bool = False,
                 persistent_memory: Path | None = None, timeout_s: float = 900) -> None:
        """`disks`: image files. `programs`: names or paths of host programs. `files`: guest path -> bytes, or a Path
        whose content and mode are taken.
        `network`: eth0 is 10.0.2.15, the host's loopback is 10.0.2.2; there is no route to anywhere else.
        `persistent_memory`: an image (a multiple of 2 MiB) the guest has as /dev/pmem0; what it stores there is in the
        file at once."""
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=f'understudy-vm-{name}-'))
        self.timeout_s = timeout_s
        self._body, self._disks, self._programs = body, [Path(disk) for disk in disks], list(programs)
        self._modules, self._files, self._library_path = list(modules), dict(files or {}), library_path
        self._memory_mib, self._cpus, self._cpu, self._network = memory_mib, cpus, cpu, network
        self._persistent_memory = persistent_memory
        self._token = secrets.token_hex(8)
        self._process: subprocess.Popen | None = None
        self._started = 0.0
        self.kernel = Kernel()

    def __enter__(self) -> 'Guest':
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        self._make_initramfs()
        with open(self.directory / 'qemu.log', 'wb') as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             preexec_fn=_die_with_parent)
        self._started = time.monotonic()

    def wait(self) -> int:
        """Waits for the power-off and returns the body's exit status."""
        while self._process.poll() is None:
            self._check_time('the end of the test body')
            time.sleep(0.1)
        self.check_kernel_log()
        found = re.findall(rf'^guest-exit {self._token} (\d+)$', self.output(), re.MULTILINE)
        if not found:
            raise self.error('the guest went off before its test body ended')
        return int(found[-1])

    def run(self) -> int:
        self.start()
        return self.wait()

    def wait_until(self, what: str, condition):
        """Polls while the guest runs until condition() is true, and returns its value."""
        while True:
            running = self._process.poll() is None
            value = condition()
            if value:
                return value
            if not running:
                raise self.error(f'the guest ended while waiting for {what}')
            self._check_time(what)
            time.sleep(0.1)

    def wait_for(self, pattern: str) -> re.Match:
        """Waits until the body's output has a line that matches (re.search, multi-line)."""
        return self.wait_until(f"'{pattern}'", lambda: re.search(pattern, self.output(), re.MULTILINE))

    def kill(self) -> None:
        """The power cut. Harmless when the guest is off already."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        return self._read('output.log')

    def kernel_log(self) -> str:
        return self._read('kernel.log')

    def check_kernel_log(self) -> None:
        log = self.kernel_log()
        found = KERNEL_TROUBLE.search(log)
        if found:
            line_end = log.find('\n', found.end())
            raise self.error(f"kernel trouble: {log[found.start():line_end].strip()}", kernel_context=found.start())

    def error(self, reason: str, kernel_context: int | None = None) -> GuestError:
        log = self.kernel_log()
        kernel = log[-3000:] if kernel_context is None else log[kernel_context:kernel_context + 6000]
        return GuestError(f"guest '{self.name}': {reason}\n--- kernel\n{kernel}\n--- output\n{self.output()[-6000:]}\n"
                          f"--- qemu\n{self._read('qemu.log')[-2000:]}")

    def _check_time(self, what: str) -> None:
        if time.monotonic() - self._started > self.timeout_s:
            error = self.error(f'timed out after {self.timeout_s:.0f} s waiting for {what}')
            self.kill()
            raise error

    def _read(self, name: str) -> str:
        try:
            return (self.directory / name).read_bytes().decode(errors='replace').replace('\r\n', '\n')
        except FileNotFoundError:
            return ''

    def _make_initramfs(self) -> None:
        archive = initramfs.Archive()
        archive.device('/dev/console', 5, 1)
        archive.device('/dev/null', 1, 3)
        archive.file('/bin/busybox', initramfs.find_program('busybox').read_bytes(), 0o755)
        for program in ['dash', *self._programs]:
            initramfs.add_program(archive, initramfs.find_program(str(program)), self._library_path)
        wanted = self._modules + (['virtio_net'] if self._network else [])
        wanted += ['virtio_pmem', 'nd_pmem'] if self._persistent_memory else []
        load = initramfs.add_modules(archive, self.kernel.modules, wanted)
        for path, content in self._files.items():
            if isinstance(content, bytes):
                archive.file(path, content)
            else:
                archive.file(path, content.read_bytes(), content.stat().st_mode & 0o777)
        archive.file('/body', self._body.encode())
        init = INIT_HEAD + ''.join(f'insmod {path} || poweroff -f\n' for path in load)
        if self._network:
            init += 'ip link set eth0 up\nip addr add 10.0.2.15/24 dev eth0\n'
        archive.file('/init', (init + INIT_TAIL.replace('@TOKEN@', self._token)).encode(), 0o755)
        archive.write(self.directory / 'initramfs.gz')

    def _command(self) -> list[str]:
        command = ['qemu-system-x86_64', '-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', self._cpu,
                   '-smp', str(self._cpus), '-m', f'{self._memory_mib}M,maxmem={2 * self._memory_mib}M,slots=2',
                   '-nodefaults', '-display', 'none', '-no-reboot',
                   '-kernel', str(self.kernel.image), '-initrd', str(self.directory / 'initramfs.gz'),
                   '-append', 'console=ttyS0,115200 panic=-1 printk.time=1 quiet loglevel=6 mitigations=off '
                              'tsc=reliable watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 '
                              'random.trust_cpu=on',
                   '-serial', f"file:{self.directory / 'kernel.log'}",
                   '-serial', f"file:{self.directory / 'output.log'}",
                   '-object', 'rng-random,id=rng,filename=/dev/urandom']
        for index, disk in enumerate(self._disks):
            command += ['-drive', f'file={disk},if=none,id=disk{index},format=raw,cache=writeback,discard=unmap,'
                                  'aio=threads',
                        '-device',
                        f'virtio-blk-pci,drive=disk{index},serial=disk{index},bus=pcie.0,addr={index + 3:#x}']
        if self._persistent_memory:
            size = self._persistent_memory.stat().st_size
            command += ['-object',
                        f'memory-backend-file,id=pmem,share=on,mem-path={self._persistent_memory},size={size}',
                        '-device', 'virtio-pmem-pci,memdev=pmem,id=nv,bus=pcie.0,addr=0x1e']
        if self._network:
            command += ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,bus=pcie.0,addr=0x2,romfile=']
        return command


def built(relative: str) -> Path:
    """A program of the build that UNDERSTUDY_BUILD (set by meson) names."""
    build = os.environ.get('UNDERSTUDY_BUILD')
    if not build or not (Path(build) / relative).exists():
        raise GuestError(f"'{relative}' is not built, or UNDERSTUDY_BUILD does not name the build directory: '{build}'")
    return Path(build) / relative


def make_disk(path: Path, size_mib: int) -> Path:
    """A sparse image of zeros."""
    with open(path, 'xb') as image:
        os.truncate(image.fileno(), size_mib << 20)
    return path
