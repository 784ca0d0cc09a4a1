"""The short form of `make soak`: a minute of calls after which nothing is left, and during which nothing grows."""
from bench.soak import SETTLE, Sample, soak, verdict
from bench.systems import KedgeSystem, Net

RATE, SECONDS = 60, SETTLE + 25


def test_a_minute_of_calls(tmp_path):
    net = Net("kg-short-soak")
    system = KedgeSystem(net, str(tmp_path / "kedge")).start()
    try:
        before = Sample(system)
        samples, after, failed = soak(system, net, str(tmp_path / "load"), RATE, SECONDS, every=4)
        assert len(samples) >= 4
        wrong = verdict(samples, after, before, failed, RATE * SECONDS)
        assert not wrong, wrong
    finally:
        system.stop()
        net.close()
