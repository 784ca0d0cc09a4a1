"""A linphone under test: Debian's linphonec without sound card, driven over its standard input; it plays a tone from a file and
records what it hears into another."""
import os
import subprocess

from . import tone
from .hosts import Host, stop, until

CONFIG = """\
[sip]
sip_port={udp_port}
sip_tcp_port={tcp_port}
sip_tls_port=0
use_ipv6=0
default_proxy=0
register_only_when_network_is_up=0
guess_hostname=1
inc_timeout=60
media_encryption={encryption}
media_encryption_mandatory={mandatory}
keepalive_period=10000

[rtp]
audio_rtp_port={rtp}

[net]
mtu=1300
{net}

[misc]
uuid=
hide_chat_rooms_from_removed_proxies=1

[sound]
echocancellation=0

{codecs}
[auth_info_0]
username={user}
passwd={password}
realm=*

[proxy_0]
reg_proxy=<sip:{server};transport={transport}>
reg_route=<sip:{server};transport={transport};lr>
reg_identity=sip:{user}@{domain}
reg_expires=600
reg_sendregister=1
publish=0
"""

# What the others know: all that is not listed would be offered.
CODECS = (("PCMU", 8000, 1), ("PCMA", 8000, 1), ("opus", 48000, 0), ("speex", 16000, 0), ("speex", 8000, 0), ("speex", 32000, 0),
          ("G729", 8000, 0), ("GSM", 8000, 0), ("iLBC", 8000, 0), ("G722", 8000, 0), ("BV16", 8000, 0))

TURN = """
[nat_policy_0]
ref=turn
stun_server={host}:3478
stun_server_username={user}
protocols=stun,turn,ice
turn_enable_udp={udp}
turn_enable_tcp={tcp}
turn_enable_tls=0

[auth_info_1]
username={user}
passwd={password}
realm=turn.test
"""


class Linphone:
    """user@domain registered at server ("address:port"). ice: it uses ICE, with this STUN server or host candidates alone.
    turn: (host, user, password, "udp" or "tcp") of a TURN server beside. encryption: "srtp" or "dtls", demanded if mandatory."""

    def __init__(self, folder, user, server, hz, host=None, password="", transport="udp", domain=None, ice=False, stun=None,
                 turn=None, port=5060, rtp=7078, answer=True, encryption="none", mandatory=True):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.user, self.hz = user, hz
        self.host = host or Host()
        self.domain = domain or server
        self.process = None
        self.answer = answer
        self.tunnelled = bool(turn) and turn[3] == "tcp"  # its media is not to be seen as UDP on its own network
        self._records = 0
        self.trace = os.path.join(self.folder, "trace")  # what it says on its standard output comes late and says little
        self._tone = tone.write(os.path.join(self.folder, "tone.wav"), hz)
        net, more = "firewall_policy=ice" if ice else "firewall_policy=none", ""
        if stun:
            net += f"\nstun_server={stun}"
        if turn:
            net = "nat_policy_ref=turn"
            more = TURN.format(host=turn[0], user=turn[1], password=turn[2], udp=int(turn[3] == "udp"),
                               tcp=int(turn[3] == "tcp"))
        codecs = "".join(f"[audio_codec_{i}]\nmime={name}\nrate={rate}\nchannels={2 if name == 'opus' else 1}\nenabled={on}\n\n"
                         for i, (name, rate, on) in enumerate(CODECS))
        with open(os.path.join(self.folder, "linphonerc"), "w", encoding="ascii") as f:
            f.write(CONFIG.format(user=user, password=password, server=server, domain=self.domain, rtp=rtp, codecs=codecs,
                                  udp_port=port if transport == "udp" else 0, tcp_port=port if transport == "tcp" else 0,
                                  transport=transport, net=net, encryption=encryption,
                                  mandatory=int(mandatory and encryption != "none")) + more)

    # Life

    def start(self):
        self._log = open(os.path.join(self.folder, "log"), "ab")
        os.makedirs(os.path.join(self.folder, ".local/share/linphone"), exist_ok=True)
        argv = ["/usr/bin/linphonec", "-c", os.path.join(self.folder, "linphonerc"), "-d", "6", "-l", self.trace,
                *(["-a"] if self.answer else [])]
        self.process = self.host.popen(argv, stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT,
                                       cwd=self.folder, env={**os.environ, "HOME": self.folder,
                                                                "PULSE_RUNTIME_PATH": os.path.join(self.folder, "pulse")})
        self.command("soundcard use files")
        self.command("play " + self._tone)
        self._record()
        return self

    def _record(self):
        self._records += 1
        self.command("record " + self.recording())

    def stop(self):
        if self.process:
            if self.process.poll() is None:
                self.command("quit")
                until(lambda: self.process.poll() is not None, 3)
            stop(self.process)
            self.process = None
            self._log.close()

    def command(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def log(self):
        if not os.path.exists(self.trace):
            return ""
        with open(self.trace, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def mark(self):
        """What was said so far: a start for wait()."""
        return len(self.log())

    def wait(self, text, since=0, timeout=20):
        """Waits for a text in what it says, after mark `since`."""
        assert until(lambda: text in self.log()[since:], timeout, 0.1), \
            f"{self.user}: no '{text}' within {timeout} s; log {self.trace}"

    def registered(self, timeout=20):
        self.wait("to [LinphoneRegistrationOk]", 0, timeout)
        return self

    # Calls

    def dial(self, who):
        mark = self.mark()
        self.command("call " + (who if who.startswith("sip:") else f"sip:{who}@{self.domain}"))
        return mark

    def call(self, who, timeout=20):
        mark = self.dial(who)
        self.wait("LinphoneCallStreamsRunning", mark, timeout)
        return mark

    def hangup(self):
        self.command("terminate")

    # What it heard

    def recording(self):
        return os.path.join(self.folder, f"heard-{self._records}.wav")

    def forget(self):
        """What was recorded until now does not count any more."""
        self._record()

    def hears(self, hz, ms=400, since_ms=0, timeout=8):
        """Whether the tone is heard for at least ms, waiting up to timeout."""
        return bool(until(lambda: tone.heard_ms(self.recording(), hz, since_ms) >= ms, timeout, 0.1))
