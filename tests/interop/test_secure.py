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
    assert keys.attribute(offer, "ice-ufrag") != "webu"
    for word in ("fingerprint", "setup", "mid", "group"):
        assert keys.attribute(offer, word) is None, offer
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == "web", ok.body
    assert keys.attribute(ok.body, "setup") == "active" and keys.attribute(ok.body, "rtcp-mux") == ""
    assert keys.attribute(ok.body, "mid") == "0" and keys.attribute(ok.body, "ice-ufrag") not in (None, "webu")
    assert keys.attribute(ok.body, "fingerprint") != keys.FINGERPRINT
    hang_up(a, b, kedge)


# WebRTC over UDP is no browser: after SDES and DTLS it is asked for only by a word in the configuration.
PAIRS = [(offered, taken) for taken in SHAPES for offered in SHAPES if taken != "web" or offered not in ("sdes", "dtls")]


@pytest.mark.parametrize("offered,taken", PAIRS)
def test_each_pair(ends, kedge, offered, taken):
    """Whatever one offers and the other takes."""
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


def test_who_had_keys_is_not_led_into_the_clear(ends, kedge):
    """A 488 may be forged by anybody on the way. Who is set up without keys on purpose shows it by a call of its own."""
    a, b = ends
    placed = place(a, "sdes")
    take(b, "sdes")
    assert placed().status == 200
    hang_up(a, b, kedge)
    a, b = (Dialog(d.agent, d.rtp) for d in ends)
    for shapes in (["sdes", "dtls"], ["sdes", "dtls"]):  # nor is that what the next call begins with
        placed = place(a, "sdes")
        for shape in shapes:
            request = b.agent.expect("INVITE")
            assert keys.shape(request.body) == shape, request.body
            b.agent.reply(request, 488)
            b.agent.expect("ACK")
        assert placed().status == 488
    assert until(lambda: "It is not asked in the clear" in kedge.log())
    placed = background(b.call, "alice", body=keys.body(b.rtp, "plain"))
    take(a, "plain")  # whose keys would be of half the way: without them she is asked, too
    assert placed().status == 200
    hang_up(b, a, kedge)
    a, b = (Dialog(d.agent, d.rtp) for d in ends)
    placed = place(a, "sdes")
    take(b, "plain")
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
    assert until(lambda: len(kedge.calls()) == 1)
    said = {"plain": "none", "sdes": "sdes", "dtls": "dtls", "web": "dtls"}
    assert [leg["secure"].split()[0] for leg in kedge.calls()[0]["legs"]] == [said[bob_does], said[carol_does]]


def refused(a, body):
    response = a.call("bob", body=body)
    return response.status, response.get("warning")


@pytest.mark.parametrize("shape,extra,word", (
    ("sdes", keys.crypto(suite="F8_128_HMAC_SHA1_80"), "none of its a=crypto lines can be used (crypto:1 F8_128_HMAC_SHA1_80"),
    ("sdes", keys.crypto(session=" UNENCRYPTED_SRTP"), "UNENCRYPTED_SRTP would send media in the clear"),
    ("sdes", keys.crypto(inline="dG9vIHNob3J0"), "none of its a=crypto lines can be used"),
    ("sdes", "", "it demands SRTP and has neither a=crypto nor a=fingerprint"),
    ("dtls", "a=setup:actpass\r\n", "it demands DTLS-SRTP and has no a=fingerprint"),
    ("dtls", keys.dtls(fingerprint="md5 " + ":".join(["0A"] * 16)), "none of its a=fingerprint lines can be used (fingerprint:md5"),
    ("dtls", keys.dtls(fingerprint="sha-1 " + ":".join(["0A"] * 20)), "none of its a=fingerprint lines can be used (fingerprint:sha-1")))
def test_offers_with_keys_that_are_none(ends, kedge, shape, extra, word):
    a, b = ends
    status, warning = refused(a, keys.body(a.rtp, shape, extra=extra))
    assert status == 488 and word.replace('"', " ") in warning, warning
    assert b.agent.quiet("INVITE", 0.1)
    kedge.no_calls()


