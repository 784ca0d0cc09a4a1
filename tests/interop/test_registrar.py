"""The embedded registrar: digest, nonces, several contacts, what survives a restart (RFC 3261 10 and 22, 8760, 7616)."""
import os
import re
import signal
import time

import pytest

from interop.agent import digest, talk
from interop.hosts import Stopwatch, until


@pytest.fixture(scope="module")
def world(lab, long_stage):
    return long_stage.kedge(lab.public_host("kedge"), accounts={"alice": "a-word", "bob": "b-word"})


@pytest.fixture
def alice(lab, stage, world):
    made = phone(lab, stage, world, "alice")
    yield made
    made.request("REGISTER", "sip:kedge.test", ["Contact: *", "Expires: 0"], to="<sip:alice@kedge.test>")


hosts = {}


def phone(lab, stage, kedge, user, **kw):
    """On one host per name, so that the laboratory does not grow with every test."""
    name = kw.pop("on", user)
    if name not in hosts:
        hosts[name] = lab.public_host(name)
    return stage.agent(hosts[name], user, kw.pop("password", user[0] + "-word"), (kedge.host.addr, 5060), **kw)


def challenge(agent):
    """Both challenges of a REGISTER without credentials."""
    answer = agent.register(auth=False)
    assert answer.status == 401, answer
    return answer.all("WWW-Authenticate")


def register_with(agent, value, cseq=None, contact=None):
    return agent.request("REGISTER", f"sip:{agent.domain}", [f"Contact: {contact or agent.contact}", "Expires: 300",
                         "Authorization: " + value], to=f"<sip:{agent.user}@{agent.domain}>", auth=False, cseq=cseq)


def contacts(kedge, user):
    return [r for r in kedge.registrations() if r["user"] == user]


def algorithms(offered):
    for value in offered:
        assert 'qop="auth"' in value or "qop=auth" in value, value
    return [re.search(r"algorithm=([\w-]+)", c).group(1) for c in offered]


def digest_mode(kedge, mode):
    kedge.write_config({**kedge.rows, "registration": {**kedge.rows.get("registration", {}), "digest": mode}})
    kedge.ctl("reload")


def test_md5_alone_is_offered_by_default_and_sha256_is_taken(alice, world):
    """Many phones give up at a challenge that also names an algorithm they do not know."""
    [offered] = challenge(alice)
    assert algorithms([offered]) == ["MD5"]
    for algorithm in ("MD5", "SHA-256"):
        [value] = [c.replace("MD5", algorithm) for c in challenge(alice)]
        ok = register_with(alice, digest(value, "alice", "a-word", "REGISTER", "sip:kedge.test"))
        assert ok.status == 200, (value, ok)


def test_sha256_is_offered_first_where_both_are_configured(alice, world):
    digest_mode(world, "both")
    try:
        assert algorithms(challenge(alice)) == ["SHA-256", "MD5"], "RFC 8760 2.4: the strongest first"
        for index in range(2):
            value = challenge(alice)[index]
            ok = register_with(alice, digest(value, "alice", "a-word", "REGISTER", "sip:kedge.test"))
            assert ok.status == 200, (value, ok)
    finally:
        digest_mode(world, "md5")


def test_md5_is_refused_where_sha256_alone_is_configured(alice, world):
    digest_mode(world, "sha-256")
    try:
        [offered] = challenge(alice)
        assert algorithms([offered]) == ["SHA-256"]
        weaker = offered.replace("SHA-256", "MD5")
        refused = register_with(alice, digest(weaker, "alice", "a-word", "REGISTER", "sip:kedge.test"))
        assert refused.status == 401, refused
        [offered] = challenge(alice)
        ok = register_with(alice, digest(offered, "alice", "a-word", "REGISTER", "sip:kedge.test"))
        assert ok.status == 200, ok
    finally:
        digest_mode(world, "md5")


def test_granted_expires_and_all_contacts_are_in_the_answer(alice, world):
    ok = alice.register(expires=7200)
    assert ok.status == 200
    [contact] = ok.all("contact")
    granted = int(re.search(r"expires=(\d+)", contact).group(1))
    assert 30 <= granted <= 600
    assert alice.at in contact


