"""Phones behind each kind of NAT call phones behind each kind of NAT, kedge alone with its registrar: 16 pairs.

Each phone plays a tone of its own; each must be found in what the other one recorded.
"""
import pytest

from interop.hosts import until
from interop.phone import Phone

NATS = ("full-cone", "address-restricted", "port-restricted", "symmetric")


@pytest.fixture(scope="module")
def world(lab, long_stage):
    """kedge on the Internet; a caller and a callee, registered, behind a NAT of their own of each kind."""
    server = lab.public_host("kedge")
    names = [f"{side}-{nat}" for side in ("caller", "callee") for nat in NATS]
    kedge = long_stage.kedge(server, accounts={name: "pw-" + name for name in names})
    phones = {}
    for i, name in enumerate(names):
        host = lab.natted_host(name, nat=name.partition("-")[2])
        phones[name] = long_stage.add(Phone(long_stage.folder / name, name, f"{server.addr}:5060", 400 + 100 * i, host,
                                            password="pw-" + name, domain="kedge.test")).start()
    for phone in phones.values():
        phone.registered()
    return kedge, phones


@pytest.mark.parametrize("b", NATS)
@pytest.mark.parametrize("a", NATS)
def test_both_hear_each_other(world, a, b):
    kedge, phones = world
    caller, callee = phones["caller-" + a], phones["callee-" + b]
    callee.forget()
    try:
        caller.call(callee.user)
        assert caller.hears(callee.hz), f"the caller does not hear {callee.hz} Hz in {caller.recording()}"
        assert callee.hears(caller.hz), f"the callee does not hear {caller.hz} Hz in {callee.recording()}"
        [call] = kedge.calls()
    finally:
        mark = callee.mark()
        caller.hangup()
    assert call["path"] == "anchored" and call["reason"], call
    for leg, phone in zip(call["legs"], (caller, callee)):
        medium = leg["media"][0]
        assert medium["packets_in"] > 0 and medium["packets_out"] > 0, call
        assert medium["remote"].rpartition(":")[0] == phone.host.external, "media goes elsewhere than to the phone's NAT"
    callee.wait("CALL_CLOSED", mark)
    kedge.no_calls()


def test_registrations_tell_the_nat(world):
    """Behind a NAT the source differs from Via and Contact: kedge must know it for each of them."""
    kedge, phones = world
    shown = until(lambda: {r["user"]: r for r in kedge.registrations()}, 20)
    assert set(phones) <= set(shown)
    for name, phone in phones.items():
        assert shown[name]["nat"], shown[name]
        assert shown[name]["remote"].rpartition(":")[0] == phone.host.external
