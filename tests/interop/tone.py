"""Tones: every phone plays a frequency of its own; is it in what the other one recorded?"""
import array
import math
import os
import wave

RATE = 8000       # Hz, 16 bit, mono throughout
BLOCK = 400       # samples a decision: 50 ms; tones are multiples of 20 Hz so that blocks hold whole periods
LEVEL = 0.5       # of a block's power must be in the tone
QUIET = 100 ** 2  # mean square below which a block is silence


def write(path, hz, seconds=180):
    """A WAV file with a steady tone."""
    second = array.array("h", [int(8000 * math.sin(2 * math.pi * hz * i / RATE)) for i in range(RATE)])
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(RATE)
        w.writeframes(second.tobytes() * seconds)
    return path


def samples(path, start_ms=0):
    """The samples of a WAV file that may still be written (its header's length is not trusted)."""
    with open(path, "rb") as f:
        f.seek(44 + start_ms * RATE // 1000 * 2)
        data = f.read()
    out = array.array("h")
    out.frombytes(data[: len(data) // 2 * 2])
    return out


def length_ms(path):
    return max(0, os.path.getsize(path) - 44) // 2 * 1000 // RATE if os.path.exists(path) else 0


def _share(block, hz):
    """Goertzel: share of the block's power at hz, 0..1."""
    power = sum(x * x for x in block)
    if power < QUIET * len(block):
        return 0.0
    k = 2 * math.cos(2 * math.pi * hz / RATE)
    s1 = s2 = 0.0
    for x in block:
        s1, s2 = x + k * s1 - s2, s1
    return (s1 * s1 + s2 * s2 - k * s1 * s2) * 2 / (len(block) * power)


def heard_ms(path, hz, start_ms=0):
    """The milliseconds, not necessarily in one piece, at which the tone dominates."""
    if not path or not os.path.exists(path):
        return 0
    return in_samples_ms(samples(path, start_ms), hz)


def in_samples_ms(data, hz):
    """The same of samples in memory."""
    blocks = len(data) // BLOCK
    return sum(_share(data[i * BLOCK:(i + 1) * BLOCK], hz) > LEVEL for i in range(blocks)) * BLOCK * 1000 // RATE


def longest_ms(path, hz, start_ms=0):
    """The longest piece without a gap."""
    data = samples(path, start_ms)
    best = run = 0
    for i in range(len(data) // BLOCK):
        run = run + 1 if _share(data[i * BLOCK:(i + 1) * BLOCK], hz) > LEVEL else 0
        best = max(best, run)
    return best * BLOCK * 1000 // RATE
