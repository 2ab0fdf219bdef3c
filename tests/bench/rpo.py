#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The recovery point under a steady load: fio writes 4 KiB blocks at 50 MB/s to a protected loop device over memory for
30 s; then the agent says for how much of the time the oldest unacknowledged write was how old. Every acknowledgement
means durable at the receiver. Needs root. BENCH_SECONDS, BENCH_RATE_MB change the run."""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import devices  # noqa: E402
import harness  # noqa: E402
from daemons import MIB, Agent, Authority, Receiver  # noqa: E402
from harness import Skip, check  # noqa: E402

SECONDS = int(os.environ.get("BENCH_SECONDS", "30"))
RATE_MB = int(os.environ.get("BENCH_RATE_MB", "50"))
DISK_BYTES = 512 * MIB


def bench(case):
    if shutil.which("fio") is None:
        raise Skip("needs fio")
    memory = case.tmpfs("mem")
    disk = devices.LoopDisk(case, memory / "disk.img", DISK_BYTES)
    server = f"bench-{os.getpid()}"
    authority = Authority(case)
    receiver = Receiver(case, authority, server, store=memory / "store", segment_bytes=256 * MIB)
    receiver.start()
    agent = Agent(case, authority, server, [disk], receiver, ring_bytes=256 * MIB)
    agent.start()
    agent.wait_realtime()
    done = case.run("fio", "--name=steady", f"--filename={disk.device}", "--rw=randwrite", "--bs=4k", "--direct=1",
                    "--ioengine=libaio", "--iodepth=8", f"--rate={RATE_MB * 1000 * 1000}", "--time_based",
                    f"--runtime={SECONDS}", "--buffer_compress_percentage=50", "--refill_buffers",
                    "--output-format=json", timeout=SECONDS + 120)
    status = agent.status()
    load = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["write"]
    mb_per_second = load["bw_bytes"] / 1e6
    print(f"fio wrote {mb_per_second:.1f} MB/s; losses {status['losses']['total']}, backlog "
          f"{status['backlog_bytes']} bytes", flush=True)
    check(mb_per_second > 0.95 * RATE_MB, f"fio reached only {mb_per_second:.1f} of {RATE_MB} MB/s")
    check(status["phase"] == "realtime" and status["losses"]["total"] == 0, f"the stream was not whole: {status}")
    agent.wait_caught_up()
    agent.detach()
    receiver.stop()
    return "\n".join(f"bench rpo {name}_ms {status[f'rpo_{name}_ns'] / 1e6:.2f}" for name in ("p50", "p99"))


harness.main(bench)
