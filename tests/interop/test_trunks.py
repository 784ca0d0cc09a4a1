"""Trunks: kedge registers at a provider, proves itself to it and to nobody else, and calls go both ways with numbers and names
as each side may know them."""
import os
import re
import signal
import socket
import threading

import pytest

from interop.agent import Dialog, Message, digest, sdp
from interop.hosts import Stopwatch, background, until
from interop.itsp import Itsp
from interop.pbx import Kamailio

ACCOUNTS = {"1001": "a-word", "1002": "b-word", "1003": "c-word"}
NUMBERS = [{"where": "to-itsp", "match": "00*", "becomes": "+*"}, {"where": "to-itsp", "match": "0*", "becomes": "+49*"},
           {"where": "to-itsp", "of": "caller", "match": "100*", "becomes": "+49301000*"},
           {"where": "from-itsp", "match": "+49301000*", "becomes": "100*"},
           {"where": "from-itsp", "of": "caller", "match": "+49*", "becomes": "0*"},
           {"where": "to-carrier", "of": "caller", "match": "100*", "becomes": "+49301000*"}]
ROUTES = [{"from": "phone", "number": "8*", "to": "carrier"}, {"from": "phone", "number": "7*", "to": "thief"},
          {"from": "phone", "number": "0*", "to": "itsp", "policy": "anchor"}]


def hangs(number):
    return f"sip:{number}@kedge.test"


def trunk(itsp, **rows):
    made = {"name": "itsp", "server": f"{itsp.transport}:{itsp.at}", "user": "kedge", "password": "trunk-word",
            "domain": itsp.realm, "probe": 0, **rows}
    if itsp.transport == "tls":
        made["server"] += ";verify=no"
    return made


def names(number, text):
    """Whether it stands there: within random words, ports and times are any digits."""
    return re.search(rf"\b{number}\b", text)


def said_of(kedge, name="itsp"):
    """What the log says of a trunk, without the times and whatever else stands in front of its name."""
    return [found.group(1) for found in re.finditer(rf"(?m) trunk {name}:? (.*)$", kedge.log())]


def tries_of(provider, request):
    """The requests of its method in its dialog, each once: what was sent again, since this machine was slow, has the same branch."""
    same = [m for m in provider.log if m.method == request.method and m.get("call-id") == request.get("call-id")]
    return list({m.transaction: m for m in reversed(same)}.values())[::-1]


def trunks(kedge):
    return {t["name"]: t for t in kedge.json("trunks")}


def registered(kedge, name="itsp", timeout=30):
    assert until(lambda: trunks(kedge).get(name, {}).get("state") == "registered", timeout, 0.1), \
        f"{kedge.json('trunks')}\n{kedge.log()[-2000:]}"


def phones(stage, lab, kedge, names, prefix=""):
    made = []
    for name in names:
        a = stage.agent(lab.public_host(prefix + name), name, ACCOUNTS[name], (kedge.host.addr, 5060))
        assert a.register().status == 200
        made.append(a)
    return made


@pytest.fixture(scope="module")
def world(lab, long_stage):
    """kedge with accounts and three trunks: itsp takes proofs and is not trusted; carrier is trusted and knows kedge by its
    address; thief asks for the proof that is itsp's."""
    server = lab.public_host("kedge")
    itsp = long_stage.add(Itsp(lab.public_host("itsp"), {"kedge": "trunk-word"}, proofs=("INVITE", "BYE", "UPDATE", "INFO", "PRACK")))
    carrier = long_stage.agent(lab.public_host("carrier"), "carrier", server=(server.addr, 5060), domain="carrier.test", port=5060)
    thief = long_stage.add(Itsp(lab.public_host("thief"), {}, proofs=("INVITE",)))
    rows = {"trunks": [trunk(itsp),
                       {"name": "carrier", "server": "udp:" + carrier.at, "trusted": True, "from": "caller", "register": False,
                        "probe": 0, "domain": "carrier.test"},
                       {"name": "thief", "server": "udp:" + thief.at, "user": "me", "password": "other-word", "register": False,
                        "realm": "thief.test", "probe": 0}],
            "routes": ROUTES, "numbers": NUMBERS}
    kedge = long_stage.kedge(server, config=rows, accounts=ACCOUNTS)
    for provider in (itsp, thief):
        provider.server = (server.addr, 5060)
    a, b = phones(long_stage, lab, kedge, ["1001", "1002"])
    registered(kedge)
    return kedge, itsp, carrier, thief, a, b


def called(caller, callee, number, rtp_a, rtp_b, headers=(), **kw):
    """caller calls number, which arrives at callee, who answers. Returns both dialogs and the INVITE."""
    one, other = Dialog(caller, rtp_a), Dialog(callee, rtp_b)
    result = []
    thread = threading.Thread(target=lambda: result.append(one.call(hangs(number), headers=headers)))
    thread.start()
    invite = callee.expect("INVITE")
    callee.reply(invite, 180)
    other.answer(invite, **kw)
    thread.join()
    assert result[0] is not None and result[0].status == 200, f"answered with {result[0]}"
    return one, other, invite


def finish(one, other):
    assert one.bye().status == 200
    other.agent.reply(other.agent.expect("BYE"), 200)


# ---- registration ----

