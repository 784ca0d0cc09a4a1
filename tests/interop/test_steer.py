"""What each side of a call is told when phones do ICE: steered, anchored on one side or both, restarts, trickle, budgets. The
phones are scripted and send no packet of media or STUN: only SDP and what kedge makes of it is looked at."""
import os
import re
import signal
import threading
import time

import pytest

from interop.agent import Dialog, token
from interop.hosts import until


class Ice:
    """A phone's ICE: credentials, candidates and the SDP that says them."""

    def __init__(self, ip, port, number=0, extra=(), mux=False, trickle=False):
        self.ip, self.port, self.mux, self.trickle = ip, port, mux, trickle
        self.restart()
        self.lines = [f"a=candidate:h{number} 1 UDP 2130706431 {ip} {port} typ host",
                      f"a=candidate:h{number} 2 UDP 2130706430 {ip} {port + 1} typ host",
                      f"a=candidate:s{number} 1 UDP 1694498815 198.18.0.{number + 1} 4{port % 1000:03} typ srflx "
                      f"raddr {ip} rport {port}",
                      *extra]
        self.remote = []

    def restart(self):
        self.ufrag, self.pwd = "u" + token()[-7:], "p" * 8 + token()[-16:].rjust(16, "0")

    def attributes(self):
        lines = [f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.pwd}"]
        lines += ["a=ice-options:trickle"] if self.trickle else []
        lines += self.lines + self.remote + (["a=rtcp-mux"] if self.mux else [])
        return "".join(line + "\r\n" for line in lines)


KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
_version = iter(range(1, 1 << 30))


def sdp(ice=None, ip="10.9.9.9", port=4000, extra="", direction="sendrecv", codecs="0 8"):
    """ice None: a legacy phone's."""
    ip, port = (ice.ip, ice.port) if ice else (ip, port)
    return (f"v=0\r\no=- 77 {next(_version)} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP {codecs}\r\na=rtcp:{port + 1}\r\n{ice.attributes() if ice else ''}{extra}a={direction}\r\n")


def attribute(body, name):
    return re.findall(rf"^a={name}:(.*?)\r?$", body, re.M)


def candidates(body):
    """[(type, component, priority, host, port)] of all a=candidate lines."""
    rows = [line.split() for line in attribute(body, "candidate")]
    return [(r[7], int(r[1]), int(r[3]), r[4], int(r[5])) for r in rows]


def destination(body):
    return re.findall(r"^c=IN IP4 (\S+)", body, re.M)[-1], int(re.search(r"^m=audio (\d+)", body, re.M).group(1))


def is_steered(body, ice, kedge, selected=False):
    """The other phone's ICE as it wrote it, and kedge's ports as the last resort and default; when a pair is selected, the
    default is the phone's end of it."""
    assert attribute(body, "ice-ufrag") == [ice.ufrag] and attribute(body, "ice-pwd") == [ice.pwd], body
    told = [line.partition(" raddr ")[0] for line in attribute(body, "candidate")]
    for line in ice.lines:  # but for raddr, which is nobody's business
        assert line.removeprefix("a=candidate:").partition(" raddr ")[0] in told, (line, body)
    ours = [c for c in candidates(body) if c[3] == kedge.host.addr]
    theirs = [c for c in candidates(body) if c[3] != kedge.host.addr]
    assert len(theirs) == len(ice.lines), body
    assert ours and all(c[0] == "relay" for c in ours), body
    for component in (1, 2):
        lowest = min((c[2] for c in theirs if c[1] == component), default=1 << 32)
        assert all(c[2] < lowest for c in ours if c[1] == component), body
    rtp = next(c for c in ours if c[1] == 1)
    assert destination(body) == ((ice.ip, ice.port) if selected else (kedge.host.addr, rtp[4])), body
    if selected:
        return
    if any(c[1] == 2 for c in ours):
        rtcp = next(c[4] for c in ours if c[1] == 2)
        said = attribute(body, "rtcp")
        assert (said and int(said[0].split()[0]) == rtcp) or (not said and rtcp == rtp[4] + 1), body


