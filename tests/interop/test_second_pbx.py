"""ejabberd's mod_sip is the PBX: another server than Kamailio, made otherwise. It registers phones with digest, rings all
contacts of a user at once and stays in the dialog as a proxy."""
import threading

import pytest

from interop.agent import Dialog, talk
from interop.ejabberd import Ejabberd
from interop.hosts import until
from interop.phone import Phone

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "agent", "other")


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server, pbx_host = lab.public_host("kedge"), lab.public_host("pbx")
    passwords = {name: "pw-" + name for name in NAMES}
    pbx = long_stage.add(Ejabberd(long_stage.folder / "pbx", passwords, pbx_host)).start()
    kedge = long_stage.kedge(server, config={"pbx": [f"udp:{pbx_host.addr}:5060"]})
    return kedge, pbx


def agent(stage, kedge, host, user, transport="udp", password=None):
    made = stage.agent(host, user, password or "pw-" + user, (kedge.host.addr, 5060), "pbx.test", transport=transport)
    return made


def hang_up(a, b):
    assert a.bye(auth=True).status == 200
    b.agent.reply(b.agent.expect("BYE"), 200)


@pytest.mark.parametrize("users,nats", ((("alice", "bob"), ("symmetric", "port-restricted")),
                                        (("carol", "dave"), ("full-cone", "symmetric"))))
def test_phones_behind_nats_hear_each_other(lab, stage, world, users, nats):
    kedge, _ = world
    phones = [stage.add(Phone(stage.folder / user, user, f"{kedge.host.addr}:5060", hz, lab.natted_host(user, nat=nat),
                              password="pw-" + user, domain="pbx.test")).start()
              for user, nat, hz in zip(users, nats, (400, 700))]
    for phone in phones:
        phone.registered(15)
    a, b = phones
    a.call(b.user)
    assert a.hears(b.hz) and b.hears(a.hz)
    mark = a.mark()
    b.hangup()
    a.wait("CALL_CLOSED", mark)
    kedge.no_calls()


@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_call_hold_and_resume(lab, stage, world, transport):
    kedge, _ = world
    a, b = (agent(stage, kedge, lab.public_host(f"{user}-{transport}"), user, transport) for user in ("agent", "other"))
    assert a.register().status == 200 and b.register().status == 200
    ends = talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700))
    for direction in ("sendonly", "sendrecv"):
        result = []
        asking = threading.Thread(target=lambda d=direction: result.append(ends[0].reinvite(body=ends[0].body(direction=d), auth=True)))
        asking.start()
        request = b.expect("INVITE")
        assert f"a={direction}" in request.body
        b.reply(request, 200, ends[1].body())
        b.expect("ACK")
        asking.join()
        assert result[0].status == 200
    assert ends[0].rtp.got(ms=300) and ends[1].rtp.got(ms=300)
    hang_up(*ends)
    kedge.no_calls()
    for x in (a, b):
        assert x.register(expires=0).status == 200


def test_pbx_rings_two_phones_and_one_answers(lab, stage, world):
    """The other one declines: ejabberd 23.01 does not cancel it."""
    kedge, _ = world
    caller = agent(stage, kedge, lab.public_host("fork-caller"), "agent")
    first, second = (agent(stage, kedge, lab.public_host(f"fork-{n}"), "erin") for n in (1, 2))
    for x in (caller, first, second):
        assert x.register().status == 200
    a, b = Dialog(caller, stage.rtp(caller.host)), Dialog(second, stage.rtp(second.host, hz=700))
    result = []
    calling = threading.Thread(target=lambda: result.append(a.call("erin")))
    calling.start()
    lost = first.expect("INVITE")
    first.reply(lost, 486)
    request = second.expect("INVITE")
    second.reply(request, 180)
    b.answer(request)
    calling.join()
    assert result[0].status == 200
    assert a.rtp.got(ms=300) and b.rtp.got(ms=300), "no audio with the one who answered"
    hang_up(a, b)
    kedge.no_calls()


def test_busy_and_unknown(lab, stage, world):
    kedge, _ = world
    a, b = (agent(stage, kedge, lab.public_host(f"busy-{user}"), user) for user in ("agent", "frank"))
    assert a.register().status == 200 and b.register().status == 200
    result = []
    calling = threading.Thread(target=lambda: result.append(Dialog(a, stage.rtp(a.host)).call("frank")))
    calling.start()
    b.reply(b.expect("INVITE"), 486)
    calling.join()
    assert result[0].status == 486
    assert Dialog(a, stage.rtp(a.host)).call("nobody").status in (404, 480)
    kedge.no_calls()


def test_wrong_password(lab, stage, world):
    kedge, _ = world
    host = lab.public_host("guesser")
    answer = agent(stage, kedge, host, "alice", password="wrong").register()
    assert answer.status in (401, 403), answer
    assert not [r for r in kedge.registrations() if r["remote"].rpartition(":")[0] == host.addr]


def test_pbx_that_is_started_again_forgets_and_learns(lab, stage, world):
    kedge, pbx = world
    a, b = (agent(stage, kedge, lab.public_host(f"again-{user}"), user) for user in ("agent", "other"))
    assert a.register().status == 200 and b.register().status == 200
    pbx.stop()
    pbx.start()
    assert until(lambda: all(getattr(x.register(), "status", None) == 200 for x in (a, b)), 60, 1)
    hang_up(*talk(a, b, stage.rtp(a.host), stage.rtp(b.host, hz=700)))
    kedge.no_calls()
