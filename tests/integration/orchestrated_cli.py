#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server's whole life from understudyctl alone: every verb edits the group's file in place, whose comments stay, says
before what will happen, and with --wait returns when it has."""

import devices
import harness
import json

import oracle
from daemons import MIB
from harness import check
from orchestrated import Site
from scenario import raw_disk

ALLOWED = [r"session|connection", r"Connection refused, retrying", r"interrupted", r"gap from seq \d+ on: requested"]


def refusals(site):
    """What may not be is refused with the reason, and nothing is written."""
    orchestrator = site.orchestrator
    before = site.path().read_text()
    for words, reason in (
            (("stop", "web-9"), "no server 'web-9'"),
            (("stop", site.name), "is initialized, where 'stop' is not possible; possible: 'start'"),
            (("failover", site.name), "where 'failover' is not possible"),
            (("group", "delete", "shop"), "still has 1 servers"),
            (("group", "rename", "shop", "-"), "is no name for it"),
            (("server", "add", "shop", site.name, "--address", "10.1.0.6", "--os", "debian:12", "--flavor", "2x4GiB",
              "--disks", "/dev/vda"), site.name),
            (("server", "add", "shop", "tiny", "--address", "10.1.0.6", "--os", "debian:12", "--flavor", "1x4GiB",
              "--disks", "/dev/vda"), "out of range")):
        done = orchestrator.control(*words, status=None)
        check(done.returncode != 0 and reason in done.stderr, f"{words} was answered by: {done.stdout}{done.stderr}")
    check(site.path().read_text() == before, "a refused command changed the file")


def test(case):
    disk = raw_disk(case, size_bytes=96 * MIB)
    run = oracle.StampRun(case, {1: disk.device}, rate=2 * MIB, max_bytes=64 << 10, zero=5, flush_every=10)
    site = Site(case, [disk], ALLOWED)
    control = site.orchestrator.control
    template = case.directory / "shop-template.yaml"
    template.write_text(site.group_text(policy="policy: {auto_resume: false}\n"))
    control("group", "create", "shop", template, "--wait")
    check(site.path().read_text() == template.read_text(), "the group's file is not what was given")
    control("server", "add", "shop", site.name, "--address", "10.1.0.5", "--os", "debian:12", "--flavor", "2x4GiB",
            "--disks", disk.device, "--wait")
    site.wait("initialized")
    refusals(site)
    said = control("start", site.name, "--dry-run").stdout
    check("+ start: initialized -> realtime-replicating" in said and "nothing was written" in said, said)
    check(site.orchestrator.server(site.name)["state"] == "initialized", "a dry run began something")
    control("start", site.name, "--wait")
    site.wait("realtime-replicating", timeout=1)
    check(control("group", "list", "sHp").stdout.startswith("group shop"), "the group is not found by some letters")
    control("group", "mark", "shop", "noon")
    case.wait_until("the mark is a point", lambda: "noon" in site.mark_names(), interval=0.2)
    plan = json.loads(control("stop", site.name, "--wait", "--json").stdout)
    check(plan["written"] and "stop" in plan["plan"]["text"], f"stop said: {plan}")
    site.wait("realtime-stopped", timeout=1)
    control("restart", site.name, "--wait")
    site.wait("realtime-replicating", timeout=1)
    site.receiver.kill()
    site.orchestrator.wait_state(site.name, "replication-error", alive=[site.agent.process])
    site.receiver.start()
    control("repair", site.name, "--wait")
    site.wait("realtime-replicating", timeout=1)
    control("group", "rename", "shop", "the-shop")
    case.wait_until("the new name", lambda: site.orchestrator.ask("group", "list")[0]["name"] == "the-shop")
    run.stop()
    disk.flush()
    site.agent.wait_caught_up()
    image = site.restore.image("latest", "final.img", 0)
    devices.require_identical(case, disk.device, image)
    control("server", "remove", site.name, "--wait")
    site.wait(None)
    check(not site.store_exists(), "the store is still there")
    text = site.path().read_text()
    check(text.startswith("# Kept by its operators.\n") and "  # The shadow host.\n" in text, f"comments went: {text}")
    control("group", "delete", "the-shop", "--wait")
    check(site.orchestrator.ask("group", "list") == [] and not site.path().exists(), "the group is still there")
    done = site.done_operations()
    check(done == ["add", "start", "stop", "restart", "repair", "stop", "deregister"], f"tasks done: {done}")
    check(not site.failed_tasks(), f"tasks failed: {site.failed_tasks()}")


harness.main(test)
