"""Caps in front of a PBX that believes passwords and looks at no From: whoever calls by whatever name pays for it himself."""
import functools

import pytest

from interop.agent import Dialog, digest, sdp, token
from interop.hosts import background
from interop.pbx import Kamailio

WORDS = {"u1": "w-u1", "u2": "w-u2", "u3": "w-u3"}
DENIED = "sip:0900123@pbx.test"


@pytest.fixture(scope="module")
def hosts(lab):
    return {n: lab.public_host(n) for n in ("kedge", "pbx", "thief", *WORDS)}


@pytest.fixture
def front(hosts, stage):
    host = hosts["pbx"]
    stage.add(Kamailio(stage.folder / "pbx", WORDS, host)).start()
    caps = [{"user": "u1", "calls": 1, "rate": 60, "deny": ["0900"]}]  # nobody else has any
    kedge = stage.kedge(hosts["kedge"], config={"pbx": [f"udp:{host.addr}:5060"], "caps": caps})

    def phone(user, name="", register=True, **kw):
        made = stage.agent(hosts[name or user], user, WORDS[user], (kedge.host.addr, 5060), "pbx.test", **kw)
        assert not register or made.register().status == 200
        return made
    phone.kedge = kedge
    return phone


def invites(agent, uri=DENIED, **kw):
    return agent.request("INVITE", uri, body=sdp(agent.ip, 4000), **kw).status


def credentials(agent, uri, user, nonce="made-up"):
    challenge = f'Digest realm="pbx.test", nonce="{nonce}", qop="auth"'
    return "Proxy-Authorization: " + digest(challenge, user, "wrong", "INVITE", uri)


@pytest.mark.parametrize("name", ("u2", "anonymous"))
def test_another_name_in_from(front, name):
    u1 = front("u1")
    assert invites(u1, from_user=name) == 403
    assert "u1 cannot call 0900123: 403" in front.kedge.log()
    assert invites(u1, "sip:nobody@pbx.test", from_user=name) == 404


@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_a_password_from_where_no_phone_is_registered(front, transport):
    """A stolen one. The first INVITE is challenged by the PBX, the second says who pays."""
    thief = front("u1", "thief", register=False, transport=transport)
    assert invites(thief, auth=False) == 407
    assert invites(thief) == 403 and invites(thief, from_user="u2") == 403
    assert "u1 cannot call 0900123: 403" in front.kedge.log()
    assert invites(thief, "sip:nobody@pbx.test") == 404


def test_calls_at_once_from_several_places(front, stage):
    u1, thief, u2 = front("u1"), front("u1", "thief", register=False), front("u2")
    one, other = Dialog(u1, stage.rtp(u1.host)), Dialog(u2, stage.rtp(u2.host))
    answer = background(one.call, "u2")
    other.answer(u2.expect("INVITE"))
    assert answer().status == 200
    assert invites(thief, "sip:nobody@pbx.test") == 503
    assert invites(u1, "sip:nobody@pbx.test", from_user="u3") == 503
    over = background(one.bye)
    u2.reply(u2.expect("BYE"), 200)
    assert over().status == 200
    front.kedge.no_calls()
    assert invites(thief, "sip:nobody@pbx.test") == 404


def test_a_stranger_uses_up_nobodys_calls(front):
    """What he claims counts until the PBX has refused it."""
    u1, stranger = front("u1"), front("u3", "thief", register=False)
    uri = "sip:nobody@pbx.test"
    for _ in range(4):
        assert invites(stranger, uri, headers=[credentials(stranger, uri, "u1")], auth=False) in (403, 407)
    for _ in range(58):  # u1 has 60 a minute: all are still there
        assert invites(u1, uri) == 404


def test_what_the_pbx_refuses_costs_the_claimed_user_nothing(hosts, stage):
    """By 403, as some PBXes answer a wrong password. Who is let through pays."""
    pbx = stage.agent(hosts["pbx"], "pbx", domain="pbx.test", port=5060)
    kedge = stage.kedge(hosts["kedge"], config={"pbx": [f"udp:{pbx.at}"], "pbx_probe": 0, "caps": [{"user": "u1", "rate": 2}]})
    thief = stage.agent(hosts["thief"], "u3", "", (kedge.host.addr, 5060), "pbx.test")
    uri = "sip:nobody@pbx.test"
    for status in (403, 403, 403, 404, 404):
        answer = background(invites, thief, uri, headers=[credentials(thief, uri, "u1")])
        pbx.reply(pbx.expect("INVITE"), status)
        assert answer() == status
    assert invites(thief, uri, headers=[credentials(thief, uri, "u1")]) == 503
    kedge.no_calls()


@pytest.mark.parametrize("second", ("u2", "x" * 130), ids=("another", "long"))
def test_credentials_of_two_users(front, second):
    """Nobody here knows which of them the PBX would believe."""
    thief = front("u1", "thief", register=False)
    uri = "sip:nobody@pbx.test"
    both = [credentials(thief, uri, "u1"), credentials(thief, uri, second)]
    assert invites(thief, uri, headers=both, auth=False) == 403
    assert invites(thief, uri, headers=both[::-1], auth=False) == 403


def test_refer_under_another_name(front, stage):
    u1, u2 = front("u1"), front("u2")
    one, other = Dialog(u1, stage.rtp(u1.host)), Dialog(u2, stage.rtp(u2.host))
    u1.build = functools.partial(u1.build, from_user="u3")
    answer = background(one.call, "u2")
    other.answer(u2.expect("INVITE"))
    assert answer().status == 200
    assert one.request("REFER", [f"Refer-To: <{DENIED}>", "Contact: " + u1.contact]).status == 403
    assert u2.quiet("REFER", 0.2)
    over = background(one.bye)
    u2.reply(u2.expect("BYE"), 200)
    assert over().status == 200


def test_refer_outside_of_a_call(front):
    """Click to dial by the PBX, in the name of who asks for it."""
    u1 = front("u1")

    def refer(to):
        return u1.request("REFER", "sip:pbx.test", [f"Refer-To: <{to}>", "Contact: " + u1.contact], auth=False, from_user="u2").status
    assert refer(DENIED) == refer("tel:0900-123") == refer("sip:%30900123@pbx.test") == refer("sip:1%000900@pbx.test") == 403
    assert refer("sip:0911@pbx.test") == 407, "the PBX asks who it is"


@pytest.mark.parametrize("contact,status", ((DENIED, 480), ("tel:0900-123", 480), ("sip:0911@pbx.test>, <" + DENIED, 480),
                                            ("sip:0911@pbx.test", 404)))
def test_a_phone_that_diverts(front, contact, status):
    """The PBX would call there in its name. What passes kedge follows for the caller: the PBX diverts to itself."""
    u1, u2 = front("u1"), front("u2")
    answer = background(invites, u2, "sip:u1@pbx.test", call_id=token())
    u1.reply(u1.expect("INVITE"), 302, headers=[f"Contact: <{contact}>"])
    assert answer() == status
    assert ("may not call (caps)" in front.kedge.log()) == (status == 480)
    front.kedge.no_calls()
