"""Transfer: REFER and what follows from it (RFC 3515, 3891, 3892, 5589), message by message. Phones: test_transfer_phones.py."""
import re

import pytest

from interop.agent import Dialog, talk
from interop.hosts import background
from interop.sipcall import escape, hang_up, registered, replaces

USERS = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "three", "elsewhere")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def phones(kedge, hosts, stage):
    """alice, bob and carol, registered."""
    return registered(stage, kedge, hosts[1:], USERS)


def as_own(dialog):
    """The same in a Replaces that comes to it: to-tag is its own."""
    call_id, remote, local = replaces(dialog)
    return f"{call_id};to-tag={local};from-tag={remote}"


def unescape(text):
    return re.sub(r"%(..)", lambda m: chr(int(m.group(1), 16)), text)


def ask(sender, receiver, refer_to, status=202, headers=()):
    """A REFER; returns what the receiver saw and the answer."""
    answer = background(sender.request, "REFER", [f"Refer-To: {refer_to}", f"Contact: {sender.agent.contact}", *headers])
    seen = receiver.agent.expect("REFER")
    receiver.agent.reply(seen, status, headers=[f"Contact: {receiver.agent.contact}"])
    return seen, answer()


def notify(sender, receiver, line, state="active;expires=60", event="refer"):
    """NOTIFY of how it goes; returns what the receiver saw and the answer."""
    answer = background(sender.request, "NOTIFY", [f"Event: {event}", f"Subscription-State: {state}",
                                                   f"Contact: {sender.agent.contact}",
                                                   "Content-Type: message/sipfrag;version=2.0"], f"SIP/2.0 {line}\r\n")
    seen = receiver.agent.expect("NOTIFY")
    receiver.agent.reply(seen, 200)
    return seen, answer()


def test_blind(phones, kedge, stage):
    """alice sends bob on to carol."""
    alice, bob, carol = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    seen, answer = ask(da, db, "<sip:carol@kedge.test>", headers=["Referred-By: <sip:ceo@kedge.test>", "Refer-Sub: true"])
    assert answer.status == 202 and answer.contact().endswith(f"@{kedge.host.addr}:5060")
    [call] = kedge.calls()
    assert "alice transferred the other side (REFER)" in kedge.ctl("explain", call["id"])
    assert f"call {call['id']}: alice asks bob to call carol instead (REFER)" in kedge.log()
    assert seen.get("refer-to") == "<sip:carol@kedge.test>" and seen.get("refer-sub") == "true", seen.headers
    assert seen.get("referred-by") == "<sip:alice@kedge.test>", "who refers is known by password"
    assert alice.ip not in str(seen.headers), "alice's address is no business of bob's"
    seen, answer = notify(db, da, "100 Trying", event="refer;id=" + seen.get("cseq").split()[0])
    assert answer.status == 200 and seen.body == "SIP/2.0 100 Trying\r\n"
    assert seen.get("content-type") == "message/sipfrag;version=2.0" and seen.get("subscription-state") == "active;expires=60"
    assert seen.get("event") == f"refer;id={da.cseq}", "the REFER has another CSeq on each side"
    dc = Dialog(carol, stage.rtp(carol.host))
    new = Dialog(bob, db.rtp)
    placed = background(new.call, "carol", headers=["Referred-By: <sip:alice@kedge.test>"])
    invite = carol.expect("INVITE")
    assert invite.get("referred-by") == "<sip:alice@kedge.test>"
    dc.answer(invite)
    assert placed().status == 200
    seen, answer = notify(db, da, "200 OK", "terminated;reason=noresource")
    assert answer.status == 200 and seen.get("subscription-state") == "terminated;reason=noresource"
    hang_up(da, db)
    assert db.rtp.got(db.rtp.received[-1][0], 400) and dc.rtp.got(ms=400), "bob and carol hear each other"
    hang_up(dc, new)
    kedge.no_calls()


