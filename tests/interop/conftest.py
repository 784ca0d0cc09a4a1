"""Fixtures of the interop tests. Every test file runs in a pytest of its own (tests/run)."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # tests/: interop.*, natlab.*

from interop.agent import Agent, Rtp  # noqa: E402
from interop.kedge import Kedge  # noqa: E402
from natlab.lab import Lab  # noqa: E402


@pytest.fixture(scope="module")
def lab():
    assert os.geteuid() == 0, "the interop tests make network namespaces: run them as root"
    with Lab() as made:
        yield made


class Stage:
    """What a test puts on: everything is stopped in reverse order, also when the test failed."""

    def __init__(self, folder):
        self.folder = folder
        self.parts = []

    def add(self, part):
        self.parts.append(part)
        return part

    def kedge(self, host=None, name="kedge", start=True, **kw):
        made = self.add(Kedge(self.folder / name, host, **kw))
        return made.start() if start else made

    def agent(self, *args, **kw):
        return self.add(Agent(*args, **kw))

    def rtp(self, *args, **kw):
        return self.add(Rtp(*args, **kw))

    def close(self):
        errors = []
        for part in reversed(self.parts):
            try:
                (part.stop if hasattr(part, "stop") else part.close)()
            except AssertionError as error:
                errors.append(error)
        self.parts = []
        if errors:
            raise errors[0]


def standing(stage):
    """How things stand, for who reads of a failure and has nothing else: kedge's last words and what came to each agent."""
    lines = [f"in {stage.folder}:"]
    for part in stage.parts:
        if isinstance(part, Kedge) and os.path.exists(os.path.join(part.folder, "log")):
            lines += ["  kedge: " + line for line in part.log().splitlines()[-8:]]
        elif isinstance(part, Agent):
            lines.append(f"  to {part.user}: " + ", ".join(str(m.status or m.method) + " " + m.get("cseq") for m in part.log[-12:]))
    return "\n".join(lines)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        stages = [item.funcargs[name] for name in ("stage", "long_stage") if name in item.funcargs]
        report.sections.append(("how things stood", "\n".join(standing(s) for s in stages if s.parts)))


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def long_stage(tmp_path_factory):
    """The same for a whole file."""
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()
