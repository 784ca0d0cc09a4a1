"""Phones in browsers, over WebSocket (RFC 7118, RFC 6455): registrations, calls and flows; who may connect; what the edge does
with broken, slow and silent clients; the pages that it serves."""
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

from interop.agent import Agent, Dialog, talk, token
from interop.hosts import Stopwatch, background, until
from interop.kedge import BUILD
from interop.pbx import Kamailio
from interop.web import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebAgent, WebSocket, connect, frame, get,
                         read_response)

WS, WSS, MIXED = 8080, 5061, 5070
HANDSHAKE, MESSAGE = 2, 2  # seconds: limits.handshake, limits.stream_message of the hasty one
NAMES = {"alice": "a-word", "bob": "b-word", "carol": "c-word"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><p>phone")
    (folder / "app.js").write_text("'use strict'\n" * 20000)
    (folder / ".hidden").write_text("no")
    (folder / "img").mkdir()
    (folder / "img" / "a.svg").write_text("<svg/>")
    (folder / "passwd").symlink_to("/etc/passwd")
    return folder


def listens(host):
    every = [f"{t}:{host.addr}:{MIXED}" for t in ("tcp", "tls", "ws", "wss")]
    return [f"udp:{host.addr}:5060", f"tcp:{host.addr}:5060", f"ws:{host.addr}:{WS}", f"tls:{host.addr}:{WSS}",
            f"wss:{host.addr}:{WSS}", *every]


@pytest.fixture(scope="module")
def world(lab, long_stage, page):
    host = lab.public_host("kedge")
    return long_stage.kedge(host, accounts=NAMES, config={
        "sip": {"listen": listens(host)}, "web": {"root": str(page), "origins": ["https://www.example.org"]}})


@pytest.fixture(scope="module")
def hasty(lab, long_stage, page):
    """Its deadlines are short: for those who miss them."""
    host = lab.public_host("kedge-hasty")
    flooder = on(lab, "flooder")  # is not limited by the guard
    return long_stage.kedge(host, name="hasty", accounts=NAMES, config={
        "sip": {"listen": listens(host)}, "limits": {"handshake": HANDSHAKE, "stream_message": MESSAGE},
        "guard": {"trusted": [flooder.addr]}, "web": {"root": str(page), "ping": 4}})


hosts = {}


def on(lab, name):
    if name not in hosts:
        hosts[name] = lab.public_host(name)
    return hosts[name]


def phone(lab, stage, kedge, user, transport="wss", **kw):
    host = on(lab, kw.pop("on", user))
    if transport in ("ws", "wss"):
        port = kw.pop("port", WS if transport == "ws" else WSS)
        return stage.add(WebAgent(host, user, NAMES[user], (kedge.host.addr, port), transport=transport, **kw))
    port = kw.pop("port", WSS if transport == "tls" else 5060)
    made = stage.add(Agent(host, user, NAMES[user], (kedge.host.addr, port), transport=transport, **kw))
    if transport == "udp":
        stage.add(Leave(made))
    return made


class Leave:
    """Unregisters at the end: over UDP nothing else would tell."""

    def __init__(self, agent):
        self.agent = agent

    def close(self):
        self.agent.request("REGISTER", f"sip:{self.agent.domain}", ["Contact: *", "Expires: 0"],
                           to=f"<sip:{self.agent.user}@{self.agent.domain}>")


def browser(lab, kedge, secure=True, port=None, origin="same", name=None, **kw):
    """A WebSocket of nobody's; kedge was looked for by this name."""
    port = port or (WSS if secure else WS)
    stream = connect((kedge.host.addr, port), secure, on(lab, "browser"))
    authority = f"{name or kedge.host.addr}:{port}"
    origin = f"{'https' if secure else 'http'}://{authority}" if origin == "same" else origin
    return WebSocket(stream, authority, origin=origin, **kw)


def contacts(kedge, user):
    return [r for r in kedge.registrations() if r["user"] == user]


def options(extra="", end="\r\n\r\n", via="WSS"):
    return (f"OPTIONS sip:kedge.test SIP/2.0\r\nVia: SIP/2.0/{via} x.invalid;branch=z9hG4bK{token()}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:a@kedge.test>;tag=1\r\nTo: <sip:kedge.test>\r\nCall-ID: {token()}\r\nCSeq: 1 OPTIONS{extra}{end}")


def answered(web):
    """kedge answers an OPTIONS on it: it is whole. Pings in between are answered."""
    web.send(options())
    while (got := web.receive()) is not None:
        if got[0] == TEXT:
            return got[1].startswith(b"SIP/2.0 200 ")
    return False


# Phones

@pytest.mark.parametrize("caller, callee", [("wss", "ws"), ("ws", "udp"), ("udp", "wss"), ("wss", "tcp")])
def test_calls_between_browsers_and_phones(lab, stage, world, caller, callee):
    a, b = phone(lab, stage, world, "alice", caller), phone(lab, stage, world, "bob", callee)
    for agent in (a, b):
        assert agent.register().status == 200
    for agent, transport in ((a, caller), (b, callee)):
        [contact] = contacts(world, agent.user)
        assert (contact["transport"], contact["reachable"]) == (transport, True), contact
    dialogs = talk(a, b, *[stage.rtp(agent.host) for agent in (a, b)])
    invite = dialogs[1].invite
    if callee in ("ws", "wss"):
        assert invite.get("via").startswith(f"SIP/2.0/{callee.upper()} "), invite.get("via")
        assert ";transport=ws>" in invite.get("contact"), "RFC 7118 5.2: one name, with TLS or without"
        assert invite.uri.startswith(f"sip:bob@{b.name}"), "the Contact as the page wrote it"
    if caller in ("ws", "wss"):
        assert ";transport=ws>" in dialogs[0].ok.get("contact")
    for i in range(2):  # from both sides inside of the dialog
        reinvited = background(dialogs[i].reinvite)
        dialogs[1 - i].answer(dialogs[1 - i].agent.expect("INVITE"))
        assert reinvited().status == 200
        # Its ACK goes another way than the other one's re-INVITE, which would get 491 if it came first: what this connection brought is read.
        assert dialogs[i].agent.request("OPTIONS", f"sip:{world.host.addr}").status == 200
    ended(dialogs[1], a)
    world.no_calls()


def ended(dialog, other):
    """Hangs up; the other end hears of it."""
    bye = background(dialog.bye)
    other.reply(request := other.expect("BYE"), 200)
    assert bye().status == 200
    return request


def test_content_length_is_not_needed(lab, stage, world):
    """RFC 7118 5: the message ends where the WebSocket message does, and the next hop is told."""
    class Bare(WebAgent):
        def _send_stream(self, data, timeout=10):
            super()._send_stream(re.sub(rb"\r\nContent-Length: \d+", b"", data), timeout)

    host = on(lab, "alice")
    a = stage.add(Bare(host, "alice", "a-word", (world.host.addr, WSS), transport="wss"))
    b = phone(lab, stage, world, "bob", "udp")
    assert a.register().status == 200 and b.register().status == 200
    _, second = talk(a, b, stage.rtp(a.host), stage.rtp(b.host))
    assert len(second.invite.body.encode()) == int(second.invite.get("content-length")) > 0
    ended(second, a)


def test_a_page_behind_an_https_proxy(lab, stage, world):
    """It says WSS, the proxy speaks plain WebSocket to kedge: Via and what kedge says of it follow the page."""
    class Proxied(WebAgent):
        def __init__(self, *args, **kw):
            super().__init__(*args, transport="ws", origin="https://www.example.org", **kw)
            self.transport = "WSS"  # in Via; not the socket's any more

    a = stage.add(Proxied(on(lab, "alice"), "alice", "a-word", (world.host.addr, WS)))
    b = phone(lab, stage, world, "bob", "udp")
    assert a.register().status == 200 and b.register().status == 200
    assert contacts(world, "alice")[0]["transport"] == "wss"
    first, second = talk(b, a, stage.rtp(b.host), stage.rtp(a.host))
    assert second.invite.get("via").startswith("SIP/2.0/WSS "), second.invite.get("via")
    ended(first, a)


def test_a_closed_page_takes_its_contact_away(lab, stage, world):
    a = phone(lab, stage, world, "alice")
    assert a.register().status == 200
    a.close()
    assert until(lambda: contacts(world, "alice") == []), contacts(world, "alice")


def test_what_a_page_says_last_arrives(lab, stage, world):
    """BYE or unregistration, then Close at once: as a page does that is closed."""
    a = phone(lab, stage, world, "alice")
    assert a.register().status == 200
    text = a.build("REGISTER", "sip:kedge.test", [f"Contact: {a.contact}", "Expires: 0"], to="<sip:alice@kedge.test>")
    before = world.stats()["registers_in"]
    a.socket.sendall(frame(TEXT, text.encode()) + frame(CLOSE, (1001).to_bytes(2, "big")))
    assert until(lambda: world.stats()["registers_in"] == before + 1), "what stood before the Close is lost"
    assert until(lambda: a.web.code == 1001), "the Close is not answered"


def test_a_reloaded_page_replaces_the_flow_and_keeps_its_call(lab, stage, world):
    """RFC 5626: same instance and reg-id from a new connection. The call is found there, as for a phone on TCP."""
    old = phone(lab, stage, world, "alice")
    b = phone(lab, stage, world, "bob", "udp")
    supported = ["Supported: path, outbound, gruu"]
    ok = old.register(contact=old.outbound(), headers=supported)
    assert ok.status == 200 and "outbound" in ok.get("require"), ok.headers
    assert b.register().status == 200
    first, second = talk(b, old, stage.rtp(b.host), stage.rtp(old.host))
    new = phone(lab, stage, world, "alice", on="alice")
    new.instance = old.instance
    assert new.register(contact=new.outbound(), headers=supported).status == 200
    [contact] = contacts(world, "alice")
    assert contact["remote"] == new_address(new), contact
    old.socket.shutdown(socket.SHUT_RDWR)  # the page is gone, without a word
    old.close()
    time.sleep(0.3)
    [contact] = contacts(world, "alice")
    assert contact["reachable"], "the old connection took the new one's contact along"
    call = background(Dialog(b, stage.rtp(b.host)).call, "alice")
    new.reply(new.expect("INVITE"), 486)
    new.expect("ACK")
    assert call().status == 486
    assert ended(first, new).get("call-id") == second.call_id, "the call's end did not reach the reloaded page"


def new_address(agent):
    host, port = agent.socket.getsockname()[:2]
    return f"{host}:{port}"


@pytest.mark.parametrize("front", [False, True])
def test_a_page_that_closed_first_keeps_its_call(lab, stage, world, front):
    """The old connection is gone before the page is there again, under another Contact: the instance tells that it is the
    same phone. Whoever has no call any more says 481, and the other side is free at once."""
    kedge = world
    if front:
        pbx = stage.add(Kamailio(stage.folder / "pbx", NAMES, lab.public_host("pbx-again"), domain="kedge.test")).start()
        host = lab.public_host("kedge-again")
        kedge = stage.kedge(host, config={"sip": {"listen": [f"udp:{host.addr}:5060", f"wss:{host.addr}:{WSS}"]},
                                          "pbx": [f"udp:{pbx.host.addr}:5060"]})
    old, b = phone(lab, stage, kedge, "alice"), phone(lab, stage, kedge, "bob", "udp")
    assert old.register(contact=old.outbound(), headers=["Supported: outbound"]).status == 200
    assert b.register().status == 200
    first, second = talk(b, old, stage.rtp(b.host), stage.rtp(old.host))
    old.socket.shutdown(socket.SHUT_RDWR)
    old.close()
    assert until(lambda: contacts(kedge, "alice") == [] if not front else not [
        c for c in kedge.registrations() if c["transport"] == "wss"])
    new = phone(lab, stage, kedge, "alice")
    new.instance = old.instance
    assert new.register(contact=new.outbound(), headers=["Supported: outbound"]).status == 200
    bye = ended(first, new)
    assert bye.get("call-id") == second.call_id


def test_a_call_outlives_signalling(lab, stage, world):
    """kill -9: the page comes back with the same instance, and its call with it."""
    a, b = phone(lab, stage, world, "alice"), phone(lab, stage, world, "bob", "udp")
    assert a.register(contact=a.outbound(), headers=["Supported: outbound"]).status == 200 and b.register().status == 200
    first, _ = talk(b, a, stage.rtp(b.host), stage.rtp(a.host))
    world.stored()
    before = world.role("signalling")
    os.kill(before, signal.SIGKILL)
    assert until(lambda: world.role("signalling") not in (before, None), 30)
    world.ready()
    back = phone(lab, stage, world, "alice")
    back.instance = a.instance
    assert back.register(contact=back.outbound(), headers=["Supported: outbound"]).status == 200
    assert [(c["transport"], c["reachable"]) for c in contacts(world, "alice")] == [("wss", True)]
    ended(first, back)


def test_two_devices_of_one_user_both_ring(lab, stage, world):
    a = phone(lab, stage, world, "alice")
    again = phone(lab, stage, world, "alice", "ws")
    b = phone(lab, stage, world, "bob", "udp")
    for agent in (a, again, b):
        assert agent.register(**({} if agent is b else {"contact": agent.outbound()})).status == 200
    assert len(contacts(world, "alice")) == 2
    dialog = Dialog(b, stage.rtp(b.host))
    call = background(dialog.call, "alice")
    invites = [agent.expect("INVITE") for agent in (a, again)]
    again.reply(invites[1], 180)
    Dialog(a, stage.rtp(a.host)).answer(invites[0])
    again.reply(again.expect("CANCEL"), 200)
    again.reply(invites[1], 487)
    assert call().status == 200
    ended(dialog, a)


def test_in_front_of_a_pbx(lab, stage):
    """Its REGISTERs go on with another Contact, the digest is the PBX's; calls come down the WebSocket."""
    host = lab.public_host("kedge-front")
    pbx = stage.add(Kamailio(stage.folder / "pbx", {"alice": "a-word", "bob": "b-word"}, lab.public_host("pbx"),
                             domain="kedge.test")).start()
    kedge = stage.kedge(host, config={
        "sip": {"listen": [f"udp:{host.addr}:5060", f"ws:{host.addr}:{WS}", f"wss:{host.addr}:{WSS}"]},
        "pbx": [f"udp:{pbx.host.addr}:5060"]})
    a, b = phone(lab, stage, kedge, "alice", "wss"), phone(lab, stage, kedge, "bob", "ws")
    for agent in (a, b):
        assert agent.register(contact=agent.outbound(), headers=["Supported: path, outbound"]).status == 200
    assert [r["transport"] for r in sorted(kedge.registrations(), key=lambda r: r["user"])] == ["wss", "ws"]
    _, second = talk(a, b, stage.rtp(a.host), stage.rtp(b.host))
    ended(second, a)
    kedge.no_calls()


# Who may connect

@pytest.mark.parametrize("origin, secure, status", [
    ("same", True, 101), ("same", False, 101), ("https://www.example.org", True, 101), ("https://www.example.org", False, 101),
    ("https://evil.example", True, 403), ("http://{0}:8080", True, 403), ("https://{0}", False, 403), ("null", True, 403),
    ("https://{0}.evil.example", True, 403), ("file://", False, 403), (None, True, 403), (None, False, 403)])
def test_origins(lab, world, origin, secure, status):
    before = world.stats()
    origin = origin.format(world.host.addr) if origin else None
    web = browser(lab, world, secure, origin=origin)
    assert web.response.status == status, web.response
    if status == 101:
        assert answered(web)
    else:
        assert web.stream.recv(1) == b"", "what is refused is closed"
        assert until(lambda: world.stats()["websockets_refused"] == before["websockets_refused"] + 1)
        assert world.stats()["requests_in"] == before["requests_in"]
    web.close()


def test_a_name_that_others_made_point_here(lab, stage):
    """DNS rebinding: the page of evil.example comes from where kedge is, as far as its browser can tell."""
    host = lab.public_host("kedge-rebound")
    kedge = stage.kedge(host, config={"sip": {"listen": [f"ws:{host.addr}:{WS}"], "domain": "kedge.test"},
                                      "web": {"origins": ["http://phone.example"]}})
    assert browser(lab, kedge, False, name="evil.example").response.status == 403
    assert until(lambda: "a host name that kedge does not know" in kedge.log() and "web.origins" in kedge.log())
    assert kedge.stats()["requests_in"] == 0
    for name in ("kedge.test", "www.kedge.test", "localhost", host.addr):
        assert answered(browser(lab, kedge, False, name=name)), name
    assert answered(browser(lab, kedge, False, name="phone.example", origin="http://phone.example"))


def test_a_missing_origin_can_be_allowed(lab, stage):
    host = lab.public_host("kedge-origin")
    kedge = stage.kedge(host, config={"sip": {"listen": [f"ws:{host.addr}:{WS}"]}, "web": {"origin_missing": "yes"}})
    assert answered(browser(lab, kedge, False, origin=None))
    assert browser(lab, kedge, False, origin="null").response.status == 403
    assert browser(lab, kedge, False, origin="https://later.example").response.status == 403
    kedge.write_config({**kedge.rows, "web": {"origins": ["https://later.example"]}})
    kedge.ctl("reload")
    assert until(lambda: browser(lab, kedge, False, origin="https://later.example").response.status == 101)
    assert browser(lab, kedge, False, origin=None).response.status == 403


@pytest.mark.parametrize("kw, status", [
    ({"protocol": ""}, 400), ({"protocol": "xmpp"}, 400), ({"protocol": "sips, msrp"}, 400), ({"protocol": "msrp, sip"}, 101),
    ({"version": "8"}, 426), ({"version": ""}, 426), ({"key": "c2hvcnQ="}, 400), ({"path": "/elsewhere"}, 404),
    ({"path": "/"}, 101), ({"headers": ["X: " + "x" * 9000]}, 431), ({"headers": ["Content-Length: 4"]}, 400)])
def test_handshakes(lab, world, kw, status):
    web = browser(lab, world, **kw)
    assert web.response.status == status, web.response
    if status == 426:
        assert web.response.headers["sec-websocket-version"] == "13"
    if status == 101:
        assert answered(web)
    web.close()


# Frames

@pytest.mark.parametrize("what, data, code", [
    ("unmasked", frame(TEXT, options().encode(), masked=False), 1002),
    ("2^63", frame(TEXT, b"x" * 9, length=1 << 63), 1002),
    ("2^63-1", frame(TEXT, b"x" * 9, length=(1 << 63) - 1), 1009),
    ("64 KB and one", frame(BINARY, b"x" * 65536), 1009),
    ("64 KB in pieces", frame(TEXT, b"x" * 65000, fin=False) + frame(CONTINUATION, b"x" * 600), 1009),
    ("reserved bit", frame(TEXT, b"x", rsv=4), 1002),
    ("opcode 3", frame(3, b"x"), 1002),
    ("ping of 126 bytes", frame(PING, b"x" * 126), 1002),
    ("ping in pieces", frame(PING, b"x", fin=False), 1002),
    ("continues nothing", frame(CONTINUATION, b"x"), 1002),
    ("a message in a message", frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
    ("half a close code", frame(CLOSE, b"x"), 1002),
    ("nothing", frame(TEXT, b""), 1007),
    ("no UTF-8", frame(TEXT, options("\r\nSubject: ").encode() + b"\xff\xfe"), 1007),
    ("no SIP", frame(TEXT, b'{"hello": 1}'), 1007),
    ("two messages", frame(TEXT, 2 * options("\r\nContent-Length: 0").encode()), 1007),
    ("half a message", frame(TEXT, options(end="\r\n").encode()), 1007),
    ("another length", frame(TEXT, options("\r\nContent-Length: 7").encode()), 1007),
    ("two lengths", frame(TEXT, options("\r\nContent-Length: 0\r\nl: 0").encode()), 1007)],
    ids=lambda value: value if isinstance(value, str) else "")
def test_bad_frames(lab, world, what, data, code):
    web, neighbour = browser(lab, world), browser(lab, world)
    before = world.stats()["requests_in"]
    try:
        web.stream.sendall(data)
    except (ConnectionError, ssl.SSLError):
        pass  # kedge need not read all of it
    assert web.closed() == code, what
    assert world.stats()["requests_in"] == before
    assert answered(neighbour)
    neighbour.close()
    world.alive()


def test_messages_in_pieces_and_pings_between(lab, world):
    web = browser(lab, world)
    text = options().encode()
    data = frame(TEXT, text[:50], fin=False) + frame(PING, b"now") + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, text[50:])
    for i in range(len(data)):
        web.stream.sendall(data[i:i + 1])
    got = [web.receive() for _ in range(2)]
    assert got[0] == (PONG, b"now") and got[1][1].startswith(b"SIP/2.0 200 "), got
    web.send("\r\n\r\n")  # RFC 7118 6: a keepalive of RFC 5626
    assert web.receive() == (TEXT, b"\r\n")
    web.send(options(), BINARY)
    assert web.receive()[1].startswith(b"SIP/2.0 200 ")
    web.send(b"\x03\xe8bye", CLOSE)
    assert web.closed() == 1000, "a Close is answered with its code"


# Slow and silent ones

def trickle(stream, data, every):
    """Byte by byte until the other end is gone."""
    stream.settimeout(every)
    for i in range(len(data)):
        try:
            stream.sendall(data[i:i + 1])
            if stream.recv(1000) == b"":
                break
        except TimeoutError:
            continue
        except (ConnectionError, ssl.SSLError):
            break


def ended_at(deadline, watch):
    """Not before it; what this machine stood still is no delay of kedge's."""
    assert watch.real > deadline * 0.8 and watch.fair < deadline + 4, (watch.real, watch.fair)


@pytest.mark.parametrize("port, secure", [(WS, False), (WSS, True), (MIXED, True)])
def test_a_request_byte_by_byte_ends_at_the_deadline(lab, hasty, port, secure):
    watch = Stopwatch()  # the deadline runs from the first byte on, and TLS is before this request
    stream = connect((hasty.host.addr, port), secure, on(lab, "browser"))
    trickle(stream, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100, 0.1)
    ended_at(HANDSHAKE, watch)


@pytest.mark.parametrize("data", [frame(TEXT, options().encode())[:1], frame(TEXT, options().encode()),
                                  frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"", fin=False) * 1000],
                         ids=["one byte", "a message", "empty pieces"])
