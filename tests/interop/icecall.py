"""One call between two ICE phones, measured: who hears whom, after how long, and which way the packets go, as seen at the phones,
at kedge's ports and in what kedgectl says."""
import time

from .ear import Ear
from .hosts import until
from .icestun import REQUEST, SUCCESS, parse

SETTLE_S = 0.6     # after both are heard, before the way of the packets is looked at
LOOK_S = 0.4
COMES_S = 5        # within which both are sent packets, also by a phone that this machine lets wait
GIVES_UP_S = 2.2   # baresip, from its first check of a pair
TELLS_S = 4        # within which kedge notices that media does not pass it any more
COLUMNS = ("caller", "callee", "to caller", "ms", "to callee", "ms", "kedge says", "relayed packets/s")


def way(arrived, kedge):
    """"direct", "relay" or "none": from where the newest packets come."""
    if not arrived:
        return "none"
    return "relay" if arrived[-1].src in (kedge.host.ip4, kedge.host.ip6) else "direct"


def checks(ear, other, kind, outgoing):
    """Checks or their answers between this phone and the other's mapped address, of the component that was checked first."""
    found = [d for d in ear.datagrams if d.outgoing == outgoing and (d.dst if outgoing else d.src) == other.host.external
             and (parse(d.payload) or (None,))[0] == kind]
    return [d.at for d in found if (d.sport if outgoing else d.dport) == (found[0].sport if outgoing else found[0].dport)]


def out_of_step(ears, phones):
    """Whether one phone sent its last direct check before the other one sent its first, or waited too long for the answer, since this
    machine let one of them wait. baresip does not check back (RFC 8445 7.3.1.4) and its pair is dead then, whatever kedge does."""
    sent = [checks(ear, other, REQUEST, True) for ear, other in zip(ears, reversed(phones))]
    answered = [checks(ear, other, SUCCESS, False) for ear, other in zip(ears, reversed(phones))]
    if not all(sent):
        return False
    return any(mine[-1] < theirs[0] or bool(answers) and answers[0] - mine[0] > GIVES_UP_S
               for mine, theirs, answers in zip(sent, reversed(sent), answered))


def of_user(kedge, user):
    """The row of `calls --json` for the call that this user made."""
    return next((c for c in kedge.calls() if f"sip:{user}@" in c["from"]), None)


class Call:
    """Made by make(); attributes: heard, ms, ways (each for caller and callee), shown (the row of calls --json), relayed (RTP packets
    a second that reached kedge's ports from either), explained (words), out_of_step."""

    def __init__(self, kedge, caller, callee, caller_name=None, callee_name=None):
        self.kedge, self.phones = kedge, (caller, callee)
        self.names = (caller_name or caller.user, callee_name or callee.user)
        self.heard, self.ms, self.ways = [False, False], [None, None], ["none", "none"]
        self.hidden = [getattr(p, "tunnelled", False) for p in self.phones]
        self.shown, self.explained, self.relayed, self.out_of_step = None, "", 0, False

    def make(self, relay_ear, timeout=9, keep=False):
        """Calls, listens, looks, hangs up (unless keep). relay_ear: an Ear on kedge's host."""
        caller, callee = self.phones
        ears = [Ear(p.host) for p in self.phones]
        try:
            callee.forget()
            start = time.monotonic()
            caller.call(callee.user)
            until(lambda: all(ear.rtp(start) or hidden for ear, hidden in zip(ears, self.hidden)), timeout, 0.05)
            self.heard = [p.hears(q.hz, timeout=max(0.5, timeout - (time.monotonic() - start)))
                          for p, q in ((caller, callee), (callee, caller))]
            self.ms = [round((ear.rtp(start)[0].at - start) * 1000) if ear.rtp(start) else None for ear in ears]
            time.sleep(SETTLE_S)
            look = time.monotonic()
            until(lambda: all(len(ear.rtp(look)) > 5 or hidden for ear, hidden in zip(ears, self.hidden)), COMES_S, 0.05)
            time.sleep(LOOK_S)
            self.ways = [way(ear.rtp(look), self.kedge) for ear in ears]
            sources = {p.host.external for p in self.phones}
            self.relayed = round(sum(d.src in sources for d in relay_ear.rtp(look)) / (time.monotonic() - look))
            self.out_of_step = out_of_step(ears, self.phones)
            self.shown = until(self._shown, TELLS_S, 0.1) or of_user(self.kedge, caller.user)
            self.explained = self.kedge.ctl("explain", self.shown["id"]) if self.shown else ""
        finally:
            if not keep:
                self.end()
            for ear in ears:
                ear.close()
        return self

    def _shown(self):
        """The row, once it says of the relay what was seen there."""
        row = of_user(self.kedge, self.phones[0].user)
        return row and (row["path"] == "direct") == (self.relayed == 0) and row

    def end(self):
        self.phones[0].hangup()
        until(lambda: of_user(self.kedge, self.phones[0].user) is None, 5, 0.1)

    @property
    def path(self):
        return self.shown["path"] if self.shown else "no call"

    def row(self):
        def ms(i):
            return "-" if self.ms[i] is None else str(self.ms[i])
        def arrives(i):
            return ("tunnel" if self.hidden[i] else self.ways[i]) + ("" if self.heard[i] else " (silent)")
        return (*self.names, arrives(0), ms(0), arrives(1), ms(1), self.path, str(self.relayed))


def table(title, calls):
    rows = [COLUMNS, *(c.row() for c in calls)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(COLUMNS))]
    return "\n".join([title, *("  ".join(cell.ljust(w) for cell, w in zip(r, widths)).rstrip() for r in rows)]) + "\n"
