"""Every feature of SIP that kedge passes or speaks, each as two small SIPp scenarios, over each pair of transports in each direction; and
once more over a line that loses 5 % of the packets either way, each once, and turns others around on their way to kedge.

A feature is a function that gets a Play and returns the steps of the caller and of the callee. A message that no step names makes
SIPp count the call as failed; so does one that does not come. After each, kedge must have no call and no dialog left.
"""
import concurrent.futures
import re
import threading

import pytest

from interop.hosts import Stopwatch
from interop.report import publish
from interop.sip_lines import DOMAIN, World
from interop.sipp import label, maybe, pause, recv, sdp, send

ALLOW = "Allow: INVITE, ACK, CANCEL, BYE, UPDATE, PRACK, REFER, NOTIFY, INFO, MESSAGE, OPTIONS"
FAX = ("v=0\no=- 20518 {version} IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=image 21000 udptl t38\na=T38FaxVersion:0\n"
       "a=T38FaxRateManagement:transferredTCF\n")
PARTS = "multipart/mixed;boundary=cut"
WORKERS, LOSSY_WORKERS = 8, 45   # the latter mostly wait
LOSSY_SETTLE = 5000  # ms
starting = threading.Semaphore(3)  # that takes a processor: fifty that start at once would leave none to those that play


# ---- messages ----

def took(what, header, pattern, name="found", **attributes):
    """A message that must have this in this header (None: in its body). The whole match goes into $name, the first group into $name1."""
    where = 'search_in="body"' if header is None else f'search_in="hdr" header="{header}:"'
    names = name + (f",{name}1" if "(" in pattern else "")
    check = f'<ereg regexp="{pattern}" {where} check_it="true" assign_to="{names}"/>'
    step = recv(what, **attributes)
    if "<action>" in step:
        return step.replace("</action>", check + "</action>")
    return step.replace("/>\n", f"><action>{check}</action></recv>\n", 1)


def lines(headers):
    return "".join(h + "\n" for h in headers)


class Party:
    """One of the two: what it says. mark tells its tags and branches from the other's. settle: what it waits before requests in a dialog, so
    that what it has said before is there, and nobody meets a request while it waits itself (SIPp takes that for an error)."""

    def __init__(self, mark, user, via, settle, target=None):
        self.mark, self.user, self.via, self.settle, self.target = mark, user, via, settle, target
        self.me = f"<sip:{user}@{DOMAIN}>"
        self.contact = f"Contact: <sip:{user}@[local_ip]:[local_port];transport={via.lower()}>"
        self.tag = f";tag={mark}[pid]-[call_number]"

    def branch(self, name):
        return f"Via: SIP/2.0/{self.via} [local_ip]:[local_port];rport;branch=z9hG4bK-[pid]-[call_number]-{self.mark}{name}"

    def first(self, method, cseq, body="", headers=(), call="[call_id]", **kw):
        """A request outside of a dialog; the caller's. CANCEL and ACK of a refusal have the branch of the request with this number."""
        contact = [] if method in ("MESSAGE", "PUBLISH", "CANCEL", "ACK") else [self.contact]
        if method not in ("ACK",):
            kw.setdefault("retrans", "500")
        to = "[peer_tag_param]" if method == "ACK" else ""
        return send(f"{method} {self.target} SIP/2.0\n{self.branch(f'f{cseq}')}\nMax-Forwards: 70\nFrom: {self.me}{self.tag}\n"
                    f"To: <{self.target}>{to}\nCall-ID: {call}\nCSeq: {cseq} {method}\n{lines([*contact, *headers])}\n{body}", **kw)

    def request(self, method, cseq, body="", headers=(), name=None, to=None, uri="[next_url]", now=False, **kw):
        """Inside of a dialog. name: of the branch, where it is another request's (ACK of a refusal). now: without waiting."""
        if method != "ACK":
            kw.setdefault("retrans", "500")
        wait = "" if method == "ACK" or now else self.settle
        if self.mark == "a":
            parties = f"From: {self.me}{self.tag}\nTo: <{self.target}>{to or '[peer_tag_param]'}\n"
        else:
            parties = f"From: [$callee]{self.tag}\nTo: [$caller]\n"
        contact = [self.contact] if method in ("INVITE", "UPDATE", "SUBSCRIBE", "REFER", "NOTIFY") else []
        return wait + send(f"{method} {uri} SIP/2.0\n{self.branch(name or f'{method}{cseq}')}\n[routes]\nMax-Forwards: 70\n{parties}"
                    f"Call-ID: [call_id]\nCSeq: {cseq} {method}\n{lines([*contact, *headers])}\n{body}", **kw)

    def refused(self, cseq):
        """The ACK of a refused re-INVITE."""
        return self.request("ACK", cseq, name=f"INVITE{cseq}")

    def reply(self, status, body="", headers=(), tag=False, **kw):
        """To the request that came last; tag: it was the first of its dialog."""
        return send(f"SIP/2.0 {status} Answer\n[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:]{self.tag if tag else ''}\n"
                    f"[last_Call-ID:]\n[last_CSeq:]\n{lines([self.contact, *headers])}\n{body}", **kw)

    def answer(self, status, body="", headers=(), **kw):
        """To the INVITE that opened() or kept() kept, whatever came since."""
        if status == "200":
            kw.setdefault("retrans", "500")
        headers = [self.contact, ALLOW, *headers] if int(status) < 400 else headers
        return send(f"SIP/2.0 {status} Answer\nVia: [$via]\nFrom: [$caller]\nTo: [$callee]{self.tag}\nCall-ID: [call_id]\n"
                    f"CSeq: [$cseq]\n{lines(headers)}\n{body}", **kw)


