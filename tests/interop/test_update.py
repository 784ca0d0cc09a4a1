"""UPDATE (RFC 3311) and what kedge answers alone: which peer hears of an offer, in which method, and what happens when two meet."""
import re

import pytest

from interop.agent import Dialog, sdp
from interop.hosts import background, until
from interop.sipcall import dialogs, hang_up, registered

USERS = ("alice", "bob")
KNOWS = ["Allow: INVITE, ACK, CANCEL, BYE, UPDATE"]


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def in_talk(kedge, hosts, stage):
    """alice and bob in a call. a, b: headers of their INVITE and 200; body_a, body_b: their SDP."""
    def make(a=(), b=(), body_a=None, body_b=None):
        agents = registered(stage, kedge, hosts[1:], USERS)
        da, db = dialogs(stage, agents)
        call = background(da.call, "bob", headers=list(a), body=body_a and body_a(da))
        db.answer(agents[1].expect("INVITE"), headers=b, body=body_b and body_b(db))
        assert call().status == 200
        return da, db
    return make


def serve(dialog, method, status=200, **kw):
    """Answers the next request of the method on the dialog's side; returns it."""
    request = dialog.agent.expect(method)
    dialog.agent.reply(request, status, dialog.body(**kw) if status == 200 else "")
    return request


@pytest.mark.parametrize("sender", (0, 1))
def test_update_passes_as_update(in_talk, kedge, sender):
    ends = in_talk(KNOWS, KNOWS)
    here, there = ends[sender], ends[1 - sender]
    answer = background(here.update, direction="sendonly")
    seen = serve(there, "UPDATE", direction="recvonly")
    assert "a=sendonly" in seen.body and here.agent.ip not in seen.body
    assert seen.get("contact") and "UPDATE" in seen.get("allow")
    assert answer().status == 200 and "a=recvonly" in answer().body and there.agent.ip not in answer().body
    assert answer().get("contact") and "UPDATE" in answer().get("allow")
    assert there.agent.quiet("ACK", 0.3), "there is no ACK after UPDATE"
    hang_up(here, there, kedge)


def test_update_passes_as_reinvite_to_a_peer_without_update(in_talk, kedge):
    da, db = in_talk(KNOWS, ["Allow: INVITE, ACK, CANCEL, BYE"])
    answer = background(da.update, direction="sendonly")
    assert "a=sendonly" in serve(db, "INVITE", direction="recvonly").body
    assert answer().status == 200 and "a=recvonly" in answer().body
    db.agent.expect("ACK")
    hang_up(da, db, kedge)


def test_update_that_takes_a_person(in_talk, kedge):
    """RFC 3311 5.2: as a re-INVITE it may ring, but its sender is told 504 before it gives up, and the call is as it was."""
    da, db = in_talk(KNOWS, ["Allow: INVITE, ACK, CANCEL, BYE"])
    answer = background(da.update, direction="sendonly", timeout=60)
    request = db.agent.expect("INVITE")
    db.agent.reply(request, 180)
    cancel = db.agent.expect("CANCEL", 50)
    db.agent.reply(cancel, 200)
    db.agent.reply(request, 487)
    assert answer().status == 504
    again = background(db.reinvite)
    assert "a=sendrecv" in serve(da, "INVITE").body
    assert again().status == 200
    hang_up(da, db, kedge)


def test_update_is_tried_as_reinvite_when_it_is_refused(in_talk, kedge):
    """A phone that announced UPDATE and then answers 501."""
    da, db = in_talk(KNOWS, KNOWS)
    answer = background(da.update)
    serve(db, "UPDATE", 501)
    serve(db, "INVITE")
    db.agent.expect("ACK")
    assert answer().status == 200
    hang_up(db, da, kedge)


def test_refused_update_leaves_the_call_as_it_was(in_talk, kedge):
    da, db = in_talk(KNOWS, KNOWS)
    answer = background(da.update, codecs=(9,))
    serve(db, "UPDATE", 488)
    assert answer().status == 488
    again = background(da.update, direction="sendonly")
    serve(db, "UPDATE", direction="recvonly")
    assert again().status == 200
    hang_up(da, db, kedge)


def test_update_without_sdp_moves_the_target(in_talk, kedge):
    da, db = in_talk(KNOWS, KNOWS)
    answer = da.request("UPDATE")
    assert answer.status == 200 and answer.get("contact") and not answer.body
    assert db.agent.quiet("UPDATE", 0.3)
    bye = background(db.bye)
    request = da.agent.expect("BYE")
    assert da.agent.contact.strip("<>").partition(";")[0] in request.uri
    da.agent.reply(request, 200)
    assert bye().status == 200
    kedge.no_calls()


def test_an_update_that_is_no_offer(in_talk, kedge):
    """Its body would get lost, since kedge answers an UPDATE without an offer by itself. A body with an INVITE passes: test_bodies.py."""
    da, db = in_talk(KNOWS, KNOWS)
    answer = da.request("UPDATE", ["Content-Type: text/plain"], "hello")
    assert answer.status == 415 and answer.get("accept") == "application/sdp"
    broken = da.update(body="v=0\r\nnonsense\r\n")
    assert broken.status == 488 and broken.get("warning")
    assert db.agent.quiet("UPDATE", 0.3) and db.agent.quiet("INVITE", 0.1)
    hang_up(da, db, kedge)


