"""A phone gets another NAT with another address in the middle of a call (natlab change_nat): it is not told, its packets just come
from somewhere else. Audio is back within two seconds where kedge carries it, and kedge says how long it was gone."""
import datetime
import time

import pytest

from interop.ear import Ear
from interop.hosts import Stopwatch, until
from interop.icecall import Call
from interop.phone import Phone
from interop.report import publish
from natlab import stun

BACK_WITHIN_MS = 2000
CONSENT_S, EXPIRY_S = 1, 4
SETTLED_S = 2 * CONSENT_S + 1.5  # kedge has been answered twice: only then it misses who does not answer any more


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    servers = lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(servers)
    users = ("ice-a", "ice-b", "old", "cone-a", "cone-b", "restarts")
    kedge = long_stage.kedge(server, config={"ice": {"consent": CONSENT_S, "consent_expiry": EXPIRY_S},
                                             "registration": {"phone_expires_udp": 10, "keepalive_udp": 5}},
                             accounts={user: "pw-" + user for user in users})
    nats = {"ice-a": "symmetric", "ice-b": "symmetric", "old": "port-restricted", "cone-a": "port-restricted",
            "cone-b": "port-restricted"}
    phones = {}
    for i, (user, nat) in enumerate(nats.items()):
        phones[user] = long_stage.add(Phone(
            long_stage.folder / user, user, f"{server.addr}:5060", 400 + 100 * i, lab.natted_host(user, nat=nat),
            password="pw-" + user, domain="kedge.test", ice=user != "old", stun=servers.ip4 + ":3478")).start()
    for phone in phones.values():
        phone.registered()
    return kedge, long_stage.add(Ear(server)), phones


def gap_ms(ear, since, settled):
    """The longest silence at the phone's interface from `since` on; None if packets never came again in the last half second."""
    times = [since, *(d.at for d in ear.rtp(since) if d.at <= settled)]
    if settled - times[-1] > 0.5:
        return None
    return round(max(b - a for a, b in zip(times, [*times[1:], settled])) * 1000)


def move(lab, call, mover, kind, wait):
    """The NAT of one phone changes. (gap of what it sends, gap of what it hears), ms, as measured at the two phones. call.within: how
    long they may be."""
    other = next(p for p in call.phones if p is not mover)
    ears = [Ear(other.host), Ear(mover.host)]
    try:
        time.sleep(SETTLED_S)
        since, watch = time.monotonic(), Stopwatch()
        lab.change_nat(mover.host)

        def back():
            return all(len([d for d in ear.rtp(since) if d.at > since + 0.1]) > 10 and
                       ear.rtp(since)[-1].at > time.monotonic() - 0.1 and gap_ms(ear, since, time.monotonic()) > 15
                       for ear in ears) and time.monotonic() - since > 1
        until(back, wait, 0.2)
        time.sleep(1)
        until(lambda: all((ear.rtp(since) or [None])[-1] and time.monotonic() - ear.rtp(since)[-1].at < 0.2 for ear in ears), 5)
        settled = time.monotonic()
        gaps = [gap_ms(ear, since, settled) for ear in ears]
    finally:
        for ear in ears:
            ear.close()
    call.ears = ears
    call.within = BACK_WITHIN_MS + (watch.real - watch.fair) * 1000
    publish("ice-move", f"{kind}: silent after the new NAT, ms: what it says {gaps[0]}, what it hears {gaps[1]}; kedge: "
            f"{moved(call)}")
    return gaps


def moved(call):
    """What kedge tells of moves on either leg: [(how often, gap in ms)]."""
    [shown] = call.kedge.calls()
    return [(leg["media"][0]["moves"], leg["media"][0]["move_gap_ms"]) for leg in shown["legs"]]


def register_to_audio_ms(call):
    """From the REGISTER by which kedge heard of the move until both phones are sent audio again."""
    [shown] = call.kedge.calls()
    after_ms = next(e["after_ms"] for e in shown["events"] if e["what"] == "moved")
    started = datetime.datetime.fromisoformat(shown["started"].replace("Z", "+00:00")).timestamp()
    registered = started + after_ms / 1000 - (time.time() - time.monotonic())
    back = [next((d.at for d in ear.rtp(registered) if d.at > registered), None) for ear in call.ears]
    return None if None in back else round((max(back) - registered) * 1000)


def test_anchored(lab, world):
    kedge, ear, phones = world
    call = Call(kedge, phones["ice-a"], phones["old"]).make(ear, keep=True)
    try:
        assert call.heard == [True, True] and call.path == "anchored"
        gaps = move(lab, call, phones["ice-a"], "anchored", 5)
        assert all(g is not None and g < call.within for g in gaps), gaps
        times, gap = moved(call)[0]
        assert times == 1 and 0 < gap < call.within
        for p, q in (call.phones, call.phones[::-1]):
            assert p.hears(q.hz, since_ms=p.position())
        assert "moved" in kedge.ctl("explain", kedge.calls()[0]["id"])
    finally:
        call.end()


def test_steered_and_relayed(lab, world):
    kedge, ear, phones = world
    phones["ice-a"].registered()
    call = Call(kedge, phones["ice-b"], phones["cone-b"]).make(ear, keep=True)
    try:
        assert call.heard == [True, True] and call.path == "relayed by kedge", call.row()
        gaps = move(lab, call, phones["ice-b"], "steered through kedge", 5)
        assert all(g is not None and g < call.within for g in gaps), gaps
        assert [times for times, _ in moved(call)] == [1, 0]
    finally:
        call.end()


def test_direct(lab, world):
    """Nobody can find the new address but kedge, when it misses the phone's answers or the phone registers again: both legs are
    renewed toward kedge. baresip restarts nothing itself, and does not even know that it moved: a registration of 10 s bounds the
    silence. From its REGISTER on it is two seconds at most."""
    kedge, ear, phones = world
    call = Call(kedge, phones["cone-a"], phones["cone-b"]).make(ear, keep=True)
    try:
        assert call.heard == [True, True] and call.path == "direct", call.row()
        gaps = move(lab, call, phones["cone-a"], "direct", 25)
        assert all(g is not None for g in gaps), f"no audio any more: {kedge.ctl('calls')}"
        assert kedge.calls()[0]["path"] == "anchored"
        back = register_to_audio_ms(call)
        publish("ice-move", f"direct: audio both ways {back} ms after the REGISTER from the new place")
        assert back is not None and back < call.within
        for p, q in (call.phones, call.phones[::-1]):
            assert p.hears(q.hz, since_ms=p.position())
    finally:
        call.end()
