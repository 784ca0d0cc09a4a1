"""The laboratory does what it says: otherwise no test that uses it means anything."""
import os
import select
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from natlab import netns, picture, stun
from natlab.box import NATS
from natlab.lab import Lab
from natlab.netns import patient, until


@pytest.fixture(scope="module")
def lab():
    with Lab() as made:
        made.stun = made.public_host("stun", ip4=["203.0.113.2", "203.0.113.3"])
        stun.serve(made.stun)
        made.peer = made.public_host("peer", ip6=True)
        yield made


def receive(sock, timeout=20):
    sock.settimeout(timeout)
    return sock.recvfrom(65536)


def reaches(sender, target, receiver, seconds=20):
    """Whether a datagram comes through."""
    token = os.urandom(8)
    sender.sendto(token, target)
    end = patient() + seconds
    while patient() < end:
        if select.select([receiver], [], [], 0.05)[0] and receiver.recvfrom(2048)[0] == token:
            return True
    return False


def is_lost(sender, target, receiver):
    """What does not come within a while of this machine does not come."""
    return not reaches(sender, target, receiver, 0.3)


def count(box, verdict):
    return box.stats()["verdicts"][verdict]


# Each behaviour, as a client of RFC 5780 sees it


def test_behaviours_confirmed_by_rfc5780_client(lab):
    eim_apdf, apdm_apdf = ("eim", "apdf"), ("apdm", "apdf")
    # Linux preserves the port, so that its mapping looks independent of the endpoint.
    expected = {
        lab.natted_host("d-full", "full-cone"): ("eim", "eif"),
        lab.natted_host("d-address", "address-restricted"): ("eim", "adf"),
        lab.natted_host("d-port", "port-restricted"): eim_apdf,
        lab.natted_host("d-symmetric", "symmetric"): apdm_apdf,
        lab.natted_host("d-mixed", "symmetric", mapping="adm", filtering="adf"): ("adm", "adf"),
        lab.natted_host("d-carrier", "full-cone", carrier="symmetric"): apdm_apdf,
        lab.natted_host("d-cone-carrier", "full-cone", carrier="address-restricted"): ("eim", "adf"),
        lab.linux_masquerade_host("d-linux"): eim_apdf,
        lab.linux_masquerade_host("d-linux-random", random=True): apdm_apdf,
        lab.lan("d-lan", hosts=1)[0]: ("eim", "eif"),
    }
    running = {host: stun.Discovery(host, lab.stun.ip4) for host in expected}
    assert {host: d.result() for host, d in running.items()} == expected


# The table of pairs


def punch(lab, a, b):
    """Two sockets learn their addresses by STUN, tell each other, and send; an answer goes to where a packet came from
    (a peer-reflexive address). Whether both heard the other."""
    socks = [a.udp(), b.udp()]
    learnt = [stun.mapped(s, lab.stun.ip4) for s in socks]
    assert all(learnt)
    target = [learnt[1], learnt[0]]
    heard = [False, False]
    end = patient() + 3
    while patient() < end and not all(heard):
        for i in (0, 1):
            socks[i].sendto(b"probe", target[i])
        for s in select.select(socks, [], [], 0.04)[0]:
            i = socks.index(s)
            _, target[i] = s.recvfrom(2048)
            heard[i] = True
    for s in socks:
        s.close()
    return all(heard)


def test_pairs(lab):
    hosts = {side: {nat: lab.natted_host(f"{side}-{nat}", nat) for nat in NATS} for side in "ab"}
    connected = {(a, b) for a in NATS for b in NATS if punch(lab, hosts["a"][a], hosts["b"][b])}
    refused = {(a, b) for a in NATS for b in NATS} - connected
    assert refused == {("symmetric", "symmetric"), ("symmetric", "port-restricted"), ("port-restricted", "symmetric")}


# Mappings


def test_two_hosts_of_a_home_share_the_address_and_not_the_port(lab):
    home = lab.home("two", "port-restricted", hosts=2, ports="preserving")
    peer = lab.peer.udp(7000)
    seen = set()
    for host in home.hosts:
        host.udp(5060).sendto(b"x", (lab.peer.ip4, 7000))
        seen.add(receive(peer)[1])
    assert {address for address, _ in seen} == {home.external}
    assert {port for _, port in seen} == {5060, 5061}


def test_hosts_of_a_home_reach_each_other_directly(lab):
    home = lab.home("neighbours", "symmetric", hosts=2)
    a, b = home.hosts[0].udp(), home.hosts[1].udp(6000)
    assert reaches(a, (home.hosts[1].ip4, 6000), b)
    assert home.box.stats()["switched"] == 1 and not home.box.stats()["flows"]


