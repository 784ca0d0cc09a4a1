"""A browser by hand: HTTP requests, a WebSocket (RFC 6455) frame by frame, and a SIP phone on top of it (RFC 7118)."""
import base64
import hashlib
import os
import socket
import ssl
import struct
import threading

from .agent import Agent, Message, token
from .hosts import Host, socket_in

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def trusting():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(server, tls=False, host=None, alpn=(), timeout=30):
    """A stream to kedge, from any host."""
    made = socket_in(host or Host(), socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(timeout)
    made.connect(server)
    if tls:
        context = trusting()
        if alpn:
            context.set_alpn_protocols(list(alpn))
        made = context.wrap_socket(made, server_hostname="kedge.test")
    return made


def read_head(stream, already=b""):
    """Up to the empty line. Returns the head as text, and what came behind it."""
    data = already
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            break
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


class Response:
    def __init__(self, head, body=b""):
        lines = head.split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/1.1 ") else 0
        self.headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        self.body = body

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:80]}"


def read_response(stream, head_only=False, already=b""):
    head, body = read_head(stream, already)
    response = Response(head)
    length = 0 if head_only or response.status in (101, 304) else int(response.headers.get("content-length", 0))
    while len(body) < length:
        more = stream.recv(65536)
        if not more:
            break
        body += more
    response.body, response.rest = body[:length], body[length:]
    return response


def get(server, path="/", tls=False, host=None, method="GET", headers=(), stream=None):
    """One request; the connection ends with it unless it was given."""
    made = stream or connect(server, tls, host)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {server[0]}:{server[1]}", *headers]
        made.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return read_response(made, method == "HEAD")
    finally:
        if not stream:
            made.close()


def frame(opcode, payload=b"", fin=True, masked=True, rsv=0, length=None):
    """As a client writes it; length: another one than the payload's."""
    n = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if n > 65535:
        head += bytes([bit | 127]) + struct.pack("!Q", n)
    elif n > 125:
        head += bytes([bit | 126]) + struct.pack("!H", n)
    else:
        head += bytes([bit | n])
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


class WebSocket:
    """The client's side of one, on a stream that is connected. Upgrades at once; .response is the answer."""

    def __init__(self, stream, host, path="/ws", origin=None, protocol="sip", version="13", key=None, headers=()):
        self.stream = stream
        key = key or base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: keep-alive, Upgrade",
                 f"Sec-WebSocket-Key: {key}"]
        lines += [f"Sec-WebSocket-Version: {version}"] if version else []
        lines += [f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []
        lines += [f"Origin: {origin}"] if origin else []
        stream.sendall("\r\n".join([*lines, *headers, "", ""]).encode())
        self.response = read_response(stream)
        self.buffer = self.response.rest
        self.open = self.response.status == 101
        if self.open:
            accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.response.headers["sec-websocket-accept"] == base64.b64encode(accept).decode()
            assert self.response.headers["sec-websocket-protocol"] == "sip", self.response
        self.pings = 0         # of kedge's
        self.answers = True    # them
        self.code = None       # of its Close

    def parse(self):
        """The next whole frame in the buffer as (opcode, payload), or None. A server never masks and kedge never splits."""
        b = self.buffer
        if len(b) < 2:
            return None
        n, at = b[1], 2
        assert b[0] & 0xF0 == 0x80 and n < 128, b[:16]
        if n >= 126:
            size = 2 if n == 126 else 8
            if len(b) < 2 + size:
                return None
            n, at = int.from_bytes(b[2:2 + size], "big"), 2 + size
        if len(b) < at + n:
            return None
        self.buffer = b[at + n:]
        return b[0] & 15, b[at:at + n]

    def receive(self):
        """The next frame, (opcode, payload); None: the other end is gone."""
        while True:
            got = self.parse()
            if got:
                return self.note(*got)
            more = self.stream.recv(65536)
            if not more:
                return None
            self.buffer += more

    def note(self, opcode, payload):
        if opcode == PING:
            self.pings += 1
            if self.answers:
                self.stream.sendall(frame(PONG, payload))
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big") if payload else 0
        return opcode, payload

    def send(self, data, opcode=TEXT):
        self.stream.sendall(frame(opcode, data.encode() if isinstance(data, str) else data))

    def closed(self):
        """Reads to the end. Returns the code of kedge's Close, or None if there was none."""
        try:
            while self.receive():
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return self.code

    def close(self):
        self.stream.close()


class WebAgent(Agent):
    """A SIP phone over WebSocket: transport "ws" or "wss". Its Contact leads nowhere (RFC 7118 5). It speaks RTP alone, and
    refuses WebRTC by 488 (webrtc=True: the test answers that itself)."""

    def __init__(self, host=None, user="test", password="", server=("127.0.0.1", 8080), origin="", path="/ws", webrtc=False,
                 **kw):
        kw.setdefault("transport", "ws")
        self.webrtc, self._refused = webrtc, []
        self.instance = f"<urn:uuid:{token().zfill(12)[:8]}-0000-4000-8000-{os.urandom(6).hex()}>"
        self.name = token() + ".invalid"
        self.origin, self.path = origin, path
        super().__init__(host, user, password, server, **kw)

    def _connected(self):
        secure = self.transport == "wss"
        authority = f"{self.server[0]}:{self.server[1]}"
        origin = self.origin or ("https://" if secure else "http://") + authority
        self.web = WebSocket(self.socket, authority, self.path, origin)
        assert self.web.open, self.web.response
        self._write_lock = threading.Lock()

    @property
    def at(self):
        return self.name

    @property
    def contact(self):
        return f"<sip:{self.user}@{self.name};transport=ws>"

    def outbound(self, reg_id=1):
        """For register(): the Contact of RFC 5626 4.2."""
        return f'<sip:{self.user}@{self.name};transport=ws;ob>;reg-id={reg_id};+sip.instance="{self.instance}"'

    def _take(self, text, source):
        message = Message(text)
        if message.method == "INVITE" and "UDP/TLS/RTP/SAVPF" in message.body and not self.webrtc:
            self.reply(message, 488)
            self._refused.append(message.get("via"))
        elif message.method != "ACK" or message.get("via") not in self._refused:
            super()._take(text, source)

    def _send_stream(self, data, timeout=10):
        with self._write_lock:
            super()._send_stream(frame(TEXT, data), timeout)

    def _read(self):
        while self._open:
            try:
                data, _ = self._receive()
            except TimeoutError:
                continue
            except (OSError, ValueError):
                return
            if not data:
                self._open = False
                return
            self.web.buffer += data
            while (got := self.web.parse()) is not None:
                opcode, payload = got
                if opcode == PING:
                    self.web.pings += 1
                    super()._send_stream(frame(PONG, payload))
                elif opcode == CLOSE:
                    self.web.code = int.from_bytes(payload[:2], "big")
                elif payload.strip():
                    self._take(payload.decode("utf-8", "replace"), None)
