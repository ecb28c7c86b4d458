"""Memories are made where somebody reads them, and what is carried from round to round is what is held."""

import json

import polars as pl
import pytest

from experiments import build
from experiments.cli import call
from experiments.config import check

EXPERIMENT = """
name = "memories"
rounds = {rounds}
cohort_size = 8
[dataset]
path = "{data}"
[population]
users = 12
[memory]
use = "{memory}"
{options}
[decision]
use = "{decision}"
{decides}
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 4
max_pages = 3
"""
RETRIEVAL = "agents.memory:RetrievalMemory"
CALIBRATED = "agents.calibrated:CalibratedDecisions"


def run(folder, data, *, memory=RETRIEVAL, options="", decision, decides="", rounds=2):
    folder.mkdir()
    file = folder / "memories.toml"
    file.write_text(EXPERIMENT.format(data=data, memory=memory, options=options, decision=decision, decides=decides, rounds=rounds))
    assert call(["run", str(file), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("decision", "decides"),
    [("agents.controls:EvidenceDecisions", ""), (CALIBRATED, "language_model = false")],
    ids=["evidence", "calibrated without a model"],
)
def test_people_who_read_no_memories_have_none_and_do_the_same(tmp_path, film_files, decision, decides, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))

    def refuse(*arguments, **named):
        raise AssertionError("nobody reads this")

    monkeypatch.setattr("agents.user.records_of_page", refuse)
    monkeypatch.setattr("agents.memory_text.WordSpace.vector", refuse)
    kept = run(tmp_path / "kept", film_files, decision=decision, decides=decides)
    none = run(tmp_path / "none", film_files, decision=decision, decides=decides, memory="agents.memory:NoMemory")
    for table in ("impressions", "sessions", "pages"):
        assert (kept / f"{table}.parquet").read_bytes() == (none / f"{table}.parquet").read_bytes()
    assert pl.read_parquet(kept / "memories.parquet").is_empty()
    assert call(["plot", str(kept)]) == 0


def test_a_plug_in_that_says_nothing_of_memories_gets_them(tmp_path):
    plug_in = tmp_path / "own.py"
    plug_in.write_text(
        "from agents.controls import RandomDecisions\n\n\nclass Own(RandomDecisions):\n    reads_memories = True\n\n\n"
        "class Silent:\n    def fit(self): ...\n    def decide(self): ...\n    def close_sessions(self): ...\n"
        "    def save(self): ...\n    def load(self): ...\n"
    )

    def config(use, **options):
        return check({"name": "x", "dataset": {"use": "a:B"}, "decision": {"use": use, **options}, "recommender": {"use": "a:B"}}, "here")

    assert build.reads_memories(config(f"{plug_in}:Own"))
    assert build.reads_memories(config(f"{plug_in}:Silent"))
    assert build.reads_memories(config("agents.decisions:LanguageModelDecisions"))
    assert build.reads_memories(config(CALIBRATED))
    assert not build.reads_memories(config(CALIBRATED, language_model=False))
    assert not build.reads_memories(config("agents.controls:RandomDecisions"))


def test_every_record_is_in_the_log_once_although_only_held_ones_are_carried_on(tmp_path, film_files):
    capacity = 5
    options = f"capacity = {capacity}\nreflection = false"
    decision = "agents.decisions:LanguageModelDecisions"
    folder = run(tmp_path / "few", film_files, options=options, decision=decision, rounds=4)
    memories = pl.read_parquet(folder / "memories.parquet")
    held = memories.filter(pl.col("forgotten").is_null()).group_by("user").len()
    assert held["len"].max() == capacity
    numbers = memories.group_by("user", maintain_order=True).agg("record")["record"].to_list()
    assert all(own == list(range(len(own))) for own in numbers)
    assert max(len(own) for own in numbers) > 3 * capacity
    # what a round is given does not grow with the rounds
    per_round = [
        pl.concat([pl.read_parquet(file) for file in sorted(folder.glob(f"rounds/{number:03d}/*/memories.parquet"))]) for number in range(4)
    ]
    carried = [table.filter(pl.col("round") < number).group_by("user").len()["len"].max() for number, table in enumerate(per_round)]
    assert carried[0] is None
    assert max(count for count in carried[1:] if count) <= capacity
    assert json.loads((folder / "summary.json").read_text())["memories"] == memories.height
