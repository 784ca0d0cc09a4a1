"""How long after the INVITE two baresips with ICE hear each other, behind pairs of NATs that allow a direct path: with kedge, and with
nothing but a registrar and a STUN server."""
import os
import threading
import time

from interop.ear import Ear
from interop.hosts import until
from interop.kedge import Kedge
from interop.pbx import Kamailio
from interop.phone import Phone
from natlab import stun
from natlab.lab import Lab

PAIRS = (("full-cone", "address-restricted"), ("address-restricted", "port-restricted"), ("port-restricted", "full-cone"),
         ("port-restricted", "port-restricted"))
WAIT_S = 11  # baresip gives a pair up after 2.3 s, one after the other


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else None


def one_call(caller, callee, out):
    """Adds the ms until RTP arrived, at the caller and at the callee; None: not at all."""
    ears = [Ear(p.host) for p in (caller, callee)]
    try:
        start = time.monotonic()
        caller.call(callee.user)
        until(lambda: all(ear.rtp(start) for ear in ears), WAIT_S, 0.05)
        out += [round((ear.rtp(start)[0].at - start) * 1000) if ear.rtp(start) else None for ear in ears]
    finally:
        mark = callee.mark()
        caller.hangup()
        callee.wait("CALL_CLOSED", mark)
        for ear in ears:
            ear.close()


def first_media(with_kedge, folder, rounds):
    """([ms], how many directions stayed silent); every pair `rounds` times, the pairs side by side."""
    out, started = [], []
    with Lab() as lab:
        server, servers = lab.public_host("server"), lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
        stun.serve(servers)
        names = {f"{side}{i}": nat for i, pair in enumerate(PAIRS) for side, nat in zip("ab", pair)}
        accounts = {name: "word-" + name for name in names}
        domain = "kedge.test"
        kind = Kedge(os.path.join(folder, "kedge"), server, accounts=accounts) if with_kedge else \
            Kamailio(os.path.join(folder, "kamailio"), accounts, server, domain=domain, nat=True)
        try:
            started.append(kind.start())
            phones = {}
            for i, (name, nat) in enumerate(names.items()):
                phones[name] = Phone(os.path.join(folder, name), name, f"{server.addr}:5060", 400 + 100 * i,
                                     lab.natted_host(name, nat=nat), password=accounts[name], domain=domain, ice=True,
                                     stun=servers.ip4 + ":3478")
                started.append(phones[name].start())
            for phone in phones.values():
                phone.registered(15)
            for _ in range(rounds):
                threads = [threading.Thread(target=one_call, args=(phones[f"a{i}"], phones[f"b{i}"], out))
                           for i in range(len(PAIRS))]
                for t in threads:
                    t.start()
                for t in threads:
                    t.join()
        finally:
            for part in reversed(started):
                part.stop()
    return [ms for ms in out if ms is not None], out.count(None)
