"""Calls that one side leaves half open are ended by kedge: nothing of them stays, on neither leg, neither ports nor dialogs.

Without a final answer after media.unanswered_timeout (180 s unless configured; 4 s here), without ACK or an answer to BYE after
64*T1 = 32 s (RFC 3261 13.3.1.4, 17.1.2.2)."""
import threading
import time

import pytest

from interop.agent import Dialog, digest, token
from interop.hosts import background, until

UNANSWERED = 4
T1_64 = 32


@pytest.fixture(scope="module")
def kedge(lab, long_stage):
    server = lab.public_host("kedge")
    return long_stage.kedge(server, config={"media": {"unanswered_timeout": UNANSWERED}},
                            accounts={"alice": "pw-alice", "bob": "pw-bob",
                                      **{f"{u}-{name}": "pw" for u in ("alice", "bob") for name in ("deaf", "mute", "leaves")}})


@pytest.fixture(scope="module")
def hosts(lab, kedge):
    return lab.public_host("alice"), lab.public_host("bob"), lab.public_host("bob2")


@pytest.fixture
def phones(kedge, hosts, stage):
    made = [stage.agent(host, user, "pw-" + user, (kedge.host.addr, 5060)) for host, user in zip(hosts, ("alice", "bob", "bob"))]
    for phone in made[:2]:
        assert phone.register().status == 200
    yield made
    for phone in made:
        phone.register(expires=0)


def freed(kedge, within):
    """No call, and no media session in the engine either: its ports can be had again."""
    kedge.no_calls(within)
    assert kedge.stats()["calls"] == 0


def ring(kedge, alice, bob, stage, status=180, **kw):
    call = Dialog(alice, stage.rtp(alice.host))
    result = background(call.call, bob.user, timeout=UNANSWERED + 12, **kw)
    invite = bob.expect("INVITE")
    if status:
        bob.reply(invite, status, *([Dialog(bob, stage.rtp(bob.host)).body()] if status == 183 else []))
    return call, result, invite


@pytest.mark.parametrize("status", (100, 180, 183))
def test_no_final_answer(kedge, phones, stage, status):
    """It rings for ever, or plays early media for ever: CANCEL to the callee, a refusal to the caller."""
    alice, bob, _ = phones
    _, result, invite = ring(kedge, alice, bob, stage, status)
    cancel = bob.expect("CANCEL", UNANSWERED + 8)
    bob.reply(cancel, 200)
    bob.reply(invite, 487)
    answer = result()
    assert answer is not None and 400 <= answer.status < 500
    freed(kedge, 8)


def test_who_says_nothing_any_more(kedge, hosts, stage):
    """Three calls at once, since each is repeated for 64*T1: a callee that hears nothing and says not even 100, so that there is no CANCEL
    (RFC 3261 9.1); one that answers neither INVITE nor CANCEL; a caller that vanishes while it rings, and never sends the ACK of its refusal."""
    def pair(name):
        made = [stage.agent(host, f"{user}-{name}", "pw", (kedge.host.addr, 5060)) for host, user in zip(hosts, ("alice", "bob"))]
        assert all(agent.register().status == 200 for agent in made)
        return made

    calls = []
    for name, status in (("deaf", 0), ("mute", 180)):
        alice, bob = pair(name)
        calls.append((name, bob, *ring(kedge, alice, bob, stage, status)[1:]))
    alice, leaving = pair("leaves")
    call = Dialog(alice, stage.rtp(alice.host))
    threading.Thread(target=call.call, args=(leaving.user,), daemon=True).start()
    invite = leaving.expect("INVITE")
    leaving.reply(invite, 180)
    alice._open = False  # nothing of what comes is read any more
    leaving.reply(leaving.expect("CANCEL", UNANSWERED + 8), 200)
    leaving.reply(invite, 487)
    calls[1][1].expect("CANCEL", UNANSWERED + 8)
    for name, _, result, _ in calls:
        answer = result()
        assert answer is not None and 400 <= answer.status < (600 if name == "deaf" else 500), (name, answer)
    freed(kedge, T1_64 + 8)


