"""Offers of kedge's own: a phone whose checks never reach kedge is offered an ICE restart, alone, and politely; two phones that do
ICE with kedge are brought together again."""
import os
import re

import pytest

from interop.agent import Dialog, sdp
from interop.hosts import Stopwatch, background, until
from interop.icestun import IceRtp
from interop.test_update import KNOWS, USERS, ice_body, ufrag


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "three")]


@pytest.fixture
def call(hosts, stage):
    """A call in which one side (0: the caller) does ICE in SDP only; kedge's agent gives up after a few seconds. Returns its dialog
    and the other one."""
    def make(side, headers=KNOWS):
        kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS}, config={"ice": {"patience": 1, "rto": 50}})
        agents = [stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS)]
        assert all(agent.register().status == 200 for agent in agents)
        ends = [Dialog(agent, stage.rtp(agent.host)) for agent in agents]
        body = [ice_body(d, "aaaa") if i == side else None for i, d in enumerate(ends)]
        placed = background(ends[0].call, "bob", headers=list(headers), body=body[0])
        ends[1].answer(agents[1].expect("INVITE"), headers=headers, body=body[1])
        assert placed().status == 200
        return ends[side], ends[1 - side]
    return make


def told(dialog, side):
    return dialog.ok if side == 0 else dialog.invite


def end(dialog, other):
    bye = background(other.bye)
    dialog.agent.reply(dialog.agent.expect("BYE"), 200)
    assert bye().status == 200


@pytest.mark.parametrize("side", (0, 1))
def test_a_restart_is_offered_to_one_side_alone(call, side):
    here, there = call(side)
    before = ufrag(told(here, side))
    offer = here.agent.expect("UPDATE", 15)
    assert ufrag(offer) not in ("", before), "new credentials"
    assert re.search(r"^a=candidate:.* typ host", offer.body, re.M) and there.agent.ip not in offer.body
    assert offer.get("contact") and not offer.get("authorization")
    here.agent.reply(offer, 200, ice_body(here, "bbbb"))
    assert here.agent.quiet("ACK", 0.3)
    assert there.agent.quiet("UPDATE", 0.1) and there.agent.quiet("INVITE", 0.1)
    end(here, there)


def test_a_phone_without_update_is_sent_a_reinvite(call):
    here, there = call(0, ["Allow: INVITE, ACK, CANCEL, BYE"])
    offer = here.agent.expect("INVITE", 15)
    assert ufrag(offer) not in ("", ufrag(here.ok))
    here.agent.reply(offer, 200, ice_body(here, "bbbb"))
    ack = here.agent.expect("ACK")
    assert not ack.body and ack.cseq[0] == offer.cseq[0]
    end(here, there)


@pytest.mark.parametrize("method,headers", (("UPDATE", KNOWS), ("INVITE", ["Allow: INVITE, ACK, CANCEL, BYE"])))
def test_an_offer_follows_a_phone_that_registers_from_elsewhere(call, hosts, stage, method, headers):
    """The phone lost its network: kedge's offer went to the old one. It has two seconds, not fifteen, once the phone registers."""
    here, there = call(0, headers)
    lost = here.agent.expect(method, 15)
    moved = stage.agent(hosts[3], "alice", "pw-alice", here.agent.server)
    assert moved.register(contact=here.agent.contact).status == 200
    offer = moved.expect(method, 10)
    assert offer.body == lost.body and offer.cseq == lost.cseq
    here.agent = moved
    moved.reply(offer, 200, ice_body(here, "bbbb"))
    if method == "INVITE":
        assert moved.expect("ACK").cseq[0] == offer.cseq[0]
    end(here, there)


def test_a_phone_that_cannot_be_reached_is_tried_again(call):
    here, there = call(0)
    for _ in range(3):
        here.agent.reply(here.agent.expect("UPDATE", 15), 480)
    here.agent.reply(here.agent.expect("UPDATE", 15), 200, ice_body(here, "bbbb"))
    end(here, there)


def test_a_call_whose_phone_is_gone_ends(call):
    """Nothing listens at its port any more: the other side is not left in silence for ever."""
    here, there = call(0)
    here.agent.reply(here.agent.expect("UPDATE", 15), 480)
    watch = Stopwatch()
    here.agent.close()
    bye = there.agent.expect("BYE", 30)
    assert watch.real > 12 and watch.fair < 25
    there.agent.reply(bye, 200)


