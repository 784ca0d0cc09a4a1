"""linphone with keys: SDES and DTLS-SRTP with baresip that has RTP, SDES or DTLS-SRTP, either of them calls, and after a hold; ZRTP
(RFC 6189) between two linphones; and phones with SDES that ICE leads to each other keep their keys to themselves."""
import os
import signal
import time

import pytest

from interop.ear import Ear
from interop.hosts import until
from interop.icecall import Call
from interop.linphone import Linphone
from interop.phone import Phone
from interop.secure_phones import ENCRYPTION, MODULES, SAID, flows, of_legs, secure
from natlab import stun

LINPHONES = (("sdes", "srtp"), ("dtls", "dtls"), ("zrtp", "zrtp"), ("zrtp2", "zrtp"))  # its name here, what its own configuration says
ICE = ("ice", "ice2")  # a linphone and a baresip


@pytest.fixture(scope="module")
def world(lab, long_stage):
    """kedge; linphones and baresips by name, each program behind a NAT of its own."""
    host, servers = lab.public_host("kedge"), lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(servers)
    where = {"l": lab.natted_host("l", nat="port-restricted"), "b": lab.natted_host("b", nat="symmetric"),
             **{name: lab.natted_host(name, nat="port-restricted") for name in (*ICE, "zrtp2")}}
    names = [name for name, _ in LINPHONES] + ["b-" + kind for kind in ENCRYPTION] + list(ICE)
    kedge = long_stage.kedge(host, accounts={n: "pw-" + n for n in names})
    phones, tones = {}, iter(range(400, 2000, 140))

    def add(kind, name, at, **kw):
        phones[name] = long_stage.add(kind(long_stage.folder / name, name, f"{host.addr}:5060", next(tones), where[at],
                                           password="pw-" + name, domain="kedge.test", **kw)).start()

    for i, (name, encryption) in enumerate(LINPHONES):
        add(Linphone, name, name if name in where else "l", port=5060 + 10 * i, rtp=7078 + 10 * i, encryption=encryption)
    for i, (kind, extra) in enumerate(ENCRYPTION.items()):
        add(Phone, "b-" + kind, "b", control=4440 + i, listen=f"0.0.0.0:{5060 + 10 * i}", account_extra=extra, config_extra=MODULES)
    using = dict(ice=True, stun=f"{servers.ip4}:3478")
    add(Linphone, ICE[0], ICE[0], encryption="srtp", **using)
    add(Phone, ICE[1], ICE[1], account_extra=ENCRYPTION["sdes"], config_extra=MODULES, **using)
    for phone in phones.values():
        phone.registered(15)
    return kedge, phones


def connect(a, b):
    a.forget()
    b.forget()
    a.call(b.user, timeout=15)
    assert a.hears(b.hz) and b.hears(a.hz)


@pytest.mark.parametrize("there", ENCRYPTION)
@pytest.mark.parametrize("calls", (True, False), ids=("calls", "is-called"))
@pytest.mark.parametrize("kind", ("sdes", "dtls"))
def test_with_baresip(world, kind, calls, there):
    kedge, phones = world
    lin, other = phones[kind], phones["b-" + there]
    connect(*((lin, other) if calls else (other, lin)))
    # Behind a NAT and without ICE, who offers DTLS is found only by who it sends to first: kedge.
    said = ["end-to-end"] * 2 if kind == there == "sdes" else [SAID[kind], SAID[there]]
    assert secure(kedge) == (said if calls else said[::-1])
    lin.hangup()
    kedge.no_calls()


def hold_and_resume(lin):
    mark = lin.mark()
    lin.command("pause")
    lin.wait("to LinphoneCallPaused", mark)
    lin.command("resume")
    lin.wait("to LinphoneCallStreamsRunning", mark)
    lin.forget()


@pytest.mark.parametrize("kind,there", (("sdes", "rtp"), ("sdes", "sdes"), ("dtls", "sdes")))
def test_hold_and_resume(world, kind, there):
    kedge, phones = world
    lin, other = phones[kind], phones["b-" + there]
    connect(lin, other)
    before = secure(kedge)
    hold_and_resume(lin)
    assert lin.hears(other.hz), f"linphone does not hear {other.user} after the hold"
    flows(kedge, other)
    assert secure(kedge) == before
    lin.hangup()
    kedge.no_calls()


def test_zrtp(world):
    """Keys that SDP does not carry: kedge passes ZRTP and what follows, also when signalling has died and the call was on hold."""
    kedge, phones = world
    a, b = phones["zrtp"], phones["zrtp2"]
    connect(a, b)
    assert secure(kedge) == ["zrtp"] * 2
    ear, since = Ear(b.host), time.monotonic()
    assert until(lambda: len(ear.rtp(since)) > 25) and not ear.hears(a.hz, timeout=0), "what arrives is in the clear"
    ear.close()
    pid = kedge.role("signalling")
    kedge.stored()
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (None, pid))
    kedge.ready()
    assert until(kedge.calls)
    hold_and_resume(a)
    b.forget()
    assert a.hears(b.hz) and b.hears(a.hz)
    assert secure(kedge) == ["zrtp"] * 2
    a.hangup()
    kedge.no_calls()


@pytest.mark.parametrize("linphone_calls", (True, False), ids=("calls", "is-called"))
def test_steered(world, linphone_calls):
    kedge, phones = world
    a, b = [phones[n] for n in ICE][::1 if linphone_calls else -1]
    ear = Ear(kedge.host)
    call = Call(kedge, a, b).make(ear)
    ear.close()
    assert call.heard == [True, True], call.row()
    assert call.path == "direct" and call.ways == ["direct"] * 2, call.row()
    assert of_legs(call.shown) == ["end-to-end"] * 2
