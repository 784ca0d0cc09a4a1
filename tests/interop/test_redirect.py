"""3xx: followed in the name of who diverts, passed to who can follow it, or refused."""
import pytest

from interop.agent import Dialog, Message
from interop.hosts import background, until

USERS = ("alice", "bob", "carol", "dave", "u1", "u2", "u3", "u4", "u5", "u6", "u7")
PBX = "pbx.test"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "three", "pbx")]


class Desk:
    def __init__(self, stage, hosts, redirect=None, users=USERS[:4]):
        self.stage, self.hosts = stage, hosts
        config = {"calls": {"redirect": redirect}} if redirect else {}
        self.kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in users}, config=config)

    def phone(self, user, host=1, register=True, **kw):
        agent = self.stage.agent(self.hosts[host], user, "pw-" + user, (self.kedge.host.addr, 5060), **kw)
        assert not register or agent.register().status == 200
        return agent

    def call(self, caller, who, **kw):
        self.dialog = Dialog(caller, self.stage.rtp(caller.host))
        self.provisional = []
        return background(self.dialog.call, who, provisional=self.provisional, **kw)

    def answer(self, phone, invite):
        dialog = Dialog(phone, self.stage.rtp(phone.host))
        dialog.answer(invite)
        return dialog

    def hang_up(self, callee):
        answer = background(self.dialog.bye)
        callee.reply(callee.expect("BYE"), 200)
        assert answer().status == 200
        self.kedge.no_calls()

    def explain(self):
        call = self.kedge.json("calls", "--recent")[0]
        return call, self.kedge.ctl("explain", call["id"])


@pytest.fixture
def desk(stage, hosts):
    return lambda *args, **kw: Desk(stage, hosts, *args, **kw)


def moved(phone, invite, *contacts, status=302, headers=()):
    phone.reply(invite, status, headers=[*(f"Contact: <{c}>" if ">" not in c else f"Contact: {c}" for c in contacts), *headers])
    phone.expect("ACK")


@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_a_phone_diverts_to_another_account(desk, transport):
    d = desk()
    alice, bob, carol = d.phone("alice"), d.phone("bob", 2, transport=transport), d.phone("carol", 3, transport=transport)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "sip:carol@kedge.test")
    invite = carol.expect("INVITE")
    assert invite.get("diversion") == "<sip:bob@kedge.test>;reason=unconditional;counter=1"
    assert invite.get("history-info") == "<sip:bob@kedge.test?Reason=SIP%3Bcause%3D302>;index=1, <sip:carol@kedge.test>;index=1.1;mp=1"
    assert "alice" in invite.get("from") and bob.quiet("CANCEL", 0.2)
    assert until(lambda: [m.status for m in d.provisional if m.status > 100]) == [181]
    callee = d.answer(carol, invite)
    assert result().status == 200
    assert d.dialog.rtp.got(ms=200) and callee.rtp.got(ms=200)
    d.hang_up(carol)
    call, words = d.explain()
    assert [(x["from"], x["to"], x["status"]) for x in call["diversions"]] == [("bob", "carol", 302)]
    assert "bob's side diverted the call to carol (302)" in words and call["legs"][1]["user"] == "carol"


def test_the_reason_that_the_phone_gives_is_told(desk):
    d = desk()
    alice, bob, carol = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3)
    result = d.call(alice, "bob")
    invite = bob.expect("INVITE")
    bob.reply(invite, 180)
    moved(bob, invite, "sip:carol@kedge.test", headers=["Diversion: <sip:bob@kedge.test>;reason=no-answer"])
    invite = carol.expect("INVITE")
    assert ";reason=no-answer;" in invite.get("diversion")
    carol.reply(invite, 486)
    assert result().status == 486
    d.kedge.no_calls()


def test_two_hops(desk):
    d = desk()
    alice, bob, carol, dave = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3), d.phone("dave", 3)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "sip:carol@kedge.test")
    moved(carol, carol.expect("INVITE"), "sip:dave@kedge.test", status=301)
    invite = dave.expect("INVITE")
    assert [h.partition(";")[0] for h in invite.all("diversion")] == ["<sip:carol@kedge.test>", "<sip:bob@kedge.test>"]
    assert invite.get("history-info").endswith("<sip:dave@kedge.test>;index=1.1.1;mp=1.1")
    d.answer(dave, invite)
    assert result().status == 200
    d.hang_up(dave)


