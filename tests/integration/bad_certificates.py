#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A peer of another authority, of the wrong role or of the wrong name is refused with the reason in both logs, nothing
of it reaches the store, and the right certificate works afterwards."""

import harness
from daemons import MIB, Agent, Authority
from harness import check
from scenario import Protected, raw_disk


def expect_refused(case, protected, disk, what, tls, server=None, receiver_name=None):
    """An agent with these certificates gets no session; returns what both ends said."""
    before = protected.receiver.log_size()
    name = what.replace(" ", "-")
    agent = Agent(case, protected.authority, server or protected.server, [disk], protected.receiver, name=name, tls=tls,
                  allowed=[r"."])
    if receiver_name:
        agent.config["receiver"]["name"] = receiver_name
    agent.start()
    said = agent.wait_for_log(r"(WARNING|ERROR) .*").group(0)
    case.say(f"{what}: agent: {said}")
    heard = protected.receiver.wait_for_log(r"(WARNING|ERROR) .*", since=before).group(0)
    case.say(f"{what}: receiver: {heard}")
    check(agent.status()["acknowledged_seq"] == 0, f"{what}: something was acknowledged")
    agent.detach()
    return said, heard


def test(case):
    disk = raw_disk(case, size_bytes=64 * MIB)
    protected = Protected(case, [disk], receiver_allowed=[r"certificate|refused|handshake|alert|identity"])
    protected.receiver.start()
    server, issuing = protected.server, protected.authority
    foreign = Authority(case, "foreign-pki").tls("agent", server)
    foreign["authority"] = issuing.tls("agent", server)["authority"]
    said, heard = expect_refused(case, protected, disk, "other authority", foreign)
    check("certificate" in said or "unknown ca" in said, "the agent does not speak of the certificate")
    check("certificate" in heard, "the receiver does not speak of the certificate")
    _, heard = expect_refused(case, protected, disk, "wrong role", issuing.tls("receiver", server))
    check("role" in heard or "agent" in heard, "the receiver does not name the role")
    _, heard = expect_refused(case, protected, disk, "wrong name", issuing.tls("agent", "somebody-else"))
    check("somebody-else" in heard and server in heard, "the receiver does not name both names")
    said, _ = expect_refused(case, protected, disk, "wrong receiver", issuing.tls("agent", server),
                             receiver_name="dr-9")
    check("dr-9" in said, "the agent does not name the receiver it expected")
    protected.agent.start()
    protected.agent.wait_realtime()
    protected.check_identical()


harness.main(test)
