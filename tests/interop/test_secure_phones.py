"""Phones that secure their media in different ways understand each other: baresip in all nine pairs of RTP, SDES and DTLS-SRTP, each
hearing the other's tone, hold, and what survives the death of one of kedge's processes."""
import os
import signal

import pytest

from interop.hosts import until
from interop.phone import Phone
from interop.secure_phones import ENCRYPTION, MODULES, SAID, end, flows, secure, talk

@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host("kedge"), lab.natted_host("a", nat="port-restricted"), lab.natted_host("b", nat="symmetric")]


@pytest.fixture(scope="module")
def world(hosts, long_stage):
    """kedge, and phones of every kind on both sides: phones[side][kind]."""
    names = [kind + side for side in "12" for kind in ENCRYPTION]
    kedge = long_stage.kedge(hosts[0], accounts={n: "pw-" + n for n in names})
    phones = {"1": {}, "2": {}}
    for i, name in enumerate(names):
        kind, side = name[:-1], name[-1]
        phone = Phone(long_stage.folder / name, name, f"{hosts[0].addr}:5060", 300 + 100 * i, hosts[int(side)], password="pw-" + name,
                      domain="kedge.test", control=4440 + i, listen=f"0.0.0.0:{5060 + 10 * i}", account_extra=ENCRYPTION[kind],
                      config_extra=MODULES)
        phones[side][kind] = long_stage.add(phone).start()
    for side in phones.values():
        for phone in side.values():
            phone.registered(15)
    return kedge, phones


def call(world, here, there):
    kedge, phones = world
    a, b = phones["1"][here], phones["2"][there]
    b.forget()
    a.call(b.user, timeout=15)
    talk(a, b)
    return kedge, a, b


@pytest.mark.parametrize("there", ENCRYPTION)
@pytest.mark.parametrize("here", ENCRYPTION)
def test_pair(world, here, there):
    kedge, a, b = call(world, here, there)
    # Behind a NAT and without ICE, who offers DTLS is found only by who it sends to first: kedge.
    end_to_end = here == there == "sdes"
    assert secure(kedge) == (["end-to-end"] * 2 if end_to_end else [SAID[here], SAID[there]])
    end(kedge, a, b)


def kill(kedge, role):
    pid = kedge.role(role)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: kedge.role(role) not in (None, pid))
    kedge.ready()


def hold_and_resume(kedge, a, b):
    for holder in (a, b):
        holder.hold()
        holder.resume()
        flows(kedge, a, b)


@pytest.mark.parametrize("here,there", (("sdes", "rtp"), ("rtp", "dtls"), ("dtls", "sdes"), ("sdes", "sdes")))
def test_hold_and_resume(world, here, there):
    """The same keys before and after: an index that began anew would be dropped as a replay."""
    kedge, a, b = call(world, here, there)
    hold_and_resume(kedge, a, b)
    end(kedge, a, b)


@pytest.mark.parametrize("here,there", (("sdes", "rtp"), ("rtp", "dtls"), ("sdes", "sdes")))
def test_a_killed_signalling_process_keeps_the_keys(world, here, there):
    kedge, a, b = call(world, here, there)
    before = [leg["secure"] for leg in kedge.calls()[0]["legs"]]
    kill(kedge, "signalling")
    assert until(kedge.calls)
    flows(kedge, a, b)
    hold_and_resume(kedge, a, b)
    assert until(lambda: [leg["secure"] for leg in kedge.calls()[0]["legs"]] == before), (before, kedge.calls())
    assert "was offered new keys" not in kedge.ctl("explain", kedge.calls()[0]["id"])
    end(kedge, a, b)
