"""Bodies that are more than SDP: multipart with SDP inside is understood, every other part passes byte for byte; a body without SDP
passes where the message needs none."""
import pytest

from interop.hosts import background, until
from interop.sipcall import TRANSPORTS, dialogs, hang_up, listeners, registered

USERS = ("alice", "bob")
ISUP = "Content-Type: application/isup;version=itu-t92+;base=itu-t92+\r\nContent-Disposition: signal;handling=optional"
LOCATION = "Content-Type: application/pidf+xml\r\nContent-ID: <target@kedge.test>"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], config={"sip": {"listen": listeners(hosts[0])}}, accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def ends(kedge, hosts, stage):
    return lambda transport="udp": dialogs(stage, registered(stage, kedge, hosts[1:], USERS, transport))


def mixed(sdp, head=ISUP, content="\x01\x00I\x00\n", boundary="unique-boundary-1"):
    """SDP and another part, and the Content-Type of that."""
    body = (f"--{boundary}\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}\r\n--{boundary}\r\n{head}\r\n\r\n"
            f"{content}\r\n--{boundary}--\r\n")
    return body, f'Content-Type: multipart/mixed;boundary="{boundary}"'


def parts(message, boundary="unique-boundary-1"):
    """[(headers, content)] of a multipart that came."""
    assert message.get("content-type") == f'multipart/mixed;boundary="{boundary}"' and message.get("mime-version") == "1.0"
    assert int(message.get("content-length")) == len(message.body.encode())
    begin, *found, end = ("\r\n" + message.body).split(f"\r\n--{boundary}")
    assert not begin and end == "--\r\n", message.body
    return [part.removeprefix("\r\n").split("\r\n\r\n", 1) for part in found]


def is_rewritten(message, writer, kedge, head=ISUP, content="\x01\x00I\x00\n"):
    (sdp_head, sdp), (other_head, other) = parts(message)
    assert sdp_head == "Content-Type: application/sdp", "its length is another one now"
    assert writer.agent.ip not in message.body and kedge.host.addr in sdp and f"m=audio {writer.rtp.port} " not in sdp
    assert (other_head, other) == (head, content)


def listen(dialog, message):
    dialog.rtp.to = message.media()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_multipart_both_ways(ends, kedge, transport):
    """INVITE, 183, 200, re-INVITE and its 200."""
    a, b = ends(transport)
    body, kind = mixed(a.body())
    provisional = []
    placed = background(a.call, "bob", body=body, headers=[kind], provisional=provisional)
    request = b.agent.expect("INVITE")
    is_rewritten(request, a, kedge)
    for status in (183, 200):
        body, kind = mixed(b.body(), LOCATION, "<presence/>")
        reply_with(b.agent, request, status, body, kind)
        assert until(lambda: any(p.status == 183 for p in provisional), 20)
    ok = placed()
    assert ok.status == 200
    is_rewritten(provisional[-1], b, kedge, LOCATION, "<presence/>")
    is_rewritten(ok, b, kedge, LOCATION, "<presence/>")
    b.agent.expect("ACK")
    b.invite, b.call_id, b.target = request, request.get("call-id"), request.contact()
    b.local, b.remote = request.get("to") + f";tag={request.our_tag}", request.get("from")
    listen(a, ok)
    listen(b, request)
    assert a.rtp.got(ms=100) and b.rtp.got(ms=100)
    body, kind = mixed(b.body(direction="sendonly"))
    again = background(b.request, "INVITE", [kind], body)
    offer = a.agent.expect("INVITE")
    is_rewritten(offer, b, kedge)
    assert "a=sendonly" in offer.body
    a.agent.reply(offer, 200, a.body(direction="recvonly"))
    assert again().status == 200 and again().get("content-type") == "application/sdp", "the answer is as its writer wrote it"
    b.ack()
    a.agent.expect("ACK")
    hang_up(a, b, kedge)


def reply_with(agent, request, status, body, kind):
    """A response whose body is no plain SDP."""
    text = agent.__class__.reply(QuietAgent(agent), request, status, "", [kind])
    head = text.replace("Content-Length: 0\r\n\r\n", f"Content-Length: {len(body.encode())}\r\n\r\n")
    agent.send(head + body, request.source)


class QuietAgent:
    """Lets Agent.reply write a text without sending it."""

    def __init__(self, agent):
        self._agent = agent

    def __getattr__(self, name):
        return getattr(self._agent, name)

    def send(self, text, to=None):
        pass


def test_update_with_multipart(ends, kedge):
    a, b = ends()
    allow = ["Allow: INVITE, ACK, CANCEL, BYE, UPDATE"]
    placed = background(a.call, "bob", headers=allow)
    b.answer(b.agent.expect("INVITE"), headers=allow)
    assert placed().status == 200
    body, kind = mixed(a.body())
    answer = background(a.request, "UPDATE", [kind], body)
    update = b.agent.expect("UPDATE")
    is_rewritten(update, a, kedge)
    b.agent.reply(update, 200, b.body())
    assert answer().status == 200
    hang_up(a, b, kedge)


