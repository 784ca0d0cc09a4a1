"""Subscriptions (RFC 6665) by the message: what passes in their two dialogs, phones that move or are away, who is not let in.
The PBX is an agent; test_events.py has the real one."""
import os
import queue
import re
import signal
import sqlite3
import threading
import time
import xml.etree.ElementTree as tree

import pytest

from interop import sipp
from interop.agent import Dialog, Message, token
from interop.hosts import background, until
from interop.test_requests import Front, answered, is_clean

MWI = "Messages-Waiting: {}\r\n"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "pbx", "elsewhere")]


class Watch:
    """A subscription of one agent with another through kedge, both dialogs by hand."""

    def __init__(self, subscriber, notifier, uri, event="message-summary"):
        self.subscriber, self.notifier, self.uri, self.event = subscriber, notifier, uri, event
        self.call_id, self.tag, self.cseq, self.to = token(), token(), 1, None
        self.far = self.far_tag = None  # the first SUBSCRIBE that the notifier saw, and its own tag
        self.far_cseq = 0
        self.target = uri

    def subscribe(self, expires=600, headers=(), agent=None, event=None, timeout=8, send_only=False):
        agent = agent or self.subscriber
        text = agent.build("SUBSCRIBE", self.target, [f"Event: {event or self.event}", f"Expires: {expires}",
                                                      f"Contact: {agent.contact}", "Accept: application/x-state", *headers],
                           call_id=self.call_id, from_tag=self.tag, cseq=self.cseq, to=self.to, from_user=self.subscriber.user)
        self.cseq += 1
        if send_only:
            agent.send(text)
            return None
        return background(agent.transact, text, timeout)

    def accept(self, take, expires=600, status=200, headers=()):
        request = self.notifier.expect("SUBSCRIBE")
        if self.far is None:
            self.far, self.far_tag = request, token()
        self.notifier.reply(request, status, headers=[f"Expires: {expires}", f"Contact: {self.notifier.contact}", *headers],
                            tag=self.far_tag)
        self.request = request
        response = take() if take else None
        if response is not None and response.status < 300 and self.to is None:
            self.to, self.target = response.get("to"), response.contact()
        return response

    def open(self, **kw):
        response = self.accept(self.subscribe(), **kw)
        assert response.status == 200
        return self

    def notification(self, state="active;expires=600", body=MWI.format("yes"), agent=None, event=None, target=None, tag=None,
                     kind="application/simple-message-summary"):
        agent = agent or self.notifier
        self.far_cseq += 1
        return agent.build("NOTIFY", target or self.far.contact(),
                           [f"Event: {event or self.event}", f"Subscription-State: {state}", f"Contact: {self.notifier.contact}",
                            f"Content-Type: {kind}"], body, call_id=self.far.get("call-id"),
                           from_tag=tag or self.far_tag, to=self.far.get("from"), cseq=self.far_cseq)

    def notify(self, *args, status=200, headers=(), **kw):
        """A NOTIFY that arrives and is answered. Returns what the subscriber saw and the notifier's answer."""
        take = background(self.notifier.transact, self.notification(*args, **kw))
        got = answered(self.subscriber, "NOTIFY", status, headers=headers)
        return got, take()


@pytest.fixture(params=["udp", "tcp", "tls"])
def front(request, stage, hosts):
    return Front(stage, hosts, request.param)


def gone(kedge):
    return until(lambda: not kedge.json("subscriptions"))


