"""Calls at a steady rate for long: what kedge holds must not grow. Used by `make soak` and, for a minute, by the tests.

The first SETTLE seconds fill what is in use all the time: transactions live for 32 s (RFC 3261 timers D, H, J), ports rest, pools
grow. From then on memory, descriptors, dialogs and transactions are looked at; after the last call all of it must be gone.
"""
import os
import subprocess
import time

from interop.hosts import stop, until

from .systems import FRONT, memory_kb

HERE = os.path.dirname(os.path.abspath(__file__))
SETTLE = 45     # seconds from the first call until nothing more has to grow
HOLD_MS = 500   # talk
GAUGES = ("calls", "dialogs", "transactions_in", "transactions_out")


def descriptors(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


class Sample:
    def __init__(self, system):
        stats = system.kedge.stats()
        pids = system.pids()
        self.at = time.monotonic()
        self.memory_kb, self.descriptors = memory_kb(pids), descriptors(pids)
        for name in GAUGES:
            setattr(self, name, stats[name])
        self.failed = stats["calls_failed"] + stats["calls_refused"]

    def __str__(self):
        return (f"{self.memory_kb / 1024:.1f} MB, {self.descriptors} descriptors, {self.calls} calls, {self.dialogs} dialogs, "
                f"{self.transactions_in} + {self.transactions_out} transactions")


def sipp(host, folder, scenario, port, *options):
    argv = ["/usr/bin/sipp", "-sf", os.path.join(HERE, scenario), "-i", host.addr, "-p", str(port), "-nostdin", "-aa",
            "-buff_size", "8388608", *options]
    with open(os.path.join(folder, scenario + ".log"), "wb") as log:
        return host.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)


def soak(system, net, folder, rate, seconds, every=10, say=print):
    """Runs the load. Returns (samples from SETTLE on, the one after all is over, calls that SIPp counts as failed)."""
    os.makedirs(folder, exist_ok=True)
    total = rate * seconds
    callee = sipp(net.callee, folder, "call-uas.xml", 5090)
    time.sleep(0.5)
    caller = sipp(net.caller, folder, "call-uac.xml", 5070, f"{FRONT}:5060", "-r", str(rate), "-m", str(total), "-l",
                  str(rate * 6), "-d", str(HOLD_MS), "-recv_timeout", "8000", "-trace_stat", "-stf",
                  os.path.join(folder, "stat.csv"), "-fd", "5")
    samples, began = [], time.monotonic()
    try:
        while caller.poll() is None and time.monotonic() - began < seconds + 60:
            time.sleep(every)
            sample = Sample(system)
            kept = time.monotonic() - began >= SETTLE and caller.poll() is None
            if kept:
                samples.append(sample)
            say(f"  {time.monotonic() - began:6.0f} s: {sample}{'' if kept else ' (not counted)'}", flush=True)
    finally:
        stop(caller)
        stop(callee)
    with open(os.path.join(folder, "stat.csv"), encoding="latin-1") as f:
        names, *_, last = [line.strip().split(";") for line in f if line.strip()]
    counts = dict(zip(names, last))
    failed = int(counts["FailedCall(C)"]) + total - int(counts["SuccessfulCall(C)"]) - int(counts["FailedCall(C)"])
    empty = ("calls", "dialogs", "transactions_in", "transactions_out")
    until(lambda: all(system.kedge.stats()[name] == 0 for name in empty), 60, 1)
    return samples, Sample(system), failed


def growth(samples, name):
    """How much all of the last third is above all of the first one, as a part of it: single moments jump, of a machine that does other
    things too."""
    third = max(1, len(samples) // 3)
    first, last = max(getattr(s, name) for s in samples[:third]), min(getattr(s, name) for s in samples[-third:])
    return (last - first) / max(first, 1)


# What grows no more than this is flat. Memory: what one call set-up more or less takes is within it.
FLAT = {"memory_kb": 0.05, "descriptors": 0.25, "calls": 0.25, "dialogs": 0.25, "transactions_in": 0.1, "transactions_out": 0.1}


def verdict(samples, after, before, failed, total):
    """Sentences about what is wrong; none: all is flat."""
    wrong = [f"{name} grew by {100 * growth(samples, name):.1f} %" for name, most in FLAT.items() if growth(samples, name) > most]
    wrong += [f"{getattr(after, name)} {name} were left when all was over" for name in GAUGES if getattr(after, name)]
    if after.descriptors > before.descriptors:
        wrong.append(f"{after.descriptors - before.descriptors} descriptors were left")
    if failed > total / 1000:
        wrong.append(f"{failed} of {total} calls failed")
    return wrong

