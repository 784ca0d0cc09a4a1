"""RFC 4475 and RFC 5118: every message of both, sent as it stands over the transport that its Via names, to kedge alone and in
front of a PBX; each gets what the RFC says or its README says why not. Afterwards kedge is the same process and a call works."""
import os
import re
import socket
import ssl
import threading
import time

import pytest

from interop.agent import Message, talk
from interop.hosts import socket_in, until
from interop.kedge import PATIENCE_S

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torture")
SILENCE, TO_PBX = "silence", "pbx"

# name: (expected alone, expected in front of a PBX, why). Alone, who asks for something is asked who it is before anything
# else is looked at (RFC 3261 22.1): 401 and 407 mean "understood". TO_PBX: the PBX sees it, rebuilt by kedge.
TABLE = {
    "rfc4475-3.1.1.1-wsinv": (481, 481, "well-formed; its To tag names a dialog that there is not"),
    "rfc4475-3.1.1.2-intmeth": (SILENCE, SILENCE, "all unusual characters together are unreadable (b2bua/sip/README.md)"),
    "rfc4475-3.1.1.3-esc01": (407, TO_PBX, "escapes are kept as they are"),
    "rfc4475-3.1.1.4-escnull": (401, 400, "nobody registers as a name with an escaped NUL (b2bua/sip/README.md)"),
    "rfc4475-3.1.1.5-esc02": (501, 501, "a method with % in it is not REGISTER"),
    "rfc4475-3.1.1.6-lwsdisp": (200, 200, "no blank before <"),
    "rfc4475-3.1.1.7-longreq": (407, TO_PBX, "long values"),
    "rfc4475-3.1.1.8-dblreq": (401, TO_PBX, "what follows the REGISTER in the datagram is ignored: no INVITE"),
    "rfc4475-3.1.1.9-semiuri": (200, 200, "; and = in a user part"),
    "rfc4475-3.1.1.10-transports": (200, 200, "transports of Vias below the first do not matter"),
    "rfc4475-3.1.1.11-mpart01": (407, TO_PBX, "a multipart body with binary octets"),
    "rfc4475-3.1.1.12-unreason": (SILENCE, SILENCE, "an answer to nothing"),
    "rfc4475-3.1.1.13-noreason": (SILENCE, SILENCE, "an answer to nothing"),
    "rfc4475-3.1.2.1-badinv01": (SILENCE, SILENCE, "malformed; its Via cannot be read, so that no answer can be made"),
    "rfc4475-3.1.2.2-clerr": (400, 400, "the body is shorter than Content-Length says"),
    "rfc4475-3.1.2.3-ncl": (400, 400, "a negative length"),
    "rfc4475-3.1.2.4-scalar02": (400, 400, "numbers out of range"),
    "rfc4475-3.1.2.5-scalarlg": (SILENCE, SILENCE, "an answer to nothing, with numbers out of range"),
    "rfc4475-3.1.2.6-quotbal": (400, 400, "a quote that never ends"),
    "rfc4475-3.1.2.7-ltgtruri": (400, 400, "<> around the Request-URI"),
    "rfc4475-3.1.2.8-lwsruri": (SILENCE, SILENCE, "a blank in the Request-URI: the request line cannot be read (b2bua/sip/README.md)"),
    "rfc4475-3.1.2.9-lwsstart": (407, TO_PBX, "two blanks in the request line: tolerated, not passed on"),
    "rfc4475-3.1.2.10-trws": (200, 200, "blanks at the end of the request line: tolerated"),
    "rfc4475-3.1.2.11-escruri": (400, 400, "headers in the Request-URI: they must never become headers of ours"),
    "rfc4475-3.1.2.12-baddate": (407, TO_PBX, "a time zone that is not GMT: nobody needs the date"),
    "rfc4475-3.1.2.13-regbadct": (400, 400, "a Contact with ? and without <>"),
    "rfc4475-3.1.2.14-badaspec": (200, 200, "blanks inside of <>: tolerated"),
    "rfc4475-3.1.2.15-baddn": (400, 400, "a comma in a display name without quotes"),
    "rfc4475-3.1.2.16-badvers": (505, 505, "another version"),
    "rfc4475-3.1.2.17-mismatch01": (400, 400, "CSeq names another method"),
    "rfc4475-3.1.2.18-mismatch02": (400, 400, "the same with an unknown method"),
    "rfc4475-3.1.2.19-bigcode": (SILENCE, SILENCE, "an answer with a status out of range"),
    "rfc4475-3.2.1-badbranch": (200, 200, "the magic cookie and nothing behind it: served like RFC 2543"),
    "rfc4475-3.3.1-insuf": (400, 400, "no Call-ID, From, To"),
    "rfc4475-3.3.2-unkscm": (416, 416, "an unknown scheme"),
    "rfc4475-3.3.3-novelsc": (416, 416, "a scheme that is not SIP's"),
    "rfc4475-3.3.4-unksm2": (401, 400, "To is no SIP URI: no address of record"),
    "rfc4475-3.3.5-bext01": (420, 420, "Require of what nobody knows; Proxy-Require is for proxies"),
    "rfc4475-3.3.6-invut": (407, TO_PBX, "an unknown body: the PBX's business"),
    "rfc4475-3.3.7-regaut01": (401, TO_PBX, "an unknown authorization scheme is none"),
    "rfc4475-3.3.8-multi01": (400, 400, "two of what there must be one"),
    "rfc4475-3.3.9-mcl01": (400, 400, "two lengths"),
    "rfc4475-3.3.10-bcast": (SILENCE, SILENCE, "an answer that would go on to 255.255.255.255"),
    "rfc4475-3.3.11-zeromf": (200, 200, "Max-Forwards 0 is enough for who is asked"),
    "rfc4475-3.3.12-cparam01": (401, TO_PBX, "the parameter is the Contact's"),
    "rfc4475-3.3.13-cparam02": (401, TO_PBX, "the parameter is the URI's"),
    "rfc4475-3.3.14-regescrt": (401, TO_PBX, "a URI with a header in it"),
    "rfc4475-3.3.15-sdp01": (407, TO_PBX, "who takes no SDP as answer: the PBX's business"),
    "rfc4475-3.4.1-inv2543": (407, 400, "RFC 2543: no Contact, and a call needs one"),
    "rfc5118-4.1-ipv6-good": (404, TO_PBX, "an IPv6 reference; not this domain"),
    "rfc5118-4.2-ipv6-bad": (SILENCE, SILENCE, "no delimiters: the request line cannot be read (b2bua/sip/README.md)"),
    "rfc5118-4.3-port-ambiguous": (404, TO_PBX, "the port is part of the address"),
    "rfc5118-4.4-port-unambiguous": (404, TO_PBX, "the port is a port"),
    "rfc5118-4.5a-via-received-param-with-delim": (481, 481, "brackets in received: taken; there is no such dialog"),
    "rfc5118-4.5b-via-received-param-no-delim": (200, 200, "none: taken"),
    "rfc5118-4.6-ipv6-in-sdp": (407, TO_PBX, "IPv6 in SDP"),
    "rfc5118-4.7-mult-ip-in-header": (481, 481, "both families in Via; there is no such dialog"),
    "rfc5118-4.8-mult-ip-in-sdp": (407, TO_PBX, "both families in SDP"),
    "rfc5118-4.9-ipv4-mapped-ipv6": (407, TO_PBX, "IPv4-mapped addresses"),
    "rfc5118-4.10a-ipv6-bug-abnf-3-colons": (200, 200, "one colon too many: may be served"),
    "rfc5118-4.10b-ipv6-correct-abnf-2-colons": (200, 200, "as it should be"),
}


