"""Just enough STUN for the laboratory: a coturn with two addresses, the client of RFC 5780 that comes with it, and a
Binding request by hand, so that a test can learn the address of one socket."""
import os
import re
import socket

from .netns import until

COOKIE = b"\x21\x12\xa4\x42"  # RFC 8489 5


def serve(host, turn=None):
    """coturn on a host with one or two addresses; waits until it answers. turn: (user, password), to serve TURN as well."""
    kind = ["-S"] if not turn else ["-a", "-u", ":".join(turn), "-r", "turn.test"]
    argv = ["turnserver", "-n", *kind, "--no-cli", "--no-tls", "--no-dtls", "-m", "1", "--log-file", "stdout",
            "--pidfile", os.path.join(host.lab.folder, "turn.pid"), "--db", os.path.join(host.lab.folder, "turn.db")]
    for address in host.all4:
        argv += ["-L", address]
    log = os.path.join(host.lab.folder, "turnserver.log")
    with open(log, "wb") as f:
        process = host.popen(argv, stdout=f, stderr=f)

    def answers():
        with host.udp(timeout=0.1) as s:
            return process.poll() is not None or mapped(s, host.ip4)
    if not until(answers, 30) or process.poll() is not None:
        with open(log, encoding="utf-8", errors="replace") as f:
            raise RuntimeError("coturn does not serve:\n" + f.read()[-2000:])
    return process


def mapped(sock, server, port=3478):
    """The address of this UDP socket as the server sees it, or None after the socket's timeout."""
    transaction = os.urandom(12)
    sock.sendto(b"\x00\x01\x00\x00" + COOKIE + transaction, (server, port))
    try:
        while True:
            data, _ = sock.recvfrom(2048)
            if data[:2] == b"\x01\x01" and data[8:20] == transaction:
                break
    except OSError:
        return None
    at = 20
    while at + 4 <= len(data):
        kind, size = int.from_bytes(data[at:at + 2], "big"), int.from_bytes(data[at + 2:at + 4], "big")
        value = data[at + 4:at + 4 + size]
        if kind == 0x0020:  # XOR-MAPPED-ADDRESS, RFC 8489 14.2
            plain = bytes(a ^ b for a, b in zip(value[2:8], COOKIE[:2] + COOKIE))
            return socket.inet_ntoa(plain[2:]), int.from_bytes(plain[:2], "big")
        at += 4 + (size + 3) // 4 * 4
    return None


class Discovery:
    """turnutils_natdiscovery, started now and read later: several can run side by side, each waits for timeouts."""

    def __init__(self, host, server):
        self.path = os.path.join(host.lab.folder, f"discovery-{host.name}")
        with open(self.path, "wb") as f:
            self.process = host.popen(["turnutils_natdiscovery", "-m", "-f", "-L", host.ip4, server], stdout=f, stderr=f)

    def result(self, timeout=40):
        """("eim", "apdf") and the like, with None for what it could not find out."""
        self.process.wait(timeout)
        with open(self.path, encoding="utf-8", errors="replace") as f:
            said = f.read()

        def found(what):
            m = re.search(rf"NAT with (.*) {what}!", said)
            return m and {"Endpoint Independent": "ei", "Address Dependent": "ad",
                          "Address and Port Dependent": "apd"}[m.group(1)] + what[0].lower()
        return found("Mapping"), found("Filtering")
