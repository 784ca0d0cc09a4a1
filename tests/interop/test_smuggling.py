"""What strangers and phones write into headers stays in its header, its log line and its record; and the control API refuses what
it does not know."""
import http.client
import json
import re
import socket

import pytest

from interop.agent import Dialog
from interop.hosts import background, socket_in, until

# What ends a line for one reader or another, ends a string, formats, quotes, or is a formula to a spreadsheet.
EVIL = ("a\rInjected: 1", "a\nInjected: 1", "a\x00Injected: 1", "a\x0bInjected: 1", "a\x85Injected: 1", "\x1b[31mred\x1b]0;title\x07", "%n%s%x%d",
        "=cmd|' /C calc'!A0", "@SUM(1+1)", '"; drop table accounts; --', "{\"a\":1}", "\\r\\nInjected: 1", "%0d%0aInjected:%201", "a,b;c<d>e", "\u202egnp.exe")
USERS = ("alice", "bob")


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    records = long_stage.folder / "cdr.json"
    kedge = long_stage.kedge(server, config={"cdr": {"file": str(records)}, "log": {"level": "debug"}}, accounts={u: "pw-" + u for u in USERS})
    return kedge, [lab.public_host(u) for u in USERS], lab.public_host("stranger"), records


@pytest.fixture
def phones(world, stage):
    kedge, hosts, _, _ = world
    made = [stage.agent(h, u, "pw-" + u, (kedge.host.addr, 5060)) for h, u in zip(hosts, USERS)]
    for phone in made:
        assert phone.register().status == 200
    yield made
    for phone in made:
        phone.register(expires=0)


def is_clean(kedge, records):
    """One record an event, nothing in it that a terminal or a program would take for something else."""
    log = kedge.log()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", log), "a control character in the log"
    for line in log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", line), f"a line that kedge did not begin: {line!r}"
    if records.exists():
        for line in records.read_text(encoding="utf-8").split("\n")[:-1]:  # the last one may still be being written
            assert isinstance(json.loads(line), dict)
            assert not re.search(r"[\x00-\x1f\x7f]", line)
    for command in ("calls", "registrations", "bans"):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", kedge.ctl(command))


def place(alice, bob, headers):
    """Alice calls with these headers; what bob gets, or None."""
    call = Dialog(alice)
    result = background(call.call, "bob", headers=headers, body=SDP.format(alice.ip), timeout=20)
    request = None
    if until(lambda: result.done() or not bob.requests.empty(), 30) and not result.done():
        request = bob.expect("INVITE")
        bob.reply(request, 486)
        bob.expect("ACK")  # or the next one would find it
    answer = result()
    assert request is None or (answer is not None and answer.status == 486)
    return request


SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"


@pytest.mark.parametrize("evil", EVIL)
def test_no_header_becomes_two(world, phones, evil):
    """In headers that pass (Subject, Date), in the display name, and in a header that does not pass."""
    kedge, _, _, records = world
    alice, bob = phones
    for header in (f"Subject: {evil}", f"Organization: {evil}", f"X-Unknown: {evil}", f"User-Agent: {evil}"):
        request = place(alice, bob, [header])
        if request is None:
            continue
        names = {name for name, _ in request.headers}
        assert "injected" not in names and "x-unknown" not in names, request.headers
        assert all(re.fullmatch(r"[a-z0-9.!%*_+`'~-]+", name) for name in names), names
        assert not any(re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) for _, value in request.headers), request.headers
    is_clean(kedge, records)


@pytest.mark.parametrize("lines,value", (("Subject : spaced", "spaced"), ("Subject\t:\ttabbed", "tabbed"), ("Subject: one\r\n two", "one two"),
                                         ("Subject: one\r\n\ttwo\r\n   three", "one two three"), ("subJECT: case", "case"), ("s: compact", "compact")))
def test_unusual_ways_to_write_a_header_mean_one_thing(world, phones, lines, value):
    """`X : 1`, folding, compact names (RFC 3261 7.3): read once, written anew."""
    request = place(*phones, [lines])
    assert request is not None and [" ".join(v.split()) for v in request.all("subject")] == [value], request.headers


def test_identity_and_routes_cannot_be_smuggled(world, phones):
    """What a phone must not say of itself does not reach the other one, however it is written."""
    alice, bob = phones
    request = place(alice, bob, ["P-Asserted-Identity : <sip:boss@kedge.test>", "p-ASSERTED-identity: <sip:boss@kedge.test>", "Route : <sip:203.0.113.99;lr>",
                                 "Record-Route: <sip:203.0.113.99;lr>", "Remote-Party-ID: <sip:boss@kedge.test>"])
    names = {name for name, _ in request.headers}
    assert not names & {"p-asserted-identity", "route", "record-route", "remote-party-id"}, request.headers