def test_a_message_byte_by_byte_ends_at_the_deadline(lab, hasty, data):
    web = browser(lab, hasty)
    neighbour = browser(lab, hasty)
    watch = Stopwatch()
    trickle(web.stream, data + b"\x01" if len(data) == 1 else data, 0.2)
    if len(data) == 1:  # and then nothing
        web.stream.settimeout(20)
        web.closed()
    ended_at(MESSAGE, watch)
    assert answered(neighbour)


@pytest.mark.parametrize("port", [WS, MIXED])
def test_a_silent_connection_ends_at_the_deadline(lab, hasty, port):
    watch = Stopwatch()
    stream = connect((hasty.host.addr, port), False, on(lab, "browser"))
    assert stream.recv(1) == b""
    ended_at(HANDSHAKE, watch)


def test_who_answers_no_ping_is_gone(lab, stage, hasty):
    quiet, alive = phone(lab, stage, hasty, "alice"), phone(lab, stage, hasty, "bob")
    assert quiet.register().status == 200 and alive.register().status == 200
    quiet._open = False  # reads no more: the system's TCP still says that it is there
    assert until(lambda: contacts(hasty, "alice") == [], 40, 0.2), "still registered"
    assert until(lambda: alive.web.pings >= 2, 30) and contacts(hasty, "bob"), "who answers stays"