def test_phone_watches_something_of_the_pbx(front, hosts):
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test")
    response = watch.accept(watch.subscribe(600, ["Supported: eventlist, path", "Allow-Events: refer"]), 300)
    assert response.status == 200 and response.get("expires") == "300"
    far = watch.far
    assert far.uri == "sip:alice@pbx.test" and far.get("event") == "message-summary" and far.get("expires") == "600"
    assert far.get("accept") == "application/x-state" and far.get("supported") == "eventlist" and far.get("allow-events") == "refer"
    assert far.get("call-id") != watch.call_id and far.tag("from") != watch.tag
    is_clean(far, hosts[1].addr)
    got, answer = watch.notify()
    assert answer.status == 200 and got.body == MWI.format("yes") and got.get("subscription-state") == "active;expires=600"
    assert got.get("event") == "message-summary" and got.get("call-id") == watch.call_id
    assert got.tag("to") == watch.tag and got.get("from") == watch.to and got.uri == phone.contact.strip("<>")
    is_clean(got, hosts[3].addr)
    listed = front.kedge.json("subscriptions")
    assert [(s["by"], s["of"], s["event"], s["state"]) for s in listed] == [("alice", "alice", "message-summary", "active")]
    assert "message-summary" in front.kedge.ctl("subscriptions")
    # refreshed, then given up: the last NOTIFY still passes
    assert watch.accept(watch.subscribe(600), 200).get("expires") == "200"
    assert watch.request.get("call-id") == far.get("call-id") and watch.request.tag("to") == watch.far_tag
    assert watch.request.cseq[0] > far.cseq[0]
    assert watch.accept(watch.subscribe(0), 0).status == 200
    got, answer = watch.notify("terminated;reason=timeout", "")
    assert got.get("subscription-state") == "terminated;reason=timeout" and answer.status == 200
    assert gone(front.kedge)


def test_a_subscription_is_listed_whatever_bytes_its_names_have(stage, hosts):
    front = Front(stage, hosts, "udp")
    watch = Watch(front.phone(), front.pbx, "sip:al?ice@pbx.test")
    send = watch.subscriber.send
    watch.subscriber.send = lambda text, to=None: send(text.encode().replace(b"al?ice", b"al\xffice"), to)
    watch.open()
    [listed] = front.kedge.json("subscriptions")
    assert listed["of"] == "al\\xffice"


def test_challenged_by_the_pbx(front):
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test")
    take = watch.subscribe()
    answered(front.pbx, "SUBSCRIBE", 407, headers=['Proxy-Authenticate: Digest realm="pbx.test", nonce="n", qop="auth"'])
    assert take().status == 407 and not front.kedge.json("subscriptions"), "nothing is kept of a refusal"
    take = watch.subscribe(headers=['Proxy-Authorization: Digest username="alice", realm="pbx.test", nonce="n", response="x"'])
    assert watch.accept(take).status == 200
    assert 'nonce="n"' in watch.far.get("proxy-authorization")


def test_pbx_watches_a_phone(front, hosts):
    phone = front.phone()
    watch = Watch(front.pbx, phone, phone.token, "presence")
    watch.open()
    assert watch.far.uri == phone.contact.strip("<>")
    is_clean(watch.far, hosts[3].addr)
    got, answer = watch.notify("active", "<presence/>", kind="application/pidf+xml")
    assert answer.status == 200 and got.body == "<presence/>" and got.get("content-type") == "application/pidf+xml"
    is_clean(got, hosts[1].addr)


def test_notify_before_the_answer(front):
    """RFC 6665 4.1.2.4: over UDP it may overtake the 2xx."""
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test")
    take = watch.subscribe()
    watch.far, watch.far_tag = front.pbx.expect("SUBSCRIBE"), token()
    got, answer = watch.notify()
    assert answer.status == 200 and got.body == MWI.format("yes") and got.tag("to") == watch.tag
    front.pbx.reply(watch.far, 200, headers=["Expires: 600", f"Contact: {front.pbx.contact}"], tag=watch.far_tag)
    response = take()
    assert response.status == 200 and response.tag("to") == got.tag("from"), "one dialog"


def test_route_set(front, hosts):
    """Record-Route of the PBX's proxy becomes the Route of all that follows, also after NOTIFYs (RFC 3261 12.2)."""
    watch = Watch(front.phone(), front.pbx, "sip:alice@pbx.test")
    proxy = f"<sip:{hosts[3].addr}:5060;lr;x=1>"
    assert watch.accept(watch.subscribe(), headers=[f"Record-Route: {proxy}", "Record-Route: <sip:inner.pbx.test;lr>"]).status == 200
    watch.notify()
    assert watch.accept(watch.subscribe()).status == 200
    routes = ", ".join(watch.request.all("route"))
    assert routes.replace(" ", "") == f"<sip:inner.pbx.test;lr>,{proxy}"
    assert watch.request.uri == front.pbx.contact.strip("<>"), "the notifier's Contact"