def kedge_ice(body, kedge):
    """kedge is the ICE peer: its own credentials and nothing but host candidates of its own. Returns (ufrag, pwd)."""
    (ufrag,), (pwd,) = attribute(body, "ice-ufrag"), attribute(body, "ice-pwd")
    found = candidates(body)
    assert found and all(c[0] == "host" and c[3] == kedge.host.addr for c in found), body
    assert len(ufrag) >= 4 and len(pwd) >= 22
    assert destination(body) == (kedge.host.addr, found[0][4]), body
    return ufrag, pwd


def no_ice(body, kedge):
    assert "a=ice" not in body and "a=candidate" not in body, body
    assert destination(body)[0] == kedge.host.addr
    return True


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "elsewhere")]


class Scene:
    """Two scripted phones at one kedge."""

    def __init__(self, kedge, stage, hosts, transport="udp"):
        self.kedge = kedge
        self.a, self.b = (stage.agent(hosts[i], user, "pw-" + user, (kedge.host.addr, 5060), transport=transport)
                          for i, user in ((1, "alice"), (2, "bob")))
        assert self.a.register().status == 200 and self.b.register().status == 200
        self.da, self.db = Dialog(self.a), Dialog(self.b)
        self.allow = ()
        self.ice_a, self.ice_b = Ice(hosts[1].addr, 5000), Ice(hosts[2].addr, 6000, 1)

    def _during(self, first, then):
        """first() in a thread, which waits for what then() does. Returns both results."""
        out = []
        thread = threading.Thread(target=lambda: out.append(first()))
        thread.start()
        result = then()
        thread.join(60)
        assert out, "no answer"
        return out[0], result

    def call(self, offer, answer, early=()):
        """Returns (what the callee was offered, what the caller was answered, provisional responses)."""
        provisional = []

        def callee():
            request = self.b.expect("INVITE")
            for number, body in enumerate(early):
                self.b.reply(request, 183, body)
                assert until(lambda n=number: len([p for p in provisional if p.body]) > n)
            self.db.answer(request, body=answer, headers=self.allow)
            return request
        response, request = self._during(
            lambda: self.da.call("bob", body=offer, provisional=provisional, headers=self.allow), callee)
        assert response.status == 200, response
        return request.body, response.body, provisional

    def reinvite(self, who, offer, answer, method="INVITE"):
        """`who` offers anew and the other answers. Returns (what the other was offered, what `who` was answered)."""
        other = self.db if who is self.da else self.da

        def peer():
            request = other.agent.expect(method)
            other.agent.reply(request, 200, answer)
            if method == "INVITE":
                other.agent.expect("ACK")
            return request
        response, request = self._during(lambda: self.offer(who, offer, method), peer)
        assert response.status == 200, response
        return request.body, response.body

    @staticmethod
    def offer(who, body, method="INVITE"):
        if method == "INVITE":
            return who.reinvite(body=body)
        return who.request(method, body=body)

    def absorbed(self, who, body, method="INVITE"):
        """`who` is answered by kedge alone: the other phone hears nothing."""
        other = self.db if who is self.da else self.da
        response = self.offer(who, body, method)
        assert response.status == 200, response
        assert other.agent.quiet(method, 0.5)
        return response.body

    def path(self):
        (call,) = self.kedge.calls()
        return call["path"], call["reason"]

    def told(self):
        (call,) = self.kedge.calls()
        return self.kedge.json("explain", call["id"])

    def explained(self):
        return " ".join(self.told()["explain"])

    def end(self):
        done = []
        thread = threading.Thread(target=lambda: done.append(self.da.bye()))
        thread.start()
        self.b.reply(self.b.expect("BYE"), 200)
        thread.join(60)
        assert done[0].status == 200
        self.kedge.no_calls()


@pytest.fixture
def scene(stage, hosts):
    def make(transport="udp", ice=None, **media):
        config = {"media": media}
        if isinstance(ice, dict):
            config["ice"] = ice
        elif ice:
            media["ice"] = ice
        kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in ("alice", "bob")}, config=config)
        return Scene(kedge, stage, hosts, transport)
    return make


# Who does ICE with whom