@pytest.mark.parametrize("uri", ("<sip:carol@kedge.test?{0}>", "<sip:carol@{2}:5060;transport=udp?{0}>", "<{1}?{0}>"))
def test_attended(phones, kedge, stage, uri):
    """alice talks to bob and to carol, and leaves them to each other. She may name carol by address, or by the Contact that
    she has of her."""
    alice, bob, carol = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    second, dc = talk(alice, carol, stage.rtp(alice.host), stage.rtp(carol.host))
    call_id, to_tag, from_tag = replaces(second)
    value = "Replaces=" + escape(f"{call_id};to-tag={to_tag};from-tag={from_tag}") + "&Require=replaces&Route=%3Csip%3Aevil%3E"
    seen, answer = ask(da, db, uri.format(value, second.target, kedge.host.addr))
    assert answer.status == 202
    found = re.fullmatch(r"<sip:carol@kedge\.test\?Replaces=([^&]+)&Require=replaces>", seen.get("refer-to"))
    assert found, seen.get("refer-to")
    named = unescape(found.group(1))
    assert named == as_own(dc), "bob has to name carol's dialog"
    new = Dialog(bob, stage.rtp(bob.host))
    placed = background(new.call, "carol", headers=["Replaces: " + named, "Require: replaces", "Supported: replaces"])
    invite = carol.expect("INVITE")
    assert invite.get("replaces") == named and invite.get("require") == "replaces"
    taken = Dialog(carol, stage.rtp(carol.host))
    taken.answer(invite)
    assert placed().status == 200
    hang_up(dc, second)
    assert notify(db, da, "200 OK", "terminated;reason=noresource")[1].status == 200
    hang_up(da, db)
    assert new.rtp.got(ms=400) and taken.rtp.got(ms=400)
    hang_up(new, taken)
    kedge.no_calls()


def test_the_callee_transfers(phones, kedge, stage):
    """bob, whom alice called, sends her to carol, with whom he talks too: he is the one who was called there as well."""
    alice, bob, carol = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    dc, second = talk(carol, bob, stage.rtp(carol.host), stage.rtp(bob.host))
    call_id, to_tag, from_tag = replaces(second)
    seen, answer = ask(db, da, f"<{second.target}?Replaces=" + escape(f"{call_id};to-tag={to_tag};from-tag={from_tag}") + ">")
    assert answer.status == 202
    assert seen.get("refer-to") == f"<sip:carol@kedge.test?Replaces={escape(as_own(dc))}>"


@pytest.mark.parametrize("status,header", ((403, None), (603, None), (420, "Unsupported: tdialog"),
                                           (489, "Allow-Events: dialog")))
def test_refused(phones, kedge, stage, status, header):
    """What the other phone says to REFER is what its sender gets."""
    alice, bob, _ = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    answer = background(da.request, "REFER", ["Refer-To: <sip:carol@kedge.test>"])
    bob.reply(bob.expect("REFER"), status, headers=[header] if header else [])
    answer = answer()
    assert answer.status == status
    if header:
        name, _, value = header.partition(": ")
        assert answer.get(name) == value
    hang_up(da, db)


def test_a_phone_that_moves_is_asked_there(phones, kedge, stage, hosts):
    """It has not answered the REFER where it was."""
    alice, bob, _ = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    answer = background(da.request, "REFER", ["Refer-To: <sip:carol@kedge.test>"])
    first = bob.expect("REFER")
    moved = stage.agent(hosts[4], "bob", "pw-bob", (kedge.host.addr, 5060))
    assert moved.register(contact=bob.contact).status == 200
    again = moved.expect("REFER")
    assert again.cseq == first.cseq and again.get("refer-to") == first.get("refer-to")
    moved.reply(again, 202)
    assert answer().status == 202


@pytest.mark.parametrize("refer_to,status", ((None, 400), ("<http://evil.test/>", 416), ("<sip:carol@kedge.test;method=BYE>", 403),
                                             ("<sip:carol@kedge.test?Replaces=nonsense>", 400),
                                             ("<sip:carol@kedge.test?Subject=%0d%0aEvil%3a%20yes>", 400)))
def test_bad_refer(phones, kedge, stage, refer_to, status):
    alice, bob, _ = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    answer = da.request("REFER", [f"Refer-To: {refer_to}"] if refer_to else [])
    assert answer.status == status
    assert bob.quiet("REFER", 0.2)
    hang_up(da, db)


def test_foreign_replaces(phones, kedge, stage):
    """A dialog that is none of kedge's passes as it is."""
    alice, bob, _ = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    seen, answer = ask(da, db, "<sip:carol@kedge.test?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2%3Bearly-only>")
    assert answer.status == 202
    assert seen.get("refer-to") == "<sip:carol@kedge.test?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2%3Bearly-only>"


def test_message_in_a_call(phones, kedge, stage):
    """RFC 3428 7: in the dialog; body and type untouched, both ways, and the answer's too."""
    alice, bob, _ = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    for sender, receiver in ((da, db), (db, da)):
        answer = background(sender.request, "MESSAGE", ["Content-Type: text/plain;charset=utf-8", "Content-Language: de"], "Grüße\r\n")
        seen = receiver.agent.expect("MESSAGE")
        receiver.agent.reply(seen, 200, "ok", ["Content-Type: text/x-answer"])
        answer = answer()
        assert seen.body == "Grüße\r\n" and seen.get("content-type") == "text/plain;charset=utf-8"
        assert seen.get("content-language") == "de" and not seen.get("contact")
        assert answer.status == 200 and answer.body == "ok" and answer.get("content-type") == "text/x-answer"
    assert da.request("MESSAGE", ["Content-Type: text/plain"], "x" * 9000).status == 413
    hang_up(da, db)


