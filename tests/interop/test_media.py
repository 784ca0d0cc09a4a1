"""What happens to the media of a call: hold, early media, rtcp-mux on one side, codec and address changes, silence."""
import threading
import time

import pytest

from interop.agent import Dialog, talk
from interop.ear import Ear
from interop.hosts import until
from interop.phone import Phone

SILENCE_S = 6  # longer than a machine stands still


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    users = ("alice", "bob", "carol", "dave", "muxer", "plain")
    kedge = long_stage.kedge(server, config={"media": {"silence_timeout": SILENCE_S}}, accounts={u: "pw-" + u for u in users})
    hosts = {u: lab.natted_host(u, nat="port-restricted") for u in users}
    return kedge, hosts


def phone(stage, world, user, hz, **kw):
    kedge, hosts = world
    return stage.add(Phone(stage.folder / user, user, f"{kedge.host.addr}:5060", hz, hosts[user], password="pw-" + user,
                           domain="kedge.test", **kw)).start().registered()


@pytest.fixture
def agents(stage, world):
    kedge, hosts = world
    made = [stage.agent(hosts[u], u, "pw-" + u, (kedge.host.addr, 5060)) for u in ("alice", "bob")]
    for a in made:
        assert a.register().status == 200
    yield kedge, *made
    for a in made:
        a.register(expires=0)
    kedge.no_calls()


def end(a, b):
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)


def reinvite(a, b, body=None, answer=None):
    """a asks, b answers; both bodies made by the dialogs unless given."""
    result = []
    asking = threading.Thread(target=lambda: result.append(a.reinvite(body=body)))
    asking.start()
    request = b.agent.expect("INVITE")
    b.agent.reply(request, 200, b.body() if answer is None else answer)
    b._listen(request)
    b.agent.expect("ACK")
    asking.join()
    assert result[0].status == 200, result
    return request


def test_hold_and_resume_with_baresip(stage, world):
    """Held: nothing arrives at the other phone. Resumed: both tones again. Looked at in packets, as baresip 1.0 does not
    record after a hold."""
    kedge, hosts = world
    a, b = phone(stage, world, "carol", 400), phone(stage, world, "dave", 700)
    ears = {p: stage.add(Ear(hosts[p.user])) for p in (a, b)}
    a.call("dave")
    assert a.hears(700) and b.hears(400)
    a.hold()
    assert until(lambda: not ears[b].rtp(time.monotonic() - 1.5), 20), "RTP went on to the phone on hold"
    a.resume()
    time.sleep(0.3)
    at = time.monotonic()
    assert ears[b].hears(400, since=at) and ears[a].hears(700, since=at), "no audio after the hold"
    mark = b.mark()
    a.hangup()
    b.wait("CALL_CLOSED", mark)
    kedge.no_calls()


def test_rtcp_mux_on_one_side_alone(stage, world):
    kedge, _ = world
    a, b = phone(stage, world, "muxer", 400, rtcp_mux=True), phone(stage, world, "plain", 700)
    for first, second in ((a, b), (b, a)):
        second.forget()
        marks = {p: p.mark() for p in (a, b)}
        first.call(second.user)
        assert first.hears(second.hz) and second.hears(first.hz)
        def reports():
            return [e["rtcp_stats"] for p in (a, b) for e in p.events[marks[p]:] if e["type"] == "CALL_RTCP"]
        # baresip sends RTCP every 5 s
        assert until(lambda: any(s["tx"]["sent"] > 0 for s in reports()), 15), f"no RTCP came through: {reports()}"
        mark = second.mark()
        first.hangup()
        second.wait("CALL_CLOSED", mark)
        kedge.no_calls()


def test_early_media_is_heard_before_the_answer(stage, agents):
    _, a, b = agents
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host, hz=700))
    calling = threading.Thread(target=da.call, args=("bob",))
    calling.start()
    request = b.expect("INVITE")
    body = db.body()
    b.reply(request, 183, body)
    db._listen(request)  # the callee's announcement starts
    assert until(lambda: any(m.status == 183 for m in a.log), 20)
    early = next(m for m in a.log if m.status == 183)
    assert early.media(), "183 without SDP"
    da.rtp.to = early.media()  # opens the caller's NAT, as phones do
    assert da.rtp.got(ms=300), "no early media"
    assert calling.is_alive(), "that was not early"
    db.answer(request, body=body)
    calling.join()
    assert da.ok.media() == early.media(), "the 200's SDP differs from the 183's"
    end(da, db)


