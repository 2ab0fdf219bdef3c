#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scrub proves the whole replica under a running load, remembers that over a restart of the agent, and finds a bit
that flipped in the store's base: an alarm that names the place, and the block is copied anew."""

import digest_disks
import harness
import oracle
from daemons import MIB
from harness import check
from scenario import Protected, raw_disk

SIZE = 256 * MIB


def proved(agent):
    status = agent.try_status()
    return status and status["digest"]["proved_bytes"] >= status["digest"]["provable_bytes"]


def test(case):
    disk = raw_disk(case, size_bytes=SIZE)
    digest_disks.fill(disk.device, SIZE)
    protected = Protected(case, [disk], scrub={"period": "1s", "rate": 400 * MIB},
                          receiver_allowed=[r"compare the store of server .* not what was copied"],
                          agent_allowed=[r"are not what the replica holds", r"gap from seq"])
    protected.start()
    agent = protected.agent
    run = oracle.StampRun(case, {1: disk.device}, rate=2 * MIB, max_bytes=64 << 10)
    run.wait_for(200)
    run.stop()
    case.wait_until("everything is proved equal", lambda: proved(agent), alive=[agent.process])
    check("are not what" not in agent.log_since(0), "the scrub raised a false alarm under load")
    said = case.run(harness.program("tools/understudyctl/understudyctl"), "--socket", agent.socket, "status").stdout
    check("100.0 % of the replica proved equal within 24 h" in said, f"understudyctl does not say so:\n{said}")
    agent.stop()
    agent.config["scrub"] = {"enabled": "false"}
    agent.start()
    agent.wait_caught_up()
    case.wait_until("the proofs are known again", lambda: proved(agent), alive=[agent.process])
    agent.stop()
    agent.config["scrub"] = {"period": "1s", "rate": 400 * MIB}
    agent.start()
    agent.wait_caught_up()

    base = next((protected.receiver.store / "base").iterdir())
    place = find_base_byte(protected, base)
    digest_disks.flip(base, place)
    found = agent.wait_for_log(r"ERROR.*are not what the replica holds.*")
    case.say(found.group(0))
    # The copy that lies there, 1 MiB, does not have its checksum any more: all of it is lost to the receiver.
    start = place // MIB * MIB
    check(f": 1MiB at offset {start} " in found.group(0), f"the alarm does not name 1MiB at offset {start}")
    case.wait_until("the block is copied anew", lambda: "requested" in [gap["reason"] for gap in protected.gaps()
                                                                        if gap["healed"]])
    status = agent.status()
    check(status["digest"]["findings_bytes"] == MIB, f"found: {status['digest']}")
    protected.check_identical()


def find_base_byte(protected, base):
    """A byte that only the base holds: no journaled write covers it, so that flipping it changes the replica."""
    with open(base, "rb") as image, open(protected.disks[0].device, "rb") as disk:
        for offset in range(8 * MIB, SIZE, digest_disks.GRANULE):
            image.seek(offset)
            disk.seek(offset)
            block = image.read(digest_disks.GRANULE)
            if any(block) and block == disk.read(digest_disks.GRANULE):
                return offset + 1234
    raise harness.Failure("every block of the base was overwritten")


harness.main(test)