KEPT = "".join(f'<ereg regexp="[^ ].*" search_in="hdr" header="{h}:" assign_to="{v}"/>' for h, v in (("Via", "via"), ("CSeq", "cseq")))
WHO = "".join(f'<ereg regexp="[^ ].*" search_in="hdr" header="{h}:" assign_to="{v}"/>' for h, v in (("From", "caller"), ("To", "callee")))


def opened(method="INVITE"):
    """The first request, with what later messages of the callee are made of."""
    return recv(method, rrs="true").replace("/>\n", f"><action>{KEPT}{WHO}</action></recv>\n", 1)


def kept(method="INVITE"):
    return recv(method).replace("/>\n", f"><action>{KEPT}</action></recv>\n", 1)


class Play:
    """way: "out", "in" or "phones" (sip_lines.py); lossy: the line loses packets."""

    def __init__(self, way, phone, pbx, target, lossy=False):
        self.way, self.lossy = way, lossy
        near = pbx if way == "in" else phone
        far = pbx if way == "out" else phone
        # Long enough for what was lost to be sent again, in both directions and on both sides of kedge (after 0.5, 1.5 and 3.5 s).
        self.settle = pause(LOSSY_SETTLE if lossy else 500)
        self.a = Party("a", "pbx" if way == "in" else "alice", near.upper(), self.settle, target)
        self.b = Party("b", "service" if way == "out" else "alice" if way == "in" else "bob", far.upper(), self.settle)
        self.cseq = 2 if way == "phones" else 1   # of the first request that kedge let pass
        # SIPp repeats its last message only, and takes its peer's tag from whatever came last: what belongs to the INVITE and to the
        # refusal before it must be over when the next answer goes (each is lost once: 1.5 s).
        self.ring = pause(2500 if lossy else 100)

    def heard(self, status, **kw):
        """A provisional response, which nobody sends again."""
        return maybe(status, **kw) if self.lossy else recv(status, **kw)

    def opens(self, method, body="", headers=(), **kw):
        """The first request, once more with the password where kedge asks for it."""
        if self.way != "phones":
            return [self.a.first(method, 1, body, headers, **kw)]
        proof = "[authentication username=alice password=pw-alice]"
        again = [maybe("100")] if method == "INVITE" else []
        ack = [self.a.first("ACK", 1)] if method == "INVITE" else []
        return [self.a.first(method, 1, body, headers, **kw), *again, recv("407", auth="true"), *ack,
                self.a.first(method, 2, body, [*headers, proof], **kw)]

    def invites(self, body=sdp(), headers=(), **kw):
        return [*self.opens("INVITE", body, [ALLOW, *headers], **kw), maybe("100")]

    def refused(self):
        """The caller's ACK of a refusal of its first INVITE."""
        return self.a.first("ACK", self.cseq)

    def answered(self, body=None, headers=()):
        return [recv("200", rrs="true"), self.a.request("ACK", self.cseq, sdp() if body else "", headers)]

    def asks(self, side, method, cseq, body="", answer="", headers=(), more=(), kind="application/sdp", there=None):
        """A request in the dialog by one side, answered by the other. more: headers of the answer. there: the other's recv."""
        one, two = (self.a, self.b) if side == "a" else (self.b, self.a)
        invite = method == "INVITE"
        near = [one.request(method, cseq, body, headers, kind=kind), *([maybe("100")] if invite else []), recv("200"),
                *([one.request("ACK", cseq)] if invite else [])]
        far = [there or recv(method), two.reply("200", answer, more, **({"retrans": "500"} if invite else {})),
               *([recv("ACK")] if invite else [])]
        return (near, far) if side == "a" else (far, near)

    def alone(self, side, method, cseq, body="", headers=(), answer=None):
        """The same, where kedge answers; the other side waits that long."""
        one = self.a if side == "a" else self.b
        steps = [one.request(method, cseq, body, headers), *([maybe("100")] if method == "INVITE" else []), answer or recv("200"),
                 *([one.request("ACK", cseq)] if method == "INVITE" else [])]
        wait = [self.settle, self.settle]
        return (steps, wait) if side == "a" else (wait, steps)

    def call(self, *talk, offer=sdp(), answer=sdp(), ha=(), hb=(), ok=None):
        """A call that rings, is answered, and ends by the caller. talk: pairs of steps in between."""
        near = [*self.invites(offer, ha), self.heard("180"), ok or recv("200", rrs="true"), self.a.request("ACK", self.cseq)]
        far = [opened(), self.b.answer("180"), self.ring, self.b.answer("200", answer, hb), recv("ACK")]
        return self.ends(near, far, *talk)

    def ends(self, near, far, *talk):
        for a, b in talk:
            near, far = [*near, *a], [*far, *b]
        return ([*near, self.a.request("BYE", 90), recv("200")], [*far, recv("BYE"), self.b.reply("200")])


