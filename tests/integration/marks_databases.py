#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hooks that are shipped, with real databases under load: what is restored by an application-consistent mark
starts, is sound in every page, and has every row that was committed before the mark."""

import time
from pathlib import Path

import devices
import harness
import mariadb
import postgres
from daemons import CONTROL, MIB
from harness import check, program, wall_ns
from scenario import Protected

HOOKS = Path(__file__).resolve().parents[2] / "config" / "hooks"
DISK_BYTES = 1536 * MIB


def hook(case, name, settings):
    """The shipped hook with settings of the test's: what /etc/understudy/hooks has elsewhere."""
    path = case.directory / name
    path.write_text(f"#!/bin/sh\nexport UNDERSTUDY_HOOK_SETTINGS={settings}\nexec {HOOKS / name}\n")
    path.chmod(0o755)
    return path


def mark(case, protected, label):
    case.run(program(CONTROL), "--socket", protected.agent.socket, "mark", label, "--application-consistent", "--wait",
             timeout=180)


def check_postgres(case, data, before_ns, client):
    restored = postgres.Postgres(case, "restored-postgres", data)
    restored.start()
    newest = postgres.check_numbered(restored, client.newest_before(before_ns))
    case.run(restored.programs / "pg_amcheck", "-h", restored.sockets, "-p", postgres.PORT, "-U", "postgres", "--all",
             "--install-missing", "--heapallindexed")
    for table in restored.query("SELECT relname FROM pg_stat_user_tables", "bench").splitlines():
        restored.query(f"SELECT count(*) FROM (SELECT * FROM \"{table}\") AS every_row", "bench")
    restored.stop()
    case.run(*postgres.as_postgres(restored.programs / "pg_checksums", "--check", "--pgdata", data))
    case.say(f"PostgreSQL at the mark: sound, newest row {newest}")


def check_mariadb(case, data, newest_before):
    restored = mariadb.MariaDb(case, "restored-mariadb", data)
    restored.start()
    mariadb.check_numbered(restored, newest_before)
    restored.stop()
    case.say(f"MariaDB at the mark: sound without repair, rows up to {newest_before} and more")


def check_lock_is_free(case, protected, server, client):
    """Also when the agent was killed with the lock held: by itself, when its time is over."""
    before = client.newest()
    case.wait_until("rows are inserted again", lambda: client.newest() > before + 3, alive=[client.process])
    check(server.query("SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'FLUSH%'") == "0",
          "a lock is still waited for")
    check(not (case.directory / "mysql-hook" / "pid").exists(), "the hook's session is still noted")


def check_lock_ends_by_itself(case, settings, client):
    environment = {"UNDERSTUDY_HOOK_SETTINGS": str(settings), "UNDERSTUDY_RUN_DIRECTORY": str(case.directory),
                   "UNDERSTUDY_HOLD_SECONDS": "3", "UNDERSTUDY_TIMEOUT_SECONDS": "10", "UNDERSTUDY_PRE_RESULT": "ok",
                   "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    case.run(HOOKS / "mysql-pre", env=environment)
    before = client.newest()
    time.sleep(0.5)
    check(client.newest() <= before + 1, "rows are inserted under the read lock")
    case.wait_until("the lock is over", lambda: client.newest() > before + 3, alive=[client.process])
    late = case.run(HOOKS / "mysql-post", env=environment, status=1)
    check("was not held until now" in late.stderr, f"the post hook said '{late.stderr}'")


def test(case):
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    devices.make_file_system(case, "xfs", disk.device)
    mount = devices.Mount(case, disk.device, case.directory / "data")
    servers = [postgres.Postgres(case, "postgres", mount.directory / "postgres"),
               mariadb.MariaDb(case, "mariadb", mount.directory / "mariadb")]
    for server in servers:
        server.make()
        server.start()
    settings = case.directory / "settings"
    settings.mkdir()
    (settings / "postgresql.conf").write_text(f"PGSOCKETS={servers[0].sockets}\nPSQL={servers[0].programs}/psql\n")
    (settings / "mysql.conf").write_text(f"MYSQL_SOCKET={servers[1].socket}\n")
    hooks = [{"name": "postgresql", "pre": hook(case, "postgresql-pre", settings)},
             {"name": "mysql", "pre": hook(case, "mysql-pre", settings), "post": hook(case, "mysql-post", settings)}]
    protected = Protected(case, [disk], ring_bytes=256 * MIB, marks={"hooks": hooks})
    servers[0].start_pgbench()
    protected.start()
    rows = [server.start_numbered_client() for server in servers]
    case.wait_until("some rows are there", lambda: len(rows[0].rows()) > 50 and rows[1].newest() > 50)

    before_ns, newest_before = wall_ns(), rows[1].newest()
    mark(case, protected, "both")
    check_lock_is_free(case, protected, servers[1], rows[1])
    check_lock_ends_by_itself(case, settings, rows[1])
    for server in servers:
        server.process.kill()
    protected.agent.wait_caught_up()

    image = protected.restore_all("@both", "at-mark")[0]
    restored = devices.LoopDisk(case, image, DISK_BYTES)
    devices.Mount(case, restored.device, case.directory / "restored", options="nouuid")
    check_postgres(case, case.directory / "restored" / "postgres", before_ns, rows[0])
    check_mariadb(case, case.directory / "restored" / "mariadb", newest_before)


harness.main(test)
