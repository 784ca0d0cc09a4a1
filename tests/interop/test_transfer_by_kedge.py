"""Transfers that kedge carries out, since the side that is sent on takes no REFER (RFC 3515, 5589): what each of the three sees and hears."""
import time

import pytest

from interop.agent import Dialog, talk
from interop.hosts import background, until
from interop.sipcall import escape, registered, replaces

USERS = ("alice", "bob", "carol")
REFUSES = "Allow: INVITE, ACK, CANCEL, BYE"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "three")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS}, config={"caps": [{"user": "alice", "deny": ["0900"]}]})


@pytest.fixture
def phones(kedge, hosts, stage):
    return registered(stage, kedge, hosts[1:], USERS)


@pytest.fixture
def call(phones, stage):
    """alice in a call with bob, who takes no REFER; caller says who called whom."""
    def make(caller="alice"):
        alice, bob, _ = phones
        da, db = Dialog(alice, stage.rtp(alice.host)), Dialog(bob, stage.rtp(bob.host))
        first, second = (da, db) if caller == "alice" else (db, da)
        placed = background(first.call, second.agent.user, headers=[REFUSES] if first is db else [])
        second.answer(second.agent.expect("INVITE"), headers=[REFUSES] if second is db else [])
        assert placed().status == 200
        return da, db
    return make


def told(dialog):
    """The next NOTIFY: its body and state."""
    seen = dialog.agent.expect("NOTIFY")
    dialog.agent.reply(seen, 200)
    assert seen.get("content-type").startswith("message/sipfrag") and seen.get("event").startswith("refer") and seen.get("contact")
    return seen.body.strip(), seen.get("subscription-state")


def bye(dialog):
    request = dialog.agent.expect("BYE")
    dialog.agent.reply(request, 200)
    return request


@pytest.mark.parametrize("caller", ("alice", "bob"))
def test_blind(kedge, phones, call, stage, caller):
    """carol rings with bob's name; bob is given a new session with her; alice is told, and hung up on."""
    _, bob, carol = phones
    da, db = call(caller)
    answer = da.request("REFER", ["Refer-To: <sip:carol@kedge.test>", "Contact: " + da.agent.contact])
    assert answer.status == 202 and bob.quiet("REFER", 0.1)
    assert told(da) == ("SIP/2.0 100 Trying", "active;expires=180")
    invite = carol.expect("INVITE")
    assert invite.get("from").startswith("<sip:bob@") and invite.get("referred-by") == "<sip:alice@kedge.test>"
    assert bob.ip not in invite.body and da.agent.ip not in str(invite.headers)
    carol.reply(invite, 180)
    dc = Dialog(carol, stage.rtp(carol.host))
    answered = background(dc.answer, invite)
    again = bob.expect("INVITE")
    db.answer(again)
    answered()
    assert told(da) == ("SIP/2.0 200 OK", "terminated;reason=noresource")
    bye(da)
    since = time.monotonic()
    assert dc.rtp.got(since, 400) and db.rtp.got(since, 400), "bob and carol hear each other"
    assert until(lambda: len(kedge.calls()) == 1)
    assert "bob called carol" in kedge.ctl("explain", kedge.calls()[0]["id"])
    closed = background(db.bye)
    bye(dc)
    assert closed().status == 200
    kedge.no_calls()


def test_blind_and_gone(kedge, phones, call, stage):
    """alice hangs up at once, as many phones do: bob waits for carol."""
    _, bob, carol = phones
    da, db = call()
    assert da.request("REFER", ["Refer-To: <sip:carol@kedge.test>", "Refer-Sub: false"]).status == 202
    assert da.bye().status == 200 and bob.quiet("BYE", 0.3) and da.agent.quiet("NOTIFY", 0.1)
    dc = Dialog(carol, stage.rtp(carol.host))
    answered = background(dc.answer, carol.expect("INVITE"))
    db.answer(bob.expect("INVITE"))
    answered()
    assert dc.rtp.got(ms=400) and db.rtp.got(time.monotonic(), 400)
    closed = background(dc.bye)
    bye(db)
    assert closed().status == 200
    kedge.no_calls()


