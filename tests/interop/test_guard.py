"""Bans and limits per source: who guesses passwords or scans is shut out, an office that shares an address with one wrong phone
is not; a person sees why and can undo it; nobody can tell from outside which users exist."""
import re
import socket
import statistics
import threading
import time

import pytest

from interop.agent import Dialog, digest
from interop.hosts import socket_in, until
from interop.pbx import Kamailio


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "office", "evil", "pbx")]


ACCOUNTS = {u: "pw-" + u for u in ("alice", "bob", "carol")}


@pytest.fixture(scope="module")
def kamailio(hosts, long_stage):
    return long_stage.add(Kamailio(long_stage.folder / "pbx", ACCOUNTS, hosts[3])).start()


@pytest.fixture(params=("embedded", "pbx"))
def world(request, hosts, stage):
    server, office, evil, pbx = hosts
    accounts = ACCOUNTS
    config = {"sip": {"listen": [f"udp:{server.addr}:5060", f"tcp:{server.addr}:5060"]}, "guard": {"ban": 60}}
    if request.param == "pbx":
        request.getfixturevalue("kamailio")
        config["pbx"] = [f"udp:{pbx.addr}:5060"]
        accounts = {}
    kedge = stage.kedge(server, config=config, accounts=accounts)
    domain = "kedge.test" if request.param == "embedded" else "pbx.test"

    def phone(host, user, password=None, **kw):
        return stage.agent(host, user, password or "pw-" + user, (server.addr, 5060), domain=domain, **kw)
    return kedge, phone, office, evil


def bans(kedge):
    return {(b["address"], b["user"]): b for b in kedge.json("bans")}


def guess(agent, times=1, timeout=8):
    """Registrations with a wrong password; the statuses (None: silence)."""
    answers = [agent.register(timeout=timeout) for _ in range(times)]
    return [a.status if a else None for a in answers]


