"""One account with several phones: all ring, one answers, the others are cancelled; and what their refusals mean together."""
import time

import pytest

from interop.agent import Dialog, Message, token
from interop.hosts import until
from interop.test_update import background

USERS = ("alice", "bob")
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "caller", "one", "two", "three")]


class Desk:
    """Alice, and several phones of bob's, in an order of their own."""

    def __init__(self, stage, hosts, count=3, transports=("udp",) * 3, headers=("", "", ""), config=None, q=None):
        self.stage, self.hosts, self.invites = stage, hosts, []
        listen = [f"{t}:{hosts[0].addr}:{p}" for t, p in (("udp", 5060), ("tcp", 5060), ("tls", 5061))]
        self.kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS},
                                 config={"sip": {"listen": listen}, **(config or {})})
        self.caller = self.phone("alice", 1)
        assert self.caller.register().status == 200
        self.phones = []
        for i in range(count):
            phone = self.phone("bob", 2 + i, transports[i])
            assert phone.register(contact=phone.contact + (f";q={q[i]}" if q else "")).status == 200
            self.phones.append(phone)
        self.call = Dialog(self.caller, stage.rtp(self.caller.host))

    def phone(self, user, host, transport="udp"):
        port = 5061 if transport == "tls" else 5060
        return self.stage.agent(self.hosts[host], user, "pw-" + user, (self.kedge.host.addr, port), transport=transport)

    def ring(self, status=180, **kw):
        """Alice calls, all phones have the INVITE and have answered it with this (None: nothing)."""
        self.provisional = []
        self.result = background(self.call.call, "bob", provisional=self.provisional, timeout=20, **kw)
        self.invites = [phone.expect("INVITE") for phone in self.phones]
        for phone, invite in zip(self.phones, self.invites):
            if status:
                phone.reply(invite, status)
        return self.invites

    def pick_up(self, n, **kw):
        dialog = Dialog(self.phones[n], self.stage.rtp(self.phones[n].host))
        dialog.answer(self.invites[n], **kw)
        return dialog

    def cancelled(self, n, reason=None):
        """Phone n gets CANCEL, answers as RFC 3261 9.2 wants, and gets the ACK of its 487."""
        phone = self.phones[n]
        cancel = phone.expect("CANCEL")
        assert cancel.get("reason") == (reason or ""), cancel.headers
        assert cancel.get("call-id") == self.invites[n].get("call-id")
        phone.reply(cancel, 200)
        phone.reply(self.invites[n], 487)
        assert phone.expect("ACK").get("call-id") == cancel.get("call-id")

    def hears(self, dialog):
        assert self.call.rtp.got(time.monotonic(), 200) and dialog.rtp.got(time.monotonic(), 200), "no audio both ways"

    def hang_up(self, dialog):
        answer = background(self.call.bye)
        bye = dialog.agent.expect("BYE")
        dialog.agent.reply(bye, 200)
        assert answer().status == 200 and bye.tag("from") == dialog.invite.tag("from")
        self.kedge.no_calls()


@pytest.fixture
def desk(stage, hosts):
    return lambda *args, **kw: Desk(stage, hosts, *args, **kw)


@pytest.mark.parametrize("winner", range(3))
@pytest.mark.parametrize("transports", (("udp", "udp", "udp"), ("tcp", "tls", "udp")))
def test_all_ring_one_answers_the_others_are_cancelled(desk, transports, winner):
    d = desk(transports=transports)
    invites = d.ring()
    assert len({i.get("call-id") for i in invites}) == 3 and len({i.tag("from") for i in invites}) == 3
    assert len({i.media() for i in invites}) == 1, "all are offered the same ports"
    dialog = d.pick_up(winner)
    for other in set(range(3)) - {winner}:
        d.cancelled(other, ELSEWHERE)
    assert d.result().status == 200
    d.hears(dialog)
    d.hang_up(dialog)


def test_a_late_answer_gets_ack_and_bye(desk):
    d = desk(2)
    d.ring()
    winner = d.pick_up(0)
    late = d.phones[1]
    cancel = late.expect("CANCEL")
    text = late.reply(d.invites[1], 200, Dialog(late, d.call.rtp).body())
    late.reply(cancel, 200)
    ack, bye = late.expect("ACK"), late.expect("BYE")
    assert ack.tag("to") == bye.tag("to") == Message(text).tag("to")
    late.reply(bye, 200)
    assert d.result().status == 200
    d.hears(winner)
    d.hang_up(winner)


def test_one_is_busy_another_answers(desk):
    d = desk(3)
    d.ring()
    d.phones[1].reply(d.invites[1], 486)
    assert d.phones[1].expect("ACK")
    dialog = d.pick_up(2)
    d.cancelled(0, ELSEWHERE)
    assert d.phones[1].quiet("CANCEL", 0.3)
    assert d.result().status == 200
    d.hears(dialog)
    d.hang_up(dialog)


@pytest.mark.parametrize("answers,best", (((486, 486, 486), 486), ((480, 486, 404), 486), ((500, 503, 488), 488),
                                          ((503, 503, 503), 480), ((401, 486, 407), 486), ((480, 484, 486), 484)))
def test_all_refuse_and_the_best_refusal_is_told(desk, answers, best):
    d = desk(3)
    d.ring()
    for phone, invite, status in zip(d.phones, d.invites, answers):
        phone.reply(invite, status)
        phone.expect("ACK")
    assert d.result().status == best
    d.kedge.no_calls()


def test_a_decline_is_for_all(desk):
    d = desk(3)
    d.ring()
    d.phones[1].reply(d.invites[1], 603)
    d.cancelled(0)
    d.cancelled(2)
    assert d.result().status == 603
    d.kedge.no_calls()


def test_a_dead_contact_does_not_keep_the_others_from_ringing(desk):
    """Nor does it decide: after 4 s it is dropped, and the busy phone's word is what the caller hears."""
    d = desk(2)
    d.ring(None)
    d.phones[0].reply(d.invites[0], 486)
    started = time.monotonic()
    assert d.result().status == 486 and 2.5 < time.monotonic() - started < 6
    d.kedge.no_calls()
    d.phones[1].reply(d.invites[1], 180)  # it wakes up late
    d.cancelled(1)


def test_a_dead_contact_is_dropped_and_others_ring_on(desk):
    d = desk(2)
    d.ring(None)
    d.phones[0].reply(d.invites[0], 180)
    assert until(lambda: "says nothing and is given up" in d.kedge.log(), 6)
    dialog = d.pick_up(0)
    assert d.result().status == 200
    d.hears(dialog)
    d.phones[1].reply(d.invites[1], 180)
    d.cancelled(1)
    d.hang_up(dialog)


def test_the_caller_hangs_up_while_all_ring(desk):
    d = desk(3)
    d.ring()
    sent = Message(d.caller.sent) if hasattr(d.caller, "sent") else None
    assert sent
    ringing = until(lambda: d.provisional, 3)
    assert ringing
    invite = [m for m in d.caller.log if m.status == 180][-1]
    text = "\r\n".join([f"CANCEL sip:bob@kedge.test SIP/2.0", "Via: " + sent.get("via"), "Max-Forwards: 70",
                        "From: " + invite.get("from"), "To: <sip:bob@kedge.test>", "Call-ID: " + invite.get("call-id"),
                        f"CSeq: {invite.cseq[0]} CANCEL", 'Reason: SIP;cause=200;text="Picked up"', "Content-Length: 0", "", ""])
    assert d.caller.transact(text).status == 200
    for n in range(3):
        d.cancelled(n, 'SIP;cause=200;text="Picked up"')
    assert d.result().status == 487
    d.kedge.no_calls()