def test_early_media_of_forks_that_never_answer(kedge, phones, stage):
    alice, bob, other = phones
    assert other.register().status == 200
    call = Dialog(alice, stage.rtp(alice.host))
    result = background(call.call, "bob", timeout=UNANSWERED + 12)
    invites = [(p, p.expect("INVITE")) for p in (bob, other)]
    for phone, invite in invites:
        phone.reply(invite, 183, Dialog(phone, stage.rtp(phone.host)).body())
    for phone, invite in invites:
        phone.reply(phone.expect("CANCEL", UNANSWERED + 8), 200)
        phone.reply(invite, 487)
    answer = result()
    assert answer is not None and 400 <= answer.status < 500
    freed(kedge, 8)


def test_neither_ack_nor_an_answer_to_bye(kedge, phones, stage):
    """One caller never sends its ACK and reads nothing; in another call the callee does not answer BYE. Both are gone after 64*T1."""
    alice, bob, _ = phones
    first, second = Dialog(alice, stage.rtp(alice.host)), Dialog(alice, stage.rtp(alice.host))
    answered = background(first.call, "bob", ack=False)
    b = Dialog(bob, stage.rtp(bob.host))
    b.answer(bob.expect("INVITE"), ack=False)
    assert answered().status == 200
    answered = background(second.call, "bob")
    c = Dialog(bob, stage.rtp(bob.host))
    while True:
        invite = bob.expect("INVITE")
        if invite.get("call-id") != b.call_id:
            break
    c.answer(invite, ack=False)
    assert answered().status == 200
    assert second.bye().status == 200  # bob never answers the BYE that comes of it
    assert until(lambda: not kedge.calls(), T1_64 + 8, 0.2), f"left over: {kedge.calls()}"
    assert any(m.method == "BYE" for m in bob.log), "the callee was not told that the call without ACK is over"
    assert kedge.stats()["calls"] == 0


def ask_and_leave(alice, body):
    """An INVITE with the right password, whose final response nobody takes."""
    uri, ids = "sip:bob@kedge.test", {"call_id": token(), "from_tag": token()}
    challenge = alice.request("INVITE", uri, body=body, auth=False, **ids).get("proxy-authenticate")
    proof = digest(challenge, alice.user, alice.password, "INVITE", uri)
    alice.transact(alice.build("INVITE", uri, ["Proxy-Authorization: " + proof], body, **ids), 1)


def test_many_at_once(kedge, phones, stage):
    """100 INVITEs that are left ringing: all of them are gone, and the next call works."""
    alice, bob, _ = phones
    before = kedge.stats()
    first = alice.request("INVITE", "sip:bob@kedge.test", auth=False, body=Dialog(alice, stage.rtp(alice.host)).body())
    assert first.status == 407
    threads = [threading.Thread(target=ask_and_leave, args=(alice, Dialog(alice, stage.rtp(alice.host)).body())) for _ in range(100)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    seen = 0
    invites = {}
    while seen < 100:
        request = bob.requests.get(timeout=60)
        if request.method == "INVITE" and request.get("call-id") not in invites:
            invites[request.get("call-id")] = request
            bob.reply(request, 180)
        elif request.method == "CANCEL" and request.get("call-id") in invites:
            bob.reply(request, 200)
            bob.reply(invites[request.get("call-id")], 487)
            seen += 1
    for thread in threads:
        thread.join()
    freed(kedge, T1_64 + 8)
    assert kedge.stats()["calls_failed"] - before["calls_failed"] == 100
    call, b = Dialog(alice, stage.rtp(alice.host)), Dialog(bob, stage.rtp(bob.host))
    while not bob.requests.empty():
        bob.requests.get()
    result = background(call.call, "bob")
    b.answer(bob.expect("INVITE"))
    assert result().status == 200 and call.bye().status == 200
    bob.reply(bob.expect("BYE"), 200)
    freed(kedge, 5)
