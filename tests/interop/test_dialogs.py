"""What passes inside of a call and what does not: INFO, methods that are not served, phones that move, contacts that are
not there, limits."""
import re
import threading
import time

import pytest

from interop.agent import Dialog
from interop.hosts import Stopwatch, background, until

USERS = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "elsewhere")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def phone(kedge, hosts, stage):
    def make(user, host=1, transport="udp", register=True):
        agent = stage.agent(hosts[host], user, "pw-" + user, (kedge.host.addr, 5060), transport=transport)
        assert not register or agent.register().status == 200
        return agent
    return make


@pytest.fixture
def in_talk(phone, stage):
    """Two agents in a call."""
    def make(**kw):
        a, b = phone("alice", 1, **kw), phone("bob", 2, **kw)
        da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
        thread = threading.Thread(target=da.call, args=("bob",))
        thread.start()
        db.answer(b.expect("INVITE"))
        thread.join()
        return da, db
    return make


def branch(request):
    return re.search(r"branch=([^;,]+)", request.get("via")).group(1)


def send_info(sender, receiver, text):
    """A key press by INFO; the receiver says 200. Returns what the receiver saw and the sender's answer."""
    answers = []
    body = ["Content-Type: application/dtmf-relay"]
    thread = threading.Thread(target=lambda: answers.append(sender.agent.transact(
        info(sender, body, text))))
    thread.start()
    seen = receiver.agent.expect("INFO")
    receiver.agent.reply(seen, 200)
    thread.join()
    return seen, answers[0]


def info(dialog, headers, body):
    dialog.cseq += 1
    agent = dialog.agent
    lines = [f"INFO {dialog.target} SIP/2.0", f"Via: SIP/2.0/UDP {agent.at};rport;branch=z9hG4bK{time.monotonic_ns()}",
             "Max-Forwards: 70", "From: " + dialog.local, "To: " + dialog.remote, "Call-ID: " + dialog.call_id,
             f"CSeq: {dialog.cseq} INFO", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines)


def test_info_passes_both_ways(in_talk, kedge):
    da, db = in_talk()
    for sender, receiver in ((da, db), (db, da)):
        seen, answer = send_info(sender, receiver, "Signal=5\r\nDuration=160\r\n")
        assert answer is not None and answer.status == 200
        assert seen.body == "Signal=5\r\nDuration=160\r\n" and seen.get("content-type") == "application/dtmf-relay"
        assert sender.agent.ip not in "\r\n".join(f"{n}: {v}" for n, v in seen.headers)
    assert da.bye().status == 200
    kedge.no_calls()


@pytest.mark.parametrize("method,status", (("UPDATE", 200), ("REFER", 400), ("PUBLISH", 405), ("PRACK", 481),
                                           ("NONSENSE", 501), ("OPTIONS", 200)))
def test_methods_inside_of_a_call(in_talk, kedge, method, status):
    da, db = in_talk()
    answer = da.request(method)
    assert answer is not None and answer.status == status
    assert status not in (405, 501) or "BYE" in answer.get("allow")
    assert da.reinvite(timeout=1) is None and db.agent.expect("INVITE")  # the call is still there
    da.agent.close()
    assert db.bye().status == 200


def test_a_phone_that_moves_is_followed(in_talk, phone, kedge):
    """RFC 5626's trouble without RFC 5626: the NAT gives the phone a new port in the middle of a call."""
    da, db = in_talk()
    old = da.agent
    da.agent = phone("alice", 1, register=False)
    old.close()
    seen, answer = send_info(da, db, "Signal=1\r\n")
    assert answer.status == 200
    answers = []
    thread = threading.Thread(target=lambda: answers.append(db.bye()))
    thread.start()
    bye = da.agent.expect("BYE")
    da.agent.reply(bye, 200)
    thread.join()
    assert answers[0].status == 200
    kedge.no_calls()


@pytest.mark.parametrize("host", (1, 3))
@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_a_phone_that_registers_from_elsewhere_is_followed(in_talk, phone, kedge, transport, host):
    """From a new port or from another network: it is one more REGISTER of the same contact. Its call is told by nothing else."""
    da, db = in_talk(transport=transport)
    contact = da.agent.contact
    da.agent = phone("alice", host, transport, register=False)
    assert da.agent.register(contact=contact).status == 200
    answer = background(db.bye)
    da.agent.reply(da.agent.expect("BYE"), 200)
    assert answer().status == 200
    kedge.no_calls()


def test_a_phone_that_moves_while_it_rings(phone, kedge, stage):
    """What it never answered is sent again, as the same request, and so is all that follows."""
    a, b = phone("alice", 1), phone("bob", 2)
    da = Dialog(a, stage.rtp(a.host))
    placed = background(da.call, "bob")
    first = b.expect("INVITE")
    moved = phone("bob", 3, register=False)
    assert moved.register(contact=b.contact).status == 200
    again = moved.expect("INVITE", 3)
    assert again.cseq == first.cseq and again.get("call-id") == first.get("call-id") and again.body == first.body
    assert branch(again) == branch(first)
    db = Dialog(moved, stage.rtp(moved.host))
    db.answer(again)
    assert placed().status == 200
    answer = background(da.bye)
    moved.reply(moved.expect("BYE"), 200)
    assert answer().status == 200
    kedge.no_calls()


def test_bye_finds_a_phone_that_just_moves(in_talk, phone, kedge):
    """The other side hangs up while the phone is between two networks."""
    da, db = in_talk()
    old = da.agent
    assert db.bye().status == 200
    first = old.expect("BYE")
    moved = phone("alice", 3, register=False)
    assert moved.register(contact=old.contact).status == 200
    again = moved.expect("BYE")
    assert again.get("call-id") == first.get("call-id") and again.get("reason") == first.get("reason")
    moved.reply(again, 200)
    kedge.no_calls()


