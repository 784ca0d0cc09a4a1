"""Phones with valid passwords, providers and PBXes that mean harm: calls, transfers, subscriptions."""
import base64
import os
import random
import socket
import time

import pytest

from interop.agent import Dialog, Message, digest, sdp, talk, token
from interop.hosts import background, socket_in, until
from interop.itsp import Itsp
from interop.web import WebAgent
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
    assert until(lambda: not s.kedge.json("subscriptions"))


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
        answer = Dialog(carol, thief.rtp).call(who, headers=[f"{header}: {named}"])
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
    answer = mallory.request("INVITE", uri, body=sdp(mallory.ip, 30000), to="<sip:x@kedge.test>")
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


# ---- what a callee can make kedge do ----

def test_session_interval_that_grows_without_end(site):
    """422 with a Min-SE that is a second longer each time (RFC 4028 7.4): kedge does not go on for ever."""
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    result = background(Dialog(alice, s.rtp(alice)).call, "bob", timeout=20)
    asked = 0
    while asked < 40 and (invite := bob.expect_unless("INVITE", result)):
        bob.reply(invite, 422, headers=[f"Min-SE: {2000 + asked}"])
        asked += 1
    assert 0 < asked < 10, "asked again for ever"
    assert result().status >= 400
    s.kedge.no_calls()


@pytest.mark.parametrize("headers", (["Session-Expires: 0"], ["Session-Expires: 4294967295", "Min-SE: 4294967295"],
                                     ["Session-Expires: 99999999999999999999"], ["Session-Expires: 90;refresher=uac", "Min-SE: 0"],
                                     ["Session-Expires: -1"], ["Min-SE: 18446744073709551615", "Session-Expires: 1800"]))
def test_odd_session_timers(site, headers):
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    call, far = Dialog(alice, s.rtp(alice)), Dialog(bob, s.rtp(bob))
    result = background(call.call, "bob", headers=["Supported: timer", *headers])
    invite = bob.expect_unless("INVITE", result)
    if not invite:
        assert result().status in (400, 422)
        return
    far.answer(invite, headers=["Require: timer", *[h for h in headers if "Session" in h]])
    assert result().status == 200
    for d in (call, far):
        answer = d.request("UPDATE", ["Supported: timer", *headers])
        assert answer.status in (200, 400, 422)
    s.kedge.alive()
    end = background(call.bye)
    bob.reply(bob.expect("BYE"), 200)
    assert end().status == 200
    s.kedge.no_calls()


INSIDE = ("sip:x@127.0.0.1", "sip:x@169.254.169.254:80", "sip:bob@10.0.0.1;maddr=127.0.0.1", "sip:bob@kedge.test;maddr=10.0.0.1",
          "sip:bob@203.0.113.14:5060;transport=tcp", "sips:bob@[::1]", "tel:110", "mailto:bob@kedge.test", "sip:%00@kedge.test",
          "sip:dave@kedge.test?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2", "sip:" + "b" * 300 + "@kedge.test")


def test_diversions_to_everywhere(site, hosts):
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    ear = ear_at(hosts[0], "127.0.0.1", 5060)
    result = background(Dialog(alice, s.rtp(alice)).call, "bob", timeout=20)
    invite = bob.expect("INVITE")
    bob.reply(invite, 302, headers=[f"Contact: <{c}>" for c in INSIDE])
    assert result().status in (480, 302, 403, 404)
    assert silent(ear)
    for contact in INSIDE:
        result = background(Dialog(alice, s.rtp(alice)).call, "bob", timeout=20)
        bob.reply(bob.expect("INVITE"), 302, headers=[f"Contact: <{contact}>"])
        answer = result()
        assert answer.status >= 400 and not answer.get("contact"), answer
    s.kedge.no_calls()


def test_forking_bomb(stage, hosts):
    """Ten contacts, each of which diverts to ten accounts: each is called once, and what is called in all is bounded."""
    users = ["alice", "bob", *(f"u{i}" for i in range(12))]
    s = Site(stage, hosts, users)
    alice = s.phone("alice")
    bobs = [s.phone("bob", 1 + i % 3) for i in range(8)]
    others = [s.phone(f"u{i}", 1 + i % 3) for i in range(12)]
    result = background(Dialog(alice, s.rtp(alice)).call, "bob", timeout=20)
    invites = set()  # by their branches: what is sent again because this machine is slow is none more
    while not result.done():
        for n, phone in enumerate((*bobs, *others)):
            while not phone.requests.empty():
                request = phone.requests.get()
                if request.method == "INVITE":
                    invites.add(request.transaction)
                    phone.reply(request, 302, headers=[f"Contact: <sip:u{(n + k) % 12}@kedge.test>" for k in range(10)])
                elif request.method == "CANCEL":
                    phone.reply(request, 200)
        time.sleep(0.01)
    assert result().status >= 400 and len(invites) < 60, len(invites)
    s.kedge.no_calls()


