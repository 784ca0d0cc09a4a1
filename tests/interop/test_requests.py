"""Requests outside of calls, by the message: MESSAGE, PUBLISH, OPTIONS, unsolicited NOTIFY, REFER, methods nobody knows; alone
and in front of a PBX, which is an agent here."""
import os
import re
import signal
import threading

import pytest

from interop.agent import Dialog, Message, sdp, token
from interop.hosts import Stopwatch, background, until

USERS = ("alice", "bob", "carol")
TEXT = ["Content-Type: text/plain"]


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "pbx", "elsewhere")]


def answered(agent, method, status=200, body="", headers=(), timeout=5):
    """The next such request, answered."""
    request = agent.expect(method, timeout)
    agent.reply(request, status, body, headers)
    return request


def is_clean(message, *addresses):
    """Nothing of the other side's network is in the message."""
    text = message.start + "".join(f"{n}: {v}\n" for n, v in message.headers if n != "via")
    assert not any(address in text for address in addresses), f"{addresses} in {text}"
    return message


# ---- the embedded registrar ----

@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS}, config={"sip": {"pass_methods": ["X-PAGE"]}})


@pytest.fixture
def phone(kedge, hosts, stage):
    def make(user, host=1, transport="udp", register=True):
        agent = stage.agent(hosts[host], user, "pw-" + user, (kedge.host.addr, 5060), transport=transport)
        assert not register or agent.register().status == 200
        return agent
    return make


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_message_between_phones(phone, hosts, transport):
    alice, bob = phone("alice", 1, transport), phone("bob", 2, transport)
    take = background(alice.request, "MESSAGE", "sip:bob@kedge.test", TEXT, "hello")
    got = answered(bob, "MESSAGE")
    assert take().status == 200
    assert got.body == "hello" and got.get("content-type") == "text/plain"
    assert got.uri == bob.contact.strip("<>") and "sip:alice@kedge.test" in got.get("from")
    assert not got.all("contact"), "RFC 3428 4: no Contact in MESSAGE"
    assert not got.all("authorization") + got.all("proxy-authorization")
    is_clean(got, hosts[1].addr)


def test_message_goes_to_all_phones_and_the_first_2xx_counts(phone):
    alice, desk, mobile, broken = phone("alice"), phone("bob", 2), phone("bob", 1), phone("bob", 3)
    take = background(alice.request, "MESSAGE", "sip:bob@kedge.test", TEXT, "hello")
    answered(broken, "MESSAGE", 488)
    seen = mobile.expect("MESSAGE")
    answered(desk, "MESSAGE", 202)
    assert take().status == 202
    assert seen.body == "hello"
    mobile.reply(seen, 200)  # too late; nobody minds


def test_message_refused_by_all_phones(phone):
    alice, desk, mobile = phone("alice"), phone("bob", 2), phone("bob", 1)
    take = background(alice.request, "MESSAGE", "sip:bob@kedge.test", TEXT, "hello")
    answered(desk, "MESSAGE", 500)
    answered(mobile, "MESSAGE", 415, headers=["Accept: text/html"])
    refusal = take()
    assert refusal.status == 415 and refusal.get("accept") == "text/html"


def test_phone_that_says_nothing_is_480_not_408(phone):
    alice, bob = phone("alice"), phone("bob", 2)
    response = alice.request("MESSAGE", "sip:bob@kedge.test", TEXT, "hello", timeout=20)
    assert response is not None and response.status == 480, "RFC 4320 4.1: no 408 to anything but INVITE"
    assert bob.expect("MESSAGE")


def registered_by(agent, instance, reg_id):
    contact = f"Contact: {agent.contact[:-1]};n={token()}>;+sip.instance=\"<urn:uuid:{instance}>\"" + (f";reg-id={reg_id}" if reg_id else "")
    response = agent.request("REGISTER", "sip:kedge.test", [contact, "Supported: outbound, path"], to=f"<sip:{agent.user}@kedge.test>")
    assert response.status == 200
    return agent