def message(name):
    with open(os.path.join(FOLDER, name), "rb") as f:
        return f.read()


def transport_of(data):
    via = re.search(rb"^(?:via|v) *: *SIP *\r?\n? */ *[\d.]+\s*/\s*(\w+)", data, re.M | re.I)
    return via.group(1).decode().lower() if via else "udp"


class World:
    def __init__(self, lab, stage, mode):
        self.server, self.host, pbx = (lab.public_host(f"{mode}-{n}", ip6=True) for n in ("kedge", "ua", "pbx"))
        listen = [f"{t}:{a}:5060" for t in ("udp", "tcp") for a in (self.server.addr, f"[{self.server.ip6}]")]
        config = {"sip": {"listen": listen + [f"tls:{self.server.addr}:5061"], "domain": "example.com"},
                  "guard": {"trusted": [self.host.addr, self.host.ip6]}}
        self.pbx = None
        if mode == "pbx":
            config["pbx"] = [f"udp:{pbx.addr}:5060"]
        self.kedge = stage.kedge(self.server, config=config, accounts={} if mode == "pbx" else {u: "pw-" + u for u in ("a", "b")})
        if mode == "pbx":
            self.pbx = stage.agent(pbx, "pbx", "", (self.server.addr, 5060), port=5060)
        self.mode = mode
        self.process = self.kedge.role("signalling")

    def open(self, transport, v6):
        s = socket_in(self.host, socket.AF_INET6 if v6 else socket.AF_INET,
                      socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        s.settimeout(PATIENCE_S)
        s.connect((self.server.ip6 if v6 else self.server.addr, 5061 if transport == "tls" else 5060))
        if transport == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            s = context.wrap_socket(s)
        return s

    def up(self):
        """It answers at once, and is who it was."""
        with self.open("udp", False) as s:
            s.settimeout(PATIENCE_S)
            s.sendall(f"OPTIONS sip:{self.server.addr} SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{os.urandom(6).hex()}\r\nFrom: <sip:x@x>;tag=1\r\n"
                      f"To: <sip:x@x>\r\nCall-ID: {os.urandom(6).hex()}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode())
            assert s.recv(65536).startswith(b"SIP/2.0 200")
        assert self.kedge.role("signalling") == self.process, "signalling was restarted"


@pytest.fixture(scope="module", params=("embedded", "pbx"))
def world(request, lab, tmp_path_factory):
    from interop.conftest import Stage
    stage = Stage(tmp_path_factory.mktemp(request.param))
    yield World(lab, stage, request.param)
    stage.close()


def exchange(world, data, transport, v6, expected, wait=0.4):
    """The first final answer (None: silence) and what the PBX got (refused there with 404)."""
    with world.open(transport, v6) as s:
        s.sendall(data)
        s.settimeout(wait)
        deadline = time.monotonic() + (30 if expected is not SILENCE else wait)
        forwarded, answer, buffer = [], None, b""
        while time.monotonic() < deadline and answer is None:
            while world.pbx and not world.pbx.requests.empty():
                request = world.pbx.requests.get()
                if request.method not in ("ACK", "CANCEL"):
                    forwarded.append(request)
                    world.pbx.reply(request, 404)
            s.settimeout(0.05)
            try:
                piece = s.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not piece:
                break
            buffer = piece if transport == "udp" else buffer + piece
            for text in buffer.decode("utf-8", "replace").split("\r\n\r\n")[:-1]:  # whole ones
                if text.startswith("SIP/2.0 ") and not text.startswith("SIP/2.0 1"):
                    answer = Message(text + "\r\n\r\n")
        return answer, forwarded


def test_every_message_is_in_the_table():
    found = sorted(n for n in os.listdir(FOLDER) if n.startswith("rfc"))
    assert found == sorted(TABLE)
    assert sum(n.startswith("rfc4475") for n in found) == 49
    assert len({n.split("-")[1].rstrip("ab") for n in found if n.startswith("rfc5118")}) == 10


@pytest.mark.parametrize("name", TABLE)
def test_message(world, name):
    alone, behind, why = TABLE[name]
    data, v6 = message(name), name.startswith("rfc5118")
    expected = alone if world.mode == "embedded" else behind
    if v6:  # they share one branch and one Call-ID
        mark = name.encode()
        data = data.replace(b"z9hG4bKas3", b"z9hG4bK" + mark).replace(b"SSG9559905523997077", b"SSG" + mark)
    answer, forwarded = exchange(world, data, transport_of(data), v6, expected)
    if expected is SILENCE:
        assert answer is None and not forwarded, f"{answer} {forwarded}: {why}"
    elif expected is TO_PBX:
        assert answer is not None and answer.status == 404 and forwarded, f"{answer} {forwarded}: {why}"
        check_forwarded(name, forwarded[0], data)
    else:
        assert answer is not None and answer.status == expected and not forwarded, f"{answer} {forwarded}: {why}"
    if answer is not None and answer.status == 420:
        assert {v.strip() for v in ",".join(answer.all("Unsupported")).split(",")} == {"nothingSupportsThis", "nothingSupportsThisEither"}
    world.up()


def check_forwarded(name, request, data):
    """What a message must not carry further, or must keep."""
    first = data.split(b"\r\n")[0].decode("utf-8", "replace")
    assert re.fullmatch(r"[A-Z]+ \S+ SIP/2\.0", request.start), f"{name}: {request.start!r}"
    if "esc01" in name:
        assert request.uri == first.split(" ")[1]
        assert "sip:%75se%72@example.com" in request.get("to") or "sip:user@example.com" in request.get("to")
    elif "dblreq" in name:
        assert request.method == "REGISTER"
    elif "mpart01" in name:
        assert len(request.body) > 300 and request.get("content-type").startswith("multipart/mixed")


@pytest.mark.parametrize("name", [n for n in TABLE if transport_of(message(n)) != "udp"])
def test_a_via_of_another_transport_gets_no_answer_by_udp(world, name):
    """It would go where the Via says, and so to anybody (b2bua/sip/README.md)."""
    answer, forwarded = exchange(world, message(name), "udp", False, SILENCE, 0.2)
    assert answer is None and not forwarded
    world.up()


@pytest.mark.parametrize("line,status", (
    ("!interesting-Method0123456789_*+`.%indeed'~ sip:user@example.com SIP/2.0", 501),
    ("OPTIONS sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0", 200)))
def test_unusual_characters_one_at_a_time(world, line, status):
    """3.1.1.2 piece by piece, by UDP: what of it is understood, and what is refused."""
    rest = (f"Via: SIP/2.0/UDP x;branch=z9hG4bK-.!%66*_+`'~{os.urandom(4).hex()}\r\nFrom: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>"
            f";fromParam''~+*_!.-%=\"\u0440\u0430\";tag=_token~1'+`*%!-.\r\nTo: \"BEL:\\\x07 DEL:\\\x7f\" <sip:x@example.com>\r\n"
            f"Call-ID: word%ZK-!.*_+'@word`~)(><:\\/\"][?}}{{{os.urandom(4).hex()}\r\nCSeq: 1 {line.split(' ')[0]}\r\nMax-Forwards: 255\r\n"
            "extensionHeader-!.%*+_`'~:\ufeff\u5927\r\nContent-Length: 0\r\n\r\n")
    answer, forwarded = exchange(world, f"{line}\r\n{rest}".encode(), "udp", False, status)
    assert not forwarded
    assert answer is not None and answer.status == status, str(answer)


@pytest.mark.parametrize("transport", ("tcp", "tls"))
def test_all_of_them_down_streams(world, transport):
    """Each on a connection of its own, whatever its Via says, and then half of each."""
    for name in TABLE:
        data = message(name)
        for part in (data, data[:len(data) // 2]):
            with world.open(transport, False) as s:
                try:
                    s.sendall(part)
                except OSError:
                    pass
    while world.pbx and not world.pbx.requests.empty():
        world.pbx.requests.get()
    world.up()


def test_a_call_works_after_all_of_it(world, stage):
    kedge = world.kedge
    if world.mode == "pbx":
        # The PBX has refused everything so far; now it takes a call.
        caller = stage.agent(world.host, "a", "", (world.server.addr, 5060), domain="example.com")
        from interop.agent import Dialog
        d, e = Dialog(caller, stage.rtp(caller.host)), Dialog(world.pbx, stage.rtp(world.pbx.host, hz=700))
        assert until(lambda: not kedge.calls(), 40, 0.2)
        while not world.pbx.requests.empty():
            world.pbx.requests.get()
        result = []
        thread = threading.Thread(target=lambda: result.append(d.call("b")))
        thread.start()
        e.answer(world.pbx.expect("INVITE"))
        thread.join()
        assert result[0] is not None and result[0].status == 200
        assert d.bye().status == 200
        world.pbx.reply(world.pbx.expect("BYE"), 200)
    else:
        agents = [stage.agent(world.host, u, "pw-" + u, (world.server.addr, 5060), domain="example.com") for u in ("a", "b")]
        for agent in agents:
            assert agent.register().status == 200
        a, b = talk(*agents, stage.rtp(world.host), stage.rtp(world.host, hz=700))
        assert a.bye().status == 200
        b.agent.reply(b.agent.expect("BYE"), 200)
    kedge.no_calls(40)
    assert kedge.deaths() == 0
