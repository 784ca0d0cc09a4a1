"""Attacks on SRTP, DTLS and fingerprints, end to end: alice's phone has keys (SDES or DTLS-SRTP), bob's has none, kedge is
between. Nothing goes to a stranger, nothing of theirs gets through, and the call stays up."""
import os
import re
import struct
import time

import pytest

from interop.ear import Ear
from interop.hosts import Stopwatch, background, socket_in, until
from interop.kedge import BUILD
from interop.secure import SecureRtp, Talk
from interop.sprayer import Sprayer

PORTS = range(30000, 30040)
MARK = b"\x3c"


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    config = {"media": {"ports": f"{PORTS[0]}-{PORTS[-1]}", "port_quarantine": 1, "profile": "plain"}}
    kedge = long_stage.kedge(server, config=config, accounts={u: "pw-" + u for u in ("alice", "bob")})
    agents = [long_stage.agent(lab.public_host(u), u, "pw-" + u, (server.addr, 5060)) for u in ("alice", "bob")]
    for agent in agents:
        assert agent.register().status == 200
    return kedge, agents, lab.public_host("stranger")


@pytest.fixture(params=("sdes", "dtls"))
def call(request, world, stage):
    made = Talk(world, stage, request.param).start()
    yield made
    made.end()


def rtp(marker=MARK, ssrc=0x51515151, seq=None):
    seq = int.from_bytes(os.urandom(2), "big") if seq is None else seq
    return struct.pack("!BBHII", 0x80, 0, seq, 0, ssrc) + marker * 160


def hello():
    """A ClientHello as OpenSSL would send it, with another random each time."""
    body = b"\xfe\xfd" + os.urandom(32) + b"\0\0" + b"\0\2\xc0\x2b" + b"\1\0"
    message = b"\1" + struct.pack("!I", len(body))[1:] + bytes(5) + struct.pack("!I", len(body))[1:] + body
    return record(22, message)


def record(kind, body, epoch=0, seq=9):
    return struct.pack("!BHHHIH", kind, 0xfefd, epoch, 0, seq, len(body)) + body


def noise():
    """What may come instead of DTLS: alerts, encrypted or not, ChangeCipherSpec, application data, hellos, garbage."""
    return [record(21, bytes((2, code))) for code in (0, 10, 20, 40, 42, 80)] + [
        record(21, b"\1\0"), record(20, b"\1", seq=2 ** 31), record(23, b"hello"), record(23, bytes(40), 1), record(21, bytes(26), 1),
        record(22, bytes(60), 1), record(22, bytes(60), 2), record(22, bytes(60)), hello(), b"\x16", b"\x3f" * 30, os.urandom(1) + b"\xff"]


def injected(talk, marker=MARK):
    """Packets with the attacker's mark that reached one of the two."""
    return [d for d in (*talk.rtp_a.received, *talk.rtp_b.received) if marker * 4 in d[2]]


def reinvite(talk):
    """alice says something new."""
    again = background(talk.a.reinvite, body=talk.rtp_a.body(version=2, direction="sendrecv", codecs=(0, 8, 101)))
    to = talk.rtp_a.to
    talk.b.answer(talk.b.agent.expect("INVITE"))
    response = again()
    assert response.status == 200, response
    talk.rtp_a.learn(response.body)
    talk.rtp_a.to = to


def sprayed(packets):
    return [*packets, *noise()]


# RTP Bleed

