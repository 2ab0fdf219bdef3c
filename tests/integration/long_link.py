# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces with a long way between them: real TCP over two TUN devices, whose packets a process carries
from one to the other a while later. (Not tc's netem: not every kernel has it.)

As a program: long_link.py NAMESPACE_A NAMESPACE_B DELAY_SECONDS; carries until it is killed."""

import collections
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from pathlib import Path

ADDRESSES = ("10.66.0.1", "10.66.0.2")
MTU = 9000  # few packets for many bytes: the carrier is a script
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


class LongLink:
    """`near` and `far` are command prefixes that run a program at either end; ADDRESSES are theirs."""

    def __init__(self, case, delay_seconds):
        self.case = case
        self.names = [f"understudy-{os.getpid()}-{end}" for end in ("near", "far")]
        for name in self.names:
            case.run("ip", "netns", "add", name)
            case.defer(case.run, "ip", "netns", "del", name)
        self.carrier = case.spawn("long-link", sys.executable, __file__, *self.names, delay_seconds)
        for name, address in zip(self.names, ADDRESSES):
            case.wait_until("the link's device is there", lambda name=name: case.run(
                "ip", "-n", name, "link", "show", "long0", status=None).returncode == 0, alive=[self.carrier])
            case.run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "long0")
            case.run("ip", "-n", name, "link", "set", "lo", "up")
            case.run("ip", "-n", name, "link", "set", "long0", "mtu", MTU, "txqueuelen", 10000, "up")
        self.near, self.far = (["nsenter", f"--net=/run/netns/{name}"] for name in self.names)

    def run(self, prefix, *command, **options):
        return self.case.run(*prefix, *command, **options)


def open_tun(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    if libc.setns(there, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"enter namespace '{namespace}'")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"long0", IFF_TUN | IFF_NO_PI))
    libc.setns(home, CLONE_NEWNET)
    return tun


def carry(tuns, delay):
    """Packets of either side come out at the other one `delay` seconds later, in their order."""
    poll = select.poll()
    for tun in tuns:
        poll.register(tun, select.POLLIN)
    ways = [collections.deque(), collections.deque()]
    while True:
        now = time.monotonic()
        for way, target in zip(ways, reversed(tuns)):
            while way and way[0][0] <= now:
                try:
                    os.write(target, way.popleft()[1])
                except OSError:  # the other side is not up yet, or has no room: lost, as packets are
                    pass
        due = min((way[0][0] for way in ways if way), default=now + 0.1)
        for tun, _ in poll.poll(max(0, (due - now) * 1000)):
            way = ways[tuns.index(tun)]
            for _ in range(64):
                try:
                    way.append((time.monotonic() + delay, os.read(tun, 65536)))
                except BlockingIOError:
                    break


if __name__ == "__main__":
    carry([open_tun(sys.argv[1]), open_tun(sys.argv[2])], float(sys.argv[3]))