@pytest.mark.parametrize("algorithm, qop", [("MD5", True), ("SHA-256", True), ("MD5", False)])
def test_registers_refreshes_and_leaves(lab, stage, algorithm, qop):
    name = f"r{algorithm[:3]}{qop}".lower()
    itsp = stage.add(Itsp(lab.public_host(name + "i"), {"kedge": "trunk-word"}, algorithm=algorithm, qop=qop, granted=12))
    itsp.stale = 1
    kedge = stage.kedge(lab.public_host(name + "k"), config={"trunks": [trunk(itsp)]})
    registered(kedge)
    first, last = itsp.registers[0], itsp.registers[-1]
    assert first.uri == "sip:itsp.test" and "<sip:kedge@itsp.test>" in first.get("to")
    assert not first.get("authorization") and last.get("authorization")
    assert len({r.get("call-id") for r in itsp.registers}) == 1
    assert [r.cseq[0] for r in itsp.registers] == list(range(first.cseq[0], first.cseq[0] + 3))  # 401, stale, 200
    contact = itsp.bindings["kedge"]
    line = re.search(r";line=([0-9a-f]{24})\b", contact).group(1)
    assert f"sip:{line}@{kedge.host.addr}" in contact
    itsp.forget()  # it was restarted: it knows kedge again before the time is over
    assert until(lambda: itsp.bindings.get("kedge") == contact, 40, 0.1), "not registered again"
    kedge.stop()
    assert itsp.registers[-1].get("expires") == "0" and "kedge" not in itsp.bindings
    kedge.start()
    registered(kedge)
    assert itsp.bindings["kedge"] == contact, "the line did not survive the restart"


def test_wrong_password_is_said_and_not_tried_again_and_again(lab, stage):
    itsp = stage.add(Itsp(lab.public_host("wi"), {"kedge": "another"}))
    kedge = stage.kedge(lab.public_host("wk"), config={"trunks": [trunk(itsp)]})
    assert until(lambda: trunks(kedge)["itsp"]["state"] == "refused", 30, 0.1), kedge.json("trunks")
    line = [x for x in said_of(kedge) if x.startswith("the provider answers 403 ")]
    assert len(line) == 1 and "password" in line[0] and "trunk-word" not in kedge.log(), kedge.log()
    assert trunks(kedge)["itsp"]["next_in"] > 300
    assert len(itsp.registers) == 2
    # a person mends it: a reload tries at once
    kedge.write_config({**kedge.rows, "trunks": [trunk(itsp, password="another")]})
    kedge.ctl("reload")
    registered(kedge)


def test_a_provider_that_cannot_be_asked_is_not_blamed(lab, stage):
    """Nobody is there, and nobody refused anything."""
    at = {"name": "itsp", "server": ["udp:127.0.0.1:9"], "user": "kedge", "password": "trunk-word"}
    kedge = stage.kedge(lab.public_host("nk"), config={"trunks": [at]})
    said = until(lambda: [x for x in said_of(kedge) if x.startswith("cannot be registered")], 30, 0.1)
    assert said and "kedgectl peers" in said[0] and all(x.startswith("cannot be registered") for x in said_of(kedge)), kedge.log()
    assert trunks(kedge)["itsp"]["status"] == 0
    assert [x for x in kedge.ctl("trunks").splitlines() if x.startswith("itsp")][0].split()[-2:] == ["-", "0"]


def test_tries_again_after_503_and_423(lab, stage):
    itsp = stage.add(Itsp(lab.public_host("ti"), {"kedge": "trunk-word"}))
    itsp.refuse = (503, ["Retry-After: 1"])
    kedge = stage.kedge(lab.public_host("tk"), config={"trunks": [trunk(itsp, expires=60)]})
    assert until(lambda: "tries again" in trunks(kedge)["itsp"]["state"], 30, 0.1), kedge.json("trunks")
    itsp.refuse = (423, ["Min-Expires: 1800"])
    assert until(lambda: itsp.registers[-1].get("expires") == "1800", 30, 0.1), "423 was not understood"
    itsp.refuse = None
    registered(kedge)
    assert itsp.registers[-1].get("expires") == "1800"


def test_removed_by_reload_unregisters(lab, stage):
    itsp = stage.add(Itsp(lab.public_host("ui"), {"kedge": "trunk-word"}))
    kedge = stage.kedge(lab.public_host("uk"), config={"trunks": [trunk(itsp)]})
    registered(kedge)
    kedge.write_config({k: v for k, v in kedge.rows.items() if k != "trunks"})
    kedge.ctl("reload")
    assert until(lambda: "kedge" not in itsp.bindings, 20, 0.1), "still registered there"
    assert kedge.json("trunks") == []


# ---- calls ----

def test_outbound_call_is_proven_and_rewritten(world, stage):
    kedge, itsp, _, _, a, _ = world
    one, other, invite = called(a, itsp, "030123", stage.rtp(a.host, hz=400), stage.rtp(itsp.host, hz=700))
    assert one.rtp.got(ms=300) and other.rtp.got(ms=300)
    assert invite.uri == "sip:+4930123@itsp.test" and "<sip:+4930123@itsp.test>" in invite.get("to")
    assert invite.get("from").partition(";")[0] == "<sip:kedge@itsp.test>", invite.get("from")
    tries = tries_of(itsp, invite)
    assert [m.cseq[0] for m in tries] == [tries[0].cseq[0], tries[0].cseq[0] + 1]
    assert len({m.tag("from") for m in tries}) == 1 and not tries[0].get("proxy-authorization")
    assert trunks(kedge)["itsp"]["calls"] == 1
    call = kedge.calls()[0]
    assert call["legs"][1]["trunk"] == "itsp" and not call["legs"][1]["pbx"], call
    assert call["reason"] == "the configuration says so (media.policy, a route or a trunk: anchor)", call["reason"]
    assert "over the trunk itsp" in kedge.ctl("explain", call["id"])
    # hold: the re-INVITE is proven too; and BYE
    held = []
    thread = threading.Thread(target=lambda: held.append(one.reinvite(direction="sendonly")))
    thread.start()
    again = itsp.expect("INVITE")
    other.answer(again, direction="recvonly")
    thread.join()
    assert held[0].status == 200 and again.get("proxy-authorization")
    assert one.bye().status == 200
    bye = itsp.expect("BYE")
    assert bye.get("proxy-authorization")
    itsp.reply(bye, 200)
    kedge.no_calls()
    assert trunks(kedge)["itsp"]["calls"] == 0


