"""Each of kedge's processes is killed or frozen in the middle of a call: audio goes on, the call stays a call."""
import itertools
import os
import signal
import time

import pytest

from interop.agent import talk
from interop.hosts import Stopwatch, background, until
from interop.phone import Phone

GAP_SIGNALLING_MS = 200  # promised are 40 ms; a busy test machine is given more
GAP_MEDIA_MS = 2000      # promised is 1 s
LATE_S = 1
numbers = itertools.count()


@pytest.fixture
def call(lab, stage):
    """A fresh kedge and an established call between two agents; each end's RTP notes when packets came."""
    number = next(numbers)
    server = lab.public_host(f"kedge-{number}")
    kedge = stage.kedge(server, accounts={"alice": "a-word", "bob": "b-word"})
    agents = [stage.agent(lab.public_host(f"{user}-{number}"), user, word, (server.addr, 5060))
              for user, word in (("alice", "a-word"), ("bob", "b-word"))]
    for agent in agents:
        assert agent.register().status == 200
    rtps = [stage.rtp(agent.host, hz=hz) for agent, hz in zip(agents, (400, 700))]
    a, b = talk(*agents, *rtps)
    time.sleep(0.5)
    kedge.stored()
    return kedge, a, b


def gaps(a, b, since, seconds):
    """What each end misses, in ms: packets that never came, or silence beyond what a machine with other work to do may stand still."""
    time.sleep(max(0, since + seconds - time.monotonic()))
    now = time.monotonic()
    return [max(d.rtp.lost_ms(other.rtp, since, now - LATE_S), d.rtp.gap_ms(since, now) - 1000 * LATE_S) for d, other in ((a, b), (b, a))]


def restarted(kedge, role, old, timeout=30):
    assert until(lambda: kedge.role(role) not in (None, old), timeout, 0.05), f"{role} was not started again"
    assert until(lambda: kedge.try_ctl("version").returncode == 0, timeout, 0.1)
    assert until(lambda: len(kedge.calls()) == 1, timeout, 0.1), f"calls after the restart: {kedge.calls()}"


def answer_reinvite(dialog):
    request = dialog.agent.expect("INVITE")
    dialog.agent.reply(request, 200, dialog.body())
    dialog._listen(request)
    dialog.agent.expect("ACK")


def reinvite(a, b):
    """a sends a re-INVITE, b answers it; returns a's response."""
    import threading
    thread = threading.Thread(target=answer_reinvite, args=(b,), daemon=True)
    thread.start()
    response = a.reinvite()
    thread.join(60)
    return response


def check_in_dialog(kedge, a, b):
    """re-INVITE from both sides, and BYE."""
    for first, second in ((a, b), (b, a)):
        response = reinvite(first, second)
        assert response is not None and response.status == 200, f"re-INVITE after the restart: {response}"
    mark = time.monotonic()
    assert a.rtp.got(mark, 200) and b.rtp.got(mark, 200), "no audio after the re-INVITE"
    done = a.bye()
    assert done is not None and done.status == 200, f"BYE after the restart: {done}"
    bye = b.agent.expect("BYE")
    b.agent.reply(bye, 200)
    kedge.no_calls()


def test_signalling_killed_audio_goes_on_and_the_call_is_taken_over(call):
    kedge, a, b = call
    old, at = kedge.role("signalling"), time.monotonic()
    os.kill(old, signal.SIGKILL)
    longest = gaps(a, b, at, 3)
    assert max(longest) < GAP_SIGNALLING_MS, f"gaps in the audio: {longest} ms"
    restarted(kedge, "signalling", old)
    assert kedge.stats()["calls_recovered"] == 1
    check_in_dialog(kedge, a, b)


def test_signalling_killed_the_callee_hangs_up(call):
    kedge, a, b = call
    old = kedge.role("signalling")
    os.kill(old, signal.SIGKILL)
    restarted(kedge, "signalling", old)
    assert b.bye().status == 200
    a.agent.reply(a.agent.expect("BYE"), 200)
    kedge.no_calls()


def test_signalling_killed_registrations_stay_without_a_storm(call):
    """The binding is still there: a call reaches the phone before it registers again."""
    kedge, a, b = call
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)
    old = kedge.role("signalling")
    os.kill(old, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (None, old), 30)
    assert until(lambda: kedge.try_ctl("version").returncode == 0, 30, 0.1)
    assert {r["user"] for r in kedge.registrations()} == {"alice", "bob"}
    answer = b.agent.register()
    assert answer.status == 200
    talk(b.agent, a.agent, b.rtp, a.rtp)


def test_media_killed_audio_comes_back_within_a_second(call):
    kedge, a, b = call
    old, at = kedge.role("media"), time.monotonic()
    os.kill(old, signal.SIGKILL)
    longest = gaps(a, b, at, 5)
    assert max(longest) < GAP_MEDIA_MS, f"gaps in the audio: {longest} ms"
    restarted(kedge, "media", old)
    check_in_dialog(kedge, a, b)