def test_nobody_takes_it(ends, kedge):
    """Refused in every shape: four INVITEs, one answer, and it says what was tried."""
    a, b = ends
    placed = place(a, "sdes")
    for _ in range(4):
        b.agent.reply(b.agent.expect("INVITE"), 488)
        b.agent.expect("ACK")
    response = placed()
    assert response.status == 488 and "every way of media that it was offered (SDES, opportunistic SRTP, RTP, DTLS-SRTP), with the codecs PCMU, PCMA" in \
        response.get("warning"), response.headers
    told = kedge.ctl("explain", kedge.json("calls", "--recent")[0]["id"])
    assert "(SDES), and was asked for opportunistic SRTP" in told and "(RTP), and was asked for DTLS-SRTP" in told, told
    assert b.agent.quiet("INVITE", 0.2)
    # What nobody took is no habit.
    placed = place(Dialog(a.agent, a.rtp), "sdes")
    assert keys.shape(take(b, "sdes")[0]) == "sdes" and placed().status == 200


def test_other_refusals_are_not_about_keys(ends, kedge):
    a, b = ends
    placed = place(a, "sdes")
    b.agent.reply(b.agent.expect("INVITE"), 486)
    b.agent.expect("ACK")
    assert placed().status == 486 and b.agent.quiet("INVITE", 0.2)


def test_no_common_codec(ends, kedge):
    """kedge does not transcode, and says so."""
    a, b = ends
    placed = place(a, "plain")
    could = keys.body(b.rtp, "plain", codecs=(9,))
    for _ in range(4):
        b.agent.reply(b.agent.expect("INVITE"), 488, could)
        b.agent.expect("ACK")
    response = placed()
    warning = response.get("warning")
    assert response.status == 488 and "no common audio codec: the caller has PCMU, PCMA; bob has G722" in warning, warning
    assert "does not transcode" in warning


@pytest.mark.parametrize("wrong", ("rejected", "keys"))
def test_an_answer_of_no_use_is_asked_again(ends, kedge, wrong):
    """The phone has picked up: it is asked again in the dialog that stands, and the caller hears of the end only."""
    a, b = ends
    placed = place(a, "sdes")
    first = b.agent.expect("INVITE")
    useless = keys.body(b.rtp, "sdes")
    useless = re.sub(r"m=audio \d+", "m=audio 0", useless) if wrong == "rejected" else keys.body(b.rtp, "sdes", extra=keys.dtls("active"))
    b.answer(first, body=useless)
    again = b.agent.expect("INVITE")
    assert again.get("call-id") == first.get("call-id") and "tag=" in again.get("to")
    shape = keys.shape(again.body)
    assert shape == ("opportunistic" if wrong == "rejected" else "dtls")
    b.answer(again, body=answer(b, again.body))
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == "sdes" and not [p for p in a.provisional if p.body], (ok.body, a.provisional)
    hang_up(a, b, kedge)


@pytest.mark.parametrize("last", (488, 302, 481, 603))
def test_an_answer_of_no_use_ends_in_both_dialogs(ends, kedge, last):
    a, b = ends
    placed = place(a, "sdes")
    b.answer(b.agent.expect("INVITE"), body=re.sub(r"m=audio \d+", "m=audio 0", keys.body(b.rtp, "sdes")))
    for status in (488, 488, last):
        b.agent.reply(b.agent.expect("INVITE"), status, headers=["Contact: <sip:carol@kedge.test>"] if status == 302 else [])
        b.agent.expect("ACK")
    b.agent.reply(b.agent.expect("BYE"), 200)
    assert placed().status == {488: 488, 603: 603, 481: 500}.get(last, 480)
    kedge.no_calls()
    kedge.alive()
    assert kedge.deaths() == 0


@pytest.mark.parametrize("kedge", ({"profile": "sdes"},), indirect=True)
def test_a_word_leaves_no_choice(ends, kedge):
    a, b = ends
    placed = place(a, "plain")
    offer = b.agent.expect("INVITE")
    assert keys.shape(offer.body) == "sdes" and not keys.attribute(offer.body, "fingerprint")
    b.agent.reply(offer, 488)
    b.agent.expect("ACK")
    assert placed().status == 488 and b.agent.quiet("INVITE", 0.2)