def test_sequential_ports(lab):
    host = lab.natted_host("sequential", "symmetric", ports="sequential")
    sock, peers = host.udp(), [lab.peer.udp() for _ in range(5)]
    ports = []
    for peer in peers:
        sock.sendto(b"x", peer.getsockname())
        ports.append(receive(peer)[1][1])
    assert ports == list(range(ports[0], ports[0] + 5))


@pytest.mark.parametrize("hairpin", [True, False])
def test_hairpin(lab, hairpin):
    home = lab.home(f"hairpin{int(hairpin)}", "full-cone", hosts=2, hairpin=hairpin)
    a, b = home.hosts[0].udp(), home.hosts[1].udp()
    mapped_a, mapped_b = stun.mapped(a, lab.stun.ip4), stun.mapped(b, lab.stun.ip4)
    a.sendto(b"through the looking glass", mapped_b)
    if hairpin:
        assert receive(b) == (b"through the looking glass", mapped_a)  # RFC 4787 REQ-9: the external source
    else:
        assert until(lambda: count(home.box, "no-hairpin") == 1)


def test_mapping_timeout(lab):
    host = lab.natted_host("timeout", "full-cone", timeout=60)
    sock, peer = host.udp(), lab.peer.udp()
    first = stun.mapped(sock, lab.stun.ip4)
    host.box.advance(59)
    assert reaches(peer, first, sock)
    host.box.advance(2)  # inbound packets did not refresh it
    assert is_lost(peer, first, sock) and until(lambda: count(host.box, "no-mapping") == 1)
    assert stun.mapped(sock, lab.stun.ip4) != first
    host.box.set(inbound_refresh=True)
    second = stun.mapped(sock, lab.stun.ip4)
    for _ in range(3):
        host.box.advance(59)
        assert reaches(peer, second, sock)


def test_a_router_that_restarts_forgets(lab):
    host = lab.natted_host("restart", "full-cone")
    sock, peer = host.udp(), lab.peer.udp()
    first = stun.mapped(sock, lab.stun.ip4)
    assert reaches(peer, first, sock)
    host.box.flush()
    assert is_lost(peer, first, sock)


def test_change_of_nat(lab):
    host = lab.natted_host("moving", "full-cone")
    sock, peer = host.udp(), lab.peer.udp()
    first = stun.mapped(sock, lab.stun.ip4)
    address = lab.change_nat(host, "port-restricted")
    second = stun.mapped(sock, lab.stun.ip4)
    assert second[0] == address != first[0]
    assert is_lost(peer, second, sock) and until(lambda: count(host.box, "filtered") == 1)


def test_carrier(lab):
    carrier = lab.carrier("cgn", "full-cone", hairpin=True)
    a, b = (lab.natted_host(f"cgn-{i}", "full-cone", carrier=carrier) for i in "ab")
    sock, other = a.udp(), b.udp()
    mapped, mapped_other = stun.mapped(sock, lab.stun.ip4), stun.mapped(other, lab.stun.ip4)
    assert mapped[0] == mapped_other[0] == carrier.external == a.external
    assert a.box.flows()[0]["external"].startswith("100.64.0.")
    assert [f["inside"] for f in carrier.box.flows()] == [h.box.flows()[0]["external"] for h in (a, b)]
    assert reaches(sock, mapped_other, other)


# What is not UDP over IPv4


@pytest.mark.parametrize("nat", NATS)
def test_tcp(lab, nat):
    host = lab.natted_host("tcp-" + nat, nat)
    listener = lab.peer.tcp()
    listener.listen()
    client = host.tcp()
    client.connect(listener.getsockname())
    server, address = listener.accept()
    server.settimeout(5)
    assert address[0] == host.external
    blob = os.urandom(100000)
    client.sendall(blob)
    client.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: server.recv(65536), b""))
    assert got == blob
    server.sendall(got[::-1])
    server.close()
    assert b"".join(iter(lambda: client.recv(65536), b"")) == blob[::-1]


def test_udp_blocked(lab):
    host = lab.natted_host("blocked", "full-cone", block_udp=True)
    assert stun.mapped(host.udp(timeout=0.2), lab.stun.ip4) is None
    assert until(lambda: count(host.box, "udp-blocked") == 1)
    listener = lab.peer.tcp()
    listener.listen()
    host.tcp().connect(listener.getsockname())  # TCP works


