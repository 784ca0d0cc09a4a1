"""Somebody who sends to all media ports of a server."""
import threading
import time

from .ear import Ear
from .hosts import socket_in


class Sprayer:
    """Sends packets (bytes, or what a call returns) to each of the ports of a server until stop(); `got` is what came back, to its
    port or to the one that would be its RTCP."""

    def __init__(self, stranger, server, ports, packets, pause=0.002):
        self.ports = ports
        self.ear = Ear(stranger)
        self.socket, self.port, self._next = self._pair(stranger)
        self._stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, args=(server, packets, pause), daemon=True)
        self._thread.start()

    @staticmethod
    def _pair(stranger):
        """Two sockets on neighbouring ports: the second belongs to nobody else, or what somebody else is sent there would count as ours."""
        while True:
            one, other = socket_in(stranger), socket_in(stranger)
            one.bind((stranger.addr, 0))
            port = one.getsockname()[1]
            try:
                other.bind((stranger.addr, port + 1))
                return one, port, other
            except OSError:
                one.close()
                other.close()

    def _run(self, server, packets, pause):
        while not self._stop.is_set():
            for port in self.ports:
                for packet in packets:
                    try:
                        self.socket.sendto(packet() if callable(packet) else packet, (server, port))
                        self.sent += 1
                    except OSError:
                        pass
                if self._stop.wait(pause):
                    return

    def stop(self):
        self._stop.set()
        self._thread.join(2)
        time.sleep(0.2)
        self.socket.close()
        self._next.close()
        self.got = [d for d in self.ear.datagrams if not d.outgoing and d.dport in (self.port, self.port + 1)]
        self.ear.close()
        return self