def test_a_large_invite_goes_by_udp_all_the_same(in_talk, kedge):
    """RFC 3261 18.1.1 wants TCP, which a phone behind a NAT takes from nobody; the log says so, and how large it was."""
    extra = "".join(f"a=x-long:{i:0100d}\r\n" for i in range(8))
    da, db = in_talk((), (), body_a=lambda dialog: dialog.body(extra=extra))
    said = re.search(r"the INVITE to bob has about (\d+) bytes and goes by UDP all the same", kedge.log())
    assert said and abs(int(said.group(1)) - db.invite.size) < 30, (said and said.group(0), db.invite.size)
    hang_up(da, db, kedge)


def test_updates_from_both_sides_at_once(in_talk, kedge):
    """RFC 3311 5.2: 491 for the one that met ours, 500 for a second one of the same side."""
    da, db = in_talk(KNOWS, KNOWS)
    first = background(da.update)
    request = db.agent.expect("UPDATE")
    assert db.update().status == 491
    second = da.update()
    assert second.status == 500 and second.get("retry-after")
    assert da.reinvite().status == 500
    db.agent.reply(request, 200, db.body())
    assert first().status == 200
    again = background(db.update)
    serve(da, "UPDATE")
    assert again().status == 200
    hang_up(da, db, kedge)


def test_update_before_the_answer_is_turned_away(kedge, hosts, stage):
    """Offers in early dialogs need reliable provisional responses, which kedge does not have yet."""
    a, b = (stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS))
    assert a.register().status == 200 and b.register().status == 200
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    provisional = []
    call = background(da.call, "bob", headers=KNOWS, provisional=provisional)
    invite = b.expect("INVITE")
    b.reply(invite, 180)
    assert until(lambda: any(r.status == 180 for r in provisional))
    ringing = next(r for r in provisional if r.status == 180)
    early = Dialog(a, da.rtp)
    early.call_id, early.local, early.remote, early.target = da.call_id, ringing.get("from"), ringing.get("to"), ringing.contact()
    early.cseq = ringing.cseq[0] + 1
    answer = early.update()
    assert answer.status == 500 and answer.get("retry-after")
    callee = Dialog(b, db.rtp)
    callee.call_id, callee.target = invite.get("call-id"), invite.contact()
    callee.local, callee.remote = invite.get("to") + ";tag=" + invite.our_tag, invite.get("from")
    assert callee.update().status == 491
    db.answer(invite)
    assert call().status == 200
    hang_up(db, da, kedge)


# Offers that kedge answers alone

ICE = "a=ice-ufrag:{0}\r\na=ice-pwd:{0}0123456789012345678901\r\na=candidate:1 1 UDP 2130706431 {1} {2} typ host\r\n" \
      "a=candidate:1 2 UDP 2130706430 {1} {3} typ host\r\n"


def ice_body(dialog, ufrag, port=None, **kw):
    port = port or dialog.rtp.port
    dialog.version += 1
    return sdp(dialog.rtp.ip, port, version=dialog.version, extra=ICE.format(ufrag, dialog.rtp.ip, port, port + 1), **kw)


def ufrag(message):
    found = re.search(r"^a=ice-ufrag:(\S+)", message.body, re.M)
    return found.group(1) if found else ""


@pytest.mark.parametrize("method", ("update", "reinvite"))
@pytest.mark.parametrize("side", (0, 1))
def test_a_restart_is_absorbed_on_an_anchored_leg(in_talk, kedge, method, side):
    """One side does ICE with kedge, the other has none: new credentials and a new address reach nobody else."""
    bodies = [None, None]
    bodies[side] = lambda dialog: ice_body(dialog, "aaaa")
    ends = in_talk(KNOWS, KNOWS, *bodies)
    here, there = ends[side], ends[1 - side]
    before = ufrag(here.ok if side == 0 else here.invite)
    assert before, "kedge does ICE with a phone that does"
    heard = len(there.agent.log)
    answer = getattr(here, method)(body=ice_body(here, "bbbb", here.rtp.port + 2))
    assert answer.status == 200
    assert ufrag(answer) not in ("", before), "a restart is answered with new credentials (RFC 8839 4.4.1.1.1)"
    assert there.agent.quiet("UPDATE", 0.5) and there.agent.quiet("INVITE", 0.1) and len(there.agent.log) == heard
    # what says more than that still passes
    hold = background(getattr(here, method), body=ice_body(here, "bbbb", here.rtp.port + 2, direction="sendonly"))
    seen = serve(there, "UPDATE" if method == "update" else "INVITE", direction="recvonly")
    assert "a=sendonly" in seen.body and "ice-ufrag" not in seen.body
    assert hold().status == 200
    if method == "reinvite":
        there.agent.expect("ACK")
    hang_up(here, there, kedge)
