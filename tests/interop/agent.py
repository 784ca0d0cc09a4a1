"""A SIP user agent for tests, by hand: sends exactly what a test says, answers what a test wants answered.

For phones that do the usual, use phone.py (baresip); this one is for the precise and the unusual: digest games, retransmissions,
odd SDP, several dialogs, RTP by the packet. UDP, TCP and TLS.
"""
import hashlib
import itertools
import math
import os
import queue
import re
import select
import socket
import ssl
import struct
import threading
import time

from .ear import DECODE
from .hosts import Host, patient, socket_in, until

COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type"}
_ids = itertools.count(1)


def token():
    return f"{os.getpid():x}{next(_ids):x}{os.urandom(4).hex()}"


class Message:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        lines = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
        self.start = lines[0]
        self.headers = [(n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
        self.headers = [(COMPACT.get(n, n), v) for n, v in self.headers]
        self.source = None
        self.at = time.monotonic()

    def all(self, name):
        return [v for n, v in self.headers if n == name.lower()]

    def get(self, name, default=""):
        return next(iter(self.all(name)), default)

    @property
    def status(self):
        return int(self.start.split(" ")[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self):
        return "" if self.status else self.start.split(" ")[0]

    @property
    def uri(self):
        return "" if self.status else self.start.split(" ")[1]

    @property
    def cseq(self):
        number, _, method = self.get("cseq").partition(" ")
        return int(number), method.strip()

    @property
    def transaction(self):
        """RFC 3261 17.2.3."""
        branch = re.search(r";\s*branch=([^;\s,]+)", self.get("via"))
        return branch.group(1) if branch else "", self.method

    def tag(self, name):
        found = re.search(r";\s*tag=([^;\s>]+)", self.get(name))
        return found.group(1) if found else ""

    def contact(self):
        found = re.search(r"<([^>]*)>", self.get("contact"))
        return found.group(1) if found else self.get("contact").partition(";")[0]

    def media(self):
        """(host, port) of the first m-line with its own or the session's c=."""
        host = re.findall(r"^c=IN IP[46] (\S+)", self.body, re.M)
        port = re.search(r"^m=\w+ (\d+)", self.body, re.M)
        return (host[-1], int(port.group(1))) if host and port else None

    def __repr__(self):
        return self.start


def sdp(host, port, codecs=(0, 8), direction="sendrecv", extra="", version=1):
    family = 6 if ":" in host else 4
    names = {0: "PCMU/8000", 8: "PCMA/8000", 9: "G722/8000", 101: "telephone-event/8000"}
    return (f"v=0\r\no=test 1 {version} IN IP{family} {host}\r\ns=-\r\nc=IN IP{family} {host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP {' '.join(map(str, codecs))}\r\n"
            + "".join(f"a=rtpmap:{c} {names[c]}\r\n" for c in codecs) + f"a={direction}\r\n{extra}")


def digest(challenge, user, password, method, uri, nc=1, cnonce=None, algorithm=None):
    """The Authorization header's value for one WWW-Authenticate or Proxy-Authenticate value."""
    p = {k.lower(): v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|[^,\s]+)', challenge)}
    algorithm = algorithm or p.get("algorithm", "MD5")
    def h(text):
        return (hashlib.sha256 if algorithm.upper().startswith("SHA-256") else hashlib.md5)(text.encode()).hexdigest()
    cnonce = cnonce or token()
    ha1, ha2 = h(f"{user}:{p['realm']}:{password}"), h(f"{method}:{uri}")
    out = f'Digest username="{user}", realm="{p["realm"]}", nonce="{p["nonce"]}", uri="{uri}", algorithm={algorithm}'
    nonce, count = p["nonce"], f"{nc:08x}"
    if "qop" in p:
        proof = h(f"{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}")
        out += f', qop=auth, nc={count}, cnonce="{cnonce}", response="{proof}"'
    else:
        proof = h(f"{ha1}:{nonce}:{ha2}")
        out += f', response="{proof}"'
    return out + (f', opaque="{p["opaque"]}"' if "opaque" in p else "")


def silence_ms(packets, start, end):
    """packets: (monotonic, sequence number) of one stream. Its longest row of missing packets, or its longest silence beyond the second for
    which a machine with other work to do may stand still."""
    packets = [p for p in packets if start <= p[0] <= end]
    times, numbers = [start, *(at for at, _ in packets), end], [number for _, number in packets]
    missing = [((b - a - 1) & 0xFFFF) * 20 for a, b in zip(numbers, numbers[1:]) if (b - a) & 0xFFFF < 0x8000 and a != b]
    return max(max(missing, default=0), max(b - a for a, b in zip(times, times[1:])) * 1000 - 1000)


class Rtp:
    """One RTP socket that plays a tone in PCMU and counts what comes. codec: payload type 0 or 8."""

    def __init__(self, host, ip=None, hz=440, codec=0):
        self.ip = ip or host.addr
        self.socket = socket_in(host, socket.AF_INET6 if ":" in self.ip else socket.AF_INET)
        while True:
            self.socket.bind((self.ip, 0))
            self.port = self.socket.getsockname()[1]
            break
        self.socket.settimeout(0.05)
        self.codec, self.hz = codec, hz
        self.received = []  # (monotonic, source, packet)
        self.sent = []      # (monotonic, sequence number)
        self.to = None
        self.seq, self.ssrc = 100, int.from_bytes(os.urandom(4), "big")
        self._open = True
        self._frame = self._encode()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._play, daemon=True).start()

    def _encode(self):
        table = DECODE[self.codec]
        samples = [8000 * math.sin(2 * math.pi * self.hz * i / 8000) for i in range(160)]  # hz: a multiple of 50
        return bytes(min(range(256), key=lambda b, s=s: abs(table[b] - s)) for s in samples)

    def packet(self):
        self.seq = (self.seq + 1) & 0xFFFF
        return struct.pack("!BBHII", 0x80, self.codec, self.seq, self.seq * 160, self.ssrc) + self._frame

    def _play(self):
        due = time.monotonic()
        while self._open:
            if self.to:
                at = time.monotonic()  # before it can be heard
                try:
                    self.socket.sendto(self.packet(), self.to)
                    self.sent.append((at, self.seq))
                except OSError:
                    pass
            due = max(due + 0.02, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))

    def _read(self):
        while self._open:
            try:
                data, source = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            self.received.append((time.monotonic(), source, data))

    def got(self, since=0.0, ms=0, timeout=20):
        """Whether audio of at least ms (20 ms a packet) came since then."""
        def enough():
            return sum(at >= since for at, _, _ in self.received) * 20 > ms
        return bool(until(enough, timeout))

    def gap_ms(self, start, end):
        """The longest silence between two monotonic times."""
        times = [start] + [at for at, _, _ in self.received if start <= at <= end] + [end]
        return max(b - a for a, b in zip(times, times[1:])) * 1000

    def lost_ms(self, sender, start, end):
        """The longest row of packets that another Rtp sent between two monotonic times and that did not come: no time in which this
        machine let either of them wait."""
        came = {int.from_bytes(data[2:4], "big") for at, _, data in self.received if at >= start - 0.1}
        longest = row = 0
        for seq in (seq for at, seq in sender.sent if start <= at <= end):
            row = 0 if seq in came else row + 1
            longest = max(longest, row)
        return longest * 20

    def close(self):
        self._open = False
        self.socket.close()


class Agent:
    def __init__(self, host=None, user="test", password="", server=("127.0.0.1", 5060), domain="kedge.test", port=0,
                 transport="udp", ip=None):
        self.host = host or Host()
        self.user, self.password, self.server, self.domain, self.transport = user, password, server, domain, transport
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.ip = ip or (self.host.ip6 if family == socket.AF_INET6 else self.host.addr)
        self.socket = socket_in(self.host, family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        if transport != "udp":  # where it would let two share a port that the kernel chooses
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((self.ip, port))
        if transport != "udp":
            self.socket.settimeout(10)
            self.socket.connect(server)
            if transport in ("tls", "wss"):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self.socket = context.wrap_socket(self.socket, server_hostname=domain)
            self._connected()
        self._tls_lock = threading.Lock()  # OpenSSL lets one thread at a time into a connection
        self.socket.settimeout(0.1)
        self.port = self.socket.getsockname()[1]
        self.requests = queue.Queue()  # what came and was not answered by itself
        self.log = []                  # every message received
        self._responses = {}           # (call-id, cseq number, method) -> queue
        self._said = {}                # transaction -> final response
        self._cseq = itertools.count(1)
        self.answer_options = True
        self.challenge = None          # last one, for games with nonces
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self):
        """The thread goes first: a socket in recv would keep its port."""
        self._open = False
        if self._thread is not threading.current_thread():
            self._thread.join(30)
        self.socket.close()

    def _connected(self):
        """What goes before SIP on a stream (web.py)."""

    @property
    def at(self):
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def contact(self):
        return f"<sip:{self.user}@{self.at};transport={self.transport}>"

    # Wire

    def send(self, text, to=None):
        data = text.encode() if isinstance(text, str) else text
        if self.transport == "udp":
            self.socket.sendto(data, to or self.server)
        else:
            self._send_stream(data)

    def _send_stream(self, data, timeout=10):
        """All of it, also to a peer that is slow to read: the socket's own timeout is the reader's."""
        end = time.monotonic() + timeout
        with self._tls_lock:
            while data:
                try:
                    data = data[self.socket.send(data):]
                except TimeoutError:
                    if time.monotonic() > end:
                        raise

    def _receive(self):
        if self.transport == "udp":
            return self.socket.recvfrom(65536)
        if self.transport in ("tls", "wss"):
            if not self.socket.pending() and not select.select([self.socket], [], [], 0.1)[0]:
                raise TimeoutError
            with self._tls_lock:
                return self.socket.recv(65536), None
        return self.socket.recv(65536), None

    def _read(self):
        stream = b""
        while self._open:
            try:
                data, source = self._receive()
            except TimeoutError:
                continue
            except (OSError, ValueError):
                return
            if self.transport == "udp":
                if data.strip(b"\r\n\0"):
                    self._take(data.decode("utf-8", "replace"), source)
                continue
            if not data:
                self._open = False
                return
            stream += data
            while True:
                stream = stream.lstrip(b"\r\n")
                head, end, rest = stream.partition(b"\r\n\r\n")
                length = re.search(rb"^(?:content-length|l)\s*:\s*(\d+)", head, re.M | re.I)
                if not end or len(rest) < int(length.group(1) if length else 0):
                    break
                size = len(head) + 4 + int(length.group(1) if length else 0)
                self._take(stream[:size].decode("utf-8", "replace"), None)
                stream = stream[size:]

    def _is_again(self, message):
        """A request that was sent again before its final response was there, since this machine was slow: that goes out once more."""
        said = self._said.get(message.transaction) if self.transport == "udp" and message.method else None
        if said:
            self.send(said, message.source)
        return said is not None

    def _take(self, text, source):
        message = Message(text)
        message.source, message.size = source, len(text.encode())
        if self._is_again(message):
            return
        self.log.append(message)
        if message.status:
            key = (message.get("call-id"), *message.cseq)
            self._responses.setdefault(key, queue.Queue()).put(message)
        elif message.method == "OPTIONS" and self.answer_options:
            self.reply(message, 200)
        else:
            self.requests.put(message)

    # Requests

    def build(self, method, uri, headers=(), body="", call_id=None, cseq=None, to=None, from_tag=None, branch=None,
              max_forwards=70, from_user=None):
        names = {h.partition(":")[0].lower() for h in headers}
        lines = [f"{method} {uri} SIP/2.0",
                 f"Via: SIP/2.0/{self.transport.upper()} {self.at};rport;branch={branch or 'z9hG4bK' + token()}"]
        if max_forwards is not None:
            lines.append(f"Max-Forwards: {max_forwards}")
        lines += [f"From: <sip:{from_user or self.user}@{self.domain}>;tag={from_tag or token()}",
                  f"To: {to or '<' + uri + '>'}", f"Call-ID: {call_id or token()}",
                  f"CSeq: {cseq or next(self._cseq)} {method}"]
        if "contact" not in names and method in ("INVITE", "REGISTER"):
            lines.append(f"Contact: {self.contact}")
        lines += headers
        if body and "content-type" not in names:
            lines.append("Content-Type: application/sdp")
        return "\r\n".join(lines + [f"Content-Length: {len(body.encode())}", "", body])

    def transact(self, text, timeout=8, provisional=None):
        """Sends a request (and again, on UDP) until its final response. Returns it, or None. provisional: a list that
        collects 1xx."""
        message = Message(text)
        key = (message.get("call-id"), *message.cseq)
        responses = self._responses.setdefault(key, queue.Queue())
        end, wait, heard = patient() + timeout, 0.5, False
        self.send(text)
        while patient() < end:
            try:
                response = responses.get(timeout=min(wait, max(0.01, end - patient())))
            except queue.Empty:
                if not self._open:  # its connection was closed: nothing comes any more
                    break
                if self.transport == "udp" and not heard:
                    self.send(text)
                    wait = 2 * wait if message.method == "INVITE" else min(2 * wait, 4)  # RFC 3261 17.1.2.2
                continue
            heard = True
            if response.status >= 200:
                return response
            if provisional is not None:
                provisional.append(response)
        return None

    def request(self, method, uri, headers=(), body="", auth=True, **kw):
        """A request with the digest where it is asked for. Returns the final response (None: silence)."""
        transact = {k: kw.pop(k) for k in ("timeout", "provisional") if k in kw}
        kw.setdefault("call_id", token())
        kw.setdefault("from_tag", token())
        cseq = kw.pop("cseq", None) or next(self._cseq)
        text = self.build(method, uri, headers, body, cseq=cseq, **kw)
        response = self.transact(text, **transact)
        if response is not None and method == "INVITE" and response.status >= 300:
            self._ack_refusal(text, response)
        if response is None or response.status not in (401, 407) or not auth:
            self.sent = text
            return response
        name = "WWW-Authenticate" if response.status == 401 else "Proxy-Authenticate"
        self.challenge = response.get(name)
        value = digest(self.challenge, self.user, self.password, method, uri)
        header = ("Authorization: " if response.status == 401 else "Proxy-Authorization: ") + value
        text = self.build(method, uri, [*headers, header], body, cseq=max(next(self._cseq), cseq + 1), **kw)
        self.sent = text
        response = self.transact(text, **transact)
        if response is not None and method == "INVITE" and response.status >= 300:
            self._ack_refusal(text, response)
        return response

    def _ack_refusal(self, text, response):
        sent = Message(text)
        self.send("\r\n".join([f"ACK {sent.uri} SIP/2.0", "Via: " + sent.get("via"), "Max-Forwards: 70",
                               "From: " + sent.get("from"), "To: " + response.get("to"), "Call-ID: " + sent.get("call-id"),
                               f"CSeq: {sent.cseq[0]} ACK", "Content-Length: 0", "", ""]))

    def register(self, expires=300, contact=None, headers=(), **kw):
        return self.request("REGISTER", f"sip:{self.domain}", [f"Contact: {contact or self.contact}",
                            f"Expires: {expires}", *headers], to=f"<sip:{self.user}@{self.domain}>", **kw)

    # Responses

    def reply(self, request, status, body="", headers=(), tag=None, reason="Answer"):
        to = request.get("to")
        if "tag=" not in to and status > 100:
            tag = tag or getattr(request, "our_tag", None) or token()
            request.our_tag = tag
            to += f";tag={tag}"
        lines = [f"SIP/2.0 {status} {reason}", *("Via: " + v for v in request.all("via")),
                 *("Record-Route: " + v for v in request.all("record-route")), "From: " + request.get("from"), "To: " + to,
                 "Call-ID: " + request.get("call-id"), "CSeq: " + request.get("cseq")]
        if 100 < status < 300 and request.method in ("INVITE", "UPDATE"):
            lines.append(f"Contact: {self.contact}")
        lines += headers
        if body and not any(h.lower().startswith("content-type:") for h in headers):
            lines.append("Content-Type: application/sdp")
        text = "\r\n".join(lines + [f"Content-Length: {len(body.encode())}", "", body])
        if status >= 200:
            self._said[request.transaction] = text
        self.send(text, request.source)
        return text

    def expect(self, method, timeout=8):
        """The next request that came, of this method; of those already taken, retransmissions are told apart once they are answered."""
        end = patient() + timeout
        seen = []
        while patient() < end:
            try:
                request = self.requests.get(timeout=max(0.01, end - patient()))
            except queue.Empty:
                continue
            if self.transport == "udp" and request.transaction in self._said:
                continue
            if request.method == method:
                return request
            seen.append(request.start)
        raise AssertionError(f"{self.user}: no {method} within {timeout} s; saw {seen}")

    def expect_unless(self, method, take):
        """The same, or None if the answer that take (background()) waits for is there first."""
        seen = []
        while not take.done() or not self.requests.empty():
            try:
                request = self.requests.get(timeout=0.02)
            except queue.Empty:
                continue
            if request.method == method and request.transaction not in self._said:
                return request
            seen.append(request.start)
        return None

    def quiet(self, method, seconds=1.0):
        """True if no such request comes for this long."""
        try:
            self.expect(method, seconds)
            return False
        except AssertionError:
            return True


class Dialog:
    """One call of an agent, either side. rtp: an Rtp whose address is offered."""

    def __init__(self, agent, rtp=None):
        self.agent, self.rtp = agent, rtp
        self.call_id, self.local_tag = token(), token()
        self.local = self.remote = self.target = None
        self.routes = []
        self.cseq = 0
        self.invite = self.ok = None
        self.version = 0

    def body(self, **kw):
        self.version += 1
        return sdp(self.rtp.ip, self.rtp.port, version=self.version, **kw) if self.rtp else ""

    def call(self, who, timeout=12, ack=True, **kw):
        """INVITE (with digest) to a final response; on 200 ACKs and lets the RTP flow. Returns the response."""
        uri = who if who.startswith("sip:") else f"sip:{who}@{self.agent.domain}"
        provisional = kw.pop("provisional", [])
        body = kw.pop("body", None)
        response = self.agent.request("INVITE", uri, kw.pop("headers", ()), self.body(**kw) if body is None else body,
                                      call_id=self.call_id, from_tag=self.local_tag, timeout=timeout,
                                      provisional=provisional)
        self.provisional = provisional
        if response is not None and response.status == 200:
            self.cseq = response.cseq[0]
            self.ok = response
            self.local, self.remote = response.get("from"), response.get("to")
            self.target = response.contact()
            self.routes = list(reversed(response.all("record-route")))
            if ack:
                self.ack()
            self._listen(response)
        return response

    def _listen(self, message):
        if self.rtp and message.media() and message.media()[1]:
            self.rtp.to = message.media()

    def answer(self, request, status=200, body=None, ack=True, headers=(), **kw):
        """Answers an INVITE that expect() gave; takes the ACK."""
        self.invite = request
        text = self.agent.reply(request, status, self.body(**kw) if body is None else body, headers)
        self.call_id = request.get("call-id")
        self.local, self.remote = Message(text).get("to"), request.get("from")
        self.target = request.contact()
        self.routes = request.all("record-route")
        self._listen(request)
        return self.agent.expect("ACK") if ack else None

    def request(self, method, headers=(), body="", send_only=False, cseq=None, timeout=8, auth=False):
        """auth: a 407 is answered with the agent's own password, as phones do."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        via = f"Via: SIP/2.0/{self.agent.transport.upper()} {self.agent.at};rport;branch=z9hG4bK{token()}"
        lines = [f"{method} {self.target} SIP/2.0", via, *("Route: " + r for r in self.routes), "Max-Forwards: 70",
                 "From: " + self.local, "To: " + self.remote, "Call-ID: " + self.call_id, f"CSeq: {cseq} {method}"]
        if method in ("INVITE", "UPDATE"):
            lines.append("Contact: " + self.agent.contact)
        lines += headers
        if body and not any(h.lower().startswith("content-type:") for h in headers):
            lines.append("Content-Type: application/sdp")
        text = "\r\n".join(lines + [f"Content-Length: {len(body.encode())}", "", body])
        self.sent = text
        if send_only:
            self.agent.send(text)
            return None
        response = self.agent.transact(text, timeout)
        if auth and response is not None and response.status == 407:
            if method == "INVITE":
                self.agent._ack_refusal(text, response)
            value = digest(response.get("Proxy-Authenticate"), self.agent.user, self.agent.password, method, self.target)
            return self.request(method, [*headers, "Proxy-Authorization: " + value], body, timeout=timeout, auth=False)
        return response

    def authorized(self, method, challenge, body="", password=None):
        """The request once more, with what a 407 asked for."""
        value = digest(challenge.get("Proxy-Authenticate"), self.agent.user, password or self.agent.password, method,
                       self.target)
        return self.request(method, ["Proxy-Authorization: " + value], body)

    def ack(self):
        self.request("ACK", send_only=True, cseq=self.cseq)

    def reinvite(self, timeout=8, body=None, auth=False, **kw):
        response = self.request("INVITE", body=self.body(**kw) if body is None else body, timeout=timeout, auth=auth)
        if response is not None and response.status < 300:
            self.ack()
            self._listen(response)
        elif response is not None:
            self.agent._ack_refusal(self.sent, response)
        return response

    def update(self, timeout=8, body=None, **kw):
        response = self.request("UPDATE", body=self.body(**kw) if body is None else body, timeout=timeout)
        if response is not None and response.status < 300:
            self._listen(response)
        return response

    def bye(self, auth=False):
        response = self.request("BYE", auth=auth)
        if self.rtp:
            self.rtp.to = None
        return response


def talk(caller, callee, rtp_a, rtp_b):
    """A call between two registered agents, answered, audio in both directions. Returns both dialogs."""
    a, b = Dialog(caller, rtp_a), Dialog(callee, rtp_b)
    result = []
    thread = threading.Thread(target=lambda: result.append(a.call(callee.user)))
    thread.start()
    request = callee.expect("INVITE")
    callee.reply(request, 180)
    b.answer(request)
    thread.join()
    assert result[0] is not None and result[0].status == 200, f"the call was answered with {result[0]}"
    if rtp_a and rtp_b:
        assert rtp_a.got(ms=100) and rtp_b.got(ms=100), "no audio after the answer"
    return a, b
