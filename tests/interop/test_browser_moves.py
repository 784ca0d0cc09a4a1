"""A browser in a call whose network becomes another one: its NAT has another address, its WebSocket leads nowhere and is made anew (RFC 5626). Audio
comes back by ICE alone, then JsSIP registers over the new connection and restarts ICE by a re-INVITE; there is one call all the while."""
import time

import pytest

from interop.agent import Dialog
from interop.hosts import background, until
from interop.webworld import WebWorld

HZ, CAROL_HZ = 900, 700
BACK_S = 30  # nothing at all was lost if ICE finds the new path: it takes a second or two on a machine with time


@pytest.fixture(scope="module")
def world(lab, long_stage):
    made = WebWorld(long_stage, lab, ("carol", "jssip"), stun=True)
    made.carol = long_stage.agent(lab.public_host("carol"), "carol", "pw-carol", (made.server.addr, 5060))
    assert made.carol.register().status == 200
    made.web = made.phone(made.browser("chromium", hz=HZ), "jssip", "jssip")
    return made


@pytest.fixture(params=("browser calls", "browser is called"))
def call(request, world, stage):
    """Chromium talks to carol, an agent with plain RTP: (world, page, carol's dialog)."""
    web, dialog = world.web, Dialog(world.carol, stage.rtp(world.carol.host, hz=CAROL_HZ))
    if request.param == "browser calls":
        web.dial("carol")
        dialog.answer(world.carol.expect("INVITE"))
    else:
        asked = background(dialog.call, "jssip")
        web.ringing()
        web.answer()
        assert asked().status == 200
    web.active()
    they_hear(web, dialog)
    yield world, web, dialog
    web.page.eval("phone.hangUp()")  # a test that failed leaves no call to the next


def they_hear(web, dialog):
    mark = time.monotonic()
    assert web.hears(CAROL_HZ, since=web.position(), timeout=BACK_S), (web.path(), web.page.eval("told"))
    assert dialog.rtp.got(mark, 300, BACK_S), "the phone does not hear the browser"


def test_another_network(lab, call):
    world, web, dialog = call
    was = [row["id"] for row in world.kedge.calls()]
    lab.change_nat(web.host)

    # Media comes back without signalling: checks come from the new address, and are answered there.
    they_hear(web, dialog)

    # The page finds its connection dead when it sends something; it makes another and registers there.
    lives = web.page.eval("told.length")
    web.page.eval("phone.ua.registrator().register()")
    assert web.page.until(f"told.slice({lives}).some((t) => t[1] === 'disconnected')", 30), web.page.eval("told")
    web.registered(30)

    def moved():
        leg = next(leg for leg in world.kedge.calls()[0]["legs"] if leg["user"] == "jssip")
        return leg["reachable"] and leg["remote"].rpartition(":")[0] == web.host.external
    assert until(moved, 30, 0.1), world.kedge.calls()
    they_hear(web, dialog)

    # It restarts ICE itself; kedge may have been quicker, so the page waits for its turn.
    user = "/^a=ice-ufrag:(.*)$/m.exec(phone.connection.{}Description.sdp)[1]"
    old = web.page.eval(f"[{user.format('local')}, {user.format('remote')}]")
    assert web.page.until("phone.call.session.isReadyToReOffer()"), web.page.eval("told")
    restart = "new Promise((done) => phone.call.session.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, () => done(true)))"
    restarted = background(lambda: web.page.eval(restart))
    assert until(lambda: restarted.done() or not dialog.agent.requests.empty(), BACK_S), web.page.eval("told")
    if not restarted.done():  # kedge may ask carol
        dialog.answer(dialog.agent.expect("INVITE"))
    assert restarted(), web.page.eval("told")
    new = web.page.eval(f"[{user.format('local')}, {user.format('remote')}]")
    assert new[0] != old[0] and new[1] != old[1], "ICE was not restarted on both sides"
    they_hear(web, dialog)

    calls = world.kedge.calls()
    assert [row["id"] for row in calls] == was and len(was) == 1 and web.state()["call"] == "active", calls
    assert dialog.agent.quiet("BYE", 0.1)

    # BYE goes down the new connection.
    assert dialog.bye().status == 200
    web.ended()
    world.kedge.no_calls()