def test_fetch(front):
    """RFC 6665 4.4.3: Expires: 0 asks once."""
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test")
    assert watch.accept(watch.subscribe(0), 0).status == 200
    _, answer = watch.notify("terminated;reason=timeout")
    assert answer.status == 200 and gone(front.kedge)


def test_subscriber_that_has_forgotten(front):
    """A phone that was restarted says 481: so does kedge, and the PBX drops the subscription."""
    watch = Watch(front.phone(), front.pbx, "sip:alice@pbx.test").open()
    _, answer = watch.notify(status=481)
    assert answer.status == 481 and gone(front.kedge)


def test_notifier_that_has_forgotten(front):
    watch = Watch(front.phone(), front.pbx, "sip:alice@pbx.test").open()
    assert watch.accept(watch.subscribe(), status=481).status == 481 and gone(front.kedge)


def stored(kedge):
    with sqlite3.connect(f"file:{kedge.folder}/kedge.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM binding WHERE key LIKE 'sub:%'").fetchone()[0]


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_restart_of_signalling(stage, hosts, how):
    """Lamps go on: the store has the dialogs. Of what it has not, both sides hear 481 and subscribe anew."""
    front = Front(stage, hosts)
    watch = Watch(front.phone(), front.pbx, "sip:alice@pbx.test").open()
    early, _ = watch.notify()
    assert until(lambda: stored(front.kedge) == 1)
    unknown = Watch(front.phone("bob", 2), front.pbx, "sip:bob@pbx.test")
    if how == "killed":
        before = front.kedge.role("signalling")
        os.kill(before, signal.SIGKILL)
        assert until(lambda: front.kedge.role("signalling") not in (None, before), 30)
        front.kedge.ready()
    else:
        front.kedge.stop()
        front.kedge.spawn().ready()
    assert [(s["by"], s["of"], s["event"]) for s in front.kedge.json("subscriptions")] == [("alice", "alice", "message-summary")]
    got, answer = watch.notify(body=MWI.format("after"))
    assert answer.status == 200 and got.body == MWI.format("after")
    assert got.cseq[0] > early.cseq[0] and got.get("call-id") == watch.call_id and got.get("from") == watch.to
    assert watch.accept(watch.subscribe(500), 500).status == 200
    assert watch.request.get("call-id") == watch.far.get("call-id") and watch.request.cseq[0] > watch.far.cseq[0]
    unknown.to = "<sip:bob@pbx.test>;tag=gone"
    assert unknown.subscribe()().status == 481
    assert watch.accept(watch.subscribe(0), 0).status == 200
    watch.notify("terminated")
    assert gone(front.kedge) and until(lambda: stored(front.kedge) == 0)


def test_wrong_requests(front):
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test").open()
    assert watch.subscribe(event="presence")().status == 489, "another package in the same dialog"
    assert front.pbx.transact(watch.notification(event="presence")).status == 489
    assert front.pbx.transact(watch.notification(tag="other")).status == 481, "a dialog nobody knows"
    text = phone.build("SUBSCRIBE", "sip:alice@pbx.test", [f"Contact: {phone.contact}"])
    assert phone.transact(text).status == 489, "no Event (RFC 6665 8.2.1)"
    text = phone.build("SUBSCRIBE", "sip:alice@pbx.test", ["Event: dialog"])
    assert phone.transact(text).status == 400, "no Contact"
    assert front.pbx.quiet("SUBSCRIBE", 0.5) and phone.quiet("NOTIFY", 0.1)


def test_stranger_cannot_notify(front, stage, hosts):
    """Even one who has overheard everything."""
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test").open()
    mallory = front.phone("mallory", 4, register=False)
    answer = mallory.transact(watch.notification("terminated", MWI.format("no"), agent=mallory))
    assert answer.status == 403
    assert phone.quiet("NOTIFY", 0.5)
    _, answer = watch.notify()
    assert answer.status == 200, "the subscription is as it was"


