"""kedge's ICE agent against libnice's, without SIP: roles, lite, restart, trickle, two components, NATs, consent."""
import time

import pytest

from interop.hosts import until
from interop.peers import Peer, connected, exchange, passes
from natlab import stun

PROGRAMS = ("ice_peer", "nice_peer")


@pytest.fixture(scope="module")
def hosts(lab):
    return lab.public_host("left"), lab.public_host("right")


@pytest.fixture(scope="module")
def server(lab):
    """A STUN server."""
    host = lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(host)
    return host.ip4


def pair(stage, hosts, ours=None, nice=None):
    """kedge's agent on the first host, libnice on the second."""
    return (stage.add(Peer("ice_peer", hosts[0], **{"controlling": 0, **(ours or {})})),
            stage.add(Peer("nice_peer", hosts[1], **{"controlling": 1, **(nice or {})})))


@pytest.mark.parametrize("controlling", PROGRAMS)
@pytest.mark.parametrize("components", (1, 2))
def test_full_and_full(stage, hosts, controlling, components):
    ours, nice = pair(stage, hosts, {"controlling": int(controlling == "ice_peer"), "components": components},
                      {"controlling": int(controlling == "nice_peer"), "components": components})
    exchange(ours, nice)
    assert connected(ours, nice)
    ours.wait("state completed")
    for c in ours.components:
        nice.wait(f"state {c} ready")
        assert ours.selected(c) == nice.selected(c)[::-1]


def test_we_are_lite(stage, hosts):
    ours, nice = pair(stage, hosts, {"lite": 1})
    exchange(ours, nice)
    assert connected(ours, nice)
    ours.wait("state completed")


def test_the_peer_is_lite(stage, hosts):
    ours, nice = pair(stage, hosts, {"controlling": 1}, {"controlling": 0, "lite": 1})
    exchange(ours, nice)
    assert connected(ours, nice)
    ours.wait("state completed")


@pytest.mark.parametrize("controlling", (0, 1))
def test_role_conflict(stage, hosts, controlling):
    """Both believe the same: one of them must change, else nobody nominates or both do."""
    ours, nice = pair(stage, hosts, {"controlling": controlling}, {"controlling": controlling})
    exchange(ours, nice)
    assert connected(ours, nice)
    ours.wait("state completed")
    nice.wait("state 1 ready")
    assert ours.selected() == nice.selected()[::-1]


@pytest.mark.parametrize("first", PROGRAMS)
def test_restart(stage, hosts, first):
    """New credentials on both sides while the old pair carries on; then checks with the new ones."""
    ours, nice = pair(stage, hosts)
    exchange(ours, nice)
    assert connected(ours, nice)
    ours.wait("state completed")
    a, b = (ours, nice) if first == "ice_peer" else (nice, ours)
    old, since = ours.said("local ")[-1], ours.mark()
    of_a = a.restart()
    of_b = b.restart()
    b.learn(of_a)
    assert passes(nice, ours), "the old pair was dropped before there is a new one"
    a.learn(of_b)
    assert ours.said("local ")[-1] != old
    ours.wait("state completed", since)
    assert connected(ours, nice)


def test_trickle(stage, hosts):
    """Credentials first; candidates come later, one by one, ours before theirs."""
    ours, nice = pair(stage, hosts, {"controlling": 1}, {"controlling": 0, "trickle": 1})
    (my_credentials, mine), (its_credentials, its) = ours.description(), nice.description()
    ours.learn((its_credentials, []), end=False)
    nice.learn((my_credentials, []), end=False)
    assert not ours.said("selected ")
    for candidate in mine:
        nice.tell("candidate " + candidate)
    for candidate in its:
        ours.tell("candidate " + candidate)
    ours.tell("end")
    nice.tell("end")
    assert connected(ours, nice)
    ours.wait("state completed")


def test_peer_reflexive_only(stage, hosts):
    """The peer tells no candidate at all: it is known by its checks alone."""
    ours, nice = pair(stage, hosts, {"controlling": 0})
    of_ours, (credentials, _) = ours.description(), nice.description()
    ours.learn((credentials, []), end=False)
    nice.learn(of_ours)
    assert connected(ours, nice)
    assert ours.selected()[1].startswith(hosts[1].addr + ":")


# Behind both: what RFC 4787 lets pass without a relay.
DIRECT = [("full-cone", "symmetric"), ("symmetric", "full-cone"), ("port-restricted", "port-restricted"),
          ("address-restricted", "symmetric"), ("symmetric", "address-restricted"), ("full-cone", "port-restricted")]


@pytest.mark.parametrize("mine,its", DIRECT)
def test_through_nats(lab, stage, server, mine, its):
    hosts = (lab.natted_host(f"n{mine[:2]}{its[:2]}-a", nat=mine), lab.natted_host(f"n{mine[:2]}{its[:2]}-b", nat=its))
    ours, nice = pair(stage, hosts, {"stun": server + ":3478", "controlling": 1}, {"stun": server, "controlling": 0})
    exchange(ours, nice)
    assert connected(ours, nice)
    ours.wait("state completed")
    assert ours.selected()[1].startswith(hosts[1].external + ":")


def test_two_symmetric_nats_fail_in_words(lab, stage, server):
    """No pair can work: our agent claims none, and says so when its last transaction has run out (79 RTO)."""
    hosts = (lab.natted_host("sym-a", nat="symmetric"), lab.natted_host("sym-b", nat="symmetric"))
    ours, nice = pair(stage, hosts, {"stun": server + ":3478", "controlling": 1, "patience_ms": 4000, "rto_ms": 50},
                      {"stun": server, "controlling": 0})
    exchange(ours, nice)
    ours.wait("state failed", timeout=15)
    assert not ours.said("selected ")


def test_consent_is_given_and_withdrawn(stage, hosts):
    """libnice answers our consent checks; when it is stopped, our agent stops sending within the expiry."""
    ours, nice = pair(stage, hosts, {"consent_ms": 500, "consent_expiry_ms": 5000})
    exchange(ours, nice)
    assert connected(ours, nice)
    time.sleep(5.5)  # longer than the expiry: without consent checks that are answered it would be over
    assert not ours.said("lost") and passes(ours, nice)
    since, at = ours.mark(), time.monotonic()
    nice.stop()
    ours.wait("lost 1", since)
    assert 3 < ours.at("lost 1", since) - at < 10  # 5 s, of which some are over; or a machine that stood still for some
    since = ours.mark()
    ours.tell("send 1 too-late")
    ours.wait("unsent 1", since)


def test_the_peers_consent(stage, hosts):
    """libnice asks too (RFC 7675) and stays connected to us for longer than one round of its checks."""
    ours, nice = pair(stage, hosts, nice={"consent": 1})
    exchange(ours, nice)
    assert connected(ours, nice)
    assert not until(lambda: nice.said("state 1 failed"), 6.5)
    assert connected(ours, nice)
