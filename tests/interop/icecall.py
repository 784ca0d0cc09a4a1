"""One call between two ICE phones, measured: who hears whom, after how long, and which way the packets go, as seen at the phones,
at kedge's ports and in what kedgectl says."""
import time

from .ear import Ear
from .hosts import until

SETTLE_S = 0.6     # after both are heard, before the way of the packets is looked at
LOOK_S = 0.4
TELLS_S = 4        # within which kedge notices that media does not pass it any more
COLUMNS = ("caller", "callee", "to caller", "ms", "to callee", "ms", "kedge says", "relayed packets/s")


def way(arrived, kedge):
    """"direct", "relay" or "none": from where the newest packets come."""
    if not arrived:
        return "none"
    return "relay" if arrived[-1].src in (kedge.host.ip4, kedge.host.ip6) else "direct"


def of_user(kedge, user):
    """The row of `calls --json` for the call that this user made."""
    return next((c for c in kedge.calls() if f"sip:{user}@" in c["from"]), None)


class Call:
    """Made by make(); attributes: heard, ms, ways (each for caller and callee), shown (the row of calls --json), relayed (RTP packets
    a second that reached kedge's ports from either), explained (words)."""

    def __init__(self, kedge, caller, callee, caller_name=None, callee_name=None):
        self.kedge, self.phones = kedge, (caller, callee)
        self.names = (caller_name or caller.user, callee_name or callee.user)
        self.heard, self.ms, self.ways = [False, False], [None, None], ["none", "none"]
        self.hidden = [getattr(p, "tunnelled", False) for p in self.phones]
        self.shown, self.explained, self.relayed = None, "", 0

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
            time.sleep(LOOK_S)
            self.ways = [way(ear.rtp(look), self.kedge) for ear in ears]
            sources = {p.host.external for p in self.phones}
            self.relayed = round(sum(d.src in sources for d in relay_ear.rtp(look)) / LOOK_S)
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
