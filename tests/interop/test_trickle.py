"""Candidates in INFO (RFC 8840): who is sent them, in which dialog, and which INFO is refused."""

import pytest

from interop.agent import Dialog, sdp
from interop.hosts import background, until
from interop.sipcall import hang_up

USERS = ("alice", "bob")
TRICKLES = ["Supported: trickle-ice", "Recv-Info: trickle-ice"]
TRICKLE = "a=ice-options:trickle\r\n"
PACKAGE = ["Info-Package: trickle-ice", "Content-Disposition: Info-Package", "Content-Type: application/trickle-ice-sdpfrag"]


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})


def password(ufrag):
    return ufrag + "0123456789012345678901"


def body(dialog, ufrag, options=TRICKLE):
    """A description with ICE, a host candidate for RTP and RTCP."""
    ip, port = dialog.rtp.ip, dialog.rtp.port
    dialog.version += 1
    return sdp(ip, port, version=dialog.version, extra=(
        f"a=mid:0\r\n{options}a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password(ufrag)}\r\n"
        f"a=candidate:1 1 UDP 2130706431 {ip} {port} typ host\r\na=candidate:1 2 UDP 2130706430 {ip} {port + 1} typ host\r\n"))


def fragment(dialog, ufrag, address="203.0.113.77", port=7000):
    """What an INFO carries: one more candidate, and that it was the last."""
    return (f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password(ufrag)}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
            f"a=candidate:2 1 UDP 1694498815 {address} {port} typ srflx raddr {dialog.rtp.ip} rport {dialog.rtp.port}\r\n"
            "a=end-of-candidates\r\n")


@pytest.fixture
def ringing(kedge, hosts, stage):
    """alice calls bob, whose phone rings. Returns both dialogs (in the early state) and what ends the call's setup."""
    def make(ice=True, a=TRICKLES, b=TRICKLES, options=TRICKLE):
        agents = [stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS)]
        assert all(agent.register().status == 200 for agent in agents)
        da, db = (Dialog(agent, stage.rtp(agent.host)) for agent in agents)
        provisional = []
        call = background(da.call, "bob", headers=list(a), provisional=provisional, body=body(da, "aaaa") if ice else None)
        invite = agents[1].expect("INVITE")
        answer = body(db, "bbbb", options) if ice else db.body()
        agents[1].reply(invite, 183, answer, headers=b)
        assert until(lambda: any(r.status == 183 for r in provisional))
        first = next(r for r in provisional if r.status == 183)
        da.local, da.remote, da.target, da.cseq = first.get("from"), first.get("to"), first.contact(), first.cseq[0]
        db.call_id, db.target, db.remote = invite.get("call-id"), invite.contact(), invite.get("from")
        db.local = invite.get("to") + ";tag=" + invite.our_tag
        da.first, db.invite = first, invite

        def pick_up():
            next_cseq = da.cseq
            agents[1].reply(invite, 200, answer, headers=b)
            agents[1].expect("ACK")
            assert call().status == 200
            da.cseq = max(da.cseq, next_cseq) + 1
        return da, db, pick_up
    return make


def passes(here, there, ufrag):
    """An INFO of one side arrives at the other in its dialog, with its candidate; the 200 comes back."""
    answer = background(here.request, "INFO", PACKAGE, fragment(here, ufrag))
    seen = there.agent.expect("INFO")
    assert seen.get("info-package") == "trickle-ice" and "trickle-ice-sdpfrag" in seen.get("content-type")
    assert "203.0.113.77 7000" in seen.body and f"a=ice-ufrag:{ufrag}" in seen.body
    assert seen.tag("to") and seen.tag("to") in there.local and seen.tag("from") in there.remote
    assert seen.get("call-id") == there.call_id and there.agent.contact.strip("<>").partition(";")[0] in seen.uri
    there.agent.reply(seen, 200)
    assert answer() is not None and answer().status == 200
    return seen


def test_trickle_is_announced(ringing, kedge):
    da, db, pick_up = ringing()
    for message in (db.invite, da.first):
        assert "trickle-ice" in message.get("supported") and message.get("recv-info") == "trickle-ice"
    pick_up()
    hang_up(da, db, kedge)


@pytest.mark.parametrize("headers", (TRICKLES, ()), ids=("headers", "ice-options"))
def test_candidates_pass_between_phones_that_are_steered(ringing, kedge, headers):
    """That a phone takes them is said by headers or by its SDP."""
    da, db, pick_up = ringing(a=headers, b=headers)
    passes(da, db, "aaaa")
    passes(db, da, "bbbb")
    pick_up()
    passes(da, db, "aaaa")
    passes(db, da, "bbbb")
    hang_up(db, da, kedge)


def test_candidates_stay_with_kedge_when_the_other_phone_takes_none(ringing, kedge):
    """It said nothing of trickle: half trickle toward it (RFC 8838 16)."""
    da, db, pick_up = ringing(b=(), options="")
    pick_up()
    assert da.request("INFO", PACKAGE, fragment(da, "aaaa")).status == 200
    assert db.agent.quiet("INFO", 0.5)
    hang_up(da, db, kedge)


