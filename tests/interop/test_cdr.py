"""Call detail records: one line of JSON a call, complete, escaped, through rotation, full disks, restarts and the end of kedge."""
import json
import os
import threading

import pytest

from interop.agent import Dialog, talk
from interop.hosts import until
from interop.secure import Talk

NAMES = {"id", "from", "to", "started", "answered", "ended", "ringing_ms", "answered_ms", "ended_ms", "first_media_ms",
         "bytes_relayed", "status", "why", "path", "reason", "legs"}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    file = os.path.join(str(long_stage.folder), "cdr.jsonl")
    kedge = long_stage.kedge(server, config={"cdr": {"file": file}}, accounts={"alice": "a-word", "bob": "b-word"})
    agents = [long_stage.agent(lab.public_host(u), u, u[0] + "-word", (server.addr, 5060)) for u in ("alice", "bob")]
    for a in agents:
        assert a.register().status == 200
    return kedge, agents, file


def records(file):
    if not os.path.exists(file):
        return []
    with open(file, encoding="ascii") as f:
        return [json.loads(line) for line in f.read().splitlines()]


def next_record(file, count):
    assert until(lambda: len(records(file)) > count, 20), "no record was written"
    return records(file)[count]


def hang_up(a, b):
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)


def test_answered_call(world, stage):
    kedge, agents, file = world
    before = len(records(file))
    a, b = talk(*agents, *[stage.rtp(x.host, hz=hz) for x, hz in zip(agents, (400, 700))])
    assert a.rtp.got(ms=500) and b.rtp.got(ms=500)
    hang_up(a, b)
    r = next_record(file, before)
    assert NAMES <= set(r), NAMES - set(r)
    assert r["status"] == 200 and "hung up" in r["why"] and r["path"] == "anchored"
    assert 0 <= r["ringing_ms"] <= r["answered_ms"] <= r["ended_ms"]
    assert r["first_media_ms"] >= 0
    media = [leg["media"][0] for leg in r["legs"]]
    assert r["bytes_relayed"] == sum(m["bytes_out"] for m in media) > 20 * 172
    assert [leg["user"] for leg in r["legs"]] == ["alice", "bob"]
    for m in media:
        assert m["packets_in"] > 20 and m["jitter_ms"] >= 0 and "mos" in m and "lost" in m
    kedge.no_calls()
    assert len(records(file)) == before + 1, "more than one record of one call"


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_a_call_with_keys(lab, stage, kind):
    """Quality, bytes and times are there on the side whose packets are sealed as on the other."""
    file = os.path.join(str(stage.folder), "cdr.jsonl")
    server = lab.public_host("kedge-" + kind)
    kedge = stage.kedge(server, config={"cdr": {"file": file}, "media": {"profile": "plain"}}, accounts={"alice": "a-word", "bob": "b-word"})
    agents = [stage.agent(lab.public_host(u + kind), u, u[0] + "-word", (server.addr, 5060)) for u in ("alice", "bob")]
    assert all(a.register().status == 200 for a in agents)
    talk = Talk((kedge, agents, None), stage, kind).start()
    talk.is_well(1000)
    talk.end()
    r = next_record(file, 0)
    assert NAMES <= set(r) and r["path"] == "anchored" and r["first_media_ms"] >= 0
    assert [leg["secure"].partition(" ")[0] for leg in r["legs"]] == [kind, "none"]
    for m in (leg["media"][0] for leg in r["legs"]):
        assert m["packets_in"] > 40 and m["codec"] == "PCMU" and m["lost"] == 0 and m["jitter_ms"] < 2000 and 1 <= m["mos"] <= 4.6, m
        assert m["first_packet_ms"] >= 0 and m["proof"] and m["srtp_bad"] == 0, m
    assert r["bytes_relayed"] == sum(leg["media"][0]["bytes_out"] for leg in r["legs"]) > 80 * 172 and r["status"] == 200


def test_refused_call(world, stage):
    kedge, (alice, bob), file = world
    before = len(records(file))
    a = Dialog(alice, stage.rtp(alice.host))
    answer = []
    thread = threading.Thread(target=lambda: answer.append(a.call("bob")))
    thread.start()
    bob.reply(bob.expect("INVITE"), 486)
    thread.join()
    assert answer[0].status == 486
    r = next_record(file, before)
    assert r["status"] == 486 and r["why"] and r["answered"] is None and r["answered_ms"] is None
    assert r["bytes_relayed"] == 0 and r["first_media_ms"] is None


def test_hostile_texts_stay_one_escaped_line(world, stage):
    kedge, (alice, bob), file = world
    before = len(records(file))
    a = Dialog(alice, stage.rtp(alice.host))
    answer = []
    thread = threading.Thread(target=lambda: answer.append(a.call("bob", headers=['Subject: x\x07"=cmd'])))
    thread.start()
    request = bob.expect("INVITE")
    bob.reply(request, 603, headers=['Reason: SIP;cause=603;text="=cmd|\' /C calc\'!A0"'])
    thread.join()
    next_record(file, before)
    with open(file, "rb") as f:
        text = f.read()
    assert text.endswith(b"\n") and all(32 <= c < 127 or c == 10 for c in text)


def test_file_that_is_renamed_and_reload(world, stage):
    """What logrotate does: rename, then `kedgectl reload`."""
    kedge, agents, file = world
    os.rename(file, file + ".old")
    kedge.ctl("reload")
    a, b = talk(*agents, *[stage.rtp(x.host, hz=hz) for x, hz in zip(agents, (400, 700))])
    hang_up(a, b)
    next_record(file, 0)


def test_signalling_killed_in_the_call(world, stage):
    """The call is taken over; its record is written at its end all the same."""
    kedge, agents, file = world
    before = len(records(file))
    a, b = talk(*agents, *[stage.rtp(x.host, hz=hz) for x, hz in zip(agents, (400, 700))])
    killed = kedge.role("signalling")
    os.kill(killed, 9)
    assert until(lambda: kedge.role("signalling") not in (None, killed) and kedge.try_ctl("calls").returncode == 0, 20)
    assert until(lambda: len(kedge.calls()) == 1, 10)
    hang_up(a, b)
    r = next_record(file, before)
    assert r["answered"] and r["bytes_relayed"] > 0


def test_kedge_ends_with_calls_up(world, stage):
    kedge, agents, file = world
    before = len(records(file))
    talk(*agents, *[stage.rtp(x.host, hz=hz) for x, hz in zip(agents, (400, 700))])
    kedge.stop()
    assert len(records(file)) == before + 1
    r = records(file)[before]
    assert "stopped" in r["why"] and r["bytes_relayed"] > 0
    kedge.spawn().ready()
