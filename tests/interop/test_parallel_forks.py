"""One account with several phones: all ring, one answers, the others are cancelled; and what their refusals mean together."""
import re
import time

import pytest

from interop.agent import Dialog, Message
from interop.hosts import Stopwatch, background, until

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


def test_a_strangers_request_leaves_the_winner_its_cseq(desk):
    """Each phone counts its own requests: what another one sent while it rang says nothing of the winner's next one."""
    d = desk(2)
    d.ring(None)
    early = Dialog(d.phones[1])
    early.answer(d.invites[1], 180, body="", ack=False)
    assert early.request("OPTIONS", cseq=5000).status == 200
    winner = d.pick_up(0)
    d.cancelled(1, ELSEWHERE)
    assert d.result().status == 200
    stranger = Dialog(d.phone("bob", 4))
    stranger.call_id, stranger.local, stranger.remote, stranger.target = winner.call_id, winner.local, winner.remote, winner.target
    assert stranger.request("INFO", cseq=9000).status == 407
    assert winner.request("OPTIONS").status == 200
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
    watch = Stopwatch()
    d.ring(None)
    d.phones[0].reply(d.invites[0], 486)
    assert d.result().status == 486 and watch.real > 3.5 and watch.fair < 12
    d.kedge.no_calls()
    d.phones[1].reply(d.invites[1], 180)  # it wakes up late
    d.cancelled(1)


def test_a_dead_contact_is_dropped_and_others_ring_on(desk):
    d = desk(2)
    d.ring(None)
    d.phones[0].reply(d.invites[0], 180)
    assert until(lambda: "says nothing and is given up" in d.kedge.log(), 10)
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
    assert until(lambda: [m for m in d.caller.log if m.status == 180], 20)
    invite = [m for m in d.caller.log if m.status == 180][-1]
    text = "\r\n".join(["CANCEL sip:bob@kedge.test SIP/2.0", "Via: " + sent.get("via"), "Max-Forwards: 70",
                        "From: " + invite.get("from"), "To: <sip:bob@kedge.test>", "Call-ID: " + invite.get("call-id"),
                        f"CSeq: {invite.cseq[0]} CANCEL", 'Reason: SIP;cause=200;text="Picked up"', "Content-Length: 0", "", ""])
    assert d.caller.transact(text).status == 200
    for n in range(3):
        d.cancelled(n, 'SIP;cause=200;text="Picked up"')
    assert d.result().status == 487
    d.kedge.no_calls()


def test_lower_q_waits_until_the_others_have_failed(desk):
    d = desk(3, q=("0.3", "1", "1.0"))
    first = d.phones
    d.phones = first[1:]
    d.ring()
    assert first[0].quiet("INVITE", 0.3)
    d.phones[0].reply(d.invites[0], 486)
    assert first[0].quiet("INVITE", 0.3)
    d.phones[1].reply(d.invites[1], 480)
    d.phones = first[:1]
    d.invites = [first[0].expect("INVITE")]
    first[0].reply(d.invites[0], 180)
    dialog = d.pick_up(0)
    assert d.result().status == 200
    d.hears(dialog)
    d.hang_up(dialog)


def test_serial(desk):
    """One after the other, the newest first; what the best said is told."""
    d = desk(3, config={"calls": {"fork": "serial"}})
    result = background(d.call.call, "bob", timeout=20)
    for phone, status in zip(reversed(d.phones), (486, 480, 404)):
        invite = phone.expect("INVITE")
        assert all(p.quiet("INVITE", 0.2) for p in d.phones if p is not phone)
        phone.reply(invite, status)
        phone.expect("ACK")
    assert result().status == 486
    d.kedge.no_calls()