@pytest.mark.parametrize("gone", (False, True))
def test_the_target_declines(kedge, phones, call, gone):
    """alice has bob again; if she has hung up, he is hung up on."""
    _, bob, carol = phones
    da, db = call()
    assert da.request("REFER", ["Refer-To: <sip:carol@kedge.test>"]).status == 202
    told(da)
    if gone:
        assert da.bye().status == 200
    carol.reply(carol.expect("INVITE"), 603)
    if gone:
        assert "transfer failed" in bye(db).get("reason")
    else:
        assert told(da) == ("SIP/2.0 603 Decline", "terminated;reason=noresource")
        since = time.monotonic()
        assert da.rtp.got(since, 300) and db.rtp.got(since, 300)
        closed = background(da.bye)
        bye(db)
        assert closed().status == 200
    kedge.no_calls()


def test_who_is_sent_on_hangs_up(kedge, phones, call):
    """carol stops ringing."""
    _, bob, carol = phones
    da, db = call()
    assert da.request("REFER", ["Refer-To: <sip:carol@kedge.test>"]).status == 202
    told(da)
    invite = carol.expect("INVITE")
    carol.reply(invite, 180)
    closed = background(db.bye)
    bye(da)
    assert closed().status == 200
    carol.reply(carol.expect("CANCEL"), 200)
    carol.reply(invite, 487)
    kedge.no_calls()


def refer_to(dialog):
    """Refer-To that names the other end of a call by the Contact that kedge gave."""
    call_id, to_tag, from_tag = replaces(dialog)
    return f"Refer-To: <{dialog.target}?Replaces={escape(f'{call_id};to-tag={to_tag};from-tag={from_tag}')}>"


def hold(dialog, other):
    answer = background(dialog.reinvite, direction="sendonly")
    other.answer(other.agent.expect("INVITE"), direction="recvonly")
    assert answer().status == 200


@pytest.mark.parametrize("held", (False, True))
@pytest.mark.parametrize("caller", ("alice", "carol"))
def test_attended(kedge, phones, call, stage, caller, held):
    """alice talks to carol as well, whoever called: bob takes her place there, and nobody rings. Both hear each other also if alice
    had put them on hold."""
    alice, bob, carol = phones
    da, db = call()
    if caller == "alice":
        second, dc = talk(alice, carol, stage.rtp(alice.host), stage.rtp(carol.host))
    else:
        dc, second = talk(carol, alice, stage.rtp(carol.host), stage.rtp(alice.host))
    if held:
        hold(da, db)
        hold(second, dc)
    assert da.request("REFER", [refer_to(second)]).status == 202
    assert told(da) == ("SIP/2.0 200 OK", "terminated;reason=noresource")
    offered = bob.expect("INVITE")
    assert not any(word in offered.body for word in ("sendonly", "recvonly", "inactive")) and carol.ip not in offered.body
    db.answer(offered)
    offered = carol.expect("INVITE")
    assert not offered.get("replaces") and offered.get("call-id") == dc.call_id and bob.ip not in offered.body
    dc.answer(offered)
    assert {bye(d).get("call-id") for d in (da, second)} == {da.call_id, second.call_id}
    since = time.monotonic()
    assert dc.rtp.got(since, 400) and db.rtp.got(since, 400), "bob and carol hear each other"
    assert until(lambda: len(kedge.calls()) == 1)
    users = {leg["user"] for leg in kedge.calls()[0]["legs"]}
    assert users == {"bob", "carol"}
    answer = background(dc.request, "INFO", ["Content-Type: application/dtmf-relay"], "Signal=1\r\n")
    bob.reply(bob.expect("INFO"), 200)
    assert answer().status == 200
    closed = background(dc.bye)
    bye(db)
    assert closed().status == 200
    kedge.no_calls()