def test_sdp_that_changes_between_183_and_200_is_followed(stage, agents):
    """The callee rings from one port and answers from another."""
    _, a, b = agents
    da, ringing, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host, hz=900)), Dialog(b, stage.rtp(b.host, hz=700))
    calling = threading.Thread(target=da.call, args=("bob",))
    calling.start()
    request = b.expect("INVITE")
    b.reply(request, 183, ringing.body())
    ringing._listen(request)
    time.sleep(0.5)
    ringing.rtp.to = None
    db.version = 5
    db.answer(request)
    calling.join()
    mark = time.monotonic()
    assert db.rtp.got(mark, 300) and da.rtp.got(mark, 300), "no audio after the change"
    end(da, db)


def test_phone_moves_its_media_to_another_port_by_reinvite(stage, agents):
    _, a, b = agents
    da, db = talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
    old, da.rtp = da.rtp, stage.rtp(a.host)
    old.to = None
    reinvite(da, db)
    mark = time.monotonic()
    assert da.rtp.got(mark, 300) and db.rtp.got(mark, 300), "no audio at the new port"
    end(da, db)


def test_codec_change_shows_in_kedgectl(stage, agents):
    kedge, a, b = agents
    da, db = talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
    for d, hz in ((da, 400), (db, 700)):
        d.rtp.codec, d.rtp.hz = 8, hz
        d.rtp._frame = d.rtp._encode()
    reinvite(da, db, da.body(codecs=(8,)), db.body(codecs=(8,)))
    mark = time.monotonic()
    assert da.rtp.got(mark, 300) and db.rtp.got(mark, 300)
    assert {m["codec"] for leg in kedge.calls()[0]["legs"] for m in leg["media"]} == {"PCMA"}
    end(da, db)


@pytest.mark.parametrize("way", ("sendonly", "inactive", "old"))
def test_call_on_hold_outlives_the_silence_timeout(stage, agents, way):
    """A call on hold is silent for good reason."""
    kedge, a, b = agents
    da, db = talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
    body = da.body(direction="inactive" if way == "inactive" else "sendonly")
    if way == "old":
        body = da.body().replace(f"IP4 {da.rtp.ip}\r\nt=", "IP4 0.0.0.0\r\nt=")
    to = da.rtp.to
    reinvite(da, db, body, db.body(direction="inactive" if way == "inactive" else "recvonly"))
    da.rtp.to = db.rtp.to = None
    time.sleep(SILENCE_S + 1.5)
    assert len(kedge.calls()) == 1, "the call on hold was ended"
    da.rtp.to = to
    reinvite(da, db)
    mark = time.monotonic()
    assert da.rtp.got(mark, 300) and db.rtp.got(mark, 300), "no audio after the hold"
    end(da, db)


def test_call_without_any_packet_is_ended_on_both_sides(stage, agents):
    """No zombie calls: after the silence timeout both get BYE, and the reason is kept."""
    kedge, a, b = agents
    da, db = talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
    da.rtp.to = db.rtp.to = None
    for d in (da, db):
        d.agent.reply(d.agent.expect("BYE", SILENCE_S + 8), 200)
    kedge.no_calls()
    assert kedge.stats()["calls_silent"] >= 1
    assert kedge.json("calls", "--recent")[0]["why"] == "no media came from either side"


def test_rejected_and_additional_lines(stage, agents):
    """Audio and video offered; the callee takes audio alone (port 0 for video): the order of the lines stays."""
    _, a, b = agents
    da, db = Dialog(a, stage.rtp(a.host)), Dialog(b, stage.rtp(b.host, hz=700))
    video = f"m=video {da.rtp.port + 2} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
    calling = threading.Thread(target=da.call, args=("bob",), kwargs={"extra": video})
    calling.start()
    request = b.expect("INVITE")
    kinds = [line.split()[0] for line in request.body.splitlines() if line.startswith("m=")]
    assert kinds == ["m=audio", "m=video"], request.body
    assert "a=rtpmap:96 VP8/90000" in request.body
    db.answer(request, body=db.body(extra="m=video 0 RTP/AVP 96\r\n"))
    calling.join()
    lines = [line for line in da.ok.body.splitlines() if line.startswith("m=")]
    assert lines[0].startswith("m=audio ") and lines[1].startswith("m=video 0 "), lines
    assert da.rtp.got(ms=200) and db.rtp.got(ms=200)
    end(da, db)