@pytest.mark.parametrize("side,least,most", ((0, 0, 5), (1, 2.1, 10)))
def test_glare(call, side, least, most):
    """RFC 3261 14.1: kedge made the Call-ID toward the callee, so there it waits 2.1 to 4 s, and toward the caller up to 2 s.
    (Its timer ticks every quarter of a second.) The phone's own offer is served in between."""
    here, there = call(side)
    offer = here.agent.expect("UPDATE", 15)
    assert here.update().status == 491, "kedge's offer is under way"
    watch = Stopwatch()
    here.agent.reply(offer, 491)
    again = here.agent.expect("UPDATE", 20)
    assert watch.real >= least and watch.fair <= most
    assert ufrag(again) != ufrag(offer) and again.cseq[0] > offer.cseq[0]
    here.agent.reply(again, 200, ice_body(here, "bbbb"))
    end(here, there)


# Upgrade: an INVITE without SDP to one side, its offer to the other, that answer in the ACK

def lines(dialog, restart=False):
    """The SDP of a dialog whose rtp does ICE."""
    rtp = dialog.rtp
    if restart:
        rtp.ufrag, rtp.pwd, rtp.valid = os.urandom(3).hex() + "xy", os.urandom(14).hex(), []
    dialog.version += 1
    return sdp(rtp.ip, rtp.port, version=dialog.version, extra=rtp.lines())


def follow(dialog, request, controlling):
    """Answers an offer of kedge's with a restart of its own."""
    dialog.rtp.controlling = controlling
    dialog.agent.reply(request, 200, lines(dialog, restart=True))
    dialog.rtp.learn(request.body)


@pytest.fixture
def apart(hosts, stage):
    """Two phones in a call that kedge steered, until it fell back: both do ICE with kedge now. An upgrade comes 10 s later."""
    kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS},
                        config={"ice": {"patience": 1, "rto": 50, "consent": 1}})
    agents = [stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS)]
    assert all(agent.register().status == 200 for agent in agents)
    da, db = (Dialog(agent, stage.add(IceRtp(agent.host, controlling=i == 0))) for i, agent in enumerate(agents))
    placed = background(da.call, "bob", headers=KNOWS, body=lines(da))
    invite = agents[1].expect("INVITE")
    db.answer(invite, headers=KNOWS, body=lines(db))
    assert placed().status == 200
    db.rtp.learn(invite.body)
    da.rtp.learn(da.ok.body)
    assert until(lambda: da.rtp.valid and db.rtp.valid, 20)
    da.agent = stage.agent(hosts[3], "alice", "pw-alice", (kedge.host.addr, 5060))  # its SIP comes from another network
    assert da.authorized("UPDATE", da.request("UPDATE")).status == 200
    for dialog in (da, db):
        follow(dialog, dialog.agent.expect("UPDATE", 15), controlling=False)
    assert until(lambda: da.rtp.valid and db.rtp.valid, 20)
    return kedge, da, db


def asked(dialog):
    """The INVITE without SDP, answered with an offer."""
    request = dialog.agent.expect("INVITE", 15)
    assert not request.body and not request.get("content-type")
    dialog.agent.reply(request, 200, lines(dialog))
    return request


def test_upgrade(apart):
    kedge, da, db = apart
    asked(da)
    offer = db.agent.expect("INVITE")
    assert f"a=ice-ufrag:{da.rtp.ufrag}" in offer.body and da.rtp.ip in offer.body, "the two phones' own descriptions"
    assert da.agent.quiet("ACK", 0.3), "its answer is not known yet"
    db.agent.reply(offer, 200, lines(db, restart=True))
    assert not db.agent.expect("ACK").body
    ack = da.agent.expect("ACK")
    assert f"a=ice-ufrag:{db.rtp.ufrag}" in ack.body and ack.get("content-type") == "application/sdp"
    assert kedge.calls()
    end(da, db)
    kedge.no_calls()


def test_upgrade_that_the_other_side_refuses(apart):
    """The first side's offer is answered by kedge, as it was agreed before, and the call goes on."""
    kedge, da, db = apart
    asked(da)
    db.agent.reply(db.agent.expect("INVITE"), 488)
    ack = da.agent.expect("ACK")
    assert ufrag(ack) not in ("", db.rtp.ufrag) and db.rtp.ip not in ack.body
    assert da.agent.quiet("BYE", 1) and db.agent.quiet("BYE", 0.1) and kedge.calls()
    end(da, db)
    kedge.no_calls()