def test_two_connections_of_a_phone_close_at_the_same_time(phone, kedge):
    """RFC 5626 5.3: what went over one of its flows is sent over the other, and breaks that one, on which more waits."""
    desk, mobile = (f"00000000-0000-0000-0000-00000000000{n}" for n in "ab")
    alice, signalling = phone("alice"), kedge.role("signalling")
    for _ in range(4):
        one, other = (phone("bob", 2, "tcp", register=False) for _ in range(2))
        registered_by(registered_by(one, desk, 0), mobile, 2)
        registered_by(other, mobile, 1)
        take = background(alice.request, "MESSAGE", "sip:bob@kedge.test", TEXT, "hello")
        assert one.expect("MESSAGE")
        os.kill(signalling, signal.SIGSTOP)  # it shall see both at once
        other.close()
        one.close()
        os.kill(signalling, signal.SIGCONT)
        assert take().status == 480
    assert kedge.role("signalling") == signalling


def test_who_may_send_what(phone, kedge):
    alice, bob = phone("alice"), phone("bob", 2)
    for method, uri, status in (("MESSAGE", "sip:nobody@kedge.test", 404), ("MESSAGE", "sip:carol@kedge.test", 480),
                                ("MESSAGE", "sip:bob@elsewhere.test", 403), ("REFER", "sip:bob@kedge.test", 403),
                                ("NOTIFY", "sip:bob@kedge.test", 403), ("PUBLISH", "sip:alice@kedge.test", 489),
                                ("UNHEARD", "sip:bob@kedge.test", 501)):
        response = alice.request(method, uri, ["Event: presence", "Refer-To: <sip:carol@kedge.test>"], from_user="alice")
        assert response is not None and response.status == status, f"{method} {uri}: {response}"
        assert status != 489 or "dialog" in response.get("allow-events")
    assert alice.request("MESSAGE", "sip:bob@kedge.test", TEXT, "x", auth=False).status == 407
    assert alice.request("MESSAGE", "sip:bob@kedge.test", TEXT, "x", from_user="carol").status == 403, "another's name"
    assert alice.request("MESSAGE", "sip:bob@kedge.test", TEXT, "x" * 40000).status == 413
    assert bob.quiet("MESSAGE", 0.5)
    take = background(alice.request, "X-PAGE", "sip:bob@kedge.test", ["Content-Type: application/x-odd"], "odd body")
    got = answered(bob, "X-PAGE", headers=["Content-Type: application/x-odd"], body="")
    assert take().status == 200 and got.body == "odd body" and got.get("content-type") == "application/x-odd"
    assert kedge.stats()["requests_passed"] == 1


def test_strangers_cost_no_transactions(kedge, hosts, stage):
    """Whoever has not proven who he is is challenged from the message alone."""
    mallory = stage.agent(hosts[4], "mallory", "", (kedge.host.addr, 5060))
    for i in range(60):
        method = ("MESSAGE", "SUBSCRIBE", "PUBLISH", "NOTIFY", "REFER", "X-PAGE")[i % 6]
        mallory.send(mallory.build(method, "sip:bob@kedge.test", ["Event: dialog", f"Contact: {mallory.contact}"]))
    assert until(lambda: sum(m.status == 407 for m in mallory.log) >= 20)
    assert all(m.status == 407 for m in mallory.log), {m.start for m in mallory.log}
    stats = kedge.stats()
    assert stats["transactions_in"] <= 2 and stats["dialogs"] == 0 and stats["requests_passed"] == 0


def test_options_of_strangers_end_at_kedge(phone, hosts, kedge, stage):
    alice, bob = phone("alice"), phone("bob", 2)
    bob.answer_options = False
    stranger = stage.agent(hosts[4], "mallory", "", (kedge.host.addr, 5060))
    for uri in ("sip:bob@kedge.test", "sip:nobody@kedge.test", f"sip:{kedge.host.addr}"):
        assert stranger.request("OPTIONS", uri).status == 200, "the same answer whoever is asked for"
    assert bob.quiet("OPTIONS", 0.5)
    assert alice.request("OPTIONS", "sip:alice@kedge.test").status == 200, "its own name: a keepalive"
    take = background(alice.request, "OPTIONS", "sip:bob@kedge.test")
    got = answered(bob, "OPTIONS", 486, headers=["Accept: application/x-bob"])
    response = take()
    assert response.status == 486 and response.get("accept") == "application/x-bob", "the phone's own answer"
    assert got.uri == bob.contact.strip("<>")


# ---- in front of a PBX ----

