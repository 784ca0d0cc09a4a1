"""Registration hijack: each attempt is refused and leaves the bindings as they were. With kedge alone and in front of
Kamailio, where the passwords are Kamailio's."""
import threading

import pytest

from interop.agent import Agent, Dialog
from interop.pbx import Kamailio

WORDS = {"alice": "pw-alice", "bob": "pw-bob"}


@pytest.fixture(scope="module", params=(True, False), ids=("alone", "kamailio"))
def world(request, lab, long_stage):
    name = "alone" if request.param else "kamailio"
    if request.param:
        kedge = long_stage.kedge(lab.public_host("kedge-" + name), name=name, accounts=WORDS)
        kedge.domain = "kedge.test"
    else:
        pbx = lab.public_host("pbx")
        long_stage.add(Kamailio(long_stage.folder / "pbx", WORDS, pbx)).start()
        kedge = long_stage.kedge(lab.public_host("kedge-" + name), name=name, config={"pbx": [f"udp:{pbx.addr}:5060"]})
        kedge.domain = "pbx.test"
    home = lab.natted_host("home-" + name, nat="port-restricted")
    kedge.hosts = {"home": home, "out": lab.public_host("out-" + name), "victim": lab.public_host("victim-" + name)}
    return kedge


@pytest.fixture
def alice(stage, world):
    """At home, registered."""
    made = agent(stage, world, "alice", "home")
    assert made.register().status == 200
    yield made
    assert made.register(expires=0).status == 200


def agent(stage, kedge, user, where, password=None):
    return stage.agent(kedge.hosts[where], user, password or WORDS[user], (kedge.host.addr, 5060), kedge.domain)


def state(kedge):
    """What nobody else may change. The time left goes down by itself."""
    return sorted((r["user"], r["contact"], r["remote"]) for r in kedge.registrations())


def unchanged(kedge, before):
    return state(kedge) == before


def aor(kedge, user):
    return f"<sip:{user}@{kedge.domain}>"


def test_as_a_for_b(stage, world, alice):
    before = state(world)
    bob = agent(stage, world, "bob", "out")
    for headers in ([f"Contact: {bob.contact}", "Expires: 300"], ["Contact: *", "Expires: 0"],
                    [f"Contact: {alice.contact}", "Expires: 0"]):
        answer = bob.request("REGISTER", f"sip:{world.domain}", headers, to=aor(world, "alice"))
        assert answer.status in (401, 403), (headers, answer)
        assert unchanged(world, before), headers


def test_neighbour_behind_the_same_nat(stage, world, alice):
    """OpenSIPS #3193: the same address, the same Contact, the same Call-ID even: without the password it is nobody."""
    before = state(world)
    seen = alice.sent
    call_id = next(line.split(": ")[1] for line in seen.split("\r\n") if line.startswith("Call-ID"))
    neighbour = agent(stage, world, "alice", "home", "guess")
    for expires in (300, 0):
        answer = neighbour.request("REGISTER", f"sip:{world.domain}", [f"Contact: {alice.contact}", f"Expires: {expires}"],
                                   to=aor(world, "alice"), call_id=call_id, cseq=900 + expires, auth=False)
        assert answer.status == 401, answer
        assert unchanged(world, before)
    answer = neighbour.register(contact=alice.contact)
    assert answer.status in (401, 403), answer
    assert unchanged(world, before)


def test_star_with_an_expires(stage, world, alice):
    """RFC 3261 10.3 step 6: only with 0, and alone."""
    before = state(world)
    for headers in (["Contact: *", "Expires: 300"], ["Contact: *"], ["Contact: *", f"Contact: {alice.contact}", "Expires: 0"]):
        answer = alice.request("REGISTER", f"sip:{world.domain}", headers, to=aor(world, "alice"))
        assert answer.status == 400, (headers, answer)
        assert unchanged(world, before), headers