@pytest.mark.parametrize("kedge", ({"profile": "sdes"},), indirect=True)
@pytest.mark.parametrize("offers", ("plain", "sdes"))
def test_an_offer_that_was_asked_for_has_keys_too(ends, kedge, offers):
    """Who calls without a description cannot have the callee speak in the clear."""
    a, b = ends
    placed = background(a.call, "bob", body="", ack=False)
    b.answer(b.agent.expect("INVITE"), body=keys.body(b.rtp, offers), ack=False)
    if offers == "plain":
        assert placed().status >= 400
        b.agent.reply(b.agent.expect("BYE"), 200)
        kedge.no_calls()
        return
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == "sdes", ok.body
    a.ok, a.cseq = ok, ok.cseq[0]
    a.request("ACK", body=answer(a, ok.body), send_only=True, cseq=ok.cseq[0])
    assert keys.shape(b.agent.expect("ACK").body) == "sdes"
    hang_up(a, b, kedge)


@pytest.mark.parametrize("kedge", ({"profile": "sdes"},), indirect=True)
@pytest.mark.parametrize("by_caller", (True, False))
def test_nobody_is_led_into_the_clear_in_talk(ends, kedge, by_caller):
    """The word demands keys, and one phone wants to go on without: the other one is offered keys, of kedge's."""
    a, b = ends
    placed = place(a, "sdes")
    take(b, "sdes")
    theirs = keys.cryptos(placed().body)[0][2]
    a, b = (a, b) if by_caller else (b, a)
    done = background(a.reinvite, body=keys.body(a.rtp, "plain"), auth=True)
    again = b.agent.expect("INVITE")
    assert keys.shape(again.body) == "sdes" and theirs not in again.body, again.body
    b.answer(again, body=answer(b, again.body))
    ok = done()
    assert ok.status == 200 and keys.shape(ok.body) == "plain", ok.body
    said = [leg["secure"].split()[0] for leg in kedge.calls()[0]["legs"]]
    assert said == (["none", "sdes"] if by_caller else ["sdes", "none"])
    hang_up(a, b, kedge)


@pytest.mark.parametrize("word,shape", (("webrtc", "web"), *((word, word) for word in ("dtls", "sdes", "opportunistic", "plain"))))
def test_a_word_for_the_pbx(stage, hosts, word, shape):
    """Whatever the phone does: the PBX is asked in one shape, over UDP too, and the phone hears its own. Back, the PBX's offer shows it."""
    kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[2].addr}:5060"], "pbx_probe": 0, "media": {"pbx_profile": word}})
    phone = stage.agent(hosts[1], "alice", "", (kedge.host.addr, 5060))
    pbx = stage.agent(hosts[2], "pbx", "", (kedge.host.addr, 5060), port=5060)
    registering = background(phone.register)
    request = pbx.expect("REGISTER")
    pbx.reply(request, 200, headers=[f"Contact: {request.get('contact')};expires=3600"])
    assert registering().status == 200
    for offered in ("plain", "sdes"):
        a, b = dialogs(stage, (phone, pbx))
        placed = background(a.call, "bob", body=keys.body(a.rtp, offered))
        offer = b.agent.expect("INVITE")
        assert keys.shape(offer.body) == shape, offer.body
        if shape == "web":
            assert all(keys.attribute(offer.body, name) is not None for name in ("mid", "rtcp-mux", "ice-ufrag", "fingerprint", "candidate"))
        b.answer(offer, body=answer(b, offer.body))
        ok = placed()
        assert ok.status == 200 and keys.shape(ok.body) == offered, ok.body
        hang_up(a, b, kedge)
    a, b = dialogs(stage, (phone, pbx))
    uri = re.search("<([^>]+)>", request.get("contact")).group(1)
    placed = background(b.call, uri, body=keys.body(b.rtp, shape))
    offer = a.agent.expect("INVITE")
    for _ in range(3):
        if keys.shape(offer.body) != "plain":
            a.agent.reply(offer, 488)
            a.agent.expect("ACK")
            offer = a.agent.expect("INVITE")
    a.answer(offer, body=keys.body(a.rtp, "plain"))
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == shape, ok.body
    hang_up(a, b, kedge)


