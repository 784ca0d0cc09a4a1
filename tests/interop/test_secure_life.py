"""How long keys live, with packets: re-INVITE, hold, new keys, a phone that was restarted, processes of kedge that die. alice's phone has
keys (SDES or DTLS-SRTP), bob's has none."""
import itertools
import os
import re
import signal
import time

import pytest

from interop.agent import Dialog
from interop.hosts import background, until
from interop.secure import SUITE, SecureRtp, Talk

LOST_MS = 200          # while keys change, or while signalling is away: nothing should be
LOST_KILLED_MS = 2000  # promised is 1 s
numbers = itertools.count()


@pytest.fixture
def world(lab, stage):
    number = next(numbers)
    server = lab.public_host(f"kedge-{number}")
    kedge = stage.kedge(server, config={"media": {"profile": "plain"}}, accounts={u: "pw-" + u for u in ("alice", "bob")})
    agents = [stage.agent(lab.public_host(f"{u}-{number}"), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob")]
    for agent in agents:
        assert agent.register().status == 200
    return kedge, agents, None


@pytest.fixture(params=("sdes", "dtls"))
def call(request, world, stage):
    made = Talk(world, stage, request.param, sequence=65400).start()
    made.is_well(3000)  # its sequence numbers wrap: roll-over counter 1
    made.begun = time.monotonic()
    yield made
    made.end()


def reinvite(talk, learn=True, **kw):
    """alice says something; bob answers if he is asked. The answer."""
    again = background(talk.a.reinvite, body=talk.rtp_a.body(version=talk.a.version + 2, **kw))
    talk.a.version += 1
    assert until(lambda: again.done() or not talk.b.agent.requests.empty())
    if not again.done():
        request = talk.b.agent.expect("INVITE")
        way = {"sendonly": "recvonly", "inactive": "inactive"}.get(kw.get("direction"), "sendrecv")
        talk.b.answer(request, direction=way)
    to = talk.rtp_a.to
    response = again()
    assert response is not None and response.status == 200, response
    if learn:
        talk.rtp_a.learn(response.body)
    talk.rtp_a.to = to if kw.get("direction") != "inactive" else None
    return response.body


def keys_of(body):
    return re.findall(r"^a=(?:crypto|fingerprint):.*", body, re.M)


def test_reinvites_with_the_same_keys(call):
    """Nothing happens to index or association, after a wrap too."""
    before, handshakes = time.monotonic(), len(call.rtp_a.peer.said("dtls-in"))
    for codecs in ((0,), (0, 8), (0, 101)):
        assert keys_of(reinvite(call, codecs=codecs)) == keys_of(call.answer.body)
    call.is_well()
    assert call.lost_ms(before) <= LOST_MS
    assert len(call.rtp_a.peer.said("dtls-in")) == handshakes and call.rtp_a.bad(call.begun) == []


def test_hold_and_resume(call):
    reinvite(call, direction="inactive")
    time.sleep(0.3)
    mark = time.monotonic()
    assert not call.rtp_b.got(mark, 100, 0.5)
    reinvite(call)
    call.rtp_a.to = call.rtp_a.to or call.a.ok.media()
    call.is_well()
    assert call.rtp_a.bad(call.begun) == []


def test_keys_of_the_callee_are_asked_for_again_by_bob(call):
    """bob's re-INVITE: kedge offers alice the keys that she has."""
    again = background(call.b.reinvite, codecs=(0,))
    request = call.a.agent.expect("INVITE")
    assert [k.split()[-1] for k in keys_of(call.answer.body)][0] in request.body
    call.rtp_a.choose(request.body)
    call.a.agent.reply(request, 200, call.rtp_a.body(version=9))
    call.a.agent.expect("ACK")
    assert again().status == 200
    call.is_well()
    assert call.rtp_a.bad(call.begun) == []


def test_a_new_key_in_a_reinvite(world, stage):
    """SDES: what comes with the old key in the meantime is heard, and what comes with the new one."""
    talk = Talk(world, stage, "sdes", sequence=65400).start()
    talk.is_well(3000)
    begun = time.monotonic()
    for _ in range(3):
        talk.rtp_a.new_key()
        reinvite(talk)
        talk.is_well()
    assert talk.lost_ms(begun) <= LOST_MS
    assert talk.rtp_a.bad(begun) == []
    talk.end()


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_a_phone_that_was_restarted(world, stage, kind):
    """Its new program has another port, other keys and, with DTLS, another certificate: a new association (RFC 8842)."""
    talk = Talk(world, stage, kind).start()
    old = talk.rtp_a
    old.to = None
    talk.rtp_a = talk.a.rtp = stage.add(SecureRtp(talk.a.agent.host, kind, hz=300))
    body = reinvite(talk, learn=False)
    talk.rtp_a.to = talk.a.ok.media() if "a=sendrecv" in body else None
    talk.rtp_a.learn(body)
    talk.is_well()
    mark = time.monotonic()
    time.sleep(0.3)
    assert not [at for at, _, _ in old.received if at > mark], "the old place still hears the call"
    talk.end()


@pytest.mark.parametrize("setup", ("active", "passive"))
def test_another_tls_id(world, stage, setup):
    """The same certificate in the same role, and another association: begun by the phone or, if it is passive, by kedge (RFC 8842 4)."""
    talk = Talk(world, stage, "dtls", setup=setup)
    talk.rtp_a.tls_id = "a" * 20
    talk.start()
    for name in "bcc":
        before = talk.rtp_a.tls_id
        talk.rtp_a.tls_id = name * 20
        talk.rtp_a.keyed = before == talk.rtp_a.tls_id  # the last time it stays, and so does everything
        handshakes = talk.rtp_a.peer.said("dtls ").count("established")
        reinvite(talk)

        def made():
            return talk.rtp_a.peer.said("dtls ").count("established") - handshakes
        assert until(lambda: made() == (name * 20 != before)), talk.rtp_a.peer.lines[-5:]
        talk.is_well()
        assert made() == (name * 20 != before), talk.rtp_a.peer.lines[-5:]
    talk.end()


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_transferred_by_kedge(lab, stage, kind):
    """bob sends alice on to carol; alice's phone takes no REFER. She hears carol with keys that bob's call did not have."""
    server = lab.public_host("kedge-t" + kind)
    kedge = stage.kedge(server, config={"media": {"profile": "plain"}}, accounts={u: "pw-" + u for u in ("alice", "bob", "carol")})
    alice, bob, carol = (stage.agent(lab.public_host(f"{u}-t" + kind), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob", "carol"))
    assert all(agent.register().status == 200 for agent in (alice, bob, carol))
    talk = Talk((kedge, (alice, bob), None), stage, kind, sequence=65400)
    asked = background(talk.a.call, "bob", body=talk.rtp_a.body(), headers=["Allow: INVITE, ACK, CANCEL, BYE"])
    talk.b.answer(bob.expect("INVITE"))
    talk.answer = asked()
    talk.rtp_a.learn(talk.answer.body)
    talk.is_well(3000)  # roll-over counter 1
    assert talk.b.request("REFER", ["Refer-To: <sip:carol@kedge.test>"]).status == 202
    bob.reply(bob.expect("NOTIFY"), 200)
    talk.b, talk.rtp_b = Dialog(carol, stage.rtp(carol.host, hz=500)), None
    ringing = background(lambda: talk.b.answer(carol.expect("INVITE")))
    request = alice.expect("INVITE")
    assert not set(keys_of(request.body)) & set(keys_of(talk.answer.body)) or kind == "dtls"
    talk.rtp_a.keyed = kind == "sdes"
    talk.rtp_a.choose(request.body)
    alice.reply(request, 200, talk.rtp_a.body(version=7))
    talk.rtp_a.learn(request.body.replace("a=setup:actpass", "a=setup:passive"))
    talk.rtp_a.to = request.media()
    ringing()
    talk.rtp_b = talk.b.rtp
    talk.is_well()
    bob.reply(bob.expect("NOTIFY"), 200)
    bob.reply(bob.expect("BYE"), 200)
    talk.end()


@pytest.mark.parametrize("setup", ("active", "passive"))
def test_another_association_for_one_line(world, stage, setup):
    """Each line has its own: the camera is another program now; the microphone's association goes on (RFC 8842 4)."""
    talk = Talk(world, stage, "dtls", setup=setup)
    cameras = [stage.add(SecureRtp(talk.a.agent.host, "dtls", hz=300, setup=setup)) for _ in range(2)]

    def both(camera, version):
        return talk.rtp_a.body(version=version) + f"m=video {camera.port} UDP/TLS/RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n" \
            + camera.lines() + "a=rtcp-mux\r\n"

    def agree(asked, camera, is_passed=True):
        if is_passed:
            talk.b.answer(talk.b.agent.expect("INVITE"), body=talk.b.body() + "m=video 40000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n")
        ok = asked()
        assert ok is not None and ok.status == 200, ok
        audio, _, video = ok.body.partition("m=video ")
        talk.rtp_a.learn(audio)
        camera.learn(video)
        camera.to = (talk.kedge.host.addr, int(video.split()[0]))
        return ok

    def established(camera):
        assert until(lambda: "established" in camera.peer.said("dtls ")), camera.peer.lines

    talk.answer = agree(background(talk.a.call, "bob", body=both(cameras[0], 1)), cameras[0])
    talk.is_well()
    established(cameras[0])
    handshakes = len(talk.rtp_a.peer.said("dtls-in"))
    for version, direction in ((2, "a=sendrecv"), (3, "a=sendonly")):  # keys alone are no business of bob's
        body = both(cameras[1], version).replace("a=sendrecv", direction, 1)
        agree(background(talk.a.reinvite, body=body), cameras[1], is_passed=version == 3)
        established(cameras[1])
    since = time.monotonic()
    assert talk.rtp_b.got(since, 500), "the microphone is not heard any more"
    assert len(talk.rtp_a.peer.said("dtls-in")) == handshakes, "the microphone's association was made anew"
    talk.end()


# Processes that die

def renewed(talk, request):
    """alice takes the keys of kedge's re-INVITE."""
    talk.rtp_a.keyed = talk.kind == "sdes"  # the phone's own key stays; an association is made anew
    talk.rtp_a.choose(request.body)
    talk.a.agent.reply(request, 200, talk.rtp_a.body(version=talk.a.version + 7))
    talk.a.version += 1
    talk.rtp_a.learn(request.body.replace("a=setup:actpass", "a=setup:passive"))
    talk.a.agent.expect("ACK")


def kill_signalling(kedge):
    old = kedge.role("signalling")
    os.kill(old, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (None, old), 30, 0.05)


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_media_killed(world, stage, kind):
    """The index of what was sent is lost with the engine: nothing more is sealed with those keys; new ones are agreed and audio comes back."""
    kedge = world[0]
    talk = Talk(world, stage, kind).start()
    before = keys_of(talk.answer.body)
    os.kill(kedge.role("media"), signal.SIGKILL)
    at = time.monotonic()
    request = talk.a.agent.expect("INVITE", 30)
    again = keys_of(request.body)
    assert again and not set(again) & set(before), "the keys of a dead engine are offered again"
    opened = [number for _, number in talk.rtp_a.numbers()]
    sent = {number: when for when, number in talk.rtp_b.sent}
    reused = [number for number in opened if sent[number] > at + 0.05]
    renewed(talk, request)
    talk.is_well()
    lost = talk.lost_ms(at - 0.5)
    assert 0 < lost < LOST_KILLED_MS, f"{lost} ms"
    assert reused == [], "something was sealed with the keys of the dead engine"
    talk.end()


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_signalling_killed(world, stage, kind):
    """Keys are the engine's: audio goes on; the next signalling process knows them."""
    kedge = world[0]
    talk = Talk(world, stage, kind).start()
    old, at = kedge.role("signalling"), time.monotonic()
    os.kill(old, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (None, old), 30, 0.05)
    assert until(lambda: kedge.try_ctl("version").returncode == 0, 30, 0.1)
    assert until(lambda: len(kedge.calls()) == 1, 30, 0.1)
    talk.is_well()
    assert talk.lost_ms(at - 0.5) <= LOST_MS
    handshakes = len(talk.rtp_a.peer.said("dtls-in"))
    assert keys_of(reinvite(talk, codecs=(0,))) == keys_of(talk.answer.body)
    talk.is_well()
    assert talk.rtp_a.bad(at) == [] and len(talk.rtp_a.peer.said("dtls-in")) == handshakes
    talk.end()


@pytest.mark.parametrize("answered", (False, True), ids=("unanswered", "answered"))
@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_media_killed_then_signalling(world, stage, kind, answered):
    """While the re-INVITE with new keys is under way: the next signalling process learns that keys are due. A phone that had answered is ACKed,
    or it would hang up (RFC 3261 13.3.1.4)."""
    kedge = world[0]
    talk = Talk(world, stage, kind).start()
    alice, before = talk.a.agent, keys_of(talk.answer.body)
    os.kill(kedge.role("media"), signal.SIGKILL)
    first = alice.expect("INVITE", 30)
    kill_signalling(kedge)
    if answered:
        talk.rtp_a.choose(first.body)
        body = talk.rtp_a.body(version=6)

        def acked():
            alice.reply(first, 200, body)
            return until(lambda: (first.cseq[0], "ACK") in [m.cseq for m in alice.log], 0.5)
        assert until(acked, 30, 0), "the phone would hang up"
    second = alice.expect("INVITE", 30)
    assert second.cseq > first.cseq
    again = keys_of(second.body)
    assert again and not set(again) & set(before), "the keys of a dead engine are offered again"
    renewed(talk, second)
    talk.is_well()
    assert alice.quiet("INVITE", 1), "keys were renewed twice"
    talk.end()


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_signalling_killed_then_media(world, stage, kind):
    """As soon as the next signalling process has taken the call over."""
    kedge = world[0]
    talk = Talk(world, stage, kind).start()
    before = keys_of(talk.answer.body)
    kill_signalling(kedge)
    assert until(lambda: kedge.try_ctl("version").returncode == 0 and len(kedge.calls()) == 1, 30, 0.02)
    os.kill(kedge.role("media"), signal.SIGKILL)
    request = talk.a.agent.expect("INVITE", 30)
    again = keys_of(request.body)
    assert again and not set(again) & set(before), "the keys of a dead engine are offered again"
    renewed(talk, request)
    talk.is_well()
    talk.end()


# Who is told of keys

def test_keys_are_told_to_nobody(world, stage):
    """Log, records, explain, statistics: neither side's key is in any file or answer of kedge's."""
    kedge = world[0]
    talk = Talk(world, stage, "sdes").start()
    call_id = kedge.calls()[0]["id"]
    said = kedge.ctl("explain", call_id) + str(kedge.json("explain", call_id)) + str(kedge.calls()) + str(kedge.stats())
    talk.end()
    keys = [re.search(r"inline:([^\s|]+)", text).group(1) for text in (talk.rtp_a.body(), talk.answer.body)]
    assert SUITE in said or "sdes" in said.lower() or "SRTP" in said, "explain says nothing of keys at all"
    for folder, _, names in os.walk(kedge.folder):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    said += file.read().decode("latin-1")
    assert call_id in said
    for key in keys:
        assert key not in said and key[:20] not in said, "a key was written down"