# ---- the features ----

def plain(p):
    return p.call()


def callee_hangs_up(p):
    near, far = p.call()
    return [*near[:-2], recv("BYE"), p.a.reply("200")], [*far[:-2], p.b.request("BYE", 1), recv("200")]


def early_media_that_changes(p):
    """183 with SDP, 180 with other SDP, 200 with other SDP. What the media process has not taken before the next one comes is not told."""
    near = [*p.invites(), maybe("183"), maybe("180"), took("200", None, "RTP/AVP 8[^0-9 ]", rrs="true"),
            p.a.request("ACK", p.cseq)]
    slowly = p.ring if p.lossy else pause(500)
    far = [opened(), p.b.answer("183", sdp(codecs="0")), slowly, p.b.answer("180", sdp(port=20004)), slowly,
           p.b.answer("200", sdp(port=20008, codecs="8")), recv("ACK")]
    return p.ends(near, far)


def late_offer(p):
    near = [*p.invites(body=""), p.heard("180"), took("200", None, "m=audio [1-9]", rrs="true"), p.a.request("ACK", p.cseq, sdp())]
    far = [opened(), p.b.answer("180"), p.ring, p.b.answer("200", sdp()), took("ACK", None, "m=audio [1-9]")]
    return p.ends(near, far)


RSEQ = "([0-9]+)"
RELIABLE = ["Require: 100rel", "RSeq: 17"]


def pracks(p, method="PRACK"):
    """The caller's part, from a reliable 183 to the 200 of its PRACK."""
    return [took("183", "RSeq", RSEQ, "rseq", rrs="true"), p.a.request(method, 20, headers=[f"RAck: [$rseq1] {p.cseq} INVITE"], now=True), recv("200")]


def rel_by_caller(p):
    """The callee knows nothing of it."""
    near = [*p.invites(headers=["Require: 100rel"]), *pracks(p), recv("200", rrs="true"), p.a.request("ACK", p.cseq)]
    far = [opened(), p.b.answer("183", sdp()), p.settle if p.lossy else pause(2000), p.b.answer("200", sdp()), recv("ACK")]
    return p.ends(near, far)


def rel_by_callee(p):
    """The caller knows nothing of it."""
    near = [*p.invites(), p.heard("183"), p.heard("180"), recv("200", rrs="true"), p.a.request("ACK", p.cseq)]
    far = [opened(), p.b.answer("183", sdp(), RELIABLE, retrans="500"), recv("PRACK"), p.b.reply("200"), p.settle, p.b.answer("180"), p.ring,
           p.b.answer("200", sdp()), recv("ACK")]
    return p.ends(near, far)


def rel_on_both(p, near=(), far=()):
    near = [*p.invites(headers=["Require: 100rel"]), *pracks(p), *near, recv("200", rrs="true"), p.a.request("ACK", p.cseq)]
    far = [opened(), p.b.answer("183", sdp(), RELIABLE, retrans="500"), recv("PRACK"), p.b.reply("200"), *far, p.settle,
           p.b.answer("200"), recv("ACK")]
    return p.ends(near, far)


