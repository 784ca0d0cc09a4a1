"""Makes and ends many calls through a SIP server, both ends played by one thread, and says where the media goes."""
import base64
import re
import select
import socket

from interop.agent import digest
from interop.hosts import socket_in

SDP = ("v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"
       "a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n")
# What ice.h of rtpload answers and asks with.
ICE = [f"a=rtcp-mux\r\na=ice-ufrag:load{side}\r\na=ice-pwd:loadPasswordOfSide{side}00000\r\n"
       "a=candidate:1 1 UDP 2130706431 {0} {1} typ host\r\n" for side in "AB"]
# What rtpload -s protects with: zeros.
KEY_BYTES = {"AES_CM_128_HMAC_SHA1_80": 30, "AEAD_AES_128_GCM": 28}
WINDOW = 50  # calls in set-up at once
PORT_A, PORT_B = 10000, 20000  # one socket of rtpload a side: a relay tells calls apart by its own ports


def header(text, name):
    return re.findall(rf"^{name}\s*:\s*(.*?)\r$", text, re.M | re.I)


def media_of(text):
    """(host, port) of the first m-line."""
    host = re.search(r"^c=IN IP[46] (\S+)", text, re.M).group(1)
    return host, int(re.search(r"^m=audio (\d+)", text, re.M).group(1))


def relay_of(text, ice, srtp=None, dtls=None):
    """What rtpload has to know of one side: "HOST PORT", with ICE also the ufrag and pwd that belong to it, with SRTP the suite
    and the key, with DTLS (dtlsload) the fingerprint."""
    words = [*map(str, media_of(text))]
    if dtls:
        assert re.search(r"^a=setup:passive\r$", text, re.M), text
        words.append(re.search(r"^a=fingerprint:sha-256 (\S+)", text, re.M | re.I).group(1))
    if srtp:
        words += re.search(r"^a=crypto:\d+ (\S+) inline:([^\s|]+)", text, re.M).groups()
    if ice:
        words += [re.search(rf"^a=ice-{name}:(\S+)", text, re.M).group(1) for name in ("ufrag", "pwd")]
    return " ".join(words)


