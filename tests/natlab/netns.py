"""Network namespaces, the hosts that live in them, and what a test does on a host."""
import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import namedtuple

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
EPHEMERAL = "41000 60999"  # ports that the kernel chooses: none that kedge relays from, or a port of a phone could be the same as kedge's


class _Patience(threading.Thread):
    """Seconds, of which those do not count in which this machine let us stand still."""
    TICK, MOST = 0.02, 0.06

    def __init__(self):
        super().__init__(daemon=True)
        self.seconds = 0.0
        self.start()

    def run(self):
        at = time.monotonic()
        while True:
            time.sleep(self.TICK)
            before, at = at, time.monotonic()
            self.seconds += min(at - before, self.MOST)


_patience = []


def patient():
    """A clock for deadlines: a machine that is busy with other things, or stands still, makes no test fail."""
    if not _patience:
        _patience.append(_Patience())
    return _patience[0].seconds


def until(what, timeout=20.0, step=0.02):
    """Waits until what() is true and returns its value; after the timeout (patient()), returns what it says then."""
    end = patient() + timeout
    while True:
        value = what()
        if value or patient() > end:
            return value
        time.sleep(step)


def until_told(changed, what, timeout):
    """The same with a threading.Condition, held, that is notified of whatever changes what() says."""
    end = patient() + timeout
    while not (value := what()) and patient() <= end:
        changed.wait(0.1)
    return value


def stop(process, sig=signal.SIGTERM, timeout=3):
    """Ends one process that we started. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
    return process.returncode


def inside(ns, function):
    """Runs function in the namespace and returns its value. In a thread of its own: setns changes one thread only.
    Sockets made there stay in the namespace and work from any thread."""
    result = []

    def work():
        try:
            fd = os.open("/run/netns/" + ns, os.O_RDONLY)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "cannot enter the namespace " + ns)
            finally:
                os.close(fd)
            result.append((function(), None))
        except BaseException as error:  # handed to the caller below
            result.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    value, error = result[0]
    if error:
        raise error
    return value


def ip(ns, *lines):
    """Runs lines of iproute2 commands ("link set lo up") in the namespace."""
    done = subprocess.run(["ip", "-n", ns, "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip in {ns}: {done.stderr.strip()}\n" + "\n".join(lines))


def nft(ns, rules):
    done = subprocess.run(["nsenter", f"--net=/run/netns/{ns}", "nft", "-f", "-"], input=rules, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nft in {ns}: {done.stderr.strip()}")


def sysctl(ns, **values):
    """sysctl(ns, **{"net.ipv4.ip_forward": 1})"""
    def write():
        for name, value in values.items():
            with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as f:
                f.write(str(value))
    inside(ns, write)


def create(ns):
    subprocess.run(["ip", "netns", "add", ns], check=True)
    sysctl(ns, **{"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0,
                  "net.ipv6.conf.all.accept_dad": 0, "net.ipv6.conf.default.accept_dad": 0,
                  "net.ipv6.conf.all.accept_ra": 0, "net.ipv6.conf.default.accept_ra": 0,
                  "net.ipv4.ip_local_port_range": EPHEMERAL})
    ip(ns, "link set lo up")


def create_router(ns, gateway):
    """A namespace that forwards. Its hosts are on /32 device routes and use the gateway address and fe80::1."""
    create(ns)
    sysctl(ns, **{"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1,
                  "net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0})
    ip(ns, f"addr add {gateway}/32 dev lo")


def delete(ns):
    """Ends whatever still runs in the namespace, by process id, and deletes it."""
    pids = subprocess.run(["ip", "netns", "pids", ns], capture_output=True, text=True, check=False).stdout.split()
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", ns], check=False, stderr=subprocess.DEVNULL)


def leftovers(folder, pattern):
    """Names in the folder that match and whose maker, the process id in group 1, no longer lives."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = ((name, re.match(pattern, name)) for name in names)
    return [name for name, m in found if m and not os.path.exists("/proc/" + m.group(1))]


Packet = namedtuple("Packet", "at proto src sport dst dport payload")