def early_update(p):
    """Both ways, before the answer."""
    a = p.asks("a", "UPDATE", 21, sdp(direction="sendonly", version=1), sdp(direction="recvonly", version=1))
    b = p.asks("b", "UPDATE", 2, sdp(version=2), sdp(version=2))
    return rel_on_both(p, [*a[0], *b[0]], [*a[1], *b[1]])


def update(p):
    return p.call(p.asks("a", "UPDATE", 21, sdp(direction="sendonly", version=1), sdp(direction="recvonly", version=1)),
                  p.asks("b", "UPDATE", 2, sdp(version=2), sdp(version=2)))


def session_refresh(p):
    """The caller by UPDATE and the callee by re-INVITE, each its own session with kedge."""
    by_a, by_b = ["Supported: timer", "Session-Expires: 120;refresher=uac"], ["Supported: timer", "Session-Expires: 150;refresher=uac"]
    return p.call(p.alone("a", "UPDATE", 21, headers=by_a, answer=took("200", "Session-Expires", "120")),
                  p.alone("b", "UPDATE", 2, headers=by_b, answer=took("200", "Session-Expires", "150")),
                  p.alone("b", "INVITE", 3, sdp(), by_b, took("200", "Session-Expires", "150")), ha=by_a,
                  hb=["Require: timer", "Session-Expires: 150;refresher=uas"], ok=took("200", "Session-Expires", "120;refresher=uac", rrs="true"))


def session_kept_by_kedge(p):
    """Both sides leave the refreshing to kedge: half of the shortest time that RFC 4028 knows."""
    def refreshed(side):
        return [took("UPDATE", "Session-Expires", "90;refresher=uac"),
                side.reply("200", headers=["Require: timer", "Session-Expires: 90;refresher=uac"])]
    near, far = [*refreshed(p.a), pause(LOSSY_SETTLE if p.lossy else 1000)], refreshed(p.b)
    return p.call((near, far), ha=["Supported: timer", "Session-Expires: 90;refresher=uas"],
                  hb=["Require: timer", "Session-Expires: 90;refresher=uac"], ok=took("200", "Session-Expires", "90;refresher=uas", rrs="true"))


def session_too_short(p):
    """422, and then what kedge wants."""
    def long(seconds):
        return [ALLOW, "Supported: timer", f"Session-Expires: {seconds};refresher=uac"]
    proof = ["[authentication username=alice password=pw-alice]"] if p.way == "phones" else []
    first = p.opens("INVITE", sdp(), long(100))
    again = [maybe("100"), took("422", "Min-SE", "120"), p.refused(), p.a.first("INVITE", p.cseq + 1, sdp(), [*long(120), *proof]), maybe("100")]
    if proof:  # the same nonce would be a repetition
        again = [*again[:3], p.a.first("INVITE", 3, sdp(), long(120)), maybe("100"), recv("407", auth="true"),
                 p.a.first("ACK", 3), p.a.first("INVITE", 4, sdp(), [*long(120), *proof]), maybe("100")]
    cseq = 4 if proof else 2
    near = [*first, *again, p.heard("180"), took("200", "Session-Expires", "120", rrs="true"), p.a.request("ACK", cseq)]
    return p.ends(near, [opened(), p.b.answer("180"), p.ring, p.b.answer("200", sdp()), recv("ACK")])


def hold_and_resume(p):
    """By the caller, then by the callee."""
    out = []
    for side, cseq, version in (("a", 21, 1), ("b", 2, 3)):
        out += [p.asks(side, "INVITE", cseq, sdp(direction="sendonly", version=version), sdp(direction="recvonly", version=version),
                       there=took("INVITE", None, "a=sendonly")),
                p.asks(side, "INVITE", cseq + 1, sdp(version=version + 1), sdp(version=version + 1), there=took("INVITE", None, "a=sendrecv"))]
    return p.call(*out)


def reinvite_without_sdp(p):
    def one(side, cseq):
        one, two = (p.a, p.b) if side == "a" else (p.b, p.a)
        near = [one.request("INVITE", cseq), maybe("100"), took("200", None, "m=audio [1-9]"), one.request("ACK", cseq, sdp(version=cseq))]
        far = [recv("INVITE"), two.reply("200", sdp(version=cseq), retrans="500"), took("ACK", None, "m=audio [1-9]")]
        return (near, far) if side == "a" else (far, near)
    return p.call(one("a", 21), one("b", 22))


