"""Offers of kedge's own: a phone whose checks never reach kedge is offered an ICE restart, alone, and politely."""
import re
import time

import pytest

from interop.agent import Dialog
from interop.test_update import KNOWS, USERS, background, ice_body, ufrag


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


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


@pytest.mark.parametrize("side,least,most", ((0, 0, 2.6), (1, 2.1, 4.6)))
def test_glare(call, side, least, most):
    """RFC 3261 14.1: kedge made the Call-ID toward the callee, so there it waits 2.1 to 4 s, and toward the caller up to 2 s.
    (Its timer ticks every quarter of a second.) The phone's own offer is served in between."""
    here, there = call(side)
    offer = here.agent.expect("UPDATE", 15)
    assert here.update().status == 491, "kedge's offer is under way"
    here.agent.reply(offer, 491)
    refused = time.monotonic()
    again = here.agent.expect("UPDATE", 10)
    assert least <= time.monotonic() - refused <= most
    assert ufrag(again) != ufrag(offer) and again.cseq[0] > offer.cseq[0]
    here.agent.reply(again, 200, ice_body(here, "bbbb"))
    end(here, there)
