# SPDX-License-Identifier: Apache-2.0
"""A MariaDB server of Debian's core package with its own data directory, socket only, and a client for it."""

import os
import shutil
import signal
import sys
from pathlib import Path

from harness import Skip, check, tail

HERE = Path(__file__).resolve().parent
USER = "nobody"  # the core packages make no user of their own, and start no server


class MariaDb:
    """make() creates the data directory, start() begins with crash recovery if need be; nothing repairs itself."""

    def __init__(self, case, name, data):
        self.case = case
        self.name = name
        self.data = Path(data)
        self.process = None
        self.socket = case.directory / f"{name}.sock"
        if not shutil.which("mariadbd"):
            raise Skip("Debian's mariadb-server-core package is not installed")
        os.chmod(case.directory, 0o1777)  # the server makes its socket there

    def make(self):
        self.data.mkdir()
        shutil.chown(self.data, USER)
        self.case.run("mariadb-install-db", "--no-defaults", f"--datadir={self.data}", f"--user={USER}",
                      "--auth-root-authentication-method=socket", "--skip-test-db")

    def start(self):
        self.process = self.case.spawn(self.name, "mariadbd", "--no-defaults", f"--datadir={self.data}",
                                       f"--user={USER}", f"--socket={self.socket}",
                                       f"--pid-file={self.data}/pid", "--skip-networking",
                                       "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
                                       "--myisam-recover-options=OFF", cwd="/")
        self.case.wait_until(f"{self.name} answers", self.answers, timeout=120, alive=[self.process])

    def answers(self):
        return self.case.run(*self._client(), "-e", "SELECT 1", status=None).returncode == 0

    def stop(self):
        self.process.signal(signal.SIGTERM)
        check(self.process.wait(120) == 0, f"{self.name} did not stop cleanly:\n{tail(self.process.log_path)}")

    def _client(self):
        return ["mariadb", "--no-defaults", "-N", "-B", f"--socket={self.socket}"]

    def query(self, sql, database="mysql"):
        return self.case.run(*self._client(), database, "-e", sql).stdout.strip()

    def start_numbered_client(self):
        return NumberedClient(self)


class NumberedClient:
    """Rows of an InnoDB and a MyISAM table whose inserts are noted outside the database."""

    def __init__(self, server):
        self.acknowledged = server.case.directory / f"{server.name}-acknowledged"
        self.acknowledged.touch()
        server.query("CREATE DATABASE rows_; CREATE TABLE rows_.innodb (number bigint PRIMARY KEY) ENGINE=InnoDB; "
                     "CREATE TABLE rows_.myisam (number bigint PRIMARY KEY) ENGINE=MyISAM")
        self.process = server.case.spawn(f"{server.name}-client", sys.executable, HERE / "numbered_mariadb_client.py",
                                         server.socket, self.acknowledged)
        server.case.wait_until("the first row is inserted", lambda: self.acknowledged.stat().st_size > 0,
                               alive=[self.process])

    def newest(self):
        lines = self.acknowledged.read_text().splitlines()
        return int(lines[-1]) if lines else 0


def check_numbered(server, newest_expected):
    """Both tables are sound without a repair, have no holes and reach newest_expected at least."""
    for table in ("innodb", "myisam"):
        said = server.query(f"CHECK TABLE rows_.{table} EXTENDED").splitlines()
        check(len(said) == 1 and said[0].split("\t")[-1] == "OK", f"table {table}: {said}")
        count, newest = map(int, server.query(f"SELECT count(*), coalesce(max(number), 0) FROM rows_.{table}").split())
        check(count == newest, f"table {table} has {count} rows but its newest is number {newest}: some are missing")
        check(newest >= newest_expected,
              f"table {table} ends at row {newest}; row {newest_expected} was inserted before the mark")