@pytest.mark.parametrize("evil", EVIL)
def test_logs_and_lists_hold_what_phones_say_escaped(world, phones, evil):
    """Contact, User-Agent and the names of users, from phones that may and from strangers."""
    kedge, _, stranger, records = world
    alice, _ = phones
    alice.register(headers=[f"User-Agent: {evil}"])
    with socket_in(stranger) as s:
        for i, name in enumerate(("To", "From", "Contact", "Call-ID", "User-Agent", "Authorization")):
            headers = {"To": "<sip:x@kedge.test>", "From": "<sip:x@kedge.test>;tag=1", "Contact": "<sip:x@192.0.2.1>", "Call-ID": f"evil{i}", "User-Agent": "x",
                       "Authorization": 'Digest username="x", realm="kedge.test", nonce="n", uri="sip:kedge.test", response="0", qop=auth, nc=00000001, cnonce="c"'}
            headers[name] = {"To": f'"{evil}" <sip:{evil}@kedge.test>', "From": f'"{evil}" <sip:{evil}@kedge.test>;tag={evil}',
                             "Contact": f"<sip:{evil}@192.0.2.1>", "Authorization": headers["Authorization"].replace('"x"', f'"{evil}"', 1)}.get(name, evil)
            s.sendto(("REGISTER sip:kedge.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKe%d\r\nCSeq: 1 REGISTER\r\n" % i +
                      "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "Content-Length: 0\r\n\r\n").encode("utf-8", "surrogateescape"),
                     (kedge.host.addr, 5060))
    kedge.ctl("version")
    is_clean(kedge, records)


# The control API

class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("kedge", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(kedge, method, path, body=None):
    connection = Connection(kedge.control)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("method,path,body,status", (
    ("GET", "/", None, 404), ("GET", "/v1", None, 404), ("GET", "/v1/../v1/version", None, 404), ("GET", "/v1/calls/../../etc/passwd", None, 404),
    ("GET", "/v1/calls/%2e%2e%2f%2e%2e%2fetc%2fpasswd", None, 404), ("GET", "/v1/calls/" + "a" * 500, None, 404), ("GET", "//v1/version", None, 404),
    ("GET", "/v1/version/", None, 404), ("DELETE", "/v1/version", None, 405), ("POST", "/v1/calls", "{}", 405), ("PUT", "/v1/accounts", "{}", 405),
    ("GET", "/v1/reload", None, 405), ("POST", "/v1/accounts", "", 400), ("POST", "/v1/accounts", "{", 400), ("POST", "/v1/accounts", "[]", 400),
    ("POST", "/v1/accounts", "null", 400), ("POST", "/v1/accounts", '{"name":1,"password":[]}', 400), ("POST", "/v1/accounts", '{"name":"","password":"x"}', 400),
    ("POST", "/v1/accounts", '{"name":"a\\u0000b","password":"x"}', 400), ("POST", "/v1/accounts", '{"name":"../x","password":"x"}', 400),
    ("POST", "/v1/accounts", '{"name":"' + "a" * 300 + '","password":"x"}', 400), ("POST", "/v1/accounts", "[" * 60000, 400),
    ("DELETE", "/v1/accounts/%00", None, 404), ("DELETE", "/v1/accounts/nobody%0d%0aX:%201", None, 404), ("DELETE", "/v1/bans/203.0.113.1", None, 404),
    ("DELETE", "/v1/bans/%3Cscript%3E", None, 400)))
def test_the_api_refuses_in_words(world, method, path, body, status):
    kedge = world[0]
    got, text = ask(kedge, method, path, body)
    assert got in ((status,) if status != 405 else (405, 501)), text
    if text and got != 501:
        assert text.startswith(b'{"error"') and isinstance(json.loads(text)["error"], str)
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", text)


def test_a_body_of_more_than_64_kb_is_refused(world):
    kedge = world[0]
    for size in (65537, 10 << 20):
        try:
            status, _ = ask(kedge, "POST", "/v1/accounts", '{"name":"x","password":"' + "y" * size + '"}')
            assert status in (400, 413)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            pass
    assert ask(kedge, "GET", "/v1/version")[0] == 200
    assert "x" not in {a["name"] for a in kedge.json("account", "list")}
