"""A browser and a phone without WebRTC, audio and video over plain RTP: lines are added, removed and used again, by either side. The phone
is an agent by hand that sends the browser its own picture back."""
import re
import struct
import threading
import time

import pytest

from interop.agent import Agent, Dialog, Rtp, sdp
from interop.hosts import socket_in, until
from interop.webworld import WebWorld

HZ, TONE = 900, 500
USER = "desk"
# The page, and whether its lines share one transport whatever the other side says (max-bundle) or where it agrees (balanced).
PAGES = (("jssip", "balanced"), ("jssip", "max-bundle"), ("sipjs", "max-bundle"))
POLICY = """{ const Plain = RTCPeerConnection;
    window.RTCPeerConnection = class extends Plain { constructor(options) { super({ ...options, bundlePolicy: '%s' }); } }; }"""


class Mirror:
    """An RTP socket that sends back what comes, with an SSRC of its own."""

    def __init__(self, host):
        self.ip, self.packets, self.to, self._open = host.addr, 0, None, True
        self.socket = socket_in(host)
        self.socket.bind((self.ip, 0))
        self.port = self.socket.getsockname()[1]
        self.socket.settimeout(0.05)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while self._open:
            try:
                data = self.socket.recvfrom(4096)[0]
            except TimeoutError:
                continue
            except OSError:
                return
            self.packets += 1
            if self.to and len(data) > 12:
                self.socket.sendto(data[:8] + b"kdge" + data[12:], self.to)

    def play(self, payload_type, count=60):
        """A picture of its own, as far as packets go."""
        for i in range(count):
            self.socket.sendto(struct.pack("!BBHII", 0x80, 0x80 | payload_type, i, 3000 * i, 7) + b"\x10" + bytes(200), self.to)
            time.sleep(0.01)

    def grows(self, by=10, timeout=30):
        before = self.packets
        return bool(until(lambda: self.packets >= before + by, timeout, 0.05))

    def rests(self):
        """Nothing comes for half a second, within some."""
        seen = [self.packets]

        def same():
            seen.append(self.packets)
            return len(seen) > 5 and len(set(seen[-6:])) == 1
        return bool(until(same, 20, 0.1))

    def close(self):
        self._open = False
        self.socket.close()


def parts(text):
    """The m= lines of a description, each with what stands below it."""
    return ["m=" + part for part in re.split(r"(?m)^m=", text)[1:]]


def port(part):
    return int(part.split()[1])


class VideoPhone(Dialog):
    """A call of the agent's with two lines. video: whether it has the second one enabled."""

    def __init__(self, agent, rtp, mirror):
        super().__init__(agent, rtp)
        self.mirror = mirror

    def offer(self, video=True, lines=2):
        self.version += 1
        text = sdp(self.rtp.ip, self.rtp.port, codecs=(0,), version=self.version)
        if lines > 1:
            text += f"m=video {self.mirror.port if video else 0} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
        return text

    def answer_to(self, offered, audio=True, video=True, direction=""):
        """Fits any offer: PCMU, and VP8 by the offer's number; what else is there is rejected."""
        self.version += 1
        text = f"v=0\r\no=desk 1 {self.version} IN IP4 {self.rtp.ip}\r\ns=-\r\nc=IN IP4 {self.rtp.ip}\r\nt=0 0\r\n"
        for part in parts(offered):
            kind = part[2:].split()[0]
            vp8 = re.search(r"a=rtpmap:(\d+) VP8/90000", part)
            if kind == "audio" and audio and port(part):
                text += f"m=audio {self.rtp.port} RTP/AVP 0\r\n{direction}"
            elif kind == "video" and video and port(part) and vp8:
                text += f"m=video {self.mirror.port} RTP/AVP {vp8[1]}\r\na=rtpmap:{vp8[1]} VP8/90000\r\n"
            else:
                text += " ".join([part.split()[0], "0", *part.splitlines()[0].split()[2:]]) + "\r\n"
        return text

    def _listen(self, message):
        self.rtp.to = None
        super()._listen(message)
        lines = parts(message.body)
        self.mirror.to = (message.media()[0], port(lines[1])) if len(lines) > 1 and port(lines[1]) else None