class Front:
    def __init__(self, stage, hosts, transport="udp", config=None):
        self.stage, self.hosts = stage, hosts
        address = hosts[0].addr
        listen = [f"udp:{address}:5060", f"tcp:{address}:5060", f"tls:{address}:5061"]
        self.kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[3].addr}:5060"], "sip": {"listen": listen}, **(config or {})})
        self.pbx = stage.agent(hosts[3], "pbx", "", (self.kedge.host.addr, 5060), port=5060, domain="pbx.test")
        self.transport = transport

    def phone(self, user="alice", host=1, register=True, **kw):
        transport = kw.pop("transport", self.transport)
        phone = self.stage.agent(self.hosts[host], user, "pw-" + user,
                                 (self.kedge.host.addr, 5061 if transport == "tls" else 5060), domain="pbx.test",
                                 transport=transport, **kw)
        if register:
            self.register(phone)
        return phone

    def register(self, phone, **kw):
        take = background(phone.register, **kw)
        request = self.pbx.expect("REGISTER")
        self.pbx.reply(request, 200, headers=[f"Contact: {request.get('contact').partition(';expires')[0]};expires=3600"])
        assert take().status == 200
        phone.token = request.contact()  # what the PBX knows it by


@pytest.fixture(params=["udp", "tcp", "tls"])
def front(request, stage, hosts):
    return Front(stage, hosts, request.param)


def test_phone_to_pbx_with_credentials(front, hosts):
    phone = front.phone()
    take = background(phone.request, "MESSAGE", "sip:bob@pbx.test", TEXT, "hello")
    first = answered(front.pbx, "MESSAGE", 407,
                     headers=['Proxy-Authenticate: Digest realm="pbx.test", nonce="n1", algorithm=MD5, qop="auth"'])
    second = answered(front.pbx, "MESSAGE", 202)
    assert take().status == 202
    assert 'realm="pbx.test"' in second.get("proxy-authorization") and 'uri="sip:bob@pbx.test"' in second.get("proxy-authorization")
    for got in (first, second):
        assert got.uri == "sip:bob@pbx.test" and got.body == "hello"
        assert "sip:alice@pbx.test" in got.get("from") and "sip:bob@pbx.test" in got.get("to")
        is_clean(got, hosts[1].addr)
    assert first.get("call-id") != phone.log[-1].get("call-id")


def test_pbx_to_phone_by_token(front, hosts):
    phone = front.phone()
    take = background(front.pbx.request, "MESSAGE", phone.token, TEXT, "hello", from_user="bob")
    got = answered(phone, "MESSAGE", 200, headers=["Content-Type: text/plain"])
    assert take().status == 200
    assert got.uri == phone.contact.strip("<>") and got.body == "hello"
    assert "sip:bob@pbx.test" in got.get("from")
    is_clean(got, hosts[3].addr)


def test_unsolicited_notify_and_options_of_the_pbx(front):
    """As Asterisk lights a voicemail lamp and restarts a phone: no subscription."""
    phone = front.phone()
    phone.answer_options = False
    for headers, body in ((["Event: message-summary", "Subscription-State: active",
                            "Content-Type: application/simple-message-summary"], "Messages-Waiting: yes\r\nVoice-Message: 2/1\r\n"),
                          (["Event: check-sync;reboot=true", "Subscription-State: terminated"], "")):
        take = background(front.pbx.request, "NOTIFY", phone.token, [*headers, f"Contact: {front.pbx.contact}"], body)
        got = answered(phone, "NOTIFY")
        assert take().status == 200
        assert got.body == body and got.get("event") == headers[0].partition(": ")[2]
        assert got.get("subscription-state") == headers[1].partition(": ")[2]
    take = background(front.pbx.request, "OPTIONS", phone.token)
    answered(phone, "OPTIONS", 200, headers=["Allow-Events: x"])
    assert take().get("allow-events") == "x", "the phone's answer and not kedge's"


