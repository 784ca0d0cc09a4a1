"""Kamailio is the PBX, with presence: lamps of calls (dialog), voicemail (message-summary), presence and MESSAGE for phones
behind NATs, all through kedge, with the PBX's own passwords."""
import xml.etree.ElementTree as tree

import pytest

from interop.agent import Dialog, digest, token
from interop.hosts import background, until
from interop.linphone import Linphone
from interop.pbx import Kamailio
from interop.phone import Phone

USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
NATS = {"alice": "port-restricted", "bob": "symmetric", "carol": "full-cone", "dave": "symmetric", "erin": "port-restricted",
        "frank": "address-restricted", "grace": "symmetric"}
PIDF = ('<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:{0}@pbx.test"><tuple id="t1"><status>'
        '<basic>{1}</basic></status></tuple></presence>')


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server, pbx_host = lab.public_host("kedge"), lab.public_host("pbx")
    pbx = long_stage.add(Kamailio(long_stage.folder / "pbx", {u: "pw-" + u for u in USERS}, pbx_host, define=("PRESENCE",))).start()
    kedge = long_stage.kedge(server, config={"pbx": [f"udp:{pbx_host.addr}:5060"]})
    return kedge, pbx, {user: lab.natted_host(user, nat=nat) for user, nat in NATS.items()}


@pytest.fixture
def agent(stage, world):
    def make(user, transport="udp"):
        kedge, _, homes = world
        made = stage.agent(homes[user], user, "pw-" + user, (kedge.host.addr, 5060), "pbx.test", transport=transport)
        assert made.register().status == 200
        return made
    return make


@pytest.fixture
def voicemail(stage, world):
    """Somebody beside the PBX who publishes there, not through kedge."""
    def publish(user, text):
        _, pbx, _ = world
        system = stage.agent(pbx.host, user, "pw-" + user, (pbx.host.addr, 5060), "pbx.test")
        assert system.request("PUBLISH", f"sip:{user}@pbx.test", ["Event: message-summary", "Expires: 600",
                              "Content-Type: application/simple-message-summary"], text).status == 200
    return publish


class Lamp:
    """A subscription of an agent that answers every NOTIFY; states: what it was told."""

    def __init__(self, phone, of, event, accept, expires=600):
        self.phone, self.uri, self.event, self.accept = phone, f"sip:{of}@pbx.test", event, accept
        self.ids = {"call_id": token(), "from_tag": token()}
        self.told = []
        response = self.subscribe(expires)
        assert response.status == 200, response
        self.to, self.uri = response.get("to"), response.contact()

    def subscribe(self, expires, to=None):
        return self.phone.request("SUBSCRIBE", self.uri, [f"Event: {self.event}", f"Accept: {self.accept}", f"Expires: {expires}",
                                  f"Contact: {self.phone.contact}"], to=to, **self.ids)

    def next(self, timeout=20):
        got = self.phone.expect("NOTIFY", timeout)
        self.phone.reply(got, 200)
        self.told.append(got)
        return got

    def until(self, condition, timeout=20):
        """The first NOTIFY, from now on, of which this is true."""
        for _ in range(10):
            got = self.next(timeout)
            if condition(got):
                return got
        raise AssertionError(f"{self.event}: told {[m.body for m in self.told]}")


def dialogs(message):
    """[(state, attributes of <dialog>, {side: (identity, target)})] of a dialog-info body."""
    out = []
    if not message.body.strip():
        return out
    ns = "{urn:ietf:params:xml:ns:dialog-info}"
    for dialog in tree.fromstring(message.body).iter(ns + "dialog"):
        sides = {}
        for side in ("local", "remote"):
            found = dialog.find(ns + side)
            if found is not None:
                target = found.find(ns + "target")
                sides[side] = (found.findtext(ns + "identity"), None if target is None else target.get("uri"))
        out.append((dialog.findtext(ns + "state"), dialog.attrib, sides))
    return out


def in_state(state, name=None):
    """The dialog with this id, or any. Those of the last calls are told for ten seconds more, as terminated."""
    return lambda message: any(d[0] == state and name in (None, d[1]["id"]) for d in dialogs(message))