def test_prack_is_proven(world, stage):
    """RFC 3262 4 with a provider that asks for a proof even there: the same RAck, the next CSeq."""
    kedge, itsp, _, _, a, _ = world
    one, other, result = Dialog(a, stage.rtp(a.host)), Dialog(itsp, stage.rtp(itsp.host)), []
    thread = threading.Thread(target=lambda: result.append(one.call(hangs("030126"))))
    thread.start()
    invite = itsp.expect("INVITE")
    itsp.reply(invite, 183, other.body(), ["RSeq: 7", "Require: 100rel"], tag="early")
    prack = itsp.expect("PRACK")
    tries = tries_of(itsp, prack)
    assert [bool(m.get("proxy-authorization")) for m in tries] == [False, True]
    assert {m.get("rack") for m in tries} == {f"7 {invite.cseq[0]} INVITE"} and tries[1].cseq[0] == tries[0].cseq[0] + 1
    assert {m.tag("to") for m in tries} == {"early"}
    itsp.reply(prack, 200)
    other.answer(invite)
    thread.join()
    assert result[0].status == 200
    finish(one, other)
    kedge.no_calls()


def test_a_trunk_call_outlives_signalling(world, stage):
    """The snapshot knows the trunk: the BYE of the new process is proven."""
    kedge, itsp, _, _, a, _ = world
    one, other, _ = called(a, itsp, "030124", stage.rtp(a.host), stage.rtp(itsp.host))
    deaths = kedge.deaths()
    import os
    import signal
    os.kill(kedge.role("signalling"), signal.SIGKILL)
    assert until(lambda: kedge.deaths() > deaths, 30, 0.05)
    kedge.ready()
    assert until(lambda: kedge.calls(), 30, 0.1), "the call was not taken over"
    assert kedge.calls()[0]["legs"][1]["trunk"] == "itsp"
    assert one.bye().status == 200
    bye = itsp.expect("BYE")
    assert bye.get("proxy-authorization")
    itsp.reply(bye, 200)
    kedge.no_calls()
    registered(kedge)


def test_cancel_while_the_trunk_rings(world):
    kedge, itsp, _, _, a, _ = world
    text = a.build("INVITE", hangs("030125"), body=sdp(a.ip, 4000))
    first = a.transact(text)
    assert first.status == 407
    a._ack_refusal(text, first)
    sent = Message(text)
    proof = "Proxy-Authorization: " + digest(first.get("Proxy-Authenticate"), "1001", "a-word", "INVITE", sent.uri)
    text = a.build("INVITE", sent.uri, [proof], sdp(a.ip, 4000), call_id=sent.get("call-id"), from_tag=sent.tag("from"),
                   cseq=sent.cseq[0] + 1)
    sent = Message(text)
    result = []
    thread = threading.Thread(target=lambda: result.append(a.transact(text)))
    thread.start()
    invite = itsp.expect("INVITE")
    itsp.reply(invite, 180)
    cancel = "\r\n".join([f"CANCEL {sent.uri} SIP/2.0", "Via: " + sent.get("via"), "Max-Forwards: 70", "From: " + sent.get("from"),
                          "To: " + sent.get("to"), "Call-ID: " + sent.get("call-id"), f"CSeq: {sent.cseq[0]} CANCEL",
                          "Content-Length: 0", "", ""])
    assert a.transact(cancel).status == 200
    got = itsp.expect("CANCEL")
    assert got.cseq[0] == invite.cseq[0]
    itsp.reply(got, 200)
    itsp.reply(invite, 487)
    thread.join()
    a._ack_refusal(text, result[0])
    assert result[0].status == 487
    kedge.no_calls()


def inbound(caller, uri, user, headers=(), callee=None, rtp=(None, None), answer=True, **kw):
    """An INVITE from the provider's side, without a password. Returns (final response, what the phone got)."""
    result = []
    text = caller.build("INVITE", uri, headers, sdp(caller.ip, 4000), from_user=user, **kw)
    thread = threading.Thread(target=lambda: result.append(caller.transact(text)))
    thread.start()
    invite = None
    if callee:
        invite = callee.expect("INVITE")
        callee.reply(invite, 486)
        callee.expect("ACK")
    thread.join()
    if result[0] is not None:
        caller._ack_refusal(text, result[0])
    return result[0], invite


