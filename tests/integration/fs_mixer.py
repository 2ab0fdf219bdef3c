#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps a directory busy the way applications do, until told to stop (SIGTERM): files appear, grow, are overwritten in
place, mapped, punched, truncated, renamed, linked and removed, some fsynced, most not.

usage: fs_mixer.py DIRECTORY SEED STEPS_PER_SECOND
"""

import ctypes
import mmap
import os
import random
import signal
import sys
import time

FILES_MAX = 200
FILE_BYTES_MAX = 2 << 20
PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01

libc = ctypes.CDLL(None, use_errno=True)
stopping = False


def request_stop(_number, _frame):
    global stopping
    stopping = True


class Mixer:
    def __init__(self, directory, seed):
        self.directory = directory
        self.random = random.Random(seed)
        self.names = []
        self.made = 0

    def path(self, name):
        return os.path.join(self.directory, name)

    def pick(self):
        return self.path(self.random.choice(self.names))

    def extent(self, path):
        """A place inside the file."""
        size = os.path.getsize(path)
        start = self.random.randrange(size + 1)
        return start, min(size - start, self.random.choice([1, 100, 4096, 70000, 300000]))

    def create(self):
        self.made += 1
        folder = f"d{self.made % 7}"
        os.makedirs(self.path(folder), exist_ok=True)
        name = f"{folder}/f{self.made}"
        with open(self.path(name), "wb") as file:
            file.write(self.random.randbytes(self.random.choice([0, 10, 4096, 50000, 400000])))
        self.names.append(name)

    def append(self):
        path = self.pick()
        if os.path.getsize(path) < FILE_BYTES_MAX:
            with open(path, "ab") as file:
                file.write(self.random.randbytes(self.random.randrange(1, 200000)))
                if self.random.random() < 0.2:
                    file.flush()
                    os.fsync(file.fileno())

    def overwrite(self):
        path = self.pick()
        start, length = self.extent(path)
        with open(path, "r+b") as file:
            file.seek(start)
            file.write(self.random.randbytes(length))

    def map_write(self):
        path = self.pick()
        start, length = self.extent(path)
        if length == 0:
            return
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[start:start + length] = self.random.randbytes(length)
            if self.random.random() < 0.2:
                memory.flush()

    def punch(self):
        path = self.pick()
        start, length = self.extent(path)
        if length == 0:
            return
        with open(path, "r+b") as file:
            libc.fallocate(file.fileno(), PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(start), ctypes.c_long(length))

    def truncate(self):
        path = self.pick()
        os.truncate(path, self.random.randrange(FILE_BYTES_MAX) if self.random.random() < 0.3 else self.extent(path)[0])

    def rename(self):
        index = self.random.randrange(len(self.names))
        target = self.names[index] + "r"
        os.rename(self.path(self.names[index]), self.path(target))
        self.names[index] = target

    def remove(self):
        name = self.names.pop(self.random.randrange(len(self.names)))
        os.unlink(self.path(name))

    def sync_directory(self):
        descriptor = os.open(self.directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def step(self):
        if len(self.names) < 20:
            return self.create()
        if len(self.names) > FILES_MAX:
            return self.remove()
        actions = [self.create, self.append, self.append, self.overwrite, self.overwrite, self.map_write, self.punch,
                   self.truncate, self.rename, self.remove, self.sync_directory]
        return self.random.choice(actions)()


def main():
    signal.signal(signal.SIGTERM, request_stop)
    mixer = Mixer(sys.argv[1], int(sys.argv[2]))
    rate = float(sys.argv[3])
    steps = 0
    began = time.monotonic()
    while not stopping:
        mixer.step()
        steps += 1
        time.sleep(max(0.0, began + steps / rate - time.monotonic()))
    print(f"fs_mixer: steps={steps}", flush=True)


if __name__ == "__main__":
    main()