@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_rtp_bleed_before_during_and_after_the_answer_and_a_reinvite(world, stage, kind):
    kedge, _, stranger = world
    sprayer = Sprayer(stranger, kedge.host.addr, PORTS, sprayed([rtp, lambda: rtp() + os.urandom(10), b"\x80\xc8" + bytes(50)]))
    try:
        talk = Talk(world, stage, kind).start()
        reinvite(talk)
        talk.is_well()
    finally:
        sprayer.stop()
    talk.end()
    assert sprayer.sent > 500
    assert sprayer.got == [], f"{len(sprayer.got)} packets went to the stranger"
    assert injected(talk) == []


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_nothing_is_said_in_the_clear(world, stage, kind):
    """From before the answer on, early media too: what bob says never reaches alice's network as he said it."""
    _, (alice, bob), _ = world
    talk = Talk(world, stage, kind)
    ear = Ear(alice.host)
    result = background(talk.a.call, "bob", body=talk.rtp_a.body())
    request = bob.expect("INVITE")
    bob.reply(request, 183, talk.b.body())
    talk.b._listen(request)
    time.sleep(0.5)
    talk.b.answer(request)
    answer = result()
    time.sleep(0.3)  # alice's phone is slow
    talk.rtp_a.learn(answer.body)
    talk.is_well()
    talk.end()
    ear.close()
    heard = [d for d in ear.datagrams if not d.outgoing and d.dport == talk.rtp_a.port and d.payload[:1] >= b"\x80"]
    assert len(heard) > 10
    assert [d for d in heard if talk.rtp_b._frame[:20] in d.payload or talk.rtp_b._frame[-20:] in d.payload] == []


# The latching race

@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_a_neighbour_who_is_first_and_faster(world, stage, kind):
    """Another port of alice's own host, which signalling makes plausible, long before alice sends anything."""
    kedge, (alice, _), _ = world
    sprayer = Sprayer(alice.host, kedge.host.addr, PORTS, [rtp, lambda: rtp() + os.urandom(10), *noise()])
    try:
        talk = Talk(world, stage, kind)
        answer = talk.offer()
        time.sleep(0.5)
        assert injected(talk) == []
        talk.rtp_a.learn(answer.body)
        talk.is_well()
    finally:
        sprayer.stop()
    talk.end()
    assert injected(talk) == []
    media = [d for d in sprayer.got if d.payload[:1] >= b"\x80"]
    assert media == [], f"{len(media)} packets of media went to the neighbour"
    if kind == "sdes":
        assert sprayer.got == []
    # A ClientHello from a plausible place is answered, by less than it has, and nothing comes after it.
    assert all(len(d.payload) == 60 and d.payload[13] == 3 for d in sprayer.got), sprayer.got[:3]


def test_a_neighbour_with_a_certificate_of_its_own(world, stage):
    """It finishes its handshake before alice begins hers."""
    _, (alice, _), _ = world
    talk = Talk(world, stage, "dtls")
    neighbour = stage.add(SecureRtp(alice.host))
    answer = talk.offer()
    neighbour.learn(answer.body)
    neighbour.to = talk.rtp_a.to
    assert until(lambda: len(neighbour.peer.said("dtls-in")) >= 3, 20), neighbour.peer.lines
    time.sleep(0.3)
    talk.rtp_a.learn(answer.body)
    talk.is_well()
    assert neighbour.peer.said("rtp ") == [] and neighbour.bad() == []
    assert "established" not in neighbour.peer.said("dtls ")
    talk.end()


# SRTP errors and replay (RFC 3711 3.3.2)

def test_replays(call, stage):
    """alice's packets, captured, sent again by a stranger, by a neighbour and from her own address."""
    host, server = call.a.agent.host, call.kedge.host.addr
    ear = Ear(host)
    call.is_well()
    ear.close()
    captured = [d for d in ear.datagrams if d.outgoing and d.dst == server and d.sport == call.rtp_a.port and d.payload[0] >= 128]
    assert len(captured) >= 10
    port = captured[0].dport
    others = [Sprayer(where, server, [port], [d.payload for d in captured], pause=0.01) for where in (call.stranger, host)]
    for _ in range(10):
        for d in captured:
            call.rtp_a.raw(d.payload)
    time.sleep(0.5)
    call.is_well()
    for other in others:
        assert other.stop().sent > 100 and other.got == [], f"{len(other.got)} packets went where replays came from"
    numbers = [data[2:4] for _, _, data in call.rtp_b.received]
    assert len(numbers) == len(set(numbers)), "replays reached bob"