def test_inbound_by_address_and_by_line(world, lab, stage):
    kedge, itsp, _, _, a, b = world
    at = f"{kedge.host.addr}:5060"
    # from the address of its server, to a number
    response, invite = inbound(itsp, f"sip:+493010001@{at}", "+4940555", callee=a)
    assert response.status == 486
    assert kedge.json("calls", "--recent")[0]["legs"][0]["trunk"] == "itsp"
    assert "<sip:040555@kedge.test>" in invite.get("from"), invite.get("from")
    assert "sip:1001@" in invite.get("to")
    # to the Contact that was registered, from an address that nobody configured; To names the number
    gateway = stage.agent(lab.public_host("gateway"), "gw", server=(kedge.host.addr, 5060), domain="itsp.test")
    line = itsp.bindings["kedge"]
    response, invite = inbound(gateway, line, "+4940556", to="<sip:+493010002@itsp.test>", callee=b)
    assert response.status == 486 and "<sip:040556@kedge.test>" in invite.get("from")
    # the line parameter alone says it too
    number = re.sub(r"sip:[0-9a-f]+@", "sip:+493010001@", line)
    assert inbound(gateway, number, "+4940557", callee=a)[0].status == 486
    # a stranger stays one
    for uri in (f"sip:1001@{at}", f"sip:+493010001@{at}", re.sub(r"=[0-9a-f]+", "=" + "0" * 24, number)):
        assert inbound(gateway, uri, "+4940557")[0].status == 407
    # numbers that are nobody's
    assert inbound(itsp, f"sip:+4977@{at}", "+4940555")[0].status == 404
    assert "over the trunk itsp: 404, no route is for it, the trunk has no `ring`" in kedge.log()
    # from a trunk out through another one: only where a route says so
    assert inbound(itsp, f"sip:0815@{at}", "+4940555")[0].status == 404
    assert inbound(itsp, f"sip:8123@{at}", "+4940555")[0].status == 404


# ---- proofs go nowhere else ----

def proofs_in(agents):
    return [m for x in agents for m in x.log if m.get("authorization") or m.get("proxy-authorization")]


def test_no_proof_leaks(world):
    kedge, itsp, carrier, thief, a, b = world
    before = len(proofs_in([thief, carrier, b]))
    # another provider's server asks for the realm of itsp
    assert a.request("INVITE", hangs("7123"), body=sdp(a.ip, 4000)).status == 503
    assert len([m for m in thief.log if m.method == "INVITE"]) == 1
    assert "not the trunk's" in kedge.log()
    # a provider without a password, and a phone, with the same challenge
    challenge = 'Proxy-Authenticate: Digest realm="itsp.test", nonce="n1", qop="auth"'
    for callee, number in ((carrier, "8123"), (b, "1002")):
        for status in (407, 401):
            result = []
            thread = threading.Thread(target=lambda n=number: result.append(a.request("INVITE", hangs(n), body=sdp(a.ip, 4000))))
            thread.start()
            invite = callee.expect("INVITE")
            callee.reply(invite, status, headers=[challenge if status == 407 else challenge.replace("Proxy-", "WWW-")])
            callee.expect("ACK")
            thread.join()
            assert result[0].status >= 480 and "itsp.test" not in str(result[0].headers), result[0]
            assert callee.quiet("INVITE", 0.5), "it was asked again"
    assert len(proofs_in([thief, carrier, b])) == before
    # nor does what a phone proves to kedge go to a provider
    assert not [m for m in itsp.log + carrier.log + thief.log if 'username="1001"' in str(m.headers)]
    kedge.no_calls()


# ---- identity ----

FORGED = ["P-Asserted-Identity: <sip:boss@kedge.test>", "Diversion: <sip:boss@kedge.test>", "P-Preferred-Identity: <sip:boss@x>"]
IDENTITY = "Identity: eyJhbGciOiJFUzI1NiJ9.e30.c2ln;info=<https://cert.test/a.pem>;alg=ES256;ppt=shaken"


def refused(caller, callee, number, headers=()):
    """What callee gets of the call."""
    result = []
    thread = threading.Thread(target=lambda: result.append(caller.request("INVITE", hangs(number), headers, sdp(caller.ip, 4000))))
    thread.start()
    invite = callee.expect("INVITE")
    callee.reply(invite, 486)
    callee.expect("ACK")
    thread.join()
    assert result[0].status == 486
    return invite


def test_identity_toward_a_trusted_trunk(world):
    _, _, carrier, _, a, _ = world
    invite = refused(a, carrier, "8001", [*FORGED, IDENTITY, "Subject: hello"])
    assert invite.all("p-asserted-identity") == ["<sip:+493010001@kedge.test>"]
    assert not invite.get("diversion") and not invite.get("p-preferred-identity")
    assert "Identity: " + invite.get("identity") == IDENTITY and invite.get("subject") == "hello"
    assert "<sip:+493010001@carrier.test>" in invite.get("from") and invite.uri == "sip:8001@carrier.test"
    private = refused(a, carrier, "8001", ["Privacy: id;user"])
    assert private.all("p-asserted-identity") == ["<sip:+493010001@kedge.test>"] and "id" in private.get("privacy")


def test_privacy_toward_an_untrusted_trunk_and_phones(world):
    _, itsp, _, _, a, b = world
    invite = refused(a, itsp, "030126", [*FORGED, "Privacy: id;user"])
    assert invite.get("from").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>')
    text = invite.start + str([h for h in invite.headers if h[0] not in ("cseq", "content-length")])
    assert not names("1001", text) and "boss" not in text and not invite.get("p-asserted-identity")
    for privacy, hidden in (("user", True), ("header", True), ("none", False), ("id", False)):
        invite = refused(a, b, "1002", [f"Privacy: {privacy}"])
        assert ("anonymous.invalid" in invite.get("from")) == hidden, privacy
    # a phone that hides itself: anonymous to all but kedge, which knows its password
    for callee, number in ((b, "1002"), (itsp, "030126")):
        result = []
        def ask(n=number):
            first = a.request("INVITE", hangs(n), ["Privacy: id"], sdp(a.ip, 4000), auth=False)
            proof = digest(first.get("Proxy-Authenticate"), "1001", "a-word", "INVITE", hangs(n))
            text = a.build("INVITE", hangs(n), ["Privacy: id", "Proxy-Authorization: " + proof], sdp(a.ip, 4000))
            text = re.sub("From: <[^>]*>", 'From: "Anonymous" <sip:anonymous@anonymous.invalid>', text)
            result.append(a.transact(text))
            a._ack_refusal(text, result[0])
        thread = threading.Thread(target=ask)
        thread.start()
        invite = callee.expect("INVITE")
        callee.reply(invite, 486)
        callee.expect("ACK")
        thread.join()
        assert result[0].status == 486
        assert invite.get("from").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>'), invite.get("from")
    # what kedge cannot do and may not leave out
    assert a.request("INVITE", hangs("1002"), ["Privacy: invisible;critical"], sdp(a.ip, 4000)).status == 500


