"""Kamailio as the PBX: registrar and proxy, from tests/interop/kamailio.cfg."""
import os
import re
import signal
import sqlite3
import subprocess

from .hosts import Host, socket_in, stop, until

OPTIONS = ("OPTIONS sip:{0} SIP/2.0\r\nVia: SIP/2.0/UDP {1};rport;branch=z9hG4bKready\r\nMax-Forwards: 5\r\n"
           "From: <sip:t@{0}>;tag=t\r\nTo: <sip:{0}>\r\nCall-ID: ready\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")


def answers(host, address, port, timeout=60):
    """Waits until a SIP server answers OPTIONS by UDP."""
    with socket_in(host) as s:
        s.settimeout(0.2)

        def ask():
            try:
                s.sendto(OPTIONS.format(f"{address}:{port}", "127.0.0.1").encode(), (address, port))
                return s.recv(4096).startswith(b"SIP/2.0 ")
            except OSError:
                return False

        return bool(until(ask, timeout, 0.1))


class Kamailio:
    """nat: it reaches phones behind NATs by the address they register from. define: parts of kamailio.cfg: PATH (RFC 3327),
    SERVICE_ROUTE (RFC 3608: calls without its route are refused), PRESENCE (it has lamps too: presence, voicemail by
    message-summary, and calls by dialog, which it publishes by itself)."""

    def __init__(self, folder, accounts, host=None, port=5060, domain="pbx.test", max_expires=3600, config=None, nat=False,
                 define=()):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.host = host or Host()
        self.port, self.domain = port, domain
        self.process = None
        self.options = [word for name in (*define, *(["NAT"] if nat else [])) for word in ("-A", name)]
        if "PRESENCE" in define:
            self._make_database()
        here = os.path.dirname(os.path.abspath(__file__))
        with open(config or os.path.join(here, "kamailio.cfg"), encoding="utf-8") as f:
            text = f.read()
        passwords = "".join(f'    $sht(password=>{name}) = "{word}";\n' for name, word in accounts.items())
        values = {"ADDRESS": self.host.addr, "PORT": port, "DOMAIN": domain, "MAX_EXPIRES": max_expires,
                  "PASSWORDS": passwords, "FOLDER": self.folder.lstrip("/")}
        self.config = os.path.join(self.folder, "kamailio.cfg")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(re.sub("@([A-Z_]+)@", lambda m: str(values[m.group(1)]), text))

    def _make_database(self):
        db = sqlite3.connect(os.path.join(self.folder, "presence.db"))
        for name in ("standard", "presence"):
            with open(f"/usr/share/kamailio/db_sqlite/{name}-create.sql", encoding="utf-8") as f:
                db.executescript(f.read())
        db.close()

    def start(self):
        self._log = open(os.path.join(self.folder, "log"), "ab")
        self.process = self.host.popen(
            ["/usr/sbin/kamailio", "-f", self.config, "-DD", "-E", "-m", "64", "-M", "8", "-w", self.folder, "-Y",
             self.folder, "-P", os.path.join(self.folder, "pid"), *self.options],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True)
        if not answers(self.host, self.host.addr, self.port):
            self.stop()
            with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as f:
                raise AssertionError("Kamailio does not answer: " + f.read()[-2000:])
        return self

    def stop(self):
        """One that is told to end while it still makes its processes leaves some behind, with its ports."""
        if self.process:
            group = os.getpgid(self.process.pid) if self.process.poll() is None else self.process.pid
            stop(self.process)
            assert until(lambda: not self._left(group), 10, 0.02), f"Kamailio does not end: {group}"
            self.process = None
            self._log.close()

    @staticmethod
    def _left(group):
        try:
            os.killpg(group, signal.SIGKILL)
            return True
        except ProcessLookupError:
            return False
