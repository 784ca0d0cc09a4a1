"""Crowds: 10,000 phones after a restart, and phones that all start at once in front of a PBX. Counts and ratios, no times."""
import hashlib
import os
import resource
import sqlite3

import pytest

from interop.crowd import Crowd, QuickPbx

PHONES = 10000
LOCAL = "127.0.0.1"
NEVER = ("challenges", "guard_strangers", "guard_busy", "guard_banned", "guard_withheld")  # for phones that are registered


class Place:
    """A network namespace in which only loopback is used: kedge, phones and PBX have 127.x.y.z."""

    def __init__(self, host):
        self.ns, self.popen, self.addr = host.ns, host.popen, LOCAL


@pytest.fixture(scope="module")
def place(lab):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, PHONES + 2000), hard))
    yield Place(lab.public_host("crowd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rows(**more):
    """Loopback is trusted by default; here it is where everybody is."""
    return {"sip": {"listen": [f"udp:{LOCAL}:5060"], "domain": "kedge.test"}, "media": {"address": LOCAL},
            "guard": {"trusted": ["192.0.2.1"]}, **more}


def memory_mb(kedge):
    with open(f"/proc/{kedge.role('signalling')}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) / 1024


def add_accounts(kedge, count, domain="kedge.test"):
    """Into the store of a kedge that does not run: one by one through kedgectl would take minutes."""
    rows = []
    for i in range(count):
        text = f"u{i}:{domain}:word".encode()
        rows.append((f"u{i}", domain, hashlib.md5(text).hexdigest(), hashlib.sha256(text).hexdigest(), 1))
    with sqlite3.connect(os.path.join(kedge.folder, "kedge.db")) as db:
        db.executemany("INSERT INTO account (name, realm, ha1_md5, ha1_sha256, created_ms) VALUES (?, ?, ?, ?, ?)", rows)


def test_ten_thousand_phones_after_a_restart(stage, place):
    """All of them at once, with nonces from before: no challenge, no refusal, and nothing that kedge drops, also where a phone sends
    again because a processor with other work to do let it wait for 500 ms."""
    # Nobody is known yet who registers for the first time: 2,000 such datagrams a second would be a matter of luck.
    kedge = stage.kedge(place, config=rows(guard={"trusted": ["192.0.2.1"], "strangers_total": 1000000}))
    kedge.stop()
    add_accounts(kedge, PHONES)
    kedge.spawn().ready()
    crowd = stage.add(Crowd(place, (LOCAL, 5060), PHONES))
    crowd.register(5, 110)
    assert crowd.done == PHONES and not crowd.failed, (crowd.done, crowd.failed[:3], crowd.count)
    kedge.registered(PHONES)
    assert kedge.stats()["store_healthy"]
    kedge.stop()  # the store is written
    kedge.spawn().ready()
    assert len(kedge.registrations()) == PHONES
    for _ in range(2):
        crowd.register(1, 110)
        assert crowd.done == PHONES and not crowd.failed, (crowd.done, crowd.failed[:3], crowd.count)
        assert set(crowd.count) == {"sent", "silence", 200}, crowd.count
        stats = kedge.stats()
        assert PHONES <= stats["registers_in"] <= crowd.count["sent"] and stats["registers_ok"] == stats["registers_in"], (stats, crowd.count)
        assert not [name for name in NEVER if stats[name]], (stats, crowd.count)
        assert memory_mb(kedge) < 150, memory_mb(kedge)
        kedge.kill()
        kedge.spawn().ready()


def test_crowd_in_front_of_a_pbx(stage, place):
    """More at once than the PBX is asked: the others are told when to come, and each is asked of the PBX once for its
    challenge and once for its password. Later, and after a restart, the PBX hears nothing of them."""
    phones = PHONES // 2
    pbx = stage.add(QuickPbx(place, (LOCAL, 5080)))
    # Probes would find this PBX silent for two seconds where it shares too slow a processor; then its phones are asked of it again.
    kedge = stage.kedge(place, config=rows(pbx=[f"udp:{LOCAL}:5080"], pbx_probe=0))
    crowd = stage.add(Crowd(place, (LOCAL, 5060), phones))
    crowd.register(1, 110)
    assert crowd.done == phones and not crowd.failed, (crowd.done, crowd.failed[:3], crowd.count)
    assert len(pbx.contacts) == phones and pbx.registers <= 2.1 * phones, (len(pbx.contacts), pbx.registers)
    refused = crowd.count[503]
    assert 0 < refused < 1.2 * phones, crowd.count
    assert max(crowd.retry_after) <= 120
    fullest = max(crowd.comes_back.count(second) for second in set(crowd.comes_back))
    assert fullest < 400, f"{fullest} phones were told to come in the same second"
    assert memory_mb(kedge) < 200, memory_mb(kedge)
    asked = pbx.registers
    for _ in range(2):
        crowd.register(1, 110)
        assert crowd.done == phones and not crowd.failed and 503 not in crowd.count, \
            (crowd.done, crowd.failed[:3], crowd.count, kedge.log()[-1500:])
        assert pbx.registers == asked, (pbx.registers, asked, crowd.count, kedge.log()[-1500:])
        kedge.stop()  # the store is written; what a kill leaves of it is test_registrar.py's
        kedge.spawn().ready()
