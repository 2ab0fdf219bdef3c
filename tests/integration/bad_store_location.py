#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A store on the disk it protects would feed on itself: refused. So is the store of another server."""

import devices
import harness
import oracle
from daemons import MIB, Agent
from harness import check
from scenario import Protected, raw_disk


def store_on_the_protected_disk(case):
    disk = raw_disk(case, "feedback")
    devices.make_file_system(case, "ext4", disk.device)
    mount = devices.Mount(case, disk.device, case.directory / "feedback")
    protected = Protected(case, [disk], "feedback", store=mount.directory / "store",
                          agent_allowed=[r"store"], receiver_allowed=[r"session|connection|refused"])
    protected.start(wait_realtime=False)
    said = protected.agent.wait_for_log(rf"ERROR.*store.*{disk.device}|ERROR.*{disk.device}.*store")
    case.say(said.group(0))
    status = protected.agent.status()
    check(status["phase"] == "error", f"the phase is '{status['phase']}', not 'error'")
    protected.agent.detach()
    protected.receiver.stop()
    mount.unmount()


def store_of_another_server(case):
    disk = raw_disk(case, "owner")
    protected = Protected(case, [disk], "owner", agent_allowed=[r"retrying|refused us"],
                          receiver_allowed=[r"belongs to|refused"])
    run = oracle.StampRun(case, {1: disk.device}, rate=4 * MIB, max_bytes=65536)
    protected.start()
    run.stop()
    protected.agent.wait_caught_up()
    stranger = Agent(case, protected.authority, "stranger", [raw_disk(case, "stranger", 16 * MIB)], protected.receiver,
                     allowed=[r"stranger|refused"])
    stranger.start()
    case.say(stranger.wait_for_log(r"(WARNING|ERROR).*stranger.*").group(0))
    stranger.detach()

    protected.receiver.stop()
    protected.receiver.config["stores"][0]["server"] = "stranger"
    before = protected.receiver.log_size()
    protected.receiver.start()
    said = protected.receiver.wait_for_log(rf"ERROR.*belongs to server '{protected.server}'.*'stranger'", since=before)
    case.say(said.group(0))
    check(protected.receiver.store_status()["state"] == "failed", "the status does not show the store as failed")
    protected.receiver.stop()
    protected.receiver.config["stores"][0]["server"] = protected.server
    protected.receiver.start()
    protected.check_identical()
    protected.check_raw_point("latest", run, {1: (0, 0)}, completed_before="all")


def test(case):
    store_on_the_protected_disk(case)
    store_of_another_server(case)


harness.main(test)
