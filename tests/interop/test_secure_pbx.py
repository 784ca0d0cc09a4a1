"""Phones with RTP, SDES and DTLS-SRTP behind NATs as phones of Kamailio, which kedge stands before: a call passes kedge twice. What
both can do passes the PBX as it is; what one cannot is translated where the PBX asks kedge for the callee."""
import pytest

from interop.pbx import Kamailio
from interop.phone import Phone
from interop.secure_phones import ENCRYPTION, MODULES, end, of_legs, talk

NAMES = [kind + side for side in "12" for kind in ENCRYPTION]


@pytest.fixture(scope="module")
def world(lab, long_stage):
    host, pbx = lab.public_host("kedge"), lab.public_host("pbx")
    where = {"1": lab.natted_host("a", nat="port-restricted"), "2": lab.natted_host("b", nat="symmetric")}
    long_stage.add(Kamailio(long_stage.folder / "pbx", {n: "pw-" + n for n in NAMES}, pbx)).start()
    kedge = long_stage.kedge(host, config={"pbx": [f"udp:{pbx.addr}:5060"]})
    phones = {}
    for i, name in enumerate(NAMES):
        phones[name] = long_stage.add(Phone(long_stage.folder / name, name, f"{host.addr}:5060", 400 + 140 * i, where[name[-1]],
                                            password="pw-" + name, domain="pbx.test", control=4440 + i,
                                            listen=f"0.0.0.0:{5060 + 10 * i}", account_extra=ENCRYPTION[name[:-1]],
                                            config_extra=MODULES)).start()
    for phone in phones.values():
        phone.registered(15)
    return kedge, phones


PASSES, NONE = ["end-to-end"] * 2, ["none"] * 2


# What is said of the call to the PBX, and of the one from the PBX.
@pytest.mark.parametrize("here,there,to_pbx,from_pbx", (
    ("sdes", "sdes", PASSES, PASSES),
    ("sdes", "rtp", PASSES, ["sdes", "none"]),
    ("rtp", "sdes", NONE, ["none", "sdes"]),
    ("dtls", "rtp", ["dtls", "dtls"], ["dtls", "none"]),
    ("rtp", "dtls", NONE, ["none", "dtls"]),
    ("rtp", "rtp", NONE, NONE)))  # what one phone behind the PBX wants is not asked of the next one
def test_pair(world, here, there, to_pbx, from_pbx):
    kedge, phones = world
    a, b = phones[here + "1"], phones[there + "2"]
    a.call(b.user, timeout=20)
    talk(a, b)
    calls = {next(i for i, leg in enumerate(c["legs"]) if leg["pbx"]): of_legs(c) for c in kedge.calls()}
    assert calls == {1: to_pbx, 0: from_pbx}
    end(kedge, a, b)