def test_flood_of_subscriptions(stage, hosts):
    front = Front(stage, hosts, config={"limits": {"subscriptions_per_user": 5, "subscriptions": 8}})
    phone, other = front.phone(), front.phone("bob", 2)
    statuses, first = [], None
    for i in range(8):
        watch = Watch(phone, front.pbx, f"sip:n{i}@pbx.test", "dialog")
        first = watch if i == 0 else first
        take = watch.subscribe()
        statuses.append(watch.accept(take).status if i < 5 else take().status)
    assert statuses == [200] * 5 + [403] * 3
    # a phone that was restarted takes the place of its own past
    again = Watch(phone, front.pbx, "sip:n0@pbx.test", "dialog")
    assert again.accept(again.subscribe()).status == 200
    assert front.pbx.transact(first.notification()).status == 481
    assert again.notify()[1].status == 200
    for i in range(4):
        watch = Watch(other, front.pbx, f"sip:n{i}@pbx.test", "dialog")
        take = watch.subscribe()
        status = watch.accept(take).status if i < 3 else take().status
        assert status == (200 if i < 3 else 503)
    assert front.pbx.quiet("SUBSCRIBE", 0.3)


def test_phone_that_moves_takes_its_subscriptions_along(stage, hosts):
    front = Front(stage, hosts)
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test").open()
    contact = phone.contact
    moved = front.phone(host=2, register=False)
    front.register(moved, contact=contact)
    watch.subscriber = moved
    got, answer = watch.notify()
    assert answer.status == 200 and got.body == MWI.format("yes")
    # and by a refresh from a third place, once the PBX has believed it
    third = front.phone(host=4, register=False)
    take = watch.subscribe(agent=third)
    assert watch.accept(take).status == 200
    watch.subscriber = third
    assert watch.notify()[1].status == 200


def test_refresh_that_the_pbx_does_not_believe_moves_nothing(stage, hosts):
    front = Front(stage, hosts)
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test").open()
    mallory = front.phone("mallory", 4, register=False)
    assert watch.accept(watch.subscribe(agent=mallory), status=401).status == 401
    assert watch.notify()[1].status == 200, "the phone itself is told"
    assert mallory.quiet("NOTIFY", 0.3)


def test_phone_that_is_away_is_told_when_it_comes_back(stage, hosts):
    """A closed connection: the PBX's NOTIFYs are answered, and the newest is sent when the phone is there again."""
    front = Front(stage, hosts, "tcp")
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test").open()
    phone.close()
    assert until(lambda: front.kedge.registrations() == [])
    for text in ("old", "new"):
        assert front.pbx.transact(watch.notification(body=MWI.format(text))).status == 200
    assert front.kedge.json("subscriptions")[0]["state"] == "waiting for the phone"
    back = front.phone(register=False)
    front.register(back)
    got = answered(back, "NOTIFY")
    assert got.body == MWI.format("new") and got.get("call-id") == watch.call_id and got.tag("to") == watch.tag
    assert back.quiet("NOTIFY", 0.5)
    watch.subscriber = back
    assert watch.notify()[1].status == 200


def test_phone_that_says_nothing_for_a_while(stage, hosts):
    """Over UDP: kedge answers the PBX in its place and tries again."""
    front = Front(stage, hosts)
    phone = front.phone()
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test").open()
    take = background(front.pbx.transact, watch.notification(), 20)
    phone.expect("NOTIFY")
    answer = take()
    assert answer is not None and answer.status == 200
    while not phone.requests.empty():
        phone.requests.get()
    front.register(phone)  # from the same place: nothing new to kedge
    got, answer = watch.notify(body=MWI.format("later"))
    assert got.body == MWI.format("later") and answer.status == 200


def test_expiry(stage, hosts):
    """Nobody refreshes: the state goes when RFC 6665's timer N is over too, and not before."""
    front = Front(stage, hosts)
    watch = Watch(front.phone(), front.pbx, "sip:alice@pbx.test")
    watch.accept(watch.subscribe(1), 1)
    time.sleep(1.5)
    _, answer = watch.notify("terminated;reason=timeout", "")
    assert answer.status == 200 and gone(front.kedge)