def test_forged_nonce_is_challenged_again(alice, world):
    """A nonce that kedge did not make is worth nothing, although the digest over it is right."""
    [md5] = challenge(alice)
    nonce = re.search(r'nonce="([^"]+)"', md5).group(1)
    other = ("0" if nonce[-1] != "0" else "1")
    forged = digest(md5.replace(nonce, nonce[:-1] + other), "alice", "a-word", "REGISTER", "sip:kedge.test")
    answer = register_with(alice, forged)
    assert answer.status == 401, answer


def test_old_nonce_is_stale_not_wrong(lab, stage):
    """RFC 7616 3.3: stale=true tells the phone to use the new nonce without asking its user."""
    kedge = stage.kedge(lab.public_host("kedge-stale"), config={"registration": {"nonce_lifetime": 10}},
                        accounts={"alice": "a-word"})
    a = stage.agent(lab.public_host("alice-stale"), "alice", "a-word", (kedge.host.addr, 5060))
    [md5] = challenge(a)
    time.sleep(11)
    answer = register_with(a, digest(md5, "alice", "a-word", "REGISTER", "sip:kedge.test"))
    assert answer.status == 401 and re.search("stale=true", answer.get("WWW-Authenticate"), re.I), answer
    assert a.register().status == 200


def test_replayed_nonce_count_is_refused(alice, world):
    [md5] = challenge(alice)
    first = digest(md5, "alice", "a-word", "REGISTER", "sip:kedge.test", nc=1, cnonce="abc")
    assert register_with(alice, first).status == 200
    replay = register_with(alice, first)
    assert replay.status == 401, f"the same nc again: {replay}"
    assert "stale=true" in replay.get("WWW-Authenticate").replace("TRUE", "true"), "the digest was right, the nonce is used up"
    second = digest(md5, "alice", "a-word", "REGISTER", "sip:kedge.test", nc=2, cnonce="abc")
    assert register_with(alice, second).status == 200, "the next nc must do"


def test_captured_register_cannot_be_used_from_elsewhere(lab, stage, alice, world):
    [md5] = challenge(alice)
    value = digest(md5, "alice", "a-word", "REGISTER", "sip:kedge.test")
    assert register_with(alice, value).status == 200
    thief = phone(lab, stage, world, "alice", on="thief")
    stolen = register_with(thief, value, contact=thief.contact)
    assert stolen.status == 401, stolen
    assert all(thief.at not in r["contact"] for r in contacts(world, "alice"))


def test_user_cannot_register_for_another(lab, stage, alice, world):
    bob = phone(lab, stage, world, "bob")
    answer = bob.request("REGISTER", "sip:kedge.test", [f"Contact: {bob.contact}", "Expires: 300"],
                         to="<sip:alice@kedge.test>")
    assert answer.status == 403, answer
    assert contacts(world, "alice") == []


def test_several_contacts_ring_and_go_one_by_one(lab, stage, alice, world):
    second = phone(lab, stage, world, "alice", on="alice2")
    assert alice.register().status == 200 and second.register().status == 200
    assert len(contacts(world, "alice")) == 2
    answer = second.register(expires=0)
    assert answer.status == 200
    assert [r["remote"] for r in contacts(world, "alice")] == [alice.at]


def test_star_removes_all_and_needs_expires_0(lab, stage, alice, world):
    """RFC 3261 10.3 step 6."""
    second = phone(lab, stage, world, "alice", on="alice2")
    assert alice.register().status == 200 and second.register().status == 200
    bad = alice.request("REGISTER", "sip:kedge.test", ["Contact: *", "Expires: 60"], to="<sip:alice@kedge.test>")
    assert bad.status == 400, bad
    assert len(contacts(world, "alice")) == 2
    good = alice.request("REGISTER", "sip:kedge.test", ["Contact: *", "Expires: 0"], to="<sip:alice@kedge.test>")
    assert good.status == 200 and contacts(world, "alice") == []