def test_identity_from_trunks(world):
    kedge, itsp, carrier, _, a, _ = world
    says = ["P-Asserted-Identity: <sip:+4940777@carrier.test>", "Diversion: <sip:x@carrier.test>", IDENTITY]
    at = f"{kedge.host.addr}:5060"
    _, trusted = inbound(carrier, f"sip:1001@{at}", "+4940777", says, callee=a)
    assert trusted.get("p-asserted-identity") == "<sip:+4940777@carrier.test>" and trusted.get("diversion")
    _, private = inbound(carrier, f"sip:1001@{at}", "anonymous", [*says, "Privacy: id"], callee=a)
    assert not private.get("p-asserted-identity")
    _, untrusted = inbound(itsp, f"sip:+493010001@{at}", "+4940777", says, callee=a)
    assert not untrusted.get("p-asserted-identity") and not untrusted.get("diversion") and untrusted.get("identity")


# ---- caps ----

def test_a_burst_to_premium_numbers_is_stopped(lab, stage):
    itsp = stage.add(Itsp(lab.public_host("ci"), {"kedge": "trunk-word"}))
    caps = [{"user": "*", "calls": 2, "rate": 6, "deny": ["0900", "00", "+"], "allow": ["0049", "+49"]}, {"user": "1003", "rate": 600}]
    kedge = stage.kedge(lab.public_host("ck"), config={"trunks": [trunk(itsp)], "routes": ROUTES, "numbers": NUMBERS[:2],
                                                       "caps": caps}, accounts=ACCOUNTS)
    registered(kedge)
    a, b, c = phones(stage, lab, kedge, ["1001", "1002", "1003"], "c")
    itsp.server = (kedge.host.addr, 5060)
    for number in ("0900123456", "00883123", "+8831", "0-90-0123", "%30%39%30%30123"):
        assert a.request("INVITE", hangs(number), body=sdp(a.ip, 4000)).status == 403, number
    assert not [m for m in itsp.log if m.method == "INVITE"]
    # the rate: after six calls no more, whatever becomes of them
    got = []
    for i in range(10):
        r = a.request("INVITE", hangs("1099"), body=sdp(a.ip, 4000))
        got.append(r.status)
        if r.status == 503:
            assert int(r.get("retry-after")) > 0
    assert got == [404] * 6 + [503] * 4, got
    lines = [x for x in kedge.log().splitlines() if "1001 cannot call" in x and "caps" in x]
    assert 1 <= len(lines) <= 2, lines  # not one a call
    assert kedge.stats()["calls_capped"] == 9
    # at once: the third call of 1002 must wait until one is over
    talks = [called(b, itsp, f"03012{i}", stage.rtp(b.host), stage.rtp(itsp.host)) for i in range(2)]
    assert b.request("INVITE", hangs("030129"), body=sdp(b.ip, 4000)).status == 503
    finish(talks[0][0], talks[0][1])
    assert until(lambda: len(kedge.calls()) == 1, 20, 0.1)
    one, other, _ = called(b, itsp, "030127", stage.rtp(b.host), stage.rtp(itsp.host))
    finish(one, other)
    finish(talks[1][0], talks[1][1])
    # an entry of its own
    one, other, _ = called(c, itsp, "0900123456", stage.rtp(c.host), stage.rtp(itsp.host))
    finish(one, other)
    kedge.no_calls()


def test_caps_in_front_of_a_pbx(lab, stage):
    """Who is registered over the flow pays; a stranger who uses a name pays for himself."""
    host = lab.public_host("bp")
    words = {"u1": "w-u1", "u2": "w-u2"}
    stage.add(Kamailio(stage.folder / "bp", words, host, domain="pbx.test")).start()
    caps = [{"user": "*", "rate": 3, "deny": ["0900"]}]
    kedge = stage.kedge(lab.public_host("bk"), config={"pbx": [f"udp:{host.addr}:5060"], "caps": caps})
    at = (kedge.host.addr, 5060)
    one, two = (stage.agent(lab.public_host("b" + u), u, words[u], at, "pbx.test") for u in words)
    stranger = stage.agent(lab.public_host("bs"), "u2", "guess", at, "pbx.test")
    for a in (one, two):
        assert a.register().status == 200
    # each call is an INVITE that the PBX challenges, and another one: it counts once
    got = [one.request("INVITE", "sip:nobody@pbx.test", body=sdp(one.ip, 4000)).status for _ in range(4)]
    assert got == [404] * 3 + [503], got
    for number in ("0900123", "0900123;isub=" + "1" * 120, "1%000900123", "%30900123"):
        assert two.request("INVITE", f"sip:{number}@pbx.test", body=sdp(two.ip, 4000), auth=False).status == 403, number
    got = [stranger.request("INVITE", "sip:nobody@pbx.test", body=sdp(stranger.ip, 4000)).status for _ in range(5)]
    assert set(got) <= {403, 407}, got  # the PBX refuses him
    assert two.request("INVITE", "sip:nobody@pbx.test", body=sdp(two.ip, 4000)).status == 404
    kedge.no_calls()


