"""However many threads linear algebra may use, what is fitted is the same to the last bit."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FIT = """
import contextlib, hashlib, sys
import numpy as np
import polars as pl
if sys.argv[1] == "free":
    import simulator.one_thread
    simulator.one_thread.one_thread = contextlib.contextmanager(lambda: iter([None]))
from agents.actions import actions_for
from agents.profiles import fit_profiles
from environments.datasets.assembly import items_from_ids, users_from_ids
from experiments import build
from experiments.config import check
from experiments.round_recommender import fitted
from simulator.dataset import Catalog, Dataset
from simulator.protocols import DecisionContext
from simulator.seeds import Stream

rng = Stream(1).generator()
odds = 1.0 / (np.arange(900) + 5.0)
rows = [
    (user, int(item), float(rng.integers(1, 6)), 1_600_000_000 + 86_400 * user + 600 * place)
    for user in range(150)
    for place, item in enumerate(rng.choice(900, 25, replace=False, p=odds / odds.sum()))
]
schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
items, users = (make(pl.Series([str(n) for n in range(count)])) for make, count in ((items_from_ids, 900), (users_from_ids, 150)))
world = Dataset("made up", Catalog(items), users, pl.DataFrame(rows, schema=schema, orient="row"), (1.0, 5.0))
config = check(
    {
        "name": "t",
        "language_model": False,
        "dataset": {"use": "environments.datasets.tables:InteractionTables", "interactions": "x.csv"},
        "decision": {"use": "agents.calibrated:CalibratedDecisions", "language_model": False, "weights": "fit"},
        "recommender": {"use": "environments.recommenders.ease:EASE"},
    },
    "here",
)
made = build.decisions(config, DecisionContext(world.catalog, actions_for(world), None, world.rating_scale, 5, 5, 7))
made.fit(world, fit_profiles(world), Stream(7).child("decisions"))
shown = fitted(config, world, 0).recommend(np.arange(20, dtype=np.int32), [np.arange(5, dtype=np.int32)] * 20, 10, Stream(2))
digest = hashlib.sha256()
rated = made._raters.model
assert rated.report["slope"] != 0.0  # factors were fitted
ratings = [rated.report["slope"], *rated.expected(np.arange(150), np.arange(150))]
for values in (made.calibration.evidence.weights, ratings, made._behaviour.linear.weights, made._intercept):
    digest.update(np.asarray(values).tobytes())
for slate in shown:
    digest.update(slate.items.tobytes() + slate.scores.tobytes())
print(digest.hexdigest())
"""


def fitted_with(threads: int, how: str = "limited") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    ended = subprocess.run(
        [sys.executable, "-c", FIT, how], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_fits_on_one_thread_and_on_two_are_equal_to_the_bit():
    assert fitted_with(1) == fitted_with(2)