@pytest.mark.parametrize("what", ["requests", "pages", "pings"])
def test_a_peer_that_does_not_read_costs_little(lab, hasty, what):
    """Everything that is answered, without end and without reading: kedge stops reading, and closes."""
    pid, data = hasty.role("signalling"), None
    stream = connect((hasty.host.addr, WSS), True, on(lab, "flooder"))
    if what == "pages":
        data = f"GET /app.js HTTP/1.1\r\nHost: {hasty.host.addr}\r\n\r\n".encode() * 100
    else:
        WebSocket(stream, f"{hasty.host.addr}:{WSS}", origin=f"https://{hasty.host.addr}")
        data = frame(TEXT, options().encode()) * 50 if what == "requests" else frame(PING, b"x" * 125) * 500

    def memory_kb():
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return int(next(line for line in f if line.startswith("VmRSS")).split()[1])

    before, sent, most = memory_kb(), 0, 0
    stream.settimeout(MESSAGE + 3)
    watch = Stopwatch()
    try:
        while watch.fair < 20:
            sent += stream.send(data)
            most = max(most, memory_kb())
    except (TimeoutError, ConnectionError, ssl.SSLError):
        pass
    assert watch.fair < 20, f"kedge took {sent} bytes and went on"
    # A sanitizer keeps what was freed.
    assert most - before < (600000 if "debug" in BUILD else 20000), f"{most - before} kB more"
    assert answered(browser(lab, hasty))


