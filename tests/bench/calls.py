"""Makes and ends many calls through a SIP server, both ends played by one thread, and says where the media goes."""
import re
import select
import socket

from interop.hosts import socket_in

SDP = ("v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"
       "a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n")
WINDOW = 50  # calls in set-up at once
PORT_A, PORT_B = 10000, 20000  # one socket of rtpload a side: a relay tells calls apart by its own ports


def header(text, name):
    return re.findall(rf"^{name}\s*:\s*(.*?)\r$", text, re.M | re.I)


def media_of(text):
    """(host, port) of the first m-line."""
    host = re.search(r"^c=IN IP[46] (\S+)", text, re.M).group(1)
    return host, int(re.search(r"^m=audio (\d+)", text, re.M).group(1))


class Calls:
    def __init__(self, caller_host, callee_host, server, callee_port=5090):
        self.server = server
        self.ends = []
        for host, port in ((caller_host, 5080), (callee_host, callee_port)):
            s = socket_in(host)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            s.bind((host.addr, port))
            self.ends.append(s)
        self.hosts = (caller_host.addr, callee_host.addr)
        self.relay = {}   # call -> [relay address for A, relay address for B]
        self.dialog = {}  # call -> (next URI, route headers, To)
        self.ended = set()

    def close(self):
        for s in self.ends:
            s.close()

    def _request(self, method, i, seq, uri, routes="", to=None, body=""):
        host = self.hosts[0]
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5080;rport;branch=z9hG4bK{method}{i}\r\n{routes}"
                f"Max-Forwards: 70\r\nFrom: <sip:load@{host}>;tag=a{i}\r\nTo: {to or f'<sip:call{i}@{self.server[0]}>'}\r\n"
                f"Call-ID: load{i}@{host}\r\nCSeq: {seq} {method}\r\nContact: <sip:load@{host}:5080>\r\n"
                + ("Content-Type: application/sdp\r\n" if body else "") + f"Content-Length: {len(body)}\r\n\r\n{body}")
        self.ends[0].sendto(text.encode(), self.server)

    def _callee(self, text, source):
        method, uri = text.split(" ", 2)[:2]
        if method not in ("INVITE", "BYE", "OPTIONS"):
            return
        copied = "".join(f"{n}: {v}\r\n" for n in ("Via", "Record-Route", "From", "Call-ID", "CSeq") for v in header(text, n))
        to, body = header(text, "To")[0], ""
        if method == "INVITE":
            i = int(re.search(r"call(\d+)", uri).group(1))
            if "tag=" not in to:
                to += f";tag=b{i}"
            self.relay.setdefault(i, [None, None])[1] = media_of(text)
            body = SDP.format(self.hosts[1], PORT_B)
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
        assert status == 200, f"call {i} was refused: {text.splitlines()[0]}"
        uri = re.search(r"<([^>]*)>", header(text, "Contact")[0]).group(1)
        routes = "".join(f"Route: {r.strip()}\r\n" for line in reversed(header(text, "Record-Route"))
                         for r in reversed(line.split(",")))
        self.dialog[i] = (uri, routes, header(text, "To")[0])
        self.relay.setdefault(i, [None, None])[0] = media_of(text)
        self._request("ACK", i, 1, uri, routes, self.dialog[i][2])

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
        uri = f"sip:call{{}}@{self.server[0]}:{self.server[1]}"
        started, idle = len(self.dialog), 0
        while len(self.dialog) < count:
            while started < count and started - len(self.dialog) < WINDOW:
                body = SDP.format(self.hosts[0], PORT_A)
                self._request("INVITE", started, 1, uri.format(started), body=body)
                started += 1
            idle = 0 if self._pump(0.5) else idle + 1
            if idle > 3:  # a request was lost: again
                for i in set(range(started)) - set(self.dialog):
                    self._request("INVITE", i, 1, uri.format(i), body=SDP.format(self.hosts[0], PORT_A))
            assert idle < 12, f"only {len(self.dialog)} of {count} calls were answered"
        while self._pump(0.1):
            pass
        lines = ""
        for i in range(count):
            (host_a, port_a), (host_b, port_b) = self.relay[i]
            lines += f"{host_a} {port_a} {host_b} {port_b}\n"
        return lines

    def end(self):
        for _ in range(4):
            waiting = [i for i in self.dialog if i not in self.ended]
            for n, i in enumerate(waiting):
                uri, routes, to = self.dialog[i]
                self._request("BYE", i, 2, uri, routes, to)
                if n % 20 == 19:
                    self._pump(0.02)
            while self._pump(0.5):
                pass
        assert len(self.ended) == len(self.dialog), f"{len(self.dialog) - len(self.ended)} calls did not end"