def test_provisional_responses_without_end(site):
    """100 reliable ringing tones, in and out of order, with and without a description, from 30 early dialogs."""
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    call = Dialog(alice, s.rtp(alice))
    result = background(call.call, "bob", timeout=20)
    invite = bob.expect("INVITE")
    far = Dialog(bob, s.rtp(bob))
    for n in range(300):
        rseq = (1, 2, 2, 4294967295, 0, 3, n, 1 << 40)[n % 8]
        bob.reply(invite, (180, 183, 199)[n % 3], far.body() if n % 2 else "", tag=f"t{n % 30}",
                  headers=["Require: 100rel", f"RSeq: {rseq}", f"Contact: {bob.contact}"])
        invite.our_tag = None
    far.answer(invite)
    assert result().status == 200
    end = background(call.bye)
    bob.reply(bob.expect("BYE"), 200)
    assert end().status == 200
    s.kedge.no_calls()


def test_notifications_without_end(site):
    """Who is subscribed to can send as much as it likes: the subscriber gets what any phone would send."""
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    asked = background(alice.request, "SUBSCRIBE", "sip:bob@kedge.test",
                       ["Event: presence", "Expires: 600", f"Contact: {alice.contact}"])
    seen = bob.expect("SUBSCRIBE")
    sent = Message(bob.reply(seen, 200, headers=["Expires: 600", f"Contact: {bob.contact}"]))
    assert asked().status == 200
    began, cseq, got = time.monotonic(), 1, 0
    while cseq < 1000 or got < 5:
        for _ in range(10):
            cseq += 1
            bob.send(bob.build("NOTIFY", seen.contact(), ["Event: presence", "Subscription-State: active", f"Contact: {bob.contact}"],
                               "", call_id=seen.get("call-id"), from_tag=sent.tag("to"), to=seen.get("from"), cseq=cseq))
        while not alice.requests.empty():
            alice.reply(alice.requests.get(), 200)
            got += 1
        time.sleep(0.01)
    assert got < 100 + 10 * (time.monotonic() - began), (cseq, got)
    s.kedge.alive()


# ---- in whose name ----

