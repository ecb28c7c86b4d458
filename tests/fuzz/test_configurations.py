"""An experiment file of any settings runs to its end or is refused with a sentence; no traceback, and none that never ends."""

import os
import shutil
import signal
import traceback
from collections import Counter

import polars as pl
import pytest

CASES = int(os.environ.get("USERSIM_FUZZ_CONFIGURATIONS", "16"))
"""How many seeds are tried; `make fuzz` tries more."""
FIRST = int(os.environ.get("USERSIM_FUZZ_FIRST", "0"))
"""The first of the seeds."""
LONGEST = 60
"""Seconds after which a command is taken for one that never ends."""


class NeverEndsError(BaseException):
    """A command took too long; nothing that it does may catch this."""


def give_up(*_: object) -> None:
    raise NeverEndsError


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """A cache of its own, a folder of its own, and no figures."""
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")
    before = signal.signal(signal.SIGALRM, give_up)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def tables(tmp_path, film_world):
    """The films as tables of one's own."""
    folder = tmp_path / "tables"
    folder.mkdir()
    log, items = film_world.interactions, film_world.catalog.items
    log.rename({"user": "user_id", "item": "item_id"}).with_columns(review=pl.lit("a good film")).write_csv(folder / "log.csv")
    items.select("item_id", "title", "year", pl.col("genres").list.join("|")).with_columns(
        item_id=pl.col("item_id").cast(int) - 100
    ).write_csv(folder / "items.csv")
    return folder


def test_a_configuration_runs_or_is_refused_with_a_sentence(tmp_path, film_files, tables, outcome_of, beside, monkeypatch):
    configurations = beside("configurations")
    failures, ended = [], Counter()
    for seed in range(FIRST, FIRST + CASES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        case = configurations.make(seed, folder, film_files, tables)
        output = folder / "out"
        more = {"run": ["--workers", "1"], "study": ["--workers", "1"], "evaluate-recommenders": []}[case.command]
        try:
            signal.alarm(LONGEST)
            outcome = outcome_of(
                [case.command, str(case.file), *(["--output", str(output), *more] if case.command != "evaluate-recommenders" else [])]
            )
            ended[case.command, outcome.status] += 1
            assert outcome.status in (0, 2), outcome.err
            if case.command == "run" and outcome.status == 0:
                assert outcome_of(["verify", str(output)]).status == 0
            elif case.command == "run":
                assert not output.exists(), f"a refused run left something: {outcome.err}"
        except (Exception, NeverEndsError):
            failures.append(f"seed {seed} ({case.command}; {', '.join(case.changes)}): {traceback.format_exc(limit=-5)}")
        finally:
            signal.alarm(0)
        shutil.rmtree(folder)
    monkeypatch.undo()
    print(dict(ended))  # noqa: T201 - shown where the test fails, and with -s
    assert not failures, f"{len(failures)} of {CASES} {dict(ended)}:\n" + "\n".join(failures)
    assert CASES < 10 or (ended["run", 0] and ended["run", 2])  # neither all right nor all wrong