def test_bad_tags_and_plain_rtp(call):
    """More than 200 bad tags a second, as alice's own packets but for a byte, and RTP in the clear, from her own address."""
    ssrc = struct.unpack("!I", call.rtp_b.received[-1][2][8:12])[0]
    for _ in range(200):
        call.rtp_a.raw(rtp(ssrc=ssrc) + os.urandom(10))
        call.rtp_a.raw(rtp(ssrc=ssrc))
        call.rtp_a.raw(rtp())
        call.rtp_a.raw(b"\x80\xc8\0\6" + struct.pack("!I", ssrc) + os.urandom(20 + 14))
        time.sleep(0.005)
    call.is_well()
    assert injected(call) == []


def test_reorder_of_64_passes_once(call):
    """RFC 3711 3.3.2: a window of at least 64."""
    call.rtp_a.peer.tell("play 0")
    sealed = [call.rtp_a.seal(rtp(b"\x11", 0x77777777, 1000 + i)) for i in range(65)]
    since = len(call.rtp_b.received)

    def numbers():
        return [struct.unpack("!H", data[2:4])[0] for _, _, data in call.rtp_b.received[since:] if b"\x11" * 100 in data]
    for sent, packet in enumerate([sealed[-1], *sealed[:-1]], 1):
        call.rtp_a.raw(packet)
        if sent % 10 == 5:  # a socket of kedge's holds 40
            assert until(lambda n=sent: len(numbers()) >= n), len(numbers())
    for packet in sealed:
        call.rtp_a.raw(packet)
        time.sleep(0.002)
    time.sleep(0.2)
    assert sorted(numbers()) == list(range(1000, 1065))
    call.rtp_a.peer.tell("play 1")
    call.is_well()


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_sequence_numbers_wrap(world, stage, kind):
    talk = Talk(world, stage, kind, sequence=65480).start()
    talk.is_well(2000)
    numbers = [struct.unpack("!H", data[2:4])[0] for _, _, data in talk.rtp_b.received]
    assert numbers[0] > 60000 and numbers[-1] < 30000
    talk.end()


def test_a_phone_that_moves_is_believed_by_its_keys(call):
    """Another port of its host, without a word of signalling: a NAT that rebinds."""
    call.rtp_a.peer.tell("play 0")
    time.sleep(0.3)
    call.rtp_a.move()
    call.rtp_a.peer.tell("play 1")
    mark = time.monotonic()
    assert call.rtp_b.got(mark, 100) and call.rtp_a.got(mark, 100), call.kedge.calls()


# RTCP hijack

def test_rtcp_without_keys(call):
    """Reports in the clear, cut and whole, from alice's own address and from elsewhere: none reaches bob."""
    ear = Ear(call.b.agent.host)
    report = b"\x80\xc8\0\6" + b"\x51" * 24
    packets = [report, report[:4], report[:8], report[:20], b"\x81\xc9\0\7" + b"\x51" * 28, b"\x80\xc8\xff\xff" + b"\x51" * 24]
    sprayer = Sprayer(call.stranger, call.kedge.host.addr, PORTS, packets)
    for _ in range(20):
        for packet in packets:
            call.rtp_a.raw(packet)
    time.sleep(0.5)
    call.is_well()
    assert sprayer.stop().got == []
    ear.close()
    assert [d for d in ear.datagrams if not d.outgoing and len(d.payload) > 1 and 192 <= d.payload[1] <= 223] == []


# DTLS

def test_dtls_in_a_talk_changes_nothing(call):
    """From alice's own address: alerts, new hellos, ChangeCipherSpec, garbage."""
    before = len(call.rtp_a.peer.said("dtls-in"))
    for _ in range(50):
        for packet in noise():
            call.rtp_a.raw(packet)
    call.is_well()
    answers = len(call.rtp_a.peer.said("dtls-in")) - before
    assert answers <= (40 if call.kind == "dtls" else 0), answers


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmRSS:\s+(\d+)", f.read(), re.M).group(1))