def test_resets_leave_nothing_behind(lab, world):
    """RST in the middle of a TLS handshake, of a request, of a page, of a frame, of a message: no descriptor stays open."""
    def open_files():
        return len(os.listdir(f"/proc/{world.role('signalling')}/fd"))

    def reset(stream):
        raw = socket.socket(fileno=stream.detach())
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    at = (world.host.addr, WSS)
    neighbour = browser(lab, world)
    assert answered(neighbour)
    before = open_files()
    for _ in range(5):
        reset(stream := connect(at, False, on(lab, "browser")))
        stream = connect(at, False, on(lab, "browser"))
        stream.sendall(b"\x16\x03\x01\x02\x00\x01")
        reset(stream)
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /app.js HTTP/1.1\r\nHost: x\r\n\r\n" * 50):
            stream = connect(at, True, on(lab, "browser"))
            stream.sendall(data)
            reset(stream)
        for data in (frame(TEXT, options().encode())[:60], frame(TEXT, options().encode()) + b"\x81", frame(CLOSE, b"\x03\xe8")):
            web = browser(lab, world)
            web.stream.sendall(data)
            reset(web.stream)
    assert until(lambda: open_files() <= before), f"{open_files()} instead of {before}"
    assert answered(neighbour)


def test_a_ban_holds_for_browsers(lab, stage, world):
    """Five wrong passwords over WSS: the connection is closed and no other is accepted from there; kedgectl unban lifts it."""
    wrong = phone(lab, stage, world, "carol", on="guesser")
    wrong.password = "guess"
    for _ in range(5):
        wrong.register(timeout=10)
    assert until(lambda: not wrong._open), "its connection lives on"
    with pytest.raises((ConnectionError, ssl.SSLError, AssertionError, OSError)):
        phone(lab, stage, world, "carol", on="guesser")
    world.ctl("unban", wrong.host.addr)
    assert until(lambda: not world.json("bans"))
    assert phone(lab, stage, world, "carol", on="guesser").register().status == 200