def test_embedded_presence_between_phones(stage, hosts):
    kedge = stage.kedge(hosts[0], accounts={"alice": "pw-alice", "bob": "pw-bob"})
    alice, bob = (stage.agent(hosts[i], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in ((1, "alice"), (2, "bob")))
    assert alice.register().status == 200 and bob.register().status == 200
    take = background(alice.request, "SUBSCRIBE", "sip:bob@kedge.test",
                      ["Event: presence", "Expires: 600", f"Contact: {alice.contact}"])
    seen = bob.expect("SUBSCRIBE")
    sent = Message(bob.reply(seen, 200, headers=["Expires: 600", f"Contact: {bob.contact}"]))
    assert take().status == 200 and not seen.all("proxy-authorization")
    text = bob.build("NOTIFY", seen.contact(), ["Event: presence", "Subscription-State: active", f"Contact: {bob.contact}"], "",
                     call_id=seen.get("call-id"), from_tag=sent.tag("to"), to=seen.get("from"))
    take = background(bob.transact, text)
    answered(alice, "NOTIFY")
    assert take().status == 200
    # from another place it takes bob's password
    mallory = stage.agent(hosts[4], "bob", "wrong", (kedge.host.addr, 5060))
    text = re.sub(r"branch=\S+", "branch=z9hG4bK" + token(), re.sub(r"CSeq: \d+", "CSeq: 90", text))
    answer = mallory.transact(text)
    assert answer.status == 407
    assert alice.quiet("NOTIFY", 0.3)


# ---- SIPp: many at once ----

def _subscribe(cseq, expires, tag=""):
    target = "[next_url]" if tag else "sip:lamp@pbx.test"
    return (f"SUBSCRIBE {target} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]\nMax-Forwards: 70\n"
            f"From: <sip:sipp@pbx.test>;tag=a[pid]-[call_number]\nTo: <sip:lamp@pbx.test>{tag}\nCall-ID: [call_id]\n"
            f"CSeq: {cseq} SUBSCRIBE\nContact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\nEvent: dialog\n"
            f"Expires: {expires}\n\n")


def _answer(tag="", more=""):
    return (f"SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n"
            f"Contact: <sip:lamp@[local_ip]:[local_port]>\n{more}\n")


def _notify(cseq, state):
    return ("NOTIFY [next_url] SIP/2.0\nVia: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=[branch]\nMax-Forwards: 70\n"
            f"From:[$callee];tag=b[pid]-[call_number]\nTo:[$caller]\nCall-ID: [call_id]\nCSeq: {cseq} NOTIFY\n"
            f"Contact: <sip:lamp@[local_ip]:[local_port]>\nEvent: dialog\nSubscription-State: {state}\n\n")


@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_many_by_sipp(stage, hosts, tmp_path, transport):
    """Subscribed, notified twice, given up. Debian's SIPp speaks no TLS: that is above."""
    kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[3].addr}:5060"],
                                          "limits": {"unregistered_calls": 1000}, "guard": {"trusted": [hosts[1].addr]}})
    take = {"rrs": "true"}
    caller = [sipp.send(_subscribe(1, 600), retrans="2000"), sipp.recv("200", rrs="true"), sipp.recv("NOTIFY"), sipp.send(_answer()),
              sipp.recv("NOTIFY"), sipp.send(_answer()),
              sipp.send(_subscribe(2, 0, "[peer_tag_param]"), retrans="2000"), sipp.recv("200"), sipp.recv("NOTIFY"),
              sipp.send(_answer())]
    callee = [sipp.recv("SUBSCRIBE", save=True, **take), sipp.send(_answer(";tag=b[pid]-[call_number]", "Expires: 600\n")),
              *(step for i in (1, 2) for step in (sipp.send(_notify(i, "active;expires=600"), retrans="2000"), sipp.recv("200"))),
              sipp.recv("SUBSCRIBE"), sipp.send(_answer("", "Expires: 0\n")),
              sipp.send(_notify(3, "terminated;reason=timeout"), retrans="2000"), sipp.recv("200")]
    stage.add(sipp.Sipp(tmp_path)).run(hosts[1], hosts[3], f"{hosts[0].addr}:5060", caller, callee, calls=30, rate=15,
                                       options=["-t", transport])
    assert gone(kedge) and kedge.stats()["subscriptions_made"] == 30