def test_publish_with_entity_tags(front):
    phone = front.phone()
    headers = ["Event: presence", "Expires: 600", "Content-Type: application/pidf+xml", "Content-Encoding: identity"]
    take = background(phone.request, "PUBLISH", "sip:alice@pbx.test", headers, "<presence/>")
    got = answered(front.pbx, "PUBLISH", 200, headers=["SIP-ETag: e1", "Expires: 300"])
    response = take()
    assert got.get("event") == "presence" and got.get("expires") == "600" and got.body == "<presence/>"
    assert response.get("sip-etag") == "e1" and response.get("expires") == "300"
    take = background(phone.request, "PUBLISH", "sip:alice@pbx.test", ["Event: presence", "Expires: 600", "SIP-If-Match: e1"])
    got = answered(front.pbx, "PUBLISH", 412)
    assert take().status == 412 and got.get("sip-if-match") == "e1" and got.body == ""
    take = background(phone.request, "PUBLISH", "sip:alice@pbx.test", ["Event: presence", "Expires: 1"], "x")
    answered(front.pbx, "PUBLISH", 423, headers=["Min-Expires: 60"])
    assert take().get("min-expires") == "60"


def test_address_of_kedge_means_the_pbx(front, hosts):
    """A phone that has kedge's address for its domain."""
    phone = front.phone()
    take = background(phone.request, "MESSAGE", f"sip:bob@{front.kedge.host.addr}", TEXT, "hello")
    got = answered(front.pbx, "MESSAGE", 200)
    assert take().status == 200 and got.uri == f"sip:bob@{hosts[3].addr}"
    take = background(phone.request, "INVITE", f"sip:bob@{front.kedge.host.addr}:{phone.server[1]}", body=sdp(phone.ip, 4000))
    got = answered(front.pbx, "INVITE", 486)
    assert take().status == 486 and got.uri == f"sip:bob@{hosts[3].addr}" and f"<sip:bob@{hosts[3].addr}>" in got.get("to")
    is_clean(got, front.kedge.host.addr + ">", hosts[1].addr)
    take = background(phone.request, "INVITE", "sip:bob@pbx.test", body=sdp(phone.ip, 4000))
    got = answered(front.pbx, "INVITE", 486)
    assert take().status == 486 and got.uri == "sip:bob@pbx.test", "a name is the PBX's own"


def test_the_body_of_a_phones_bye_reaches_the_pbx(front, stage):
    phone = front.phone()
    one, other = Dialog(phone, stage.rtp(phone.host)), Dialog(front.pbx, stage.rtp(front.pbx.host))
    placed = background(one.call, "bob")
    other.answer(front.pbx.expect("INVITE"))
    assert placed().status == 200
    bye = background(one.request, "BYE", ["Content-Type: application/x-stats"], "lost=3")
    got = answered(front.pbx, "BYE")
    assert bye().status == 200 and (got.get("content-type"), got.body) == ("application/x-stats", "lost=3")
    front.kedge.no_calls()


def test_pbx_that_does_not_answer(stage, hosts):
    front = Front(stage, hosts, config={"pbx": [f"udp:{hosts[3].addr}:5060", f"udp:{hosts[2].addr}:5060"]})
    spare = stage.agent(hosts[2], "pbx2", "", (front.kedge.host.addr, 5060), port=5060, domain="pbx.test")
    phone = front.phone()
    take = background(phone.request, "MESSAGE", "sip:bob@pbx.test", TEXT, "hello", timeout=15)
    first = front.pbx.expect("MESSAGE")
    got = answered(spare, "MESSAGE", 200, timeout=8)
    assert take().status == 200 and got.body == first.body == "hello"


def test_wrong_ways(front, hosts, stage):
    phone = front.phone()
    pbx = front.pbx
    assert pbx.request("NOTIFY", "sip:0123456789abcdef@" + front.kedge.host.addr, ["Event: check-sync"]).status == 404
    stranger = front.phone("mallory", 4, register=False)
    response = stranger.request("NOTIFY", phone.token, ["Event: check-sync;reboot=true", "Subscription-State: terminated"])
    assert response.status == 403, "nobody but the PBX restarts phones"
    assert phone.quiet("NOTIFY", 0.5) and pbx.quiet("NOTIFY", 0.1)
    take = background(phone.request, "MESSAGE", "sip:bob@pbx.test", TEXT, "hello")
    answered(pbx, "MESSAGE", 302, headers=["Contact: <sip:bob@elsewhere.test>"])
    assert take().status == 480, "a redirection would lead past kedge"