def test_long_messages(lab, stage, world):
    """30 kB of text, in one message of the WebSocket each way."""
    a, b = phone(lab, stage, world, "alice"), phone(lab, stage, world, "bob", "ws")
    assert a.register().status == 200 and b.register().status == 200
    text = "Grüße " * 4000
    sent = background(a.request, "MESSAGE", "sip:bob@kedge.test", ["Content-Type: text/plain;charset=utf-8"], text)
    message = b.expect("MESSAGE")
    assert message.body == text and int(message.get("content-length")) == len(text.encode())
    b.reply(message, 200)
    assert sent().status in (200, 202)


# One port

def test_one_port_for_everything(lab, stage, world):
    a = phone(lab, stage, world, "alice", "wss", port=MIXED)
    b = phone(lab, stage, world, "bob", "tls", port=MIXED, on="bob")
    c = phone(lab, stage, world, "carol", "tcp", port=MIXED)
    d = phone(lab, stage, world, "carol", "ws", port=MIXED)
    for agent in (a, b, c, d):
        assert agent.register().status == 200, agent.transport
    expected = [("alice", "wss"), ("bob", "tls"), ("carol", "tcp"), ("carol", "ws")]
    assert until(lambda: sorted((r["user"], r["transport"]) for r in world.registrations()) == expected), world.registrations()
    _, second = talk(a, b, stage.rtp(a.host), stage.rtp(b.host))
    ended(second, a)
    for tls in (False, True):
        assert get((world.host.addr, MIXED), tls=tls, host=on(lab, "browser")).status == 200