def test_hellos_without_end(world, stage):
    """100,000 ClientHellos from where alice could be, while she has not begun yet: no memory, no delay."""
    kedge, (alice, _), _ = world
    talk = Talk(world, stage, "dtls")
    answer = talk.offer()
    port = talk.rtp_a.to[1]
    before = resident_kb(kedge.role("media"))
    sockets = [socket_in(alice.host) for _ in range(20)]
    for s in sockets:
        s.bind((alice.host.addr, 0))
    packet = bytearray(hello())
    for i in range(100000):
        struct.pack_into("!I", packet, 30, i)
        sockets[i % 20].sendto(packet, (kedge.host.addr, port))
    for s in sockets:
        s.close()
    talk.rtp_a.learn(answer.body)
    watch = Stopwatch()
    talk.is_well()
    assert watch.fair < 8
    grown = resident_kb(kedge.role("media")) - before
    assert grown < 1024 or "debug" in BUILD, f"{grown} kB"  # AddressSanitizer keeps what was freed
    talk.end()


# Fingerprints (RFC 8122)

def refused_offer(world, stage, lines):
    talk = Talk(world, stage, "dtls")
    response = talk.a.call("bob", body=talk.rtp_a.body(extra=lines))
    assert response.status == 488, response
    talk.kedge.no_calls()
    return response


@pytest.mark.parametrize("lines", ("a=setup:active\r\n", "a=setup:active\r\na=fingerprint:MD5 " + ":".join(["AB"] * 16) + "\r\n",
                                   "a=setup:active\r\na=fingerprint:SHA-1 " + ":".join(["AB"] * 20) + "\r\n",
                                   "a=setup:active\r\na=fingerprint:SHA-256 " + ":".join(["AB"] * 31) + "\r\n"),
                         ids=("absent", "md5", "sha1", "cut"))
def test_an_offer_without_a_fingerprint_that_proves_anything(world, stage, lines):
    refused_offer(world, stage, lines)


def test_a_wrong_fingerprint(world, stage):
    """alice's phone has another certificate than her SDP says: no keys, nothing is heard, the call ends with a reason."""
    talk = Talk(world, stage, "dtls")
    body = talk.rtp_a.body().replace(talk.rtp_a.told_fingerprint(), "SHA-256 " + ":".join(["AB"] * 32))
    answer = talk.offer(body)
    assert answer.status == 200
    talk.rtp_a.learn(answer.body)
    bye = talk.a.agent.expect("BYE", 30)
    talk.a.agent.reply(bye, 200)
    talk.b.agent.reply(talk.b.agent.expect("BYE"), 200)
    assert "fingerprint" in bye.get("reason"), bye.get("reason")
    assert talk.rtp_a.received == [] and talk.rtp_b.received == []
    talk.kedge.no_calls()


def test_a_fingerprint_that_changes_in_a_reinvite(world, stage):
    """The phone goes on with its old certificate: keys that its SDP no longer vouches for are not used for anything new."""
    talk = Talk(world, stage, "dtls").start()
    wrong = talk.rtp_a.body(version=2, codecs=(0,)).replace(talk.rtp_a.told_fingerprint(), "SHA-256 " + ":".join(["AB"] * 32))
    again = background(talk.a.reinvite, body=wrong)
    assert until(lambda: again.done() or not talk.b.agent.requests.empty())
    if not again.done():
        talk.b.answer(talk.b.agent.expect("INVITE"))
    again()
    time.sleep(0.5)
    talk.rtp_a.peer.tell("dtls active")  # its new association has the certificate it always had
    bye = talk.a.agent.expect("BYE", 30)
    talk.a.agent.reply(bye, 200)
    talk.b.agent.reply(talk.b.agent.expect("BYE"), 200)
    talk.kedge.no_calls()


# Demultiplexing (RFC 7983)

def test_every_first_byte_at_every_short_length(call):
    """From alice's own address and a stranger's."""
    ear = Ear(call.b.agent.host)
    strange = [bytes((first,)) * length for first in range(256) for length in range(21)]
    sprayer = Sprayer(call.stranger, call.kedge.host.addr, [call.rtp_a.to[1]], strange)
    for packet in strange:
        call.rtp_a.raw(packet)
    call.is_well()
    assert sprayer.stop().got == []
    ear.close()
    short = [d for d in ear.datagrams if not d.outgoing and d.src == call.kedge.host.addr and d.dport != 5060 and
             d.dport in (call.rtp_b.port, call.rtp_b.port + 1) and len(d.payload) <= 20]
    assert short == [], short[:3]
    call.kedge.alive()
