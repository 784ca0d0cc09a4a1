"""A kedge that gets too little of a processor, and then enough again: it must not go on serving calls that were given up long ago."""
import os
import signal
import time

from bench.soak import sipp
from bench.systems import FRONT, KedgeSystem, Net
from interop.hosts import stop, until

RATE = 150          # calls a second
STEP_S = 0.5        # of which it runs for
RUN_S = 0.01        # this: 2 %


def signalling(system):
    for pid in system.pids():
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            if b"signalling" in f.read():
                return pid
    raise AssertionError("no signalling process")


def starved_until(pid, condition, timeout):
    """What the condition said last. It must ask nothing of the process."""
    end, met = time.monotonic() + timeout, False
    try:
        while time.monotonic() < end and not met:
            for _ in range(4):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(STEP_S - RUN_S)
                os.kill(pid, signal.SIGCONT)
                time.sleep(RUN_S)
            met = condition()
    finally:
        os.kill(pid, signal.SIGCONT)
    return met


def test_calls_are_refused_while_kedge_is_starved_and_served_right_after(tmp_path):
    net = Net(f"kl{os.getpid()}-0-overload")  # a name as the laboratory gives it, which removes what was left behind
    system = KedgeSystem(net, str(tmp_path / "kedge")).start()
    callee = caller = None
    try:
        callee = sipp(net.callee, str(tmp_path), "call-uas.xml", 5090)
        caller = sipp(net.caller, str(tmp_path), "call-uac.xml", 5070, f"{FRONT}:5060", "-r", str(RATE), "-d", "500", "-l",
                      str(RATE * 60), "-recv_timeout", "8000")
        stats = system.kedge.stats
        assert until(lambda: stats()["calls_answered"] > RATE, 15), "calls flow"
        refused = stats()["calls_refused"]
        assert starved_until(signalling(system), lambda: "overloaded: for a second all" in system.kedge.log(), 60)
        assert until(lambda: stats()["calls_refused"] > refused, 10), "callers are told, instead of being kept waiting"

        def serves(seconds=2):
            """All that came within so long was answered, and nothing refused."""
            before = stats()
            time.sleep(seconds)
            after = stats()
            came = after["calls_started"] - before["calls_started"]
            return (came > RATE * seconds / 2 and after["calls_refused"] == before["calls_refused"]
                    and after["calls_answered"] - before["calls_answered"] > 0.9 * came)

        assert until(serves, 20), "it is itself again long before the 32 s for which answers that nobody takes are repeated"
    finally:
        for process in (caller, callee):
            if process:
                stop(process)
        system.stop()
        net.close()