@pytest.mark.parametrize("policy", ("auto", "steer"))
def test_two_ice_phones_are_steered_to_each_other(scene, policy):
    s = scene(policy=policy)
    offered, answered, _ = s.call(sdp(s.ice_a, extra=KEY), sdp(s.ice_b, extra=KEY))
    is_steered(offered, s.ice_a, s.kedge)
    is_steered(answered, s.ice_b, s.kedge)
    assert KEY.strip() in offered and KEY.strip() in answered  # keys are the phones' own
    assert s.path()[0] == "direct" and "both phones do ICE" in s.path()[1]
    s.end()
    assert s.kedge.stats()["calls_direct"] == 1


def test_private_addresses_stay_in_their_network(scene):
    """The phones are seen behind different public addresses: neither can reach the other's private one."""
    s = scene()
    for ice in (s.ice_a, s.ice_b):
        ice.lines.append(f"a=candidate:p 1 UDP 2130706000 192.168.1.5 {ice.port} typ host")
    for body, ice in zip(s.call(sdp(s.ice_a), sdp(s.ice_b)), (s.ice_a, s.ice_b)):
        assert "192.168.1.5" not in body
        ice.lines.pop()
        is_steered(body, ice, s.kedge)
    s.end()


def test_rtcp_mux_is_agreed_end_to_end(scene):
    s = scene()
    s.ice_a.mux = True
    offered, answered, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    assert "a=rtcp-mux" in offered and "a=rtcp-mux" not in answered
    s.end()
    s.ice_b.mux = True
    s.da, s.db = Dialog(s.a), Dialog(s.b)
    offered, answered, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    assert "a=rtcp-mux" in answered
    s.end()


def test_ice_phone_calls_a_legacy_phone(scene):
    s = scene()
    offered, answered, _ = s.call(sdp(s.ice_a), sdp())
    is_steered(offered, s.ice_a, s.kedge)  # kedge cannot know before it asks
    kedge_ice(answered, s.kedge)
    assert s.path() == ("anchored", s.path()[1]) and "only the caller does ICE" in s.path()[1]
    s.end()
    assert s.kedge.stats()["calls_anchored"] == 1


def test_legacy_phone_calls_an_ice_phone(scene):
    s = scene()
    offered, answered, _ = s.call(sdp(), sdp(s.ice_b))
    kedge_ice(offered, s.kedge)
    assert no_ice(answered, s.kedge)
    assert "only the callee does ICE" in s.path()[1]
    s.end()


def test_two_legacy_phones(scene):
    s = scene()
    offered, answered, _ = s.call(sdp(), sdp())
    kedge_ice(offered, s.kedge)
    assert no_ice(answered, s.kedge)
    assert "neither side does ICE" in s.path()[1]
    s.end()


def test_a_mismatch_is_no_ice(scene):
    s = scene()
    _, answered, _ = s.call(sdp(s.ice_a), sdp(extra="a=ice-mismatch\r\n"))
    kedge_ice(answered, s.kedge)
    assert "ICE mismatch" in s.path()[1] and "callee" in s.path()[1]
    s.end()


def test_an_alg_that_changes_the_offer_is_noticed(scene):
    """The default destination is none of the candidates (RFC 8839 4.2.5)."""
    s = scene()
    changed = sdp(s.ice_a).replace(f"m=audio {s.ice_a.port} ", "m=audio 61234 ")
    offered, answered, _ = s.call(changed, sdp(s.ice_b))
    kedge_ice(offered, s.kedge)
    assert "a=ice-mismatch" in answered and "a=candidate" not in answered
    assert "ICE mismatch" in s.path()[1] and "caller" in s.path()[1]
    assert "does ICE, but not in this call: the address in c=, m= or a=rtcp is none of its candidates" in s.explained()
    s.end()


def test_ice_that_cannot_be_used_is_explained(scene):
    """A password shorter than RFC 8839 5.4 allows: that phone's media is found by its packets, and people read why."""
    s = scene()
    short = re.sub(r"a=ice-pwd:\S+", "a=ice-pwd:tooshort", sdp(s.ice_b))
    _, answered, _ = s.call(sdp(s.ice_a), short)
    kedge_ice(answered, s.kedge)
    assert "only the caller does ICE" in s.path()[1]
    assert "does ICE, but not in this call: its a=ice-ufrag or a=ice-pwd is too short" in s.explained()
    s.end()


