"""m-lines that are no RTP: a call that becomes a fax (T.38 over UDPTL) by re-INVITE and goes back, refused ones, what is over TCP, and
more lines than kedge carries."""
import time

import pytest

from interop.agent import Dialog
from interop.hosts import background, until
from interop.sipcall import dialogs, registered

USERS = ("alice", "bob")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def ends(kedge, hosts, stage):
    return dialogs(stage, registered(stage, kedge, hosts[1:], USERS))


def t38(dialog, audio=None, port=None):
    """Its port of a fax; audio: a line before it, on or off."""
    dialog.version += 1
    rtp = dialog.rtp
    lines = "" if audio is None else f"m=audio {audio} RTP/AVP 0\r\n"
    return (f"v=0\r\no=fax 1 {dialog.version} IN IP4 {rtp.ip}\r\ns=-\r\nc=IN IP4 {rtp.ip}\r\nt=0 0\r\n{lines}"
            f"m=image {rtp.port if port is None else port} udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n"
            "a=T38FaxRateManagement:transferredTCF\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n")


def connect(a, b, **kw):
    placed = background(a.call, "bob", **kw)
    b.answer(b.agent.expect("INVITE"))
    assert placed().status == 200
    assert a.rtp.got(ms=60) and b.rtp.got(ms=60)


def change(here, there, offer, answer):
    """A re-INVITE; returns what the other side read and what came back."""
    again = background(here.request, "INVITE", body=offer)
    request = there.agent.expect("INVITE")
    there.agent.reply(request, 200, answer)
    ok = again()
    assert ok.status == 200
    here.ack()
    there.agent.expect("ACK")
    return request, ok


def image_port(message):
    return int(message.body.partition("m=image ")[2].partition(" ")[0])


def udptl(source, port, target, kedge, content):
    """Packets of no RTP from one end arrive at the other, unchanged."""
    def sent():
        source.rtp.socket.sendto(content, (kedge.host.addr, port))
        return any(data == content for _, _, data in target.rtp.received)
    assert until(sent, 20, 0.05), f"no UDPTL from {source.agent.user} to {target.agent.user}"


@pytest.mark.parametrize("sender", (0, 1))
def test_a_call_becomes_a_fax_and_goes_back(ends, kedge, sender):
    connect(*ends)
    here, there = ends[sender], ends[1 - sender]
    for dialog in ends:
        dialog.rtp.to = None
    there.cseq = here.cseq = 20
    request, ok = change(here, there, t38(here), t38(there))
    for message, writer in ((request, here), (ok, there)):
        assert "udptl t38\r\n" in message.body and "a=T38FaxUdpEC:t38UDPRedundancy" in message.body
        assert writer.agent.ip not in message.body and "a=rtcp" not in message.body
    udptl(here, image_port(ok), there, kedge, b"\x00\x01\x04\xff\xc0\x03 one")
    udptl(there, image_port(request), here, kedge, b"\x00\x02\x04\xff\xc0\x03 two")
    request, ok = change(there, here, there.body(), here.body())
    assert "m=audio" in request.body and "m=image" not in request.body
    since = time.monotonic()
    there.rtp.to, here.rtp.to = ok.media(), request.media()
    assert here.rtp.got(since, ms=100) and there.rtp.got(since, ms=100)
    bye = background(here.bye)
    there.agent.reply(there.agent.expect("BYE"), 200)
    assert bye().status == 200
    kedge.no_calls()


def test_a_fax_beside_rejected_audio(ends, kedge):
    """As gateways do that keep the number of lines."""
    a, b = ends
    connect(a, b)
    a.rtp.to = b.rtp.to = None
    request, ok = change(a, b, t38(a, audio=0), t38(b, audio=0))
    assert "m=audio 0 " in request.body and "m=audio 0 " in ok.body
    udptl(a, image_port(ok), b, kedge, b"\x00\x07 fax")
    udptl(b, image_port(request), a, kedge, b"\x00\x08 fax")


@pytest.mark.parametrize("sender", (0, 1))
@pytest.mark.parametrize("status", (488, 415))
def test_a_refused_fax_leaves_the_audio(ends, kedge, sender, status):
    connect(*ends)
    here, there = ends[sender], ends[1 - sender]
    here.cseq = 20
    again = background(here.request, "INVITE", body=t38(here))
    there.agent.reply(there.agent.expect("INVITE"), status)
    assert again().status == status
    here.agent._ack_refusal(here.sent, again())
    since = time.monotonic()
    assert here.rtp.got(since, ms=200) and there.rtp.got(since, ms=200)


def test_a_rejected_image_line_beside_audio(ends, kedge):
    a, b = ends
    image = f"m=image {a.rtp.port + 2} udptl t38\r\na=T38FaxVersion:0\r\n"
    placed = background(a.call, "bob", body=a.body() + image)
    request = b.agent.expect("INVITE")
    assert "m=image " in request.body and "m=image 0" not in request.body
    b.answer(request, body=b.body() + "m=image 0 udptl t38\r\n")
    ok = placed()
    assert ok.status == 200 and "m=image 0 udptl t38" in ok.body
    assert a.rtp.got(ms=100) and b.rtp.got(ms=100)


def test_lines_over_tcp_are_rejected_with_a_word(ends, kedge):
    a, b = ends
    msrp = "m=message 7394 TCP/MSRP *\r\na=accept-types:text/plain\r\na=path:msrp://192.168.1.40:7394/2s93i9ek2a;tcp\r\n"
    placed = background(a.call, "bob", body=a.body() + msrp)
    request = b.agent.expect("INVITE")
    assert "m=message 0 TCP/MSRP" in request.body and "192.168.1.40" not in request.body
    b.answer(request, body=b.body() + "m=message 0 TCP/MSRP *\r\n")
    ok = placed()
    assert ok.status == 200 and "m=message 0 TCP/MSRP" in ok.body
    assert a.rtp.got(ms=100) and b.rtp.got(ms=100)
    assert "over TCP" in kedge.ctl("explain", kedge.calls()[0]["id"])


def test_more_lines_than_kedge_carries(ends, kedge):
    a, b = ends
    many = "".join(f"m=audio {5000 + 2 * i} RTP/AVP 0\r\n" for i in range(9))
    answer = a.call("bob", body=a.body() + many)
    assert answer.status == 488 and "m-lines" in answer.get("warning") and not answer.get("retry-after")
    assert b.agent.quiet("INVITE", 0.2)
    b2 = Dialog(a.agent, a.rtp)
    connect(b2, b)
    answer = b2.request("INVITE", body=b2.body() + many)
    assert answer.status == 488
    b2.agent._ack_refusal(b2.sent, answer)
    since = time.monotonic()
    assert a.rtp.got(since, ms=100) and b.rtp.got(since, ms=100)