def test_supervisor_killed_the_call_goes_on_and_a_new_one_takes_over(call):
    kedge, a, b = call
    at = time.monotonic()
    orphans = [kedge.role("signalling"), kedge.role("media")]
    os.kill(kedge.supervisor, signal.SIGKILL)
    kedge.process.wait()
    longest = gaps(a, b, at, 2)
    assert max(longest) < GAP_SIGNALLING_MS, f"gaps in the audio: {longest} ms"
    at = time.monotonic()
    try:
        kedge.spawn().ready()
        longest = gaps(a, b, at, 2)
        assert max(longest) < GAP_MEDIA_MS, f"gaps in the audio while the new supervisor took over: {longest} ms"
        assert until(lambda: len(kedge.calls()) == 1, 30, 0.1), kedge.calls()
        check_in_dialog(kedge, a, b)
    finally:
        # whatever was not taken over must not outlive the test
        kedge.stop()
        left = until(lambda: not [p for p in orphans if os.path.exists(f"/proc/{p}")])
        for pid in orphans:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)
    assert left, "a process of the old kedge outlived the new one's clean end"


def test_a_reload_whose_supervisor_dies_is_answered(lab, stage):
    kedge = stage.kedge(lab.public_host("kedge-reload"), accounts={"alice": "a-word"})
    children = [kedge.role("signalling"), kedge.role("media")]
    os.kill(kedge.supervisor, signal.SIGSTOP)
    asked = [background(kedge.try_ctl, "reload") for _ in range(2)]
    assert until(lambda: any(take.done() for take in asked), 10), "one of two has to wait, the other is told so"
    os.kill(kedge.supervisor, signal.SIGKILL)
    kedge.process.wait()
    try:
        said = sorted(take().stderr.split("\n")[0] for take in asked)
        assert "another reload" in said[0] and "supervisor is gone" in said[1], said
        assert "supervisor is gone" in kedge.try_ctl("reload").stderr
    finally:
        kedge.spawn()
        assert until(lambda: kedge.role("signalling"), 30, 0.1), "nobody took over"
        kedge.ready()
        kedge.stop()
        for pid in children:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("role", ("signalling", "media"))
def test_frozen_child_is_restarted_by_the_watchdog(call, role):
    kedge, a, b = call
    old = kedge.role(role)
    os.kill(old, signal.SIGSTOP)
    try:
        watch = Stopwatch()
        assert until(lambda: kedge.role(role) not in (None, old), 30, 0.05), f"{role} was not restarted"
        took = watch.fair
    finally:
        try:
            os.kill(old, signal.SIGCONT)
        except ProcessLookupError:
            pass
    assert took < 15, f"the watchdog took {took:.1f} s"
    restarted(kedge, role, old)
    mark = time.monotonic()
    assert a.rtp.got(mark, 500) and b.rtp.got(mark, 500), "no audio after the restart"
    check_in_dialog(kedge, a, b)


def test_a_machine_that_stands_still(call):
    """A virtual machine that is moved: nobody ran for six seconds, and the supervisor is the first to notice."""
    kedge, a, b = call
    children = [kedge.role("signalling"), kedge.role("media")]
    frozen = [kedge.supervisor, *children]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(6)
    finally:
        os.kill(kedge.supervisor, signal.SIGCONT)
        time.sleep(0.3)
        for pid in children:
            os.kill(pid, signal.SIGCONT)
    assert until(lambda: kedge.try_ctl("version").returncode == 0, 30, 0.1)
    mark = time.monotonic()
    assert a.rtp.got(mark, 500) and b.rtp.got(mark, 500)
    assert [kedge.role("signalling"), kedge.role("media")] == children and not kedge.deaths(), kedge.log()[-1500:]
    check_in_dialog(kedge, a, b)


def test_baresip_phones_hear_each_other_after_each_kill(lab, stage):
    """The same with phones people use: kill signalling, then media; the tones are found after each."""
    server = lab.public_host("kedge-phones")
    kedge = stage.kedge(server, accounts={"alice": "a-word", "bob": "b-word"})
    phones = [stage.add(Phone(stage.folder / user, user, f"{server.addr}:5060", hz, lab.natted_host(user, nat=nat),
                              password=user[0] + "-word", domain="kedge.test")).start()
              for user, hz, nat in (("alice", 400, "symmetric"), ("bob", 700, "port-restricted"))]
    for phone in phones:
        phone.registered(15)
    a, b = phones
    a.call("bob")
    assert a.hears(700) and b.hears(400)
    for role in ("signalling", "media"):
        old, starts = kedge.role(role), [p.position() for p in phones]
        os.kill(old, signal.SIGKILL)
        assert a.hears(700, 1500, starts[0]) and b.hears(400, 1500, starts[1]), f"silence after the death of {role}"
        restarted(kedge, role, old)
    mark = b.mark()
    a.hangup()
    b.wait("CALL_CLOSED", mark)
    kedge.no_calls()
