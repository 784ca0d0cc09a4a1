"""What the scenarios of test_sip_matrix.py are played on: kedge, a PBX (or none) and phones that SIPp speaks for.

A phone registers once with a digest (agent.py); then SIPp has its place: over UDP its port, over TCP and TLS its connection, which
a Line carries on from SIPp's own TCP connection. Debian's SIPp speaks no TLS.
"""
import itertools
import os
import re
import socket
import threading

from .agent import Agent
from .hosts import socket_in, until
from .itsp import Itsp
from .kedge import PATIENCE_S, Kedge
from .sipp import Sipp

DOMAIN = "kedge.test"
_ports = itertools.count(12000, 10)
_lock = threading.Lock()


class Line(Agent):
    """A registered phone over a stream whose messages SIPp makes: bytes pass both ways."""
    far = None

    def _take(self, text, source):
        if self.far:
            self.far.sendall(text.encode())
        else:
            super()._take(text, source)

    def _carry(self):
        while self._open:
            try:
                data = self.far.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            self.send(data)

    def _attach(self, far):
        far.settimeout(0.1)
        self.far = far
        threading.Thread(target=self._carry, daemon=True).start()

    def listen(self, port):
        """For SIPp as the caller, which connects."""
        listener = socket_in(self.host, socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host.addr, port))
        listener.listen(1)
        listener.settimeout(PATIENCE_S)

        def take():
            with listener:
                self._attach(listener.accept()[0])
        threading.Thread(target=take, daemon=True).start()

    def connect(self, port):
        """For SIPp as the callee, which listens."""
        far = socket_in(self.host, socket.AF_INET, socket.SOCK_STREAM)
        far.connect((self.host.addr, port))
        self._attach(far)

    def close(self):
        super().close()
        if self.far:
            self.far.close()


class World:
    """One kedge, and whoever plays the two parts of one scenario. way: "out" phone to PBX, "in" PBX to phone, "phones" without a PBX.
    hosts: kedge's, the two phones', the PBX's."""

    def __init__(self, folder, hosts, way, phone, pbx, config=None):
        self.hosts, self.way, self.phone, self.folder = dict(zip(("kedge", "one", "two", "pbx"), hosts)), way, phone, str(folder)
        self.pbx_transport, self.pbx = pbx, None
        self.lines, self.sipp = [], None
        os.makedirs(self.folder, exist_ok=True)
        with _lock:
            self.port = next(_ports)
        host = self.hosts["kedge"]
        number = (self.port - 12000) // 10
        media = 20000 + number % 200 * 200
        self.media = 25000 + number % 1000 * 20  # SIPp opens ports for media though it sends none
        rows = {"sip": {"listen": [f"udp:{host.addr}:{self.port}", f"tcp:{host.addr}:{self.port}", f"tls:{host.addr}:{self.port + 1}"],
                        "domain": DOMAIN, "lamps": "no"},
                "media": {"address": host.addr, "workers": 1, "ports": f"{media}-{media + 199}",
                          "silence_timeout": 600}, "pbx_probe": 0,
                "registration": {"keepalive_udp": 3600, "keepalive_stream": 3600}}
        accounts = {u: "pw-" + u for u in ("alice", "bob")}
        if way != "phones":
            rows["pbx"] = [f"{pbx}:{self.hosts['pbx'].addr}:{self.port}"]
        for section, values in (config or {}).items():
            rows[section] = {**rows.get(section, {}), **values} if isinstance(values, dict) else values
        self.kedge = Kedge(os.path.join(self.folder, "kedge"), host, config=rows, accounts={} if "pbx" in rows else accounts)
        self.accounts = accounts
        self.target = f"sip:service@{DOMAIN}"

    def _register(self, user, host, port):
        """Returns the Line, or None over UDP, where SIPp takes the port."""
        secure = self.phone == "tls"
        server = (self.hosts["kedge"].addr, self.port + secure)
        make = Agent if self.phone == "udp" else Line
        agent = make(self.hosts[host], user, self.accounts[user], server, DOMAIN, port if self.phone == "udp" else 0, self.phone)
        self.lines.append(agent)
        response = agent.register(expires=3600, contact=f"<sip:{user}@{agent.ip}:{port};transport={self.phone}>", timeout=30)
        assert response is not None and response.status == 200, f"REGISTER of {user}: {response}"
        if self.phone != "udp":
            return agent
        agent.close()
        return None

    def start(self):
        self.kedge.start()
        if self.way == "phones":
            self.near = self._register("alice", "one", self.port + 3)
            self.far = self._register("bob", "two", self.port + 4)
            self.target = f"sip:bob@{DOMAIN}"
            return self
        self.pbx = Itsp(self.hosts["pbx"], self.accounts, DOMAIN, self.port, self.pbx_transport, proofs=(), granted=3600,
                        server=(self.hosts["kedge"].addr, self.port))
        line = self._register("alice", "one", self.port + 3)
        assert until(lambda: self.pbx.bindings.get("alice"), 20), "the PBX was told of no phone"
        if self.way == "in":
            self.target = self.pbx.bindings["alice"]
        self.pbx.close()
        self.pbx = None
        self.near, self.far = (line, None) if self.way == "out" else (None, line)
        return self

    def _place(self, phone, name, line):
        """(host, port, transport option) of one of the two SIPps."""
        if phone:
            return self.hosts[name], self.port + (3 if name == "one" else 4), "u1" if line is None else "t1"
        return self.hosts["pbx"], self.port, "u1" if self.pbx_transport == "udp" else "t1"

    def play(self, caller, callee, calls, rate, seconds, callee_calls=None):
        """seconds: the longest that SIPp waits for a message. Fails if a call failed, or if anything is left at kedge afterwards."""
        self.sipp = Sipp(self.folder, strict=True)
        near_host, near_port, near_t = self._place(self.way != "in", "one", self.near)
        far_host, far_port, far_t = self._place(self.way != "out", "one" if self.way == "in" else "two", self.far)
        server = f"{self.hosts['kedge'].addr}:{self.port}"
        if self.near:
            self.near.listen(self.port + 5)
            server = f"{near_host.addr}:{self.port + 5}"
        self.sipp.run(near_host, far_host, server, caller, callee, calls, rate, timeout=seconds * 2 + 20, callee_port=far_port,
                      options=["-t", near_t, "-mp", str(self.media), "-auth_uri", self.target.removeprefix("sip:")],
                      caller_port=near_port, callee_calls=callee_calls, callee_options=["-t", far_t, "-mp", str(self.media + 10)],
                      patience=seconds, recv_timeout=seconds,
                      ready=lambda: self.far and self.far.connect(far_port))
        self.nothing_left(seconds + 8)
        self.kedge.alive()

    def nothing_left(self, seconds):
        def left():
            stats = self.kedge.stats()
            return {k: stats[k] for k in ("calls", "dialogs", "subscriptions") if stats[k]}
        assert until(lambda: not left(), seconds, 0.25), f"left at kedge: {left()}; {self.kedge.calls()}; logs in {self.folder}"

    def heard(self, part):
        """The messages that SIPp as this part ("caller", "callee") received, as texts."""
        with open(os.path.join(self.folder, part + ".msg"), encoding="utf-8", errors="replace") as f:
            text = f.read()
        return [m for m in re.split(r"(?m)^-{20,}.*\n", text) if re.match(r"(UDP|TCP) message received", m)]

    def stop(self):
        for part in (self.sipp, self.pbx, *self.lines):
            if part:
                (part.stop if isinstance(part, Sipp) else part.close)()
        self.kedge.stop()
