#!/usr/bin/python3
"""tests/natlab/demo.py A B [ICE]: two phones behind two NATs call each other through kedge; who sent what where, and did
they hear each other? A and B: full-cone, address-restricted, port-restricted, symmetric, linux, sip-alg, public. ICE: yes, no,
caller or callee: who does ICE, with a STUN server on the Internet. Needs root, and build/kedge (`make demo A=... B=...` builds it)."""
import os
import secrets
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from natlab.box import BUILD, NATS  # noqa: E402

os.environ.setdefault("KEDGE_BUILD", BUILD)
from interop.kedge import Kedge  # noqa: E402
from interop.phone import Phone  # noqa: E402
from natlab import picture, stun  # noqa: E402
from natlab.lab import Lab  # noqa: E402

TALK_MS = 2000
ICE = {"no": (), "yes": ("alice", "bob"), "caller": ("alice",), "callee": ("bob",)}
TONES = {"alice": 440, "bob": 1000}
OTHER = {"alice": "bob", "bob": "alice"}


def build(lab, name, kind):
    if kind in NATS:
        return lab.natted_host(name, nat=kind)
    return {"linux": lab.linux_masquerade_host, "sip-alg": lab.linux_sip_alg_host, "public": lab.public_host}[kind](name)


def say(text=""):
    print(text, flush=True)


def talk(phones, kedge):
    """The call itself. Returns who heard the other, and kedge's account of it."""
    for phone in phones.values():
        phone.start().registered()
        say(f"{phone.user} is registered.")
    phones["alice"].call("bob")
    say("The call is up; each plays a tone of its own.")
    heard = {name: phone.hears(TONES[OTHER[name]], ms=TALK_MS) for name, phone in phones.items()}
    calls = kedge.calls()
    account = kedge.ctl("explain", str(calls[0]["id"])) if calls else "kedge knows of no call."
    phones["alice"].hangup()
    kedge.no_calls()
    return heard, account


def show(middle, left, right, packets, ears):
    addresses = middle.ip4, left.host.external, right.host.external
    say(f"\nWhat came to kedge and left it:\n\n{left.name:{picture.WIDTH}} kedge {right.name:>{picture.WIDTH}}")
    say(picture.ladder(packets, *addresses) or "  nothing")
    say("\nThe way of the call, with packets counted between phone and NAT:\n")
    say(picture.network_map(packets, middle.ip4, left, right))
    direct = picture.direct_map(left, right, ears, middle.ip4)
    if direct:
        say(f"\nWhat went past kedge, from phone to phone:\n\n{direct}")
    say("\nWhat crossed the NATs:\n")
    say(picture.crossing(left) + "\n" + picture.crossing(right))


def main(a, b, ice="no"):
    with Lab() as lab:
        middle = lab.public_host("kedge")
        hosts = {"alice": build(lab, "alice", a), "bob": build(lab, "bob", b)}
        server = lab.public_host("stun") if ICE[ice] else None
        if server:
            stun.serve(server)
        passwords = {name: secrets.token_hex(8) for name in hosts}
        kedge = Kedge(os.path.join(lab.folder, "kedge-files"), host=middle, accounts=passwords)
        phones = {name: Phone(os.path.join(lab.folder, name + "-files"), name, f"{middle.ip4}:5060", TONES[name],
                              host=hosts[name], password=passwords[name], ice=name in ICE[ice],
                              stun=f"{server.ip4}:3478" if server else None) for name in hosts}
        sides = [picture.Side(name, kind, hosts[name], hosts[name].box) for name, kind in (("alice", a), ("bob", b))]
        capture = middle.capture("udp or tcp")
        ears = [host.capture("udp") for host in hosts.values()]
        say(f"alice ({a}) {hosts['alice'].addr} -- {hosts['alice'].external}  calls  "
            f"bob ({b}) {hosts['bob'].addr} -- {hosts['bob'].external}  through kedge at {middle.ip4}")
        if server:
            say(f"{' and '.join(ICE[ice])} {'do' if len(ICE[ice]) == 2 else 'does'} ICE, with the STUN server {server.ip4}.")
        try:
            kedge.start()
            heard, account = talk(phones, kedge)
        except AssertionError as problem:
            show(middle, *sides, capture.packets(), [ear.packets() for ear in ears])
            for name, log in (("kedge", kedge.log()), *((n, p.log()) for n, p in phones.items() if p.process)):
                say(f"\n{name} wrote last:")
                say("\n".join("  " + line for line in log.splitlines() if "ctrl_tcp" not in line)[-1500:])
            say(f"\nThe call failed: {problem}")
            return 1
        finally:
            for phone in phones.values():
                phone.stop()
        show(middle, *sides, capture.stop(), [ear.stop() for ear in ears])
        kedge.stop()
        say("\nkedge says:\n  " + account.strip().replace("\n", "\n  ") + "\n")
        for name in hosts:
            say(f"{name} {'heard' if heard[name] else 'did NOT hear'} {OTHER[name]} ({TONES[OTHER[name]]} Hz).")
        return 0 if all(heard.values()) else 1


KINDS = [*NATS, "linux", "sip-alg", "public"]

if __name__ == "__main__":
    kinds, ice = sys.argv[1:3], sys.argv[3:4] or ["no"]
    wrong = [f"There is no network of the kind \"{kind}\"." for kind in kinds if kind not in KINDS]
    wrong += [f"ICE is one of {', '.join(ICE)}, not \"{ice[0]}\"."] if ice[0] not in ICE else []
    if len(kinds) != 2 or len(sys.argv) > 4 or wrong:
        print(*wrong, f"Usage: make demo A=KIND B=KIND [ICE=WHO], each KIND one of {', '.join(KINDS)}; WHO one of {', '.join(ICE)}",
              sep="\n", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*kinds, *ice))
