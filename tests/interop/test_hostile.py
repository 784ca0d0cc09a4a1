"""What attackers and broken programs send: kedge stays up, established calls are untouched, strangers get nothing.

Inputs that break libsofia-sip-ua where kedge does not stand before it are sent here as they are. With a sanitizer build (KEDGE_BUILD=build/debug) the
same tests look for sanitizer reports as well: Kedge.stop() does that.
"""
import os
import random
import socket
import struct
import threading
import time

import pytest

from interop.agent import Dialog, talk
from interop.ear import Ear
from interop.hosts import Stopwatch, socket_in, until
from interop.icestun import ERROR, FINGERPRINT, INDICATION, REQUEST, SUCCESS, XOR_MAPPED, build, parse, success


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    listen = [f"udp:{server.addr}:5060", f"tcp:{server.addr}:5060", f"tls:{server.addr}:5061"]
    kedge = long_stage.kedge(server, config={"sip": {"listen": listen}, "media": {"ports": "30000-30199"},
                             "limits": {"stream_message": 3, "handshake": 3, "streams_per_source": 20}},
                             accounts={u: "pw-" + u for u in ("alice", "bob", "carol")})
    agents = [long_stage.agent(lab.public_host(u), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob", "carol")]
    for a in agents:
        assert a.register().status == 200
    return kedge, agents, lab.public_host("stranger")


@pytest.fixture
def call(world, stage):
    """A call is up during each attack; afterwards kedge is the same three processes and the call is as it was."""
    kedge, (alice, bob, carol), stranger = world
    for a in (alice, bob):
        while not a.requests.empty():
            a.requests.get()
        assert a.register().status == 200
    a, b = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host, hz=700))
    before = kedge.supervisor, kedge.role("signalling"), kedge.role("media")
    for ban in kedge.json("bans"):  # of a test before, or this one's messages would be read by the guard alone
        kedge.ctl("unban", ban["address"])
    yield kedge, a, b, carol, stranger
    kedge.alive()
    assert (kedge.supervisor, kedge.role("signalling"), kedge.role("media")) == before, "a process was restarted"
    watch = Stopwatch()
    answer = carol.register()
    assert answer is not None and answer.status == 200 and watch.fair < PROMPT_S, "kedge does not serve any more"
    mark = time.monotonic()
    assert a.rtp.got(mark, 300) and b.rtp.got(mark, 300), "the established call lost its audio"
    assert a.bye().status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)
    kedge.no_calls()


@pytest.fixture
def believed(call):
    """The guard lets the stranger through: all that he sends is read."""
    kedge, *_, stranger = call
    kedge.write_config({**kedge.rows, "guard": {"trusted": [stranger.addr + "/32"]}})
    kedge.ctl("reload")
    yield
    kedge.write_config()
    kedge.ctl("reload")


def udp(stranger, kedge, *packets, port=5060):
    with socket_in(stranger) as s:
        for packet in packets:
            s.sendto(packet if isinstance(packet, bytes) else packet.encode("utf-8", "surrogateescape"),
                     (kedge.host.addr, port))


