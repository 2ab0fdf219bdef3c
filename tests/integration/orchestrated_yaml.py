#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server's whole life from edits of a YAML file alone, with a real agent and receiver that know nothing but their
orchestrator: created, added, started, stopped, restarted, marked, repaired, de-registered, deleted; nodes and
orchestrator die meanwhile. The replica is the disk, byte for byte."""

import devices
import harness
import oracle
from daemons import CONTROL, MIB
from harness import check, program
from orchestrated import Site
from scenario import raw_disk

ALLOWED = [r"session|connection", r"Connection refused, retrying", r"interrupted", r"gap from seq \d+ on: requested",
           r"task is delayed .* is not connected"]


def tokens_are_good_once(site):
    orchestrator = site.orchestrator
    used = site.case.directory / f"token-agent-{site.name}"
    enroll = (program(CONTROL), "enroll", used, "--orchestrator", f"127.0.0.1:{orchestrator.port}", "--out",
              site.case.directory / "thief")
    said = site.case.run(*enroll, status=1).stderr
    check("was used on" in said, f"a used token was answered by: {said}")
    check(not (site.case.directory / "thief").exists(), "a refused token left files")
    used.write_text(used.read_text()[:-2] + "\n")
    check("no enrolment token" in site.case.run(*enroll, status=2).stderr, "a cut token was not named")
    other = harness.program(CONTROL), "--socket", orchestrator.socket, "enroll-token", "agent", "../etc"
    check("is no name of a node" in site.case.run(*other, status=2).stderr, "a wrong name got a token")


def check_replica(site):
    for disk in site.disks:
        disk.flush()
    site.agent.wait_caught_up()
    for slot, disk in enumerate(site.disks):
        image = site.restore.image("latest", f"final-{slot}.img", slot)
        devices.require_identical(site.case, disk.device, image)
        image.unlink()


def stop_and_go_on(site, run):
    site.declare("stopped")
    site.wait("realtime-stopped")
    site.orchestrator.kill()
    run.wait_for(50)
    check(site.agent.status()["state"] == "realtime-stopped", "without an orchestrator, the agent did something else")
    site.orchestrator.start()
    site.wait("realtime-stopped")
    site.declare("replicating")
    site.wait("realtime-replicating")
    site.orchestrator.kill()
    site.agent.kill()
    site.receiver.kill()
    site.receiver.start()
    site.agent.start()
    site.agent.wait_realtime()  # without an orchestrator
    site.orchestrator.start()
    site.wait("realtime-replicating")


def marked(site):
    site.declare("replicating", more="mark: {label: before-upgrade}\n")
    site.case.wait_until("the mark is a point", lambda: "before-upgrade" in site.mark_names(), interval=0.2)
    site.declare("replicating", more="mark: {label: after-upgrade, consistency: application}\n")
    site.case.wait_until("the second mark is a point", lambda: "after-upgrade" in site.mark_names(), interval=0.2)
    check(site.mark_names().count("before-upgrade") == 1, f"marks: {site.mark_names()}")


def repaired(site):
    policy = "policy: {auto_resume: false}\n"
    site.declare("replicating", policy=policy)
    site.case.wait_until("the policy is at the agent", lambda: site.agent.status()["auto_resume"] is False)
    site.receiver.kill()
    site.orchestrator.wait_state(site.name, "replication-error", alive=[site.agent.process])
    site.receiver.start()
    plan = site.orchestrator.control("plan", site.name).stdout
    check("raise repair_order" in plan, f"the plan does not say what to do: {plan}")
    site.declare("replicating", policy=policy, server="    repair_order: 1\n")
    site.wait("realtime-replicating")
    check("repair" in site.done_operations(), f"no repair among {site.done_operations()}")


def test(case):
    disk = raw_disk(case, size_bytes=96 * MIB)
    run = oracle.StampRun(case, {1: disk.device}, rate=2 * MIB, max_bytes=64 << 10, zero=5, flush_every=10)
    site = Site(case, [disk], ALLOWED)
    tokens_are_good_once(site)
    site.declare(None)
    case.wait_until("the group is there", lambda: site.orchestrator.ask("group", "list"))
    check(site.agent.status()["state"] == "initialized", "the agent began without being told")
    site.declare("initialized")
    site.wait("initialized")
    check(not site.store_exists(), "there is a store before replication began")
    site.declare("replicating")
    site.wait("realtime-replicating")
    stop_and_go_on(site, run)
    marked(site)
    repaired(site)
    run.stop()
    check_replica(site)
    site.declare(None)
    site.wait(None)
    check(not site.store_exists(), "the store is still there")
    case.wait_until("the agent is idle", lambda: site.agent.status()["disks"] == [])
    site.path().unlink()
    case.wait_until("the group is gone", lambda: site.orchestrator.ask("group", "list") == [])
    done = site.done_operations()
    check(done[:2] == ["add", "start"] and done[-1] == "deregister", f"tasks done: {done}")
    check(not site.failed_tasks(), f"tasks failed: {site.failed_tasks()}")
    # A second life is another relation, in an epoch of its own.
    site.declare("replicating")
    site.wait("realtime-replicating")
    check(site.agent.status()["epoch"] == 2, f"the second relation is in epoch {site.agent.status()['epoch']}")
    check_replica(site)


harness.main(test)
