"""Browser to browser through kedge: Chromium behind NATs, with JsSIP in one and SIP.js in the other, over WSS. They do ICE and DTLS with
each other: kedge has no key of theirs, also where it relays."""
import pytest

from interop.ear import Ear
from interop.hosts import until
from interop.icecall import of_user
from interop.webworld import WebWorld

HZ = {"jo": 900, "sid": 1300, "sam": 1700}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    return WebWorld(long_stage, lab, HZ, stun=True)


@pytest.fixture(scope="module")
def phones(world):
    """jo with JsSIP and sid with SIP.js, behind NATs that let them find each other; sam with JsSIP behind a symmetric one."""
    made = {}
    for name, kind, nat in (("jo", "jssip", "port-restricted"), ("sid", "sipjs", "port-restricted"), ("sam", "jssip", "symmetric")):
        browser = world.browser("chromium-" + name, nat, HZ[name])
        made[name] = world.phone(browser, kind, name, ice_servers=[world.stun])
    return made


@pytest.fixture
def ear(world):
    made = Ear(world.server)
    yield made
    made.close()


def connect(caller, callee, video=False):
    caller.dial(callee.user, video=video)
    callee.ringing()
    callee.answer(video=video)
    caller.active()
    callee.active()


def hear_each_other(*pair):
    a, b = pair
    since = [a.position(), b.position()]
    assert a.hears(b.hz, since=since[0]), f"{a.user} does not hear {b.user}"
    assert b.hears(a.hz, since=since[1]), f"{b.user} does not hear {a.user}"


def keys_are_theirs(world, a, b):
    """The certificate that each met in DTLS is the other browser's own, which the descriptions name too; returns the two paths."""
    assert [leg["secure"] for leg in world.kedge.calls()[0]["legs"]] == ["end-to-end"] * 2, world.kedge.calls()
    paths = a.path(), b.path()
    assert [p["dtls"] for p in paths] == ["connected"] * 2, paths
    assert paths[0]["fingerprint"] == paths[1]["ownFingerprint"] and paths[1]["fingerprint"] == paths[0]["ownFingerprint"], paths
    for phone, path in zip((a, b), paths):
        assert path["fingerprint"] in phone.sdp("remote")
    return paths


def end(caller, callee, kedge):
    caller.hangup()
    callee.ended()
    kedge.no_calls()


@pytest.mark.parametrize("names", (("jo", "sid"), ("sid", "jo")), ids="-".join)
def test_direct(world, phones, ear, names):
    a, b = (phones[name] for name in names)
    connect(a, b)
    hear_each_other(a, b)
    keys_are_theirs(world, a, b)
    direct = until(lambda: [p.path()["way"] for p in (a, b)] == ["direct"] * 2, 20, 0.1)  # who is nominated to follows
    assert direct, (a.path(), b.path())
    row = until(lambda: (lambda r: r if r["path"] == "direct" else None)(of_user(world.kedge, a.user)), 20, 0.1)
    assert row, world.kedge.calls()
    seen = len(ear.datagrams)
    hear_each_other(a, b)
    assert not [d for d in ear.datagrams[seen:] if d.payload[:1] and d.payload[0] >> 6 == 2], "media still passes kedge"
    end(a, b, world.kedge)


@pytest.mark.parametrize("names", (("jo", "sam"), ("sam", "sid")), ids="-".join)
def test_relayed_untouched(world, phones, ear, names):
    """Where the NATs leave nothing but kedge's ports, what arrives there leaves it byte for byte."""
    a, b = (phones[name] for name in names)
    connect(a, b)
    hear_each_other(a, b)
    paths = keys_are_theirs(world, a, b)
    assert [p["way"] for p in paths] == ["kedge"] * 2, paths
    sources = {p.host.external for p in (a, b)}
    came = [d.payload for d in ear.datagrams if not d.outgoing and d.src in sources and d.payload[:1] and d.payload[0] >> 6 == 2]
    left = {d.payload for d in ear.datagrams if d.outgoing and d.dst in sources}
    assert len(came) > 20 and len([p for p in came if p not in left]) <= 2, (len(came), len(left))
    # DTLS passes as well: both ends of it are browsers.
    assert [d for d in ear.datagrams if d.outgoing and d.payload[:1] == b"\x16"], "no DTLS was relayed"
    end(a, b, world.kedge)


@pytest.mark.parametrize("holder, other", (("jo", "sid"), ("sid", "jo")))
def test_hold(world, phones, holder, other):
    holder, other = phones[holder], phones[other]
    connect(holder, other)
    hear_each_other(holder, other)
    holder.hold()
    other.wait("heldByOther", True)
    assert holder.quiet(), "sound goes on while on hold"
    holder.resume()
    other.wait("heldByOther", False)
    hear_each_other(holder, other)
    other.reinvite()
    hear_each_other(holder, other)
    keys_are_theirs(world, holder, other)
    end(holder, other, world.kedge)


def test_video(world, phones):
    """Audio and video, over one transport (BUNDLE)."""
    a, b = phones["jo"], phones["sid"]
    connect(a, b, video=True)
    hear_each_other(a, b)
    for phone in (a, b):
        assert phone.page.until("framesSeen()"), f"{phone.user} sees nothing; {phone.sdp('remote')}"
    keys_are_theirs(world, a, b)
    end(a, b, world.kedge)


def test_page_reload(world, phones):
    """The reloaded page is the same phone on a new connection. It is asked at once whether it still has the call; it has
    not, and the other side is free without doing anything."""
    a, b = phones["jo"], phones["sid"]
    connect(b, a)
    hear_each_other(a, b)
    a.reload()
    a.registered()
    assert sum(r["user"] == "jo" for r in world.kedge.registrations()) == 1, world.kedge.registrations()
    b.ended(20)
    world.kedge.no_calls()
    connect(b, a)
    hear_each_other(a, b)
    end(a, b, world.kedge)