def test_late_offer_with_multipart(ends, kedge):
    """An INVITE with ISUP alone asks for an offer; 200 and ACK carry SDP and ISUP."""
    a, b = ends()
    placed = background(a.call, "bob", body="\x01\x10\x20", headers=ISUP.split("\r\n"), ack=False)
    request = b.agent.expect("INVITE")
    assert request.body == "\x01\x10\x20" and request.get("content-type").startswith("application/isup")
    assert request.get("content-disposition") == "signal;handling=optional"
    body, kind = mixed(b.body())
    reply_with(b.agent, request, 200, body, kind)
    ok = placed()
    is_rewritten(ok, b, kedge)
    body, kind = mixed(a.body())
    a.cseq = ok.cseq[0]
    a.request("ACK", [kind], body, send_only=True, cseq=ok.cseq[0])
    is_rewritten(b.agent.expect("ACK"), a, kedge)
    listen(a, ok)
    assert b.rtp.got(ms=100)
    bye = background(a.bye)
    b.agent.reply(b.agent.expect("BYE"), 200)
    assert bye().status == 200
    kedge.no_calls()


def test_a_provisional_body_passes(ends, kedge):
    """183 with ISUP alone (ACM), as gateways send it."""
    a, b = ends()
    provisional = []
    placed = background(a.call, "bob", provisional=provisional)
    request = b.agent.expect("INVITE")
    reply_with(b.agent, request, 183, "\x06\x16", "Content-Type: application/isup;version=x")
    b.answer(request)
    assert placed().status == 200
    found = [p for p in provisional if p.status == 183][0]
    assert found.body == "\x06\x16" and found.get("content-type") == "application/isup;version=x"
    hang_up(a, b, kedge)


@pytest.mark.parametrize("end", ("caller", "callee"))
def test_the_body_of_a_bye_passes(ends, kedge, end):
    """ISUP REL, and how it is called in the message (RFC 8262)."""
    a, b = ends()
    placed = background(a.call, "bob")
    b.answer(b.agent.expect("INVITE"))
    assert placed().status == 200
    here, there = (a, b) if end == "caller" else (b, a)
    bye = background(here.request, "BYE", [*ISUP.split("\r\n"), "Content-ID: <rel@kedge.test>", "Reason: Q.850;cause=16"], "\x0c\x02")
    got = there.agent.expect("BYE")
    there.agent.reply(got, 200)
    assert bye().status == 200
    assert got.body == "\x0c\x02" and "Content-Type: " + got.get("content-type") == ISUP.partition("\r\n")[0]
    assert got.get("content-disposition") == "signal;handling=optional" and got.all("content-id") == ["<rel@kedge.test>"]
    kedge.no_calls()


def test_the_body_of_a_refusal_passes(ends, kedge):
    """But never SDP, nor what is too large for one."""
    a, b = ends()
    kept, dropped = [("message/sipfrag", "SIP/2.0 486 Busy Here\r\n"), ("application/isup;version=x", "\x0c\x02")], [
        ("application/sdp", b.body()), ("application/isup;version=x", "x" * 9000)]
    for kind, body in kept + dropped:
        placed = background(a.agent.request, "INVITE", f"sip:bob@{a.agent.domain}", body=a.body())
        request = b.agent.expect("INVITE")
        b.agent.reply(request, 486, body, [f"Content-Type: {kind}", "Content-ID: <why@kedge.test>"])
        b.agent.expect("ACK")
        refusal = placed()
        assert refusal.status == 486
        found = (refusal.get("content-type"), refusal.body, refusal.get("content-id"))
        assert found == ((kind, body, "<why@kedge.test>") if (kind, body) in kept else ("", "", "")), found
    kedge.no_calls()


def test_content_id_of_a_message(ends, kedge):
    a, b = ends()
    sent = background(a.agent.request, "MESSAGE", f"sip:bob@{a.agent.domain}", ["Content-Type: text/plain", "Content-ID: <m@kedge.test>"],
                      "hello")
    got = b.agent.expect("MESSAGE")
    b.agent.reply(got, 200)
    assert sent().status == 200 and got.get("content-id") == "<m@kedge.test>" and got.body == "hello"


BROKEN = {
    "no boundary": ("multipart/mixed", "--x\r\n\r\na\r\n--x--"),
    "no end": ("multipart/mixed;boundary=x", "--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"),
    "bare LF": ("multipart/mixed;boundary=x", "--x\nContent-Type: application/sdp\n\nv=0\n--x--\n"),
    "twice": ("multipart/mixed;boundary=x", "--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x\r\nContent-Type: "
              "application/sdp\r\n\r\nv=0\r\n--x--\r\n"),
    "encoded": ("multipart/mixed;boundary=x", "--x\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                "dj0wDQo=\r\n--x--\r\n"),
    "deep": ("multipart/mixed;boundary=a", "".join(f"--{c}\r\nContent-Type: multipart/mixed;boundary={chr(ord(c) + 1)}\r\n\r\n"
                                                   for c in "abcd") + "--e--\r\n--d--\r\n--c--\r\n--b--\r\n--a--"),
    "many": ("multipart/mixed;boundary=x", "--x\r\n\r\na\r\n" * 200 + "--x--"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_read_is_refused(ends, kedge, what):
    a, b = ends()
    kind, body = BROKEN[what]
    answer = a.agent.request("INVITE", f"sip:bob@{a.agent.domain}", [f"Content-Type: {kind}"], body)
    assert answer.status == 488 and "multipart" in answer.get("warning"), (answer, answer.get("warning"))
    assert b.agent.quiet("INVITE", 0.2)
    kedge.no_calls()