def test_supported_replaces_passes(phones, kedge, stage):
    """Whether a dialog can be replaced is for the phone at its end to say."""
    alice, bob, _ = phones
    for said in ("replaces", ""):
        da, db = Dialog(alice, stage.rtp(alice.host)), Dialog(bob, stage.rtp(bob.host))
        placed = background(da.call, "bob", headers=["Supported: " + said] if said else [])
        invite = bob.expect("INVITE")
        assert ("replaces" in invite.get("supported")) == bool(said)
        db.answer(invite, headers=["Supported: " + said] if said else [])
        assert ("replaces" in placed().get("supported")) == bool(said)
        hang_up(da, db)


def test_caps_hold_for_transfers(hosts, stage):
    """Who may not call a number may not have it called; names of the house are no numbers."""
    kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS}, config={"caps": [{"user": "alice", "allow": ["+49"]}]})
    alice, bob = (stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS[:2]))
    assert alice.register().status == 200 and bob.register().status == 200
    da, db = talk(bob, alice, stage.rtp(bob.host), stage.rtp(alice.host))
    da, db = db, da
    for target in ("<sip:+1900123@kedge.test>", "<tel:+1-900-123>", "<sip:%2B1900123@elsewhere.test>"):
        answer = da.request("REFER", ["Refer-To: " + target])
        assert answer is not None and answer.status == 403, target
        assert bob.quiet("REFER", 0.1)
    for target in ("<sip:carol@kedge.test>", "<tel:+49-30-123>"):
        assert ask(da, db, target)[1].status == 202
    assert ask(db, da, "<sip:+1900123@kedge.test>")[1].status == 202, "bob has no cap"
    hang_up(da, db)


LONG = "x" * 6000


@pytest.mark.parametrize("lines", (
    ["Refer-To: "], ["Refer-To: <>"], ["Refer-To: <sip:>"], ["Refer-To: sip:carol@kedge.test?Replaces="],
    ["Refer-To: <sip:carol@kedge.test?Replaces=%00%0d%0aEvil: yes>"], ["Refer-To: <sip:carol@kedge.test?%52eplaces=a%3bto-tag%3d1>"],
    ["Refer-To: <sip:carol@kedge.test?Replaces=a%3bto-tag%3d1%3bfrom-tag%3d2&Replaces=b%3bto-tag%3d1%3bfrom-tag%3d2>"],
    ["Refer-To: <sip:carol@kedge.test?&&==&=x&Require>"], ["Refer-To: <sip:carol@kedge.test?Subject=%0d%0aEvil%3a%20yes>"],
    ["Refer-To: <sip:" + LONG + "@kedge.test>"], ["Refer-To: <sip:carol@kedge.test?Subject=" + LONG + ">"],
    ["Refer-To: <sip:carol@kedge.test>", "Refer-To: <sip:bob@kedge.test>"], ["Refer-To: <sip:carol@kedge.test;method=INVITE%20BYE>"],
    ["Refer-To: <sip:carol@[::1>"], ["Refer-To: \"%n%s\" <sip:carol@kedge.test>"], ["Refer-To: <tel:>"], ["Refer-To: <urn:service:sos>"],
    ["Refer-To: <sip:carol@kedge.test>", "Target-Dialog: ;;;"], ["Refer-To: <sip:carol@kedge.test>", "Target-Dialog: a;local-tag=1;remote-tag=2"],
    ["Refer-To: <sip:carol@kedge.test>", "Join: " + LONG], ["Refer-To: <sip:carol@kedge.test>", "Referred-By: <sip:\x01@x>"],
    ["Refer-To: <sip:carol@kedge.test>", "Event: refer;id=" + "9" * 300]), ids=range(22))
def test_nonsense(phones, kedge, stage, lines):
    """Refused, or passed in a form that is none; nothing of it becomes a header, and the call goes on."""
    alice, bob, _ = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    answer = background(da.request, "REFER", lines, timeout=8)
    seen = bob.expect_unless("REFER", answer)
    if seen:
        bob.reply(seen, 202)
        assert not seen.get("evil") and "\r" not in seen.get("refer-to")
    answer()
    hang_up(da, db)
    kedge.alive()
    kedge.no_calls()
