# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of Debian's package with its own cluster, sockets only, and clients for it."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

from harness import Skip, check, tail

HERE = Path(__file__).resolve().parent
PORT = 54319  # only names the socket: the server listens on no address
SETTINGS = {"listen_addresses": "", "port": PORT, "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
            "shared_buffers": "64MB", "max_wal_size": "128MB", "min_wal_size": "32MB", "checkpoint_timeout": "30s",
            "max_connections": 40}


def find_programs():
    """The newest /usr/lib/postgresql/<major>/bin that has a server, whatever else is in PATH."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if not found:
        raise Skip("Debian's postgresql package is not installed")
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))


def as_postgres(*command):
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *map(str, command)]


class Postgres:
    """One server over one data directory; make() creates the cluster, start() begins with crash recovery if need be."""

    def __init__(self, case, name, data):
        self.case = case
        self.name = name
        self.data = Path(data)
        self.programs = find_programs()
        self.process = None
        self.sockets = case.directory / f"{name}-sockets"
        self.sockets.mkdir()
        os.chmod(case.directory, 0o755)
        shutil.chown(self.sockets, "postgres", "postgres")

    def make(self):
        self.data.mkdir()
        shutil.chown(self.data, "postgres", "postgres")
        self.case.run(*as_postgres(self.programs / "initdb", "--pgdata", self.data, "--auth=trust", "--no-locale",
                                   "--encoding=UTF8", "--username=postgres", "--data-checksums"))

    def start(self):
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self.process = self.case.spawn(self.name, *as_postgres(self.programs / "postgres", "-D", self.data,
                                                               "-k", self.sockets, *options), cwd="/")
        self.case.wait_until(f"{self.name} answers", self.answers, timeout=120, alive=[self.process])

    def answers(self):
        return self.case.run(*self._psql("postgres"), "-c", "SELECT 1", status=None).returncode == 0

    def stop(self):
        """Smart enough: fast shutdown with a checkpoint."""
        self.process.signal(signal.SIGINT)
        check(self.process.wait(120) == 0, f"{self.name} did not stop cleanly:\n{tail(self.process.log_path)}")

    def kill(self):
        self.process.kill()

    def _psql(self, database):
        return [self.programs / "psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", self.sockets, "-p", PORT,
                "-U", "postgres", "-d", database]

    def query(self, sql, database="postgres"):
        return self.case.run(*self._psql(database), "-c", sql).stdout.strip()

    def start_pgbench(self, clients=4, scale=5, rate=200):
        common = ["-h", self.sockets, "-p", PORT, "-U", "postgres"]
        self.query("CREATE DATABASE bench")
        self.case.run(self.programs / "pgbench", "-i", "-q", "-s", scale, *common, "bench")
        return self.case.spawn(f"{self.name}-pgbench", self.programs / "pgbench", "-n", "-c", clients, "-j", 2, "-R",
                               rate, "-T", 100000, *common, "bench")

    def start_numbered_client(self):
        return NumberedClient(self)


class NumberedClient:
    """Rows whose commits are noted outside the database: what must still be there afterwards."""

    def __init__(self, server):
        case = server.case
        self.acknowledged = case.directory / f"{server.name}-acknowledged"
        self.acknowledged.touch()
        self.process = case.spawn(f"{server.name}-client", sys.executable, HERE / "numbered_client.py",
                                  server.programs / "psql", server.sockets, PORT, "postgres", self.acknowledged)
        case.wait_until("the first row is committed", lambda: self.acknowledged.stat().st_size > 0, timeout=60,
                        alive=[self.process])

    def rows(self):
        """[(number, wall_ns)] of every acknowledged row, oldest first."""
        lines = self.acknowledged.read_text().splitlines()
        return [tuple(map(int, line.split())) for line in lines if len(line.split()) == 2]

    def newest_before(self, wall_ns):
        return max((number for number, time_ns in self.rows() if time_ns <= wall_ns), default=0)

    def lost_ms(self, newest_row, kill_ns):
        """How long before kill_ns the oldest acknowledged row beyond newest_row was committed; 0 = none is missing."""
        missing = [time_ns for number, time_ns in self.rows() if number > newest_row and time_ns <= kill_ns]
        return (kill_ns - min(missing)) / 1e6 if missing else 0.0


def check_numbered(server, newest_expected):
    """The restored table has no holes and reaches newest_expected at least; returns its newest row."""
    count, newest = server.query("SELECT count(*), coalesce(max(number), 0) FROM numbered").split("|")
    check(count == newest, f"the restored table has {count} rows but its newest is number {newest}: some are missing")
    check(int(newest) >= newest_expected,
          f"the restored table ends at row {newest}; row {newest_expected} was acknowledged before the point")
    return int(newest)