@pytest.mark.parametrize("to", ("sip:bob@kedge.test", "sip:alice@elsewhere.test", "sip:nobody@kedge.test", "sip:kedge.test",
                                "sip:dave@kedge.test", "mailto:carol@kedge.test", None))
def test_where_kedge_does_not_go(desk, to):
    """Back to itself, to a foreign domain, to nobody, to an account without a phone."""
    d = desk()
    alice, bob = d.phone("alice"), d.phone("bob", 2)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), *([to] if to else []))
    answer = result()
    assert answer.status == 480 and not answer.get("contact")
    d.kedge.no_calls()
    assert "diverts the call to where kedge does not send it" in d.explain()[1]


def test_a_circle_ends(desk):
    d = desk()
    alice, bob, carol = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "sip:carol@kedge.test")
    moved(carol, carol.expect("INVITE"), "sip:bob@kedge.test")
    assert result().status == 480
    assert bob.quiet("INVITE", 0.3)
    d.kedge.no_calls()


def test_five_hops_are_enough(desk):
    d = desk(users=USERS)
    alice = d.phone("alice")
    chain = [d.phone(f"u{i}", 2) for i in range(1, 8)]
    result = d.call(alice, "u1", timeout=20)
    for n, phone in enumerate(chain[:6]):
        moved(phone, phone.expect("INVITE"), f"sip:u{n + 2}@kedge.test")
    assert chain[6].quiet("INVITE", 0.5)
    assert result().status == 480
    d.kedge.no_calls()


@pytest.mark.parametrize("before,status", ((4, 486), (5, 480)))
def test_hops_before_kedge_count(desk, before, status):
    """A circle may lead through a provider and back: Diversion remembers."""
    d = desk()
    alice, bob, carol = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3)
    result = d.call(alice, "bob", headers=["Diversion: <sip:x@elsewhere.test>;reason=unknown;counter=1"] * before)
    moved(bob, bob.expect("INVITE"), "sip:carol@kedge.test")
    if status == 486:
        carol.reply(carol.expect("INVITE"), 486)
    assert result().status == status
    d.kedge.no_calls()


def test_several_contacts_ring_and_one_answers(desk):
    d = desk()
    alice, bob, carol, dave = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3), d.phone("dave", 3)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "<sip:carol@kedge.test>, <sip:dave@kedge.test>;q=1.0", status=300)
    invites = [p.expect("INVITE") for p in (carol, dave)]
    carol.reply(invites[0], 180)
    d.answer(dave, invites[1])
    carol.reply(carol.expect("CANCEL"), 200)
    carol.reply(invites[0], 487)
    assert result().status == 200
    d.hang_up(dave)


def test_the_next_contact_of_a_lower_q_when_the_first_fails(desk):
    d = desk()
    alice, bob, carol, dave = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3), d.phone("dave", 3)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "<sip:carol@kedge.test>;q=0.2, <sip:dave@kedge.test>;q=0.9", status=300)
    invite = dave.expect("INVITE")
    assert carol.quiet("INVITE", 0.3)
    dave.reply(invite, 486)
    d.answer(carol, carol.expect("INVITE"))
    assert result().status == 200
    d.hang_up(carol)


def test_one_phone_diverts_while_another_rings(desk):
    d = desk()
    alice, one, two, carol = d.phone("alice"), d.phone("bob", 2), d.phone("bob", 3), d.phone("carol", 3)
    result = d.call(alice, "bob")
    invites = [p.expect("INVITE") for p in (one, two)]
    one.reply(invites[0], 180)
    moved(two, invites[1], "sip:carol@kedge.test")
    diverted = carol.expect("INVITE")
    carol.reply(diverted, 180)
    assert one.quiet("CANCEL", 0.3)
    d.answer(one, invites[0])
    carol.reply(carol.expect("CANCEL"), 200)
    carol.reply(diverted, 487)
    assert result().status == 200
    d.hang_up(one)
    assert d.explain()[0]["legs"][1]["user"] == "bob"