@pytest.mark.parametrize("lost", ("closed", "silent"))
def test_another_flow_of_the_same_phone(desk, stage, lost):
    """RFC 5626 5.3: two flows of one instance are one phone; the second is used when the first leads nowhere."""
    d = desk(2, transports=("udp", "tcp"))
    instance = ';+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
    flows = [d.phone("bob", 4, "tcp") for _ in range(2)]
    for n, flow in enumerate(flows):
        assert flow.register(contact=flow.contact + f";reg-id={n + 1}" + instance, headers=["Supported: path, outbound"]).status == 200
    d.ring()
    newest = flows[1].expect("INVITE")
    assert flows[0].quiet("INVITE", 0.5)
    if lost == "closed":
        flows[1].close()
    invite = flows[0].expect("INVITE", 10)
    assert invite.get("call-id") != newest.get("call-id")
    d.phones.append(flows[0])
    d.invites.append(invite)
    dialog = d.pick_up(2)
    d.cancelled(0, ELSEWHERE)
    d.cancelled(1, ELSEWHERE)
    assert d.result().status == 200
    d.hears(dialog)
    d.hang_up(dialog)


def test_a_connection_that_closes_while_all_ring(desk):
    d = desk(2, transports=("tcp", "udp"))
    d.ring()
    d.phones[0].close()
    assert d.caller.quiet("BYE", 0.5)
    d.phones[1].reply(d.invites[1], 486)
    assert d.result().status == 486
    d.kedge.no_calls()


def test_one_moves_while_all_ring(desk):
    """It registers from elsewhere: its CANCEL goes there, and the INVITE that it never answered."""
    d = desk(2)
    d.ring(None)
    d.phones[0].reply(d.invites[0], 180)
    moved = d.phone("bob", 4)
    assert moved.register(contact=d.phones[1].contact).status == 200
    again = moved.expect("INVITE")
    assert again.get("call-id") == d.invites[1].get("call-id") and again.cseq == d.invites[1].cseq
    moved.reply(again, 180)
    d.phones[1], d.invites[1] = moved, again
    dialog = d.pick_up(0)
    d.cancelled(1, ELSEWHERE)
    assert d.result().status == 200
    d.hears(dialog)
    d.hang_up(dialog)


def test_early_media_follows_who_speaks_and_the_answer_wins(desk, stage):
    d = desk(2)
    d.ring(None)
    rtp = [stage.rtp(p.host, codec=8) for p in d.phones]
    dialogs = [Dialog(p, r) for p, r in zip(d.phones, rtp)]
    for n, codec in ((0, 0), (1, 8)):
        d.phones[n].reply(d.invites[n], 183, dialogs[n].body(codecs=(codec,)))
        assert until(lambda: any(m.status == 183 and f"RTP/AVP {codec}\r\n" in m.body for m in d.caller.log), 20)
    d.phones[0].reply(d.invites[0], 200)  # without SDP: its own 183's
    assert d.phones[0].expect("ACK")
    d.cancelled(1, ELSEWHERE)
    answer = d.result()
    assert answer.status == 200 and "RTP/AVP 0\r\n" in answer.body
    dialogs[0].invite = d.invites[0]
    dialogs[0]._listen(d.invites[0])
    d.hears(dialogs[0])
    d.hang_up(dialogs[0])


def test_what_a_failed_phone_said_early_is_nobodys_answer(desk, stage):
    d = desk(2)
    d.ring(None)
    first = Dialog(d.phones[0], stage.rtp(d.phones[0].host))
    d.phones[0].reply(d.invites[0], 183, first.body(codecs=(0,)))
    assert until(lambda: any(m.status == 183 for m in d.caller.log), 20)
    d.phones[0].reply(d.invites[0], 500)
    d.phones[1].reply(d.invites[1], 200)
    assert d.result().status == 502
    d.phones[1].expect("ACK")
    d.phones[1].reply(d.phones[1].expect("BYE"), 200)
    d.kedge.no_calls()


def as_own(dialog):
    """The dialog in a Replaces that comes to its phone: to-tag is its own (RFC 3891 3)."""
    tag = {name: re.search(r"tag=([^;>]+)", getattr(dialog, name)).group(1) for name in ("local", "remote")}
    return f"{dialog.call_id};to-tag={tag['local']};from-tag={tag['remote']}"


