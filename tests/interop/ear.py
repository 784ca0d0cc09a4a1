"""What arrives at a host's interface: every UDP datagram, seen by a packet socket in its namespace."""
import array
import socket
import struct
import threading
import time
from collections import namedtuple

from . import tone
from .hosts import patient, socket_in

Datagram = namedtuple("Datagram", "at outgoing src sport dst dport tos payload")


def _ulaw(byte):
    byte = ~byte & 0xFF
    value = ((byte & 0x0F) * 8 + 132 << (byte >> 4 & 7)) - 132
    return -value if byte & 0x80 else value


def _alaw(byte):
    byte ^= 0x55
    exponent, value = byte >> 4 & 7, (byte & 0x0F) * 16 + 8
    if exponent:
        value = value + 256 << exponent - 1
    return value if byte & 0x80 else -value


DECODE = {0: [_ulaw(b) for b in range(256)], 8: [_alaw(b) for b in range(256)]}


class Ear:
    def __init__(self, host, keep=200000):
        self.datagrams = []
        self.started = time.monotonic()
        self._keep = keep
        self._socket = socket_in(host, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while self._open:
            try:
                packet, address = self._socket.recvfrom(65536)
            except (TimeoutError, OSError):
                continue
            if address[0] == "lo" or len(self.datagrams) >= self._keep:
                continue
            outgoing = address[2] == socket.PACKET_OUTGOING
            version = packet[0] >> 4 if packet else 0
            if version == 4 and packet[9] == 17:
                head, tos = (packet[0] & 15) * 4, packet[1]
                src, dst = socket.inet_ntop(socket.AF_INET, packet[12:16]), socket.inet_ntop(socket.AF_INET, packet[16:20])
            elif version == 6 and packet[6] == 17:
                head, tos = 40, (packet[0] & 15) << 4 | packet[1] >> 4
                src, dst = socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
            else:
                continue
            if len(packet) < head + 8 or version == 4 and packet[6] & 0x1f | packet[7]:
                continue  # a later fragment
            sport, dport, length = struct.unpack_from("!HHH", packet, head)
            self.datagrams.append(Datagram(time.monotonic(), outgoing, src, sport, dst, dport, tos,
                                           packet[head + 8:head + length]))

    def close(self):
        self._open = False
        self._thread.join(1)
        self._socket.close()

    def rtp(self, since=0.0, outgoing=False):
        """Incoming RTP with PCMU or PCMA, since a monotonic time."""
        return [d for d in self.datagrams if d.at >= since and d.outgoing == outgoing and len(d.payload) > 12
                and d.payload[0] >> 6 == 2 and d.payload[1] & 0x7F in DECODE]

    def hears(self, hz, ms=400, since=0.0, timeout=8):
        """Whether the tone arrives for at least ms after `since`."""
        end = patient() + timeout
        while True:
            out = array.array("h")
            for d in self.rtp(since):
                table = DECODE[d.payload[1] & 0x7F]
                out.extend(table[b] for b in d.payload[12:])
            if tone.in_samples_ms(out, hz) >= ms:
                return True
            if patient() > end:
                return False
            time.sleep(0.2)
