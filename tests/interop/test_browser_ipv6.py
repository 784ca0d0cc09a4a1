"""A browser that has nothing but IPv6 and a desk phone that has nothing but IPv4: kedge, which has both, joins them, whoever calls."""
import time

import pytest

from interop.agent import Dialog
from interop.browser import PAGES, Browser, WebPhone, certificate
from interop.hosts import background

HZ, CAROL_HZ, PORT = 900, 700, 8443


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge", ip6=True)
    base = f"https://[{server.ip6}]:{PORT}"
    key, cert, pin = certificate(long_stage.folder / "tls", server.ip6)
    kedge = long_stage.kedge(server, config={
        "sip": {"listen": [f"udp:{server.ip4}:5060", f"wss:[{server.ip6}]:{PORT}"], "domain": "kedge.test"},
        "media": {"address": "auto"}, "tls": {"certificate": cert, "key": key}, "web": {"root": PAGES}},
        accounts={"carol": "pw-carol", "jssip": "pw-jssip"})
    carol = long_stage.agent(lab.public_host("carol"), "carol", "pw-carol", (server.ip4, 5060))
    assert carol.register().status == 200
    chromium = long_stage.add(Browser(long_stage.folder / "chromium", lab.public_host("chromium", ip4=False, ip6=True), HZ, pins=[pin]).start())
    web = long_stage.add(WebPhone(chromium, "jssip", base, "jssip", "pw-jssip", "kedge.test", server=base.replace("http", "ws") + "/ws"))
    web.registered()
    return kedge, web, carol


def they_hear(web, dialog):
    mark = time.monotonic()
    assert web.hears(CAROL_HZ, since=web.position(), timeout=30), (web.path(), web.page.eval("told"))
    assert dialog.rtp.got(mark, 300, 30), "the phone does not hear the browser"


@pytest.mark.parametrize("who", ("browser calls", "browser is called"))
def test_browser_without_ipv4(world, stage, who):
    kedge, web, carol = world
    dialog = Dialog(carol, stage.rtp(carol.host, hz=CAROL_HZ))
    if who == "browser calls":
        web.dial("carol")
        request = carol.expect("INVITE")
        assert "IP6" not in request.body, "the phone is told addresses that it cannot reach"
        dialog.answer(request)
    else:
        asked = background(dialog.call, "jssip")
        web.ringing()
        web.answer()
        answer = asked()
        assert answer.status == 200 and "IP6" not in answer.body
    web.active()
    they_hear(web, dialog)
    leg = next(leg for leg in kedge.calls()[0]["legs"] if leg["user"] == "jssip")
    assert leg["media"][0]["remote"].startswith("["), leg
    assert dialog.bye().status == 200
    web.ended()
    kedge.no_calls()
