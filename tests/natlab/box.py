"""One natbox process, driven over its standard input and output."""
import fcntl
import glob
import json
import os
import subprocess
import threading

from .netns import stop

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Where `make` puts programs; the variables are those that tests/run and the Makefile set.
BUILD = os.path.join(ROOT, os.environ.get("KEDGE_BUILD") or os.environ.get("BUILD", "build"))

# The old names for people; RFC 4787 terms for the box.
NATS = {
    "full-cone": {"mapping": "eim", "filtering": "eif"},
    "address-restricted": {"mapping": "eim", "filtering": "adf"},
    "port-restricted": {"mapping": "eim", "filtering": "apdf"},
    "symmetric": {"mapping": "apdm", "filtering": "apdf"},
}


def program():
    """The path of natbox, built now where it is missing or older than its sources."""
    path = os.environ.get("NATBOX")
    if path:
        return path
    path = os.path.join(BUILD, "tests", "natbox")
    sources = [os.path.join(HERE, "natbox.c"), *glob.glob(os.path.join(HERE, "*.h"))]
    newest = max(os.path.getmtime(s) for s in sources)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path) or os.path.getmtime(path) < newest:
            subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-g", "-o", path + ".new", sources[0]],
                           check=True)
            os.rename(path + ".new", path)
    return path


def settings(nat, flags):
    """{"mapping": "eim", ...} for a NAT by name and keyword flags; the flags win."""
    if nat not in NATS:
        raise ValueError(f"no NAT is called {nat}; there are {', '.join(NATS)}")
    out = dict(NATS[nat])
    for name, value in flags.items():
        out[name.replace("_", "-")] = int(value) if isinstance(value, bool) else value
    return out


class Box:
    """outside, inside: "NAMESPACE/DEVICE[/ADDRESS,...]". log: a file that gets a line for every packet, or None."""

    def __init__(self, name, nat, external, outside, inside, log=None, **flags):
        self.name, self.nat, self.external = name, nat, external
        self.outside_ns, self.outside_device = outside.split("/")[:2]
        self.log = log
        argv = [program(), "outside=" + outside, *("inside=" + i for i in inside)]
        if external:
            argv.append("address=" + external)
        if log:
            argv.append("log=" + log)
        argv += [f"{k}={v}" for k, v in settings(nat, flags).items()]
        self._lock = threading.Lock()
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        if self.process.stdout.readline() != "ready\n":
            said = self.process.stderr.read()
            stop(self.process)
            raise RuntimeError(said.strip() or "natbox did not start")

    def _ask(self, line):
        with self._lock:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            return self.process.stdout.readline().strip()

    def _do(self, line):
        answer = self._ask(line)
        if answer != "ok":
            raise ValueError(f"{self.name}: {answer or 'the box is gone'}")

    def stats(self):
        """Counters: verdicts, lost, and flows (proto, inside, external, remote, up, down, filtered ...)."""
        return json.loads(self._ask("stats"))

    def flows(self, proto=None, remote=None):
        """The flows of a protocol, of a remote address ("203.0.113.10" or "203.0.113.10:5060")."""
        return [f for f in self.stats()["flows"] if (not proto or f["proto"] == proto) and
                (not remote or f["remote"] == remote or f["remote"].rpartition(":")[0] == remote)]

    def set(self, **flags):
        for name, value in flags.items():
            value = int(value) if isinstance(value, bool) else value
            self._do(f"set {name.replace('_', '-')}={value}")

    def flush(self):
        """Forgets every mapping, as a router that restarts."""
        self._do("flush")

    def advance(self, seconds):
        """Lets mappings and filters grow older without waiting."""
        self._do(f"advance {seconds}")

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            pass
        stop(self.process)