# ---- lamps without a PBX: kedge is the notifier ----

def lamp_state(message):
    """[(state, attributes)] of the dialogs in a dialog-info body."""
    ns = "{urn:ietf:params:xml:ns:dialog-info}"
    assert message.get("content-type") == "application/dialog-info+xml"
    root = tree.fromstring(message.body)
    assert root.get("state") == "full"
    return [(d.findtext(ns + "state"), d.attrib, d.findtext(f"{ns}remote/{ns}identity")) for d in root.iter(ns + "dialog")]


class Office:
    def __init__(self, stage, hosts, transport="udp", **config):
        self.users = ("alice", "bob", "carol")
        self.kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in self.users}, config=config)
        self.phones = [stage.agent(hosts[i], u, "pw-" + u, (self.kedge.host.addr, 5060), transport=transport)
                       for i, u in ((1, "alice"), (2, "bob"), (4, "carol"))]
        for phone in self.phones:
            assert phone.register().status == 200

    def watch(self, phone, of, expires=600, **ids):
        ids = {"call_id": token(), "from_tag": token()} | ids
        response = phone.request("SUBSCRIBE", ids.pop("uri", f"sip:{of}@kedge.test"),
                                 ["Event: dialog", f"Expires: {expires}", f"Contact: {phone.contact}"], **ids)
        return response, ids


def test_lamps_of_kedge_itself(stage, hosts):
    """Without a PBX: bob's lamp at carol's phone, through a call of alice to bob."""
    office = Office(stage, hosts, "tcp")
    alice, bob, carol = office.phones
    response, ids = office.watch(carol, "bob", 600)
    assert response.status == 200 and response.get("expires") == "600"
    first = answered(carol, "NOTIFY")
    assert lamp_state(first)[0][0] == "terminated" and first.get("subscription-state").startswith("active;expires=")
    call, ring = Dialog(alice, stage.rtp(alice.host)), Dialog(bob, stage.rtp(bob.host))
    result = background(call.call, "bob")
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    states = []
    while not states or states[-1][0] != "early":
        states.append(lamp_state(answered(carol, "NOTIFY"))[0])
    _, seen, other = states[-1]
    assert other == "sip:alice@kedge.test" and seen["direction"] == "recipient"
    assert (seen["call-id"], seen["remote-tag"]) == (call.call_id, call.local_tag), "Replaces names the caller's own dialog"
    ring.answer(invite)
    assert result().status == 200
    assert lamp_state(answered(carol, "NOTIFY"))[0][0] == "confirmed"
    end = background(call.bye)
    bob.reply(bob.expect("BYE"), 200)
    assert end().status == 200
    assert lamp_state(answered(carol, "NOTIFY"))[0][0] == "terminated"
    again, _ = office.watch(carol, "bob", 700, uri=response.contact(), to=response.get("to"), **ids)
    assert again.status == 200
    refreshed = answered(carol, "NOTIFY")
    versions = [int(tree.fromstring(m.body).get("version")) for m in carol.log if m.method == "NOTIFY"]
    assert versions == sorted(set(versions)) and lamp_state(refreshed)
    gone_, _ = office.watch(carol, "bob", 0, uri=response.contact(), to=response.get("to"), **ids)
    assert gone_.status == 200 and gone_.get("expires") == "0"
    assert answered(carol, "NOTIFY").get("subscription-state").startswith("terminated")
    assert gone(office.kedge)
    office.kedge.no_calls()


def test_call_picked_up_without_a_pbx(stage, hosts):
    office = Office(stage, hosts)
    alice, bob, carol = office.phones
    office.watch(carol, "bob")
    answered(carol, "NOTIFY")
    call = Dialog(alice, stage.rtp(alice.host))
    result = background(call.call, "bob")
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    state = ("", {}, "")
    while state[0] != "early":
        state = lamp_state(answered(carol, "NOTIFY"))[0]
    pick = Dialog(carol, stage.rtp(carol.host))
    replaces = f"{state[1]['call-id']};to-tag={state[1]['remote-tag']};from-tag={state[1]['local-tag']};early-only"
    take = background(pick.call, state[2], headers=["Replaces: " + replaces, "Require: replaces"])
    at_alice = alice.expect("INVITE")
    named = at_alice.get("replaces")
    assert named.startswith(call.call_id + ";") and f"to-tag={call.local_tag}" in named, named
    taken = Dialog(alice, stage.rtp(alice.host, hz=500))
    taken.answer(at_alice)
    assert take().status == 200 and pick.rtp.got(ms=100) and taken.rtp.got(ms=100)
    bob.reply(invite, 486)
    result()