def test_a_phone_that_moves_after_it_rang(phone, kedge, stage):
    """It has the INVITE: nothing is sent again, but CANCEL goes where the phone is now."""
    a, b = phone("alice", 1), phone("bob", 2)
    da = Dialog(a, stage.rtp(a.host))
    placed = background(da.call, "bob")
    invite = b.expect("INVITE")
    b.reply(invite, 180)
    moved = phone("bob", 3, register=False)
    assert moved.register(contact=b.contact).status == 200
    assert moved.quiet("INVITE", 0.5)
    db = Dialog(moved, stage.rtp(moved.host))
    db.answer(invite)
    assert placed().status == 200
    answer = background(db.bye)
    a.reply(a.expect("BYE"), 200)
    assert answer().status == 200
    kedge.no_calls()


def test_no_other_register_moves_a_phone(in_talk, phone, kedge):
    """The same Contact: of another user, with a wrong password, or of another phone of alice's."""
    da, db = in_talk()
    carol, wrong = phone("carol", 3, register=False), phone("alice", 3, register=False)
    assert carol.register(contact=da.agent.contact).status == 200
    wrong.password = "guessed"
    assert wrong.register(contact=da.agent.contact).status == 403
    phone("alice", 3)
    answer = background(db.bye)
    da.agent.reply(da.agent.expect("BYE"), 200)
    assert answer().status == 200
    assert carol.quiet("BYE", 0.2) and wrong.quiet("BYE", 0.1)
    kedge.no_calls()


def test_a_stranger_cannot_move_a_phone(in_talk, phone, kedge):
    """Call-ID alone does not make a dialog: the tag of kedge is needed."""
    da, db = in_talk()
    stranger = Dialog(phone("carol", 2, register=False))
    stranger.call_id, stranger.local, stranger.target, stranger.cseq = da.call_id, da.local, da.target, da.cseq + 5
    stranger.remote = da.remote.partition(";tag=")[0] + ";tag=0123456789abcdef"
    assert stranger.request("INFO").status == 481
    answers = []
    thread = threading.Thread(target=lambda: answers.append(db.bye()))
    thread.start()
    da.agent.reply(da.agent.expect("BYE"), 200)
    thread.join()
    assert answers[0].status == 200


def test_a_refused_update_of_a_call_that_has_ended_is_not_tried_as_an_invite(phone, kedge, stage):
    a, b = phone("alice", 1), phone("bob", 2)
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    placed = background(da.call, "bob")
    db.answer(b.expect("INVITE"), headers=["Allow: INVITE, ACK, BYE, UPDATE"])
    assert placed().status == 200
    da.request("UPDATE", body=da.body(direction="sendonly"), send_only=True)
    update = b.expect("UPDATE")
    assert da.bye().status == 200
    bye = b.expect("BYE")
    b.reply(update, 405)
    assert b.quiet("INVITE", 0.5)
    b.reply(bye, 200)
    kedge.no_calls()


def test_the_next_contact_is_tried(phone, kedge, stage):
    """The newest contact is dead (its port is closed), the older one answers."""
    a, b = phone("alice", 1), phone("bob", 2)
    time.sleep(0.05)
    dead = phone("bob", 2)
    dead.close()
    call = Dialog(a, stage.rtp(a.host))
    result = []
    thread = threading.Thread(target=lambda: result.append(call.call("bob", timeout=15)))
    thread.start()
    answer = Dialog(b, stage.rtp(b.host))
    answer.answer(b.expect("INVITE", 10))
    thread.join()
    assert result[0].status == 200
    assert call.bye().status == 200
    kedge.no_calls()


def test_a_phone_that_says_nothing_is_given_up(phone, kedge, stage):
    """408 after 4 s, and CANCEL as soon as it wakes up."""
    a, b = phone("alice", 1), phone("bob", 2)
    watch = Stopwatch()
    call = Dialog(a, stage.rtp(a.host))
    result = []
    thread = threading.Thread(target=lambda: result.append(call.call("bob", timeout=12)))
    thread.start()
    invite = b.expect("INVITE")
    thread.join()
    assert result[0].status == 408 and watch.real > 3.5 and watch.fair < 10
    kedge.no_calls()
    b.reply(invite, 180)
    b.reply(b.expect("CANCEL"), 200)
    b.reply(invite, 487)


def test_unknown_absent_and_foreign_users(phone, kedge):
    a = phone("alice", 1)
    assert a.request("INVITE", "sip:nobody@kedge.test").status == 404
    assert a.request("INVITE", "sip:carol@kedge.test").status == 480
    assert a.request("INVITE", "sip:carol@elsewhere.test").status == 403
    assert a.request("INVITE", "sip:bob@kedge.test", from_user="carol").status == 403


def test_a_limit_of_calls(hosts, stage):
    kedge = stage.kedge(hosts[0], name="small", config={"limits": {"calls": 1}},
                        accounts={"alice": "pw-alice", "bob": "pw-bob"})
    a, b = (stage.agent(hosts[i], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in ((1, "alice"), (2, "bob")))
    assert a.register().status == 200 and b.register().status == 200
    first, second = Dialog(a, stage.rtp(a.host)), Dialog(a, stage.rtp(a.host))
    thread = threading.Thread(target=first.call, args=("bob",))
    thread.start()
    db = Dialog(b, stage.rtp(b.host))
    db.answer(b.expect("INVITE"))
    thread.join()
    refused = second.call("bob")
    assert refused.status == 503 and refused.get("retry-after")
    assert first.bye().status == 200
    assert until(lambda: not kedge.calls(), 20)