def glare(p):
    """The callee's offer meets the caller's: 491; the caller's passes, and then the callee's."""
    near = [p.a.request("INVITE", 21, sdp(direction="sendonly", version=1)), maybe("100"), recv("200"), p.a.request("ACK", 21)]
    far = [kept(), p.b.answer("100"), *([p.ring] if p.lossy else []), p.b.request("INVITE", 2, sdp(version=1), now=True), maybe("100"), recv("491"),
           p.b.refused(2), *([] if p.lossy else [p.ring]), p.b.answer("200", sdp(direction="recvonly", version=1)), recv("ACK")]
    return p.call((near, far), p.asks("b", "INVITE", 3, sdp(version=2), sdp(version=2)))


def refer(p):
    """Blind transfer that passes: 202, and how it goes in two NOTIFYs; by either side."""
    def one(side, cseq):
        one, two = (p.a, p.b) if side == "a" else (p.b, p.a)
        near = [one.request("REFER", cseq, headers=[f"Refer-To: <sip:carol@{DOMAIN}>", f"Referred-By: {one.me}"]), recv("202")]
        far = [took("REFER", "Refer-To", "sip:carol@"), two.reply("202")]
        for i, (state, line) in enumerate((("active;expires=60", "SIP/2.0 100 Trying\n"), ("terminated;reason=noresource", "SIP/2.0 200 OK\n"))):
            near += [took("NOTIFY", None, line[:11]), one.reply("200")]
            far += [two.request("NOTIFY", cseq + i, line, ["Event: refer", f"Subscription-State: {state}"], kind="message/sipfrag;version=2.0"),
                    recv("200")]
        near, far = [*near], [*far]
        return (near, far) if side == "a" else (far, near)
    return p.call(one("a", 30), one("b", 40))


def replaces(p):
    """A second INVITE that names the first call (RFC 3891); the callee must find its own dialog in it: named_its_own()."""
    near, far = p.call()
    remember = ('<ereg regexp="tag=(.*)" search_in="hdr" header="To:" assign_to="all,totag"/>'
                '<ereg regexp="&lt;([^&gt;]*)" search_in="hdr" header="Contact:" assign_to="found,first"/>')
    answer = recv("200", rrs="true").replace("/>\n", f"><action>{remember}</action></recv>\n", 1)
    near = [answer if step == recv("200", rrs="true") else step for step in near[:-2]]
    taking = [f"Replaces: [call_id];to-tag=[$totag];from-tag={p.a.tag[5:]}", "Supported: replaces"]
    second = "2///[call_id]"
    proof = "[authentication username=alice password=pw-alice]"
    # SIPp repeats what it sent last: the first ACK, if it was lost, only until the second INVITE.
    near += [p.settle, p.a.first("INVITE", 31, sdp(), [ALLOW, *taking], call=second), maybe("100")]
    cseq = 31
    if p.way == "phones":
        near += [recv("407", auth="true"), p.a.first("ACK", 31, call=second), p.a.first("INVITE", 32, sdp(), [ALLOW, *taking, proof], call=second),
                 maybe("100")]
        cseq = 32
    again = [p.heard("180"), recv("200", rrs="true"), p.a.request("ACK", cseq, name="s1").replace("[call_id]", second), p.settle,
             p.a.request("BYE", 33, name="s2").replace("[call_id]", second), recv("200"), p.settle,
             p.a.request("BYE", 90, to=";tag=[$totag]", uri="[$first]"), recv("200")]
    return [*near, *again], far


def named_its_own(world, calls):
    """Of the INVITEs that the callee got one a call has Replaces, with a Call-ID that it had before."""
    invites = [m for m in world.heard("callee") if "\nINVITE " in m]
    ids = {re.search(r"(?mi)^Call-ID: *(\S+)", m).group(1) for m in invites}
    named = {m for m in invites if re.search("(?mi)^Replaces:", m)}
    found = {re.search(r"(?mi)^Replaces: *([^;\s]+)", m).group(1) for m in named}
    assert len(found) == calls and found <= ids, f"{found} of {ids}"


def dtmf(p):
    body, kind = "Signal=5\nDuration=160\n", "application/dtmf-relay"
    return p.call(p.asks("a", "INFO", 21, body, kind=kind, there=took("INFO", None, "Signal=5")),
                  p.asks("b", "INFO", 2, body, kind=kind, there=took("INFO", None, "Signal=5")))


def message_in_a_call(p):
    return p.call(p.asks("a", "MESSAGE", 21, "well\n", kind="text/plain", there=took("MESSAGE", None, "well")),
                  p.asks("b", "MESSAGE", 2, "well\n", kind="text/plain", there=took("MESSAGE", None, "well")))


