"""Secure media: who is offered which keys, what a refusal leads to, and how long keys live. By SIP agents, message for message;
the sound of it is test_secure_phones.py."""
import re

import pytest

from interop import keys
from interop.agent import Dialog
from interop.hosts import background, until
from interop.sipcall import dialogs, hang_up, listeners, registered

USERS = ("alice", "bob")
SHAPES = ("plain", "sdes", "dtls", "web")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage, request):
    media = getattr(request, "param", {})
    return stage.kedge(hosts[0], config={"sip": {"listen": listeners(hosts[0])}, "media": {"address": hosts[0].addr, **media}},
                       accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def ends(kedge, hosts, stage):
    return dialogs(stage, registered(stage, kedge, hosts[1:], USERS))


def place(a, shape, **kw):
    return background(a.call, "bob", body=keys.body(a.rtp, shape, **kw))


def take(b, shape, tries=4):
    """b answers the first offer of this shape and refuses all others. Returns the offers."""
    offers = []
    for _ in range(tries):
        request = b.agent.expect("INVITE")
        offers.append(request.body)
        if keys.shape(request.body) == shape:
            b.answer(request, body=answer(b, request.body))
            return offers
        b.agent.reply(request, 488)
        b.agent.expect("ACK")
    raise AssertionError(f"never asked for {shape}: {[keys.shape(o) for o in offers]}")


def answer(b, offer):
    shape = keys.shape(offer)
    if shape in ("opportunistic", "sdes"):
        tag, suite, _ = keys.cryptos(offer)[0]
        size = 44 if "256_GCM" in suite else 28 if "GCM" in suite else 46 if "256" in suite else 30
        return keys.body(b.rtp, shape, extra=keys.crypto(tag, suite, keys.key(size)))
    return keys.body(b.rtp, shape, setup="active")


def test_a_browser_calls_a_desk_phone(ends, kedge):
    """WebRTC toward one, plain RTP toward the other."""
    a, b = ends
    placed = place(a, "web")
    (offer,) = take(b, "plain")
    assert "ice-" not in offer or "a=ice-ufrag" in offer
    for word in ("fingerprint", "setup", "mid", "BUNDLE", "webu"):
        assert word not in offer, offer
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == "web", ok.body
    assert keys.attribute(ok.body, "setup") == "active" and keys.attribute(ok.body, "rtcp-mux") == ""
    assert keys.attribute(ok.body, "mid") == "0" and keys.attribute(ok.body, "ice-ufrag") not in (None, "webu")
    assert keys.attribute(ok.body, "fingerprint") != keys.FINGERPRINT
    hang_up(a, b, kedge)


@pytest.mark.parametrize("offered", SHAPES)
@pytest.mark.parametrize("taken", SHAPES)
def test_each_pair(ends, kedge, offered, taken):
    """Whatever one offers and the other takes."""
    if taken == "web" and offered in ("sdes", "dtls"):
        pytest.skip("WebRTC over UDP is no browser: it is asked for only by a word in the configuration")
    a, b = ends
    placed = place(a, offered)
    offers = take(b, taken)
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == offered, ok and ok.body
    first = "plain" if offered == "web" else offered
    assert keys.shape(offers[0]) == first
    same = offered == taken and offered != "web"
    if offered == "sdes":
        assert (keys.cryptos(offers[-1]) == keys.cryptos(a.agent.sent)) == same
    if offered == "dtls":
        assert (keys.attribute(offers[-1], "fingerprint") == keys.FINGERPRINT) == same
    hang_up(a, b, kedge)
    # The second call is right at once.
    a, b = (Dialog(d.agent, d.rtp) for d in ends)
    placed = place(a, offered)
    assert len(take(b, taken)) == 1
    assert placed().status == 200
    hang_up(a, b, kedge)


REFUSES = "Allow: INVITE, ACK, CANCEL, BYE"


@pytest.mark.parametrize("bob_does,carol_does", (("sdes", "plain"), ("plain", "sdes"), ("sdes", "sdes"), ("dtls", "sdes"), ("web", "plain")))
def test_transfer_by_kedge(stage, lab, hosts, bob_does, carol_does):
    """bob takes no REFER: kedge gives him a session with carol, with keys that nobody had before."""
    users = ("alice", "bob", "carol")
    kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in users})
    da, db, dc = dialogs(stage, registered(stage, kedge, [*hosts[1:], hosts[1]], users))
    placed = background(db.call, "alice", body=keys.body(db.rtp, bob_does), headers=[REFUSES])
    take(da, "plain")
    before = placed()
    assert before.status == 200
    assert da.request("REFER", ["Refer-To: <sip:carol@kedge.test>"]).status == 202
    da.agent.reply(da.agent.expect("NOTIFY"), 200)
    rung = background(take, dc, carol_does)
    again = db.agent.expect("INVITE")
    assert keys.shape(again.body) == bob_does, again.body
    if bob_does == "sdes":
        assert keys.cryptos(again.body)[0][2] not in before.body
    db.answer(again, body=answer(db, again.body))
    assert keys.shape(rung()[-1]) == carol_does
    da.agent.reply(da.agent.expect("NOTIFY"), 200)
    da.agent.reply(da.agent.expect("BYE"), 200)
    assert until(lambda: len(kedge.calls()) == 1, 3)
    said = {"plain": "none", "sdes": "sdes", "dtls": "dtls", "web": "dtls"}
    assert [leg["secure"].split()[0] for leg in kedge.calls()[0]["legs"]] == [said[bob_does], said[carol_does]]
