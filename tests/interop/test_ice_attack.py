"""Attacks on ICE, latching and consent, end to end: nothing goes to a stranger, and nothing of theirs gets through.

Two agents by hand do ICE through kedge; the stranger is at an address of its own, which kedge has no reason to send to.
"""
import os
import struct
import threading
import time

import pytest

from interop.agent import Dialog, sdp
from interop.ear import Ear
from interop.hosts import Stopwatch, socket_in, until
from interop.icestun import ERROR, REQUEST, IceRtp, build, check, success
from interop.sprayer import Sprayer

PORTS = range(30000, 30040)
CONSENT_S, EXPIRY_S = 1, 8  # a machine may stand still for seconds


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    config = {"media": {"ports": f"{PORTS[0]}-{PORTS[-1]}", "port_quarantine": 1},
              "ice": {"consent": CONSENT_S, "consent_expiry": EXPIRY_S}}
    kedge = long_stage.kedge(server, config=config, accounts={u: "pw-" + u for u in ("alice", "bob")})
    agents = [long_stage.agent(lab.public_host(u), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob")]
    return kedge, agents, lab.public_host("stranger")


class Talk:
    """A call of alice with bob; kind: "steered" (both do ICE) or "anchored" (bob does not)."""

    def __init__(self, kedge, agents, stage, kind, candidates=True):
        self.kedge, self.agents, self.kind = kedge, agents, kind
        alice, bob = agents
        for a in agents:
            while not a.requests.empty():
                a.requests.get()
            assert a.register().status == 200
        self.rtp_a = stage.add(IceRtp(alice.host, 400, controlling=True))
        self.rtp_b = stage.add(IceRtp(bob.host, 700, controlling=False)) if kind == "steered" else stage.rtp(bob.host, hz=700)
        self.a, self.b = Dialog(alice, self.rtp_a), Dialog(bob, self.rtp_b)

    def body(self, rtp, version=1):
        extra = rtp.lines() if isinstance(rtp, IceRtp) else ""
        return sdp(rtp.ip, rtp.port, version=version, extra=extra + f"a=ptime:{10 * version}\r\n")

    def relay_only(self, body):
        """What kedge alone can relay: so that the call flows through it. The other one's host candidate is forgotten."""
        lines = body.split("\r\n")
        return "\r\n".join(line for line in lines if not line.startswith("a=candidate:") or f" {self.kedge.host.addr} " in line)

    def start(self):
        result = []
        thread = threading.Thread(target=lambda: result.append(self.a.call("bob", body=self.body(self.rtp_a))))
        thread.start()
        request = self.b.agent.expect("INVITE")
        self.offered = request.body
        if self.kind == "steered":
            self.rtp_b.learn(self.relay_only(request.body))
        self.b.answer(request, body=self.body(self.rtp_b))
        thread.join()
        assert result[0] is not None and result[0].status == 200, result
        self.answered = result[0].body
        self.rtp_a.to = None
        self.rtp_a.learn(self.relay_only(result[0].body))
        if self.kind == "steered":
            self.rtp_b.to = None
        assert self.rtp_a.got(ms=200) and self.rtp_b.got(ms=200), f"no audio: {self.kedge.calls()}"
        way = "anchored" if self.kind == "anchored" else "relayed by kedge"
        assert until(lambda: self.kedge.calls()[0]["path"] == way, 20, 0.1), self.kedge.calls()
        return self

    def reinvite(self, version):
        """alice says something new, else kedge would answer it alone; bob too."""
        result = []
        thread = threading.Thread(target=lambda: result.append(self.a.reinvite(body=self.body(self.rtp_a, version))))
        to = self.rtp_a.to
        thread.start()
        try:
            request = self.b.agent.expect("INVITE")
            self.b.answer(request, body=self.body(self.rtp_b, version))
        finally:
            thread.join()
        self.rtp_a.to = to
        assert result[0].status == 200

    def is_well(self):
        mark = time.monotonic()
        return self.rtp_a.got(mark, 300) and self.rtp_b.got(mark, 300)

    def end(self):
        if self.kedge.calls():
            self.a.bye()
            try:
                self.b.agent.reply(self.b.agent.expect("BYE"), 200)
            except AssertionError:
                pass
        self.kedge.no_calls()


@pytest.fixture(params=("anchored", "steered"))
def call(request, world, stage):
    kedge, agents, stranger = world
    made = Talk(kedge, agents, stage, request.param).start()
    yield made, stranger
    made.end()


def rtp(marker=b"\xd5"):
    return struct.pack("!BBHII", 0x80, 0, int.from_bytes(os.urandom(2), "big"), 0, 0x51515151) + marker * 160


def injected(talk, marker):
    """Packets of the stranger that reached one of the two."""
    return [d for r in (talk.rtp_a, talk.rtp_b) for _, _, d in r.received if marker * 100 in d]


MARK = b"\x3c"


def test_rtp_bleed_before_during_and_after_the_answer_and_a_reinvite(world, stage):
    """A sprayer over the whole port range from before the INVITE until after a re-INVITE, RTP and forged checks."""
    kedge, agents, stranger = world
    for kind in ("anchored", "steered"):
        talk = Talk(kedge, agents, stage, kind)
        bad = check(("someone1", "x" * 24), "other123")
        sprayer = Sprayer(stranger, kedge.host.addr, PORTS, [lambda: rtp(MARK), bad])
        try:
            talk.start()
            time.sleep(0.5)
            talk.reinvite(2)
            assert talk.is_well() and until(lambda s=sprayer: s.sent > 500, 30)
        finally:
            sprayer.stop()
            talk.end()
        assert sprayer.got == [], f"{kind}: {len(sprayer.got)} packets went to the stranger"
        assert injected(talk, MARK) == [], f"{kind}: RTP of the stranger was passed on"


def names(talk):
    """The USERNAMEs that are right at kedge's ports, with a wrong password: all that a stranger can see of signalling but the
    passwords."""
    ice = talk.rtp_a
    return [(ice.remote[0], ice.ufrag)] + ([(talk.rtp_b.remote[0], talk.rtp_b.ufrag)] if talk.kind == "steered" else [])


def test_forged_checks(call):
    """Right user names, wrong passwords; role conflicts; USE-CANDIDATE; success and error responses that nobody asked for."""
    talk, stranger = call
    wrong = "w" * 24
    packets = []
    for to, own in names(talk):
        packets += [check((to, wrong), own, nominate=True), check((to, wrong), own, controlling=False),
                    check((to, wrong), own, tie=b"\xff" * 8), check((to, ""), own),
                    build(REQUEST, [(0x0006, f"{to}:{own}".encode())]),  # no integrity at all
                    success(os.urandom(12), (stranger.addr, 5), wrong),
                    build(ERROR, [(0x0009, b"\0\0\x04\x57Role Conflict")], wrong)]
    before = talk.kedge.calls()[0]["path"]
    sprayer = Sprayer(stranger, talk.kedge.host.addr, PORTS, packets + [lambda: rtp(MARK)])
    time.sleep(1.5)
    assert talk.is_well() and until(lambda: sprayer.sent > 500, 30)
    sprayer.stop()
    assert sprayer.got == [], f"{len(sprayer.got)} packets went to the stranger: {sprayer.got[:2]}"
    assert injected(talk, MARK) == []
    assert talk.kedge.calls()[0]["path"] == before


def test_replayed_checks_from_another_address(call):
    """Valid checks and answers, captured on their way, sent again by a stranger. Media never goes there; nor does anything else."""
    talk, stranger = call
    ear = Ear(talk.a.agent.host)
    try:
        def captured():
            return [d.payload for d in ear.datagrams if d.outgoing and d.payload[:2] in (b"\0\1", b"\1\1")]
        assert until(lambda: len(captured()) >= 4, 20), "no check was seen"
        packets = captured()
    finally:
        ear.close()
    sprayer = Sprayer(stranger, talk.kedge.host.addr, PORTS, packets + [lambda: rtp(MARK)], pause=0.01)
    time.sleep(2)
    well = talk.is_well()
    sprayer.stop()
    assert [d for d in sprayer.got if d.payload[:1] >= b"\x80"] == [], "media went to the stranger"
    assert injected(talk, MARK) == [], "the stranger's RTP was passed on"
    assert well, "the call lost its audio"
    assert sprayer.got == [], f"{len(sprayer.got)} STUN messages went to the stranger"


def test_same_host_other_port_is_a_stranger(call):
    """On an ICE leg the address of signalling and SDP proves nothing: RTP from another port of alice's own host."""
    talk, _ = call
    kedge = talk.kedge
    host = talk.a.agent.host
    with socket_in(host) as s:
        s.bind((host.addr, 0))
        own = s.getsockname()[1]
        ear = Ear(host)
        for _ in range(50):
            for port in PORTS:
                s.sendto(rtp(MARK), (kedge.host.addr, port))
            time.sleep(0.01)
        ear.close()
    toward = [d for d in ear.datagrams if not d.outgoing and d.dport == own]
    assert toward == [] and injected(talk, MARK) == [] and talk.is_well()


@pytest.mark.parametrize("kind", ("anchored", "steered"))
def test_media_stops_when_consent_does(world, stage, kind):
    """alice answers no more checks (RFC 7675): what kedge sends her stops within the expiry, whatever she still sends."""
    kedge, agents, _ = world
    talk = Talk(kedge, agents, stage, kind).start()
    try:
        since = time.monotonic()
        assert until(lambda: sum(at > since for at, _, _ in talk.rtp_a.checks) >= 2, 20), "kedge does not ask for consent"
        assert talk.is_well()
        talk.rtp_a.answering = False
        talk.rtp_a.candidates = []  # nor does she check herself
        stopped, watch = time.monotonic(), Stopwatch()
        deadline = EXPIRY_S * 1.5 + 1

        def silent():
            return not talk.rtp_a.received or time.monotonic() - talk.rtp_a.received[-1][0] > 0.5
        assert until(silent, deadline + 1), "media still goes to a peer that withdrew its consent"
        assert talk.rtp_a.received[-1][0] - stopped <= deadline + watch.real - watch.fair
    finally:
        talk.end()


def test_consent_is_asked_for_at_random_intervals(call):
    """RFC 7675 5.1: every few seconds, 0.8 to 1.2 times the interval."""
    talk, _ = call
    since = time.monotonic()
    kedge = talk.kedge.host.addr

    def asked():
        return [at for at, source, _ in talk.rtp_a.checks if at > since and source[0] == kedge]
    def paced():
        """Three intervals in a row are right: in others this machine may have stood still."""
        right = [0.7 * CONSENT_S < b - a < 1.4 * CONSENT_S for a, b in zip(asked(), asked()[1:])]
        return any(all(right[i:i + 3]) for i in range(len(right) - 2))
    assert until(paced if talk.kind == "anchored" else lambda: len(asked()) >= 3, 20, 0.1), asked()