def alone(p, method, status="200", body="", headers=(), more=(), there=None, back=None, **kw):
    """A request outside of calls."""
    return ([*p.opens(method, body, headers, **kw), back or recv(status)],
            [there or recv(method), p.b.reply(status, headers=more, tag=True)])


def message(p):
    return alone(p, "MESSAGE", body="well\n", kind="text/plain", there=took("MESSAGE", None, "well"))


def options(p):
    return alone(p, "OPTIONS", more=["X-Secret: no", "Accept: application/sdp"], back=took("200", "Accept", "application/sdp"))


def published(p):
    state = '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:alice@kedge.test"/>\n'
    if p.way == "in":
        return [p.a.first("PUBLISH", 1, state, ["Event: presence", "Expires: 600"], kind="application/pidf+xml"), recv("403")], None
    event = ["Event: presence", "Expires: 600"]
    near, far = alone(p, "PUBLISH", body=state, headers=event, kind="application/pidf+xml", more=["SIP-ETag: e1", "Expires: 600"],
                      back=took("200", "SIP-ETag", "e1"))
    return [*near, p.settle, p.a.first("PUBLISH", 2, "", [*event, "SIP-If-Match: e1"]), took("200", "SIP-ETag", "e1")], far


def published_and_refreshed(world, calls):
    """The PBX sees both as requests of their own."""
    seen = [m for m in world.heard("callee") if "\nPUBLISH " in m]
    assert sum("entity=" in m for m in seen) >= calls and sum("SIP-If-Match: e1" in m for m in seen) >= calls


def subscribe(event, kind, body):
    def steps(p):
        ask = [f"Event: {event}", "Accept: " + kind]

        def told(i, state, there):
            there += [p.b.request("NOTIFY", i, body, [f"Event: {event}", f"Subscription-State: {state}"], kind=kind), recv("200")]
            return [took("NOTIFY", None, body[:12].replace("<", "&lt;").replace('"', "&quot;")), p.a.reply("200")]
        far = [opened("SUBSCRIBE"), p.b.reply("200", headers=["Expires: 600"], tag=True)]
        near = [*p.opens("SUBSCRIBE", headers=[*ask, "Expires: 600"]), recv("200", rrs="true"), *told(1, "active;expires=600", far)]
        near += told(2, "active;expires=599", far)
        for i, (expires, state) in enumerate(((600, "active;expires=600"), (0, "terminated;reason=timeout"))):
            near += [p.a.request("SUBSCRIBE", 21 + i, headers=[*ask, f"Expires: {expires}"], to="[$peer]"), recv("200")]
            far += [recv("SUBSCRIBE"), p.b.reply("200", headers=[f"Expires: {expires}"])]
            near += told(3 + i, state, far)
        # The tag of the notifier, kept: a NOTIFY that came has another To.
        keep = '<ereg regexp=";tag=.*" search_in="hdr" header="To:" assign_to="peer"/>'
        return [s.replace("/>\n", f"><action>{keep}</action></recv>\n", 1) if s == recv("200", rrs="true") else s for s in near], far
    return steps


def redirected(p):
    """302: from the PBX to the phone and from the phone to the PBX. Without a PBX kedge follows it, here to nobody."""
    heard = [maybe("181"), recv("480")] if p.way == "phones" else [took("302", "Contact", "sip:elsewhere@192.0.2.7")]
    return ([*p.invites(), *heard, p.refused()],
            [opened(), p.b.answer("302", headers=["Contact: <sip:elsewhere@192.0.2.7>"], retrans="500").replace(p.b.contact + "\n", ""), recv("ACK")])


def cancelled(p):
    there, after = {}, [recv("200"), recv("487"), p.refused()]
    if p.lossy:  # the 180 may be missing, and the two answers may change places
        there = {"timeout": "2500", "ontimeout": "5"}
        after = [maybe("200", next=6), recv("487"), p.refused(), recv("200", timeout="3000", ontimeout=7, next=7), label(6), recv("487"), p.refused(),
                 label(7)]
    return ([*p.invites(), recv("180", **there), label(5), p.ring, p.a.first("CANCEL", p.cseq), *after],
            [opened(), p.b.answer("180"), recv("CANCEL"), p.b.reply("200"), p.ring, p.b.answer("487", retrans="500"), recv("ACK")])


def busy(p):
    return [*p.invites(), recv("486"), p.refused()], [opened(), p.b.answer("486", retrans="500"), recv("ACK")]