def stream(stranger, kedge, port=5060):
    s = socket_in(stranger, socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(8)
    s.connect((kedge.host.addr, port))
    return s


def closed(s, seconds):
    """Whether the other side closes within this time."""
    s.settimeout(seconds)
    try:
        while s.recv(65536):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def request(method="OPTIONS", uri="sip:x@kedge.test", via="SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx", version="SIP/2.0",
            headers="", body="", length=None, call_id="hostile", to="<sip:x@kedge.test>"):
    return (f"{method} {uri} {version}\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: <sip:mallory@kedge.test>;tag=1\r\nTo: {to}\r\n"
            f"Call-ID: {call_id}\r\nCSeq: 1 {method}\r\n{headers}Content-Length: {len(body) if length is None else length}\r\n"
            f"\r\n{body}")


PROMPT_S = 4  # less than a look-up of a name takes that nobody answers, more than a busy machine needs


def prompt(kedge, carol, limit=PROMPT_S):
    """kedge answers at once: nothing blocks its loop."""
    watch = Stopwatch()
    answer = carol.request("OPTIONS", f"sip:{kedge.host.addr}", auth=False)
    took = watch.fair
    assert answer is not None and took < limit, f"OPTIONS took {took:.1f} s: {answer}"


# What breaks libsofia-sip-ua

SDP_TRAP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def test_sdp_that_a_sip_library_never_finishes(call):
    kedge, a, b, carol, stranger = call
    trap = SDP_TRAP + "m=application 32416 udp \udceb\r\n"
    sdp = "Content-Type: application/sdp\r\n"
    udp(stranger, kedge, request("INVITE", headers=sdp + "Contact: <sip:m@192.0.2.1>\r\n", body=trap, length=len(trap)))
    prompt(kedge, carol)
    # The same by somebody who may call, and inside of a dialog. To kedge it may be an m-line that it does not know and
    # passes on; then bob refuses it.
    stop = threading.Event()

    def refuse():
        while not stop.is_set():
            try:
                b.agent.reply(b.agent.expect("INVITE", 0.2), 488)
            except AssertionError:
                pass
    refusing = threading.Thread(target=refuse)
    refusing.start()
    try:
        raw = trap.replace("\udceb", "\xeb")
        answer = carol.request("INVITE", "sip:bob@kedge.test", body=raw)
        assert answer is not None and answer.status in (400, 415, 488), answer
        prompt(kedge, carol)
        answer = a.reinvite(body=raw)
        assert answer is not None and answer.status in (400, 415, 488), answer
        prompt(kedge, carol)
    finally:
        stop.set()
        refusing.join()


def test_multipart_that_aborts_a_sip_library(call, believed):
    kedge, _, _, carol, stranger = call
    kinds = ("multipart/mixed;boundary=b", "multipart/mixed", 'multipart/mixed;boundary=""', 'multipart/related;boundary="b')
    for body in ("--b\r\n\r\nx", "--b--", "--b\r\nContent-Type\r\n\r\n", "--b" * 500, "\r\n--b\r\n--b\r\n--b--\r\n"):
        for kind in kinds:
            udp(stranger, kedge, request("INVITE", headers=f"Content-Type: {kind}\r\nContact: <sip:m@192.0.2.1>\r\n", body=body))
            answer = carol.request("INVITE", "sip:bob@kedge.test", [f"Content-Type: {kind}"], body)
            assert answer is not None and answer.status in (400, 415, 488), f"{kind} {body!r}: {answer}"
    prompt(kedge, carol)


@pytest.mark.parametrize("length", ("2147483648", "4294967295", "18446744073709551616", "-1", "99999999999999999999999"))
def test_pipelined_tcp_messages_with_a_monstrous_content_length(call, length):
    kedge, _, _, carol, stranger = call
    via = "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK"
    with stream(stranger, kedge) as s:
        s.sendall((request(via=via + "1") + request(via=via + "2", length=length)).encode())
        time.sleep(0.3)
    with stream(stranger, kedge, 5060) as s:
        s.sendall(request(via=via + "3", length=length).encode() * 2)
        assert closed(s, 8), "a stream with such a length must not stay open"
    prompt(kedge, carol)


@pytest.mark.parametrize("via", ("SIP/3.0/UDP no-such-host.example:5060;branch=z9hG4bKa", "SIP/2.0/UDP 192.0.2.1;maddr=no-such-host.example;branch=z9hG4bKb",
                                 "SIP/2.0/UDP no-such-host.example;branch=z9hG4bKc", "SIP/2.0/UDP a.b.c.d.e.f.example:70000;branch=z9hG4bKd"))
def test_host_names_where_a_library_would_resolve_and_block(call, believed, via):
    kedge, _, _, carol, stranger = call
    udp(stranger, kedge, request(via=via, version="SIP/3.0" if via.startswith("SIP/3") else "SIP/2.0"),
        request("REGISTER", via=via), request("INVITE", via=via))
    prompt(kedge, carol)
    for header in ("Route: <sip:no-such-host.example;lr>\r\n", "Record-Route: <sip:no-such-host.example;lr>\r\n",
                   "Contact: <sip:x@no-such-host.example>\r\n"):
        udp(stranger, kedge, request("INVITE", headers=header), request("OPTIONS", headers=header))
    prompt(kedge, carol)


@pytest.mark.parametrize("contact", ("third", "<sip:x@no-such-name.kedge.test>", "*", "<tel:+1>"))
def test_second_answer_of_a_fork_is_ended_down_its_own_flow(call, stage, contact):
    """A second 200 with another tag (RFC 3261 13.2.2.4) is ACKed and its dialog ended. Both requests go back to where the
    answer came from, not to where it points, and nothing is looked up."""
    kedge, a, b, carol, stranger = call
    third = socket_in(stranger)
    third.bind((stranger.addr, 0))
    third.settimeout(0.5)
    if contact == "third":
        contact = f"<sip:x@{stranger.addr}:{third.getsockname()[1]}>"
    d, e = Dialog(a.agent), Dialog(carol)
    body = a.body()
    thread = threading.Thread(target=lambda: d.call("carol", body=body))
    thread.start()
    invite = carol.expect("INVITE")
    e.answer(invite, body=b.body())
    thread.join()
    to = invite.get("to") + ";tag=other"
    carol.send("\r\n".join(["SIP/2.0 200 OK", *("Via: " + v for v in invite.all("via")), "From: " + invite.get("from"),
                            "To: " + to, "Call-ID: " + invite.get("call-id"), "CSeq: " + invite.get("cseq"),
                            "Contact: " + contact, "Content-Length: 0", "", ""]))
    for method in ("ACK", "BYE"):
        assert carol.expect(method).tag("to") == "other"
    prompt(kedge, carol)
    with pytest.raises(TimeoutError):
        third.recvfrom(65536)
    third.close()
    assert d.bye().status == 200
    carol.reply(carol.expect("BYE"), 200)


def test_header_with_many_list_items(call):
    """65 KB of list items by UDP, and 200,000 of them by TCP."""
    kedge, _, _, carol, stranger = call
    udp(stranger, kedge, request(headers="Supported: " + "a," * 30000 + "a\r\n")[:65000])
    prompt(kedge, carol)
    for header in ("Supported: ", "Contact: ", "Allow: ", "Via: "):
        with stream(stranger, kedge) as s:
            try:
                s.sendall(request(via="SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKz", headers=header + "<sip:a@b>," * 200000 + "<sip:a@b>\r\n").encode())
            except OSError:
                pass  # closed by kedge in the middle: as it should be
            assert closed(s, 8), "a message of megabytes must end the stream"
    prompt(kedge, carol)


def test_messages_without_what_they_need(call, believed):
    kedge, _, _, carol, stranger = call
    whole = request("INVITE", headers="Contact: <sip:m@192.0.2.1>\r\n")
    for name in ("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "Content-Length"):
        udp(stranger, kedge, "".join(line + "\r\n" for line in whole.split("\r\n")[:-1] if not line.startswith(name + ":")))
    for broken in ("INVITE\r\n\r\n", "SIP/2.0 200\r\n\r\n", "SIP/2.0 999999999999 x\r\n\r\n", " \r\n\r\n", "\r\n" * 1000,
                   request(uri="sip:" + "a" * 5000), request(uri="sip:[::1"), request(uri="tel:+1;" * 200),
                   request(headers="CSeq: 4294967296 OPTIONS\r\n"), request(headers="X: 1\r\n" * 3000),
                   request(to="<sip:x@kedge.test>;tag=" + "t" * 20000), request(to="<" * 3000),
                   request(call_id="%n%s\x1b[2J" + "\0" + "'; drop table bindings; --")):
        udp(stranger, kedge, broken)
    prompt(kedge, carol)


def test_log_lines_cannot_be_forged(call):
    kedge, _, _, carol, stranger = call
    udp(stranger, kedge, request("REGISTER", headers="User-Agent: x\x1b[31m\x07\r\nContact: <sip:a@b>\r\n",
                                 to="<sip:x\x1b]0;gotcha\x07@kedge.test>"))
    thief = Dialog(carol)
    thief.agent.request("REGISTER", "sip:kedge.test", ["Contact: <sip:x@192.0.2.9>", "User-Agent: a\x1b[31mb"],
                        to="<sip:carol@kedge.test>")
    prompt(kedge, carol)
    assert "\x1b" not in kedge.log()
    assert "\x1b" not in kedge.ctl("registrations")


# Garbage on every socket

def test_random_datagrams_to_sip_and_rtp_ports(call):
    kedge, a, b, carol, stranger = call
    rng = random.Random(1)
    ports = [m["local"] for leg in kedge.calls()[0]["legs"] for m in leg["media"]]
    rtp = [int(p.rpartition(":")[2]) for p in ports]
    with socket_in(stranger) as s:
        for i in range(6000):
            packet = rng.randbytes(rng.choice((0, 1, 4, 12, 20, 100, 172, 1400)))
            port = rng.choice([5060, *rtp, *[p + 1 for p in rtp]])
            s.sendto(packet, (kedge.host.addr, port))
            if i % 50 == 0:
                time.sleep(0.001)
    # and every first byte at short lengths (RFC 7983)
    with socket_in(stranger) as s:
        for first in range(256):
            for size in (1, 2, 4, 12, 20):
                s.sendto(bytes([first]) + bytes(size - 1), (kedge.host.addr, rtp[0]))
                s.sendto(bytes([first]) + bytes(size - 1), (kedge.host.addr, rtp[1] + 1))
    prompt(kedge, carol)


def test_mutated_sip_messages(call, believed):
    kedge, _, _, carol, stranger = call
    rng = random.Random(2)
    seeds = [request("INVITE", headers="Contact: <sip:m@192.0.2.1>\r\nContent-Type: application/sdp\r\n",
                     body=SDP_TRAP + "m=audio 4000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\n").encode(),
             request("REGISTER", headers="Contact: <sip:m@192.0.2.1>;expires=60\r\nAuthorization: Digest username=\"x\", realm=\"kedge.test\", "
                     "nonce=\"abc\", uri=\"sip:kedge.test\", response=\"0123\", qop=auth, nc=00000001, cnonce=\"x\"\r\n").encode(),
             request("BYE", to="<sip:x@kedge.test>;tag=9").encode(), b"SIP/2.0 200 OK\r\n" + request().encode().partition(b"\r\n")[2]]
    with socket_in(stranger) as s:
        for i in range(5000):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.randint(1, 8)):
                at = rng.randrange(len(data))
                what = rng.randrange(4)
                if what == 0:
                    data[at] = rng.randrange(256)
                elif what == 1:
                    del data[at:at + rng.randint(1, 20)]
                elif what == 2:
                    data[at:at] = rng.choice((b"\r\n", b"\0", b";", b"<", b'"', b"\xff" * 9, b"%", b",", b"A" * 300, b"0" * 40))
                else:
                    data[at:at] = data[at:at + rng.randint(1, 60)]
                if not data:
                    break
            s.sendto(bytes(data[:60000]), (kedge.host.addr, 5060))
            if i % 20 == 0:
                time.sleep(0.002)
    prompt(kedge, carol)


def test_garbage_on_streams(call):
    kedge, _, _, carol, stranger = call
    rng = random.Random(3)
    for port in (5060, 5061):
        for _ in range(15):
            with stream(stranger, kedge, port) as s:
                try:
                    s.sendall(rng.randbytes(rng.choice((1, 5, 300, 5000))))
                    s.sendall(b"GET / HTTP/1.1\r\n\r\n")
                except OSError:
                    pass
    prompt(kedge, carol)


def test_slow_and_silent_clients_are_closed_and_neighbours_served(call):
    """One byte a second, a silent TLS handshake: closed at the deadline."""
    kedge, _, _, carol, stranger = call
    slow, tls = stream(stranger, kedge), stream(stranger, kedge, 5061)
    try:
        start, ended = time.monotonic(), None
        while time.monotonic() - start < 12 and ended is None:
            try:
                slow.sendall(b"O")
            except OSError:
                ended = time.monotonic() - start
            time.sleep(0.5)
        assert ended is not None, "a message that never ends was not cut off"
        assert closed(tls, 8), "a silent TLS handshake was not cut off"
    finally:
        slow.close()
        tls.close()
    prompt(kedge, carol)


def is_open(s):
    try:
        return s.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_connections_of_one_source_are_limited(call):
    kedge, _, _, carol, stranger = call
    held = []
    try:
        for _ in range(40):
            held.append(stream(stranger, kedge))
        for s in held:
            s.setblocking(False)
        assert until(lambda: sum(map(is_open, held)) <= 20, 20), f"{sum(map(is_open, held))} connections of one source"
        prompt(kedge, carol)
    finally:
        for s in held:
            s.close()


def test_reset_in_the_middle_of_a_message(call):
    import struct
    kedge, _, _, carol, stranger = call
    for port in (5060, 5061):
        for _ in range(10):
            s = stream(stranger, kedge, port)
            s.sendall(request(via="SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKr").encode()[:60])
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
    prompt(kedge, carol)


def test_garbage_on_the_control_socket(call):
    kedge, _, _, carol, _ = call
    rng = random.Random(4)
    for data in (rng.randbytes(3000), b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"POST /v1/accounts HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
                 b"POST /v1/accounts HTTP/1.1\r\nContent-Length: 2\r\n\r\n{]", b"GET /v1/../../etc/passwd HTTP/1.1\r\n\r\n",
                 b"DELETE /v1/calls/%00%ff HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\n", b"POST /v1/accounts HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + b"[" * 40,
                 b"POST /v1/accounts HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            s.connect(kedge.control)
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except OSError:
                pass
        kedge.ctl("version")
    media = os.path.join(os.path.dirname(kedge.control), "media.sock")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(media)
            try:
                for _ in range(20):
                    s.send(rng.randbytes(rng.randint(1, 3000)))
            except OSError:
                pass
    prompt(kedge, carol)


# Media: strangers

def test_rtp_bleed_nothing_goes_to_a_sprayer(call, stage):
    """A third host sprays RTP over the whole port range before, during and after answer and re-INVITE."""
    kedge, a, b, carol, stranger = call
    ear = stage.add(Ear(stranger))
    stop = threading.Event()
    sent = [0]

    def spray():
        header = bytes([0x80, 0]) + bytes(10) + b"\x55" * 160
        with socket_in(stranger) as s:
            s.bind((stranger.addr, 4000))
            while not stop.is_set():
                for port in range(30000, 30200):
                    s.sendto(header, (kedge.host.addr, port))
                    sent[0] += 1
                time.sleep(0.015)
    thread = threading.Thread(target=spray)
    thread.start()
    try:
        time.sleep(0.5)
        answering = threading.Thread(target=lambda: (b.answer(b.agent.expect("INVITE"))), daemon=True)
        answering.start()
        response = a.reinvite()
        answering.join(10)
        assert response.status == 200
        # a second call is set up under the spray, and rings for a while before it is answered
        dialog = Dialog(carol, stage.rtp(carol.host, hz=900))
        result = []
        calling = threading.Thread(target=lambda: result.append(dialog.call("bob")))
        calling.start()
        ringing = b.agent.expect("INVITE")
        b.agent.reply(ringing, 180)
        time.sleep(0.7)
        second = Dialog(b.agent, stage.rtp(b.agent.host, hz=1100))
        second.answer(ringing)
        calling.join()
        assert result[0].status == 200
        mark = time.monotonic()
        assert second.rtp.got(mark, 500) and dialog.rtp.got(mark, 500), "the spray kept the call from its audio"
        assert dialog.bye().status == 200
        b.agent.reply(b.agent.expect("BYE"), 200)
        time.sleep(0.5)
        assert until(lambda: sent[0] > 5000, 30)
    finally:
        stop.set()
        thread.join()
    got = [d for d in ear.datagrams if not d.outgoing and d.src == kedge.host.addr and d.dport == 4000]
    assert not got, f"{len(got)} packets went to the sprayer"
    for end in (a, b, dialog, second):
        strange = [p for _, _, p in end.rtp.received if p[12:] == b"\x55" * 160]
        assert not strange, f"{len(strange)} of the sprayer's packets were relayed"


def test_injection_with_the_right_address_of_another_port_is_not_relayed(call):
    """Later, from the phone's own host but another port: no relearning without signalling."""
    kedge, a, b, _, _ = call
    local = kedge.calls()[0]["legs"][0]["media"][0]["local"]
    host, _, port = local.rpartition(":")
    time.sleep(3.5)  # the latch window is over
    mark = time.monotonic()
    with socket_in(a.agent.host) as s:
        for i in range(100):
            s.sendto(bytes([0x80, 0]) + i.to_bytes(2, "big") + bytes(8) + b"\x66" * 160, (host, int(port)))
            time.sleep(0.005)
        s.settimeout(0.5)
        try:
            s.recv(2000)
            raise AssertionError("media was sent to the other port")
        except TimeoutError:
            pass
    assert not [p for _, _, p in b.rtp.received if p[12:] == b"\x66" * 160]
    assert a.rtp.got(mark, 300)


def test_rtcp_from_a_stranger_changes_nothing(call):
    """AST-2017-008: 4-byte RTCP, truncated sender reports."""
    kedge, a, b, _, stranger = call
    locals_ = [m["local"] for leg in kedge.calls()[0]["legs"] for m in leg["media"]]
    with socket_in(stranger) as s:
        for local in locals_:
            host, _, port = local.rpartition(":")
            for packet in (b"\x80\xc8\x00\x00", b"\x80\xc8\x00\x06" + b"\x01" * 12, b"\x81\xc9\x00\x07" + b"\x02" * 20,
                           b"\x80\xcb\x00\x01" + b"\x03" * 4, b"\x9f\xc8\xff\xff" + bytes(24)):
                for _ in range(20):
                    s.sendto(packet, (host, int(port) + 1))
                    s.sendto(packet, (host, int(port)))
        s.settimeout(0.5)
        try:
            s.recv(2000)
            raise AssertionError("RTCP was sent to a stranger")
        except TimeoutError:
            pass
    assert {m["local"] for leg in kedge.calls()[0]["legs"] for m in leg["media"]} == set(locals_)


def test_flood_of_unauthenticated_requests(call):
    """5000 INVITEs and REGISTERs without credentials: challenged or dropped, no call, no lasting memory."""
    kedge, _, _, carol, stranger = call
    def memory():
        with open(f"/proc/{kedge.role('signalling')}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * 4096
    before = memory()
    with socket_in(stranger) as s:
        for i in range(5000):
            kind = "INVITE" if i % 2 else "REGISTER"
            s.sendto(request(kind, via=f"SIP/2.0/UDP {stranger.addr}:9;branch=z9hG4bKf{i}", call_id=f"flood{i}",
                             headers="Contact: <sip:m@192.0.2.1>\r\n").encode(), (kedge.host.addr, 5060))
            if i % 25 == 0:
                time.sleep(0.005)
    prompt(kedge, carol)
    assert len(kedge.calls()) == 1
    assert until(lambda: memory() - before < 150e6, 20), f"memory grew by {(memory() - before) / 1e6:.0f} MB"


def overheard(dialog, agent, rtp):
    """The dialog as somebody else has it who saw its messages."""
    other = Dialog(agent, rtp)
    for name in ("call_id", "local", "remote", "target", "routes", "cseq", "version"):
        setattr(other, name, getattr(dialog, name))
    return other


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO"])
def test_who_has_overheard_a_call_does_not_lead_it_to_himself(call, stage, method):
    kedge, a, b, _, stranger = call
    thief = stage.agent(stranger, "alice", "", (kedge.host.addr, 5060))
    stolen = overheard(a, thief, stage.rtp(stranger))
    body = stolen.body()
    answer = stolen.request(method, body=body)
    assert answer.status == 407
    if method == "INVITE":
        thief._ack_refusal(stolen.sent, answer)
    answer = stolen.authorized(method, answer, body, "wrong")
    assert answer.status == 403
    if method == "INVITE":
        thief._ack_refusal(stolen.sent, answer)
    assert b.agent.quiet(method, 0.5) and not stolen.rtp.received
    a.cseq = stolen.cseq


def test_phone_that_moves_in_a_call_proves_who_it_is(call, stage):
    kedge, a, b, _, elsewhere = call
    moved = overheard(a, stage.agent(elsewhere, "alice", "", (kedge.host.addr, 5060)), stage.rtp(elsewhere))
    body = moved.body()
    answer = moved.request("INVITE", body=body)
    assert answer.status == 407
    moved.agent._ack_refusal(moved.sent, answer)
    thread = threading.Thread(target=lambda: b.answer(b.agent.expect("INVITE")))
    thread.start()
    answer = moved.authorized("INVITE", answer, body, "pw-alice")
    assert answer.status == 200
    moved.ack()
    moved._listen(answer)
    thread.join()
    assert moved.rtp.got(ms=200) and b.rtp.got(time.monotonic(), 200)
    a.cseq, a.version = moved.cseq, moved.version
    thread = threading.Thread(target=lambda: b.answer(b.agent.expect("INVITE")))
    thread.start()
    assert a.reinvite().status == 200  # back where it is registered: no password is asked for
    thread.join()


def is_unsaid(kedge, log, stranger):
    """Nothing is said of STUN, or of him, since the log was that long; of others there may be."""
    new = kedge.log()[len(log):]
    return stranger.addr not in new and "stun" not in new.lower()


def test_stun_keepalive_on_the_sip_port_is_answered_with_the_source(call):
    """RFC 5626 4.4.2: some phones keep their flow open with Binding requests. Once, from the SIP port, and nothing is logged."""
    kedge, _, _, _, stranger = call
    log, before = kedge.log(), kedge.stats()["stun_answered"]
    with socket_in(stranger) as s:
        s.settimeout(8)
        s.bind((stranger.addr, 0))
        for fingerprint in (True, False):
            question = build(REQUEST, [], fingerprint=fingerprint)
            s.sendto(question, (kedge.host.addr, 5060))
            answer, source = s.recvfrom(2048)
            right = [(t, v) for t, v in parse(success(question[8:20], s.getsockname(), "x"))[2].items() if t == XOR_MAPPED]
            assert source == (kedge.host.addr, 5060) and answer == build(SUCCESS, right, None, question[8:20], fingerprint)
        question = build(REQUEST, [(0x7001, b"what")], fingerprint=False)
        s.sendto(question, (kedge.host.addr, 5060))
        kind, transaction, attributes = parse(s.recvfrom(2048)[0])
        assert (kind, transaction) == (ERROR, question[8:20])
        assert attributes[0x0009][2:4] == bytes((4, 20)) and attributes[0x000A] == b"\x70\x01" and FINGERPRINT not in attributes
    assert is_unsaid(kedge, log, stranger) and kedge.stats()["stun_answered"] == before + 3


def test_what_only_looks_like_stun_gets_no_answer_and_no_line_in_the_log(call):
    kedge, _, _, _, stranger = call
    rnd = random.Random(4)
    fixed = [b"\0", b"\1", b"\0\0", b"\0\0\0\0", b"\0" * 20, b"\1" * 1400, b"\0" * 9000, build(REQUEST, [])[:-1], b"\0\1\0\0" + os.urandom(16),
             build(INDICATION, []), build(SUCCESS, []), build(ERROR, []), build(0x0003, []), build(0x0201, [])]
    rest = [struct.pack("!HHI", rnd.choice((REQUEST, SUCCESS, rnd.randrange(0x400))), rnd.randrange(100), 0x2112A442) +
            rnd.randbytes(rnd.randrange(12, 200)) for _ in range(1000 - len(fixed))]
    log, before = kedge.log(), kedge.stats()
    with socket_in(stranger) as s:
        s.bind((stranger.addr, 0))
        for i, packet in enumerate(fixed + rest, 1):
            s.sendto(packet, (kedge.host.addr, 5060))
            if i % 50 == 0:  # no more than its socket holds while kedge does not run
                assert until(lambda i=i: kedge.stats()["stun_dropped"] == before["stun_dropped"] + i, 20), (i, before, kedge.stats())
        s.setblocking(False)
        with pytest.raises(BlockingIOError):
            s.recv(2048)
    after = kedge.stats()
    assert is_unsaid(kedge, log, stranger) and after["stun_answered"] == before["stun_answered"]