def test_attended_and_refused(kedge, phones, call, stage):
    """bob does not take the new session: all of it ends, nobody is left in a dead call."""
    alice, bob, carol = phones
    da, db = call()
    second, dc = talk(alice, carol, stage.rtp(alice.host), stage.rtp(carol.host))
    assert da.request("REFER", [refer_to(second)]).status == 202
    bob.reply(bob.expect("INVITE"), 488)
    for dialog in (da, second, dc, db):
        if dialog in (da,):
            told(dialog)
        bye(dialog)
    kedge.no_calls()


def test_attended_with_somebody_elses_call(kedge, phones, call, stage):
    """The dialog of another phone's call can be named, but not taken: carol is asked as by any INVITE with Replaces."""
    alice, bob, carol = phones
    da, db = call()
    fake = "x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2"
    assert da.request("REFER", [f"Refer-To: <sip:carol@kedge.test?Replaces={fake}>"]).status == 202
    told(da)
    invite = carol.expect("INVITE")
    assert invite.get("replaces") == "x@y;to-tag=1;from-tag=2"
    carol.reply(invite, 481)
    assert told(da)[0].split()[1] in ("481", "500")
    closed = background(da.bye)
    bye(db)
    assert closed().status == 200
    kedge.no_calls()


def test_a_phone_that_says_405_only_then(kedge, phones, stage):
    """Its Allow names REFER, or nothing: kedge learns by its answer."""
    alice, bob, carol = phones
    da, db = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    answer = background(da.request, "REFER", ["Refer-To: <sip:carol@kedge.test>"])
    bob.reply(bob.expect("REFER"), 405, headers=[REFUSES])
    assert answer().status == 202
    told(da)
    dc = Dialog(carol, stage.rtp(carol.host))
    answered = background(dc.answer, carol.expect("INVITE"))
    db.answer(bob.expect("INVITE"))
    answered()
    told(da)
    bye(da)
    assert dc.rtp.got(ms=400) and db.rtp.got(time.monotonic(), 400)
    closed = background(db.bye)
    bye(dc)
    assert closed().status == 200
    kedge.no_calls()


@pytest.mark.parametrize("target,status", (("sip:nobody@kedge.test", 404), ("sip:0900123@kedge.test", 403), ("sip:carol@elsewhere.test", 403),
                                           ("sip:carol@kedge.test?Join=a%3bto-tag%3d1%3bfrom-tag%3d2", 501)))
def test_refused(kedge, phones, call, target, status):
    """As if alice had called there herself."""
    da, db = call()
    assert da.request("REFER", [f"Refer-To: <{target}>"]).status == status
    closed = background(da.bye)
    bye(db)
    assert closed().status == 200
    kedge.no_calls()


def test_two_at_once(kedge, phones, call):
    da, db = call()
    assert da.request("REFER", ["Refer-To: <sip:carol@kedge.test>"]).status == 202
    told(da)
    assert da.request("REFER", ["Refer-To: <sip:carol@kedge.test>"]).status == 491
    phones[2].reply(phones[2].expect("INVITE"), 486)
    assert told(da)[0] == "SIP/2.0 486 Busy Here"
    answer = da.request("REFER", ["Refer-To: <sip:carol@kedge.test>"])
    assert answer.status == 202
    seen = da.agent.expect("NOTIFY")
    assert seen.get("event") == f"refer;id={da.cseq}", "RFC 3515 2.4.6: not the first one"
    da.agent.reply(seen, 200)
    phones[2].reply(phones[2].expect("INVITE"), 486)
    told(da)
    closed = background(da.bye)
    bye(db)
    assert closed().status == 200
    kedge.no_calls()


@pytest.fixture
def office(hosts, stage):
    """Two phones and a carrier, whose side is never asked to transfer."""
    carrier = stage.agent(hosts[3], "carrier", server=(hosts[0].addr, 5060), domain="carrier.test", port=5060)
    kedge = stage.kedge(hosts[0], name="office", accounts={"1001": "pw-1001", "1002": "pw-1002"},
                        config={"trunks": [{"name": "carrier", "server": f"udp:{carrier.ip}:5060", "register": False, "probe": 0,
                                            "domain": "carrier.test"}],
                                "routes": [{"from": "phone", "number": "0*", "to": "carrier"}],
                                "caps": [{"user": "1002", "deny": ["0900"]}]})
    phones = [stage.agent(hosts[i + 1], user, "pw-" + user, (kedge.host.addr, 5060)) for i, user in enumerate(("1001", "1002"))]
    assert all(phone.register().status == 200 for phone in phones)
    return kedge, carrier, *phones


