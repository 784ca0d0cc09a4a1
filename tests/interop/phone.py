"""A baresip phone under test: its own configuration, tone and recordings, driven over its JSON control socket."""
import glob
import json
import os
import socket
import subprocess
import threading
import time

from . import tone
from .hosts import Host, socket_in, stop, until, until_told

MODULES = "/usr/lib/baresip/modules"

# Source: a tone by aufile; sndfile records what was decoded; aubridge is the loudspeaker that needs no hardware.
CONFIG = """\
poll_method epoll
sip_listen {listen}
{sip_cert}
call_local_timeout 60
call_max_calls 4
audio_source aufile,{tone}
audio_player aubridge,ear
audio_alert aubridge,bell
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
audio_buffer 20-160
rtcp_mux {rtcp_mux}
rtp_timeout 0
jitter_buffer_delay 1-20
statmode_default off
module_path {modules}
module g711.so
module aubridge.so
module aufile.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
{modules_more}
ctrl_tcp_listen 127.0.0.1:{control}
snd_path {folder}
{extra}
"""


class Phone:
    """folder: an empty directory of its own. user@server with its transport; password None: no registration.

    ice: it uses ICE; then stun is a STUN server ("203.0.113.10:3478", None: host candidates alone) or turn a TURN server
    as (address, user, password)."""

    def __init__(self, folder, user, server, hz, host=None, password=None, transport="udp", listen=None, control=4444,
                 rtcp_mux=False, account_extra="", config_extra="", answer=True, domain=None, expires=600,
                 ice=False, stun=None, turn=None):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.user, self.hz = user, hz
        self.host = host or Host()
        self.control = control
        self.events = []          # dicts as baresip sent them, plus "at" (monotonic seconds)
        self._changed = threading.Condition()
        self._replies = {}
        self._serial = 0
        self._socket = None
        self.process = None
        address, _, port = server.rpartition(":")
        self.domain = domain or server
        self.aor = f"sip:{user}@{self.domain}"
        tone_file = tone.write(os.path.join(self.folder, "tone.wav"), hz)
        listen = listen or "0.0.0.0:5060"
        with open(os.path.join(self.folder, "config"), "w", encoding="ascii") as f:
            f.write(CONFIG.format(listen=listen, tone=tone_file, modules=MODULES, control=control, folder=self.folder,
                                  modules_more="module ice.so" if ice else "",
                                  rtcp_mux="yes" if rtcp_mux else "no", sip_cert="", extra=config_extra))
        account = f"<sip:{user}@{self.domain};transport={transport}>;audio_codecs=PCMU,PCMA;ptime=20"
        account += f";regint={expires if password is not None else 0}"
        account += f';outbound="sip:{server};transport={transport}"'
        if password is not None:
            account += f";auth_user={user};auth_pass={password}"
        account += ";answermode=auto" if answer else ""
        self.ice = ice
        if ice:
            account += ";medianat=ice"
            if turn:
                account += f';stunserver="turn:{turn[0]}";stunuser={turn[1]};stunpass={turn[2]}'
            elif stun:
                account += f';stunserver="stun:{stun}"'
        with open(os.path.join(self.folder, "accounts"), "w", encoding="ascii") as f:
            self.account = account + account_extra
            f.write(self.account + "\n")
        open(os.path.join(self.folder, "contacts"), "w", encoding="ascii").close()

    # Life

    def start(self, options=()):
        self._log = open(os.path.join(self.folder, "log"), "ab")
        argv = ["/usr/bin/baresip", "-f", self.folder, "-v", "-s", *options]
        self.process = self.host.popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
                                       cwd=self.folder)

        def connect():
            if self.process.poll() is not None:
                raise AssertionError(f"baresip of {self.user} ended at once:\n{self.log()[-2000:]}")
            s = socket_in(self.host, socket.AF_INET, socket.SOCK_STREAM)
            try:
                s.connect(("127.0.0.1", self.control))
                return s
            except OSError:
                s.close()
                return None

        self._socket = until(connect, 10)
        assert self._socket, f"baresip of {self.user} does not answer:\n{self.log()[-2000:]}"
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def stop(self):
        if self.process:
            stop(self.process)
            self.process = None
        if self._socket:
            self._socket.close()
            self._socket = None
            self._log.close()

    def log(self):
        with open(os.path.join(self.folder, "log"), "rb") as f:
            return f.read().decode("utf-8", "replace")

    # Control socket: netstrings of JSON

    def _read(self):
        data = b""
        sock = self._socket
        while True:
            try:
                got = sock.recv(65536)
            except OSError:
                return
            if not got:
                return
            data += got
            while True:
                head, colon, rest = data.partition(b":")
                if not colon or len(rest) < int(head) + 1:
                    break
                message, data = json.loads(rest[:int(head)].decode("utf-8", "replace"), strict=False), rest[int(head) + 1:]
                with self._changed:
                    if message.get("response"):
                        self._replies[message.get("token")] = message
                    else:
                        message["at"] = time.monotonic()
                        self.events.append(message)
                    self._changed.notify_all()

    def command(self, command, params="", timeout=20):
        """Runs a long command of baresip's menu; returns its text."""
        self._serial += 1
        token = str(self._serial)
        text = json.dumps({"command": command, "params": params, "token": token}).encode()
        self._socket.sendall(b"%d:%s," % (len(text), text))
        with self._changed:
            assert until_told(self._changed, lambda: token in self._replies, timeout), f"{self.user}: no reply to {command}"
            return self._replies.pop(token).get("data", "")

    # Events

    def mark(self):
        return len(self.events)

    def find(self, kind, since=0):
        return next((e for e in self.events[since:] if e["type"] == kind), None)

    def wait(self, kind, since=0, timeout=20):
        """The first event of this type at or after mark `since`; fails with the phone's log."""
        with self._changed:
            found = until_told(self._changed, lambda: self.find(kind, since), timeout)
        seen = [(e["type"], e.get("param")) for e in self.events[since:] if e["type"] != "CALL_RTCP"]
        assert found, f"{self.user}: no {kind} within {timeout} s; saw {seen}; log {self.folder}/log"
        return found

    def registered(self, timeout=20):
        """Waits for the registration that start() began."""
        def state():
            text = self.command("reginfo")
            if " OK " in text or "OK\x1b" in text or "\x1b[32mOK" in text:
                return "ok"
            return "failed" if self.find("REGISTER_FAIL") else None

        result = until(state, timeout, 0.1)
        assert result == "ok", f"{self.user} is not registered: {result}; log {self.folder}/log"
        return self

    # Calls

    def dial(self, who):
        """Starts a call; who: a user of the same server, or a URI. Returns the mark of its events."""
        self.forget()
        mark = self.mark()
        self.command("dial", who if who.startswith("sip:") else f"sip:{who}@{self.domain}")
        return mark

    def call(self, who, timeout=20):
        mark = self.dial(who)
        self.wait("CALL_ESTABLISHED", mark, timeout)
        return mark

    def accept(self):
        self.command("accept")

    def hangup(self):
        self.command("hangup")

    def hold(self):
        self.command("hold")

    def resume(self):
        self.command("resume")

    def idle(self, timeout=5):
        """Waits until the phone has no call."""
        def none():
            calls = sum(e["type"] in ("CALL_ESTABLISHED",) for e in self.events)
            closed = sum(e["type"] == "CALL_CLOSED" for e in self.events)
            return closed >= calls
        assert until(none, timeout), f"{self.user}: still in a call; log {self.folder}/log"

    # What it heard

    def recording(self):
        """The newest file of received sound, or None."""
        files = sorted(glob.glob(os.path.join(self.folder, "dump-*-dec.wav")), key=os.path.getmtime)
        return files[-1] if files else None

    def position(self):
        """Milliseconds recorded so far in the current call: a start for hears()."""
        path = self.recording()
        return tone.length_ms(path) if path else 0

    def forget(self):
        """Deletes the recordings of earlier calls."""
        for path in glob.glob(os.path.join(self.folder, "dump-*.wav")):
            os.unlink(path)

    def hears(self, hz, ms=400, since_ms=0, timeout=8):
        """Whether the tone is heard for at least ms, waiting up to timeout."""
        def enough():
            path = self.recording()
            return path and tone.heard_ms(path, hz, since_ms) >= ms
        return bool(until(enough, timeout, 0.1))