@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_five_wrong_passwords_ban_an_address(world, transport):
    kedge, phone, office, evil = world
    alice = phone(office, "alice")
    assert alice.register().status == 200
    thief = phone(evil, "alice", "wrong", transport=transport)
    answers = guess(thief, 5)
    assert None not in answers[:4 if transport == "tcp" else 5]  # a connection may be closed before the last one is read
    ban = bans(kedge)[evil.addr, ""]
    assert ban["proven"] and ban["times"] == 1 and 30 < ban["left_s"] <= 60 and "wrong passwords" in ban["why"]
    # Everything from there, the right password too, over both transports; connections are closed.
    if transport == "tcp":
        assert guess(thief, timeout=1.5) == [None]
    right = phone(evil, "bob")
    assert right.register(timeout=1.5) is None
    with socket_in(evil, socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(8)
        s.connect((kedge.host.addr, 5060))
        assert closed(s)
    assert alice.register().status == 200, "somebody else's ban"
    # A person sees it and lifts it.
    line = [l for l in kedge.log().splitlines() if "is banned until" in l]
    assert len(line) == 1 and evil.addr in line[0] and f"kedgectl unban {evil.addr}" in line[0]
    assert evil.addr in kedge.ctl("bans") and kedge.stats()["guard_bans"] == 1 and kedge.stats()["guard_banned"] > 0
    kedge.ctl("unban", evil.addr)
    assert not bans(kedge)
    assert right.register().status == 200
    with socket_in(evil, socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        s.connect((kedge.host.addr, 5060))
        assert not closed(s)
    for wrong in ("nobody", "127.0.0.300", evil.addr):
        assert kedge.try_ctl("unban", wrong).returncode == 1


def test_passwords_are_not_guessed_by_calling_either(world):
    kedge, phone, _, evil = world
    thief = phone(evil, "alice", "wrong")
    answers = []
    for _ in range(5):
        answer = thief.request("INVITE", f"sip:bob@{thief.domain}", body=SDP.format(evil.addr))
        answers.append(answer and answer.status)
    assert set(answers) <= {403, 407, 401}
    assert until(lambda: (evil.addr, "") in bans(kedge), 20, 0.1), answers
    assert bans(kedge)[evil.addr, ""]["proven"]


def closed(s):
    try:
        return s.recv(100) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_ban_ends_by_itself_and_the_next_is_longer(world):
    kedge, phone, _, evil = world
    kedge.rows["guard"]["ban"] = 6
    kedge.write_config()
    kedge.ctl("reload")
    thief = phone(evil, "alice", "wrong")
    guess(thief, 5)
    assert until(lambda: not bans(kedge), 9, 0.2), "the ban lasts too long"
    assert guess(thief, 5).count(None) == 0
    assert bans(kedge)[evil.addr, ""]["times"] == 2 and bans(kedge)[evil.addr, ""]["left_s"] > 6


def test_one_wrong_phone_in_an_office_bans_nobody_else(world):
    """Three phones behind one address; one has the wrong password and never stops. Only that user is shut out there; at
    another address it works."""
    kedge, phone, office, evil = world
    alice, bob = phone(office, "alice"), phone(office, "bob")
    assert alice.register().status == 200 and bob.register().status == 200
    wrong = phone(office, "carol", "wrong")
    assert None not in guess(wrong, 5)
    assert guess(wrong, 2, 1.5) == [None, None]
    assert list(bans(kedge)) == [(office.addr, "carol")]
    assert phone(office, "carol").register(timeout=1.5) is None
    assert alice.register().status == 200 and bob.register().status == 200
    assert phone(evil, "carol").register().status == 200, "carol's phone at home"
    a, b = Dialog(alice), Dialog(bob)
    a.rtp = b.rtp = None
    result = []
    thread = threading.Thread(target=lambda: result.append(a.call("bob", body=SDP.format(office.addr))))
    thread.start()
    b.answer(bob.expect("INVITE"), body=SDP.format(office.addr))
    thread.join()
    assert result[0].status == 200
    assert a.bye().status == 200
    bob.reply(bob.expect("BYE"), 200)
    kedge.ctl("unban", office.addr)
    assert phone(office, "carol").register().status == 200


def test_a_banned_user_is_listed_whatever_bytes_its_name_has(world):
    """Names in a ban are cut: here in the middle of a character, which JSON does not take."""
    kedge, phone, office, evil = world
    assert phone(office, "alice").register().status == 200
    wrong = phone(office, "nobody")
    odd = "x" * 62 + "\u00e9"
    for _ in range(5):
        challenge = wrong.register(auth=False).get("WWW-Authenticate")
        value = digest(challenge, odd, "wrong", "REGISTER", f"sip:{wrong.domain}")
        wrong.register(headers=["Authorization: " + value], auth=False, timeout=2)
    assert until(lambda: list(bans(kedge)) == [(office.addr, "x" * 62 + "\\xc3")], 5, 0.1), bans(kedge)
    assert "x" * 62 in kedge.ctl("bans")


SDP = ("v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n")


def test_a_neighbour_who_guesses_does_not_lock_out_a_registered_phone(world):
    kedge, phone, office, _ = world
    alice = phone(office, "alice")
    assert alice.register().status == 200
    guess(phone(office, "alice", "wrong"), 5)
    assert list(bans(kedge)) == [(office.addr, "alice")]
    for _ in range(3):
        assert alice.register().status == 200


@pytest.mark.parametrize("agent", ("friendly-scanner", "SIPVicious/0.3", "sipcli/v1.8", "sundayddr", "VaxSIPUserAgent/3.1"))
def test_scanners_hear_nothing(world, agent):
    kedge, phone, office, evil = world
    alice = phone(office, "alice")
    assert alice.register().status == 200
    probe = phone(evil, "100")
    for method in ("OPTIONS", "REGISTER", "INVITE"):
        text = probe.build(method, f"sip:100@{kedge.host.addr}", [f"User-Agent: {agent}"])
        probe.send(text)
    assert until(lambda: (evil.addr, "") in bans(kedge), 20, 0.1)
    assert not probe.log, "a scanner was answered"
    assert not bans(kedge)[evil.addr, ""]["proven"]
    # Its address may be forged: a phone there that knows its password is let in, and the ban is over.
    bob = phone(evil, "bob")
    assert bob.register(timeout=15).status == 200
    assert not bans(kedge)
    # From a registered phone's address it is dropped, and that is all.
    neighbour = phone(office, "100")
    neighbour.send(neighbour.build("OPTIONS", f"sip:100@{kedge.host.addr}", [f"User-Agent: {agent}"]))
    assert alice.register().status == 200 and not neighbour.log and not bans(kedge)


def test_scanners_may_be_let_in(hosts, stage):
    server, _, evil, _ = hosts
    stage.kedge(server, config={"guard": {"scanners": "no"}}, accounts={"alice": "pw-alice"})
    probe = stage.agent(evil, "100", "", (server.addr, 5060))
    assert probe.request("OPTIONS", f"sip:{server.addr}", ["User-Agent: friendly-scanner"]).status == 200


def test_trusted_networks_are_never_banned(hosts, stage):
    server, _, evil, _ = hosts
    kedge = stage.kedge(server, config={"guard": {"trusted": [f"{evil.addr}/32"]}}, accounts={"alice": "pw-alice"})
    thief = stage.agent(evil, "alice", "wrong", (server.addr, 5060))
    assert guess(thief, 8) == [403] * 8 and not bans(kedge)


def test_malformed_messages_ban(hosts, stage):
    server, _, evil, _ = hosts
    kedge = stage.kedge(server, config={"guard": {"strangers": 100}}, accounts={"alice": "pw-alice"})
    with socket_in(evil) as s:
        for i in range(60):
            s.sendto(f"OPTIONS sip:[::1 SIP/2.0\r\nVia: broken{i}\r\nTo: <<\r\n\r\n".encode(), (server.addr, 5060))
    assert until(lambda: (evil.addr, "") in bans(kedge), 20, 0.1)
    assert "malformed" in bans(kedge)[evil.addr, ""]["why"]


def test_rows_are_reloadable(hosts, stage):
    server, _, evil, _ = hosts
    kedge = stage.kedge(server, accounts={"alice": "pw-alice"})
    thief = stage.agent(evil, "alice", "wrong", (server.addr, 5060))
    guess(thief, 4)
    assert not bans(kedge)
    kedge.write_config({**kedge.rows, "guard": {"passwords": 2, "ban": 1000}})
    kedge.ctl("reload")
    kedge.ctl("version")
    assert until(lambda: guess(thief) and bans(kedge), 10, 0.2)
    assert bans(kedge)[evil.addr, ""]["left_s"] > 900


# Enumeration

def shape(answer):
    """An answer without what differs by design: tags, branch, Call-ID, nonce."""
    text = re.sub(r"(tag=|branch=|nonce=\"|received=|rport=)[^;\"\s]*", r"\1", answer.start + "\n" + "\n".join(f"{n}: {v}" for n, v in answer.headers))
    return re.sub(r"(call-id|cseq|via|from|to): .*", r"\1", text)


def tries_of(probe, evil, kind, round_):
    """Four requests of one user, without and with a password: [(step, answer, seconds)]."""
    probe.user = f"{kind}{round_ % 20}"
    out, uri = [], f"sip:{probe.user}@kedge.test"

    def step(name, function, *args):
        start = time.perf_counter()
        answer = function(*args, auth=False)
        out.append((name, answer, time.perf_counter() - start))
        return answer

    first = step("challenge", probe.register)
    value = digest(first.get("WWW-Authenticate"), probe.user, "guess", "REGISTER", "sip:kedge.test")
    step("guess", lambda **kw: probe.register(headers=["Authorization: " + value], **kw))
    third = step("invite", probe.request, "INVITE", uri, [], SDP.format(evil.addr))
    proof = digest(third.get("Proxy-Authenticate"), probe.user, "guess", "INVITE", uri)
    step("call", probe.request, "INVITE", uri, [f"Proxy-Authorization: {proof}"], SDP.format(evil.addr))
    assert [answer.status for _, answer, _ in out] == [401, 403, 407, 403]
    return out


def test_nobody_can_tell_which_users_exist(hosts, stage):
    """Valid and invalid users: the same bytes in the same time, with and without credentials, REGISTER and INVITE; and when
    they are blocked, the same silence."""
    server, _, evil, _ = hosts
    stage.kedge(server, config={"guard": {"trusted": [f"{evil.addr}/32"]}}, accounts={f"real{i}": "pw" for i in range(20)})
    probe = stage.agent(evil, "x", "guess", (server.addr, 5060))
    shapes = {"real": set(), "fake": set()}
    told = None  # {step: what tells them apart}, each time that it was measured: others use this machine too
    for _ in range(5):
        times = {"real": {}, "fake": {}}
        for round_ in range(30):
            for kind in ("real", "fake") if round_ % 2 else ("fake", "real"):
                tries = tries_of(probe, evil, kind, round_)
                shapes[kind].add(tuple(shape(answer) for _, answer, _ in tries))
                for step, _, seconds in tries:
                    times[kind].setdefault(step, []).append(seconds)
        assert shapes["real"] == shapes["fake"] and len(shapes["real"]) == 1
        found = {}
        for step in times["real"]:
            real, fake = (statistics.median(times[kind][step]) for kind in ("real", "fake"))
            spread = statistics.median(abs(t - fake) for t in times["fake"][step])
            if abs(real - fake) >= max(0.25 * fake, 3 * spread):
                found[step, real > fake] = f"{real * 1e6:.0f} us for users that exist, {fake * 1e6:.0f} us for others"
        told = found if told is None else {step: told[step] for step in told if step in found}
        if not told:
            return
    raise AssertionError(told)


def test_blocked_users_are_silent_whether_they_exist_or_not(hosts, stage):
    server, office, _, _ = hosts
    kedge = stage.kedge(server, accounts={"real": "pw", "other": "pw-other"})
    assert stage.agent(office, "other", "pw-other", (server.addr, 5060)).register().status == 200
    for user in ("real", "fake"):
        wrong = stage.agent(office, user, "wrong", (server.addr, 5060))
        assert guess(wrong, 5) == [403] * 5 and guess(wrong, timeout=1.5) == [None]
    assert set(bans(kedge)) == {(office.addr, "real"), (office.addr, "fake")}


@pytest.mark.parametrize("method", ("INVITE", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER", "NOTIFY", "INFO", "UPDATE", "BYE", "PRACK"))
def test_nothing_is_served_without_a_password(hosts, stage, method):
    """Outside of dialogs, alone: challenged, or refused as what only lives inside of one; never served, nothing reaches a phone."""
    server, office, evil, _ = hosts
    stage.kedge(server, accounts={"alice": "pw-alice"})
    alice = stage.agent(office, "alice", "pw-alice", (server.addr, 5060))
    assert alice.register().status == 200
    headers = ["Event: presence", "Subscription-State: active", "Refer-To: <sip:x@kedge.test>", f"Contact: <sip:x@{evil.addr}>"]
    for user in ("alice", "nobody"):
        stranger = stage.agent(evil, user, "", (server.addr, 5060))
        answer = stranger.request(method, "sip:alice@kedge.test", headers, "" if method != "INVITE" else SDP.format(evil.addr), auth=False)
        assert answer is not None and answer.status in (401, 403, 405, 407, 481), answer
        if method in ("INVITE", "MESSAGE", "SUBSCRIBE", "PUBLISH"):
            assert answer.status == 407
    assert alice.requests.empty()
