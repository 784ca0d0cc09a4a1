"""ICE by hand (RFC 8445, 8489): checks are built, verified and answered by the bytes, right or wrong as a test wants it."""
import hashlib
import hmac
import os
import socket
import struct
import threading
import time
import zlib

from .agent import Rtp

COOKIE = 0x2112A442
REQUEST, INDICATION, SUCCESS, ERROR = 0x0001, 0x0011, 0x0101, 0x0111
USERNAME, INTEGRITY, XOR_MAPPED, PRIORITY, USE_CANDIDATE = 0x0006, 0x0008, 0x0020, 0x0024, 0x0025
FINGERPRINT, CONTROLLED, CONTROLLING = 0x8028, 0x8029, 0x802A


def build(kind, attributes, password=None, transaction=None, fingerprint=True):
    """A message; password None: without MESSAGE-INTEGRITY. attributes: [(type, bytes)]."""
    transaction = transaction or os.urandom(12)
    body = b"".join(struct.pack("!HH", t, len(v)) + v + b"\0" * (-len(v) % 4) for t, v in attributes)

    def head(extra):
        return struct.pack("!HHI", kind, len(body) + extra, COOKIE) + transaction
    if password is not None:
        mac = hmac.new(password.encode(), head(24) + body, hashlib.sha1).digest()
        body += struct.pack("!HH", INTEGRITY, 20) + mac
    if fingerprint:
        crc = zlib.crc32(head(8) + body) ^ 0x5354554E
        body += struct.pack("!HHI", FINGERPRINT, 4, crc)
    return head(0) + body


def parse(data):
    """(type, transaction, {attribute: value}), or None."""
    if len(data) < 20 or data[0] > 3 or struct.unpack_from("!I", data, 4)[0] != COOKIE:
        return None
    kind, length = struct.unpack_from("!HH", data)
    attributes, at = {}, 20
    while at + 4 <= min(len(data), 20 + length):
        t, size = struct.unpack_from("!HH", data, at)
        attributes.setdefault(t, data[at + 4:at + 4 + size])
        at += 4 + size + -size % 4
    return kind, data[8:20], attributes


def is_authentic(data, password):
    at = data.find(struct.pack("!HH", INTEGRITY, 20), 20)
    if at < 0:
        return False
    head = data[:2] + struct.pack("!H", at + 4) + data[4:20]
    return hmac.new(password.encode(), head + data[20:at], hashlib.sha1).digest() == data[at + 4:at + 24]


def check(remote, local_ufrag, nominate=False, controlling=True, password=None, priority=0x6E0001FF, tie=None, transaction=None):
    """A connectivity check for the peer `remote` = (ufrag, pwd); password: another one than is right."""
    role = (CONTROLLING if controlling else CONTROLLED, tie or b"\x7f" * 8)
    attributes = [(USERNAME, f"{remote[0]}:{local_ufrag}".encode()), (PRIORITY, struct.pack("!I", priority)), role]
    if nominate:
        attributes.append((USE_CANDIDATE, b""))
    return build(REQUEST, attributes, remote[1] if password is None else password, transaction)


def success(transaction, source, password):
    host = bytes(a ^ b for a, b in zip(socket.inet_aton(source[0]), struct.pack("!I", COOKIE)))
    return build(SUCCESS, [(XOR_MAPPED, struct.pack("!BBH", 0, 1, source[1] ^ COOKIE >> 16) + host)], password, transaction)


class IceRtp(Rtp):
    """An RTP socket with one host candidate that does ICE by hand: answers checks (unless `answering` is False), checks back, and
    sends its tone only to a peer that answered. The second component is not used: describe it with rtcp-mux.

    learn() takes the peer's SDP. Not paced, IPv4: a test's peer, no model."""

    def __init__(self, host, hz=440, controlling=True):
        self.ufrag, self.pwd = os.urandom(3).hex() + "xy", os.urandom(14).hex()
        self.controlling, self.answering, self.nominating = controlling, True, controlling
        self.remote = None            # (ufrag, pwd)
        self.candidates = []          # the peer's, as (address, port)
        self.valid = []               # where checks were answered, in the order of their priority
        self.checks = []              # (monotonic, source, bytes) of every request that came
        self.refused = 0              # requests without right integrity
        self._asked = {}              # transaction -> destination
        super().__init__(host, hz=hz)
        threading.Thread(target=self._keep_checking, daemon=True).start()

    def lines(self, *more):
        """The attributes of its m-line."""
        own = [f"candidate:1 1 UDP 2130706431 {self.ip} {self.port} typ host", *more]
        return f"a=rtcp-mux\r\na=ice-ufrag:{self.ufrag}\r\na=ice-pwd:{self.pwd}\r\n" + "".join(f"a={m}\r\n" for m in own)

    def learn(self, body):
        """Takes credentials and candidates of component 1 from SDP."""
        found = dict(line[2:].split(":", 1) for line in body.split("\r\n") if line.startswith("a=ice-"))
        self.remote = (found["ice-ufrag"], found["ice-pwd"])
        words = [line.split() for line in body.split("\r\n") if line.startswith("a=candidate:")]
        words = sorted((w for w in words if w[1] == "1"), key=lambda w: -int(w[3]))
        self.candidates = [(w[4], int(w[5])) for w in words]

    def _keep_checking(self):
        while self._open:
            remote = self.remote
            for to in list(self.candidates) if remote else ():
                transaction = os.urandom(12)
                self._asked[transaction] = to
                nominate = self.nominating and bool(self.valid) and to == self.valid[0]
                try:
                    self.socket.sendto(check(remote, self.ufrag, nominate, self.controlling, transaction=transaction), to)
                except OSError:
                    pass
            time.sleep(0.1 if not self.valid else 0.5)

    def take(self, data, source):
        """One STUN message."""
        found = parse(data)
        if not found:
            return
        kind, transaction, _ = found
        if kind == REQUEST:
            self.checks.append((time.monotonic(), source, data))
            if not is_authentic(data, self.pwd):
                self.refused += 1
            elif self.answering:
                self.socket.sendto(success(transaction, source, self.pwd), source)
        elif kind == SUCCESS and self.remote and is_authentic(data, self.remote[1]) and self._asked.get(transaction) == source:
            if source not in self.valid:
                self.valid = [c for c in self.candidates if c == source or c in self.valid]
            self.to = self.valid[0]

    def _read(self):
        while self._open:
            try:
                data, source = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if data and data[0] < 4:
                self.take(data, source)
            else:
                self.received.append((time.monotonic(), source, data))