def test_policy_anchor_does_ice_with_each_side(scene):
    s = scene(policy="anchor")
    offered, answered, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    assert kedge_ice(offered, s.kedge) != kedge_ice(answered, s.kedge)
    assert s.path() == ("anchored", "the configuration says so (media.policy, a route or a trunk: anchor)")
    s.end()


def test_policy_steer_says_why_it_cannot(scene):
    s = scene(policy="steer")
    s.call(sdp(s.ice_a), sdp())
    assert s.path()[0] == "anchored" and "media.policy is steer, but the callee does no ICE" in s.path()[1]
    s.end()


def test_without_ice(scene):
    s = scene(ice="no")
    offered, answered, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    assert no_ice(offered, s.kedge) and no_ice(answered, s.kedge)
    assert "media.ice: no" in s.path()[1]
    s.end()


# Early media


def test_early_media_of_another_kind_than_the_answer(scene):
    """An announcement without ICE, then a phone with it: the caller is told what holds at each moment."""
    s = scene()
    _, answered, provisional = s.call(sdp(s.ice_a), sdp(s.ice_b), early=[sdp()])
    early = next(p.body for p in provisional if p.body)
    kedge_ice(early, s.kedge)
    is_steered(answered, s.ice_b, s.kedge)
    s.end()


def test_early_media_of_an_ice_phone_then_a_legacy_one(scene):
    s = scene()
    _, answered, provisional = s.call(sdp(s.ice_a), sdp(), early=[sdp(s.ice_b)])
    is_steered(next(p.body for p in provisional if p.body), s.ice_b, s.kedge)
    kedge_ice(answered, s.kedge)
    s.end()


# Later offers


@pytest.mark.parametrize("method", ("INVITE", "UPDATE"))
def test_a_restart_passes_on_a_steered_call(scene, method):
    s = scene()
    s.allow = ["Allow: INVITE, ACK, BYE, CANCEL, UPDATE"]
    s.call(sdp(s.ice_a), sdp(s.ice_b))
    for who, ice, other in ((s.da, s.ice_a, s.ice_b), (s.db, s.ice_b, s.ice_a)):
        ice.restart()
        other.restart()
        offered, answered = s.reinvite(who, sdp(ice), sdp(other), method)
        is_steered(offered, ice, s.kedge)
        is_steered(answered, other, s.kedge)
    assert s.kedge.stats()["ice_restarts"] == 2
    assert s.path()[0] == "direct"
    s.end()


@pytest.mark.parametrize("method", ("INVITE", "UPDATE"))
def test_a_restart_is_absorbed_on_an_anchored_call(scene, method):
    s = scene()
    _, answered, _ = s.call(sdp(s.ice_a), sdp())
    before = kedge_ice(answered, s.kedge)
    same = s.absorbed(s.da, sdp(s.ice_a), method)  # nothing but o= is new: no restart
    assert kedge_ice(same, s.kedge) == before
    s.ice_a.restart()
    after = s.absorbed(s.da, sdp(s.ice_a), method)
    assert kedge_ice(after, s.kedge) != before
    s.ice_a.restart()
    s.ice_a.port += 100
    s.ice_a.lines = [line.replace(" 5000 ", " 5100 ").replace(" 5001 ", " 5101 ") for line in s.ice_a.lines]
    again = s.absorbed(s.da, sdp(s.ice_a), method)  # from another port: still nobody else's business
    assert kedge_ice(again, s.kedge) != kedge_ice(after, s.kedge)
    assert s.kedge.stats()["ice_restarts"] == 2
    s.end()


def test_hold_passes_on_an_anchored_call_with_ice(scene):
    s = scene(policy="anchor")
    offered, answered, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    offered2, answered2 = s.reinvite(s.da, sdp(s.ice_a, direction="sendonly"), sdp(s.ice_b, direction="recvonly"))
    assert "a=sendonly" in offered2 and "a=recvonly" in answered2
    assert kedge_ice(offered2, s.kedge) == kedge_ice(offered, s.kedge)  # no restart of kedge's
    assert kedge_ice(answered2, s.kedge) == kedge_ice(answered, s.kedge)
    s.end()