def test_who_may_watch(stage, hosts):
    office = Office(stage, hosts)
    _, _, carol = office.phones
    assert office.watch(carol, "nobody")[0].status == 404
    assert office.watch(carol, "bob", 5)[0].status == 423
    assert carol.request("SUBSCRIBE", "sip:bob@kedge.test", ["Event: dialog", f"Contact: {carol.contact}"],
                         auth=False).status == 407
    fetched, _ = office.watch(carol, "bob", 0)
    assert fetched.status == 200
    assert answered(carol, "NOTIFY").get("subscription-state").startswith("terminated") and gone(office.kedge)


def test_phone_that_asks_for_its_own_mailbox(stage, hosts):
    """Many do by default. Without a PBX there is none, and the phone is not asked about itself."""
    office = Office(stage, hosts)
    alice = office.phones[0]
    response = alice.request("SUBSCRIBE", "sip:alice@kedge.test", ["Event: message-summary", f"Contact: {alice.contact}"])
    assert response.status == 489 and "dialog" in response.get("allow-events")
    assert alice.quiet("SUBSCRIBE", 0.5)


def test_lamps_can_be_forbidden(stage, hosts):
    office = Office(stage, hosts, sip={"lamps": "no"})
    _, bob, carol = office.phones
    take = background(office.watch, carol, "bob")
    answered(bob, "SUBSCRIBE", 489)
    assert take()[0].status == 489, "then it is the phone's own business"


def test_lamps_of_kedge_itself_after_a_restart(stage, hosts):
    office = Office(stage, hosts)
    alice, bob, carol = office.phones
    response, ids = office.watch(carol, "bob")
    before = int(tree.fromstring(answered(carol, "NOTIFY").body).get("version"))
    assert until(lambda: stored(office.kedge) == 1)
    office.kedge.stop()
    office.kedge.spawn().ready()
    told = answered(carol, "NOTIFY")
    assert int(tree.fromstring(told.body).get("version")) > before and told.get("call-id") == ids["call_id"]
    result = background(Dialog(alice, stage.rtp(alice.host)).call, "bob")
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    assert lamp_state(answered(carol, "NOTIFY"))[0][0] in ("trying", "early")
    bob.reply(invite, 486)
    assert result().status == 486


def test_loss_and_reorder(lab, stage, hosts):
    """Behind a NAT whose line loses 5 % of the packets, each once, and reorders as many: every state that the PBX tells arrives, in the end
    the newest."""
    front = Front(stage, hosts)
    home = lab.natted_host("lossy", nat="symmetric", loss=5, lose_once=True, reorder=5, seed=11)
    phone = stage.agent(home, "alice", "pw-alice", (front.kedge.host.addr, 5060), domain="pbx.test")
    front.register(phone)
    watch = Watch(phone, front.pbx, "sip:alice@pbx.test")
    assert watch.accept(watch.subscribe(timeout=20)).status == 200
    told, stop = [], threading.Event()

    def answer_all():
        while not stop.is_set():
            try:
                got = phone.requests.get(timeout=0.1)
            except queue.Empty:
                continue
            if got.method == "NOTIFY":
                told.append(got.body)
                phone.reply(got, 200)

    thread = threading.Thread(target=answer_all)
    thread.start()
    try:
        for i in range(40):
            answer = front.pbx.transact(watch.notification(body=f"n{i}"), 15)
            assert answer is not None and answer.status == 200, i
        assert until(lambda: {f"n{i}" for i in range(40)} <= set(told)), sorted(set(told))
        take = watch.subscribe(500, timeout=20)
        assert watch.accept(take, 500).status == 200
    finally:
        stop.set()
        thread.join()
    assert front.kedge.json("subscriptions")[0]["state"] == "active"