def test_replaces_goes_to_the_phone_that_has_the_dialog(desk, stage):
    """bob has two phones and talks on one; carol's INVITE that replaces that dialog rings there alone."""
    d = desk(2)
    d.ring()
    talks = d.pick_up(1)
    d.cancelled(0, ELSEWHERE)
    assert d.result().status == 200
    talks.call_id = d.invites[1].get("call-id")
    other = d.phone("alice", 4)
    new = Dialog(other, stage.rtp(other.host))
    placed = background(new.call, "bob", headers=["Replaces: " + as_own(talks), "Require: replaces"])
    invite = d.phones[1].expect("INVITE")
    assert invite.get("replaces") == as_own(talks) and d.phones[0].quiet("INVITE", 0.5)
    taken = Dialog(d.phones[1], stage.rtp(d.phones[1].host))
    taken.answer(invite)
    assert placed().status == 200
    answer = background(talks.bye)
    d.caller.reply(d.caller.expect("BYE"), 200)
    assert answer().status == 200
    answer = background(new.bye)
    d.phones[1].reply(d.phones[1].expect("BYE"), 200)
    assert answer().status == 200
    d.kedge.no_calls()


def test_replaces_of_another_users_dialog_is_an_ordinary_call(desk, stage):
    """Who is called is said by the request URI: a dialog of somebody else's does not lead elsewhere."""
    d = desk(2)
    d.ring()
    talks = d.pick_up(1)
    d.cancelled(0, ELSEWHERE)
    assert d.result().status == 200
    tag = d.call.remote.partition("tag=")[2]
    alices = f"{d.call.call_id};to-tag={d.call.local_tag};from-tag={tag}"
    new = Dialog(d.caller, stage.rtp(d.caller.host))
    placed = background(new.call, "bob", headers=["Replaces: " + alices])
    for phone in d.phones:
        phone.reply(phone.expect("INVITE"), 481)
    assert placed().status == 500
    d.hang_up(talks)


def test_a_call_that_rings_at_several_phones_is_picked_up(desk, stage):
    """Who picks it up names the dialog of one of them, as its dialog-info does; the caller's phone is meant (RFC 3891 7.1)."""
    d = desk(2)
    d.ring()
    assert until(lambda: [m for m in d.caller.log if m.status == 180], 20)
    alices = [m for m in d.caller.log if m.status == 180][-1]
    for n in range(2):
        ringing = d.invites[n]
        # bob's phone n is the callee: its own tag is To's. Its dialog seen from kedge's side is to be replaced.
        near = f"{ringing.get('call-id')};to-tag={ringing.tag('from')};from-tag={ringing.our_tag}"
        picker = d.phone("bob", 4)
        new = Dialog(picker, stage.rtp(picker.host))
        placed = background(new.call, "alice", headers=["Replaces: " + near, "Require: replaces"])
        invite = d.caller.expect("INVITE")
        assert invite.get("replaces") == (f"{alices.get('call-id')};to-tag={alices.tag('from')};from-tag={alices.tag('to')}")
        d.caller.reply(invite, 486)
        assert placed().status == 486
    dialog = d.pick_up(0)
    d.cancelled(1, ELSEWHERE)
    assert d.result().status == 200
    d.hang_up(dialog)


# Races


@pytest.mark.parametrize("transports", (("udp", "udp"), ("tcp", "tls")))
def test_two_answer_at_once(desk, stage, transports):
    d = desk(2, transports=transports)
    d.ring()
    rtp = [stage.rtp(p.host) for p in d.phones]
    dialogs = [Dialog(p, r) for p, r in zip(d.phones, rtp)]
    for dialog, invite in zip(dialogs, d.invites):
        dialog.invite = invite
        dialog.agent.reply(invite, 200, dialog.body())
    assert d.result().status == 200
    for dialog in dialogs:
        assert dialog.agent.expect("ACK")
    ended = until(lambda: [x for x in dialogs if any(m.method == "BYE" for m in x.agent.log)], 20)
    assert len(ended) == 1
    [loser], [winner] = ended, [x for x in dialogs if x not in ended]
    loser.agent.reply(loser.agent.expect("BYE"), 200)
    winner._listen(winner.invite)
    d.hears(winner)
    d.hang_up(winner)


