"""Attacks of threats.md on SRTP, DTLS and fingerprints, end to end: alice's phone has keys (SDES or DTLS-SRTP), bob's has none, kedge is
between. Nothing goes to a stranger, nothing of theirs gets through, and the call stays up."""
import os
import re
import struct
import time

import pytest

from interop.agent import Dialog
from interop.ear import Ear
from interop.hosts import background, socket_in, until
from interop.secure import SecureRtp
from interop.sipcall import hang_up

PORTS = range(30000, 30040)
MARK = b"\x3c"


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    config = {"media": {"ports": f"{PORTS[0]}-{PORTS[-1]}", "port_quarantine": 1, "profile": "plain"}}
    kedge = long_stage.kedge(server, config=config, accounts={u: "pw-" + u for u in ("alice", "bob")})
    agents = [long_stage.agent(lab.public_host(u), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob")]
    for agent in agents:
        assert agent.register().status == 200
    return kedge, agents, lab.public_host("stranger")


class Talk:
    def __init__(self, world, stage, kind, **kw):
        self.kedge, (alice, bob), self.stranger = world
        self.rtp_a = stage.add(SecureRtp(alice.host, kind, **kw))
        self.rtp_b = stage.rtp(bob.host, hz=700)
        self.a, self.b = Dialog(alice, self.rtp_a), Dialog(bob, self.rtp_b)
        self.kind = kind

    def offer(self, body=None):
        """alice calls, bob answers; alice's response."""
        result = background(self.a.call, "bob", body=body or self.rtp_a.body())
        self.b.answer(self.b.agent.expect("INVITE"))
        return result()

    def start(self):
        self.answer = self.offer()
        assert self.answer is not None and self.answer.status == 200, self.answer
        self.rtp_a.learn(self.answer.body)
        self.is_well()
        return self

    def is_well(self, ms=200):
        mark = time.monotonic()
        assert self.rtp_a.got(mark, ms), f"alice hears nothing: {self.rtp_a.peer.lines[-3:]} {self.kedge.calls()}"
        assert self.rtp_b.got(mark, ms), f"bob hears nothing: {self.kedge.calls()}"

    def end(self):
        hang_up(self.a, self.b, self.kedge)


@pytest.fixture(params=("sdes", "dtls"))
def call(request, world, stage):
    made = Talk(world, stage, request.param).start()
    yield made
    made.end()


def test_talk(call):
    assert call.rtp_a.bad() == []
