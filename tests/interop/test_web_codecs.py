"""kedge does not change one codec into another: whoever has none in common is told so in words."""
import os
import re

import pytest

from interop.agent import Agent, Dialog
from interop.browser import ROOT
from interop.hosts import background
from interop.web import WebAgent

NAMES = {"web": "pw-web", "desk": "pw-desk"}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    host = lab.public_host("kedge")
    kedge = long_stage.kedge(host, accounts=NAMES, config={"sip": {"listen": [f"udp:{host.addr}:5060", f"ws:{host.addr}:8080"]}})
    kedge.web = long_stage.add(WebAgent(lab.public_host("web"), "web", NAMES["web"], (host.addr, 8080), webrtc=True))
    kedge.desk = long_stage.add(Agent(lab.public_host("desk"), "desk", NAMES["desk"], (host.addr, 5060)))
    assert kedge.web.register().status == 200 and kedge.desk.register().status == 200
    return kedge


def offer():
    with open(os.path.join(ROOT, "tests/golden/web-chromium-offer.in.sdp"), newline="", encoding="ascii") as f:
        return f.read()


def test_a_phone_without_any_of_its_codecs(world):
    """G.729 alone: it refuses whatever it is offered, however it is secured."""
    placed = background(Dialog(world.web).call, "desk", body=offer(), timeout=40)
    shapes = []
    while invite := world.desk.expect_unless("INVITE", placed):
        shapes.append(invite.body.split("m=audio ")[1].split()[1])
        world.desk.reply(invite, 488)
    answer = placed()
    assert answer.status == 488
    assert shapes[0] == "RTP/AVP" and len(shapes) > 1, shapes
    assert re.search("opus, G722, PCMU, PCMA", answer.get("Warning")), answer.get("Warning")
    world.no_calls()