def test_an_answer_before_the_others_said_anything(desk):
    """CANCEL may not be sent before a provisional response (RFC 3261 9.1): it follows when there is one."""
    d = desk(2)
    d.ring(None)
    dialog = d.pick_up(0)
    assert d.result().status == 200
    d.hears(dialog)
    assert d.phones[1].quiet("CANCEL", 0.3)
    d.phones[1].reply(d.invites[1], 180)
    d.cancelled(1, ELSEWHERE)
    d.hang_up(dialog)


def test_a_bye_in_an_early_dialog_ends_that_one(desk):
    """No UAS may do that (RFC 3261 15), but the other phones have done nothing wrong."""
    d = desk(2)
    d.ring()
    rude, invite = Dialog(d.phones[0]), d.invites[0]
    rude.call_id, rude.target = invite.get("call-id"), invite.contact()
    rude.local, rude.remote = f"{invite.get('to')};tag={invite.our_tag}", invite.get("from")
    answer = background(rude.request, "BYE")
    d.cancelled(0)
    assert answer().status == 200
    dialog = d.pick_up(1)
    assert d.result().status == 200
    d.hears(dialog)
    d.hang_up(dialog)


def test_what_is_told_of_it(desk):
    d = desk(3)
    d.ring()
    dialog = d.pick_up(2)
    for n in range(2):
        d.cancelled(n, ELSEWHERE)
    assert d.result().status == 200
    [call] = d.kedge.calls()
    assert call["contacts"] == 3 and call["legs"][1]["remote"] == d.phones[2].at
    assert call["legs"][1]["call_id"] == d.invites[2].get("call-id")
    assert "3 contacts were called" in d.kedge.ctl("explain", call["id"])
    d.hang_up(dialog)


@pytest.mark.parametrize("supported", ((), ("Supported: 100rel",), ("Require: 100rel",)))
def test_a_reliable_answer_of_one_phone_is_none_of_the_other(desk, stage, supported):
    """RFC 3262: the first phone's 183 has completed its offer/answer; the second one's 200 completes its own. To the caller the
    183 is no final answer then, unless it insists on reliable ones."""
    d = desk(2)
    d.ring(None, headers=list(supported))
    first, second = (Dialog(p, stage.rtp(p.host, codec=c)) for p, c in zip(d.phones, (0, 8)))
    d.phones[0].reply(d.invites[0], 183, first.body(codecs=(0,)), ["RSeq: 7", "Require: 100rel"])
    prack = d.phones[0].expect("PRACK")
    assert prack.get("rack") == f"7 {d.invites[0].cseq[0]} INVITE"
    d.phones[0].reply(prack, 200)
    early = until(lambda: next((m for m in d.caller.log if m.status == 183), None), 20)
    assert "RTP/AVP 0\r\n" in early.body
    assert bool(early.get("rseq")) == (supported == ("Require: 100rel",))
    if early.get("rseq"):
        from_tag, to = early.tag("from"), early.get("to")
        text = d.caller.build("PRACK", early.contact(), [f"RAck: {early.get('rseq')} {early.cseq[0]} INVITE"], call_id=early.get("call-id"),
                              cseq=early.cseq[0] + 1, to=to, from_tag=from_tag)
        assert d.caller.transact(text).status == 200
    second.answer(d.invites[1], codecs=(8,))
    answer = d.result()
    assert answer.status == 200 and "RTP/AVP 8\r\n" in answer.body, answer.body
    d.cancelled(0, ELSEWHERE)
    d.call.rtp.codec = 8
    d.hears(second)
    d.hang_up(second)


