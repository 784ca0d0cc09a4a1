"""What descriptions say of keys is what packets have: each suite, key parameters, feedback, and the words of the configuration. alice's
phone has keys, bob's has none."""
import base64
import os
import re
import struct
import time

import pytest

from interop.hosts import background, until
from interop.secure import LENGTH, SecureRtp, Talk

SUITES = tuple(LENGTH)
SSRC = 0x51515151
RECEIVER_REPORT = struct.pack("!BBHI", 0x80, 201, 1, SSRC)
PLI, NACK = (struct.pack("!BBHII", 0x81, kind, size, SSRC, 1) + rest for kind, size, rest in ((206, 2, b""), (205, 3, bytes(4))))


@pytest.fixture(scope="module")
def world(lab, long_stage):
    """Calls to "300" reach alice with SDES, those to "400" with DTLS. Without ICE there is room for all suites in an INVITE over UDP."""
    server = lab.public_host("kedge")
    routes = [{"from": "phone", "number": number, "to": ["alice"], "profile": word} for number, word in (("300", "sdes"), ("400", "dtls"))]
    kedge = long_stage.kedge(server, config={"log": {"level": "debug"}, "media": {"profile": "plain", "ice": "no"}, "routes": routes},
                             accounts={u: "pw-" + u for u in ("alice", "bob")})
    agents = [long_stage.agent(lab.public_host(u), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob")]
    for agent in agents:
        assert agent.register().status == 200
    return kedge, agents, None


def called(world, stage, kind, number, **kw):
    """bob calls alice by this number; her phone answers with keys."""
    talk = Talk(world, stage, kind, **kw)
    result = background(talk.b.call, number)
    request = talk.a.agent.expect("INVITE")
    talk.rtp_a.choose(request.body)
    talk.a.answer(request, body=talk.rtp_a.body())
    talk.rtp_a.learn(request.body.replace("a=setup:actpass", "a=setup:passive"))
    assert result().status == 200
    return talk


# Suites

@pytest.mark.parametrize("suite", SUITES)
def test_each_suite(world, stage, suite):
    talk = Talk(world, stage, "sdes", suite=suite).start()
    assert re.findall(r"^a=crypto:(\d+) (\S+)", talk.answer.body, re.M) == [("1", suite)]
    assert suite in talk.kedge.calls()[0]["legs"][0]["secure"], talk.kedge.calls()
    talk.end()


@pytest.mark.parametrize("suite", [s for s in SUITES if s != "AES_256_CM_HMAC_SHA1_32"])
def test_each_suite_that_kedge_offers(world, stage, suite):
    talk = called(world, stage, "sdes", "300", suite=suite)
    talk.is_well()
    assert suite in talk.kedge.calls()[0]["legs"][1]["secure"], talk.kedge.calls()
    talk.end()


def test_a_route_with_dtls(world, stage):
    talk = called(world, stage, "dtls", "400")
    talk.is_well()
    assert talk.kedge.calls()[0]["legs"][1]["secure"].startswith("dtls")
    talk.end()


# Key parameters (RFC 4568 6.1, 6.3)

def test_unknown_lines_before_one_that_is_known(world, stage):
    """The first that can be used is answered, by its tag; the log says what is wrong with each of the others, without its key."""
    talk = Talk(world, stage, "sdes")
    key = base64.b64encode(os.urandom(30)).decode()
    talk.rtp_a.tag, talk.rtp_a.parameters = 77, "|2^31 WSH=128 -FUTURE=1"
    lines = (f"a=crypto:1 F8_128_HMAC_SHA1_80 inline:{key}\r\na=crypto:2 SOMETHING_NEW inline:{key}|2^20|1:4\r\n"
             f"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{key} UNENCRYPTED_SRTCP\r\n"
             f"a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{key} FUTURE=1\r\na=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:{key[:20]}\r\n")
    talk.answer = talk.offer(talk.rtp_a.body(extra=lines + talk.rtp_a.lines()))
    assert talk.answer.status == 200 and re.findall(r"^a=crypto:(\d+)", talk.answer.body, re.M) == ["77"], talk.answer.body
    talk.rtp_a.learn(talk.answer.body)
    talk.is_well()
    talk.end()
    with open(os.path.join(talk.kedge.folder, "log"), encoding="utf-8") as file:
        log = file.read()
    for line in ("crypto:1 F8_128_HMAC_SHA1_80", "crypto:2 SOMETHING_NEW", "crypto:3 AES_CM_128_HMAC_SHA1_80", "crypto:4 AES_CM_128_HMAC_SHA1_80"):
        assert f"{line} of the caller is not used: " in log
    assert key not in log


@pytest.mark.parametrize("suite,mki", [*((s, b"\0\0\0\7") for s in SUITES), (SUITES[0], b"\1"), (SUITES[0], bytes(range(16)))])
def test_mki(world, stage, suite, mki):
    """A lifetime, and a master key identifier in every packet of alice's; kedge's own packets have none, as its description says."""
    talk = Talk(world, stage, "sdes", suite=suite)
    talk.rtp_a.mki, talk.rtp_a.parameters = mki, f"|2^31|{int.from_bytes(mki, 'big')}:{len(mki)}"
    talk.start()
    since, heard = talk.rtp_a.peer.mark(), len(talk.rtp_b.received)
    talk.is_well()
    assert not talk.rtp_a.peer.said("bad", since) and all(len(data) == 172 for _, _, data in talk.rtp_b.received[heard:])
    talk.end()


def test_another_key_of_several(world, stage):
    """Two master keys; alice goes on with the second, without a word of signalling."""
    talk = Talk(world, stage, "sdes")
    second = os.urandom(30)
    talk.rtp_a.mki, talk.rtp_a.parameters = b"\x01", f"|2^20|1:1;inline:{base64.b64encode(second).decode()}|2^20|2:1"
    talk.start()
    since = time.monotonic()
    talk.rtp_a.peer.tell(f"keys send {talk.rtp_a.suite} {second.hex()} 02")
    talk.is_well(500)
    assert talk.lost_ms(since) <= 200
    talk.end()


# Opportunistic (RFC 8643)

def opportunistic(text):
    return re.sub(r" \S*RTP/SAVP ", " RTP/AVP ", text)


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_an_offer_of_keys_that_need_not_be(world, stage, kind):
    """RTP/AVP with keys, for a phone that is asked for plain RTP: kedge takes them."""
    talk = Talk(world, stage, kind)
    result = background(talk.a.call, "bob", body=opportunistic(talk.rtp_a.body()))
    request = talk.b.agent.expect("INVITE")
    assert " RTP/AVP " in request.body and "a=crypto" not in request.body and "fingerprint" not in request.body
    talk.b.answer(request)
    talk.answer = result()
    assert " RTP/AVP " in talk.answer.body, talk.answer.body
    talk.rtp_a.learn(talk.answer.body)
    talk.is_well()
    talk.end()


# Feedback (RFC 4585)

def types(packets):
    """Packet types in compounds of RTCP."""
    out = []
    for data in packets:
        while len(data) >= 4:
            out.append(data[1])
            data = data[4 * (1 + int.from_bytes(data[2:4], "big")):]
    return out


def rtcp_of_bob(talk):
    return [data for _, _, data in talk.rtp_b.received if 200 <= data[1] <= 207]


@pytest.mark.parametrize("offers", ("RTP/AVP", "RTP/AVPF"))
def test_feedback_reaches_who_offered_it(world, stage, offers):
    """bob offers, so that his answer has his profile. What else is in the compound comes in either case."""
    talk = Talk(world, stage, "sdes")
    body = talk.b.body(extra="a=rtcp-mux\r\n").replace("RTP/AVP", offers)
    result = background(talk.b.call, "300", body=body)
    request = talk.a.agent.expect("INVITE")
    talk.rtp_a.choose(request.body)
    assert " RTP/SAVP " in request.body
    talk.a.answer(request, body=talk.rtp_a.body())
    talk.rtp_a.learn(request.body)
    ok = result()
    assert ok.status == 200 and f" {offers} " in ok.body, ok.body
    talk.is_well()
    for _ in range(5):
        talk.rtp_a.report(RECEIVER_REPORT + PLI + NACK)
    assert until(lambda: len(rtcp_of_bob(talk)) >= 5), "bob hears no reports"
    came = types(rtcp_of_bob(talk))
    assert came.count(201) == 5 and came.count(206) == came.count(205) == (5 if offers == "RTP/AVPF" else 0), came
    talk.end()


@pytest.mark.parametrize("offers", ("RTP/SAVP", "RTP/SAVPF"))
def test_feedback_to_a_side_with_keys(world, stage, offers):
    talk = Talk(world, stage, "sdes")
    body = talk.rtp_a.body().replace("RTP/SAVP", offers)
    result = background(talk.a.call, "bob", body=body)
    request = talk.b.agent.expect("INVITE")
    assert " RTP/AVP " in request.body
    talk.b.answer(request, body=talk.b.body(extra="a=rtcp-mux\r\n"))
    talk.answer = result()
    assert f" {offers} " in talk.answer.body, talk.answer.body
    talk.rtp_a.learn(talk.answer.body)
    talk.is_well()
    to = talk.rtp_b.to
    for _ in range(5):
        talk.rtp_b.socket.sendto(RECEIVER_REPORT + PLI + NACK, to)
    assert until(lambda: len(talk.rtp_a.reports()) >= 5), "alice hears no reports"
    came = types(talk.rtp_a.reports())
    assert came.count(201) == 5 and came.count(206) == came.count(205) == (5 if offers == "RTP/SAVPF" else 0), came
    talk.end()