@pytest.mark.parametrize("target", ("sip:1002@kedge.test", "sip:1002@{0}", "sip:1002@{0}:5060;transport=udp"))
def test_a_caller_from_outside_is_sent_on(office, stage, target):
    """The commonest transfer of all: the front desk passes a caller to a colleague. A REFER of the carrier's own is refused."""
    kedge, carrier, desk, colleague = office
    dc, dd = Dialog(carrier, stage.rtp(carrier.host)), Dialog(desk, stage.rtp(desk.host))
    placed = background(dc.call, "1001")
    dd.answer(desk.expect("INVITE"))
    assert placed().status == 200
    assert dc.request("REFER", ["Refer-To: <sip:0900123@kedge.test>"]).status == 403
    assert desk.quiet("REFER", 0.1)
    assert dd.request("REFER", [f"Refer-To: <{target.format(kedge.host.addr)}>"]).status == 202
    assert carrier.quiet("REFER", 0.1)
    told(dd)
    new = Dialog(colleague, stage.rtp(colleague.host))
    invite = colleague.expect("INVITE")
    assert invite.get("from").startswith("<sip:carrier@")
    answered = background(new.answer, invite)
    dc.answer(carrier.expect("INVITE"))
    answered()
    assert told(dd)[0] == "SIP/2.0 200 OK"
    bye(dd)
    since = time.monotonic()
    assert dc.rtp.got(since, 400) and new.rtp.got(since, 400)
    closed = background(new.bye)
    bye(dc)
    assert closed().status == 200
    kedge.no_calls()


def test_a_colleague_is_sent_outside(office, stage):
    """On the account of who refers: its caps, its number toward the carrier."""
    kedge, carrier, desk, colleague = office
    dd, dc = Dialog(desk, stage.rtp(desk.host)), Dialog(colleague, stage.rtp(colleague.host))
    placed = background(dd.call, "1002")
    dc.answer(colleague.expect("INVITE"), headers=[REFUSES])
    assert placed().status == 200
    assert dd.request("REFER", ["Refer-To: <sip:030123@kedge.test>"]).status == 202
    told(dd)
    out = Dialog(carrier, stage.rtp(carrier.host))
    invite = carrier.expect("INVITE")
    assert invite.uri.startswith("sip:030123@") and invite.get("from").startswith("<sip:1001@"), invite.get("from")
    answered = background(out.answer, invite)
    dc.answer(colleague.expect("INVITE"))
    answered()
    assert told(dd)[0] == "SIP/2.0 200 OK"
    bye(dd)
    since = time.monotonic()
    assert out.rtp.got(since, 400) and dc.rtp.got(since, 400)
    closed = background(out.bye)
    bye(dc)
    assert closed().status == 200
    kedge.no_calls()


def test_two_callers_from_outside_are_joined(office, stage):
    """Neither of them knows Replaces."""
    kedge, carrier, desk, _ = office
    ends = []
    for _ in range(2):
        outside, inside = Dialog(carrier, stage.rtp(carrier.host)), Dialog(desk, stage.rtp(desk.host))
        placed = background(outside.call, "1001")
        inside.answer(desk.expect("INVITE"))
        assert placed().status == 200
        ends.append((outside, inside))
    (one, first), (other, second) = ends
    assert first.request("REFER", [refer_to(second)]).status == 202
    assert told(first)[0] == "SIP/2.0 200 OK"
    one.answer(carrier.expect("INVITE"))
    other.answer(carrier.expect("INVITE"))
    bye(first)
    bye(second)
    since = time.monotonic()
    assert one.rtp.got(since, 400) and other.rtp.got(since, 400)
    closed = background(one.bye)
    bye(other)
    assert closed().status == 200
    kedge.no_calls()