def test_the_updated_offer_after_nomination(scene):
    """RFC 8839 4.4.1: the controlling phone says which pair was selected; that is the default destination then."""
    s = scene()
    s.call(sdp(s.ice_a), sdp(s.ice_b))
    s.ice_a.remote = [f"a=remote-candidates:1 {s.ice_b.ip} {s.ice_b.port} 2 {s.ice_b.ip} {s.ice_b.port + 1}"]
    offered, answered = s.reinvite(s.da, sdp(s.ice_a), sdp(s.ice_b))
    is_steered(offered, s.ice_a, s.kedge, selected=True)
    is_steered(answered, s.ice_b, s.kedge, selected=True)
    assert attribute(offered, "remote-candidates") == [s.ice_a.remote[0].removeprefix("a=remote-candidates:")]
    assert any("told kedge which pair" in line for line in s.told()["explain"]), s.told()["explain"]
    s.end()


def test_ice_that_is_given_up(scene):
    """A steered phone offers without ICE (a transfer to another device): the other one does ICE with kedge from then on."""
    s = scene()
    s.call(sdp(s.ice_a), sdp(s.ice_b))
    s.ice_b.restart()
    offered, answered = s.reinvite(s.da, sdp(), sdp(s.ice_b))
    kedge_ice(offered, s.kedge)
    assert no_ice(answered, s.kedge)
    assert s.path()[0] == "anchored" and "only the callee does ICE" in s.path()[1]
    s.end()


# A path that is lost


def answer_offer(dialog, body):
    """The phone answers kedge's re-INVITE; what it was offered."""
    request = dialog.agent.expect("INVITE", 30)
    dialog.agent.reply(request, 200, body)
    dialog.agent.expect("ACK")
    return request.body


def test_a_phone_that_registers_from_elsewhere_falls_back(scene, stage, hosts):
    """A direct call: kedge hears nothing of its media, but that the phone registers from another address. Both phones are offered
    ICE with kedge, the one that moved first, and where it is now."""
    s = scene()
    s.call(sdp(s.ice_a), sdp(s.ice_b))
    contact, uri = s.a.contact, s.da.target
    s.a.close()
    s.da.agent = moved = stage.agent(hosts[3], "alice", "pw-alice", (s.kedge.host.addr, 5060))
    assert moved.register(contact=contact).status == 200
    s.ice_a.restart()
    kedge_ice(answer_offer(s.da, sdp(s.ice_a)), s.kedge)
    s.ice_b.restart()
    kedge_ice(answer_offer(s.db, sdp(s.ice_b)), s.kedge)
    assert until(lambda: s.path() == ("anchored", s.path()[1])) and "path between the phones was lost" in s.path()[1]
    told = s.told()
    assert [e["what"] for e in told["events"]] == ["moved", "fallback", "renewal", "renewal"], told["events"]
    assert any("alice's phone moved" in line and hosts[3].addr in line for line in told["explain"])
    assert s.kedge.stats()["ice_fallbacks"] == 1 and s.kedge.stats()["ice_renewals"] == 2
    s.da.target = uri
    s.a = moved
    s.end()


def test_a_legacy_phone_that_registers_from_elsewhere_is_followed(scene, stage, hosts):
    """Latching: packets from the host that its REGISTER came from are believed."""
    s = scene()
    offered, answered, _ = s.call(sdp(), sdp())
    old, other, new = (stage.rtp(hosts[i]) for i in (1, 2, 3))
    contact, at = s.a.contact, destination(answered)
    old.to, other.to = at, destination(offered)
    assert old.got(0, 100) and other.got(0, 100)
    s.a.close()
    old.to = None
    new.to = at
    mark = time.monotonic()
    assert not other.got(mark + 0.2, 100, timeout=1)  # nobody has said that this is alice
    s.a = s.da.agent = stage.agent(hosts[3], "alice", "pw-alice", (s.kedge.host.addr, 5060))
    assert s.a.register(contact=contact).status == 200
    mark = time.monotonic()
    assert other.got(mark, 400, timeout=20) and new.got(mark, 400, timeout=20)
    s.end()


