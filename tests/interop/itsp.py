"""A provider of phone numbers, by hand: registrar with digest, and calls that take a proof (UDP, TCP or TLS). An agent whose
requests() are what it let through."""
import hashlib
import itertools
import os
import queue
import re
import select
import socket
import ssl
import subprocess
import threading

from .agent import Agent, Message, token
from .hosts import socket_in


def params_of(value):
    return {k.lower(): v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|[^,\s]+)', value)}


class Itsp(Agent):
    """accounts: {user: password}. proofs: which methods inside and outside of dialogs take one, besides REGISTER."""

    def __init__(self, host, accounts, realm="itsp.test", port=5060, transport="udp", algorithm="MD5", qop=True,
                 proofs=("INVITE",), granted=600, folder=None, server=("127.0.0.1", 5060)):
        self.accounts, self.realm, self.algorithm, self.qop = accounts, realm, algorithm, qop
        self.proofs, self.granted = proofs, granted
        self.bindings = {}     # user -> Contact URI
        self.registers = []    # every REGISTER
        self.refuse = None     # (status, headers): instead of serving a REGISTER
        self.nonces, self.stale = set(), 0
        self.connections = []
        if transport == "udp":
            super().__init__(host, user="itsp", server=server, domain=realm, port=port)
        else:
            self._listen(host, port, transport, folder, server)
        self.answer_options = True

    # Streams: kedge connects, and requests go both ways over that connection.

    def _listen(self, host, port, transport, folder, server):
        self.host, self.user, self.password, self.domain = host, "itsp", "", self.realm
        self.ip, self.port, self.transport, self.server = host.addr, port, transport, server
        self.requests, self.log, self._responses, self._said = queue.Queue(), [], {}, {}
        self._cseq, self.challenge, self._open = itertools.count(1), None, True
        self._tls_lock = threading.Lock()
        self.listener = socket_in(host, socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host.addr, port))
        self.listener.listen(8)
        self.listener.settimeout(0.1)
        self.context = None
        if transport == "tls":
            pem = os.path.join(str(folder), "itsp.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=itsp.test",
                            "-keyout", pem + ".key", "-out", pem], check=True, capture_output=True)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pem, pem + ".key")
        self.socket = None
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while self._open:
            try:
                made, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                if self.context:
                    made.settimeout(5)
                    made = self.context.wrap_socket(made, server_side=True)
            except OSError:
                continue
            made.settimeout(0.1)
            self.connections.append(made)
            self.socket = made
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, made):
        stream = b""
        while self._open:
            try:
                pending = self.context and made.pending()
                if not pending and not select.select([made], [], [], 0.1)[0]:
                    continue
                with self._tls_lock:
                    data = made.recv(65536)
            except TimeoutError:
                continue
            except (OSError, ValueError):
                return
            if not data:
                return
            stream = (stream + data).lstrip(b"\r\n")
            while True:
                head, end, rest = stream.partition(b"\r\n\r\n")
                length = re.search(rb"^(?:content-length|l)\s*:\s*(\d+)", head, re.M | re.I)
                if not end or len(rest) < int(length.group(1) if length else 0):
                    break
                size = len(head) + 4 + int(length.group(1) if length else 0)
                self.socket = made
                self._take(stream[:size].decode("utf-8", "replace"), None)
                stream = stream[size:].lstrip(b"\r\n")

    def close(self):
        self._open = False
        if self.transport == "udp":
            super().close()
            return
        self._thread.join(30)
        self.listener.close()
        for made in self.connections:
            made.close()

    # Digest

    def ask(self, request, status, stale=False):
        nonce = token()
        self.nonces.add(nonce)
        name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
        value = f'{name}: Digest realm="{self.realm}", nonce="{nonce}", algorithm={self.algorithm}, opaque="x=y"'
        value += ', qop="auth,auth-int"' if self.qop else ""
        self.reply(request, status, headers=[value + (", stale=true" if stale else "")])

    def proof_of(self, request, name):
        """"" none; "stale"; the user, if it is right; None if it is wrong."""
        value = request.get(name)
        if not value:
            return ""
        p = params_of(value)
        password = self.accounts.get(p.get("username"))
        if password is None or p["realm"] != self.realm or p["uri"] != request.uri or p.get("opaque") != "x=y":
            return None
        def h(text):
            return (hashlib.sha256 if self.algorithm == "SHA-256" else hashlib.md5)(text.encode()).hexdigest()
        ha1, ha2 = h(f"{p['username']}:{self.realm}:{password}"), h(f"{request.method}:{p['uri']}")
        middle = f"{p['nonce']}:{p['nc']}:{p['cnonce']}:auth" if self.qop else p["nonce"]
        if p["response"] != h(f"{ha1}:{middle}:{ha2}") or p["nonce"] not in self.nonces:
            return None
        self.nonces.discard(p["nonce"])
        if self.stale > 0:
            self.stale -= 1
            return "stale"
        return p["username"]

    def _take(self, text, source):
        message = Message(text)
        message.source = source
        if self._is_again(message):
            return
        if message.method == "REGISTER":
            self.log.append(message)
            self._register(message)
            return
        if message.method in self.proofs and message.method:
            who = self.proof_of(message, "Proxy-Authorization")
            if not who or who == "stale":
                self.log.append(message)
                if who is None:
                    self.reply(message, 403)
                else:
                    self.ask(message, 407, who == "stale")
                return
        super()._take(text, source)

    def _register(self, request):
        self.registers.append(request)
        if self.refuse:
            self.reply(request, self.refuse[0], headers=self.refuse[1])
            return
        who = self.proof_of(request, "Authorization")
        if who is None:
            self.reply(request, 403)
        elif not who or who == "stale":
            self.ask(request, 401, who == "stale")
        elif request.get("expires") == "0":
            self.bindings.pop(who, None)
            self.reply(request, 200)
        else:
            self.bindings[who] = request.contact()
            wanted = request.get("expires") or re.search(r"expires=(\d+)", request.get("contact")).group(1)
            granted = min(self.granted, int(wanted))
            self.reply(request, 200, headers=[f"Contact: <{request.contact()}>;expires={granted}"])

    def forget(self):
        """As after a restart."""
        self.bindings = {}
        self.nonces = set()
