"""The systems under test: kedge, and Kamailio with rtpengine, both started the same way in the middle of the same
network of three namespaces: caller -- system -- callee."""
import os
import re
import subprocess

from interop.hosts import Host, socket_in, stop, until
from interop.kedge import Kedge, children_of
from interop.pbx import answers

HERE = os.path.dirname(os.path.abspath(__file__))
FRONT, BACK = "10.88.1.1", "10.88.2.1"  # the system's addresses toward caller and callee
NEXT = "10.88.2.2:5090"                 # where it sends calls
PORTS = (10000, 59999)                  # media ports: enough for calls a second times quarantine
TICK = os.sysconf("SC_CLK_TCK")


class Net:
    """caller 10.88.1.2 -- 10.88.1.1 middle 10.88.2.1 -- 10.88.2.2 callee; no bridge, no NAT."""

    def __init__(self, prefix):
        self.names = [f"{prefix}-{n}" for n in ("caller", "middle", "callee")]
        for ns in self.names:
            subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL, check=False)
            self._ip("netns", "add", ns)
            self._ip("-n", ns, "link", "set", "lo", "up")
        caller, middle, callee = self.names
        for ns, net, device in ((caller, 1, "front"), (callee, 2, "back")):
            self._ip("-n", middle, "link", "add", "name", device, "type", "veth", "peer", "name", "eth0", "netns", ns)
            self._ip("-n", middle, "addr", "add", f"10.88.{net}.1/24", "dev", device)
            self._ip("-n", middle, "link", "set", device, "up", "txqueuelen", "10000")
            self._ip("-n", ns, "addr", "add", f"10.88.{net}.2/24", "dev", "eth0")
            self._ip("-n", ns, "link", "set", "eth0", "up", "txqueuelen", "10000")
        self.caller, self.callee = Host(caller, "10.88.1.2"), Host(callee, "10.88.2.2")
        self.middle = Host(middle, FRONT)

    @staticmethod
    def _ip(*args):
        subprocess.run(["ip", *args], check=True)

    def close(self):
        for ns in self.names:
            subprocess.run(["ip", "netns", "del", ns], check=False)


def tree(pid):
    """pid and everything below it."""
    out = [pid]
    for child in children_of(pid):
        out += tree(child)
    return out


def cpu_seconds(pids):
    """utime + stime of all threads of these processes."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
                fields = f.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / TICK


def memory_kb(pids):
    """Proportional set size: what these processes together take, shared pages once."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))
    return total


class System:
    server = (FRONT, 5060)

    def pids(self):
        return [p for process in self.processes for p in tree(process.pid)]

    relay_pids = pids

    def stop(self):
        for process in reversed(self.processes):
            stop(process)
        self.processes = []


class KamailioRtpengine(System):
    name = "Kamailio + rtpengine"
    media_name = "rtpengine"
    registrar_name = "Kamailio usrloc"
    rtpengine_flags = rtpengine_offer = ""
    account = None

    def __init__(self, net, folder, accounts=()):
        self.net, self.folder, self.processes = net, folder, []
        os.makedirs(folder, exist_ok=True)

    def _run(self, name, argv):
        with open(os.path.join(self.folder, name + ".log"), "ab") as log:
            process = self.net.middle.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)

    def start(self):
        with open(os.path.join(HERE, "kamailio.cfg"), encoding="utf-8") as f:
            text = f.read().replace("@FRONT@", FRONT).replace("@BACK@", BACK).replace("@NEXT@", NEXT)
            text = text.replace("@FLAGS@", self.rtpengine_flags).replace("@OFFER@", self.rtpengine_offer)
        config = os.path.join(self.folder, "kamailio.cfg")
        with open(config, "w", encoding="utf-8") as f:
            f.write(text)
        self._run("rtpengine", ["/usr/bin/rtpengine", "--table=-1", "--foreground", "--log-stderr", "--log-level=3",
                                "--listen-ng=127.0.0.1:2223", f"--interface=front/{FRONT}", f"--interface=back/{BACK}",
                                "--timeout=600", "--delete-delay=0",  # ports come back at once: 30 s would use up the range
                                f"--port-min={PORTS[0]}", f"--port-max={PORTS[1]}", "--config-file=none"])
        assert until(self._pong, 10, 0.1), f"rtpengine does not answer: {self.folder}"  # Kamailio asks once in a minute
        self._run("kamailio", ["/usr/sbin/kamailio", "-f", config, "-DD", "-E", "-m", "512", "-M", "16", "-w", self.folder,
                               "-Y", self.folder, "-P", os.path.join(self.folder, "pid")])
        assert answers(self.net.middle, FRONT, 5060), f"Kamailio does not answer: {self.folder}"
        return self

    def _pong(self):
        with socket_in(self.net.middle) as s:
            s.settimeout(0.2)
            try:
                s.sendto(b"1 d7:command4:pinge", ("127.0.0.1", 2223))
                return b"pong" in s.recv(1000)
            except OSError:
                return False

    def relay_pids(self):
        return tree(self.processes[0].pid)