def test_late_offer_to_several(desk, stage):
    """An INVITE without SDP: each phone offers in its 200. The first one gets the answer in its ACK, the other one ACK and BYE."""
    d = desk(2)
    d.ring(body="", ack=False)
    assert not any(i.body for i in d.invites)
    winner, late = (Dialog(p, stage.rtp(p.host)) for p in d.phones)
    winner.answer(d.invites[0], ack=False)
    ok = d.result()
    assert ok.status == 200 and ok.media()
    cancel = d.phones[1].expect("CANCEL")
    d.phones[1].reply(d.invites[1], 200, late.body())
    d.phones[1].reply(cancel, 200)
    d.phones[1].expect("ACK")
    d.phones[1].reply(d.phones[1].expect("BYE"), 200)
    d.call.request("ACK", body=d.call.body(), send_only=True, cseq=ok.cseq[0])
    d.call._listen(ok)
    ack = d.phones[0].expect("ACK")
    assert ack.media()
    winner._listen(ack)
    d.hears(winner)
    d.hang_up(winner)


def test_a_new_offer_after_the_answer_reaches_the_winner_alone(desk, stage):
    """Hold and resume: re-INVITEs in the dialog of the branch that won, both ways."""
    d = desk(3, transports=("udp", "tcp", "udp"))
    d.ring()
    dialog = d.pick_up(1)
    d.cancelled(0, ELSEWHERE)
    d.cancelled(2, ELSEWHERE)
    assert d.result().status == 200
    answer = background(d.call.reinvite, direction="sendonly")
    seen = dialog.agent.expect("INVITE")
    assert "a=sendonly" in seen.body and seen.get("call-id") == d.invites[1].get("call-id")
    dialog.answer(seen, direction="recvonly")
    assert answer().status == 200
    dialog.cseq = 1
    answer = background(dialog.reinvite)
    seen = d.caller.expect("INVITE")
    d.call.answer(seen)
    assert answer().status == 200
    d.hears(dialog)
    answer = background(dialog.bye)
    d.caller.reply(d.caller.expect("BYE"), 200)
    assert answer().status == 200
    d.kedge.no_calls()


@pytest.mark.parametrize("winner", (0, 1))
def test_contacts_that_reach_kedge_at_different_addresses(lab, stage, hosts, winner):
    """Each is offered the same ports at the address that it knows; the one that answers is heard there."""
    host = lab.public_host(f"two-homes-{winner}", ip4=[f"203.0.113.{120 + 2 * winner}", f"203.0.113.{121 + 2 * winner}"])
    homes = [f"203.0.113.{120 + 2 * winner + i}" for i in range(2)]
    kedge = stage.kedge(host, accounts={u: "pw-" + u for u in USERS},
                        config={"sip": {"listen": [f"udp:{ip}:5060" for ip in homes]}, "media": {"address": "auto"}})
    alice = stage.agent(hosts[1], "alice", "pw-alice", (homes[0], 5060))
    phones = [stage.agent(hosts[2 + i], "bob", "pw-bob", (homes[i], 5060)) for i in range(2)]
    for phone in (alice, *phones):
        assert phone.register().status == 200
    call = Dialog(alice, stage.rtp(alice.host))
    result = background(call.call, "bob")
    invites = [phone.expect("INVITE") for phone in phones]
    assert [i.media()[0] for i in invites] == homes and invites[0].media()[1] == invites[1].media()[1]
    other = 1 - winner
    phones[other].reply(invites[other], 183, Dialog(phones[other], stage.rtp(phones[other].host)).body())
    assert until(lambda: any(m.status == 183 for m in alice.log), 20)
    dialog = Dialog(phones[winner], stage.rtp(phones[winner].host))
    dialog.answer(invites[winner])
    assert result().status == 200
    since = time.monotonic()
    assert call.rtp.got(since, 200) and dialog.rtp.got(since, 200)
    assert {source[0] for at, source, _ in dialog.rtp.received if at > since} == {homes[winner]}
    phones[other].reply(phones[other].expect("CANCEL"), 200)
    phones[other].reply(invites[other], 487)
    answer = background(call.bye)
    phones[winner].reply(phones[winner].expect("BYE"), 200)
    assert answer().status == 200
    kedge.no_calls()