def test_a_word_for_a_trunk_and_for_a_route(stage, hosts):
    """A route's own goes before the trunk's."""
    itsp = {"name": "itsp", "server": f"udp:{hosts[2].addr}:5060", "register": "no", "domain": "itsp.test", "profile": "sdes"}
    routes = [{"from": "phone", "number": "00*", "to": ["itsp"], "profile": "dtls"}, {"from": "phone", "number": "0*", "to": ["itsp"]}]
    kedge = stage.kedge(hosts[0], config={"trunks": [itsp], "routes": routes}, accounts={"alice": "pw-alice"})
    (phone,) = registered(stage, kedge, hosts[1:2], ("alice",))
    provider = stage.agent(hosts[2], "itsp", "", (kedge.host.addr, 5060), port=5060)
    for number, shape in (("0301", "sdes"), ("00491", "dtls")):
        a, b = dialogs(stage, (phone, provider))
        placed = background(a.call, number, body=keys.body(a.rtp, "plain"))
        offer = b.agent.expect("INVITE")
        assert keys.shape(offer.body) == shape, offer.body
        b.answer(offer, body=answer(b, offer.body))
        ok = placed()
        assert ok.status == 200 and keys.shape(ok.body) == "plain"
        hang_up(a, b, kedge)


@pytest.mark.parametrize("kedge", ({"profile": "opportunistic"},), indirect=True)
@pytest.mark.parametrize("takes", (True, False))
def test_opportunistic(ends, kedge, takes):
    """RFC 8643: keys with RTP/AVP; the answer decides."""
    a, b = ends
    placed = place(a, "plain")
    offer = b.agent.expect("INVITE")
    assert keys.profile(offer.body) == "RTP/AVP" and len(keys.cryptos(offer.body)) > 1
    b.answer(offer, body=answer(b, offer.body) if takes else keys.body(b.rtp, "plain"))
    assert placed().status == 200
    assert [leg["secure"].split()[0] for leg in kedge.calls()[0]["legs"]] == ["none", "sdes" if takes else "none"]
    hang_up(a, b, kedge)


@pytest.mark.parametrize("takes", (True, False))
def test_opportunistic_offer(ends, kedge, takes):
    """It passes as it came, and who knows the keys uses them: between the two phones."""
    a, b = ends
    placed = place(a, "opportunistic")
    offer = b.agent.expect("INVITE")
    assert keys.shape(offer.body) == "opportunistic" and keys.cryptos(offer.body) == keys.cryptos(a.agent.sent)
    b.answer(offer, body=answer(b, offer.body) if takes else keys.body(b.rtp, "plain"))
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == ("opportunistic" if takes else "plain")
    assert [leg["secure"].split()[0] for leg in kedge.calls()[0]["legs"]] == ["end-to-end" if takes else "none"] * 2
    hang_up(a, b, kedge)


def test_each_suite_has_a_key_of_its_own(ends, kedge):
    a, b = ends
    placed = place(a, "web")
    b.agent.reply(b.agent.expect("INVITE"), 488)
    b.agent.expect("ACK")
    offer = b.agent.expect("INVITE").body
    lines = keys.cryptos(offer)
    assert len({key for _, _, key in lines}) == len({suite for _, suite, _ in lines}) == len(lines) > 1
    b.agent.close()
    del placed


