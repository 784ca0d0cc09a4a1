"""Transfer between three phones, with kedge's own registrar and before Kamailio: who is left hears the other one."""
import itertools
import time

import pytest

from interop.agent import Dialog
from interop.hosts import background
from interop.linphone import Linphone
from interop.pbx import Kamailio
from interop.phone import Phone

NATS = ("full-cone", "symmetric", "port-restricted")
TONES = (400, 700, 1000)
numbers = itertools.count()


@pytest.fixture(scope="module", params=("embedded", "kamailio"))
def world(request, lab, tmp_path_factory):
    """kedge with six accounts."""
    from interop.conftest import Stage
    stage = Stage(tmp_path_factory.mktemp("stage"))
    passwords = {f"{kind}{i}": f"pw-{kind}{i}" for kind in "bl" for i in range(3)}
    server = lab.public_host("kedge-" + request.param)
    if request.param == "kamailio":
        host = lab.public_host("pbx")
        stage.add(Kamailio(stage.folder / "pbx", passwords, host, domain="kedge.test")).start()
        kedge = stage.kedge(server, config={"pbx": [f"udp:{host.addr}:5060"]})
    else:
        kedge = stage.kedge(server, accounts=passwords)
    kedge.mode = request.param
    kedge.legs = 2 if request.param == "kamailio" else 1  # a call through the PBX is two of kedge's
    yield kedge
    stage.close()


def make(stage, lab, kedge, kind):
    phones = []
    for i, (nat, hz) in enumerate(zip(NATS, TONES)):
        user = f"{kind[0].__name__[0].lower()}{i}".replace("p", "b")
        host = lab.natted_host(f"{user}-{next(numbers)}", nat=nat)
        phones.append(stage.add(kind[0](stage.folder / user, user, f"{kedge.host.addr}:5060", hz, host,
                                        password="pw-" + user, domain="kedge.test", **kind[1])).start())
    return [phone.registered() for phone in phones]


def test_blind_transfer_by_baresip(lab, stage, world):
    """The first phone calls the second and sends it on to the third."""
    a, b, c = make(stage, lab, world, (Phone, {}))
    a.call(b.user)
    assert a.hears(b.hz) and b.hears(a.hz)
    mark, told = c.mark(), a.mark()
    a.command("transfer", f"sip:{c.user}@kedge.test")
    c.wait("CALL_ESTABLISHED", mark)
    assert c.hears(b.hz), f"{c.user} does not hear {b.hz} Hz in {c.recording()}"
    assert b.hears(c.hz, since_ms=b.position()), f"{b.user} does not hear {c.hz} Hz in {b.recording()}"
    a.wait("CALL_CLOSED", told)
    c.hangup()
    world.no_calls()


def test_blind_transfer_by_the_callee(lab, stage, world):
    """The callee sends the caller on: the other direction of REFER."""
    a, b, c = make(stage, lab, world, (Phone, {}))
    a.call(b.user)
    mark = c.mark()
    b.command("transfer", f"sip:{c.user}@kedge.test")
    c.wait("CALL_ESTABLISHED", mark)
    assert c.hears(a.hz) and a.hears(c.hz, since_ms=a.position())
    c.hangup()
    world.no_calls()


def test_attended_transfer_by_linphone(lab, stage, world):
    """The first phone talks to the second, then to the third, and joins them."""
    a, b, c = make(stage, lab, world, (Linphone, {}))
    a.call(b.user)
    assert b.hears(a.hz)
    a.command("pause 1")
    a.wait("LinphoneCallPaused", 0)
    a.call(c.user)
    assert c.hears(a.hz)
    mark_b, mark_c = b.mark(), c.mark()
    a.command("transfer 1 --to-call 2")
    b.wait("LinphoneCallStreamsRunning", mark_b, 15)
    c.wait("LinphoneCallStreamsRunning", mark_c, 15)
    b.forget()
    c.forget()
    assert c.hears(b.hz), f"{c.user} does not hear {b.hz} Hz in {c.recording()}"
    assert b.hears(c.hz), f"{b.user} does not hear {c.hz} Hz in {b.recording()}"
    b.hangup()
    world.no_calls(15)


def test_a_caller_from_a_trunk(lab, stage):
    """Nobody asks a carrier to transfer: kedge does it for the phone at the desk (blind, baresip)."""
    server = lab.public_host("kedge-desk")
    carrier = stage.agent(lab.public_host("carrier"), "carrier", server=(server.addr, 5060), domain="carrier.test", port=5060)
    kedge = stage.kedge(server, accounts={f"b{i}": f"pw-b{i}" for i in range(3)},
                        config={"trunks": [{"name": "carrier", "server": f"udp:{carrier.ip}:5060", "register": False, "probe": 0,
                                            "domain": "carrier.test"}]})
    desk, colleague, _ = make(stage, lab, kedge, (Phone, {}))
    outside = Dialog(carrier, stage.rtp(carrier.host, hz=1000))
    assert outside.call(desk.user).status == 200
    assert desk.hears(1000) and outside.rtp.got(ms=400)
    mark, told = colleague.mark(), desk.mark()
    desk.command("transfer", f"sip:{colleague.user}@kedge.test")
    outside.answer(carrier.expect("INVITE"))
    colleague.wait("CALL_ESTABLISHED", mark)
    assert colleague.hears(1000), f"{colleague.user} does not hear the caller in {colleague.recording()}"
    assert outside.rtp.got(time.monotonic(), 400)
    desk.wait("CALL_CLOSED", told)
    closed = background(outside.bye)
    colleague.wait("CALL_CLOSED", mark)
    assert closed().status == 200
    kedge.no_calls()