def test_strangers_in_front_of_a_pbx_are_bounded(stage, hosts):
    front = Front(stage, hosts, config={"limits": {"unregistered_calls": 5}})
    phone = front.phone()
    stranger = front.phone("mallory", 4, register=False)
    ids, watch = [token() for _ in range(60)], Stopwatch()
    for call_id in ids:
        stranger.send(stranger.build("MESSAGE", "sip:bob@pbx.test", TEXT, "spam", call_id=call_id))
    refused = until(lambda: [m for m in stranger.log if m.status == 503])
    assert refused and refused[0].get("retry-after")
    take = background(phone.request, "MESSAGE", "sip:bob@pbx.test", TEXT, "hello")
    while True:
        request = front.pbx.expect("MESSAGE")
        front.pbx.reply(request, 200)
        if request.body == "hello":
            break
    assert take().status == 200, "registered phones do not count"
    assert len({m.get("call-id") for m in front.pbx.log if m.method == "MESSAGE" and m.body == "spam"}) <= 10 + 5 * watch.real


def test_refer_to_carries_no_headers_of_its_own(front):
    """RFC 3261 19.1.5: who is asked to call would send them in his own name."""
    phone = front.phone()
    take = background(front.pbx.request, "REFER", phone.token,
                      ["Refer-To: <sip:200@pbx.test?Subject=hi&Route=%3Csip:192.0.2.1%3E&Replaces=abc%3Bto-tag%3D1%3Bfrom-tag%3D2>",
                       f"Contact: {front.pbx.contact}", "Target-Dialog: x;local-tag=1;remote-tag=2"], from_user="web")
    refer = phone.expect("REFER")
    assert "Subject=hi" in refer.get("refer-to") and "Replaces=abc" in refer.get("refer-to")
    assert "192.0.2.1" not in refer.get("refer-to")
    assert refer.get("target-dialog") == "x;local-tag=1;remote-tag=2"
    phone.reply(refer, 603)
    assert take().status == 603 and not front.kedge.json("subscriptions")


def test_refer_outside_of_a_call(front):
    """Click to dial: the PBX makes a phone call somebody; the phone's NOTIFYs go back (RFC 3515)."""
    phone = front.phone()
    ids = {"call_id": token(), "from_tag": token()}
    take = background(front.pbx.request, "REFER", phone.token,
                      ["Refer-To: <sip:200@pbx.test>", f"Contact: {front.pbx.contact}", "Referred-By: <sip:web@pbx.test>"],
                      from_user="web", **ids)
    refer = phone.expect("REFER")
    assert refer.get("refer-to") == "<sip:200@pbx.test>" and refer.get("referred-by") == "<sip:web@pbx.test>"
    sent = Message(phone.reply(refer, 202, headers=[f"Contact: {phone.contact}"]))
    accepted = take()
    assert accepted.status == 202 and accepted.contact()
    for state, line in (("active;expires=60", "SIP/2.0 100 Trying"), ("terminated;reason=noresource", "SIP/2.0 200 OK")):
        text = phone.build("NOTIFY", refer.contact(), ["Event: refer", f"Subscription-State: {state}", f"Contact: {phone.contact}",
                                                       "Content-Type: message/sipfrag;version=2.0"], line,
                           call_id=refer.get("call-id"), from_tag=sent.tag("to"), to=refer.get("from"), from_user="alice")
        take = background(phone.transact, text)
        got = answered(front.pbx, "NOTIFY")
        assert take().status == 200
        assert got.get("call-id") == ids["call_id"] and got.tag("to") == ids["from_tag"] and got.body == line
        assert got.get("subscription-state") == state
    assert until(lambda: not front.kedge.json("subscriptions"))


def test_concurrent_messages(front):
    """Sixty at once, each to its own answer."""
    phone = front.phone()
    results = {}

    def serve():
        for _ in range(60):
            request = front.pbx.expect("MESSAGE", 8)
            front.pbx.reply(request, 200, headers=["SIP-ETag: " + request.body])

    server = threading.Thread(target=serve)
    server.start()

    def send(i):
        results[i] = phone.request("MESSAGE", "sip:bob@pbx.test", TEXT, f"n{i}")

    threads = [threading.Thread(target=send, args=(i,)) for i in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.join()
    assert all(re.fullmatch("n%d" % i, results[i].get("sip-etag")) for i in range(60))
