# SPDX-License-Identifier: Apache-2.0
"""The stamp writer and verifier (oracle/), as tests use them."""

import json
import struct
from pathlib import Path

from harness import Failure, check, program, tail

WRITER = "tests/integration/oracle/stamp-writer"
VERIFIER = "tests/integration/oracle/stamp-verify"
_HEADER_BYTES = 4096
_SLOT = struct.Struct("<QIHBBQIiQQQQ")  # struct LogSlot of oracle/stamp_log.h


class StampRun:
    """A running stamp writer. targets: {id: "path[,offset=..][,length=..]"}; options as the program's long options."""

    _count = 0

    def __init__(self, case, targets, **options):
        StampRun._count += 1
        self.case = case
        self.log = case.directory / f"stamps-{StampRun._count}.bin"
        command = [program(WRITER), "--log", self.log]
        for identity, path in targets.items():
            command += ["--target", f"{identity}={path}"]
        for name, value in options.items():
            option = "--" + name.replace("_", "-")
            command += [option] if value is True else [option, value]
        self.process = case.spawn(f"stamp-writer-{StampRun._count}", *command)
        self.wait_for(1)

    def operations(self):
        """How many were submitted so far: slots fill from the start, so the end is found by halving."""
        if not self.log.exists() or self.log.stat().st_size <= _HEADER_BYTES:
            return 0
        with open(self.log, "rb") as file:
            low, high = 0, (self.log.stat().st_size - _HEADER_BYTES) // _SLOT.size
            while low < high:
                middle = (low + high) // 2
                file.seek(_HEADER_BYTES + middle * _SLOT.size)
                filled = _SLOT.unpack(file.read(_SLOT.size))[1] != 0
                low, high = (middle + 1, high) if filled else (low, middle)
            return low

    def wait_for(self, count, timeout=60):
        """Until `count` more operations than now were submitted."""
        goal = self.operations() + count
        self.case.wait_until(f"{count} more stamped writes are submitted", lambda: self.operations() >= goal,
                             timeout=timeout, alive=[self.process])

    def stop(self, status=0):
        """Ends the load (with a last flush); `status` 3 = a target is expected to have failed."""
        ended = self.process.stop()
        check(ended == status, f"stamp-writer ended with {ended}, expected {status}:\n{tail(self.process.log_path)}")


def verify(case, run, images, **requirements):
    """Proves that the images ({id: "path" or "path@offset"}) are a prefix of the run (or list of runs).

    requirements: completed_before, flushed_before, not_after, kill, in wall ns or "all". Returns the figures.
    """
    runs = run if isinstance(run, list) else [run]
    command = [program(VERIFIER)]
    for one in runs:
        command += ["--log", one.log]
    for identity, path in images.items():
        command += ["--image", f"{identity}={path}"]
    for name, value in requirements.items():
        command += ["--" + name.replace("_", "-"), value]
    done = case.run(*command, status=None)
    if done.returncode != 0:
        raise Failure(f"the oracle refuses {list(map(str, images.values()))} ({requirements}): {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def newest_flush(log):
    """Wall time at which the newest completed flush of a log completed."""
    newest = 0
    data = Path(log).read_bytes()[_HEADER_BYTES:]
    for slot in _SLOT.iter_unpack(data[:len(data) // _SLOT.size * _SLOT.size]):
        if slot[1] == 0:
            break
        if slot[3] == 3 and slot[1] == 2:
            newest = max(newest, slot[11])
    return newest


def newest_completion(log):
    """Wall time at which the newest completed operation of a log completed."""
    data = Path(log).read_bytes()[_HEADER_BYTES:]
    return max(slot[11] for slot in _SLOT.iter_unpack(data[:len(data) // _SLOT.size * _SLOT.size]))