def test_echo(lab):
    host = lab.natted_host("echo", "symmetric", carrier="symmetric")
    assert host.ping(lab.peer.ip4)


def test_icmp_errors_find_their_way(lab):
    host = lab.natted_host("errors", "full-cone")
    closed = lab.peer.udp()
    target = closed.getsockname()
    closed.close()
    sock = host.udp()
    sock.connect(target)
    sock.send(b"x")
    with pytest.raises(ConnectionRefusedError):  # from outside
        sock.recv(100)
    sock = host.udp()
    mapped = stun.mapped(sock, lab.stun.ip4)
    sock.close()
    peer = lab.peer.udp()
    peer.connect(mapped)
    peer.send(b"x")
    with pytest.raises(ConnectionRefusedError):  # from inside
        peer.recv(100)


def test_fragments(lab):
    host = lab.natted_host("fragments", "port-restricted")
    sock, peer = host.udp(), lab.peer.udp()
    big = os.urandom(5000)
    sock.sendto(big, peer.getsockname())
    data, source = receive(peer)
    assert data == big
    peer.sendto(big[::-1], source)
    assert receive(sock)[0] == big[::-1]
    host.box.set(drop_fragments=True)
    sock.sendto(big, peer.getsockname())
    assert until(lambda: count(host.box, "fragment") == 4)


def test_ipv6_firewall_translates_nothing_and_admits_only_answers(lab):
    host = lab.natted_host("six", "full-cone", ip6=True)
    sock = host.udp(ip=host.ip6)
    peer, stranger = lab.peer.udp(ip=lab.peer.ip6), lab.peer.udp(ip=lab.peer.ip6)
    assert is_lost(peer, sock.getsockname(), sock)
    assert reaches(sock, peer.getsockname(), peer)
    assert reaches(peer, sock.getsockname(), sock)
    assert is_lost(stranger, sock.getsockname(), sock)
    assert until(lambda: count(host.box, "filtered") == 1 and count(host.box, "no-mapping") == 1)
    flow = host.box.flows("udp")[0]
    assert flow["inside"] == flow["external"]
    host.box.set(ipv6="open")
    assert reaches(stranger, sock.getsockname(), sock)


def test_a_host_with_ipv6_only(lab):
    host = lab.natted_host("only-six", ip4=False, ip6=True)
    peer = lab.peer.udp(ip=lab.peer.ip6)
    assert host.addr == host.ip6 == host.external
    assert reaches(host.udp(), peer.getsockname(), peer)


# A bad line


def received(lab, name, packets=200, **flags):
    """The numbers of the packets that arrive, in order, of so many sent."""
    host = lab.natted_host(name, "symmetric", **flags)
    sock, peer = host.udp(), lab.peer.udp()
    for i in range(packets):
        sock.sendto(b"%d" % i, peer.getsockname())
    flow, got = {}, []

    def complete():
        stats = host.box.stats()
        for f in stats["flows"]:
            flow.update(f)
        return flow.get("up") == packets and stats["queued"] == 0
    assert until(complete)
    while select.select([peer], [], [], 0.05)[0]:
        got.append(int(peer.recv(100)))
    return got, flow


def test_the_same_seed_makes_the_same_bad_line(lab):
    bad = {"loss": 20, "duplicate": 10, "reorder": 10, "reorder_delay": 1500}  # ms: more than a moment in which nothing is sent
    first, flow = received(lab, "seed-1", seed=7, **bad)
    again, _ = received(lab, "seed-2", seed=7, **bad)
    other, _ = received(lab, "seed-3", seed=8, **bad)
    assert first == again != other
    kept = set(first)
    assert 200 - len(kept) == flow["up_lost"] and 22 <= flow["up_lost"] <= 60
    assert 5 <= len(first) - len(kept) <= 32      # duplicates
    assert any(a > b for a, b in zip(first, first[1:]))  # order


def test_loss_of_one_direction(lab):
    host = lab.natted_host("downhill", "full-cone", down_loss=100)
    sock, peer = host.udp(), lab.peer.udp()
    assert reaches(sock, peer.getsockname(), peer)
    assert is_lost(peer, (host.external, int(host.box.flows()[0]["external"].split(":")[1])), sock)
    assert until(lambda: host.box.flows()[0]["down_lost"] == 1) and host.box.flows()[0]["up_lost"] == 0


