"""A damaged run gives the figures of the undamaged one, or says what is damaged; never a traceback, never other figures in silence."""

import hashlib
import json
import os
import shutil
import traceback
from pathlib import Path

import pytest

from simulator import run_directory
from simulator.files import sha256

CASES = int(os.environ.get("USERSIM_FUZZ_RUNS", "10"))
"""How many seeds are tried; `make fuzz` tries more."""
FIRST = int(os.environ.get("USERSIM_FUZZ_FIRST", "0"))
"""The first of the seeds."""

EXPERIMENT = """
name = "folders"
seed = {seed}
rounds = 2
cohort_size = 4
{language_model}
[dataset]
path = {data}
[population]
users = 7
synthetic = 1
{taste}
[decision]
use = "agents.{decision}"
[recommender]
use = "environments.recommenders.{recommender}"
exploration = "epsilon"
page_size = 4
max_pages = 2
[interventions.sale]
kind = "price"
text = "half price"
response = 0.5
items = {{share = 0.3}}
"""
KINDS = {
    "people without a language model": {"language_model": "language_model = false", "taste": "", "decision": "controls:EvidenceDecisions"},
    "a language model that writes": {
        "language_model": "",
        "taste": 'taste = true\n[language_model]\nuse = "simulator.llm.scripted:ScriptedLanguageModel"',
        "decision": "decisions:LanguageModelDecisions",
    },
}
TABLES = ("impressions", "pages", "sessions", "memories", "texts", "people", "items", "real", "treatments")
READERS = {
    "plot": ["plot", "RUN", "--figure", "popularity"],
    "plot people": ["plot", "RUN", "--figure", "timeline"],
    "csv": ["export", "RUN", "--format", "csv", "--include-real", "--output", "OUT"],
    "recbole": ["export", "RUN", "--format", "recbole", "--output", "OUT"],
    "huggingface": ["export", "RUN", "--format", "huggingface", "--output", "OUT"],
    "compare": ["compare", "OTHER", "RUN", "--output", "OUT"],
    "evaluate": ["evaluate", "RUN", "--policy", "POLICY", "--force", "--json"],
}


@pytest.fixture(autouse=True)
def fewer_figures(monkeypatch):
    """What is drawn is drawn from the tables, and takes most of the time."""
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")
    monkeypatch.setattr("experiments.analysis.comparison_figures.make_figures", lambda *_: {})


@pytest.fixture(scope="module")
def runs(tmp_path_factory, film_files):
    """Finished runs of each kind: the one that is damaged, one with another seed, one with another recommender."""
    from experiments.cli import call

    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")
        for kind, settings in KINDS.items():
            folder = tmp_path_factory.mktemp("runs")
            for name, seed, recommender in (("run", 7, "item_knn:ItemKNN"), ("spare", 8, "item_knn:ItemKNN"), ("other", 7, "ease:EASE")):
                file = folder / f"{name}.toml"
                file.write_text(
                    EXPERIMENT.format(data=json.dumps(str(film_files)), seed=seed, recommender=recommender, **settings), encoding="utf-8"
                )
                assert call(["run", str(file), "--output", str(folder / name), "--workers", "1", "-q"]) == 0
            made[kind] = folder
    return made


class Folder:
    """A copy of a run beside its spare, and what readers say of it."""

    def __init__(self, source: Path, place: Path, outcome_of) -> None:
        shutil.copytree(source, place)
        self.place, self.run, self._outcome_of = place, place / "run", outcome_of

    def read(self, reader: str):
        """The outcome of a command, and what it made or printed, without the folder's own name."""
        out = self.place / "out"
        words = {"RUN": str(self.run), "OUT": str(out), "OTHER": str(self.place / "other"), "POLICY": str(self.place / "other.toml")}
        run_directory._warn_once.cache_clear()
        outcome = self._outcome_of([words.get(word, word) for word in READERS[reader]])
        made = hashlib.sha256()
        figures = [self.run / "figures"] if reader.startswith("plot") else []
        for folder in (out, *figures):
            for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
                if file.is_file():
                    made.update(file.name.encode() + file.read_bytes().replace(str(self.place).encode(), b"PLACE"))
            shutil.rmtree(folder, ignore_errors=True)
        made.update(outcome.out.replace(str(self.place), "PLACE").encode() if reader == "evaluate" else b"")
        return outcome, made.hexdigest()

    def resumed(self):
        """The outcome of continuing the run."""
        run_directory._warn_once.cache_clear()
        return self._outcome_of(["resume", str(self.run), "--workers", "1"])

    def sums(self) -> dict[str, str]:
        """SHA-256 of the tables."""
        return {name: sha256(self.run / f"{name}.parquet") for name in TABLES}


def named(case, told: str) -> bool:
    """Whether a text names something that was damaged, or the folder that it lies in."""
    return any(Path(place).name in told or f"/{place}" in told or f"/{Path(place).parent}" in told for place, _ in case.touched) or (
        "rounds/" in told and any(place.startswith("rounds") for place, _ in case.touched)
    )


def test_a_damaged_run_is_read_as_it_was_or_refused_with_a_sentence(tmp_path, runs, outcome_of, beside, caplog):
    run_folders = beside("run_folders")
    right: dict[tuple[str, str], str] = {}
    tables: dict[str, dict[str, str]] = {}
    failures, good = [], 0
    for seed in range(FIRST, FIRST + CASES):
        kind = list(KINDS)[seed % len(KINDS)]
        reader = list(READERS)[seed // len(KINDS) % len(READERS)]
        if kind not in tables:
            tables[kind] = Folder(runs[kind], tmp_path / "whole", outcome_of).sums()
            shutil.rmtree(tmp_path / "whole")
        if (kind, reader) not in right:
            outcome, right[kind, reader] = Folder(runs[kind], tmp_path / "whole", outcome_of).read(reader)
            assert outcome.status == 0, outcome.err
            shutil.rmtree(tmp_path / "whole")
        told = ""
        try:
            folder = Folder(runs[kind], tmp_path / str(seed), outcome_of)
            case = run_folders.damage(seed, folder.run, folder.place / "spare")
            told = f"{kind}, {reader}, {case.told}"
            caplog.clear()
            outcome_of(["verify", str(folder.run)])
            outcome, made = folder.read(reader)
            assert outcome.status in (0, 2), outcome.err
            if outcome.status:
                assert case.state != "finished" or named(case, outcome.sentence), f"another file is named: {outcome.sentence}"
            elif made != right[kind, reader]:
                warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
                assert any(named(case, text) for text in warned), f"other figures, and no word: {warned}"
            good += outcome.status == 0
            outcome = folder.resumed()
            assert outcome.status in (0, 2), outcome.err
            if outcome.status:
                assert named(case, outcome.sentence), f"resume names another file: {outcome.sentence}"
            else:
                differing = [name for name, digest in folder.sums().items() if digest != tables[kind][name]]
                assert not differing, f"resume made other tables: {differing}: {outcome.err[-600:]}"
        except Exception:
            failures.append(f"seed {seed} ({told}): {traceback.format_exc(limit=-4)}")
        shutil.rmtree(tmp_path / str(seed), ignore_errors=True)
    assert not failures, f"{len(failures)} of {CASES}:\n" + "\n".join(failures)
    assert good or CASES < 10  # most damage is mended or does no harm