def test_captured_credentials(stage, world, alice):
    """What somebody on the path has seen, sent again from elsewhere."""
    before = state(world)
    thief = agent(stage, world, "alice", "out", "?")
    captured = alice.sent.replace(alice.contact, thief.contact)
    via = next(line for line in captured.split("\r\n") if line.startswith("Via:"))
    answer = thief.transact(captured.replace(via, f"Via: SIP/2.0/UDP {thief.at};rport;branch=z9hG4bKthief"))
    if world.domain == "kedge.test":  # Kamailio of the tests takes a nonce count twice: that is between phone and PBX
        assert answer.status == 401, answer
        assert unchanged(world, before)
    else:
        assert [r for r in state(world) if r in before] == before, "the phone's own contact stays"
        thief.password = WORDS["alice"]
        assert thief.register(expires=0).status == 200


def test_contact_of_somebody_else(stage, world, alice):
    """A Contact is only what the phone calls itself: calls go down the flow, and nothing goes to the address that it names."""
    victim = Agent(world.hosts["victim"], "victim", server=(world.host.addr, 5060), port=5060)
    stage.add(victim)
    caller = agent(stage, world, "bob", "out")
    assert caller.register().status == 200
    assert alice.register(expires=0).status == 200
    assert alice.register(contact=f"<sip:{victim.user}@{victim.at}>").status == 200
    call, result = Dialog(caller), []
    thread = threading.Thread(target=lambda: result.append(call.call("alice", body="")))
    thread.start()
    alice.reply(alice.expect("INVITE"), 486)
    alice.expect("ACK")
    thread.join()
    assert result[0].status == 486
    assert victim.log == [], victim.log
    assert alice.register(expires=0, contact=f"<sip:{victim.user}@{victim.at}>").status == 200


@pytest.mark.parametrize("what, headers, status", (
    ("five contacts", [f"Contact: <sip:alice@192.0.2.{i}>" for i in range(5)], (400,)),
    ("no SIP URI", ["Contact: <tel:+4930123456>"], (400,)),
    ("long", ["Contact: <sip:alice@192.0.2.1;x=" + "y" * 600 + ">"], (400,)),
    ("too short a time", ["Contact: <sip:alice@192.0.2.1>", "Expires: 5"], (423,)),
    ("a control character", ["Contact: <sip:ali%0d%0ace@192.0.2.1>"], (200, 400)),
    ("odd numbers", ["Contact: <sip:alice@192.0.2.1>;q=7;expires=99999999999999999999"], (200,)),
    ("negative", ["Contact: <sip:alice@192.0.2.1>;q=-1;expires=-5"], (200, 400)),
    ("an instance without end", ['Contact: <sip:alice@192.0.2.1>;+sip.instance="<urn:uuid:1'], (200, 400)),
    ("many options", ["Contact: <sip:alice@192.0.2.1>", "Supported: " + ", ".join(f"o{i}" for i in range(300))], (200,)),
    ("an unknown option", ["Contact: <sip:alice@192.0.2.1>", "Require: telepathy"], (420,)),
    ("a body", ["Contact: <sip:alice@192.0.2.1>", "Content-Type: application/pidf+xml"], (200,)),
), ids=lambda value: value if isinstance(value, str) else "")
def test_odd_registers_of_the_right_user(stage, world, alice, what, headers, status):
    """Refused as a whole, or understood as far as they make sense; never a contact too many, never a line forged."""
    before = state(world)
    answer = alice.request("REGISTER", f"sip:{world.domain}", headers, "<xml/>" if what == "a body" else "",
                           to=aor(world, "alice"))
    assert answer.status in status, (what, answer)
    if answer.status == 200:
        assert all(r in state(world) for r in before) and len(state(world)) <= len(before) + 1
        contact = headers[0].partition(": ")[2].partition(";q")[0].partition(";+")[0]
        alice.request("REGISTER", f"sip:{world.domain}", [f"Contact: {contact}", "Expires: 0"], to=aor(world, "alice"))
    else:
        assert unchanged(world, before)
    world.alive()
    assert not any(line.startswith("ce@") for line in world.log().split("\n"))