@pytest.mark.parametrize("method", ("INVITE", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER", "NOTIFY", "OPTIONS"))
@pytest.mark.parametrize("name", ("alice", "alice%00mallory", "%61lice", "alice;x=mallory", "ALICE", "mallory@x"))
def test_nobody_speaks_in_another_ones_name(site, method, name):
    """mallory has a password, her own. Whatever she writes into From, nobody is told that it was alice."""
    s = site()
    mallory, bob, _ = s.phone("mallory"), s.phone("bob", 2), s.phone("alice", 3)
    headers = [f"Contact: {mallory.contact}", "Event: presence", "P-Asserted-Identity: <sip:alice@kedge.test>",
               "Remote-Party-ID: <sip:alice@kedge.test>;party=calling", "Refer-To: <sip:bob@kedge.test>", "Expires: 60",
               "Subscription-State: active", "P-Asserted-Service: x", "Route: <sip:127.0.0.1;lr>", "Path: <sip:127.0.0.1;lr>",
               "Via: SIP/2.0/UDP 127.0.0.1:5099;branch=z9hG4bKfoo"]
    name = name.partition("@")[0]
    result = background(mallory.request, method, "sip:bob@kedge.test", headers, sdp(mallory.ip, 4000) if method == "INVITE" else "",
                        from_user=name)
    request = bob.expect_unless(method, result)
    if request:
        assert "alice" not in request.get("from").lower().replace("%61", "a"), request.get("from")
        assert not request.all("p-asserted-identity") and not request.all("remote-party-id"), request.headers
        assert not request.all("proxy-authorization") and mallory.ip not in str(request.headers), request.headers
        bob.reply(request, 486)
    answer = result()
    assert request or answer.status >= 400 or method == "OPTIONS", answer
    s.kedge.no_calls()


def test_nobody_is_reached_through_route_headers(site, hosts):
    """Route, a foreign Request-URI with maddr, Record-Route and Contact: nothing leaves for where they point."""
    s = site()
    alice, bob = s.phone("alice"), s.phone("bob", 2)
    ears = [ear_at(hosts[0], "127.0.0.1", 5099), ear_at(hosts[4], hosts[4].addr, 5099)]
    bad = [f"<sip:{h}:5099;lr>" for h in ("127.0.0.1", hosts[4].addr)]
    for method, uri in (("MESSAGE", "sip:bob@kedge.test"), ("OPTIONS", "sip:bob@kedge.test"),
                        ("MESSAGE", f"sip:bob@{hosts[4].addr}:5099"), ("MESSAGE", f"sip:bob@kedge.test;maddr={hosts[4].addr}"),
                        ("INVITE", f"sip:bob@kedge.test:5099;maddr={hosts[4].addr}")):
        result = background(alice.request, method, uri, ["Route: " + b for b in bad], sdp(alice.ip, 4000) if method == "INVITE" else "")
        request = bob.expect_unless(method, result)
        if request:
            bob.reply(request, 486)
        result()
    call, far = Dialog(alice, s.rtp(alice)), Dialog(bob, s.rtp(bob))
    result = background(call.call, "bob", headers=["Record-Route: " + b for b in bad])
    invite = bob.expect("INVITE")
    far.answer(invite, headers=["Record-Route: " + b for b in bad] + ["Contact: " + bad[1]])
    assert result().status == 200
    far.request("UPDATE", [f"Contact: {bad[1]}"])
    end = background(call.bye)
    bob.reply(bob.expect("BYE"), 200)
    assert end().status == 200
    assert all(silent(e) for e in ears)
    s.kedge.no_calls()


def test_refusals_over_streams(site):
    """Of a request over a stream nothing is left in the library once it was refused."""
    s = site()
    mallory = s.phone("mallory", register=False, transport="tcp")
    for n in range(200):
        for method in ("MESSAGE", "SUBSCRIBE", "INVITE"):
            mallory.send(mallory.build(method, "sip:bob@kedge.test", ["Event: presence", "Contact: <sip:x@y.z>"],
                                       sdp(mallory.ip, 4000) if method == "INVITE" else "", from_user=("mallory", "bob")[n % 2]))
    assert until(lambda: sum(m.status == 407 for m in mallory.log) >= 20, 10)
    s.kedge.alive()


# ---- everything at once ----

KEY = base64.b64encode(bytes(30)).decode()
PRINT = "SHA-256 " + ":".join(["5A"] * 32)
ICE = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
CRYPTO = "".join(f"a=crypto:{n} {suite} inline:{KEY}\r\n" for n, suite in enumerate(("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"), 1))


def secured(dice, ip):
    """A description with keys of every kind, right and wrong ones."""
    def dtls(i=""):
        setup = dice.choice(("actpass", "active", "passive", "holdconn", "actpass"))
        return (f"a=fingerprint:{dice.choice((PRINT, PRINT, PRINT[:40]))}\r\na=setup:{setup}\r\n"
                + dice.choice(("", f"a=tls-id:{token()}{token()}{token()}\r\n")))
    kinds = (("RTP/AVP", ""), ("RTP/AVP", CRYPTO), ("RTP/SAVP", CRYPTO), ("RTP/SAVP", ""), ("RTP/SAVPF", CRYPTO),
             ("RTP/SAVP", f"a=crypto:{dice.randrange(9)} AES_CM_128_HMAC_SHA1_80 inline:{base64.b64encode(os.urandom(30)).decode()}\r\n"),
             ("UDP/TLS/RTP/SAVP", dtls()), ("UDP/TLS/RTP/SAVPF", dtls() + ICE + "a=rtcp-mux\r\n"), ("RTP/SAVP", CRYPTO + dtls()))
    lines, bundle = [], dice.random() < 0.4
    profile, attributes = dice.choice(kinds)
    for i in range(dice.choice((1, 1, 2, 2, 3, 5))):
        if dice.random() < 0.2:
            profile, attributes = dice.choice(kinds)
        port = dice.choice((0, 9, 30000 + 4 * i, 30000 + 4 * i))
        lines.append(f"m={dice.choice(('audio', 'audio', 'video'))} {port} {profile} 0 8\r\na=mid:{dice.choice((i, i, 0))}\r\n{attributes}"
                     + dice.choice(("", "a=bundle-only\r\n")) * bundle)
    group = "a=group:BUNDLE " + " ".join(str(n) for n in range(len(lines))) + "\r\n" if bundle else ""
    return f"v=0\r\no=x 1 {dice.randrange(1 << 30)} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{group}" + "".join(lines)


class Anarchist:
    """A phone that answers what comes and sends what it can, by the dice."""

    def __init__(self, site, user, host, dice, transport, keys=False):
        self.site, self.dice, self.transport, self.keys = site, dice, transport, keys
        self.user, self.host = user, host
        self.phone = None
        self.connect()
        self.dialogs = []  # [target, local, remote, call-id, cseq]
        self.pending = []  # INVITEs of others, not answered yet
        self.sent = {}     # INVITEs of its own by Call-ID

    def connect(self):
        if self.phone:
            self.phone.close()
        if self.transport == "ws":
            self.phone = WebAgent(self.site.hosts[self.host], self.user, "pw-" + self.user, (self.site.kedge.host.addr, 8080), webrtc=True)
            self.phone.register(self.phone.outbound(), timeout=2)
            return
        self.phone = self.site.phone(self.user, self.host, register=False, transport=self.transport)
        self.phone.register(timeout=2)

    def someone(self):
        return "sip:" + self.dice.choice(USERS) + "@kedge.test"

    def body(self):
        if self.keys and self.dice.random() < 0.8:
            return secured(self.dice, self.phone.ip)
        return self.dice.choice((sdp(self.phone.ip, 30000 + self.dice.randrange(1000)), sdp(self.phone.ip, 30000), "", "v=0\r\n"))

    def in_dialog(self, method, headers=(), body=""):
        d = self.dice.choice(self.dialogs)
        d[4] += 1
        self.phone.send("\r\n".join(
            [f"{method} {d[0]} SIP/2.0", f"Via: SIP/2.0/{self.phone.transport.upper()} {self.phone.at};rport;branch=z9hG4bK{token()}",
             "Max-Forwards: 70", f"From: {d[1]}", f"To: {d[2]}", f"Call-ID: {d[3]}", f"CSeq: {d[4]} {method}",
             f"Contact: {self.phone.contact}", *headers, *(["Content-Type: application/sdp"] if body else []),
             f"Content-Length: {len(body)}", "", body]))
        if method == "BYE" and self.dice.random() < 0.8:
            self.dialogs.remove(d)

    def invite(self):
        call_id, tag = token(), token()
        uri, body, headers = self.someone(), self.body(), self.dice.choice(([], [], ["Supported: 100rel, timer"], ["Require: 100rel"]))
        text = self.phone.build("INVITE", uri, headers, body, call_id=call_id, from_tag=tag, cseq=1)
        self.sent[call_id] = (uri, text, headers, body, tag)
        self.phone.send(text)

    def refer(self):
        to = self.dice.choice((self.someone(), "sip:nobody@kedge.test", "tel:110"))
        d = self.dice.choice(self.dialogs)
        if self.dice.random() < 0.5:
            named = f"{d[3]};to-tag={d[2].rpartition('tag=')[2]};from-tag={d[1].rpartition('tag=')[2]}"
            to += "?Replaces=" + named.replace(";", "%3B").replace("=", "%3D")
        self.in_dialog("REFER", [f"Refer-To: <{to}>", *self.dice.choice(([], ["Refer-Sub: false"]))])

    def answered(self, m):
        """A response came."""
        if m.cseq[1] != "INVITE" or m.status < 200:
            if m.status > 100 and "100rel" in m.get("require") and m.get("call-id") in self.sent and self.dice.random() < 0.7:
                self.dialogs.append([m.contact(), m.get("from"), m.get("to"), m.get("call-id"), m.cseq[0]])
                self.in_dialog("PRACK", [f"RAck: {m.get('rseq')} {m.get('cseq')}"], self.dice.choice(("", "", self.body())))
                self.dialogs.pop() if self.dialogs else None
            return
        uri, text, headers, body, tag = self.sent.get(m.get("call-id"), (None,) * 5)
        if m.status >= 300 and uri:
            self.phone._ack_refusal(text, m)
            if m.status == 407:
                proof = digest(m.get("proxy-authenticate"), self.user, "pw-" + self.user, "INVITE", uri)
                text = self.phone.build("INVITE", uri, [*headers, "Proxy-Authorization: " + proof], body, call_id=m.get("call-id"),
                                        from_tag=tag, cseq=m.cseq[0] + 1)
                self.sent[m.get("call-id")] = (uri, text, headers, body, tag)
                self.phone.send(text)
        elif m.status < 300 and self.dice.random() < 0.9:
            d = [m.contact(), m.get("from"), m.get("to"), m.get("call-id"), m.cseq[0] - 1]
            if not any(k[3] == d[3] for k in self.dialogs):
                self.dialogs.append(d)
            kept, self.dialogs = self.dialogs, [d]
            self.in_dialog("ACK", body=self.dice.choice(("", self.body())))
            self.dialogs = kept

    def served(self, m):
        """A request came."""
        if m.method == "INVITE":
            if "tag=" in m.get("to"):
                self.phone.reply(m, self.dice.choice((200, 200, 200, 488, 491, 481)), self.body())
            else:
                self.pending.append(m)
        elif m.method != "ACK":
            self.phone.reply(m, self.dice.choice((200, 200, 200, 405, 481, 500)))

    def ring(self):
        m = self.pending[-1]
        status = self.dice.choice((180, 183, 200, 200, 486, 302, 302, 603, 422, 199) + (488, 488, 606, 415) * self.keys)
        headers = {302: [f"Contact: <{self.someone()}>", f"Contact: <{self.someone()}>;q=0.{self.dice.randrange(9)}"], 422: ["Min-SE: 3000"],
                   183: ["Require: 100rel", f"RSeq: {self.dice.randrange(1, 4)}"]}.get(status, [])
        allow = self.dice.choice(([], ["Allow: INVITE, ACK, BYE, CANCEL"], ["Allow: INVITE, ACK, BYE, CANCEL, UPDATE, REFER"]))
        text = Message(self.phone.reply(m, status, self.body() if status < 300 else "", headers + allow))
        if status >= 200:
            self.pending.remove(m)
        if status == 200:
            self.dialogs.append([m.contact(), text.get("to"), m.get("from"), m.get("call-id"), 1])

    def step(self):
        try:
            self.act()
        except OSError:
            self.connect()

    def act(self):
        while len(self.phone.log) > 0 and self.phone._open:
            m = self.phone.log.pop(0)
            (self.answered if m.status else self.served)(m)
        acts = [self.invite]
        if self.pending:
            acts += [self.ring] * 4
        if self.dialogs:
            acts += [self.refer] * 3 + [lambda: self.in_dialog("BYE")] * 2
            acts += [lambda: self.in_dialog("INVITE", body=self.body()), lambda: self.in_dialog("UPDATE", body=self.body()),
                     lambda: self.in_dialog("INFO"), lambda: self.in_dialog("NOTIFY", ["Event: refer", "Subscription-State: active"]),
                     lambda: self.in_dialog("CANCEL"), lambda: self.in_dialog("PRACK", ["RAck: 1 1 INVITE"])]
        if self.dice.random() < 0.01 and self.transport != "udp":
            self.connect()
            self.dialogs, self.pending = [], []
        else:
            self.dice.choice(acts)()
        self.dialogs = self.dialogs[-6:]


def chaos(s, phones):
    end = time.monotonic() + float(os.environ.get("KEDGE_CHAOS_S", "8"))
    while time.monotonic() < end:
        for phone in phones:
            if phone.phone._open:
                phone.step()
            else:
                phone.connect()
        time.sleep(0.002)
    s.kedge.alive()
    for phone in phones:
        phone.phone.close()
    for call in s.kedge.calls():
        s.kedge.try_ctl("hangup", call["id"])
    s.kedge.no_calls(50)


NO_GUARD = {"strangers": 100000, "requests": 100000, "passwords": 1000, "strangers_total": 1000000}


@pytest.mark.parametrize("seed", (1, 2))
def test_phones_that_do_anything(site, seed):
    """Calls, transfers, forks, diversions, in every state and out of it. Afterwards kedge is as it was before."""
    dice = random.Random(int(os.environ.get("KEDGE_CHAOS", "0")) * 1000 + seed)
    s = site(limits={"calls": 100}, guard=NO_GUARD)
    chaos(s, [Anarchist(s, user, 1 + i % 4, dice, ("udp", "tcp")[(i + seed) % 2]) for i, user in enumerate(USERS * 2)])


@pytest.mark.parametrize("profile", ("auto", "sdes"))
def test_phones_with_keys_that_do_anything(site, profile):
    """The same with keys, fingerprints and shared transports, right and wrong, refusals of each, and phones over WebSocket."""
    dice = random.Random(int(os.environ.get("KEDGE_CHAOS", "0")) * 1000 + 3)
    s = site(limits={"calls": 100}, guard=NO_GUARD, media={"profile": profile},
             sip={"listen": ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060", "ws:0.0.0.0:8080"]})
    chaos(s, [Anarchist(s, user, 1 + i % 4, dice, ("udp", "tcp", "ws")[i % 3], keys=True) for i, user in enumerate(USERS * 2)])
