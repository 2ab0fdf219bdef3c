#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL client that inserts numbered rows and notes each one as committed, until told to stop (SIGTERM) or the
database is gone.

usage: numbered_client.py PSQL SOCKET_DIRECTORY PORT DATABASE ACKNOWLEDGED

ACKNOWLEDGED gets one line "number wall_ns" a row, written after the server had confirmed the commit; it must lie on
another file system than the database.
"""

import signal
import subprocess
import sys
import time

stopping = False


def request_stop(_number, _frame):
    global stopping
    stopping = True


def main():
    signal.signal(signal.SIGTERM, request_stop)
    psql, sockets, port, name, acknowledged_path = sys.argv[1:]
    # One long-lived session: psql prints a result when the server has completed the command, that is after the commit.
    session = subprocess.Popen([psql, "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", sockets, "-p", port, "-U",
                                "postgres", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    session.stdin.write("CREATE TABLE IF NOT EXISTS numbered (number bigint PRIMARY KEY, made timestamptz);\n")
    number = 0
    with open(acknowledged_path, "a", buffering=1) as acknowledged:
        while not stopping:
            number += 1
            try:
                session.stdin.write(f"INSERT INTO numbered VALUES ({number}, clock_timestamp()) RETURNING number;\n")
                answer = session.stdout.readline().strip()
            except OSError:
                break
            if answer != str(number):
                break
            acknowledged.write(f"{number} {time.time_ns()}\n")
    session.kill()
    session.wait()


if __name__ == "__main__":
    main()
