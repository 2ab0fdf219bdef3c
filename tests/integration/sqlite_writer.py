#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client of an SQLite database that numbers its rows and notes each one as committed, until told to stop (SIGTERM).

usage: sqlite_writer.py DATABASE ACKNOWLEDGED ROWS_PER_SECOND

ACKNOWLEDGED gets one line "number wall_ns" per committed transaction, written after the commit returned; it must lie on
another file system than the database.
"""

import random
import signal
import sqlite3
import sys
import time

stopping = False


def request_stop(_number, _frame):
    global stopping
    stopping = True


def main():
    signal.signal(signal.SIGTERM, request_stop)
    database = sqlite3.connect(sys.argv[1], isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS numbered (number INTEGER PRIMARY KEY, filler BLOB)")
    rate = float(sys.argv[3])
    number = 0
    began = time.monotonic()
    with open(sys.argv[2], "a", buffering=1) as acknowledged:
        while not stopping:
            number += 1
            database.execute("INSERT INTO numbered VALUES (?, ?)", (number, random.randbytes(random.randrange(2000))))
            acknowledged.write(f"{number} {time.time_ns()}\n")
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
    database.close()


if __name__ == "__main__":
    main()
