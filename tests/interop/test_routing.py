"""Several PBXes: where DNS says they are, whose turn it is, who stands in when one is dead, slow or busy, and how soon."""
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time

import pytest

from interop.agent import Dialog, sdp, talk
from interop.dns import Dns
from interop.hosts import Stopwatch, background, patient, socket_in, until
from interop.icestun import IceRtp
from interop.pbx import Kamailio

FAILOVER = 4.0  # s from the phone's INVITE to the INVITE at a PBX that lives: what README.md promises


class Pbx:
    """A SIP server that refuses each INVITE with a status of its own, so that the caller knows who was asked. mode: "up",
    "busy" (503 to INVITE), "silent" (reads nothing), "deaf" (answers OPTIONS only)."""

    def __init__(self, host, status, port=5060, mode="up", transport="udp", headers="", tls=None):
        self.host, self.status, self.port, self.mode, self.headers = host, status, port, mode, headers
        self.tls = tls  # an ssl.SSLContext
        self.transport = transport
        self.invites = []  # when, by patient()
        self._branches = set()  # of them: what is sent again because this machine is slow is none more
        self.streams = []
        self.options = 0
        self.open()

    def open(self):
        self.socket = socket_in(self.host, kind=socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((self.host.addr, self.port))
        self.closed = False
        if self.transport != "udp":
            self.socket.listen(5)
        self.thread = threading.Thread(target=self._udp if self.transport == "udp" else self._tcp, daemon=True)
        self.thread.start()

    def close(self):
        self.closed = True
        try:  # wakes the thread up, which holds the socket and its port
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(30)
        self.socket.close()

    @property
    def at(self):
        return f"{self.transport}:{self.host.addr}:{self.port}"

    def _udp(self):
        mine = self.socket
        while not self.closed:
            try:
                data, source = mine.recvfrom(65536)
                answer = self._answer(data.decode(errors="replace")) if not self.closed else None
                if answer:
                    mine.sendto(answer.encode(), source)
            except OSError:
                return

    def _tcp(self):
        mine = self.socket
        while not self.closed:
            try:
                stream, _ = mine.accept()
            except OSError:
                return
            threading.Thread(target=self._stream, args=(stream,), daemon=True).start()

    def _stream(self, stream):
        text = ""
        if self.tls:
            try:
                stream = self.tls.wrap_socket(stream, server_side=True)
            except (OSError, ssl.SSLError):
                return
        self.streams.append(stream)
        while not self.closed:
            try:
                data = stream.recv(65536)
            except OSError:
                return
            if not data:
                return
            text += data.decode(errors="replace")
            while "\r\n\r\n" in text.lstrip("\r\n"):
                text = text.lstrip("\r\n")
                head, _, rest = text.partition("\r\n\r\n")
                length = re.search(r"(?im)^(?:content-length|l)\s*:\s*(\d+)", head)
                size = int(length.group(1)) if length else 0
                if len(rest) < size:
                    break
                text = rest[size:]
                answer = self._answer(head + "\r\n\r\n")
                if answer:
                    stream.sendall(answer.encode())

    def _answer(self, text):
        method = text.partition(" ")[0]
        if self.mode == "silent" or method == "ACK" or method.startswith("SIP/"):
            return None
        if method == "OPTIONS":
            self.options += 1
            return self._reply(text, "200 OK")
        branch = re.search(r"(?im)^(?:via|v)\s*:.*;branch=([^;\s]+)", text)
        if method == "INVITE" and branch.group(1) not in self._branches:
            self._branches.add(branch.group(1))
            self.invites.append(patient())
        if self.mode == "deaf":
            return None
        if method == "INVITE" and self.mode == "busy":
            return self._reply(text, "503 Busy", self.headers)
        return self._reply(text, f"{self.status} Mine" if method == "INVITE" else "200 OK")

    @staticmethod
    def _reply(text, status, headers=""):
        lines = [line for line in text.split("\r\n") if re.match(r"(?i)(via|v|from|f|to|t|call-id|i|cseq)\s*:", line)]
        lines = [line + ";tag=pbx" if re.match(r"(?i)(to|t)\s*:", line) and "tag=" not in line else line for line in lines]
        return "\r\n".join([f"SIP/2.0 {status}", *lines, *([headers] if headers else []), "Content-Length: 0", "", ""])


@pytest.fixture
def hosts(lab):
    """Hosts by name, the same ones for all tests of this file."""
    made = lab.__dict__.setdefault("routing_hosts", {})

    def host(name):
        if name not in made:
            made[name] = lab.public_host(name)
        return made[name]
    return host


class World:
    def __init__(self, stage, hosts):
        self.stage, self.hosts = stage, hosts
        self.kedge = self.phone = None

    def pbx(self, name, status, **kw):
        return self.stage.add(Pbx(self.hosts(name), status, **kw))

    def start(self, *servers, probe=0.5, dns=None, **rows):
        config = {"pbx": [s if isinstance(s, str) else s.at for s in servers], "pbx_probe": probe,
                  "limits": {"unregistered_calls": 1000}, "guard": {"trusted": ["0.0.0.0/0"]}, **rows}
        if dns:
            config["dns"] = {"servers": [dns.at]}
        self.kedge = self.stage.kedge(self.hosts("kedge"), config=config)
        return self.kedge

    def quick(self, wanted):
        """Status of a call that waited for nobody who is known to be dead. One of three: a machine may stand still for a second."""
        for _ in range(3):
            status, seconds = self.call()
            assert status == wanted
            if seconds < 1:
                return True
        return False

    def call(self, timeout=12):
        """(status, seconds) of a call by a phone."""
        if not self.phone:
            host = self.hosts("phone")
            self.phone = self.stage.agent(host, "100", "", (self.kedge.host.addr, 5060), "pbx.test"), self.stage.rtp(host)
        self.began = began = patient()
        answer = Dialog(*self.phone).call("200", timeout=timeout)
        assert answer is not None, "no final answer"
        self.answer = answer
        return answer.status, patient() - began

    def slow_call(self, wanted):
        """Whether it took more than a second, also by the clock on the wall."""
        watch = Stopwatch()
        assert self.call()[0] == wanted
        return watch.real > 1

    @staticmethod
    def reconnect(pbx):
        """Closes the connections that are open: the next request makes a new one."""
        for stream in pbx.streams:
            stream.shutdown(socket.SHUT_RDWR)
        pbx.streams.clear()

    def peers(self):
        return {p["address"]: p["state"] for p in self.kedge.json("peers")}

    def state(self, pbx, state, timeout=20):
        address = f"{pbx.transport} {pbx.host.addr}:{pbx.port}"
        assert until(lambda: self.peers().get(address) == state, timeout, 0.1), (state, self.kedge.json("peers"))


@pytest.fixture
def world(stage, hosts):
    return World(stage, hosts)


# ---- who is asked ----

def test_priority_then_weight(world):
    a, b, c = world.pbx("a", 486), world.pbx("b", 603), world.pbx("c", 480)
    world.start(f"{c.at};priority=2", f"{a.at};priority=1;weight=80", f"{b.at};priority=1;weight=20")
    got = [world.call()[0] for _ in range(100)]  # by chance: one kind only 2 times in 10^10, more of the other once in 10^12
    assert set(got) == {486, 603}, got
    assert got.count(486) > got.count(603), got


def test_without_weight_the_order_counts(world):
    a, b = world.pbx("a", 486), world.pbx("b", 603)
    world.start(a, b)
    assert {world.call()[0] for _ in range(10)} == {486}
    assert not b.invites


# ---- a PBX that is dead, as far as nobody knows yet: no probes ----

@pytest.mark.parametrize("dead", (1, 2, 3))
def test_silent_ones_cost_less_than_four_seconds(world, dead):
    silent = [world.pbx(f"silent{i}", 500, mode="silent") for i in range(dead)]
    alive = world.pbx("a", 486)
    world.start(*silent, alive, probe=0)
    status, seconds = world.call()
    assert status == 486
    assert alive.invites[0] - world.began < FAILOVER, seconds


def test_a_busy_one_costs_nothing(world):
    busy, alive = world.pbx("a", 486, mode="busy"), world.pbx("b", 603)
    world.start(busy, alive, probe=0)
    assert world.quick(603) and busy.invites


def test_a_refused_connection_costs_nothing(world):
    gone, alive = world.pbx("a", 486, transport="tcp"), world.pbx("b", 603, transport="tcp")
    gone.close()
    world.start(gone, alive, probe=0)
    assert world.quick(603)


def test_a_closed_udp_port_costs_nothing(world):
    gone, alive = world.pbx("a", 486), world.pbx("b", 603)
    gone.close()
    world.start(gone, alive, probe=0)
    status, seconds = world.call()
    assert status == 603 and seconds < FAILOVER


def test_all_dead(world):
    silent = [world.pbx(f"silent{i}", 500, mode="silent") for i in range(2)]
    world.start(*silent)
    for pbx in silent:
        world.state(pbx, "down")
    assert world.quick(503), "known to be dead: the caller need not wait"
    assert int(world.answer.get("retry-after")) > 0


# ---- the circuit breaker ----

def test_breaker_opens_and_closes(world):
    """A PBX that answers OPTIONS but no call."""
    deaf, alive = world.pbx("a", 486, mode="deaf"), world.pbx("b", 603)
    world.start(deaf, alive)
    for _ in range(3):
        assert world.slow_call(603)
    world.state(deaf, "down")
    asked = len(deaf.invites)
    assert world.quick(603) and len(deaf.invites) == asked
    world.state(deaf, "doubt")  # half-open: one call may try
    deaf.mode = "up"
    assert world.call()[0] == 486
    world.state(deaf, "up")
    assert {world.call()[0] for _ in range(5)} == {486}, "the first one serves again"


def test_retry_after_is_honoured(world):
    busy, alive = world.pbx("a", 486, mode="busy", headers="Retry-After: 4"), world.pbx("b", 603)
    world.start(busy, alive)
    assert world.call()[0] == 603
    asked, until_then = len(busy.invites), time.monotonic() + 2.5
    busy.mode = "up"
    while time.monotonic() < until_then:
        assert world.call()[0] == 603
        time.sleep(0.2)  # a phone that tries again and again, not a flood
    assert len(busy.invites) == asked
    world.state(busy, "up")
    assert world.call()[0] == 486


def test_one_callee_cuts_nobody_off(world):
    """What a callee answers the only PBX passes on: 503 with Retry-After, too."""
    pbx = world.pbx("a", 486, mode="busy", headers="Retry-After: 60")
    kedge = world.start(pbx)
    assert world.call()[0] == 503
    pbx.mode = "up"
    assert {world.call()[0] for _ in range(3)} == {486} and len(pbx.invites) == 4
    assert "pause" in kedge.json("peers")[0]["why"] and world.peers() == {f"udp {pbx.host.addr}:5060": "down"}


# ---- probes ----

def test_probes_notice_death_and_return(world):
    a, b = world.pbx("a", 486), world.pbx("b", 603)
    kedge = world.start(a, b)
    assert world.call()[0] == 486
    a.mode = "silent"
    world.state(a, "down")
    assert world.quick(603)
    row = next(p for p in kedge.json("peers") if p["state"] == "down")
    assert row["error"] and row["why"] and row["since"] > 0 and row["group"] == "pbx"
    assert "down" in kedge.ctl("peers") and row["address"] in kedge.ctl("peers")
    a.mode = "up"
    world.state(a, "up")
    assert world.call()[0] == 486


# ---- TLS ----

def certificates(folder, name):
    """A CA of our own and a server's certificate by it: (file of the CA, ssl context)."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=test CA", "-days", "2")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "pbx.key", "-out", "pbx.csr", "-subj",
            f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
    openssl("x509", "-req", "-in", "pbx.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "pbx.pem", "-days", "2",
            "-copy_extensions", "copyall")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pbx.pem", folder / "pbx.key")
    return str(folder / "ca.pem"), context


def test_the_certificate_of_a_pbx(world, tmp_path):
    """It must be for the name in the configuration, not one that DNS gives; then ;verify=no takes it all the same."""
    ca, context = certificates(tmp_path, "pbx.test")
    a = world.pbx("a", 486, transport="tls", port=5061, tls=context)
    dns = world.stage.add(Dns(world.hosts("dns"), {
        ("A", "pbx.test"): [a.host.addr], ("A", "other.test"): [a.host.addr],
        ("SRV", "_sips._tcp.domain.test"): ["1 1 5061 pbx.test"]}))
    kedge = world.start("tls:pbx.test:5061", dns=dns, tls={"ca": ca})
    assert world.call()[0] == 486
    warning = "the certificate of other.test"
    for server, status, said in (("tls:other.test:5061", 503, warning), ("sips:domain.test", 503, ""),
                                 ("tls:other.test:5061;verify=no", 486, "")):
        kedge.rows["pbx"] = [server]
        kedge.write_config()
        kedge.ctl("reload")
        assert until(lambda: len(world.peers()) == 1 and "-" not in world.peers(), 20, 0.1)
        world.reconnect(a)
        # again, for an INVITE can meet a connection of before, of whose end kedge has not heard yet
        assert until(lambda: world.call()[0] == status and said in kedge.log(), 20, 0.2), server
    assert "tls.ca" in kedge.log()


# ---- DNS ----

def test_naptr_srv_and_addresses(world):
    a, b, c = world.pbx("a", 486, port=5070), world.pbx("b", 603, transport="tcp", port=5080), world.pbx("c", 480)
    dns = world.stage.add(Dns(world.hosts("dns"), {
        ("NAPTR", "pbx.test"): ["20 1 s SIP+D2T _sip._tcp.pbx.test", "10 1 s SIP+D2U _sip._udp.pbx.test"],
        ("SRV", "_sip._udp.pbx.test"): ["20 0 5060 c.pbx.test", "10 0 5070 a.pbx.test"],
        ("SRV", "_sip._tcp.pbx.test"): ["1 0 5080 b.pbx.test"],
        ("A", "a.pbx.test"): [a.host.addr], ("A", "b.pbx.test"): [b.host.addr], ("A", "c.pbx.test"): [c.host.addr]}))
    world.start("sip:pbx.test", dns=dns)
    world.state(a, "up")
    world.state(c, "up")
    assert world.call()[0] == 486, "SRV priority 10, on the port it says"
    a.mode = "busy"
    assert world.call()[0] == 480, "then priority 20"
    assert not b.invites, "the best NAPTR decides on the transport"
    assert ("NAPTR", "pbx.test") in dns.asked and ("A", "a.pbx.test") in dns.asked


def test_an_address_that_changes(world):
    a, b = world.pbx("a", 486), world.pbx("b", 603)
    dns = world.stage.add(Dns(world.hosts("dns"), {("A", "pbx.test"): [a.host.addr]}))
    world.start("udp:pbx.test:5060", dns=dns)
    world.state(a, "up")
    assert world.call()[0] == 486
    dns.zone[("A", "pbx.test")] = [b.host.addr]
    world.state(b, "up", 12)
    world.state(a, "gone")
    assert world.call()[0] == 603
    asked = len([q for q in dns.asked if q[0] == "A"])
    assert asked < 10, "it is asked once in a TTL"


def test_dns_falls_silent(world):
    a = world.pbx("a", 486)
    dns = world.stage.add(Dns(world.hosts("dns"), {("A", "pbx.test"): [a.host.addr]}))
    kedge = world.start("udp:pbx.test:5060", dns=dns)
    world.state(a, "up")
    for trouble in ("silent", "servfail", "empty"):
        dns.mute, dns.rcode = trouble == "silent", 2 if trouble == "servfail" else None
        if trouble == "empty":  # it lies
            dns.zone.clear()
        asked = len(dns.asked)
        # until the answer of before has run out and kedge has tried in vain
        assert until(lambda: len(dns.asked) > asked or "No DNS server" in kedge.log() or "no DNS server" in kedge.log(), 15, 0.1)
        assert world.quick(486), trouble
        kedge.alive()


def test_dns_is_dead_at_the_start(world):
    a, b = world.pbx("a", 486), world.pbx("b", 603)
    dns = world.stage.add(Dns(world.hosts("dns"), {("A", "pbx.test"): [a.host.addr]}))
    dns.mute = True
    kedge = world.start("udp:pbx.test:5060", dns=dns)
    assert world.quick(503) and world.answer.get("retry-after")
    assert kedge.json("peers")[0]["state"] == "unknown"
    kedge.rows["pbx"] = ["udp:pbx.test:5060", b.at]
    kedge.write_config()
    kedge.ctl("reload")
    assert world.call()[0] == 603, "what needs no DNS serves"
    dns.mute = False
    world.state(a, "up", 15)
    assert world.call()[0] == 486


def test_a_restart_without_dns(world):
    """kill -9 of signalling, and of everything, while DNS is dead."""
    a = world.pbx("a", 486)
    dns = world.stage.add(Dns(world.hosts("dns"), {
        ("SRV", "_sip._udp.pbx.test"): ["1 0 5060 a.pbx.test"], ("A", "a.pbx.test"): [a.host.addr]}))
    kedge = world.start("udp:pbx.test", dns=dns)
    world.state(a, "up")
    kedge.stored()
    dns.mute = True
    before = kedge.role("signalling")
    os.kill(before, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (before, None) and kedge.try_ctl("version").returncode == 0, 10, 0.05)
    assert world.quick(486)
    kedge.stop()
    kedge.start()
    assert world.call()[0] == 486
    kedge.rows["pbx"] = ["udp:other.test"]
    kedge.write_config()
    kedge.stop()
    kedge.start()
    assert world.call()[0] == 503
    kedge.stop()
    with sqlite3.connect(kedge.rows["store"]) as db:
        rows = db.execute("SELECT key FROM binding WHERE key LIKE 'srv:%'").fetchall()
    assert not rows, "what is not configured any more is forgotten"


# ---- reload ----

def test_reload_with_other_pbxes(world):
    a, b = world.pbx("a", 486), world.pbx("b", 603)
    kedge = world.start(a)
    assert world.call()[0] == 486
    kedge.rows["pbx"] = [b.at]
    kedge.write_config()
    answer = kedge.ctl("reload")
    assert "restart" not in answer, answer
    assert world.call()[0] == 603
    assert list(world.peers()) == [f"udp {b.host.addr}:5060"]
    kedge.rows["pbx"] = [a.at, f"{b.at};priority=5"]
    kedge.write_config()
    kedge.ctl("reload")
    assert world.call()[0] == 486


# ---- real PBXes ----

def test_two_kamailios(world, stage, hosts):
    """Phones registered with the first; it dies; they come to the second and talk; it comes back and serves again."""
    passwords = {"agent": "pw-agent", "other": "pw-other"}
    first, second = (stage.add(Kamailio(stage.folder / name, passwords, hosts(name))).start() for name in ("k1", "k2"))
    kedge = world.start(f"udp:{first.host.addr}:5060", f"udp:{second.host.addr}:5060")

    def agent(user):
        return stage.agent(hosts("phone-" + user), user, "pw-" + user, (kedge.host.addr, 5060), "pbx.test")

    def conversation(a, b):
        ends = talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
        assert ends[0].bye().status == 200
        ends[1].agent.reply(ends[1].agent.expect("BYE"), 200)
        kedge.no_calls()

    a, b = agent("agent"), agent("other")
    assert a.register().status == 200 and b.register().status == 200
    conversation(a, b)
    first.stop()
    began = patient()
    assert a.register(timeout=8).status == 200, "before anybody knows that it is dead"
    assert patient() - began < FAILOVER
    assert b.register().status == 200
    conversation(a, b)
    first.start()
    assert until(lambda: set(world.peers().values()) == {"up"}, 20, 0.1), world.peers()
    conversation(a, b)  # they stay with the one that knows them
    c, d = agent("agent"), agent("other")
    assert c.register().status == 200 and d.register().status == 200  # new phones go to the first again
    conversation(c, d)


# ---- ICE ----

def test_a_phone_cannot_have_a_pbx_checked(world, stage, hosts):
    """It names the PBX, which kedge knows by DNS alone, and somebody else as its candidates: only that one gets STUN checks."""
    server, other = hosts("a"), hosts("other")
    traps = {}
    for host in (server, other):
        traps[host] = socket_in(host)
        traps[host].bind((host.addr, 7000))
        traps[host].settimeout(0.2)
    dns = stage.add(Dns(hosts("dns"), {("A", "pbx.test"): [server.addr]}))
    kedge = world.start("udp:pbx.test:5060", probe=0, dns=dns)
    assert until(lambda: "up" in world.peers().values(), 20, 0.1)
    caller = stage.agent(hosts("phone"), "100", "", (kedge.host.addr, 5060), "pbx.test")
    pbx = stage.agent(server, "200", "", (kedge.host.addr, 5060), "pbx.test", port=5060)
    rtp_a, rtp_b = stage.add(IceRtp(caller.host, 400, controlling=True)), stage.rtp(server, hz=700)
    a, b = Dialog(caller, rtp_a), Dialog(pbx, rtp_b)
    named = "".join(f"a=candidate:9{i} 1 UDP {2130706431 - i} {host.addr} 7000 typ host\r\n" for i, host in enumerate(traps))
    take = background(a.call, "200", body=sdp(rtp_a.ip, rtp_a.port, extra=rtp_a.lines() + named))
    b.answer(pbx.expect("INVITE"))
    answer = take()
    assert answer.status == 200
    rtp_a.learn(answer.body)
    assert rtp_a.got(ms=200), kedge.calls()
    traps[other].settimeout(20)
    assert traps[other].recv(2000)[:2] == b"\0\1", "a candidate is checked"
    with pytest.raises(OSError):
        traps[server].recv(2000)
    assert a.bye().status == 200
    pbx.reply(pbx.expect("BYE"), 200)
    for trap in traps.values():
        trap.close()
