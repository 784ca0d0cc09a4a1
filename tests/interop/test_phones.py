"""Phones of every kind of transport, address family and network talk to each other: baresip on both sides."""
import pytest

from interop.ear import Ear
from interop.phone import Phone

SERVER6 = "2001:db8:0:1::99"


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge", ip6=SERVER6)
    listen = [f"udp:{server.ip4}:5060", f"tcp:{server.ip4}:5060", f"tls:{server.ip4}:5061", f"udp:[{SERVER6}]:5060",
              f"tcp:[{SERVER6}]:5060"]
    kedge = long_stage.kedge(server, config={"sip": {"listen": listen}, "media": {"address": "auto"}},
                             accounts={f"u{i}": f"pw-u{i}" for i in range(20)})
    return kedge


numbers = iter(range(20))


def phone(stage, kedge, host, hz, transport="udp", control=4444, listen=None, server=None, **kw):
    user = f"u{next(numbers)}"
    port = 5061 if transport == "tls" else 5060
    made = stage.add(Phone(stage.folder / user, user, server or f"{kedge.host.ip4}:{port}", hz, host,
                           password="pw-" + user, domain="kedge.test", transport=transport, control=control,
                           listen=listen, **kw)).start()
    return made.registered()


def check_talk(kedge, a, b):
    """a calls b, both hear, b hangs up. Returns the call as kedge saw it in talk."""
    b.forget()
    a.call(b.user)
    assert a.hears(b.hz), f"{a.user} does not hear {b.hz} Hz in {a.recording()}"
    assert b.hears(a.hz), f"{b.user} does not hear {a.hz} Hz in {b.recording()}"
    [call] = kedge.calls()
    mark = a.mark()
    b.hangup()
    a.wait("CALL_CLOSED", mark)
    kedge.no_calls()
    return call


def test_tcp_phone_calls_udp_phone_and_back(lab, stage, world):
    a = phone(stage, world, lab.natted_host("tcp", nat="port-restricted"), 400, "tcp")
    b = phone(stage, world, lab.natted_host("udp1", nat="symmetric"), 700)
    assert check_talk(world, a, b)["legs"][0]["transport"] == "tcp"
    assert check_talk(world, b, a)["legs"][1]["transport"] == "tcp"


def test_tls_phone_calls_udp_phone_and_back(lab, stage, world):
    a = phone(stage, world, lab.natted_host("tls", nat="port-restricted"), 400, "tls")
    b = phone(stage, world, lab.natted_host("udp2", nat="symmetric"), 700)
    assert check_talk(world, a, b)["legs"][0]["transport"] == "tls"
    assert check_talk(world, b, a)["legs"][1]["transport"] == "tls"


def test_ipv6_phone_calls_ipv4_phone_and_back(lab, stage, world):
    six = lab.public_host("six", ip4=False, ip6=True)
    a = phone(stage, world, six, 400, server=f"[{SERVER6}]:5060", listen="[::]:5060")
    b = phone(stage, world, lab.natted_host("four", nat="symmetric"), 700)
    call = check_talk(world, a, b)
    assert ":" in call["legs"][0]["media"][0]["local"].rpartition(":")[0], call
    assert ":" not in call["legs"][1]["media"][0]["local"].rpartition(":")[0], call
    check_talk(world, b, a)


def test_phone_behind_the_kernels_sip_alg(lab, stage, world):
    """The ALG rewrites Via, Contact and SDP, and lets RTP in from the signalling address only: here they are one."""
    a = phone(stage, world, lab.linux_sip_alg_host("alg"), 400)
    b = phone(stage, world, lab.natted_host("plain", nat="port-restricted"), 700)
    [shown] = [r for r in world.registrations() if r["user"] == a.user]
    assert a.host.external in shown["contact"], "the ALG did not rewrite the Contact: this would show nothing"
    check_talk(world, a, b)
    check_talk(world, b, a)


def test_two_phones_behind_sip_algs(lab, stage, world):
    a = phone(stage, world, lab.linux_sip_alg_host("alg-a"), 400)
    b = phone(stage, world, lab.linux_sip_alg_host("alg-b"), 700)
    check_talk(world, a, b)


def test_phones_behind_linux_masquerade(lab, stage, world):
    a = phone(stage, world, lab.linux_masquerade_host("masquerade"), 400)
    b = phone(stage, world, lab.linux_masquerade_host("random", random=True), 700)
    check_talk(world, a, b)
    check_talk(world, b, a)


def test_two_phones_behind_one_nat(lab, stage, world):
    home = lab.home("family", nat="port-restricted", hosts=2)
    a = phone(stage, world, home.hosts[0], 400)
    b = phone(stage, world, home.hosts[1], 700)
    check_talk(world, a, b)
    check_talk(world, b, a)


def test_phone_behind_a_carriers_and_a_home_nat(lab, stage, world):
    a = phone(stage, world, lab.natted_host("mobile", nat="port-restricted", carrier="symmetric"), 400)
    b = phone(stage, world, lab.natted_host("desk", nat="symmetric"), 700)
    check_talk(world, a, b)


def test_no_harm_on_a_lan_without_nat(lab, stage, world):
    """No NAT is seen where there is none, and contacts stay what the phones said."""
    hosts = lab.lan("office", 2)
    a, b = phone(stage, world, hosts[0], 400), phone(stage, world, hosts[1], 700)
    check_talk(world, a, b)
    for p in (a, b):
        [shown] = [r for r in world.registrations() if r["user"] == p.user]
        assert not shown["nat"], shown


def test_dscp_of_media_is_kept(lab, stage, world):
    """Baresip marks nothing here; the agent's socket does."""
    from interop.agent import talk
    import socket
    a = stage.agent(lab.public_host("marker"), "u18", "pw-u18", (world.host.ip4, 5060))
    b = stage.agent(lab.public_host("marked"), "u19", "pw-u19", (world.host.ip4, 5060))
    assert a.register().status == 200 and b.register().status == 200
    rtp_a, rtp_b = stage.rtp(a.host), stage.rtp(b.host, hz=700)
    rtp_a.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
    ear = stage.add(Ear(b.host))
    talk(a, b, rtp_a, rtp_b)
    assert rtp_b.got(since=ear.started, ms=1000)
    marks = {d.tos & 0xFC for d in ear.rtp()[-20:]}
    assert marks == {0xB8}, f"DSCP of RTP at the callee: {marks}"
