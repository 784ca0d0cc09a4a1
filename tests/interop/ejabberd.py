"""ejabberd as the PBX: the registrar and proxy of its mod_sip. Written in Erlang around a SIP stack of its own, it has nothing
in common with Kamailio, which most tests use."""
import os
import subprocess

from .hosts import Host, stop, until
from .pbx import answers

CONFIG = """hosts: [ "{domain}" ]
loglevel: info
auth_method: internal
auth_password_format: plain
listen:
  - {{ port: {port}, ip: "{address}", module: ejabberd_sip, transport: udp }}
  - {{ port: {port}, ip: "{address}", module: ejabberd_sip, transport: tcp }}
modules:
  mod_sip:
    always_record_route: true
    via: [ "udp://{address}:{port}", "tcp://{address}:{port}" ]
    record_route: "sip:{address}:{port};lr"
"""
# Erlang: makes the accounts once the server runs.
ACCOUNTS = ('[ejabberd_auth:try_register(list_to_binary(U), <<"{domain}">>, list_to_binary(P)) '
            '|| {{U, P}} <- [{accounts}]], file:write_file("{ready}", <<"ok">>).')


class Ejabberd:
    def __init__(self, folder, accounts, host=None, port=5060, domain="pbx.test"):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.host, self.port, self.domain, self.process = host or Host(), port, domain, None
        self.ready = os.path.join(self.folder, "ready")
        with open(os.path.join(self.folder, "ejabberd.yml"), "w", encoding="utf-8") as f:
            f.write(CONFIG.format(domain=domain, port=port, address=self.host.addr))
        pairs = ", ".join(f'{{"{name}", "{word}"}}' for name, word in accounts.items())
        self.make = ACCOUNTS.format(domain=domain, accounts=pairs, ready=self.ready)

    def start(self):
        place = {name: os.path.join(self.folder, file) for name, file in
                 (("EJABBERD_CONFIG_PATH", "ejabberd.yml"), ("EJABBERD_LOG_PATH", "ejabberd.log"), ("ERL_CRASH_DUMP", "crash"))}
        self._log = open(os.path.join(self.folder, "log"), "ab")
        # +Bd: no interactive break; no node name: nothing listens but SIP, and no epmd is started
        self.process = self.host.popen(
            ["/usr/bin/erl", "-noinput", "+Bd", "+S", "1", "-mnesia", "dir", f'"{self.folder}/db"', "-eval",
             "{ok, _} = application:ensure_all_started(ejabberd), " + self.make],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, cwd=self.folder,
            env={**os.environ, **place, "HOME": self.folder, "ERL_LIBS": "/usr/lib/x86_64-linux-gnu"})
        if not until(lambda: os.path.exists(self.ready) or self.process.poll() is not None, 30, 0.1) or \
                not answers(self.host, self.host.addr, self.port):
            self.stop()
            with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as f:
                raise AssertionError("ejabberd does not answer: " + f.read()[-2000:])
        return self

    def stop(self):
        if self.process:
            stop(self.process)
            self.process = None
            self._log.close()
