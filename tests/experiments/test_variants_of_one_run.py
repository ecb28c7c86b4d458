"""One experiment, run in every way that must not matter, gives one log to the byte. No language model.

The tests run everything at once and nothing; each way alone is tried with ``USERSIM_FUZZ`` set, as `make fuzz` does.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from simulator.seeds import Stream

ROOT = Path(__file__).resolve().parents[2]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

EXPERIMENT = """
name = "{name}"
seed = 7
rounds = 2
cohort_size = {cohort_size}
language_model = false
[dataset]
use = "environments.datasets.tables:InteractionTables"
path = "{data}"
interactions = "log.{kind}"
items = "items.{kind}"
users = "users.{kind}"
[population]
users = 24
synthetic = 3
[decision]
use = "agents.calibrated:CalibratedDecisions"
language_model = false
[recommender]
use = "environments.recommenders.ease:EASE"
exploration = "epsilon"
page_size = 5
max_pages = 4
"""

RUN = """
import sys
import experiments.analysis.report as report
report.write_report = lambda path: path  # figures have tests of their own
from experiments.cli import call
sys.exit(call(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Way:
    """A way to run the experiment.

    Attributes:
        environment: variables that are set. python: options of the interpreter. workers: processes. cohort_size, name: settings.
        rows: order of the rows in the tables named ("log", "items", "users"). kind: of the files. cache: which cache folder is used.
        before: seed of another run of the experiment that fills this cache first. elsewhere: whether it runs from another folder.
    """

    environment: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()
    workers: int = 1
    cohort_size: int = 8
    name: str = "one"
    rows: dict[str, str] = field(default_factory=dict)
    kind: str = "csv"
    cache: str = "own"
    before: int | None = None
    elsewhere: bool = False


def threads(count: int) -> dict[str, str]:
    return {name: str(count) for name in THREADS}


EVERYTHING = Way(
    environment={**threads(2), "PYTHONHASHSEED": "99", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "POLARS_MAX_THREADS": "1"},
    python=("-OO",),
    workers=2,
    cohort_size=3,
    name="other",
    rows={"log": "shuffled", "items": "shuffled", "users": "backwards"},
    kind="parquet",
    before=8,
    elsewhere=True,
)

WAYS = {
    "again, with a cold cache": Way(),
    "with a warm cache": Way(cache="shared"),
    "after a run with another seed": Way(before=8),
    "two workers": Way(workers=2),
    "three workers": Way(workers=3),
    "two threads": Way(environment=threads(2)),
    "four threads": Way(environment=threads(4)),
    "one thread of polars": Way(environment={"POLARS_MAX_THREADS": "1"}),
    "eight threads of polars": Way(environment={"POLARS_MAX_THREADS": "8"}),
    "hash seed 0": Way(environment={"PYTHONHASHSEED": "0"}),
    "hash seed 99": Way(environment={"PYTHONHASHSEED": "99"}),
    "another time zone": Way(environment={"TZ": "America/St_Johns"}),
    "a plain locale": Way(environment={"LC_ALL": "C"}),
    "without assertions and docstrings": Way(python=("-OO",)),
    "from another folder": Way(elsewhere=True),
    "cohorts of one": Way(cohort_size=1),
    "one cohort": Way(cohort_size=100),
    "interactions backwards": Way(rows={"log": "backwards"}),
    "interactions by item": Way(rows={"log": "by item"}),
    "items shuffled": Way(rows={"items": "shuffled"}),
    "people shuffled": Way(rows={"users": "shuffled"}),
    "Parquet for CSV": Way(kind="parquet"),
    "under another name": Way(name="other"),
}


def tables() -> dict[str, pl.DataFrame]:
    """Fifty people who chose some of seventy items, several at one time, with what they and the items are."""
    rng, odds = Stream(6).child("variants").generator(), [1.0 / (item + 3) for item in range(70)]
    rows = [
        (user, item, int(rng.integers(1, 6)), 1_600_000_000 + 86_400 * (place // 4) + 60 * int(rng.integers(0, 2)))
        for user in range(1, 51)
        for place, item in enumerate(rng.choice(70, 12, replace=False, p=[one / sum(odds) for one in odds]).tolist())
    ]
    genres = ["Crime|Drama", "Comedy", "Drama", "Western|Comedy"]
    return {
        "log": pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row"),
        "items": pl.DataFrame(
            {"item_id": range(70), "title": [f"Film {n} ({1950 + n})" for n in range(70)], "genres": [genres[n % 4] for n in range(70)]}
        ),
        "users": pl.DataFrame({"user_id": range(1, 51), "age": [18 + n for n in range(50)], "gender": ["F", "M"] * 25}),
    }


def write(folder: Path, way: Way) -> None:
    for name, table in tables().items():
        order = way.rows.get(name, "as made")
        rows = {
            "as made": table,
            "backwards": table.reverse(),
            "by item": table.sort(table.columns[1], table.columns[0]),
            "shuffled": table.sample(fraction=1.0, shuffle=True, seed=5),
        }[order]
        rows.write_csv(folder / f"{name}.csv") if way.kind == "csv" else rows.write_parquet(folder / f"{name}.parquet")


def log_of(folder: Path, way: Way, shared_cache: Path) -> str:
    """SHA-256 of the log of the experiment, run in this way."""
    folder.mkdir()
    write(folder, way)
    text = EXPERIMENT.format(name=way.name, cohort_size=way.cohort_size, data=folder, kind=way.kind)
    (folder / "one.toml").write_text(text)
    cache = shared_cache if way.cache == "shared" else folder / "cache"
    environment = {**os.environ, **threads(1), "PYTHONPATH": str(ROOT), "USERSIM_CACHE": str(cache), **way.environment}
    seeds = [7] if way.before is None else [way.before, 7]
    for seed in seeds:
        where = folder / f"run-{seed}"
        command = [sys.executable, *way.python, "-c", RUN, "run", str(folder / "one.toml"), "--output", str(where), "--seed", str(seed)]
        started = subprocess.run(
            [*command, "--workers", str(way.workers)],
            cwd=folder if way.elsewhere else ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert started.returncode == 0, started.stderr
    digest = hashlib.sha256()
    for name in ("impressions", "pages", "sessions", "memories", "texts", "people", "items", "real"):
        digest.update((folder / "run-7" / f"{name}.parquet").read_bytes())
    digest.update(json.dumps(json.loads((folder / "run-7" / "summary.json").read_text())["sha256"], sort_keys=True).encode())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, shared_cache):
    return log_of(tmp_path_factory.mktemp("variants") / "plain", Way(cache="shared"), shared_cache)


def test_a_run_in_every_other_way_at_once_gives_the_same_log(plain, tmp_path, shared_cache):
    assert log_of(tmp_path / "everything", EVERYTHING, shared_cache) == plain


@pytest.mark.skipif(not os.environ.get("USERSIM_FUZZ"), reason="every way alone is tried with USERSIM_FUZZ set (make fuzz)")
@pytest.mark.parametrize("name", WAYS)
def test_each_way_alone_gives_the_same_log(plain, tmp_path, shared_cache, name):
    assert log_of(tmp_path / "way", WAYS[name], shared_cache) == plain
