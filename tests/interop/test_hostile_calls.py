"""Phones with valid passwords, providers and PBXes that mean harm: calls, transfers, subscriptions."""
import re
import socket
import time

import pytest

from interop.agent import Dialog, Message, digest, sdp, talk, token
from interop.hosts import background, socket_in, until
from interop.itsp import Itsp
from interop.test_subscriptions import Office, answered, lamp_state

USERS = ("alice", "bob", "carol", "mallory")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "three", "four")]


class Site:
    """kedge with its own registrar, and phones at hosts[1..]."""

    def __init__(self, stage, hosts, users=USERS, **config):
        self.stage, self.hosts = stage, hosts
        self.kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in users}, config=config)

    def phone(self, user, host=1, register=True, **kw):
        agent = self.stage.agent(self.hosts[host], user, "pw-" + user, (self.kedge.host.addr, 5060), **kw)
        assert not register or agent.register().status == 200
        return agent

    def rtp(self, agent):
        return self.stage.rtp(agent.host)

    def talk(self, a, b):
        return talk(a, b, self.rtp(a), self.rtp(b))


@pytest.fixture
def site(stage, hosts):
    return lambda *args, **kw: Site(stage, hosts, *args, **kw)


# ---- subscriptions ----

def test_requests_of_one_subscription_that_nobody_answers(site):
    """The SUBSCRIBE gets no answer, nor does the NOTIFY in its dialog: the one that is given up first ends both."""
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    asked = background(alice.request, "SUBSCRIBE", "sip:bob@kedge.test",
                       ["Event: presence", "Expires: 600", f"Contact: {alice.contact}"], timeout=16)
    seen = bob.expect("SUBSCRIBE")
    bob.send(bob.build("NOTIFY", seen.contact(), ["Event: presence", "Subscription-State: active", f"Contact: {bob.contact}"], "",
                       call_id=seen.get("call-id"), from_tag=token(), to=seen.get("from")))
    alice.expect("NOTIFY")
    assert asked().status == 480
    s.kedge.alive()
    assert until(lambda: not s.kedge.json("subscriptions"), 3)


def test_lamp_that_is_taken_back_while_its_notify_is_unanswered(site):
    s = site()
    alice = s.phone("alice")
    ids = {"call_id": token(), "from_tag": token()}
    headers = ["Event: dialog", f"Contact: {alice.contact}"]
    first = alice.request("SUBSCRIBE", "sip:bob@kedge.test", [*headers, "Expires: 600"], **ids)
    alice.expect("NOTIFY")
    gone = alice.request("SUBSCRIBE", first.contact(), [*headers, "Expires: 0"], to=first.get("to"), **ids)
    assert gone.status == 200
    alice.expect("NOTIFY")
    assert until(lambda: not s.kedge.json("subscriptions"), 16)
    s.kedge.alive()


# ---- calls of others ----

def ringing_seen_by(watcher):
    state = ("", {}, "")
    while state[0] != "early":
        state = lamp_state(answered(watcher, "NOTIFY"))[0]
    return state[1]


@pytest.mark.parametrize("header", ("Replaces", "Join"))
def test_who_watches_a_lamp_cannot_take_the_call(stage, hosts, header):
    """The identifiers by which a ringing call is picked up name the answered one too."""
    office = Office(stage, hosts)
    alice, bob, carol = office.phones
    office.watch(carol, "bob")
    answered(carol, "NOTIFY")
    call, ring = Dialog(alice, stage.rtp(alice.host)), Dialog(bob, stage.rtp(bob.host))
    result = background(call.call, "bob")
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    seen = ringing_seen_by(carol)
    ring.answer(invite)
    assert result().status == 200
    confirmed = answered(carol, "NOTIFY")
    assert lamp_state(confirmed)[0][0] == "confirmed"
    assert call.local_tag not in confirmed.body and ring.call_id not in confirmed.body, "who watches needs no names of it"
    thief = Dialog(carol, stage.rtp(carol.host))
    named = f"{seen['call-id']};to-tag={seen['remote-tag']};from-tag={seen['local-tag']}"
    for who in ("alice", "bob"):
        answer = Dialog(carol, thief.rtp).call(who, headers=[f"{header}: {named}"], timeout=4)
        assert answer is not None and answer.status == 403, answer
    assert alice.quiet("INVITE", 0.2) and bob.quiet("INVITE", 0.2)
    since = time.monotonic()
    assert call.rtp.got(since, 200) and ring.rtp.got(since, 200)


# ---- numbers that hide from the caps ----

@pytest.mark.parametrize("uri", ("sip:0900123@kedge.test", "tel:0900123", "tel:0900" + "-" * 130 + "123", "tel:0900123%00",
                                 "sip:0900" + "-" * 130 + "123@kedge.test", "sip:0900123%00@kedge.test",
                                 "sip:%30900123@kedge.test", "sip:0-9.0(0)123@kedge.test", "sip:0900123;phone-context=x@kedge.test",
                                 "tel:0900123;phone-context=" + "x" * 140, "sip:0900123@kedge.test;user=phone"))
@pytest.mark.parametrize("front", (False, True))
def test_caps_read_what_a_gateway_would_dial(site, hosts, stage, uri, front):
    itsp = stage.add(Itsp(hosts[4], {}, proofs=()))
    caps = [{"user": "*", "deny": ["0900"]}]
    if front:
        kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[4].addr}:5060"], "caps": caps})
        mallory = stage.agent(hosts[1], "mallory", "pw", (kedge.host.addr, 5060))
    else:
        s = site(trunks=[{"name": "itsp", "server": f"udp:{hosts[4].addr}:5060", "register": False, "probe": 0}], caps=caps,
                 routes=[{"number": "*", "to": "itsp"}])
        mallory = s.phone("mallory")
    answer = mallory.request("INVITE", uri, body=sdp(mallory.ip, 30000), to="<sip:x@kedge.test>", timeout=4)
    assert answer is not None and 400 <= answer.status < 500, itsp.requests.get().start if answer is None else answer
    assert itsp.quiet("INVITE", 0.3)


# ---- where kedge can be made to send something ----

def ear_at(host, ip, port):
    """What arrives at an address of kedge's own machine."""
    s = socket_in(host, socket.AF_INET)
    s.bind((ip, port))
    s.settimeout(0.3)
    return s


def silent(s):
    try:
        return not s.recv(65536)
    except TimeoutError:
        return True


def test_record_route_of_a_provider_leads_nowhere_inside(site, hosts, stage):
    """What its far end wrote into Record-Route does not make kedge talk to itself or to its own network."""
    itsp = stage.add(Itsp(hosts[4], {}, proofs=()))
    s = site(trunks=[{"name": "itsp", "server": f"udp:{hosts[4].addr}:5060", "register": False, "probe": 0}],
             routes=[{"number": "*", "to": "itsp"}])
    alice = s.phone("alice")
    ear = ear_at(hosts[0], "127.0.0.1", 5099)
    for route in ("127.0.0.1:5099", "169.254.169.254:80", "10.0.0.1:5060", "0.0.0.0:5099", "224.0.0.1:5060", hosts[0].addr + ":5060"):
        call, far = Dialog(alice, s.rtp(alice)), Dialog(itsp, stage.rtp(itsp.host))
        result = background(call.call, "0301234")
        invite = itsp.expect("INVITE")
        ack = far.answer(invite, headers=[f"Record-Route: <sip:{route};lr>"])
        assert result().status == 200 and ack is not None
        end = background(call.bye)
        itsp.reply(itsp.expect("BYE"), 200)
        assert end().status == 200
        assert silent(ear)
    s.kedge.no_calls()