def test_diverted_and_referred_calls_are_the_users_own(lab, stage):
    """A phone that sends its calls to the PSTN does so by its own caps, whoever calls it."""
    itsp = stage.add(Itsp(lab.public_host("di"), {"kedge": "trunk-word"}))
    caps = [{"user": "1001", "deny": ["00"]}, {"user": "1002", "deny": ["0900"], "calls": 1}]
    kedge = stage.kedge(lab.public_host("dk"), config={"trunks": [trunk(itsp, calls=1)], "routes": ROUTES[2:], "caps": caps,
                                                       "numbers": NUMBERS[:5]}, accounts=ACCOUNTS)
    registered(kedge)
    a, b, c = phones(stage, lab, kedge, ["1001", "1002", "1003"], "d")
    itsp.server = (kedge.host.addr, 5060)

    def diverted(number, caller=a):
        one, result = Dialog(caller, stage.rtp(caller.host)), []
        thread = threading.Thread(target=lambda: result.append(one.call(hangs("1002"))))
        thread.start()
        b.reply(b.expect("INVITE"), 302, headers=[f"Contact: <sip:{number}@kedge.test>"])
        return one, thread, result

    one, thread, result = diverted("0900123")  # not for 1002, though 1001 may
    thread.join()
    assert result[0].status == 480 and itsp.quiet("INVITE", 0.3)
    one, thread, result = diverted("030555")
    invite = itsp.expect("INVITE")
    other = Dialog(itsp, stage.rtp(itsp.host))
    other.answer(invite)
    thread.join()
    assert result[0].status == 200 and invite.uri == "sip:+4930555@itsp.test" and invite.get("proxy-authorization")
    assert "<sip:kedge@itsp.test>" in invite.get("from")
    # 1002 has its one call now, and the trunk too: the next ones go nowhere
    two, thread, result = diverted("030556", c)
    thread.join()
    assert result[0].status == 480
    assert c.request("INVITE", hangs("030557"), body=sdp(c.ip, 4000)).status == 503
    assert inbound(itsp, f"sip:+493010001@{kedge.host.addr}", "+4940555")[0].status == 503
    # REFER to the provider: it would dial what 1001 may not
    to = "Refer-To: <sip:00883123@kedge.test>"
    assert one.request("REFER", [to, "Contact: " + a.contact], auth=True).status == 403
    finish(one, other)
    kedge.no_calls()
    assert trunks(kedge)["itsp"]["calls"] == 0
    one, thread, result = diverted("030558", c)
    other.answer(itsp.expect("INVITE"))
    thread.join()
    assert result[0].status == 200
    finish(one, other)
    # the provider asks whether kedge is there
    line = itsp.bindings["kedge"]
    assert itsp.transact(itsp.build("OPTIONS", line)).status == 200


def test_each_phone_that_diverts_pays_for_it(lab, stage):
    """Two phones send one call to the PSTN: it counts for both, until it is over."""
    itsp = stage.add(Itsp(lab.public_host("ei"), {"kedge": "trunk-word"}, proofs=()))
    caps = [{"user": user, "calls": 1} for user in ("1002", "1003")]
    kedge = stage.kedge(lab.public_host("ek"), config={"trunks": [trunk(itsp)], "routes": ROUTES[2:], "caps": caps,
                                                       "numbers": NUMBERS[:5]}, accounts=ACCOUNTS)
    registered(kedge)
    a, b, c = phones(stage, lab, kedge, ["1001", "1002", "1003"], "e")

    def calls(*contacts):
        """1001 calls 1002, who is where these say."""
        placed = background(Dialog(a, stage.rtp(a.host)).call, hangs("1002"), timeout=30)
        b.reply(b.expect("INVITE"), 302, headers=["Contact: " + ", ".join(f"<sip:{to}@kedge.test>" for to in contacts)])
        return placed

    first = calls("030555", "1003")
    c.reply(c.expect("INVITE"), 302, headers=["Contact: <sip:030556@kedge.test>"])
    invites = [itsp.expect("INVITE") for _ in range(2)]
    assert {i.uri for i in invites} == {"sip:+4930555@itsp.test", "sip:+4930556@itsp.test"}
    for invite in invites:
        itsp.reply(invite, 180)
    refused = calls("030557")
    assert itsp.quiet("INVITE", 0.3) and refused().status == 480, "1002 has its one call"
    second = calls("1003")
    c.reply(c.expect("INVITE"), 302, headers=["Contact: <sip:030558@kedge.test>"])
    assert itsp.quiet("INVITE", 0.3) and second().status == 480, "so has 1003"
    for invite in invites:
        itsp.reply(invite, 486)
    assert first().status == 486
    kedge.no_calls()
    third = calls("030559")
    itsp.reply(itsp.expect("INVITE"), 486)
    assert third().status == 486


def test_another_server_and_another_trunk_serve_when_one_fails(lab, stage):
    dead = lab.public_host("fd")
    itsp = stage.add(Itsp(lab.public_host("fi"), {"kedge": "trunk-word"}))
    busy = stage.agent(lab.public_host("fb"), "busy", port=5060)
    rows = [trunk(itsp, server=[f"udp:{dead.addr}:5060", f"udp:{itsp.at}"]),
            {"name": "busy", "server": "udp:" + busy.at, "register": False, "probe": 0}]
    kedge = stage.kedge(lab.public_host("fk"), accounts=ACCOUNTS,
                        config={"trunks": rows, "routes": [{"number": "0*", "to": ["busy", "itsp"]}]})
    busy.server = itsp.server = (kedge.host.addr, 5060)
    registered(kedge)
    a, = phones(stage, lab, kedge, ["1001"], "f")
    one, other = Dialog(a, stage.rtp(a.host)), Dialog(itsp, stage.rtp(itsp.host))
    result, watch = [], Stopwatch()
    thread = threading.Thread(target=lambda: result.append(one.call(hangs("030"))))
    thread.start()
    busy.reply(busy.expect("INVITE"), 503)
    invite = itsp.expect("INVITE")
    assert watch.fair < 4.5
    other.answer(invite)
    thread.join()
    assert result[0].status == 200 and kedge.calls()[0]["legs"][1]["trunk"] == "itsp"
    assert invite.get("proxy-authorization") and not [m for m in busy.log if m.get("proxy-authorization")]
    finish(one, other)
    kedge.no_calls()
    assert {t["name"]: t["calls"] for t in kedge.json("trunks")} == {"itsp": 0, "busy": 0}


