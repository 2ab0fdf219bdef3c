# SPDX-License-Identifier: Apache-2.0
"""Disks with known content, changes of whole granules, and what an agent says of digest scans."""

import json
import os
import random
import socket

from daemons import KIB, MIB
from harness import check

GRANULE = 64 * KIB


def fill(path, size_bytes, share=0.5):
    """The first `share` of a disk with bytes that do not compress; the rest stays zeros."""
    with open(path, "r+b") as disk:
        for _ in range(int(size_bytes * share) // MIB):
            disk.write(os.urandom(MIB))
        disk.flush()
        os.fsync(disk.fileno())


def change(path, granules):
    """Rewrites these granules with new bytes: through the device, or its image (behind the capture's back)."""
    with open(path, "r+b") as disk:
        for granule in granules:
            disk.seek(granule * GRANULE)
            disk.write(os.urandom(GRANULE))
        disk.flush()
        os.fsync(disk.fileno())


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
        file.flush()
        os.fsync(file.fileno())


def pick(count, size_bytes, seed):
    return sorted(random.Random(seed).sample(range(size_bytes // GRANULE), count))


def ask(agent, **request):
    """One exchange on the control socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(agent.socket))
        connection.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def begin_repair(agent):
    answer = ask(agent, command="digest-scan", purpose="repair")
    check(answer["ok"], f"repair was refused: {answer}")


def wait_repaired(case, agent, timeout=120, interval=0.02):
    """The scan has ended and what differed is copied; returns the agent's figures."""
    def ended():
        status = agent.try_status()
        digest = status and status["digest"]
        return status if digest and digest["purpose"] == "repair" and not digest["active"] \
            and status["phase"] == "realtime" and not status["gap_open"] else None
    return case.wait_until("the repair has ended", ended, timeout=timeout, interval=interval, alive=[agent.process])