class Capture:
    """tcpdump on a host's eth0 (or another device): packets() may be called while it runs."""

    def __init__(self, host, path, expression="", device="eth0"):
        self.path = path
        self.process = host.popen(["tcpdump", "-i", device, "-U", "--immediate-mode", "-s", "0", "-n", "-Z", "root", "-w", path,
                                   *expression.split()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stderr.fileno(), False)
        said = b""

        def listening():
            nonlocal said
            said += self.process.stderr.read() or b""
            return b"listening on" in said or self.process.poll() is not None
        until(listening, 30)
        if self.process.poll() is not None or b"listening on" not in said:
            raise RuntimeError("tcpdump: " + said.decode())

    def stop(self):
        stop(self.process)
        return self.packets()

    def packets(self):
        """UDP and TCP over IPv4 so far; fragments are left out."""
        with open(self.path, "rb") as f:
            data = f.read()
        if len(data) < 24:
            return []
        link = struct.unpack("=I", data[20:24])[0]
        at, out = 24, []
        while at + 16 <= len(data):
            sec, usec, size, _ = struct.unpack("=IIII", data[at:at + 16])
            frame = data[at + 16:at + 16 + size]
            at += 16 + size
            if len(frame) < size:
                break
            out += self._parse(sec + usec / 1e6, frame[14:] if link == 1 else frame)
        return out

    @staticmethod
    def _parse(at, packet):
        if len(packet) < 28 or packet[0] >> 4 != 4 or packet[6] & 0x3f or packet[7] or packet[9] not in (6, 17):
            return []
        head = (packet[0] & 15) * 4
        l4 = packet[head:int.from_bytes(packet[2:4], "big")]
        payload = l4[8:] if packet[9] == 17 else l4[(l4[12] >> 4) * 4:]
        return [Packet(at, "udp" if packet[9] == 17 else "tcp", socket.inet_ntoa(packet[12:16]),
                       int.from_bytes(l4[0:2], "big"), socket.inet_ntoa(packet[16:20]),
                       int.from_bytes(l4[2:4], "big"), payload)]


class Host:
    """A computer of the laboratory: a namespace with addresses on eth0.

    ip4, ip6: its own addresses (lists all4, all6 where it has several). box: its NAT, or None. external: the address under
    which the Internet sees it, IPv4 where it has one."""

    def __init__(self, lab, name, ns, ip4=(), ip6=(), external=None):
        self.lab, self.name, self.ns = lab, name, ns
        self.all4, self.all6 = list(ip4), list(ip6)
        self.ip4 = self.all4[0] if self.all4 else None
        self.ip6 = self.all6[0] if self.all6 else None
        self.addr = self.ip4 or self.ip6
        self.external = external or self.addr
        self.box = None
        self.router_ns = None  # where the address of a Linux router can be inspected

    def __repr__(self):
        return f"<{self.name} {self.addr}>"

    def _argv(self, command):
        command = ["sh", "-c", command] if isinstance(command, str) else [str(c) for c in command]
        return ["nsenter", f"--net=/run/netns/{self.ns}", "--", *command]

    def run(self, command, timeout=30, check=True, **kw):
        """Runs a command (list, or text for the shell) to its end; returns the CompletedProcess with text output."""
        kw.setdefault("capture_output", True)
        kw.setdefault("text", True)
        return subprocess.run(self._argv(command), timeout=timeout, check=check, **kw)

    def popen(self, command, **kw):
        """Starts a command; its pid is that of the command itself. The laboratory ends it if the test does not."""
        process = subprocess.Popen(self._argv(command), **kw)
        self.lab.processes.append(process)
        return process

    def socket(self, kind=socket.SOCK_DGRAM, port=0, ip=None, timeout=20):
        """A bound socket on this host, used from the test itself."""
        address = ip or self.addr
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def make():
            s = socket.socket(family, kind)
            if kind == socket.SOCK_STREAM:  # with UDP two could share a port that the kernel chooses
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port))
            s.settimeout(timeout)
            return s
        made = inside(self.ns, make)
        self.lab.sockets.append(made)
        return made

    def udp(self, port=0, ip=None, timeout=20):
        return self.socket(socket.SOCK_DGRAM, port, ip, timeout)

    def tcp(self, port=0, ip=None, timeout=20):
        return self.socket(socket.SOCK_STREAM, port, ip, timeout)

    def ping(self, address, timeout=10):
        """One ICMP echo (IPv4). Whether the answer came."""
        with inside(self.ns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as s:
            s.settimeout(timeout)
            ident = os.urandom(4)  # identifier and sequence
            total = 0x0800 + sum(struct.unpack(">HH", ident))
            total = (total & 0xffff) + (total >> 16)
            total = (total & 0xffff) + (total >> 16)
            s.sendto(struct.pack(">BBH", 8, 0, ~total & 0xffff) + ident, (address, 0))
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                try:
                    packet = s.recv(2048)
                except TimeoutError:
                    return False
                message = packet[(packet[0] & 15) * 4:]
                if message[0] == 0 and message[4:8] == ident:
                    return True
        return False

    def capture(self, expression="", device="eth0"):
        self.lab.captures += 1
        path = os.path.join(self.lab.folder, f"{self.name}-{self.lab.captures}.pcap")
        return Capture(self, path, expression, device)