@pytest.mark.parametrize("shape", ("sdes", "dtls"))
def test_keys_stay_over_reinvites(ends, kedge, shape):
    """Ours as long as nothing happens; theirs may change, and then it is no business of the other side's."""
    a, b = ends
    placed = place(a, shape)
    take(b, "plain")
    ok = placed()
    told = keys.cryptos(ok.body) or keys.attribute(ok.body, "fingerprint")
    # bob holds: alice is offered the same keys of kedge's.
    b.cseq = 100
    held = background(b.reinvite, body=keys.body(b.rtp, "plain", direction="sendonly"))
    offer = a.agent.expect("INVITE")
    assert "a=sendonly" in offer.body and (keys.cryptos(offer.body) or keys.attribute(offer.body, "fingerprint")) == told
    if shape == "dtls":
        assert keys.attribute(offer.body, "setup") == "actpass"
    a.agent.reply(offer, 200, keys.body(a.rtp, shape, setup="passive", direction="recvonly"))
    assert held().status == 200
    # alice has new keys.
    again = a.reinvite(body=keys.body(a.rtp, shape, setup="actpass", direction="recvonly"))
    assert again.status == 200 and b.agent.quiet("INVITE", 0.2)
    assert (keys.cryptos(again.body) or keys.attribute(again.body, "fingerprint")) == told
    hang_up(a, b, kedge)


@pytest.mark.parametrize("offers,gets", (("sdes", "sdes"), ("web", "plain"), ("plain", "plain")))
def test_late_offer(ends, kedge, offers, gets):
    """The callee makes the offer: what the caller is asked for goes by the same rules."""
    a, b = ends
    placed = background(a.call, "bob", body="", ack=False)
    b.answer(b.agent.expect("INVITE"), body=keys.body(b.rtp, offers), ack=False)
    ok = placed()
    assert keys.shape(ok.body) == gets, ok.body
    a.ok, a.cseq = ok, ok.cseq[0]
    a.request("ACK", body=answer(a, ok.body), send_only=True, cseq=ok.cseq[0])
    ack = b.agent.expect("ACK")
    assert keys.shape(ack.body) == offers, ack.body
    hang_up(a, b, kedge)


@pytest.mark.parametrize("offered,taken", (("plain", "sdes"), ("web", "plain"), ("sdes", "dtls")))
def test_early_media(ends, kedge, offered, taken):
    """A 183 with keys, then a 200 without SDP, and one with another phone's: the newest count."""
    a, b = ends
    placed = place(a, offered)
    while True:
        request = b.agent.expect("INVITE")
        if keys.shape(request.body) == taken:
            break
        b.agent.reply(request, 488)
        b.agent.expect("ACK")
    early = answer(b, request.body)
    b.agent.reply(request, 183, early)
    assert until(lambda: any(p.status == 183 for p in a.agent.log))
    told = next(p for p in a.agent.log if p.status == 183)
    assert keys.shape(told.body) == offered
    b.answer(request, body=early)
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == offered
    assert keys.cryptos(told.body) == keys.cryptos(ok.body)
    hang_up(a, b, kedge)


def test_each_phone_of_a_fork_has_keys_of_its_own(stage, hosts, lab):
    """One takes SDES, one is a browser: each is asked for what it can, and the one that answers has the call."""
    kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})
    server = (hosts[0].addr, 5060)
    alice, one, two = (stage.agent(h, u, "pw-" + u, server) for h, u in ((hosts[1], "alice"), (hosts[2], "bob"), (hosts[1], "bob")))
    assert all(agent.register().status == 200 for agent in (alice, one, two))
    a, first, second = dialogs(stage, (alice, one, two))
    placed = place(a, "dtls")
    offers = {}
    for phone in (one, two):
        for _ in range(2):
            request = phone.expect("INVITE")
            if keys.shape(request.body) == "sdes":
                offers[phone] = request
                break
            phone.reply(request, 488)
            phone.expect("ACK")
    told = [{key for _, _, key in keys.cryptos(r.body)} for r in offers.values()]
    assert len(told) == 2 and not told[0] & told[1], "no two phones know the same key"
    one.reply(offers[one], 183, answer(first, offers[one].body))
    two.reply(offers[two], 183, answer(second, offers[two].body))
    taken = background(second.answer, offers[two], body=answer(second, offers[two].body))
    one.reply(one.expect("CANCEL"), 200)
    one.reply(offers[one], 487)
    taken()
    ok = placed()
    assert ok.status == 200 and keys.shape(ok.body) == "dtls"
    hang_up(a, second, kedge)