# ---- a real provider ----

def test_kamailio_as_the_provider(lab, stage):
    """Registered there as any account is; calls both ways between a phone of kedge and a phone of the provider."""
    host = lab.public_host("kam")
    provider = stage.add(Kamailio(stage.folder / "kam", {"kedge": "trunk-word", "4711": "other-word"}, host, domain="itsp.test")).start()
    rows = {"trunks": [{"name": "itsp", "server": f"udp:{host.addr}:5060", "user": "kedge", "password": "trunk-word",
                        "domain": "itsp.test", "ring": "1002", "probe": 1}],
            "routes": [{"number": "0*", "to": "itsp"}], "numbers": [{"where": "to-itsp", "match": "0*", "becomes": "*"}]}
    kedge = stage.kedge(lab.public_host("kamk"), config=rows, accounts=ACCOUNTS)
    registered(kedge)
    a, b = phones(stage, lab, kedge, ["1001", "1002"], "kam")
    far = stage.agent(lab.public_host("far"), "4711", "other-word", (host.addr, 5060), "itsp.test")
    assert far.register().status == 200
    rtp = [stage.rtp(x.host, hz=hz) for x, hz in ((a, 400), (far, 700), (b, 600))]
    one, other, invite = called(a, far, "04711", rtp[0], rtp[1])
    assert "<sip:kedge@itsp.test>" in invite.get("from") and not invite.get("proxy-authorization")
    assert one.rtp.got(ms=300) and other.rtp.got(ms=300)
    finish(one, other)
    # and back: kedge's account there is called, 1002 rings here
    one, other = Dialog(far, rtp[1]), Dialog(b, rtp[2])
    result = []
    thread = threading.Thread(target=lambda: result.append(one.call("sip:kedge@itsp.test")))
    thread.start()
    other.answer(b.expect("INVITE"))
    thread.join()
    assert result[0].status == 200 and one.rtp.got(ms=300)
    assert other.bye().status == 200
    far.reply(far.expect("BYE"), 200)
    kedge.no_calls()
    # the provider is restarted and has forgotten the registration: kedge sees that by its probes
    provider.stop()
    assert until(lambda: "down" in kedge.ctl("peers"), 40, 0.2), kedge.ctl("peers")
    assert a.request("INVITE", hangs("04711"), body=sdp(a.ip, 4000)).status == 503
    provider.start()
    assert until(lambda: " up " in kedge.ctl("peers"), 40, 0.2), kedge.ctl("peers")
    assert far.register().status == 200
    def rings():
        """What the far phone calls: until kedge is registered again the provider itself refuses."""
        result = []
        ring = threading.Thread(target=lambda: result.append(far.request("INVITE", "sip:kedge@itsp.test", body=sdp(far.ip, 4000))))
        ring.start()
        try:
            b.reply(b.expect("INVITE", 1), 486)
        except AssertionError:
            pass
        ring.join()
        return result[0].status == 486

    assert until(rings, 30, 0.2), "not registered again after the provider's restart"
    kedge.no_calls()


# ---- streams ----

@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_over_streams(lab, stage, transport):
    itsp = stage.add(Itsp(lab.public_host(transport + "i"), {"kedge": "trunk-word"}, transport=transport, folder=stage.folder,
                          port=5061 if transport == "tls" else 5060))
    host = lab.public_host(transport + "k")
    listen = [f"udp:{host.addr}:5060", f"tcp:{host.addr}:5060", f"tls:{host.addr}:5061"]
    kedge = stage.kedge(host, config={"sip": {"listen": listen}, "trunks": [trunk(itsp)], "routes": ROUTES,
                                      "numbers": NUMBERS[:5]}, accounts=ACCOUNTS)
    registered(kedge)
    a, = phones(stage, lab, kedge, ["1001"], transport)
    one, other, invite = called(a, itsp, "030123", stage.rtp(a.host), stage.rtp(itsp.host))
    assert invite.get("proxy-authorization") and f"SIP/2.0/{transport.upper()}" in invite.get("via")
    finish(one, other)
    # a call from the provider comes down the connection that kedge made
    response, invite = inbound(itsp, itsp.bindings["kedge"], "+4940555", to="<sip:+493010001@itsp.test>", callee=a)
    assert response.status == 486 and "040555" in invite.get("from")
    kedge.no_calls()


