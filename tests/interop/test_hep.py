"""HEP version 3: a small receiver gets every SIP message of a call, over UDP and TCP, and its RTCP reports, and nothing secret."""
import json
import socket
import struct
import threading
import time

import pytest

from interop.agent import Dialog, talk
from interop.hosts import socket_in, until
from interop.secure import Talk

SIP, RTCP = 1, 5
NAMES = {1: "family", 2: "protocol", 3: "source", 4: "destination", 5: "source", 6: "destination", 7: "source_port",
         8: "destination_port", 9: "seconds", 10: "microseconds", 11: "kind", 12: "agent", 15: "payload", 17: "correlation"}


def decode(data):
    assert data[:4] == b"HEP3" and struct.unpack("!H", data[4:6])[0] == len(data)
    packet, at = {}, 6
    while at < len(data):
        vendor, kind, length = struct.unpack("!HHH", data[at:at + 6])
        value = data[at + 6:at + length]
        assert vendor == 0 and kind in NAMES and length >= 6
        if kind in (3, 4):
            value = socket.inet_ntop(socket.AF_INET, value)
        elif kind in (5, 6):
            value = socket.inet_ntop(socket.AF_INET6, value)
        elif kind in (15, 17):
            value = value.decode("utf-8")
        else:
            value = int.from_bytes(value, "big")
        packet[NAMES[kind]] = value
        at += length
    assert at == len(data)
    return packet


class Receiver:
    def __init__(self, host):
        self.socket = socket_in(host)
        self.socket.bind((host.addr, 0))
        self.socket.settimeout(0.1)
        self.at = f"{host.addr}:{self.socket.getsockname()[1]}"
        self.packets = []
        self.open = True
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while self.open:
            try:
                self.packets.append(decode(self.socket.recv(65536)))
            except socket.timeout:
                pass

    def stop(self):
        self.open = False
        self.thread.join()
        self.socket.close()

    def sip(self, start, call_id=None):
        return [p for p in self.packets if p["kind"] == SIP and p["payload"].startswith(start) and
                (call_id is None or call_id in p["payload"])]


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    receiver = long_stage.add(Receiver(lab.public_host("homer")))
    kedge = long_stage.kedge(server, config={"hep": {"server": receiver.at, "agent": 77}},
                             accounts={"alice": "a-word", "bob": "b-word"})
    alice = long_stage.agent(lab.public_host("alice"), "alice", "a-word", (server.addr, 5060))
    bob = long_stage.agent(lab.public_host("bob"), "bob", "b-word", (server.addr, 5060), transport="tcp")
    for a in (alice, bob):
        assert a.register().status == 200
    return kedge, receiver, alice, bob


def test_every_message_of_a_call_both_ways(world, stage):
    kedge, receiver, alice, bob = world
    a, b = talk(alice, bob, stage.rtp(alice.host), stage.rtp(bob.host))
    assert a.bye().status == 200
    bob.reply(bob.expect("BYE"), 200)
    kedge.no_calls()
    legs = [c for c in kedge.json("calls", "--recent")][0]["legs"]
    for leg, agent, protocol in zip(legs, (alice, bob), (17, 6)):
        id_ = leg["call_id"]
        assert until(lambda: receiver.sip("SIP/2.0 200", id_) and receiver.sip("BYE", id_), 20), f"no capture of {id_}"
        for start in ("INVITE", "SIP/2.0 180", "SIP/2.0 200", "ACK", "BYE"):
            found = receiver.sip(start, id_)
            assert found, f"no {start} of {agent.user}'s leg"
            for p in found:
                ends = {(p["source"], p["source_port"]), (p["destination"], p["destination_port"])}
                assert (kedge.host.addr, 5060) in ends and (agent.ip, agent.port) in ends, p
                assert p["protocol"] == protocol and p["family"] == 2 and p["agent"] == 77
                assert abs(p["seconds"] - time.time()) < 60
    [first] = receiver.sip("INVITE", legs[1]["call_id"])
    assert (first["source"], first["destination"]) == (kedge.host.addr, bob.ip), "kedge sent it"
    assert first["payload"].endswith("\r\n") and "m=audio" in first["payload"], "not the whole message"


def with_rtcp(stage, agent):
    """An Rtp and a socket on the port above, which may be somebody's."""
    while True:
        rtp, sock = stage.rtp(agent.host), socket_in(agent.host)
        try:
            sock.bind((agent.ip, rtp.port + 1))
            return rtp, sock
        except OSError:
            sock.close()