def test_a_port_without_browsers_serves_none(lab, world):
    """SIP over TCP alone: HTTP is no SIP."""
    stream = connect((world.host.addr, 5060), False, on(lab, "browser"))
    stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stream.recv(100) == b""


@pytest.mark.parametrize("offered, chosen", [(("h2", "http/1.1"), "http/1.1"), (("http/1.1",), "http/1.1"),
                                             (("sip/2",), "sip/2"), (("h2",), None), ((), None)])
def test_alpn(lab, world, offered, chosen):
    stream = connect((world.host.addr, WSS), True, on(lab, "browser"), alpn=offered)
    assert stream.selected_alpn_protocol() == chosen
    stream.close()


def certificate_of(world, lab):
    stream = connect((world.host.addr, WSS), True, on(lab, "browser"))
    try:
        return stream.getpeercert(binary_form=True)
    finally:
        stream.close()


def test_a_new_certificate_drops_nobody(lab, stage):
    host = lab.public_host("kedge-certificate")
    pair = {"certificate": str(stage.folder / "cert.pem"), "key": str(stage.folder / "key.pem")}

    def make_pair():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=kedge.test", "-keyout", pair["key"], "-out", pair["certificate"]], check=True,
                       capture_output=True)

    def make_key():
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", pair["key"]],
                       check=True, capture_output=True)

    make_pair()
    kedge = stage.kedge(host, accounts=NAMES, config={"tls": pair, "sip": {
        "listen": [f"udp:{host.addr}:5060", f"wss:{host.addr}:{WSS}"]}})
    a, b = phone(lab, stage, kedge, "alice"), phone(lab, stage, kedge, "bob")
    assert a.register().status == 200 and b.register().status == 200
    before = certificate_of(kedge, lab)
    _, second = talk(a, b, stage.rtp(a.host), stage.rtp(b.host))
    make_pair()
    kedge.ctl("reload")
    assert until(lambda: certificate_of(kedge, lab) != before), "new connections get the old certificate"
    renewed = certificate_of(kedge, lab)
    for broken, words in ((lambda: os.replace(pair["key"], pair["key"] + ".kept") or make_key(), "belongs to another certificate"),
                          (lambda: os.unlink(pair["key"]), "No such file")):
        broken()
        done = kedge.try_ctl("reload")
        assert done.returncode == 1 and words in done.stderr and "nothing was changed" in done.stderr, done.stdout + done.stderr
        assert certificate_of(kedge, lab) == renewed
    os.replace(pair["key"] + ".kept", pair["key"])
    kedge.ctl("reload")
    assert a.register().status == 200
    ended(second, a)
    assert len(kedge.registrations()) == 2


