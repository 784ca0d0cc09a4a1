"""What the tests of calls do in the same words: phones that a test plays by hand (agent.py), their dialogs, how they hang up."""
import re

from interop.agent import Dialog
from interop.hosts import background
from interop.icestun import IceRtp

TRANSPORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}


def listeners(host):
    """Rows of sip.listen: this host, over all transports."""
    return [f"{transport}:{host.addr}:{port}" for transport, port in TRANSPORTS.items()]


def registered(stage, kedge, hosts, users, transport="udp"):
    """An agent for each user, on a host each."""
    agents = [stage.agent(host, user, "pw-" + user, (kedge.host.addr, TRANSPORTS[transport]), transport=transport)
              for host, user in zip(hosts, users)]
    assert all(agent.register().status == 200 for agent in agents)
    return agents


def dialogs(stage, agents):
    """A dialog with audio for each of them."""
    return [Dialog(agent, stage.rtp(agent.host)) for agent in agents]


def hang_up(here, there, kedge=None):
    """kedge, if given: nothing is left of the call then."""
    bye = background(here.bye)
    there.agent.reply(there.agent.expect("BYE"), 200)
    assert bye().status == 200
    if kedge:
        kedge.no_calls()


def lines(dialog, **kw):
    """The dialog's SDP, with ICE if its phone does that."""
    return dialog.body(extra=dialog.rtp.lines() if isinstance(dialog.rtp, IceRtp) else "", **kw)


def listen(dialog, message):
    """Sends media where the other side's description says."""
    if isinstance(dialog.rtp, IceRtp):
        dialog.rtp.learn(message.body)
    else:
        dialog._listen(message)


def replaces(dialog):
    """The dialog as its phone names it to somebody else: to-tag is the other end's (RFC 3891 3)."""
    tag = {name: re.search(r"tag=([^;>]+)", getattr(dialog, name)).group(1) for name in ("local", "remote")}
    return dialog.call_id, tag["remote"], tag["local"]


def escape(text):
    """As a header's value in a URI."""
    return re.sub(r"[^\w.-]", lambda m: f"%{ord(m.group()):02X}", text)