def test_what_is_sent_again_is_not_lost_again(lab):
    host = lab.natted_host("patient", "full-cone", loss=100, lose_once=True)
    sock, peer = host.udp(), lab.peer.udp()
    for text in (b"one", b"two", b"one", b"three", b"one", b"two"):
        sock.sendto(text, peer.getsockname())
    assert [receive(peer)[0] for _ in range(3)] == [b"one", b"one", b"two"]
    assert host.box.flows()[0]["up_lost"] == 3


def test_delay_and_jitter(lab):
    host = lab.natted_host("slow", "full-cone", delay=40, jitter=20)
    sock, peer = host.udp(), lab.peer.udp()
    start = time.monotonic()
    for i in range(50):
        sock.sendto(b"%d" % i, peer.getsockname())
    order = [int(receive(peer)[0]) for _ in range(50)]
    assert time.monotonic() - start >= 0.040
    assert order == sorted(order)  # jitter keeps the order


# Linux routers

REGISTER = """\
REGISTER sip:example.org SIP/2.0
Via: SIP/2.0/UDP {me}:{port};branch=z9hG4bK1;rport
From: <sip:alice@example.org>;tag=1
To: <sip:alice@example.org>
Call-ID: one@{me}
CSeq: 1 REGISTER
Contact: <sip:alice@{me}:{port}>
Max-Forwards: 70
Expires: 60
Content-Length: 0

"""
SDP = """\
v=0
o=- 1 1 IN IP4 {me}
s=-
c=IN IP4 {me}
t=0 0
m=audio 40000 RTP/AVP 0
a=candidate:1 1 UDP 2130706431 {me} 40000 typ host
"""
INVITE = """\
INVITE sip:bob@example.org SIP/2.0
Via: SIP/2.0/UDP {me}:{port};branch=z9hG4bK2;rport
From: <sip:alice@example.org>;tag=1
To: <sip:bob@example.org>
Call-ID: two@{me}
CSeq: 2 INVITE
Contact: <sip:alice@{me}:{port}>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: {length}

"""


def crlf(text):
    return text.replace("\n", "\r\n").encode()


def sip_through(lab, host, port):
    """What the other side gets of a REGISTER and an INVITE from this port to its port 5060."""
    phone, server = host.udp(port), lab.sip
    sdp = SDP.format(me=host.ip4)
    got = []
    for text in (REGISTER.format(me=host.ip4, port=port),
                 INVITE.format(me=host.ip4, port=port, length=len(crlf(sdp))) + sdp):
        phone.sendto(crlf(text), server.getsockname())
        data, source = receive(server)
        assert source[0] == host.external
        got.append(data.decode())
    return got, phone, source


@pytest.fixture(scope="module")
def sip_server(lab):
    lab.sip = lab.peer.udp(5060)


@pytest.mark.usefixtures("sip_server")
def test_masquerade_leaves_sip_alone(lab):
    host = lab.linux_masquerade_host("plain")
    (register, invite), _, _ = sip_through(lab, host, 5060)
    assert host.external not in register + invite and host.ip4 in register


@pytest.mark.usefixtures("sip_server")
def test_kernel_sip_alg_rewrites(lab):
    host = lab.linux_sip_alg_host("alg")
    (register, invite), phone, source = sip_through(lab, host, 5060)
    for header in ("Via: SIP/2.0/UDP ", "Contact: <sip:alice@"):
        assert header + host.external in register and header + host.external in invite
    assert f"o=- 1 1 IN IP4 {host.external}" in invite and f"c=IN IP4 {host.external}" in invite
    # As real routers: what identifies the network inside remains elsewhere.
    assert f"Call-ID: two@{host.ip4}" in invite and f"a=candidate:1 1 UDP 2130706431 {host.ip4} 40000" in invite
    reply = register.replace("REGISTER sip:example.org SIP/2.0", "SIP/2.0 200 OK", 1).replace(
        ";rport", f";received={host.external};rport={source[1]}")
    lab.sip.sendto(reply.encode(), source)
    assert f"received={host.ip4}" in receive(phone)[0].decode()


@pytest.mark.usefixtures("sip_server")
def test_kernel_sip_alg_touches_its_port_only(lab):
    host = lab.linux_sip_alg_host("alg-other", port=5070)
    (register, _), _, _ = sip_through(lab, host, 5060)
    assert host.external not in register


# The library


def test_capture(lab):
    capture = lab.peer.capture("udp port 7777")
    peer = lab.peer.udp(7777)
    assert reaches(lab.natted_host("captured", "symmetric").udp(), peer.getsockname(), peer)
    assert until(capture.packets)[0].dport == 7777
    capture.stop()