# Pages

def test_pages(lab, world, page):
    at = {"server": (world.host.addr, WSS), "tls": True, "host": on(lab, "browser")}
    index = get(path="/", **at)
    assert (index.status, index.body) == (200, b"<!doctype html><p>phone"), index
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in index.headers["content-security-policy"]
    assert index.headers["x-content-type-options"] == "nosniff" and index.headers["cache-control"] == "no-cache"
    assert get(path="/index.html?v=1", **at).body == index.body
    assert get(path="/config.json", **at).body == b'{"domain":"kedge.test","websocket":"/ws"}'
    assert get(path="/img/a.svg", **at).headers["content-type"] == "image/svg+xml"
    head = get(path="/app.js", method="HEAD", **at)
    assert (head.status, head.headers["content-length"], head.body) == (200, str(os.path.getsize(page / "app.js")), b"")
    again = get(path="/", headers=[f"If-None-Match: {index.headers['etag']}"], **at)
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("path", ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2fetc/passwd", "/img/../.hidden",
                                  "/.hidden", "/passwd", "/img", "/img/", "//etc/passwd", "/etc/passwd", "/app.js/", "/index",
                                  "/..\\..\\etc\\passwd", "/app.js%00.html"])
def test_nothing_else_is_served(lab, world, path):
    response = get((world.host.addr, WS), path, host=on(lab, "browser"))
    assert response.status == 404 and b"root:" not in response.body, response


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"])
def test_other_methods(lab, world, method):
    response = get((world.host.addr, WS), "/", method=method, host=on(lab, "browser"))
    assert response.status == 405 and response.headers["allow"] == "GET, HEAD"


