# SPDX-License-Identifier: Apache-2.0
"""Loads beside the stamp writer: fio, a mixer of file operations, SQLite, discards by fstrim."""

import sqlite3
import sys
import threading
from pathlib import Path

from harness import check

HERE = Path(__file__).resolve().parent


class FileMixer:
    def __init__(self, case, directory, seed=1, steps_per_second=60):
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.process = case.spawn(f"fs-mixer-{seed}", sys.executable, HERE / "fs_mixer.py", directory, seed,
                                  steps_per_second)

    def stop(self):
        check(self.process.stop() == 0, f"the file mixer failed:\n{self.process.output()[-2000:]}")


class Fio:
    """Random writes of mixed sizes with some fsyncs, through the page cache and around it."""

    def __init__(self, case, directory, size_mib=48, rate_mib=4):
        Path(directory).mkdir(parents=True, exist_ok=True)
        shared = ["--directory", directory, "--size", f"{size_mib}m", "--time_based", "--runtime=100000",
                  "--bsrange=4k-256k", f"--rate={rate_mib}m", "--randrepeat=0", "--fallocate=none"]
        self.process = case.spawn("fio", "fio", "--name=buffered", "--rw=randwrite", "--ioengine=psync", "--fsync=64",
                                  *shared, "--name=direct", "--rw=randwrite", "--ioengine=libaio", "--iodepth=8",
                                  "--direct=1", "--fdatasync=32", *shared)

    def stop(self):
        # fio ends with 128 when it is told to stop.
        check(self.process.stop() in (0, 128), f"fio failed:\n{self.process.output()[-2000:]}")


class SqliteLoad:
    def __init__(self, case, database, name="sqlite", rows_per_second=100):
        self.case = case
        self.database = Path(database)
        self.acknowledged = case.directory / f"{name}-acknowledged"
        self.acknowledged.touch()
        self.process = case.spawn(name, sys.executable, HERE / "sqlite_writer.py", database, self.acknowledged,
                                  rows_per_second)
        case.wait_until("the first SQLite commit", lambda: self.acknowledged.stat().st_size > 0, alive=[self.process])

    def stop(self):
        check(self.process.stop() == 0, f"the SQLite client failed:\n{self.process.output()[-2000:]}")

    def committed_before(self, wall_ns):
        """Number of the newest row whose commit had returned by then."""
        newest = 0
        for line in self.acknowledged.read_text().splitlines():
            number, time_ns = map(int, line.split())
            if time_ns <= wall_ns:
                newest = number
        return newest

    def check_copy(self, database, committed_before_ns):
        """A recovered copy: sound, rows without holes, and every row there that was committed before the given time."""
        connection = sqlite3.connect(database)
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        check(verdict == [("ok",)], f"SQLite integrity check of {database}: {verdict[:5]}")
        count, newest = connection.execute("SELECT count(*), coalesce(max(number), 0) FROM numbered").fetchone()
        connection.close()
        check(count == newest, f"{database} has {count} rows but the newest is {newest}: some are missing")
        expected = self.committed_before(committed_before_ns)
        check(newest >= expected, f"{database} ends at row {newest}; row {expected} was committed before the point")
        return newest


class Trimmer:
    """fstrim again and again: discards of everything the file system has freed."""

    def __init__(self, case, directory):
        self.case = case
        self.directory = directory
        self.stopping = threading.Event()
        self.failure = None
        self.runs = 0
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        case.defer(self._end)

    def _work(self):
        while not self.stopping.wait(0.5):
            try:
                self.case.run("fstrim", self.directory)
                self.runs += 1
            except Exception as error:  # noqa: BLE001: reported by stop()
                self.failure = error
                return

    def _end(self):
        self.stopping.set()
        self.thread.join()

    def stop(self):
        self._end()
        if self.failure is not None:
            raise self.failure
