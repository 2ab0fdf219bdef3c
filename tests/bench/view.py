#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A view through NBD against nbdkit's file plugin on the same bytes as a raw image: random reads of 4 KiB and
sequential reads of 256 KiB by fio's NBD engine over a Unix socket, interleaved, medians. Both servers are nbdkit with
as many threads, and all files are in the page cache. The journal is as an agent makes it: a full copy, then writes of
4 KiB in compressed batches, not merged, over two fifths of the disk.

first_pass_ratio: one sequential pass of servers that have just been started: each batch of the journal is read and
decoded for the first time. random_ratio and sequential_ratio go over the disk many times, as a machine that works on
it.

And the time from asking for a view to the first bytes read from it, with a million and with ten million records in the
journal.

BENCH_SECONDS, BENCH_ROUNDS, BENCH_DISK_MIB, BENCH_WRITES change the reads; BENCH_RECORDS ("1000000,10000000") the
stores that are opened, BENCH_OPEN=0 leaves them out."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

SECONDS = int(os.environ.get("BENCH_SECONDS", "4"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
DISK_MIB = int(os.environ.get("BENCH_DISK_MIB", "512"))
WRITES = int(os.environ.get("BENCH_WRITES", "65536"))
RECORDS = [int(count) for count in os.environ.get("BENCH_RECORDS", "1000000,10000000").split(",")]
OPENS = 5
LOADS = {"random": ["--rw=randread", "--bs=4k", "--iodepth=16"],
         "sequential": ["--rw=read", "--bs=256k", "--iodepth=4"]}


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"'{' '.join(map(str, command))}' ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Server:
    """nbdkit on a Unix socket."""

    def __init__(self, directory, name, *words):
        self.socket = directory / f"{name}.sock"
        self.process = subprocess.Popen(["nbdkit", "--foreground", "--readonly", "--unix", self.socket, *words])
        deadline = time.monotonic() + 60
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"nbdkit {words} did not start")
            time.sleep(0.01)

    def uri(self, export=""):
        return f"nbd+unix:///{export}?socket={self.socket}"

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def running(servers):
    try:
        yield servers
    finally:
        for server in servers.values():
            server.stop()


TIMED = ["--time_based", f"--runtime={SECONDS}"]


def fio_bytes_per_second(directory, uri, words):
    # fio writes what it finds into the directory it is in.
    done = subprocess.run(["fio", "--name=view", "--ioengine=nbd", f"--uri={uri}", "--randrepeat=1",
                           "--output-format=json", *words], cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"fio ended with {done.returncode}: {done.stdout}{done.stderr}")
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    return job["read"]["io_bytes"] / (job["read"]["runtime"] / 1000)


def bench_reads(build, directory, plugin):
    store = directory / "store"
    run(build / "tests/bench/view_store", store, DISK_MIB, WRITES, 4096)
    image = directory / "image.raw"
    run(build / "tools/restore/understudy-restore", "restore", store, "--point", "latest", "--to", image, "--quiet")
    def start():
        return {"view": Server(directory, "view", plugin, store), "raw": Server(directory, "raw", "file", image)}

    def measure(name, servers, words):
        """The view's speed as a part of the raw image's."""
        view, raw = [fio_bytes_per_second(directory, server.uri(), words) for server in servers.values()]
        print(f"{name}: view {view / 2**20:.0f} MiB/s, raw {raw / 2**20:.0f} MiB/s")
        return view / raw

    with running(start()) as servers:
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", servers["view"].uri(), image)
    ratios = []
    for _ in range(ROUNDS):
        with running(start()) as servers:
            ratios.append(measure("first pass", servers, LOADS["sequential"]))
    print(f"bench view first_pass_ratio {statistics.median(ratios):.3f}")
    with running(start()) as servers:
        for name, words in LOADS.items():
            ratios = [measure(name, servers, [*words, *TIMED]) for _ in range(ROUNDS)]
            print(f"bench view {name}_ratio {statistics.median(ratios):.3f}")
    shutil.rmtree(store)
    image.unlink()


def open_ms(build, directory, store):
    """From the order to the first bytes."""
    views = directory / "views"
    control = build / "tools/understudyctl/understudyctl"
    times = []
    for _ in range(OPENS):
        start = time.monotonic()
        view = json.loads(run(control, "view", "open", "@latest", "--store", store, "--views", views, "--json"))
        run("qemu-io", "-r", "-f", "raw", "-c", "read 0 4096", view["disks"][0]["uri"])
        times.append((time.monotonic() - start) * 1000)
        run(control, "view", "close", view["view"], "--views", views)
    return statistics.median(times)


def bench_open(build, directory):
    times = []
    for records in RECORDS:
        store = directory / "store"
        run(build / "tests/bench/view_store", store, 256, records, 512)
        times.append(open_ms(build, directory, store))
        print(f"{records} records: first bytes after {times[-1]:.0f} ms")
        shutil.rmtree(store)
    print(f"bench view open_ms {times[-1]:.1f}")
    print(f"bench view open_growth_ratio {times[-1] / times[0]:.3f}")


def main():
    build = Path(os.environ["UNDERSTUDY_BUILD"])
    plugin = build / "tools/nbdkit/nbdkit-understudy-plugin.so"
    # A short path: sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as directory:
        bench_reads(build, Path(directory), plugin)
        if os.environ.get("BENCH_OPEN", "1") != "0":
            bench_open(build, Path(directory))


if __name__ == "__main__":
    main()
