"""A browser calls phones that have plain RTP, SDES or DTLS-SRTP, and they call it: Chromium behind a NAT, over WSS, with JsSIP and with
SIP.js; baresip behind other NATs, over UDP."""
import pytest

from interop.hosts import until
from interop.icecall import of_user
from interop.phone import Phone
from interop.webworld import WebWorld

HZ = 900
LIBRARIES = ("jssip", "sipjs")
# name: (tone, NAT, baresip's mediaenc, its module, how kedge calls it)
PHONES = {"plain": (500, "symmetric", None, None, "none"), "sdes": (600, "port-restricted", "srtp-mand", "srtp", "sdes"),
          "dtls": (700, "address-restricted", "dtls_srtp", "dtls_srtp", "dtls")}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    world = WebWorld(long_stage, lab, (*LIBRARIES, "eva", *PHONES), stun=True)
    world.chromium = world.browser("chromium", hz=HZ)
    world.webs = {kind: world.phone(world.chromium, kind, kind) for kind in LIBRARIES}
    world.phones = {}
    for name, (hz, nat, mediaenc, module, _) in PHONES.items():
        world.phones[name] = long_stage.add(Phone(
            long_stage.folder / name, name, f"{world.server.addr}:5060", hz, lab.natted_host(name, nat=nat), password="pw-" + name,
            domain="kedge.test", account_extra=f";mediaenc={mediaenc}" if mediaenc else "",
            config_extra=f"module {module}.so" if module else "")).start()
    for phone in world.phones.values():
        phone.registered()
    return world


@pytest.fixture(autouse=True)
def no_call_is_left(world):
    """A test that failed in a call leaves none to the next."""
    yield
    for part in (*world.webs.values(), *world.phones.values()):
        if not world.kedge.calls():
            break
        if isinstance(part, Phone):
            part.hangup()
        else:
            part.page.eval("phone.hangUp()")
    world.kedge.no_calls()


@pytest.fixture(params=LIBRARIES)
def web(world, request):
    return world.webs[request.param]


@pytest.fixture(params=PHONES)
def phone(world, request):
    made = world.phones[request.param]
    made.forget()
    return made


def hear_each_other(web, phone):
    since, position = web.position(), phone.position()
    assert web.hears(phone.hz, since=since), f"{web.user} does not hear {phone.user}: {web.path()}\n{web.page.eval('told')}"
    assert phone.hears(HZ, since_ms=position), f"{phone.user} does not hear {web.user}; log {phone.folder}/log\n{web.path()}"


def ends_at_kedge(world, web, phone, caller):
    """The browser's keys are between it and kedge: the certificate it met is the one that kedge named. The phone has its own."""
    path = web.path()
    assert path["way"] == "kedge" and path["dtls"] == "connected", path
    assert path["fingerprint"] in web.sdp("remote").upper(), (path, web.sdp("remote"))
    row = of_user(world.kedge, caller.user)
    secure = {leg["user"]: leg["secure"].partition(" ")[0] for leg in row["legs"]}
    assert row["path"] == "anchored" and secure == {web.user: "dtls", phone.user: PHONES[phone.user][4]}, row


def hang_up(world, web, phone):
    mark = phone.mark()
    web.hangup()
    phone.wait("CALL_CLOSED", mark)
    world.kedge.no_calls()


def test_browser_calls(world, web, phone):
    web.call(phone.user)
    hear_each_other(web, phone)
    ends_at_kedge(world, web, phone, web)
    hang_up(world, web, phone)
    record = world.kedge.json("calls", "--recent")[0]  # as it is in the file of call records
    assert record["status"] == 200 and record["first_media_ms"] >= 0 and record["bytes_relayed"] > 0, record
    for medium in (leg["media"][0] for leg in record["legs"]):
        assert medium["packets_in"] and medium["codec"] and medium["mos"] > 1 and medium["first_packet_ms"] >= 0, medium


def test_browser_is_called(world, web, phone):
    mark = phone.dial(web.user)
    assert web.ringing()["remote"] == phone.user
    web.answer()
    web.active()
    phone.wait("CALL_ESTABLISHED", mark)
    hear_each_other(web, phone)
    ends_at_kedge(world, web, phone, phone)
    hang_up(world, web, phone)


def test_hold_and_reinvite_by_the_browser(world, web, phone):
    """baresip 1.0 records nothing any more after a hold, so what it gets is looked at by what it answers with, and in kedge's counters."""
    web.call(phone.user)
    hear_each_other(web, phone)
    web.reinvite()
    hear_each_other(web, phone)
    web.hold()
    assert web.quiet(), "sound goes on while on hold"
    web.resume()
    assert web.hears(phone.hz, since=web.position()), web.path()
    row = of_user(world.kedge, web.user)
    assert until(lambda: (lambda r: sum(m["packets_out"] for m in r["legs"][1]["media"]) >
                          sum(m["packets_out"] for m in row["legs"][1]["media"]) + 20)(of_user(world.kedge, web.user)), 20, 0.1), row
    hang_up(world, web, phone)


def test_hold_by_the_phone(world, web, phone):
    mark = phone.dial(web.user)
    web.ringing()
    web.answer()
    phone.wait("CALL_ESTABLISHED", mark)
    hear_each_other(web, phone)
    phone.hold()
    web.wait("heldByOther", True)
    assert web.quiet(), "sound goes on while on hold"
    phone.resume()
    web.wait("heldByOther", False)
    assert web.hears(phone.hz, since=web.position()), web.path()
    hang_up(world, web, phone)


@pytest.mark.parametrize("how", ("RFC2833", "INFO"))
def test_dtmf(world, web, how):
    phone = world.phones["plain"]
    web.call(phone.user)
    hear_each_other(web, phone)
    mark = phone.mark()
    web.dtmf("7", how)
    assert phone.wait("CALL_DTMF_START", mark)["param"] == "7"
    hang_up(world, web, phone)


def test_video_and_data_to_a_phone_with_audio_alone(world):
    """What the phone does not have is refused line by line; the call has sound."""
    web = world.phone(world.chromium, "jssip", "eva", dataChannel=True)
    phone = world.phones["plain"]
    phone.forget()
    web.call(phone.user, video=True)
    hear_each_other(web, phone)
    lines = [line for line in web.sdp("remote").splitlines() if line.startswith("m=")]
    assert [line.split()[0] for line in lines] == ["m=audio", "m=video", "m=application"], lines
    assert [line.split()[1] == "0" for line in lines] == [False, True, True], lines
    hang_up(world, web, phone)
    web.stop()


def test_page_reload(world, web):
    """The browser forgets its call in the middle of it; the same phone is back on a new connection, and is asked at once: the
    other side is free without doing anything. It can be called."""
    phone = world.phones["plain"]
    web.call(phone.user)
    hear_each_other(web, phone)
    mark = phone.mark()
    web.reload().registered()
    assert sum(r["user"] == web.user for r in world.kedge.registrations()) == 1, world.kedge.registrations()
    phone.wait("CALL_CLOSED", mark, 20)
    world.kedge.no_calls()
    mark = phone.dial(web.user)
    web.ringing()
    web.answer()
    phone.wait("CALL_ESTABLISHED", mark)
    hear_each_other(web, phone)
    hang_up(world, web, phone)
