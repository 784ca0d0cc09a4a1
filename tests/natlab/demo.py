#!/usr/bin/python3
"""tests/natlab/demo.py A B: two phones behind two NATs call each other through kedge; who sent what where, and did they
hear each other? A and B: full-cone, address-restricted, port-restricted, symmetric, linux, sip-alg, public.
Needs root, and build/kedge (`make demo A=... B=...` builds it)."""
import os
import secrets
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from natlab.box import BUILD, NATS  # noqa: E402

os.environ.setdefault("KEDGE_BUILD", BUILD)
from interop.kedge import Kedge  # noqa: E402
from interop.phone import Phone  # noqa: E402
from natlab import picture  # noqa: E402
from natlab.lab import Lab  # noqa: E402

TALK_MS = 2000
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


def show(middle, left, right, packets):
    addresses = middle.ip4, left.host.external, right.host.external
    say(f"\nWhat came to kedge and left it:\n\n{left.name:{picture.WIDTH}} kedge {right.name:>{picture.WIDTH}}")
    say(picture.ladder(packets, *addresses) or "  nothing")
    say("\nThe way of the call, with packets counted between phone and NAT:\n")
    say(picture.network_map(packets, middle.ip4, left, right))
    say("\nWhat crossed the NATs:\n")
    say(picture.crossing(left) + "\n" + picture.crossing(right))


def main(a, b):
    with Lab() as lab:
        middle = lab.public_host("kedge")
        hosts = {"alice": build(lab, "alice", a), "bob": build(lab, "bob", b)}
        passwords = {name: secrets.token_hex(8) for name in hosts}
        kedge = Kedge(os.path.join(lab.folder, "kedge-files"), host=middle, accounts=passwords)
        phones = {name: Phone(os.path.join(lab.folder, name + "-files"), name, f"{middle.ip4}:5060", TONES[name],
                              host=hosts[name], password=passwords[name]) for name in hosts}
        sides = [picture.Side(name, kind, hosts[name], hosts[name].box) for name, kind in (("alice", a), ("bob", b))]
        capture = middle.capture("udp or tcp")
        say(f"alice ({a}) {hosts['alice'].addr} -- {hosts['alice'].external}  calls  "
            f"bob ({b}) {hosts['bob'].addr} -- {hosts['bob'].external}  through kedge at {middle.ip4}")
        try:
            kedge.start()
            heard, account = talk(phones, kedge)
        except AssertionError as problem:
            show(middle, *sides, capture.packets())
            for name, log in (("kedge", kedge.log()), *((n, p.log()) for n, p in phones.items() if p.process)):
                say(f"\n{name} wrote last:")
                say("\n".join("  " + line for line in log.splitlines() if "ctrl_tcp" not in line)[-1500:])
            say(f"\nThe call failed: {problem}")
            return 1
        finally:
            for phone in phones.values():
                phone.stop()
        show(middle, *sides, capture.stop())
        kedge.stop()
        say("\nkedge says:\n  " + account.strip().replace("\n", "\n  ") + "\n")
        for name in hosts:
            say(f"{name} {'heard' if heard[name] else 'did NOT hear'} {OTHER[name]} ({TONES[OTHER[name]]} Hz).")
        return 0 if all(heard.values()) else 1


KINDS = [*NATS, "linux", "sip-alg", "public"]

if __name__ == "__main__":
    wrong = [kind for kind in sys.argv[1:] if kind not in KINDS]
    if len(sys.argv) != 3 or wrong:
        print(*(f"There is no network of the kind \"{kind}\"." for kind in wrong), file=sys.stderr)
        print(f"Usage: make demo A=KIND B=KIND, each one of {', '.join(KINDS)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
