"""kedge under test: a configuration, store and sockets of its own, in any host of the laboratory."""
import json
import os
import re
import signal
import subprocess

from .hosts import Host, stop, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("KEDGE_BUILD", "build"))  # relative to the root, or absolute
PATIENCE_S = 60  # for what takes a moment: a machine with other work to do may stand still for many seconds
SANITIZERS = ("AddressSanitizer", "LeakSanitizer", "UndefinedBehavior", "runtime error:", "MemorySanitizer")


def yaml(value, indent=0):
    """The small part of YAML that configurations need."""
    if isinstance(value, dict):
        return "".join("\n" + " " * indent + f"{k}: {yaml(v, indent + 2)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return "[ " + ", ".join(json.dumps(v) for v in value) + " ]"
    return str(value) if isinstance(value, (int, float)) else json.dumps(value)


def children_of(pid):
    """{pid: command line} of the living children."""
    out = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                state, ppid = f.read().rpartition(")")[2].split()[:2]
            if int(ppid) == pid and state != "Z":
                with open(f"/proc/{name}/cmdline", encoding="latin-1") as f:
                    out[int(name)] = f.read().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            pass
    return out


class Kedge:
    """config: rows over the defaults below, as nested dicts. accounts: {name: password} of the embedded registrar."""

    def __init__(self, folder, host=None, config=None, accounts=None):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.host = host or Host()
        self.control = os.path.join(self.folder, "control.sock")
        self.config_file = os.path.join(self.folder, "kedge.yaml")
        self.accounts = accounts or {}
        self.process = None
        self.port = 5060
        rows = {"sip": {"listen": [f"udp:{self.host.addr}:5060", f"tcp:{self.host.addr}:5060"],
                        "domain": "kedge.test"},
                "media": {"address": self.host.addr, "ports": "30000-39999"},
                "store": os.path.join(self.folder, "kedge.db"), "control": "unix:" + self.control}
        for section, values in (config or {}).items():
            rows[section] = {**rows.get(section, {}), **values} if isinstance(values, dict) else values
        self.rows = rows
        self.write_config()

    def write_config(self, rows=None):
        with open(self.config_file, "w", encoding="utf-8") as f:
            f.write(yaml(rows or self.rows).lstrip("\n") + "\n")

    # Life

    def spawn(self, *options):
        """Starts the process without waiting; for tests of failing starts use run()."""
        self._log = open(os.path.join(self.folder, "log"), "ab")
        self.process = self.host.popen([os.path.join(BUILD, "kedge"), *options, "-c", self.config_file],
                                       stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
                                       cwd=self.folder)
        return self

    def start(self):
        self.spawn()
        self.ready()
        for name, password in self.accounts.items():
            self.add_account(name, password)
        return self

    def ready(self, timeout=PATIENCE_S):
        """Waits until the control socket answers."""
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"kedge ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            return os.path.exists(self.control) and self.try_ctl("version").returncode == 0

        assert until(answers, timeout, 0.05), f"kedge is not ready:\n{self.log()[-3000:]}"

    def run(self, *options, timeout=PATIENCE_S):
        """Runs kedge to its end, for starts that must fail. Returns the completed process with its text."""
        process = self.host.popen([os.path.join(BUILD, "kedge"), *options, "-c", self.config_file],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  cwd=self.folder)
        try:
            text, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()
            text, _ = process.communicate(timeout=10)
            raise AssertionError(f"kedge went on running:\n{text}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, text)

    def stop(self, timeout=PATIENCE_S):
        """SIGTERM; it must end cleanly and have said nothing that a sanitizer says."""
        if not self.process:
            return
        status = stop(self.process, timeout=timeout)
        self.process = None
        self._log.close()
        text = self.log()
        for word in SANITIZERS:
            assert word not in text, f"sanitizer report in {self.folder}/log:\n" + text[text.index(word) - 200:][:3000]
        assert status == 0, f"kedge ended with {status} after SIGTERM; log {self.folder}/log"

    def kill(self):
        """All three processes at once, as a power cut does."""
        for pid in (self.supervisor, self.role("signalling"), self.role("media")):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has noticed that its parent is gone
        self.process.wait(60)

    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    # Processes

    @property
    def supervisor(self):
        """The process itself, also where `ip netns exec` stands before it (which execs, so they are one)."""
        return self.process.pid

    def role(self, role):
        """The pid of the child with this role ("signalling", "media"), or None."""
        for pid, line in children_of(self.supervisor).items():
            if f"--role={role}" in line:
                return pid
        return None

    # kedgectl

    def try_ctl(self, *args, text=None, timeout=PATIENCE_S):
        return subprocess.run([os.path.join(BUILD, "kedgectl"), "-s", self.control, *args], input=text, text=True,
                              capture_output=True, timeout=timeout, check=False)

    def ctl(self, *args, text=None):
        done = self.try_ctl(*args, text=text)
        assert done.returncode == 0, f"kedgectl {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *args):
        return json.loads(self.ctl(*args, "--json"))

    def add_account(self, name, password):
        self.ctl("account", "add", name, "--password-stdin", text=password + "\n")

    def calls(self):
        return self.json("calls")

    def registrations(self):
        return self.json("registrations")

    def stats(self):
        return self.json("stats")

    def registered(self, count, timeout=20):
        assert until(lambda: len(self.registrations()) >= count, timeout, 0.1), \
            f"{len(self.registrations())} of {count} registered; log {self.folder}/log"

    def stored(self, timeout=15):
        """Everything that kill -9 must not take is in the store."""
        assert until(lambda: self.stats()["store_waiting"] == 0, timeout, 0.05), self.stats()

    def no_calls(self, timeout=20):
        assert until(lambda: not self.calls(), timeout, 0.1), f"calls left over: {self.calls()}"

    def alive(self):
        """All three processes live and the control socket answers."""
        assert self.process.poll() is None, f"the supervisor is gone; log {self.folder}/log"
        assert self.role("signalling") and self.role("media"), children_of(self.supervisor)
        self.ctl("version")

    def deaths(self):
        """How often a child ended and was started again, as the supervisor reported it."""
        return len(re.findall(r"process \(\d+\) .*starting it again", self.log()))