def test_several_requests_on_one_connection(lab, world, page):
    stream = connect((world.host.addr, WSS), True, on(lab, "browser"))
    one = f"GET /app.js HTTP/1.1\r\nHost: {world.host.addr}\r\n\r\n".encode()
    stream.sendall(one * 20)  # all at once
    rest = b""
    for _ in range(20):
        response = read_response(stream, already=rest)
        rest = response.rest
        assert response.status == 200 and len(response.body) == os.path.getsize(page / "app.js")
    web = WebSocket(stream, f"{world.host.addr}:{WSS}", origin=f"https://{world.host.addr}:{WSS}")
    assert web.open and answered(web), "the same connection becomes a WebSocket"
    web.close()


def test_a_page_is_changed_by_reload(lab, world, page):
    at = {"server": (world.host.addr, WS), "host": on(lab, "browser")}
    (page / "new.txt").write_text("new")
    assert get(path="/new.txt", **at).status == 404
    world.ctl("reload")
    assert until(lambda: get(path="/new.txt", **at).status == 200)
    os.unlink(page / "new.txt")
    world.ctl("reload")
    assert until(lambda: get(path="/new.txt", **at).status == 404)


def test_a_folder_that_is_not_there(lab, stage):
    host = lab.public_host("kedge-nowhere")
    kedge = stage.kedge(host, start=False, config={"sip": {"listen": [f"ws:{host.addr}:{WS}"]}, "web": {"root": "/nowhere"}})
    for words in (("-t",), ()):
        done = kedge.run(*words)
        assert done.returncode != 0 and "web.root" in done.stdout and "/nowhere" in done.stdout, done.stdout


def test_still_alive(world, hasty):
    world.alive()
    hasty.alive()
    assert hasty.deaths() == 0
    assert world.deaths() == 1, "the one that was killed"
