"""Where a test's processes and sockets live: the root namespace, or a network namespace by name.

A host of the NAT laboratory (tests/natlab/lab.py) can be used wherever a Host is asked for.
"""
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def _enter(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns " + path)
    finally:
        os.close(fd)


def socket_in(host, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
    """A socket that belongs to the host's namespace; usable from any thread of this process."""
    ns = getattr(host, "ns", None)
    if not ns:
        return socket.socket(family, kind, protocol)
    made = []

    def make():  # in a thread of its own: setns changes the calling thread only
        _enter("/run/netns/" + ns)
        made.append(socket.socket(family, kind, protocol))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Host:
    """ns None: the root namespace, on loopback. addr: where its SIP peers reach it."""

    def __init__(self, ns=None, addr="127.0.0.1"):
        self.ns = ns
        self.addr = addr

    def popen(self, argv, **kw):
        return subprocess.Popen((["ip", "netns", "exec", self.ns] if self.ns else []) + list(argv), **kw)


class Wire:
    """Two or more namespaces on one bridge-less Ethernet segment (veth pairs into a bridge in a hub namespace):
    a LAN for tests that need real addresses but no NAT. Deletes everything it made."""

    def __init__(self, prefix, count, v6=False):
        self.names = []
        self.hosts = []
        hub = prefix + "-hub"
        self._ip("netns", "add", hub)
        self.names.append(hub)
        self._ip("-n", hub, "link", "add", "name", "br0", "type", "bridge")
        self._ip("-n", hub, "link", "set", "br0", "up")
        for i in range(1, count + 1):
            ns = f"{prefix}-{i}"
            self._ip("netns", "add", ns)
            self.names.append(ns)
            self._ip("-n", ns, "link", "set", "lo", "up")
            self._ip("-n", hub, "link", "add", "name", f"p{i}", "type", "veth", "peer", "name", "eth0", "netns", ns)
            self._ip("-n", hub, "link", "set", f"p{i}", "master", "br0", "up")
            self._ip("-n", ns, "addr", "add", f"10.77.0.{i}/24", "dev", "eth0")
            self._ip("-n", ns, "link", "set", "eth0", "up")
            self._ip("-n", ns, "addr", "add", f"fd77::{i}/64", "dev", "eth0", "nodad")
            host = Host(ns, f"10.77.0.{i}")
            host.addr6 = f"fd77::{i}"
            self.hosts.append(host)

    @staticmethod
    def _ip(*args):
        subprocess.run(["ip", *args], check=True)

    def close(self):
        for ns in reversed(self.names):
            subprocess.run(["ip", "netns", "del", ns], check=False)
        self.names = []


def stop(process, sig=signal.SIGTERM, timeout=5):
    """Ends one process that we started; SIGKILL if it does not go. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def until(what, timeout=5.0, step=0.02):
    """Waits until what() is true and returns its value; None after the timeout."""
    end = time.monotonic() + timeout
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            return None
        time.sleep(step)