def test_picture_of_a_call(lab):
    """A REGISTER and one packet of RTP from behind a NAT, answered: the map names all three stations and counts both."""
    host = lab.natted_host("drawn", "symmetric")
    sip, rtp = lab.peer.udp(5080), lab.peer.udp(30000)
    capture = lab.peer.capture("udp")
    register, packet = b"REGISTER sip:example.org SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n", b"\x80" + bytes(19)
    for own, peer, data in ((5060, sip, register), (40000, rtp, packet)):
        sock = host.udp(own)
        sock.sendto(data, peer.getsockname())
        peer.sendto(data.replace(b"REGISTER sip:example.org SIP/2.0", b"SIP/2.0 200 OK"), receive(peer)[1])
        receive(sock)
    assert until(lambda: len(capture.packets()) == 4)
    packets = capture.stop()
    side = picture.Side("alice", "symmetric", host, host.box)
    ports = {f["inside"].rpartition(":")[2]: ":" + f["external"].rpartition(":")[2] for f in host.box.flows()}
    assert picture.media(side, packets, lab.peer.ip4) == {"SIP": (":5060", ports["5060"], ":5080", 1, 1),
                                                          "RTP": (":40000", ports["40000"], ":30000", 1, 1)}
    arrows = [line.split("|")[1].strip("-<> ") for line in
              picture.ladder(packets, lab.peer.ip4, host.external, "192.0.2.1").splitlines()]
    assert arrows == ["REGISTER", "200 OK (REGISTER)", "RTP to :30000 ...", f"RTP to {ports['40000']} ..."]


def test_picture_of_a_direct_call():
    """RTP from phone to phone is drawn with the ports of both phones and both NATs; what the middle relayed is not."""
    phones = [SimpleNamespace(addr=f"192.168.{i}.10", external=f"198.51.100.{i}") for i in (1, 2)]
    left, right = (picture.Side(name, "symmetric", host, None) for name, host in zip(("alice", "bob"), phones))
    middle, rtp = "203.0.113.10", b"\x80" + bytes(19)

    def at(phone, port, peer, peer_port, sent, received):
        out = netns.Packet(0, "udp", phone.addr, port, peer, peer_port, rtp)
        back = netns.Packet(0, "udp", peer, peer_port, phone.addr, port, rtp)
        return [out] * sent + [back] * received
    relayed = [at(phone, 4000, middle, 30000, 50, 50) for phone in phones]
    assert picture.direct_map(left, right, relayed, middle) == ""
    captures = [relayed[0] + at(phones[0], 4000, phones[1].external, 6001, 9, 7),
                relayed[1] + at(phones[1], 6000, phones[0].external, 4001, 8, 5)]
    rows = [line.split() for line in picture.direct_map(left, right, captures, middle).splitlines()]
    assert rows == [["RTP"], ["alice", "192.168.1.10", ":4000"], ["|", "9", "v", "^", "7"],
                    ["symmetric", "NAT", "198.51.100.1", ":4001"], ["|", "|"], ["symmetric", "NAT", "198.51.100.2", ":6001"],
                    ["|", "5", "v", "^", "8"], ["bob", "192.168.2.10", ":6000"]]


def test_nothing_is_left_after_an_exception():
    with pytest.raises(ZeroDivisionError):
        with Lab() as other:
            other.natted_host("doomed", "symmetric", carrier="symmetric")
            process = other.public_host("busy").popen(["sleep", "1000"])
            box, names, folder = other.boxes[0].process, list(other.namespaces), other.folder
            assert all(os.path.exists("/run/netns/" + n) for n in names)
            raise ZeroDivisionError
    assert process.poll() is not None and box.poll() is not None
    assert not any(os.path.exists("/run/netns/" + n) for n in names) and not os.path.exists(folder)


def test_what_a_killed_run_left_is_removed():
    """A process is killed inside its laboratory: its boxes end by themselves, the next laboratory takes away the rest."""
    script = ("from natlab.lab import Lab\nwith Lab() as lab:\n    lab.natted_host('orphan')\n"
              "    print(lab.prefix, lab.folder, lab.boxes[0].process.pid, flush=True)\n    input()\n")
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               cwd=tests)
    prefix, folder, box = process.stdout.readline().split()
    assert os.path.exists(f"/run/netns/{prefix}orphan") and os.path.exists("/proc/" + box)
    process.kill()
    process.communicate()
    assert until(lambda: not os.path.exists("/proc/" + box))
    with Lab():
        assert not os.path.exists(f"/run/netns/{prefix}orphan") and not os.path.exists(folder)