def test_the_provider_challenges_and_closes_at_once(lab, stage):
    """The proof finds the connection closed, which ends the BYE that waits there, and the call with it."""
    itsp = stage.add(Itsp(lab.public_host("closes-i"), {"kedge": "trunk-word"}, transport="tcp"))
    host = lab.public_host("closes-k")
    listen = [f"{transport}:{host.addr}:5060" for transport in ("udp", "tcp")]
    kedge = stage.kedge(host, config={"sip": {"listen": listen}, "trunks": [trunk(itsp)], "numbers": NUMBERS[:4]}, accounts=ACCOUNTS)
    registered(kedge)
    a, = phones(stage, lab, kedge, ["1001"], "closes-")
    signalling, asked = kedge.role("signalling"), []
    for _ in range(8):
        one, other = Dialog(itsp, stage.rtp(itsp.host)), Dialog(a, stage.rtp(a.host))
        placed = background(one.call, f"sip:+493010001@{host.addr}")
        other.answer(a.expect("INVITE"))
        assert placed().status == 200
        assert until(lambda: [c["state"] for c in kedge.calls()].count("talk") == 1)
        other.request("INFO", ["Content-Type: application/dtmf-relay"], "Signal=1", send_only=True)
        asked.append(itsp.expect("INFO"))
        assert other.bye().status == 200
        itsp.expect("BYE")
    os.kill(signalling, signal.SIGSTOP)  # it shall see all of it at once
    for request in asked:
        itsp.ask(request, 407)
    itsp.listener.close()  # nor is there another one
    itsp.socket.shutdown(socket.SHUT_RDWR)
    itsp.socket.close()
    os.kill(signalling, signal.SIGCONT)
    kedge.no_calls()
    assert kedge.role("signalling") == signalling


# ---- with a PBX ----

def test_between_pbx_and_trunk(lab, stage):
    itsp = stage.add(Itsp(lab.public_host("pi"), {"kedge": "trunk-word"}))
    host = lab.public_host("pk")
    pbx = stage.agent(lab.public_host("pp"), "pbx", server=(host.addr, 5060), domain="pbx.test", port=5060)
    numbers = [{"where": "to-itsp", "match": "0*", "becomes": "+49*"}, {"where": "to-pbx", "match": "+49*", "becomes": "0*"},
               {"where": "to-itsp", "of": "caller", "match": "2*", "becomes": "+49302*"}]
    kedge = stage.kedge(host, config={"pbx": ["udp:" + pbx.at], "trunks": [trunk(itsp, trusted=True)], "numbers": numbers,
                                      "routes": [{"from": "pbx", "number": "0*", "to": "itsp"}]})
    itsp.server = (host.addr, 5060)
    registered(kedge)
    # out: the PBX is trusted, so what it says of the caller goes to a trusted provider, in its numbers
    one, other = Dialog(pbx, stage.rtp(pbx.host)), Dialog(itsp, stage.rtp(itsp.host))
    result = []
    says = ["P-Asserted-Identity: \"Two\" <sip:201@pbx.test>", "P-Asserted-Identity: <tel:201>", "Diversion: <sip:200@pbx.test>"]
    thread = threading.Thread(target=lambda: result.append(one.call(f"sip:040123@{host.addr}", headers=says)))
    thread.start()
    invite = itsp.expect("INVITE")
    other.answer(invite)
    thread.join()
    assert result[0].status == 200 and invite.uri == "sip:+4940123@itsp.test"
    assert invite.all("p-asserted-identity") == ['"Two" <sip:+4930201@pbx.test>', "<tel:+4930201>"]
    assert invite.get("diversion")
    finish(one, other)
    # in: it goes to the PBX, as the PBX writes numbers
    response, invite = inbound(itsp, itsp.bindings["kedge"], "+4940555", to="<sip:+4930201@itsp.test>", callee=pbx)
    assert response.status == 486 and invite.uri == f"sip:030201@{pbx.at}", invite.uri
    assert f"<sip:030201@{pbx.ip}>" in invite.get("to")
    # a phone gets to the trunk through the PBX alone
    stranger = stage.agent(lab.public_host("ps"), "300", server=(host.addr, 5060), domain="pbx.test")
    result = []
    text = stranger.build("INVITE", f"sip:040123@{host.addr}", body=sdp(stranger.ip, 4000))
    thread = threading.Thread(target=lambda: result.append(stranger.transact(text)))
    thread.start()
    pbx.reply(pbx.expect("INVITE"), 403)
    thread.join()
    assert result[0].status == 403
    kedge.no_calls()


def test_the_pbx_may_ask_for_a_password_too(lab, stage):
    """Calls from the trunk prove themselves to Kamailio, which challenges whoever calls; the password goes nowhere else."""
    host = lab.public_host("qp")
    words = {"u1": "w-u1", "from-itsp": "pbx-word"}
    stage.add(Kamailio(stage.folder / "qp", words, host, domain="pbx.test")).start()
    itsp = stage.add(Itsp(lab.public_host("qi"), {"kedge": "trunk-word"}, proofs=("INVITE", "BYE")))
    rows = {"pbx": [f"udp:{host.addr}:5060"], "trunks": [trunk(itsp)],
            "numbers": [{"where": "to-pbx", "match": "+49301", "becomes": "u1"}]}
    kedge = stage.kedge(lab.public_host("qk"), config=rows)
    itsp.server = (kedge.host.addr, 5060)
    registered(kedge)
    phone = stage.agent(lab.public_host("qu"), "u1", "w-u1", itsp.server, "pbx.test")
    assert phone.register().status == 200
    line = itsp.bindings["kedge"]
    assert inbound(itsp, line, "+4940555", to="<sip:+49301@itsp.test>")[0].status == 503
    assert "pbx_user" in kedge.log()
    kedge.write_config({**kedge.rows, "trunks": [trunk(itsp, pbx_user="from-itsp", pbx_password="pbx-word")]})
    kedge.ctl("reload")
    response, invite = inbound(itsp, line, "+4940555", to="<sip:+49301@itsp.test>", callee=phone)
    assert response.status == 486 and "+4940555" in invite.get("from")
    assert not [m for m in itsp.log + phone.log if "from-itsp" in str(m.headers)]
    kedge.no_calls()
