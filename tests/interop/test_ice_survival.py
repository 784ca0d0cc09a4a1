"""Each of kedge's processes is killed in calls of real ICE phones: anchored, relayed and direct ones go on."""
import os
import signal
import time

import pytest

from interop.agent import silence_ms
from interop.ear import Ear
from interop.hosts import Stopwatch, until
from interop.icecall import Call
from interop.phone import Phone
from natlab import stun

# Caller, callee, path.
CALLS = {"anchored": ("sym-a", "old"), "relayed by kedge": ("sym-b", "cone-a"), "direct": ("cone-b", "cone-c")}
NATS = {"sym-a": "symmetric", "old": "port-restricted", "sym-b": "symmetric", "cone-a": "port-restricted",
        "cone-b": "full-cone", "cone-c": "port-restricted"}
GAP_SIGNALLING_MS = 200  # as in test_survival.py
GAP_MEDIA_MS = 2000


@pytest.fixture(scope="module")
def calls(lab, long_stage):
    """Three calls, one of each path, up during all tests of the file."""
    server = lab.public_host("kedge")
    servers = lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(servers)
    kedge = long_stage.kedge(server, accounts={user: "pw-" + user for user in NATS})
    phones = {}
    for i, (user, nat) in enumerate(NATS.items()):
        phones[user] = long_stage.add(Phone(
            long_stage.folder / user, user, f"{server.addr}:5060", 400 + 100 * i, lab.natted_host(user, nat=nat),
            password="pw-" + user, domain="kedge.test", ice=user != "old", stun=servers.ip4 + ":3478")).start()
    for phone in phones.values():
        phone.registered()
    ear = long_stage.add(Ear(server))
    made = {}
    for path, (a, b) in CALLS.items():
        made[path] = Call(kedge, phones[a], phones[b]).make(ear, keep=True)
        assert made[path].heard == [True, True] and made[path].path == path, made[path].row()
    time.sleep(1)
    yield kedge, made
    for call in made.values():
        call.end()
    kedge.no_calls()


def gap_ms(ear, start, end):
    return round(silence_ms([(d.at, int.from_bytes(d.payload[2:4], "big")) for d in ear.rtp(start)], start, end))


def kill(kedge, calls, role, limit_ms, seconds):
    """The longest silence at each phone of each call from the death on; afterwards everything is as it was."""
    ears = {(path, i): Ear(p.host) for path, call in calls.items() for i, p in enumerate(call.phones)}
    try:
        time.sleep(0.3)
        old, at, watch = kedge.role(role), time.monotonic(), Stopwatch()
        os.kill(old, signal.SIGKILL)
        time.sleep(seconds)
        end, stood_ms = time.monotonic(), (watch.real - watch.fair) * 1000
    finally:
        for ear in ears.values():
            ear.close()
    gaps = {where: gap_ms(ear, at, end) for where, ear in ears.items()}
    assert until(lambda: kedge.role(role) not in (None, old) and kedge.try_ctl("version").returncode == 0, 15, 0.1)
    late = {where: gap for where, gap in gaps.items() if gap > limit_ms + stood_ms}
    assert not late, f"silent after {role} was killed, ms: {late}"
    assert until(lambda: sorted(c["path"] for c in kedge.calls()) == sorted(calls), 20, 0.2), kedge.ctl("calls")


def test_signalling_is_killed(calls):
    kill(*calls, "signalling", GAP_SIGNALLING_MS, 3)


def test_media_is_killed(calls):
    kill(*calls, "media", GAP_MEDIA_MS, 6)


@pytest.mark.parametrize("path", CALLS)
def test_the_phones_still_hear_each_other(calls, path):
    """Also after hold and resume, which need both processes to know the call."""
    _, made = calls
    caller, callee = made[path].phones
    for p, q in ((caller, callee), (callee, caller)):
        assert p.hears(q.hz, since_ms=p.position()), f"{p.user} does not hear {q.user}"
    ear = Ear(callee.host)
    try:
        caller.hold()
        until(lambda: not ear.rtp(time.monotonic() - 0.5), 10)
        caller.resume()
        assert ear.hears(caller.hz, since=time.monotonic(), timeout=20), "no audio after hold and resume"
    finally:
        ear.close()