def test_query_without_contact_lists_bindings_and_changes_nothing(alice, world):
    assert alice.register().status == 200
    before = contacts(world, "alice")
    answer = alice.request("REGISTER", "sip:kedge.test", to="<sip:alice@kedge.test>")
    assert answer.status == 200 and alice.at in answer.get("contact")
    assert len(contacts(world, "alice")) == len(before)


def test_too_many_contacts_do_not_pile_up(lab, stage, alice, world):
    for i in range(30):
        alice.register(contact=f"<sip:alice@{alice.ip}:{20000 + i}>")
    assert len(contacts(world, "alice")) <= 10


def test_closed_tcp_flow_takes_its_contact_away(lab, stage, world):
    tcp = phone(lab, stage, world, "bob", on="bob-tcp", transport="tcp")
    assert tcp.register().status == 200
    assert [r["transport"] for r in contacts(world, "bob")] == ["tcp"]
    tcp.close()
    assert until(lambda: contacts(world, "bob") == []), contacts(world, "bob")


def test_keepalives_meet_connections_that_close(lab, stage):
    """The keepalive itself finds out that its connection is gone, and the contact goes with that."""
    kedge = stage.kedge(lab.public_host("kedge-closing"), accounts={"bob": "b-word"},
                        config={"registration": {"keepalive_stream": 1, "keepalive_min": 1, "contacts_per_user": 30}})
    signalling = kedge.role("signalling")
    agents = [phone(lab, stage, kedge, "bob", transport="tcp") for _ in range(30)]
    assert all(a.register().status == 200 for a in agents)
    os.kill(signalling, signal.SIGSTOP)
    time.sleep(1.1)  # then each is due
    for a in agents:
        a.socket.close()
    os.kill(signalling, signal.SIGCONT)
    assert until(lambda: not kedge.registrations(), 10)
    assert kedge.role("signalling") == signalling


def test_crlf_keepalive_on_tcp_is_answered(lab, stage, world):
    """RFC 5626 3.5.1: double CRLF, one CRLF back."""
    import socket
    from interop.hosts import socket_in
    if "pinger" not in hosts:
        hosts["pinger"] = lab.public_host("pinger")
    with socket_in(hosts["pinger"], socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(10)
        s.connect((world.host.addr, 5060))
        s.sendall(b"\r\n\r\n")
        assert s.recv(16) == b"\r\n"


def test_keepalives_reach_a_udp_phone(lab, stage):
    """A NAT mapping must see a packet in time: every keepalive interval one goes to the phone."""
    kedge = stage.kedge(lab.public_host("kedge-keepalive"), config={"registration": {"keepalive_udp": 1}},
                        accounts={"bob": "b-word"})
    bob = stage.agent(lab.natted_host("bob-nat", nat="port-restricted"), "bob", "b-word", (kedge.host.addr, 5060))
    assert bob.register().status == 200
    assert until(lambda: kedge.stats()["keepalives_sent"] >= 2, 15, 0.2), "no keepalive was sent"


def test_phone_whose_nat_forgot_it_is_noticed(lab, stage):
    """A phone that answered keepalives and stops: its contact goes before its expiry says so, so that callers are told."""
    kedge = stage.kedge(lab.public_host("kedge-gone"), config={"registration": {"keepalive_udp": 1}},
                        accounts={"bob": "b-word"})
    bob = stage.agent(lab.natted_host("bob-gone", nat="port-restricted"), "bob", "b-word", (kedge.host.addr, 5060))
    assert bob.register().status == 200
    assert until(lambda: sum(m.method == "OPTIONS" for m in bob.log) >= 2, 15), "no keepalive came"
    bob.close()
    assert until(lambda: kedge.registrations() == [], 20, 0.2), kedge.registrations()


def test_keepalive_interval_is_learnt(lab, stage):
    """A NAT that forgets after 3 s: kedge begins at 2 s, tries longer until it breaks, and stays below from then on, also after a
    restart. The phone registers every 7.5 s, and kedge tries just before."""
    kedge = stage.kedge(lab.public_host("kedge-learns"), accounts={"bob": "b-word", "alice": "a-word"},
                        config={"registration": {"keepalive_udp": 2, "keepalive_min": 1, "keepalive_max": 20}})
    bob = stage.agent(lab.natted_host("bob-learns", nat="port-restricted", timeout=3), "bob", "b-word",
                      (kedge.host.addr, 5060))
    learnt = {}

    def learn():
        assert bob.register().status == 200
        learnt.update(kedge.registrations()[0]["keepalive"])
        return learnt["broken_ms"] or not until(lambda: False, 7.5)

    seen, watch = [], Stopwatch()
    for _ in range(12):
        if learn():
            seen.append(dict(learnt))
        # What broke because this machine stood still is corrected by the next silence that breaks.
        if 0 < learnt["broken_ms"] <= 4000 and learnt["state"] == "settled":
            break
    stood = watch.real - watch.fair > 0.4  # then a silence may have broken before kedge tried a longer one
    assert stood or any(2000 < s["interval_ms"] < 3000 for s in seen), seen
    assert 2900 <= learnt["broken_ms"] <= 4000, learnt
    assert learnt["interval_ms"] <= 0.8 * learnt["broken_ms"] and learnt["state"] == "settled", learnt
    assert f"{(learnt['broken_ms'] + 500) // 1000} s of silence" in learnt["words"]
    kedge.stored()
    restart(kedge, signal.SIGKILL)
    again = kedge.registrations()[0]["keepalive"]
    assert (again["interval_ms"], again["broken_ms"]) == (learnt["interval_ms"], learnt["broken_ms"])
    for _ in range(4):
        assert bob.register().status == 200  # nobody kept its NAT open meanwhile
        heard, watch = len(bob.log), Stopwatch()
        kept = until(lambda: sum(m.method == "OPTIONS" for m in bob.log[heard:]) >= 3, 10)
        if kept or watch.real - watch.fair < 0.4:  # or the NAT forgot since this machine stood still
            break
    assert kept, "the NAT was not kept open"
    alice = stage.agent(lab.public_host("alice-learns"), "alice", "a-word", (kedge.host.addr, 5060))
    talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host, hz=700))


