"""Phones that secure their media in different ways understand each other: baresip in all nine pairs of RTP, SDES and DTLS-SRTP, each
hearing the other's tone, hold, and what survives the death of one of kedge's processes."""
import os
import signal

import pytest

from interop.linphone import Linphone
from interop.phone import Phone
from interop.hosts import until

ENCRYPTION = {"rtp": "", "sdes": ";mediaenc=srtp-mand", "dtls": ";mediaenc=dtls_srtp"}
MODULES = "module srtp.so\nmodule dtls_srtp.so"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host("kedge"), lab.natted_host("a", nat="port-restricted"), lab.natted_host("b", nat="symmetric")]


@pytest.fixture(scope="module")
def world(hosts, long_stage):
    """kedge, and phones of every kind on both sides: phones[side][kind]."""
    names = [kind + side for side in "12" for kind in ENCRYPTION]
    kedge = long_stage.kedge(hosts[0], accounts={n: "pw-" + n for n in names})
    phones = {"1": {}, "2": {}}
    for i, name in enumerate(names):
        kind, side = name[:-1], name[-1]
        phone = Phone(long_stage.folder / name, name, f"{hosts[0].addr}:5060", 300 + 100 * i, hosts[int(side)], password="pw-" + name,
                      domain="kedge.test", control=4440 + i, listen=f"0.0.0.0:{5060 + 10 * i}", account_extra=ENCRYPTION[kind],
                      config_extra=MODULES)
        phones[side][kind] = long_stage.add(phone).start()
    for side in phones.values():
        for phone in side.values():
            phone.registered(15)
    return kedge, phones


def talk(a, b):
    for here, there in ((a, b), (b, a)):
        since = here.position()
        assert here.hears(there.hz, since_ms=since), f"{here.user} does not hear {there.user}"


def secure(kedge):
    """What is said of both legs."""
    [call] = kedge.calls()
    return [leg["secure"].partition(" ")[0] for leg in call["legs"]]


def call(world, here, there):
    kedge, phones = world
    a, b = phones["1"][here], phones["2"][there]
    b.forget()
    a.call(b.user, timeout=15)
    talk(a, b)
    return kedge, a, b


def end(kedge, a, b):
    mark = a.mark()
    b.hangup()
    a.wait("CALL_CLOSED", mark)
    kedge.no_calls()


@pytest.mark.parametrize("there", ENCRYPTION)
@pytest.mark.parametrize("here", ENCRYPTION)
def test_pair(world, here, there):
    kedge, a, b = call(world, here, there)
    known = {"rtp": "none", "sdes": "sdes", "dtls": "dtls"}
    # Behind a NAT and without ICE, who offers DTLS is found only by who it sends to first: kedge.
    end_to_end = here == there == "sdes"
    assert secure(kedge) == (["end-to-end"] * 2 if end_to_end else [known[here], known[there]])
    end(kedge, a, b)


def kill(kedge, role):
    pid = kedge.role(role)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: kedge.role(role) not in (None, pid), 5)
    kedge.ready()


def flows(kedge, a, b):
    """Media flows both ways and both phones can decrypt it. baresip records nothing more once it was on hold."""
    def counts(*names):
        return [[m[n] for n in names or ("packets_in", "packets_out")] for leg in kedge.calls()[0]["legs"] for m in leg["media"]]
    before, bad, said = counts(), counts("srtp_bad"), [len(p.log()) for p in (a, b)]
    assert until(lambda: all(n >= o + 25 for now, old in zip(counts(), before) for n, o in zip(now, old)), 8), (before, counts())
    for phone, at in zip((a, b), said):
        assert "decrypt" not in phone.log()[at:], phone.log()[at:][-2000:]
    assert counts("srtp_bad") == bad


def hold_and_resume(kedge, a, b):
    for holder in (a, b):
        holder.hold()
        holder.resume()
        flows(kedge, a, b)


@pytest.mark.parametrize("here,there", (("sdes", "rtp"), ("rtp", "dtls"), ("dtls", "sdes"), ("sdes", "sdes")))
def test_hold_and_resume(world, here, there):
    """The same keys before and after: an index that began anew would be dropped as a replay."""
    kedge, a, b = call(world, here, there)
    hold_and_resume(kedge, a, b)
    end(kedge, a, b)


@pytest.mark.parametrize("here,there", (("sdes", "rtp"), ("rtp", "dtls"), ("sdes", "sdes")))
def test_a_killed_signalling_process_keeps_the_keys(world, here, there):
    kedge, a, b = call(world, here, there)
    before = [leg["secure"] for leg in kedge.calls()[0]["legs"]]
    kill(kedge, "signalling")
    assert until(kedge.calls, 5)
    flows(kedge, a, b)
    hold_and_resume(kedge, a, b)
    assert until(lambda: [leg["secure"] for leg in kedge.calls()[0]["legs"]] == before, 5), (before, kedge.calls())
    assert "was offered new keys" not in kedge.ctl("explain", kedge.calls()[0]["id"])
    end(kedge, a, b)


# linphone

LINPHONE = {"sdes": "srtp", "dtls": "dtls"}


@pytest.fixture(scope="module", params=LINPHONE)
def linphone(request, lab, long_stage):
    """With kedge and three baresips of its own: (kedge, linphone, its kind, baresips by kind)."""
    kind, host = request.param, lab.public_host("kedge-l" + request.param)
    names = ["lin", *(k for k in ENCRYPTION)]
    kedge = long_stage.kedge(host, name="kedge-l" + kind, accounts={n: "pw-" + n for n in names})
    where, here = lab.natted_host("l" + kind, nat="port-restricted"), lab.natted_host("m" + kind, nat="symmetric")
    phones = {}
    for i, (name, extra) in enumerate(ENCRYPTION.items()):
        phones[name] = long_stage.add(Phone(long_stage.folder / (kind + name), name, f"{host.addr}:5060", 300 + 100 * i, here,
                                            password="pw-" + name, domain="kedge.test", control=4440 + i, listen=f"0.0.0.0:{5060 + 10 * i}",
                                            account_extra=extra, config_extra=MODULES)).start()
    made = long_stage.add(Linphone(long_stage.folder / ("lin" + kind), "lin", f"{host.addr}:5060", 1000, where, password="pw-lin",
                                   domain="kedge.test", encryption=LINPHONE[kind])).start()
    made.registered()
    for phone in phones.values():
        phone.registered(15)
    return kedge, made, kind, phones


@pytest.mark.parametrize("there", ENCRYPTION)
@pytest.mark.parametrize("calls", (True, False), ids=("calls", "is-called"))
def test_linphone(linphone, there, calls):
    kedge, lin, kind, phones = linphone
    other = phones[there]
    lin.forget()
    other.forget()
    if calls:
        lin.call(other.user, timeout=15)
    else:
        other.call(lin.user, timeout=15)
    assert lin.hears(other.hz) and other.hears(lin.hz), kedge.calls()
    used = secure(kedge)
    known = {"rtp": "none", "sdes": "sdes", "dtls": "dtls"}
    each = [kind, known[there]] if calls else [known[there], kind]
    assert used == (["end-to-end"] * 2 if kind == there == "sdes" else each), used
    lin.hangup()
    kedge.no_calls()
