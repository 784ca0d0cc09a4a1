"""Thousands of phones that register, and a PBX quick enough for them: one thread each, one socket a phone, RFC 3261's retransmissions.

Every phone has an address of its own on loopback (127.x.y.z), so that kedge sees as many sources as phones."""
import heapq
import hashlib
import re
import select
import socket
import threading
import time

from .hosts import socket_in

T1, T2, TIMER_F = 0.5, 4.0, 32.0  # RFC 3261 17.1.2.2


def _md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def _header(text, name):
    found = re.search(rf"^{name}: *(.*?)\r?$", text, re.M | re.I)
    return found.group(1) if found else ""


class Phone:
    def __init__(self, crowd, number):
        self.crowd, self.number = crowd, number
        self.user = f"u{number}"
        self.ip = f"127.{2 + number // 40000}.{number // 200 % 200 + 1}.{number % 200 + 1}"
        self.socket = socket_in(crowd.host)
        self.socket.bind((self.ip, 5060))
        self.socket.setblocking(False)
        self.cseq, self.nc = 0, 0
        self.challenge = None
        self.asked = self.wait = self.since = None  # the request that waits for its answer
        self.due = None  # when to send it (again); None: at rest
        self.registered = False

    def request(self):
        self.cseq += 1
        domain, extra = self.crowd.domain, ""
        if self.challenge:
            self.nc += 1
            realm, nonce = (re.search(rf'{name}="([^"]*)"', self.challenge).group(1) for name in ("realm", "nonce"))
            ha1, ha2 = _md5(f"{self.user}:{realm}:word"), _md5(f"REGISTER:sip:{domain}")
            proof = _md5(f"{ha1}:{nonce}:{self.nc:08x}:c:auth:{ha2}")
            extra = (f'Authorization: Digest username="{self.user}", realm="{realm}", nonce="{nonce}", uri="sip:{domain}", '
                     f'algorithm=MD5, qop=auth, nc={self.nc:08x}, cnonce="c", response="{proof}"\r\n')
        self.asked = (f"REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {self.ip}:5060;rport;branch=z9hG4bK{self.number}."
                      f"{self.cseq}\r\nMax-Forwards: 70\r\nFrom: <sip:{self.user}@{domain}>;tag=t\r\nTo: <sip:{self.user}@{domain}>\r\n"
                      f"Call-ID: {self.number}@crowd\r\nCSeq: {self.cseq} REGISTER\r\nContact: <sip:{self.user}@{self.ip}:5060>\r\n"
                      f"Expires: 600\r\n{extra}Content-Length: 0\r\n\r\n").encode()
        self.wait, self.since = T1, None

    def send(self, now):
        """(Again); timer E until timer F."""
        if self.asked is None:
            self.request()
        if self.since is None:
            self.since = now
        elif now - self.since > TIMER_F:
            self.crowd.count["silence"] += 1
            self.asked = None
            return now + 1
        try:
            self.socket.sendto(self.asked, self.crowd.server)
        except BlockingIOError:
            return now + 0.05
        self.crowd.count["sent"] += 1
        self.wait, wait = min(2 * self.wait, T2), self.wait
        return now + wait

    def hear(self, text, now):
        """When to send next, or None."""
        if not text.startswith("SIP/2.0") or int(_header(text, "CSeq").split()[0]) != self.cseq or self.asked is None:
            return self.due
        status = int(text[8:11])
        if status < 200:
            return self.due
        self.crowd.count[status] = self.crowd.count.get(status, 0) + 1
        self.asked = None
        if status == 401:
            self.challenge, self.nc = _header(text, "WWW-Authenticate"), 0
            return now
        if status == 200:
            self.registered = True
            self.crowd.done += 1
            return None
        if status == 503:
            after = int(_header(text, "Retry-After") or 0)
            self.crowd.retry_after.append(after)
            self.crowd.comes_back.append(int(now + after))
            return now + max(1, after)
        self.crowd.failed.append((self.user, text.split("\r\n")[0]))
        return None


class Crowd:
    """phones on host (a namespace of their own), registering at server."""

    def __init__(self, host, server, phones, domain="kedge.test"):
        self.host, self.server, self.domain = host, server, domain
        self.count, self.done, self.failed = {"sent": 0, "silence": 0}, 0, []
        self.retry_after, self.comes_back = [], []  # of each 503: seconds, and when that is
        self.phones = [Phone(self, i) for i in range(phones)]
        self._by_fd = {p.socket.fileno(): p for p in self.phones}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)

    def register(self, within, timeout):
        """All of them, starting within so many seconds, until the last is registered. Returns the seconds that it took."""
        start = time.monotonic()
        self.count, self.done, self.failed = {"sent": 0, "silence": 0}, 0, []
        self.retry_after, self.comes_back = [], []
        due = []
        for i, phone in enumerate(self.phones):
            phone.registered, phone.asked = False, None
            phone.due = start + within * i / len(self.phones)
            heapq.heappush(due, (phone.due, i))
        while self.done + len(self.failed) < len(self.phones) and time.monotonic() - start < timeout:
            now = time.monotonic()
            while due and due[0][0] <= now:
                at, i = heapq.heappop(due)
                phone = self.phones[i]
                if phone.due != at:
                    continue  # answered, or put off, since
                phone.due = phone.send(now)
                heapq.heappush(due, (phone.due, i))
            for fd, _ in self._poll.poll(max(0, min(0.02, due[0][0] - now)) if due else 0.02, 512):
                phone = self._by_fd[fd]
                try:
                    text = phone.socket.recv(4096).decode("latin-1")
                except BlockingIOError:
                    continue
                phone.due = phone.hear(text, time.monotonic())
                if phone.due is not None:
                    heapq.heappush(due, (phone.due, phone.number))
        return time.monotonic() - start

    def close(self):
        self._poll.close()
        for phone in self.phones:
            phone.socket.close()


class QuickPbx:
    """Challenges, then says 200 to whoever answers; checks no password. registers: how many it was asked, not counting what was
    only sent again because it is slow."""

    def __init__(self, host, address, seconds=3600):
        self.host, self.address, self.seconds = host, address, seconds
        self._asked, self.contacts = set(), {}
        self.socket = socket_in(host)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(address)
        self.socket.settimeout(0.1)
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def registers(self):
        return len(self._asked)

    def _serve(self):
        while self._open:
            try:
                data, source = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            text = data.decode("latin-1")
            if text.startswith("SIP/2.0"):
                continue
            status, extra = "200 OK", ""
            if text.startswith("REGISTER"):
                self._asked.add(re.search(r"^Via:.*?;branch=([^;\s]+)", text, re.M).group(1))
                if "\r\nAuthorization:" in text:
                    contact = re.search(r"^Contact: *(<[^>]*>)", text, re.M).group(1)
                    self.contacts[contact] = self.contacts.get(contact, 0) + 1
                    extra = f"Contact: {contact};expires={self.seconds}\r\n"
                else:
                    status = "401 Unauthorized"
                    extra = 'WWW-Authenticate: Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"\r\n'
            lines = [line for line in text.split("\r\n") if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))]
            to = _header(text, "To") + ";tag=pbx"
            self.socket.sendto(("\r\n".join([f"SIP/2.0 {status}", *lines, f"To: {to}", ""]) + extra +
                                "Content-Length: 0\r\n\r\n").encode("latin-1"), source)

    def close(self):
        self._open = False
        self._thread.join(30)
        self.socket.close()