def ringing(message):
    return next(d for d in dialogs(message) if d[0] == "early")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_lamp_of_a_call(agent, stage, world, transport):
    """It names the dialogs as the phones know them, none of kedge's or the PBX's."""
    kedge, _, _ = world
    alice, bob, carol = agent("alice", transport), agent("bob", transport), agent("carol", transport)
    lamp = Lamp(carol, "bob", "dialog", "application/dialog-info+xml")
    assert all(d[0] == "terminated" for d in dialogs(lamp.next())), "no call yet, but perhaps the last one"
    call, ring = Dialog(alice), Dialog(bob)
    call.rtp, ring.rtp = stage.rtp(alice.host), stage.rtp(bob.host)
    result = background(call.call, "bob")
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    _, attributes, sides = ringing(lamp.until(in_state("early")))
    assert attributes["direction"] == "recipient" and attributes["call-id"] == invite.get("call-id"), "bob's own dialog"
    assert attributes["local-tag"] == invite.our_tag and attributes["remote-tag"] == invite.tag("from")
    for _, target in sides.values():
        assert target is None or kedge.host.addr not in target, sides
    ring.answer(invite)
    assert result().status == 200
    lamp.until(in_state("confirmed", attributes["id"]))
    take = background(call.bye)
    bob.reply(bob.expect("BYE"), 200)
    assert take().status == 200
    lamp.until(in_state("terminated", attributes["id"]))
    # refreshed with credentials in the dialog, then given up
    assert lamp.subscribe(300, lamp.to).status == 200
    lamp.next()
    assert lamp.subscribe(0, lamp.to).status == 200
    assert "terminated" in lamp.until(lambda m: "terminated" in m.get("subscription-state")).get("subscription-state")
    assert until(lambda: not any(s["by"] == "carol" for s in kedge.json("subscriptions")), 20)
    kedge.no_calls()


def test_picked_up_by_the_lamp(agent, stage, world):
    """RFC 5359 2.17: carol sees that bob's phone rings and takes the call: INVITE with Replaces to the caller."""
    alice, bob, carol = agent("alice"), agent("bob"), agent("carol")
    lamp = Lamp(carol, "bob", "dialog", "application/dialog-info+xml")
    call, rings = Dialog(alice, stage.rtp(alice.host)), []
    result = background(call.call, "bob", provisional=rings)
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    _, seen, sides = ringing(lamp.until(in_state("early")))
    # One process of the PBX passes the 180 on, another one the news of it: Replaces may name a dialog that alice does not have yet.
    assert until(lambda: any(m.status == 180 for m in rings), 20)
    assert sides["remote"][0] == "sip:alice@pbx.test"
    pick = Dialog(carol, stage.rtp(carol.host))
    replaces = f"{seen['call-id']};to-tag={seen['remote-tag']};from-tag={seen['local-tag']};early-only"
    take = background(pick.call, sides["remote"][0], headers=["Replaces: " + replaces, "Require: replaces"])
    at_alice = alice.expect("INVITE")
    named = at_alice.get("replaces")
    assert named.startswith(call.call_id + ";") and f"to-tag={call.local_tag}" in named and "early-only" in named, \
        f"alice's own dialog has the Call-ID {call.call_id} and the tag {call.local_tag}; she is told {named}"
    taken = Dialog(alice, stage.rtp(alice.host, hz=500))
    taken.answer(at_alice)
    assert take().status == 200
    assert pick.rtp.got(ms=100) and taken.rtp.got(ms=100)
    bob.reply(invite, 486)
    result()
    end = background(pick.bye)
    alice.reply(alice.expect("BYE"), 200)
    assert end().status == 200


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_voicemail_lamp(agent, voicemail, transport):
    phone = agent("dave", transport)
    lamp = Lamp(phone, "dave", "message-summary", "application/simple-message-summary")
    lamp.next()
    for text in ("Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n", "Messages-Waiting: no\r\nVoice-Message: 0/8\r\n"):
        voicemail("dave", text)
        got = lamp.until(lambda m, text=text: m.body == text)
        assert got.get("content-type") == "application/simple-message-summary"