@pytest.fixture(scope="module")
def world(lab, long_stage):
    world = WebWorld(long_stage, lab, (*(f"{kind}-{policy}" for kind, policy in PAGES), "data", USER), stun=True)
    world.chromium = world.browser("chromium", hz=HZ)
    world.webs = {}
    for kind, policy in PAGES:
        phone = world.phone(world.chromium, kind, f"{kind}-{policy}")
        phone.page.eval(POLICY % policy)
        world.webs[kind, policy] = phone
    world.webs["data"] = world.phone(world.chromium, "jssip", "data", dataChannel=True)
    world.host = lab.public_host(USER)
    world.agent = long_stage.add(Agent(world.host, USER, "pw-" + USER, server=(world.server.addr, 5060), domain="kedge.test"))
    assert world.agent.register().status == 200
    return world


@pytest.fixture(params=PAGES, ids="-".join, autouse=True)
def web(world, request):
    world.web = world.webs[request.param]


@pytest.fixture
def call(world, web):
    rtp, mirror = Rtp(world.host, hz=TONE), Mirror(world.host)
    call = VideoPhone(world.agent, rtp, mirror)
    yield call
    if world.kedge.calls():
        world.web.page.eval("phone.hangUp()")
        world.kedge.no_calls()
    rtp.close()
    mirror.close()


def hears(world, call):
    mark = time.monotonic()
    assert world.web.hears(TONE, since=world.web.position()), world.web.path()
    assert call.rtp.got(mark, 400, 20), "the phone does not hear the browser"


def pictures(world):
    """Video packets that the browser got."""
    return world.web.page.eval("""(async () => { let n = 0;
        for (const row of (await phone.connection.getStats()).values())
            if (row.type === 'inbound-rtp' && row.kind === 'video')
                n += row.packetsReceived;
        return n; })()""")


def sees(world, call):
    before = pictures(world)
    assert call.mirror.grows(), sent(world)
    assert until(lambda: pictures(world) >= before + 10, 30, 0.2), (before, pictures(world), world.web.sdp("remote"))


def counted(world):
    """Packets of each line in kedge's books: from the browser, to it."""
    (call,) = world.kedge.calls()
    (leg,) = [leg for leg in world.kedge.json("explain", call["id"])["legs"] if leg["user"] == world.web.user]
    return [(media["packets_in"], media["packets_out"]) for media in leg["media"]]


def sent(world):
    """For who reads of a failure: what the browser says of the video that it sends, and what passes kedge."""
    rows = world.web.page.eval("""(async () => [...(await phone.connection.getStats()).values()]
        .filter((row) => row.kind === 'video' && /^(outbound-rtp|media-source)$/.test(row.type))
        .map((row) => [row.type, row.frames, row.framesEncoded, row.packetsSent, row.active, row.qualityLimitationReason]))()""")
    return "no video comes to the phone", rows, counted(world)


def counts_all(world):
    return until(lambda: all(n > 10 for line in counted(world) for n in line), step=0.2)


def lines_of(world, side):
    """(kind, enabled, mid) of the browser's description of that side."""
    return [(p[2:].split()[0], port(p) != 0, re.search(r"a=mid:(\S+)", p)[1]) for p in parts(world.web.sdp(side))]


def called_by_the_browser(world, call, video):
    world.web.dial(USER, video=video)
    invite = world.agent.expect("INVITE")
    call.answer(invite, body=call.answer_to(invite.body))
    world.web.active()
    return invite


def reinvited(world, call, script, **kw):
    """The browser does that and sends a re-INVITE, which is answered; returns it."""
    done = threading.Thread(target=lambda: world.web.page.eval(f"(async () => {{ {script}; return phone.reinvite(); }})()"))
    done.start()
    invite = world.agent.expect("INVITE")
    call.answer(invite, body=call.answer_to(invite.body, **kw))
    done.join(60)
    return invite


def test_video_call_of_the_browser(world, call):
    invite = called_by_the_browser(world, call, video=True)
    for line in parts(invite.body):
        assert line.split()[2] == "RTP/AVP", line
    for gone in ("a=fingerprint", "a=mid", "a=group", "a=ssrc", "a=extmap", "a=rtcp-fb", " rtx/"):
        assert gone not in invite.body, gone
    hears(world, call)
    sees(world, call)
    assert counts_all(world), counted(world)
    assert re.search("a=group:BUNDLE 0 1", world.web.sdp("remote"))
    # The phone takes its camera away, and gives it back: its line is used again.
    assert call.reinvite(body=call.offer(video=False)).status == 200
    assert call.mirror.rests(), "video goes on that was removed"
    hears(world, call)
    response = call.reinvite(body=call.offer())
    # To the browser it is another line: with JsSIP it has no camera for it until somebody says so, but it looks.
    assert response.status == 200 and re.search("a=(recvonly|sendrecv)", parts(response.body)[1])
    assert [mid for _, _, mid in lines_of(world, "local")] == ["0", "1a"]
    before = pictures(world)
    call.mirror.play(96)
    assert until(lambda: pictures(world) > before + 10, 20, 0.2), (before, pictures(world))
    hears(world, call)
    assert call.bye().status == 200
    world.web.ended()


