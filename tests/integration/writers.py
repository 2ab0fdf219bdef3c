# SPDX-License-Identifier: Apache-2.0
"""A writer whose progress can be followed without touching the file system it writes to."""

import random
import sys
import time
from pathlib import Path

from harness import Failure

CODE = """
import os, sys, time
count = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o644)
data = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
n = 0
while True:
    os.pwrite(data, b'%012d' % n, 4096 * (n % 256))
    os.fsync(data)
    n += 1
    os.pwrite(count, b'%012d' % n, 0)
    time.sleep(0.001)
"""


class Progress:
    """Writes and synchronises, one round after the other; case.directory must lie elsewhere."""

    def __init__(self, case, name, directory):
        self.case = case
        self.name = name
        self.count_path = case.directory / f"progress-{name}"
        self.process = case.spawn(f"writer-{name}", sys.executable, "-c", CODE, Path(directory) / "progress",
                                  self.count_path)
        self.wait_for_more()

    def count(self):
        return int(self.count_path.read_text() or 0) if self.count_path.exists() else 0

    def wait_for_more(self, timeout=60):
        before = self.count()
        self.case.wait_until(f"the writer '{self.name}' goes on", lambda: self.count() > before + 2, timeout=timeout,
                             alive=[self.process])

    def settle(self):
        """The count when the round that was under way has had time to end."""
        time.sleep(0.2)
        return self.count()

    def moved_since(self, count):
        time.sleep(0.3)
        return self.count() != count

    def stop(self):
        self.process.kill()


def meet_a_freeze(case, writers, name, begin, guards, done, pause, resume):
    """Stops an agent while file systems are frozen for a mark; returns the mark's label. A freeze lasts some
    milliseconds: marks are ordered until one was met."""
    chance = random.Random(1)
    for attempt in range(60):
        label = f"{name}-{attempt}"
        begin(label)
        case.wait_until("the guard is started", lambda: guards() or done(label), interval=0)
        time.sleep(chance.uniform(0, 0.03))
        pause()
        counts = [writer.settle() for writer in writers]
        if not all(writer.moved_since(count) for writer, count in zip(writers, counts)):
            case.say(f"met a freeze at attempt {attempt}")
            return label
        resume()
        case.wait_until("the mark is made", lambda: done(label))
    raise Failure("no freeze was met")
