#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scrub proves the whole replica under a running load, remembers that over a restart of the agent, and finds a bit
that flipped in the store's base: an alarm that names the place, and the block is copied anew. A bit that the receiver's
scrub finds is asked of the agent, which compares that place and no other."""

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
                          receiver_allowed=[r"compare the store of server .* not what was copied", r"scrub: damaged",
                                            r"have lost disk", r"have lost what is damaged"],
                          agent_allowed=[r"are not what the replica holds", r"gap from seq", r"comparing it now"])
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
    check_receivers_scrub(case, protected, base, start + MIB)


def check_receivers_scrub(case, protected, base, begin):
    """The agent's own scrub takes a year for a round here: only when it is asked it comes to the place."""
    agent, receiver = protected.agent, protected.receiver
    agent.stop()
    agent.config["scrub"] = {"period": "365d", "rate": MIB}
    receiver.stop()
    receiver.config["scrub"] = {"every": "1s", "rate": "1GiB/s"}
    place = find_base_byte(protected, base, begin)
    digest_disks.flip(base, place)
    start = place // MIB * MIB
    receiver.start()
    agent.start()
    agent.wait_caught_up()
    lost = receiver.wait_for_log(r"scrub: points from seq \d+ to seq \d+ .* have lost disk .*")
    case.say(lost.group(0))
    # The copy that lies there, but for what was written over it since.
    asked = agent.wait_for_log(r"has lost \S+ at offset (\d+) of disk 0 to damage; comparing it now")
    check(start <= int(asked.group(1)) < start + MIB, f"asked for another place than the MiB at {start}")
    case.say(asked.group(0))
    case.wait_until("what was lost is copied anew", lambda: [gap["reason"] for gap in protected.gaps()
                                                            if gap["healed"]].count("requested") == 2)
    scrub = case.wait_until("the newest point has lost nothing any more",
                            lambda: (lambda found: found if found["damages"] and found["damaged_points"]
                                     and not found["running"] and not found["damaged_extents"] else None)(
                                receiver.store_status()["scrub"]))
    check(scrub["damaged_points"].startswith("from seq "), f"the damaged points are not named: {scrub}")
    protected.check_identical()


def find_base_byte(protected, base, begin=8 * MIB):
    """A byte that only the base holds: no journaled write covers it, so that flipping it changes the replica."""
    with open(base, "rb") as image, open(protected.disks[0].device, "rb") as disk:
        for offset in range(begin, SIZE, digest_disks.GRANULE):
            image.seek(offset)
            disk.seek(offset)
            block = image.read(digest_disks.GRANULE)
            if any(block) and block == disk.read(digest_disks.GRANULE):
                return offset + 1234
    raise harness.Failure("every block of the base was overwritten")


harness.main(test)