def test_video_call_of_the_phone(world, call):
    done = []
    caller = threading.Thread(target=lambda: done.append(call.call(world.web.user, body=call.offer())))
    caller.start()
    world.web.ringing()
    world.web.answer(video=True)
    caller.join(60)
    assert done[0].status == 200
    assert lines_of(world, "local") == [("audio", True, "0"), ("video", True, "1")]
    hears(world, call)
    sees(world, call)
    assert counts_all(world), counted(world)
    assert re.search("a=group:BUNDLE 0 1", world.web.sdp("local"))
    world.web.hangup()
    call.agent.reply(call.agent.expect("BYE"), 200)


def test_the_browser_adds_and_removes_video(world, call):
    called_by_the_browser(world, call, video=False)
    hears(world, call)
    invite = reinvited(world, call, """const stream = await navigator.mediaDevices.getUserMedia({ video: true });
                                       phone.connection.addTrack(stream.getTracks()[0], stream)""")
    assert [port(part) != 0 for part in parts(invite.body)] == [True, True]
    assert call.mirror.grows(), sent(world)
    hears(world, call)
    invite = reinvited(world, call, "phone.connection.getTransceivers()[1].stop()")
    assert [port(part) != 0 for part in parts(invite.body)] == [True, False]
    assert call.mirror.rests()
    hears(world, call)
    # The browser uses the line again, under another name.
    invite = reinvited(world, call, """const stream = await navigator.mediaDevices.getUserMedia({ video: true });
                                       phone.connection.addTrack(stream.getTracks()[0], stream)""")
    assert [port(part) != 0 for part in parts(invite.body)] == [True, True]
    assert lines_of(world, "remote")[1][2] not in ("0", "1")
    assert call.mirror.grows(), sent(world)
    assert call.bye().status == 200
    world.web.ended()


def test_the_phone_adds_video_and_the_browser_has_none(world, call):
    called_by_the_browser(world, call, video=False)
    response = call.reinvite(body=call.offer())
    assert response.status == 200 and len(parts(response.body)) == 2
    hears(world, call)
    # And takes the line away again.
    assert call.reinvite(body=call.offer(video=False)).status == 200
    hears(world, call)
    assert call.bye().status == 200
    world.web.ended()


def test_a_phone_that_answers_a_hold_with_nothing(world, call):
    """Its answer has no direction, which is sendrecv: a browser would refuse that to its sendonly."""
    called_by_the_browser(world, call, video=False)
    hears(world, call)
    held = threading.Thread(target=world.web.hold)
    held.start()
    invite = world.agent.expect("INVITE")
    assert "a=sendonly" in invite.body or "a=inactive" in invite.body
    call.answer(invite, body=call.answer_to(invite.body))
    held.join(60)
    assert re.search(r"a=(recvonly|inactive)", world.web.sdp("remote")), world.web.sdp("remote")
    assert call.bye().status == 200
    world.web.ended()


@pytest.mark.parametrize("web", PAGES[:1], indirect=True, ids="-".join)
def test_a_phone_that_takes_the_picture_alone(world, call):
    """It rejects the line whose transport the others share, so each line has its own (RFC 9143 7.3.1). With max-bundle Chromium takes no
    such answer, and ends the call."""
    world.web.dial(USER, video=True)
    invite = world.agent.expect("INVITE")
    call.answer(invite, body=call.answer_to(invite.body, audio=False))
    world.web.active()
    sees(world, call)
    assert call.bye().status == 200
    world.web.ended()


@pytest.mark.parametrize("web", ["data"], indirect=True)
def test_a_data_channel_is_rejected(world, call):
    invite = called_by_the_browser(world, call, video=True)
    assert len(parts(invite.body)) == 3
    assert [port(line) != 0 for line in parts(invite.body) if "application" in line] == [False]
    assert [enabled for kind, enabled, _ in lines_of(world, "remote") if kind == "application"] == [False]
    hears(world, call)
    assert call.mirror.grows(), sent(world)
    assert call.bye().status == 200
    world.web.ended()