def multipart(p):
    body = f"--cut\nContent-Type: application/sdp\n\n{sdp()}--cut\nContent-Type: text/plain\n\npassed on\n--cut--\n"
    near = [*p.opens("INVITE", body, [ALLOW], kind=PARTS), maybe("100"), p.heard("180"), recv("200", rrs="true"), p.a.request("ACK", p.cseq)]
    far = [took("INVITE", None, "passed on", rrs="true").replace("<action>", "<action>" + KEPT + WHO), p.b.answer("180"), p.ring,
           p.b.answer("200", sdp()), recv("ACK")]
    return p.ends(near, far)


def unknown_header(p):
    """Of two that kedge does not know the one that the configuration names passes: only_the_named_one()."""
    near = [*p.invites(headers=["X-Ticket: 4711", "X-Other: no"]), p.heard("180"), recv("200", rrs="true"), p.a.request("ACK", p.cseq)]
    far = [took("INVITE", "X-Ticket", "4711", rrs="true").replace("<action>", "<action>" + KEPT + WHO), p.b.answer("180"), p.ring,
           p.b.answer("200", sdp()), recv("ACK")]
    return p.ends(near, far)


def only_the_named_one(world, _calls):
    texts = "".join(world.heard("callee"))
    assert "X-Ticket: 4711" in texts and "X-Other" not in texts


def unknown_method(p):
    """One that the configuration names passes; another gets 501."""
    near, far = alone(p, "PAGE", body="hello\n", kind="text/plain", there=took("PAGE", None, "hello"))
    other = [p.a.first("JUMP", 40), recv("501")]
    return [*near, p.settle, *other], far


def fax(p):
    """Audio becomes T.38 and goes back, by the callee."""
    return p.call(p.asks("b", "INVITE", 2, FAX.format(version=1), FAX.format(version=1), there=took("INVITE", None, "m=image [1-9]")),
                  p.asks("b", "INVITE", 3, sdp(version=2), sdp(version=2), there=took("INVITE", None, "m=audio [1-9]")))


DIALOG_INFO = '<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:bob@kedge.test"/>\n'
PIDF = '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@kedge.test"/>\n'

FEATURES = {
    "call": plain, "callee-hangs-up": callee_hangs_up, "busy": busy, "cancel": cancelled, "redirect": redirected,
    "early-media-changes": early_media_that_changes, "late-offer": late_offer, "reinvite-without-sdp": reinvite_without_sdp,
    "100rel-by-caller": rel_by_caller, "100rel-by-callee": rel_by_callee, "100rel-on-both": rel_on_both, "early-update": early_update,
    "update": update, "session-refresh": session_refresh, "session-too-short": session_too_short,
    "session-kept-by-kedge": session_kept_by_kedge, "hold-and-resume": hold_and_resume, "glare": glare, "refer": refer, "replaces": replaces,
    "dtmf-info": dtmf, "message-in-a-call": message_in_a_call, "message": message, "options": options, "publish": published,
    "lamps": subscribe("dialog", "application/dialog-info+xml", DIALOG_INFO),
    "presence": subscribe("presence", "application/pidf+xml", PIDF),
    "voicemail": subscribe("message-summary", "application/simple-message-summary", "Messages-Waiting: yes\n"),
    "multipart": multipart, "unknown-header": unknown_header, "unknown-method": unknown_method, "fax": fax,
}
CONFIG = {"session-too-short": {"calls": {"session_min": 120}}, "unknown-header": {"sip": {"pass_headers": ["X-Ticket"]}},
          "unknown-method": {"sip": {"pass_methods": ["PAGE"]}}}
AFTER = {"replaces": named_its_own, "unknown-header": only_the_named_one, "publish": published_and_refreshed}
CALLEE_CALLS = {"replaces": 2, "publish": 2}   # as many for each of the caller's calls
SLOW = ("session-kept-by-kedge",)  # 45 s: once a direction

# Two phones, no PBX: what has a meaning there.
NOT_WITHOUT_PBX = ("publish",)   # 489: test_requests.py

WAYS = [(way, phone, pbx) for way in ("out", "in") for phone in ("udp", "tcp", "tls") for pbx in ("udp", "tcp")]
WAYS += [("phones", phone, "") for phone in ("udp", "tcp", "tls")]
NAMES = {way: "-".join(filter(None, (way[0], *((way[1], way[2]) if way[0] == "out" else (way[2], way[1]))))) for way in WAYS}