def phone_with_lamp(stage, world, user):
    """baresip that registers when it has begun: its mwi module 1.0 subscribes for ever in a loop if the registration is done
    before a timer of 1 ms that it starts with."""
    kedge, _, homes = world
    phone = stage.add(Phone(stage.folder / user, user, f"{kedge.host.addr}:5060", 400, homes[user], password="pw-" + user,
                            domain="pbx.test", account_extra=";mwi=yes", control=4450, config_extra="module_app mwi.so",
                            expires=0)).start()
    phone.command("uanew", phone.account.replace(";regint=0", ";regint=600"))
    return phone.registered()


def test_voicemail_lamp_of_a_phone(stage, world, voicemail):
    """By itself, behind a symmetric NAT."""
    kedge, _, _ = world
    phone = phone_with_lamp(stage, world, "grace")
    assert until(lambda: [s for s in kedge.json("subscriptions") if s["by"] == "grace" and s["state"] == "active"], 10)
    mark = phone.mark()
    voicemail("grace", "Messages-Waiting: yes\r\nVoice-Message: 3/1\r\n")
    assert until(lambda: any("3/1" in str(e.get("param")) for e in phone.events[mark:]) or "Voice-Message: 3/1" in phone.log(), 20), \
        [(e["type"], e.get("param")) for e in phone.events[mark:]]


def test_presence(agent):
    """PUBLISH with its entity tags, and who watches it."""
    alice, erin = agent("alice"), agent("erin")
    lamp = Lamp(alice, "erin", "presence", "application/pidf+xml")
    lamp.next()
    headers = ["Event: presence", "Expires: 300", "Content-Type: application/pidf+xml"]
    first = erin.request("PUBLISH", "sip:erin@pbx.test", headers, PIDF.format("erin", "open"))
    assert first.status == 200 and first.get("sip-etag") and int(first.get("expires")) <= 300
    assert "open" in lamp.until(lambda m: "<basic>" in m.body).body
    changed = erin.request("PUBLISH", "sip:erin@pbx.test", [*headers, "SIP-If-Match: " + first.get("sip-etag")],
                           PIDF.format("erin", "closed"))
    assert changed.status == 200
    assert "closed" in lamp.until(lambda m: "<basic>" in m.body).body
    gone = erin.request("PUBLISH", "sip:erin@pbx.test", ["Event: presence", "Expires: 0", "SIP-If-Match: " + changed.get("sip-etag")])
    assert gone.status == 200


def test_message_both_ways(agent):
    alice, bob = agent("alice"), agent("bob", "tcp")
    for sender, receiver in ((alice, bob), (bob, alice)):
        take = background(sender.request, "MESSAGE", f"sip:{receiver.user}@pbx.test", ["Content-Type: text/plain"], "hello")
        got = receiver.expect("MESSAGE")
        receiver.reply(got, 200)
        assert take().status == 200 and got.body == "hello" and f"sip:{sender.user}@pbx.test" in got.get("from")


def test_message_of_phones(stage, world):
    """linphone to linphone, each behind its NAT."""
    kedge, _, homes = world
    phones = [stage.add(Linphone(stage.folder / u, u, f"{kedge.host.addr}:5060", hz, homes[u], password="pw-" + u,
                                 domain="pbx.test")).start() for u, hz in (("erin", 400), ("frank", 700))]
    for phone in phones:
        phone.registered()
    for sender, receiver in (phones, phones[::-1]):
        mark = receiver.mark()
        sender.command(f"chat sip:{receiver.user}@pbx.test lights-of-{sender.user}")
        receiver.wait(f"lights-of-{sender.user}", mark, 10)


def test_wrong_event_and_password(agent, world, stage):
    kedge, _, homes = world
    alice = agent("alice")
    response = alice.request("SUBSCRIBE", "sip:bob@pbx.test", ["Event: no-such-thing", f"Contact: {alice.contact}", "Expires: 600"])
    assert response.status == 489 and "presence" in response.get("allow-events"), "the PBX says what it knows"
    wrong = stage.agent(homes["alice"], "alice", "wrong", (kedge.host.addr, 5060), "pbx.test")
    response = wrong.request("SUBSCRIBE", "sip:bob@pbx.test", ["Event: dialog", f"Contact: {wrong.contact}", "Expires: 600"])
    assert response.status in (403, 407)
    assert digest(wrong.challenge, "a", "b", "c", "d"), "the PBX's challenge came through"
