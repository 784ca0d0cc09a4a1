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
