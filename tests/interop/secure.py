"""A phone's media with keys for agents by hand: an Rtp (agent.py) whose packets srtp_peer.c seals and opens."""
import base64
import os
import re
import time

from .agent import Dialog, sdp
from .hosts import background, until
from .peers import Peer
from .sipcall import hang_up

SUITE = "AES_CM_128_HMAC_SHA1_80"
LENGTH = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30, "AES_256_CM_HMAC_SHA1_80": 46, "AES_256_CM_HMAC_SHA1_32": 46,
          "AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44}
HASH = {"SHA-256": 1, "SHA-384": 2, "SHA-512": 3}


class SecureRtp:
    """kind: "sdes" or "dtls". setup: ours in an offer (dtls). Where media goes is `to`, as with Rtp."""

    def __init__(self, host, kind="dtls", hz=400, setup="active", suite=SUITE, play=True, sequence=100):
        self.kind, self.setup, self.suite, self.playing = kind, setup, suite, play
        self.ip = host.addr
        self.peer = Peer("srtp_peer", host, address=self.ip, hz=hz, sequence=sequence)
        self.port = int(self.peer.wait("local ").split()[1])
        self.fingerprint = self.peer.wait("fingerprint ").upper()
        self._received, self._numbers, self._read = [], [], 0
        self.tag, self.parameters, self.mki, self.tls_id = 1, "", b"", ""
        self.new_key()
        self._to = None

    def new_key(self):
        self.key = os.urandom(LENGTH[self.suite])
        self.keyed = False

    def close(self):
        self.peer.stop()

    def told_fingerprint(self):
        return "SHA-256 " + re.sub(r"(..)(?!$)", r"\1:", self.fingerprint)

    def lines(self):
        if self.kind == "sdes":
            return f"a=crypto:{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}{self.parameters}\r\n"
        told = f"a=setup:{self.setup}\r\na=fingerprint:{self.told_fingerprint()}\r\n"
        return told + (f"a=tls-id:{self.tls_id}\r\n" if self.tls_id else "")

    def body(self, version=1, extra=None, **kw):
        profile = "RTP/SAVP" if self.kind == "sdes" else "UDP/TLS/RTP/SAVP"
        text = sdp(self.ip, self.port, version=version, extra=(self.lines() if extra is None else extra) + "a=rtcp-mux\r\n", **kw)
        return text.replace(" RTP/AVP ", f" {profile} ")

    def choose(self, offer):
        """Ours will be the answer: with the tag that our suite has there (RFC 4568 5.1.2)."""
        if self.kind == "sdes":
            self.tag = int(re.search(rf"^a=crypto:(\d+) {self.suite} ", offer, re.M).group(1))

    def learn(self, body):
        """kedge's description: keys and roles."""
        if self.kind == "sdes":
            found = re.search(rf"^a=crypto:\d+ {self.suite} inline:([^\s|]+)", body, re.M)
            assert found, body
            self.peer.tell(f"keys receive {self.suite} {base64.b64decode(found.group(1)).hex()}")
            if not self.keyed:
                self.peer.tell(f"keys send {self.suite} {self.key.hex()} {self.mki.hex()}")
                self.keyed = True
            return
        name, value = re.search(r"^a=fingerprint:(\S+) (\S+)", body, re.M).groups()
        self.peer.tell(f"expect {HASH[name.upper()]} {value.replace(':', '')}")
        if not self.keyed:
            active = re.search(r"^a=setup:(\w+)", body, re.M).group(1) == "passive"
            self.peer.tell("dtls " + ("active" if active else "passive"))
            self.keyed = True

    @property
    def to(self):
        return self._to

    @to.setter
    def to(self, address):
        self._to = address
        if address:
            self.peer.tell(f"remote {address[0]} {address[1]}")
        self.peer.tell(f"play {1 if address and self.playing else 0}")

    @property
    def received(self):
        """(monotonic, None, what the packet begins with), opened."""
        lines = self.peer.lines
        while self._read < len(lines):
            at, text = lines[self._read]
            self._read += 1
            if text.startswith("rtp "):
                _, number, _, begin = text.split()
                self._received.append((at, None, bytes.fromhex(begin)))
                self._numbers.append((at, int(number)))
        return self._received

    def bad(self, since=0.0):
        return [text for at, text in list(self.peer.lines) if at >= since and text.startswith("bad ")]

    def got(self, since=0.0, ms=0, timeout=20):
        return bool(until(lambda: sum(at >= since for at, _, _ in self.received) * 20 > ms, timeout))

    def numbers(self):
        """(monotonic, sequence number) of what was opened."""
        return self.received and self._numbers

    def seal(self, packet):
        since = self.peer.mark()
        self.peer.tell("seal " + packet.hex())
        return bytes.fromhex(self.peer.wait("sealed ", since))

    def report(self, packet):
        """RTCP, sealed."""
        self.peer.tell("report " + packet.hex())

    def reports(self):
        """RTCP that was opened."""
        return [bytes.fromhex(text) for text in self.peer.said("rtcp ")]

    def raw(self, packet):
        self.peer.tell("raw " + packet.hex())

    def move(self):
        since = self.peer.mark()
        self.peer.tell("move")
        self.port = int(self.peer.wait("local ", since).split()[1])
        return time.monotonic()


def lost(numbers):
    """How many of consecutive sequence numbers are missing, in whatever order they came."""
    extended, highest = set(), numbers[0] + 0x10000
    for n in numbers:
        highest = max(highest, here := highest + (n - highest + 0x8000) % 0x10000 - 0x8000)
        extended.add(here)
    return max(extended) - min(extended) + 1 - len(extended)


class Talk:
    """alice, whose phone has keys (rtp_a), calls bob, whose has none (rtp_b). world: kedge, their agents, a stranger."""

    def __init__(self, world, stage, kind, **kw):
        self.kedge, (alice, bob), self.stranger = world
        self.rtp_a = stage.add(SecureRtp(alice.host, kind, **kw))
        self.rtp_b = stage.rtp(bob.host, hz=700)
        self.a, self.b = Dialog(alice, self.rtp_a), Dialog(bob, self.rtp_b)
        self.kind = kind
        stage.add(self)

    def offer(self, body=None):
        """alice calls, bob answers; alice's response."""
        result = background(self.a.call, "bob", body=body or self.rtp_a.body())
        self.b.answer(self.b.agent.expect("INVITE"))
        return result()

    def start(self):
        self.answer = self.offer()
        assert self.answer is not None and self.answer.status == 200, self.answer
        self.rtp_a.learn(self.answer.body)
        self.is_well()
        return self

    def is_well(self, ms=200):
        mark = time.monotonic()
        assert self.rtp_a.got(mark, ms), f"alice hears nothing: {self.rtp_a.peer.lines[-3:]} {self.kedge.calls()}"
        assert self.rtp_b.got(mark, ms), f"bob hears nothing: {self.kedge.calls()}"

    def lost_ms(self, since):
        """Audio that one of the two has missed since a monotonic time, by the packets' numbers: a test that stands still loses
        nothing."""
        of_b = [(at, int.from_bytes(data[2:4], "big")) for at, _, data in self.rtp_b.received]
        return 20 * max(lost([n for at, n in numbers if at >= since]) for numbers in (self.rtp_a.numbers(), of_b))

    def end(self):
        hang_up(self.a, self.b, self.kedge)

    def close(self):
        """A test that failed leaves nothing to the next one."""
        if self.kedge.calls() and self.a.local:
            self.a.bye()
            self.kedge.no_calls()
