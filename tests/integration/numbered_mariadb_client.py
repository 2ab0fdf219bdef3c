#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A MariaDB client that inserts numbered rows into an InnoDB and a MyISAM table and notes each one as done, until the
database is gone.

usage: numbered_mariadb_client.py SOCKET ACKNOWLEDGED

ACKNOWLEDGED gets one line per number, written after the server had confirmed both inserts; it must lie on another file
system than the database.
"""

import subprocess
import sys


def main():
    socket, acknowledged_path = sys.argv[1:]
    session = subprocess.Popen(["mariadb", "--no-defaults", "-N", "-B", "--unbuffered", f"--socket={socket}", "rows_"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    number = 0
    with open(acknowledged_path, "a", buffering=1) as acknowledged:
        while True:
            number += 1
            try:
                session.stdin.write(f"INSERT INTO myisam VALUES ({number}); INSERT INTO innodb VALUES ({number}); "
                                    f"SELECT {number};\n")
                answer = session.stdout.readline().strip()
            except OSError:
                break
            if answer != str(number):
                break
            acknowledged.write(f"{number}\n")
    session.kill()
    session.wait()


if __name__ == "__main__":
    main()