class KedgeSystem(System):
    name = media_name = "kedge"
    registrar_name = "kedge (SQLite)"
    account = None
    policy = "auto"
    media = {}

    def __init__(self, net, folder, accounts=()):
        config = {"sip": {"listen": [f"udp:{FRONT}:5060", f"udp:{BACK}:5060"]},
                  # The load calls without registering, all of it from one address.
                  "limits": {"unregistered_calls": 1000000}, "guard": {"trusted": ["0.0.0.0/0"]},
                  "media": {"address": "auto", "ports": f"{PORTS[0]}-{PORTS[1]}",
                            "policy": self.policy,
                            "port_quarantine": 1,  # at the highest rates 10 s of quarantine would use up the range
                            "silence_timeout": 600, **self.media}}  # calls wait for the others before the load starts
        if self.account:
            accounts = [(self.account[0] + suffix, self.account[1]) for suffix in ("", "-b")]
        if not accounts:
            config["pbx"] = ["udp:" + NEXT]
        self.kedge = Kedge(folder, net.middle, config, dict(accounts))

    def start(self):
        self.kedge.start()
        return self

    @property
    def processes(self):
        return [self.kedge.process]

    def stop(self):
        self.kedge.stop(timeout=60)


class RtpengineIce(KamailioRtpengine):
    """rtpengine as the ICE peer of both sides."""
    name = media_name = "rtpengine with ICE"
    rtpengine_flags = "ICE=force "


class RtpengineSrtp(KamailioRtpengine):
    """SRTP with the callers, RTP with the callees."""
    name = media_name = "rtpengine, SRTP to RTP"
    rtpengine_offer = "RTP/AVP "


class RtpengineDtls(KamailioRtpengine):
    name = media_name = "rtpengine, DTLS to RTP"
    rtpengine_offer = "RTP/AVP ICE=remove rtcp-mux-accept rtcp-mux-demux "


class KedgeSrtp(KedgeSystem):
    name = media_name = "kedge, SRTP to RTP"
    media = {"pbx_profile": "plain"}


class KedgeAgent(KedgeSystem):
    """kedge as the ICE peer of both sides, which are phones: a PBX is not offered ICE."""
    name = media_name = "kedge, ICE with each side"
    account = ("load", "load-word")
    policy = "anchor"


class KedgeSteer(KedgeAgent):
    """The sides do ICE with each other, and find no better path than kedge's relay."""
    name = media_name = "kedge, ICE end to end, relayed"
    policy = "auto"


def machine():
    """One line: what this was measured on."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read()).group(1)
    release = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()

    def version(package):
        return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True,
                              check=False).stdout.partition("+")[0].partition("-")[0]
    return (f"{os.cpu_count()} cores of {model}, Linux {release}, Kamailio {version('kamailio')}, "
            f"rtpengine {version('rtpengine-daemon') or version('ngcp-rtpengine-daemon')}, SIPp {version('sip-tester')}")
