"""A DNS server for tests: a zone that the test changes as it likes, and that can fall silent."""
import socket
import struct
import threading

from .hosts import socket_in

TYPES = {"A": 1, "AAAA": 28, "SRV": 33, "NAPTR": 35, "SOA": 6}


def name(text):
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".") if part) + b"\0"


def text(value):
    return bytes([len(value)]) + value.encode()


def data(kind, value):
    """As in a zone file: "192.0.2.1", "10 5 5060 pbx.example", "10 50 s SIP+D2U _sip._udp.example"."""
    words = value.split()
    if kind in ("A", "AAAA"):
        return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, value)
    if kind == "SRV":
        return struct.pack("!3H", *map(int, words[:3])) + name(words[3])
    return struct.pack("!2H", *map(int, words[:2])) + text(words[2]) + text(words[3]) + text("") + name(words[4])


class Dns:
    """zone: {("A", "pbx.test"): ["192.0.2.1"]}. mute: nothing is answered. asked: [(type, name)]."""

    def __init__(self, host, zone=None, ttl=5, port=53):
        self.host, self.ttl, self.port = host, ttl, port
        self.zone = zone or {}
        self.mute = False
        self.rcode = None  # for every answer, as 2: SERVFAIL
        self.asked = []
        self.socket = socket_in(host)
        self.socket.bind((host.addr, port))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def at(self):
        return f"{self.host.addr}:{self.port}"

    def close(self):
        try:  # wakes the thread up, which holds the socket and its port
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(30)
        self.socket.close()

    def _serve(self):
        while True:
            try:
                query, source = self.socket.recvfrom(2000)
            except OSError:
                return
            if not query:  # closed
                return
            if not self.mute:
                try:
                    self.socket.sendto(self._answer(query), source)
                except OSError:
                    return

    def _answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        asked = ".".join(labels).lower()
        number = struct.unpack("!H", query[at + 1:at + 3])[0]
        kind = next((k for k, n in TYPES.items() if n == number), str(number))
        self.asked.append((kind, asked))
        question = query[12:at + 5]
        values = self.zone.get((kind, asked), [])
        exists = any(n == asked for _, n in self.zone)
        rcode = self.rcode if self.rcode is not None else 0 if exists else 3
        if rcode == 2:
            values = []
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", number, 1, self.ttl, len(d)) + d
                           for d in (data(kind, v) for v in values))
        soa = name("ns.test") + name("root.test") + struct.pack("!5I", 1, 2, 3, 4, self.ttl)
        authority = b"" if values or rcode == 2 else b"\0" + struct.pack("!HHIH", 6, 1, self.ttl, len(soa)) + soa
        return query[:2] + struct.pack("!5H", 0x8180 | rcode, 1, len(values), 1 if authority else 0, 0) + question + \
            records + authority
