"""ICE agents without SIP: libnice (nice_peer) and kedge's own (ice_peer), which speak the lines of peer_io.h."""
import os
import subprocess
import threading
import time

from .hosts import Host, stop, until, until_told
from .kedge import BUILD


class Peer:
    """program: "nice_peer" or "ice_peer"; the options are theirs: controlling=1, components=2, lite=1, stun=..."""

    def __init__(self, program, host=None, **options):
        self.name = program
        self.host = host or Host()
        if program == "ice_peer":
            options.setdefault("address", self.host.addr)
        argv = [os.path.join(BUILD, "tests", program), *(f"{k}={v}" for k, v in options.items())]
        self.components = range(1, options.get("components", 1) + 1)
        self.lite = bool(options.get("lite"))
        self.lines = []   # (monotonic seconds, text), as they came
        self._changed = threading.Condition()
        self.process = self.host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, pipe):
        try:
            for line in pipe:
                with self._changed:
                    self.lines.append((time.monotonic(), line.rstrip("\n")))
                    self._changed.notify_all()
        except ValueError:
            pass  # closed

    def stop(self):
        stop(self.process)

    def mark(self):
        return len(self.lines)

    def said(self, start, since=0):
        """The lines that begin so, after mark `since`, without that beginning."""
        return [text[len(start):].strip() for _, text in self.lines[since:] if text.startswith(start)]

    def wait(self, start, since=0, timeout=20):
        """The first line that begins so; its rest."""
        with self._changed:
            found = until_told(self._changed, lambda: self.said(start, since), timeout)
        assert found, f"{self.name}: no '{start}' within {timeout} s; said {[t for _, t in self.lines[since:]]}"
        return found[0]

    def at(self, start, since=0):
        """When the first line that begins so came, or None."""
        return next((at for at, text in self.lines[since:] if text.startswith(start)), None)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def description(self, since=0, timeout=20):
        """(credentials, candidates) as it says them once gathering is done."""
        self.wait("end", since, timeout)
        return self.said("local ", since)[-1], self.said("candidate ", since)

    def learn(self, description, lite=False, end=True):
        credentials, candidates = description
        self.tell(f"remote {credentials}" + (" lite" if lite else ""))
        for candidate in candidates:
            self.tell("candidate " + candidate)
        if end:
            self.tell("end")

    def selected(self, component=1):
        """(local, remote) of the pair it told last, or None."""
        found = self.said(f"selected {component} ")
        return tuple(found[-1].split()) if found else None

    def restart(self):
        """Its new description."""
        since = self.mark()
        self.tell("restart")
        return self.description(since)


def exchange(a, b):
    """Each learns what the other one says of itself."""
    of_a, of_b = a.description(), b.description()
    a.learn(of_b, b.lite)
    b.learn(of_a, a.lite)


def passes(source, sink, component=1, timeout=10):
    """Whether a datagram sent over the pair that `source` selected reaches `sink`, as media would. It is sent again until then:
    the other one may still be about to find the pair valid."""
    word = f"m{time.monotonic_ns()}"

    def came():
        source.tell(f"send {component} {word}")
        return until(lambda: word in " ".join(sink.said(f"data {component} ")), 0.2)
    return bool(until(came, timeout, 0.05))


def connected(a, b, timeout=10):
    """Media passes both ways on every component."""
    return all(passes(x, y, c, timeout) for c in a.components for x, y in ((a, b), (b, a)))
