"""What all parts of the fuzzing share: generators beside the tests, and how the outcome of a command is judged."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from experiments.cli import call


@dataclass(frozen=True)
class Outcome:
    """What a command line came to.

    Attributes:
        status: exit status. out, err: what it printed.
    """

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """Why the command failed; empty if it did not."""
        lines = [line.removeprefix("usersim: ") for line in self.err.splitlines() if line.startswith("usersim: ")]
        return lines[-1] if self.status and lines else ""


@pytest.fixture
def outcome_of(capsys) -> Callable[[list[str]], Outcome]:
    """Runs a command line in this process; an exception that it lets through is one here too.

    Raises:
        AssertionError: it ended without a reason, with another status than 0, 1, 2, or with more than a sentence.
    """

    def run(arguments: list[str]) -> Outcome:
        capsys.readouterr()
        status = call(arguments)
        printed = capsys.readouterr()
        found = Outcome(status, printed.out, printed.err)
        told = f"{arguments}: status {status}: {printed.err[-2_000:]}"
        assert status in (0, 1, 2), told
        assert "Traceback (most recent call last)" not in printed.err, told
        if status and "verify" not in arguments:
            assert found.sentence, f"no reason given: {told}"
            assert sum(line.startswith("usersim: ") for line in printed.err.splitlines()) == 1, f"several reasons: {told}"
            assert len(found.sentence) < 3_000, told
            last = f"\n{printed.err}".rstrip("\n").rpartition("\nusersim: ")[2]
            assert "\n" not in last.strip(), f"more than a line: {told}"
        return found

    return run


@pytest.fixture(scope="session")
def beside() -> Callable[[str], ModuleType]:
    """Loads a module beside this one; tests are no package."""

    def load(name: str) -> ModuleType:
        found = f"fuzz_{name}"
        if found not in sys.modules:
            spec = importlib.util.spec_from_file_location(found, Path(__file__).with_name(f"{name}.py"))
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[found] = module
            spec.loader.exec_module(module)
        return sys.modules[found]

    return load
