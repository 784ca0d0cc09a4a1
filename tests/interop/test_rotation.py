"""kedge's DTLS certificate is renewed while calls are up, several times: a phone by hand and Chromium keep the association that they have, and new
calls, or a phone that was restarted, are told the newest."""
import re
import time

import pytest

from interop.agent import Dialog
from interop.hosts import background, until
from interop.secure import SecureRtp, Talk
from interop.sipcall import hang_up
from interop.webworld import WebWorld

LIFETIME_S = 5
KEPT = 4  # media/identities.h


def named(body):
    return re.search(r"^a=fingerprint:(\S+ \S+)", body, re.M).group(1)


@pytest.fixture(scope="module")
def world(lab, long_stage):
    made = WebWorld(long_stage, lab, ("alice", "bob", "carol", "dora", "jssip"),
                    config={"media": {"profile": "plain", "certificate_lifetime": LIFETIME_S}})
    made.agents = {}
    for user in ("alice", "bob", "carol", "dora"):
        made.agents[user] = long_stage.agent(lab.public_host(user), user, "pw-" + user, (made.server.addr, 5060))
        assert made.agents[user].register().status == 200
    made.web = made.phone(made.browser("chromium"), "jssip", "jssip")
    return made


def told_now(world, rtp):
    """What a new call is told of kedge's certificate."""
    dora, bob = Dialog(world.agents["dora"], rtp), Dialog(world.agents["bob"], world.plain)
    asked = background(dora.call, "bob", body=rtp.body())
    bob.answer(bob.agent.expect("INVITE"))
    answer = asked()
    hang_up(dora, bob)
    return named(answer.body)


def reinvite(talk, direction="sendrecv"):
    again = background(talk.a.reinvite, body=talk.rtp_a.body(version=talk.a.version + 2, direction=direction))
    talk.a.version += 1
    offer = talk.b.agent.expect_unless("INVITE", again)
    if offer:
        talk.b.answer(offer, direction={"inactive": "inactive"}.get(direction, "sendrecv"))
    response = again()
    assert response is not None and response.status == 200, response
    return response.body


def browser_calls(world, stage):
    """Chromium talks to carol, an agent with plain RTP; the certificate that it met."""
    rtp = stage.rtp(world.agents["carol"].host, hz=700)
    dialog = Dialog(world.agents["carol"], rtp)
    world.web.dial("carol")
    dialog.answer(world.agents["carol"].expect("INVITE"))
    world.web.active()
    return dialog, rtp


def they_hear(world, rtp):
    mark = time.monotonic()
    assert world.web.hears(700, since=world.web.position()), world.web.path()
    assert rtp.got(mark, 200), "the phone does not hear the browser"


def test_calls_across_renewals(world, stage):
    talk = Talk((world.kedge, (world.agents["alice"], world.agents["bob"]), None), stage, "dtls").start()
    other = stage.add(SecureRtp(world.agents["dora"].host))
    world.plain = stage.rtp(world.agents["bob"].host)
    first, handshakes = named(talk.answer.body), len(talk.rtp_a.peer.said("dtls-in"))
    dialog, rtp = browser_calls(world, stage)
    they_hear(world, rtp)
    met = world.web.path()["fingerprint"]
    assert met in named(world.web.sdp("remote")).upper()

    begun = time.monotonic()
    seen = [first]
    while len(seen) <= KEPT:  # until the engine has forgotten the first one
        assert until(lambda: (lambda now: now not in seen and not seen.append(now))(told_now(world, other)), 3 * LIFETIME_S, 1), seen
        talk.is_well()
        if len(seen) > 2:  # twice is enough of what follows
            continue
        assert named(reinvite(talk, "inactive")) == first
        assert named(reinvite(talk)) == first
        talk.is_well()
        for change, direction in ((world.web.hold, "recvonly"), (world.web.resume, "sendrecv")):
            done = background(change)
            dialog.answer(dialog.agent.expect("INVITE"), direction=direction)
            done()
        assert world.web.path()["fingerprint"] == met and met in named(world.web.sdp("remote")).upper()
        they_hear(world, rtp)
    assert len(talk.rtp_a.peer.said("dtls-in")) == handshakes and talk.rtp_a.bad(begun) == [], "the association was not kept"
    they_hear(world, rtp)

    # A phone that was restarted wants a new association; the certificate that this call was told of serves it.
    talk.rtp_a.to = None
    talk.rtp_a = talk.a.rtp = stage.add(SecureRtp(talk.a.agent.host, "dtls", hz=300))
    body = reinvite(talk)
    assert named(body) == first
    talk.rtp_a.to = talk.a.ok.media()
    talk.rtp_a.learn(body)
    talk.is_well()
    assert talk.a.agent.quiet("INVITE", 1), "kedge had to offer other keys"
    hang_up(talk.a, talk.b)

    # The browser's next call meets the newest.
    world.web.hangup()
    dialog.agent.reply(dialog.agent.expect("BYE"), 200)
    dialog, rtp = browser_calls(world, stage)
    they_hear(world, rtp)
    assert world.web.path()["fingerprint"] != met and world.web.path()["fingerprint"] in named(world.web.sdp("remote")).upper()
    world.web.hangup()
    dialog.agent.reply(dialog.agent.expect("BYE"), 200)
    world.kedge.no_calls()