class Calls:
    """ice: both ends offer and answer ICE. account: (user, password) of a registrar where both ends register and with which
    they call; the callee's user is the same with -b behind it, and it registers at `back`. srtp: the suite that the callers
    offer (SDES); the callees speak plain RTP. dtls: the fingerprint that they offer instead, as clients."""

    def __init__(self, caller_host, callee_host, server, callee_port=5090, ice=False, account=None, back=None,
                 domain="kedge.test", srtp=None, dtls=None):
        self.server, self.back, self.srtp, self.dtls = server, back, srtp, dtls
        self.ice, self.account, self.domain = ice, account, domain
        self.ends = []
        for host, port in ((caller_host, 5080), (callee_host, callee_port)):
            s = socket_in(host)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            s.bind((host.addr, port))
            self.ends.append(s)
        self.hosts = (caller_host.addr, callee_host.addr)
        self.relay = {}   # call -> [relay_of for A, for B]
        self.dialog = {}  # call -> (next URI, route headers, To)
        self.ended = set()

    def close(self):
        for s in self.ends:
            s.close()

    def _request(self, method, i, seq, uri, routes="", to=None, body="", extra="", branch=None):
        host = self.hosts[0]
        user = self.account[0] if self.account else "load"
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5080;rport;branch=z9hG4bK{branch or method}{i}-{seq}\r\n{routes}"
                f"Max-Forwards: 70\r\nFrom: <sip:{user}@{self.domain}>;tag=a{i}\r\nTo: {to or f'<{uri}>'}\r\n"
                f"Call-ID: load{i}@{host}\r\nCSeq: {seq} {method}\r\nContact: <sip:{user}@{host}:5080>\r\n{extra}"
                + ("Content-Type: application/sdp\r\n" if body else "") + f"Content-Length: {len(body)}\r\n\r\n{body}")
        self.ends[0].sendto(text.encode(), self.server)

    def _body(self, side, i):
        host, port = self.hosts[side], (PORT_A, PORT_B)[side]
        text = SDP.format(host, port).replace("s=-", f"s=call{i}")
        if self.srtp and side == 0:
            key = base64.b64encode(bytes(KEY_BYTES[self.srtp])).decode()
            return text.replace("RTP/AVP", "RTP/SAVP") + f"a=crypto:1 {self.srtp} inline:{key}\r\n"
        if self.dtls and side == 0:
            return (text.replace("RTP/AVP", "UDP/TLS/RTP/SAVP")
                    + f"a=setup:active\r\na=fingerprint:sha-256 {self.dtls}\r\na=rtcp-mux\r\n")
        return text + ICE[side].format(host, port) if self.ice else text

    def _invite(self, i, seq=1, extra=""):
        uri = f"sip:{self.account[0]}-b@{self.domain}" if self.account else f"sip:call{i}@{self.server[0]}:{self.server[1]}"
        self._request("INVITE", i, seq, uri, body=self._body(0, i), extra=extra)

    def register(self):
        """Both ends, so that the calls come from and go to phones."""
        for side, suffix in enumerate(("", "-b")):
            user, s = self.account[0] + suffix, self.ends[side]
            host, port = s.getsockname()
            uri, extra = f"sip:{self.domain}", ""
            for seq in (1, 2):
                s.sendto((f"REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bKr{side}{seq}\r\n"
                          f"Max-Forwards: 70\r\nFrom: <sip:{user}@{self.domain}>;tag=r{side}\r\nTo: <sip:{user}@{self.domain}>"
                          f"\r\nCall-ID: r{side}@{host}\r\nCSeq: {seq} REGISTER\r\nContact: <sip:{user}@{host}:{port}>\r\n"
                          f"Expires: 3600\r\n{extra}Content-Length: 0\r\n\r\n").encode(), self.back if side else self.server)
                s.settimeout(5)
                answer = s.recv(65536).decode()
                if answer.startswith("SIP/2.0 401"):
                    extra = "Authorization: " + digest(header(answer, "WWW-Authenticate")[0], user, self.account[1],
                                                       "REGISTER", uri) + "\r\n"
            assert answer.startswith("SIP/2.0 200"), answer

    def _callee(self, text, source):
        method, uri = text.split(" ", 2)[:2]
        if method not in ("INVITE", "BYE", "OPTIONS"):
            return
        copied = "".join(f"{n}: {v}\r\n" for n in ("Via", "Record-Route", "From", "Call-ID", "CSeq") for v in header(text, n))
        to, body = header(text, "To")[0], ""
        if method == "INVITE":
            i = int(re.search(r"^s=call(\d+)", text, re.M).group(1))
            if "tag=" not in to:
                to += f";tag=b{i}"
            assert not (self.srtp or self.dtls) or "RTP/AVP" in text and "a=crypto" not in text, text
            self.relay.setdefault(i, [None, None])[1] = relay_of(text, self.ice)
            body = self._body(1, i)
        host, port = self.ends[1].getsockname()
        self.ends[1].sendto((f"SIP/2.0 200 OK\r\n{copied}To: {to}\r\nContact: <sip:callee@{host}:{port}>\r\n"
                             + ("Content-Type: application/sdp\r\n" if body else "")
                             + f"Content-Length: {len(body)}\r\n\r\n{body}").encode(), source)

    def _caller(self, text):
        status = int(text.split(" ", 2)[1])
        if not text.startswith("SIP/2.0 ") or status < 200:
            return
        i = int(re.search(r"load(\d+)@", header(text, "Call-ID")[0]).group(1))
        if "BYE" in header(text, "CSeq")[0]:
            self.ended.add(i)
            return
        if status in (401, 407) and self.account:
            uri, to = f"sip:{self.account[0]}-b@{self.domain}", header(text, "To")[0]
            self._request("ACK", i, 1, uri, to=to, branch="INVITE")
            name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
            answer = digest(header(text, name)[0], *self.account, "INVITE", uri)
            self._invite(i, 2, f"{'' if status == 401 else 'Proxy-'}Authorization: {answer}\r\n")
            return
        assert status == 200, f"call {i} was refused: {text.splitlines()[0]}"
        uri = re.search(r"<([^>]*)>", header(text, "Contact")[0]).group(1)
        routes = "".join(f"Route: {r.strip()}\r\n" for line in reversed(header(text, "Record-Route"))
                         for r in reversed(line.split(",")))
        self.dialog[i] = (uri, routes, header(text, "To")[0])
        self.relay.setdefault(i, [None, None])[0] = relay_of(text, self.ice, self.srtp, self.dtls)
        self._request("ACK", i, int(header(text, "CSeq")[0].split()[0]), uri, routes, self.dialog[i][2])

    def _pump(self, timeout):
        ready, _, _ = select.select(self.ends, [], [], timeout)
        for s in ready:
            data, source = s.recvfrom(65536)
            text = data.decode("utf-8", "replace")
            if s is self.ends[1] and not text.startswith("SIP/2.0"):
                self._callee(text, source)
            elif s is self.ends[0] and text.startswith("SIP/2.0"):
                self._caller(text)
        return bool(ready)

    def make(self, count):
        """Sets calls up until there are `count`; returns their relay addresses as rtpload's lines."""
        started, idle = len(self.dialog), 0
        while len(self.dialog) < count:
            while started < count and started - len(self.dialog) < WINDOW:
                self._invite(started)
                started += 1
            idle = 0 if self._pump(0.5) else idle + 1
            if idle > 3:  # a request was lost: again
                for i in set(range(started)) - set(self.dialog):
                    self._invite(i)
            assert idle < 12, f"only {len(self.dialog)} of {count} calls were answered"
        while self._pump(0.1):
            pass
        return "".join(" ".join(self.relay[i]) + "\n" for i in range(count))

    def end(self):
        for _ in range(4):
            waiting = [i for i in self.dialog if i not in self.ended]
            for n, i in enumerate(waiting):
                uri, routes, to = self.dialog[i]
                self._request("BYE", i, 3, uri, routes, to)
                if n % 20 == 19:
                    self._pump(0.02)
            while self._pump(0.5):
                pass
        assert len(self.ended) == len(self.dialog), f"{len(self.dialog) - len(self.ended)} calls did not end"