def test_a_diverted_call_is_cancelled(desk):
    d = desk()
    alice, bob, carol = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "sip:carol@kedge.test")
    invite = carol.expect("INVITE")
    carol.reply(invite, 180)
    assert until(lambda: [m for m in d.provisional if m.status == 180])
    first, sent = d.provisional[-1], Message(alice.sent)
    cancel = "\r\n".join(["CANCEL sip:bob@kedge.test SIP/2.0", "Via: " + sent.get("via"), "Max-Forwards: 70", "From: " + first.get("from"),
                          "To: <sip:bob@kedge.test>", "Call-ID: " + first.get("call-id"), f"CSeq: {first.cseq[0]} CANCEL",
                          "Content-Length: 0", "", ""])
    assert alice.transact(cancel).status == 200
    carol.reply(carol.expect("CANCEL"), 200)
    carol.reply(invite, 487)
    assert result().status == 487
    d.kedge.no_calls()


@pytest.mark.parametrize("redirect,status", (("pass", 302), ("refuse", 480)))
def test_policy(desk, redirect, status):
    d = desk(redirect)
    alice, bob, carol = d.phone("alice"), d.phone("bob", 2), d.phone("carol", 3)
    result = d.call(alice, "bob")
    moved(bob, bob.expect("INVITE"), "sip:carol@kedge.test")
    answer = result()
    assert answer.status == status and carol.quiet("INVITE", 0.2)
    assert answer.get("contact") == ("<sip:carol@kedge.test>" if status == 302 else "")
    d.kedge.no_calls()


# In front of a PBX


class Front:
    def __init__(self, stage, hosts):
        self.kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[4].addr}:5060"]})
        at = (self.kedge.host.addr, 5060)
        self.pbx = stage.agent(hosts[4], "pbx", "", at, port=5060, domain=PBX)
        self.phone = stage.agent(hosts[1], "alice", "", at, domain=PBX)
        answer = background(self.phone.register)
        register = self.pbx.expect("REGISTER")
        self.pbx.reply(register, 200, headers=[f"Contact: <{register.contact()}>;expires=300"])
        assert answer().status == 200
        self.token = register.contact()
        self.stage = stage


@pytest.fixture
def front(stage, hosts):
    return Front(stage, hosts)


def test_a_phones_redirection_passes_to_the_pbx(front):
    call = Dialog(front.pbx, front.stage.rtp(front.pbx.host))
    result = background(call.call, front.token)
    contact = "<sip:carol@pbx.test;x=1>;q=0.5"
    moved(front.phone, front.phone.expect("INVITE"), contact)
    answer = result()
    assert answer.status == 302 and answer.get("contact") == contact
    front.kedge.no_calls()


@pytest.mark.parametrize("host", (PBX, None))
def test_a_pbxs_redirection_to_itself_is_followed(front, host):
    call = Dialog(front.phone, front.stage.rtp(front.phone.host))
    result = background(call.call, "1234")
    first = front.pbx.expect("INVITE")
    to = f"sip:5678@{host or front.pbx.at}"
    moved(front.pbx, first, to)
    again = front.pbx.expect("INVITE")
    assert again.uri == to and again.get("call-id") != first.get("call-id")
    assert again.get("diversion").startswith("<sip:1234@")
    Dialog(front.pbx, front.stage.rtp(front.pbx.host)).answer(again)
    assert result().status == 200
    assert call.rtp.got(ms=200)
    done = background(call.bye)
    front.pbx.reply(front.pbx.expect("BYE"), 200)
    assert done().status == 200
    front.kedge.no_calls()


def test_a_pbxs_redirection_elsewhere_passes(front):
    call = Dialog(front.phone, front.stage.rtp(front.phone.host))
    result = background(call.call, "1234")
    moved(front.pbx, front.pbx.expect("INVITE"), "sip:5678@elsewhere.test")
    answer = result()
    assert answer.status == 302 and answer.contact() == "sip:5678@elsewhere.test"
    front.kedge.no_calls()