def test_candidates_of_the_caller_reach_all_phones_that_ring(hosts, kedge, stage):
    """Each in its own early dialog; not the one that takes none. After the answer, the one that answered."""
    alice, *bobs = (stage.agent(hosts[1 if i == 0 else 2], "bob" if i else "alice", f"pw-{'bob' if i else 'alice'}",
                                (kedge.host.addr, 5060)) for i in range(4))
    assert all(agent.register().status == 200 for agent in (alice, *bobs))
    da, *ends = (Dialog(agent, stage.rtp(agent.host)) for agent in (alice, *bobs))
    provisional = []
    call = background(da.call, "bob", headers=TRICKLES, provisional=provisional, body=body(da, "aaaa"))
    invites = [agent.expect("INVITE") for agent in bobs]
    for i, agent in enumerate(bobs):
        agent.reply(invites[i], 180, headers=TRICKLES if i < 2 else (), tag=f"bob{i}")
    assert until(lambda: [r for r in provisional if r.status == 180])
    first = next(r for r in provisional if r.status == 180)
    da.local, da.remote, da.target, da.cseq = first.get("from"), first.get("to"), first.contact(), first.cseq[0]
    answer = background(da.request, "INFO", PACKAGE, fragment(da, "aaaa"))
    for i, agent in enumerate(bobs[:2]):
        seen = agent.expect("INFO")
        assert "203.0.113.77 7000" in seen.body and seen.tag("to") == f"bob{i}" and seen.get("call-id") == invites[i].get("call-id")
        assert seen.uri == agent.contact.strip("<>")
        agent.reply(seen, 200)
    assert answer().status == 200 and bobs[2].quiet("INFO", 0.3)
    sure = [x for x in bobs if x is not bobs[1]]
    bobs[1].reply(invites[1], 200, body(ends[1], "bbbb"), headers=TRICKLES)
    for agent, invite in zip(sure, (invites[0], invites[2])):
        agent.reply(agent.expect("CANCEL"), 200)
        agent.reply(invite, 487)
    bobs[1].expect("ACK")
    assert call().status == 200
    ends[1].call_id, ends[1].target, ends[1].remote = invites[1].get("call-id"), invites[1].contact(), invites[1].get("from")
    ends[1].local = invites[1].get("to") + ";tag=bob1"
    da.cseq = max(da.cseq, first.cseq[0]) + 2
    passes(da, ends[1], "aaaa")
    assert all(agent.quiet("INFO", 0.1) for agent in sure)
    hang_up(da, ends[1], kedge)


@pytest.mark.parametrize("side", (0, 1))
def test_candidates_stay_with_kedge_in_an_anchored_call(ringing, kedge, side):
    *ends, pick_up = ringing(ice=False)
    here, there = ends[side], ends[1 - side]
    assert here.request("INFO", PACKAGE, fragment(here, "aaaa")).status == 200  # in the early dialog
    pick_up()
    assert here.request("INFO", PACKAGE, fragment(here, "aaaa")).status == 200
    assert there.agent.quiet("INFO", 0.5)
    hang_up(here, there, kedge)


def test_which_packages_are_taken(ringing, kedge):
    da, db, pick_up = ringing(ice=False)
    pick_up()
    refused = da.request("INFO", ["Info-Package: example", "Content-Type: text/plain"], "hello")
    assert refused.status == 469 and refused.get("recv-info") == "trickle-ice"
    foreign = da.request("INFO", ["Info-Package: trickle-ice", "Content-Type: text/plain"], "hello")
    assert foreign.status == 415 and "sdpfrag" in foreign.get("accept")
    assert da.request("INFO", ["Info-Package: trickle-ice"]).status == 200
    for broken in ("\x01\x02", "a=candidate:1 1 UDP", "m=audio 9 RTP/AVP 0\r\na=ice-ufrag:x\r\n" * 50):
        assert da.request("INFO", PACKAGE, broken).status in (200, 400), broken
    assert da.request("INFO", PACKAGE, "a=x\r\n" * 3000).status == 413
    assert db.agent.quiet("INFO", 0.3)
    hang_up(da, db, kedge)


def test_trickle_is_no_word_without_ice(hosts, stage):
    kedge = stage.kedge(hosts[0], name="plain", accounts={u: "pw-" + u for u in USERS}, config={"media": {"ice": "no"}})
    a, b = (stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS))
    assert a.register().status == 200 and b.register().status == 200
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host))
    call = background(da.call, "bob", headers=TRICKLES)
    invite = b.expect("INVITE")
    assert "trickle" not in invite.get("supported") and not invite.get("recv-info")
    db.answer(invite)
    assert call().status == 200
    refused = da.request("INFO", PACKAGE, fragment(da, "aaaa"))
    assert refused.status == 469 and refused.get("recv-info") == "nil"
    required = a.request("INVITE", "sip:bob@kedge.test", ["Require: trickle-ice"], da.body())
    assert required.status == 420 and required.get("unsupported") == "trickle-ice"
    hang_up(da, db, kedge)