def test_a_phone_that_does_not_restart_goes_on_without_ice(scene):
    """It answers kedge's restart with the credentials that it had, as baresip does: it is offered media without ICE, once."""
    s = scene(ice={"patience": 1, "rto": 50})
    s.call(sdp(s.ice_a), sdp())
    kedge_ice(answer_offer(s.da, sdp(s.ice_a)), s.kedge)
    assert no_ice(answer_offer(s.da, sdp(s.ice_a)), s.kedge)
    assert s.a.quiet("INVITE", 3) and s.b.quiet("INVITE", 0.1)
    assert "plain" in [e["what"] for e in s.told()["events"]]
    s.ice_a.restart()  # when it restarts by itself, kedge is its ICE peer again
    _, answered = s.reinvite(s.da, sdp(s.ice_a), sdp())
    kedge_ice(answered, s.kedge)
    s.end()


def test_a_call_whose_phone_answers_nothing_any_more_ends(scene):
    s = scene(ice={"patience": 1, "rto": 50})
    s.call(sdp(s.ice_a), sdp())
    s.a.expect("INVITE", 30)  # and says nothing
    bye = s.b.expect("BYE", 60)
    assert "no other was found" in bye.get("reason"), bye.headers
    s.b.reply(bye, 200)


# Sizes


def test_a_long_offer_stays_below_1300_bytes_over_udp(scene):
    s = scene()
    s.ice_a.lines += [f"a=candidate:x{i} 1 UDP {2130700000 - i} 198.18.{i}.7 {7000 + i} typ host" for i in range(27)]
    offered, answered, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    invite = s.db.invite
    size = len(invite.start) + 2 + sum(len(n) + len(v) + 4 for n, v in invite.headers) + 2 + len(offered)
    assert size < 1300, (size, offered)
    assert attribute(offered, "ice-ufrag") == [s.ice_a.ufrag]
    assert {"host", "relay"} == {c[0] for c in candidates(offered)}, (size, offered)
    assert {1, 2} == {c[1] for c in candidates(offered) if c[0] == "host"}  # RTCP's goes with RTP's
    assert any("left out" in line and "datagram" in line for line in s.told()["explain"]), s.told()["explain"]
    s.end()


def test_a_long_offer_is_whole_over_tcp(scene):
    s = scene(transport="tcp")
    s.ice_a.lines += [f"a=candidate:x{i} 1 UDP {2130700000 - i} 198.18.{i}.7 {7000 + i} typ host" for i in range(10)]
    offered, _, _ = s.call(sdp(s.ice_a), sdp(s.ice_b))
    is_steered(offered, s.ice_a, s.kedge)
    s.end()


# Survival


def test_signalling_is_restarted_in_a_steered_call(scene):
    s = scene()
    s.call(sdp(s.ice_a), sdp(s.ice_b))
    restart_signalling(s)
    assert s.path()[0] == "direct"
    s.ice_a.restart()
    s.ice_b.restart()
    offered, answered = s.reinvite(s.da, sdp(s.ice_a), sdp(s.ice_b))
    is_steered(offered, s.ice_a, s.kedge)
    is_steered(answered, s.ice_b, s.kedge)
    s.end()


def test_signalling_is_restarted_in_an_anchored_call(scene):
    s = scene()
    _, answered, _ = s.call(sdp(s.ice_a), sdp())
    before = kedge_ice(answered, s.kedge)
    restart_signalling(s)
    assert "only the caller does ICE" in s.path()[1]
    assert kedge_ice(s.absorbed(s.da, sdp(s.ice_a)), s.kedge) == before  # the same ICE session goes on
    s.ice_a.restart()
    assert kedge_ice(s.absorbed(s.da, sdp(s.ice_a)), s.kedge) != before
    s.end()


def restart_signalling(s):
    old = s.kedge.role("signalling")
    os.kill(old, signal.SIGKILL)
    assert until(lambda: s.kedge.role("signalling") not in (None, old), 15, 0.05)
    assert until(lambda: s.kedge.try_ctl("version").returncode == 0, 15, 0.1)
    assert until(lambda: len(s.kedge.calls()) == 1, 15, 0.1), s.kedge.calls()