def plays(lossy):
    for way in WAYS:
        if lossy and (way[1:] not in (("udp", "udp"), ("udp", ""))):
            continue
        for name in FEATURES:
            if name in SLOW and way[1:] != ("udp", "udp") or name in NOT_WITHOUT_PBX and way[0] == "phones":
                continue
            yield name, way, lossy


def identity(play):
    return f"{play[0]}-{NAMES[play[1]]}{'-lossy' if play[2] else ''}"


ALL = [*plays(False), *plays(True)]


def one_play(folder, hosts, name, way, lossy):
    calls, rate = (5, 5) if lossy else (10, 10)
    if name in SLOW:
        calls, rate = 4, 4
    world = World(folder, hosts, *way, config=CONFIG.get(name))
    try:
        with starting:
            world.start()
        near, far = FEATURES[name](Play(*way, world.target, lossy))
        if lossy:  # for retransmissions of what it has answered
            near, far = [*near, pause(LOSSY_SETTLE)], far and [*far, pause(LOSSY_SETTLE)]
        else:  # nothing is lost; what a slow machine makes them say twice has answers that SIPp takes for others
            near, far = (steps and [step.replace('retrans="500"', 'retrans="2000"') for step in steps] for steps in (near, far))
        seconds = 60 if name in SLOW else 32 if lossy else 20
        world.play(near, far, calls, rate, seconds, calls * CALLEE_CALLS.get(name, 1))
        if far and name in AFTER:
            AFTER[name](world, calls)
    finally:
        world.stop()


def played(again, folder, *play):
    """SIPp takes a 200 that comes twice for an answer to its next request, so a machine that stands still for half a second spoils a
    play now and then: such a one is played once more. test_few_were_repeated counts them."""
    try:
        return one_play(folder, *play)
    except AssertionError as why:
        again.append(f"{folder.name}: {why}")
        return one_play(folder.with_name(folder.name + "-again"), *play)


@pytest.fixture(scope="module")
def outcomes(request, lab, tmp_path_factory):
    """All plays that were asked for, many at a time, since they mostly wait: {play: future}."""
    folder = tmp_path_factory.mktemp("plays")
    good = [lab.public_host(n) for n in ("kedge", "one", "two", "pbx")]
    bad = [good[0], *(lab.natted_host(n, nat="full-cone", loss=5, lose_once=True, up_reorder=5, seed=4) for n in ("three", "four")), good[3]]
    wanted = [i.callspec.params["play"] for i in request.session.items if hasattr(i, "callspec")]
    wanted.sort(key=lambda play: play[0] not in SLOW)  # the slow ones first
    with concurrent.futures.ThreadPoolExecutor(LOSSY_WORKERS) as waiting, concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        again = []
        made = {play: (waiting if play[2] else pool).submit(played, again, folder / identity(play), bad if play[2] else good, *play) for play in wanted}
        made["again"], made["watch"] = again, Stopwatch()
        made["lost"] = lambda: sum(host.box.stats()["lost"] for host in bad[1:3])
        yield made


@pytest.mark.parametrize("play", ALL, ids=identity)
def test_matrix(outcomes, play):
    outcomes[play].result()


def test_the_bad_line_was_bad(outcomes):
    """Of what every feature needs, some 10 packets a call, one in twenty."""
    lossy = [play for play in outcomes if play[2:] == (True,)]
    concurrent.futures.wait([outcomes[play] for play in lossy])
    assert outcomes["lost"]() >= len(lossy)


def test_few_were_repeated(outcomes):
    """One in a hundred; of a few, one. And one for each three seconds that this machine stood still: then SIPp sees copies."""
    seen = [outcomes[play] for play in outcomes if isinstance(play, tuple)]
    concurrent.futures.wait(seen)
    watch = outcomes["watch"]
    assert len(outcomes["again"]) <= max(1, len(seen) // 100) + (watch.real - watch.fair) // 3, "\n".join(outcomes["again"])


def test_what_was_seen(outcomes):
    """A table for people: calls with each feature from phone to PBX (out) and back (in), the caller's transport first, and between phones."""
    seen = [play for play in outcomes if isinstance(play, tuple)]
    columns = list(dict.fromkeys((play[1], play[2]) for play in sorted(seen, key=ALL.index)))
    rows = [["", *(NAMES[way].replace("-", " ", 1) + (" lossy" if lossy else "") for way, lossy in columns)]]
    for name in FEATURES:
        cells = [outcomes.get((name, *column)) for column in columns]
        rows.append([name, *("" if cell is None else "FAILED" if cell.exception() else "ok" for cell in cells)])
    publish("sip-matrix", "\n".join("| " + " | ".join(row) + " |" for row in rows))
