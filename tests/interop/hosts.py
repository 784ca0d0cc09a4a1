"""Where a test's processes and sockets live. A host of the NAT laboratory (natlab/lab.py) can be used wherever a Host
is asked for."""
import socket
import subprocess
import threading
import time

from natlab.netns import inside, patient, stop, until, until_told  # noqa: F401  (for the neighbours)


class Stopwatch:
    """Seconds since it was made. real: for lower bounds. fair: without those in which this machine stood still, for upper ones."""

    def __init__(self):
        self._real, self._fair = time.monotonic(), patient()

    @property
    def real(self):
        return time.monotonic() - self._real

    @property
    def fair(self):
        return patient() - self._fair


class Host:
    """ns None: the root namespace, on loopback. addr: where its SIP peers reach it."""

    def __init__(self, ns=None, addr="127.0.0.1"):
        self.ns = ns
        self.addr = addr

    def popen(self, argv, **kw):
        return subprocess.Popen((["ip", "netns", "exec", self.ns] if self.ns else []) + list(argv), **kw)


def socket_in(host, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
    """A socket that belongs to the host's namespace; usable from any thread of this process."""
    def make():
        return socket.socket(family, kind, protocol)
    return inside(host.ns, make) if getattr(host, "ns", None) else make()


def background(function, *args, **kw):
    """Runs it in a thread; the result is taken by calling what this returns. Its .done() says whether it is there."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args, **kw)))
    thread.start()

    def take():
        thread.join()
        return result[0] if result else None
    take.done = lambda: not thread.is_alive()
    return take