def restart(kedge, sig):
    """Of everything: a power cut takes the children as well."""
    if sig == signal.SIGKILL:
        kedge.kill()
    kedge.process.send_signal(sig)
    kedge.process.wait(60)
    kedge.spawn().ready()


@pytest.mark.parametrize("sig", (signal.SIGTERM, signal.SIGKILL), ids=("clean", "killed"))
def test_bindings_and_nonces_survive_a_restart(lab, stage, sig):
    """No storm of 401s: the phone's next REGISTER with its old nonce and the next nc is simply good."""
    kedge = stage.kedge(lab.public_host(f"kedge-{sig.name}"), accounts={"alice": "a-word", "bob": "b-word"})
    a, b = (stage.agent(lab.public_host(f"{u}-{sig.name}"), u, u[0] + "-word", (kedge.host.addr, 5060)) for u in ("alice", "bob"))
    [md5] = challenge(a)
    assert register_with(a, digest(md5, "alice", "a-word", "REGISTER", "sip:kedge.test", nc=1)).status == 200
    assert b.register().status == 200
    before = {(r["user"], r["contact"], r["remote"]) for r in kedge.registrations()}
    kedge.stored()
    restart(kedge, sig)
    assert {(r["user"], r["contact"], r["remote"]) for r in kedge.registrations()} == before
    challenges = kedge.stats()["challenges"]
    again = register_with(a, digest(md5, "alice", "a-word", "REGISTER", "sip:kedge.test", nc=2))
    assert again.status == 200, f"the old nonce after the restart: {again}"
    assert kedge.stats()["challenges"] == challenges
    talk(b, a, stage.rtp(b.host), stage.rtp(a.host, hz=700))


def test_registrations_of_many_phones_at_once(lab, stage, world):
    """100 REGISTERs from one place, each challenged and then accepted."""
    many = phone(lab, stage, world, "bob", on="crowd")
    watch = Stopwatch()
    for i in range(100):
        assert many.register(contact=f"<sip:bob@{many.at};n={i % 3}>").status == 200
    assert watch.fair < 10
    many.request("REGISTER", "sip:kedge.test", ["Contact: *", "Expires: 0"], to="<sip:bob@kedge.test>")
