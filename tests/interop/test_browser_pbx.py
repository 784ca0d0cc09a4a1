"""Browsers as phones of a PBX that knows nothing of browsers: Kamailio, with the passwords; kedge between it and everybody."""
import pytest

from interop.pbx import Kamailio
from interop.phone import Phone
from interop.webworld import WebWorld

HZ = {"jo": 900, "sid": 1300, "desk": 500}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    passwords = {name: "pw-" + name for name in HZ}
    pbx_host = lab.public_host("pbx")
    long_stage.add(Kamailio(long_stage.folder / "pbx", passwords, pbx_host)).start()
    world = WebWorld(long_stage, lab, (), config={"pbx": [f"udp:{pbx_host.addr}:5060"]}, stun=True)
    world.webs = [world.phone(world.browser("chromium-" + name, hz=HZ[name]), kind, name, domain="pbx.test")
                  for name, kind in (("jo", "jssip"), ("sid", "sipjs"))]
    world.desk = long_stage.add(Phone(long_stage.folder / "desk", "desk", f"{world.server.addr}:5060", HZ["desk"],
                                      lab.natted_host("desk", nat="symmetric"), password="pw-desk", domain="pbx.test")).start()
    world.desk.registered()
    return world


@pytest.mark.parametrize("which", (0, 1), ids=("jssip", "sipjs"))
def test_browser_and_desk_phone(world, which):
    web, desk = world.webs[which], world.desk
    web.call("desk")
    assert web.hears(HZ["desk"], since=web.position()) and desk.hears(web.hz)
    calls = world.kedge.calls()
    assert len(calls) == 2, calls  # from the browser to the PBX, and from the PBX to the phone
    mark = desk.mark()
    web.hangup()
    desk.wait("CALL_CLOSED", mark)
    world.kedge.no_calls()
    mark = desk.dial(web.user)
    web.ringing()
    web.answer()
    desk.wait("CALL_ESTABLISHED", mark)
    assert web.hears(HZ["desk"], since=web.position()) and desk.hears(web.hz)
    web.hangup()
    desk.wait("CALL_CLOSED", mark)
    world.kedge.no_calls()


def test_browser_to_browser(world):
    """The PBX sees two plain calls; what the browsers know best (opus) passes it."""
    a, b = world.webs
    a.dial(b.user)
    b.ringing()
    b.answer()
    a.active()
    b.active()
    assert a.hears(b.hz, since=a.position()) and b.hears(a.hz, since=b.position())
    assert a.path()["codec"] == "opus", a.path()
    a.hold()
    b.wait("heldByOther", True)
    a.resume()
    b.wait("heldByOther", False)
    assert a.hears(b.hz, since=a.position()) and b.hears(a.hz, since=b.position())
    a.hangup()
    b.ended()
    world.kedge.no_calls()