def test_rtcp_reports_under_the_call_id(world, stage):
    kedge, receiver, alice, bob = world
    rtp, sock = with_rtcp(stage, alice)
    a, b = talk(alice, bob, rtp, stage.rtp(bob.host))
    [call] = kedge.calls()
    local = call["legs"][0]["media"][0]["local"]
    host, _, port = local.rpartition(":")
    report = struct.pack("!BBHIIIIII", 0x81, 200, 12, 0x1234, 3000000000, 1 << 31, 160, 50, 8600) + \
        struct.pack("!IIIIII", 0x9999, 0x40fffffe, 70, 12, 0, 0)

    def captured():
        sock.sendto(report, (host, int(port) + 1))
        return [p for p in receiver.packets if p["kind"] == RTCP and p["correlation"] == call["legs"][0]["call_id"]]

    found = until(captured, 20, 0.2)
    assert found, "no RTCP report was captured"
    sock.close()
    p = found[0]
    assert (p["source"], p["source_port"]) == (alice.ip, a.rtp.port + 1)
    assert (p["destination"], p["destination_port"]) == (host, int(port) + 1)
    said = json.loads(p["payload"])
    assert said["type"] == 200 and said["ssrc"] == 0x1234 and said["report_count"] == 1
    assert said["sender_information"] == {"ntp_timestamp_sec": 3000000000, "ntp_timestamp_usec": 500000, "rtp_timestamp": 160,
                                          "packets": 50, "octets": 8600}
    [block] = said["report_blocks"]
    assert block["packets_lost"] == -2 and block["fraction_lost"] == 0x40 and block["ia_jitter"] == 12
    assert a.bye().status == 200
    bob.reply(bob.expect("BYE"), 200)
    kedge.no_calls()


@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_rtcp_reports_of_a_side_with_keys(lab, stage, kind):
    """As they read for kedge, where the keys end."""
    receiver = stage.add(Receiver(lab.public_host("homer-" + kind)))
    server = lab.public_host("kedge-" + kind)
    kedge = stage.kedge(server, config={"hep": {"server": receiver.at}, "media": {"profile": "plain"}},
                        accounts={"alice": "a-word", "bob": "b-word"})
    agents = [stage.agent(lab.public_host(u + kind), u, u[0] + "-word", (server.addr, 5060)) for u in ("alice", "bob")]
    assert all(a.register().status == 200 for a in agents)
    talk_ = Talk((kedge, agents, None), stage, kind).start()
    [call] = kedge.calls()
    report = struct.pack("!BBHIIIIII", 0x81, 200, 12, 0x1234, 3000000000, 1 << 31, 160, 50, 8600) + \
        struct.pack("!IIIIII", 0x9999, 0x40fffffe, 70, 12, 0, 0)

    def captured():
        talk_.rtp_a.report(report)
        return [p for p in receiver.packets if p["kind"] == RTCP and p["correlation"] == call["legs"][0]["call_id"]]

    assert until(captured, 20, 0.2), "no RTCP report was captured"
    said = json.loads(captured()[0]["payload"])
    assert said["ssrc"] == 0x1234 and said["report_blocks"][0]["fraction_lost"] == 0x40
    key = [line for line in talk_.rtp_a.lines().splitlines() if "inline:" in line]
    assert not key or not [p for p in receiver.packets if key[0].rpartition("inline:")[2] in p["payload"]]
    talk_.end()


def test_no_keys(world, stage):
    kedge, receiver, alice, bob = world
    key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    rtp = stage.rtp(alice.host)
    body = (f"v=0\r\no=- 1 1 IN IP4 {alice.ip}\r\ns=-\r\nc=IN IP4 {alice.ip}\r\nt=0 0\r\nm=audio {rtp.port} RTP/SAVP 0\r\n"
            f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n")
    answer = []
    a = Dialog(alice, rtp)
    thread = threading.Thread(target=lambda: answer.append(a.call("bob", body=body)))
    thread.start()
    request = bob.expect("INVITE")
    assert key in request.body, "the key did not reach the other phone"
    bob.reply(request, 486)
    thread.join()
    assert until(lambda: [p for p in receiver.sip("INVITE") if "a=crypto" in p["payload"]], 20)
    assert not [p for p in receiver.packets if key in p["payload"]]


def test_switched_off_and_on_by_reload(world):
    kedge, receiver, alice, bob = world
    rows = dict(kedge.rows)
    kedge.write_config({**rows, "hep": {"server": "off"}})
    kedge.ctl("reload")
    assert alice.register(call_id="while-it-is-off").status == 200
    kedge.write_config(rows)
    kedge.ctl("reload")
    assert alice.register(call_id="on-again").status == 200
    assert until(lambda: len(receiver.sip("REGISTER", "on-again")) >= 2, 20)
    assert not receiver.sip("REGISTER", "while-it-is-off")
