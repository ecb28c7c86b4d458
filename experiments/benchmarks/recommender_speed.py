"""How quick our recommenders are, beside the libraries that people use for them, in one run on MovieLens-1M.

    python -m experiments.benchmarks.recommender_speed DATA [--recbole PYTHON] [--threads 2] [--repeat 3] [--only MODEL ...]

DATA holds ``ml-1m`` (see `experiments.benchmarks.recommender_protocols`; the training part of ratings >= 3, random 8:1:1, is used).
Ours and theirs take turns, so that whatever else the machine does meets both, and the quickest of the repetitions counts. PYTHON is
that of an environment with RecBole (how to make one: `experiments.benchmarks.recbole_worker`); without it RecBole's rows are left out.

* **fit and lists**: fit, then the ten best unseen items for everybody. BPR: `implicit` with its own defaults but 64 factors; ours with its
  own, and NDCG@10 on the test part of both. ALS: equal settings, since ours is trained by `implicit`; the rest of the time is ours.
  CPU seconds are the sum over threads: on a busy machine they say more than the clock.
* **epoch**: the same batch size, dimension, layers, loss and negatives; so many steps are timed and multiplied by the steps of an
  epoch. SASRec: an example of RecBole predicts one item after a history, a window of ours all its items, so ours gets as many
  windows in a step as hold as many items to predict; a thousand people are enough for that, since a step does not depend on them.
* **serving**: 50 candidates for a cohort of 64 people, ready to answer; weights are those of a very short fit. torch is loaded, as in
  any process that has trained a neural recommender; of these models only EASE is slower without it (`ranking.sums_of_rows`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from environments.recommenders.ranking import interaction_matrix
from environments.recommenders.replies import fit_message
from environments.recommenders.training_config import EpochReport
from experiments.analysis import ranking_metrics as metrics
from experiments.benchmarks.recommender_protocols import K, Parts, parts_of
from experiments.benchmarks.recommenders import METHODS, USE
from experiments.ranked_lists import histories_of, ranked_lists
from simulator.execution import cores
from simulator.plugins import build
from simulator.protocols import Recommender
from simulator.seeds import Stream

Row = dict[str, Any]

COHORT, CANDIDATES = 64, 50
SASREC_LENGTH = 50
RECBOLE = {"embedding_size": 64, "hidden_size": 64, "n_layers": 2, "train_batch_size": 2_048, "reg_weight": 1e-4}
SHORT = {"epochs": 1, "batch_size": 2**18, "device": "cpu"}
SERVED: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (USE[name], {}) for name in ("Popularity", "ItemKNN", "EASE")},
    "UserKNN": ("user_knn:UserKNN", {}),
    "ALS": ("als:ALS", {"iterations": 1}),
    "BPR": (USE["BPR"], {"epochs": 1}),
    "Mult-VAE": ("mult_vae:MultVAE", {**SHORT, "batch_size": 1_024}),
    **{name: (USE[name], SHORT) for name in ("LightGCN", "NGCF")},
    "NeuMF": (USE["NeuMF"], {**SHORT, "negatives": 1}),
}
"""Model -> what serves, and how it is fitted here."""


def made(use: str, options: dict[str, Any]) -> Any:
    """A recommender of ours that is not fitted yet."""
    return build(f"environments.recommenders.{use}", options, where=use, methods=METHODS)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, seconds of the processor in all threads, and the result."""
    started, used = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - started, time.process_time() - used, result


def ndcg(ranked: np.ndarray, parts: Parts) -> float:
    """NDCG@10 on the test part of lists for all people of the training part, items of the validation part left out."""
    everybody = np.arange(len(ranked))
    hidden, relevant = histories_of(parts.valid, everybody), histories_of(parts.test, everybody)
    shown = metrics.padded([row[~np.isin(row, items)] for row, items in zip(ranked, hidden, strict=True)], K)
    hits, counts = metrics.hit_matrix(shown, relevant), np.array([len(items) for items in relevant])
    return float(metrics.mean(metrics.ndcg(hits, metrics.ones_below(counts), K)))


def fit_and_lists(parts: Parts, repeat: int, threads: int, only: Sequence[str]) -> list[Row]:
    """BPR and ALS beside `implicit`."""
    from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415 - an optional package
    from implicit.cpu.bpr import BayesianPersonalizedRanking  # noqa: PLC0415

    everybody = np.arange(int(parts.train["user"].max()) + 1)  # type: ignore[arg-type]
    histories = histories_of(parts.train, everybody)
    catalog = parts.catalog()
    als = {"factors": 64, "regularization": 30.0, "alpha": 1.0, "iterations": 15}

    def ours(use: str) -> Callable[[], tuple[float, np.ndarray]]:
        def work() -> tuple[float, np.ndarray]:
            with threadpool_limits(1, "blas"):
                recommender = made(use, {})
                seconds, *_ = timed(lambda: recommender.fit(parts.train, catalog, Stream(1)))
                return seconds, ranked_lists(recommender, everybody, histories, K, Stream(2))

        return work

    def theirs(model: Any, weight: float, options: dict[str, Any]) -> Callable[[], tuple[float, np.ndarray]]:
        def work() -> tuple[float, np.ndarray]:
            with threadpool_limits(1, "blas"):  # as implicit asks for
                fitted = model(**options, num_threads=threads, random_state=1)
                matrix = sparse.csr_matrix(interaction_matrix(parts.train, parts.n_items))
                seconds, *_ = timed(lambda: fitted.fit(matrix * np.float32(weight), show_progress=False))
                return seconds, np.asarray(fitted.recommend(everybody, matrix, N=K)[0])

        return work

    pairs = {
        "BPR": (ours(USE["BPR"]), theirs(BayesianPersonalizedRanking, 1.0, {"factors": 64})),
        "ALS": (ours("als:ALS"), theirs(AlternatingLeastSquares, 6.0, als)),
    }
    rows = []
    for model, both in ((model, both) for model, both in pairs.items() if model in only):
        runs = [[timed(work) for work in both] for _ in range(repeat)]
        row: Row = {"what": "fit and lists", "model": model, "beside": "implicit", "threads": threads}
        for whose, column in zip(("ours", "their"), zip(*runs, strict=True), strict=True):
            whole, used, (fit, lists) = min(column, key=lambda run: run[0])
            row |= {
                f"{whose}_seconds": whole,
                f"{whose}_fit_seconds": fit,
                f"{whose}_cpu_seconds": used,
                f"{whose}_ndcg": ndcg(lists, parts),
            }
        rows.append(row | {name: row[f"ours_{name[6:]}"] / row[f"their_{name[6:]}"] for name in ("ratio_seconds", "ratio_cpu_seconds")})
    return rows


def epochs(parts: Parts, python: Path, repeat: int, threads: int, steps: int, only: Sequence[str]) -> list[Row]:
    """LightGCN and SASRec beside RecBole."""
    catalog, n = parts.catalog(), RECBOLE["train_batch_size"]
    common = {"validation_share": 0.0, "device": "cpu", "threads": threads, "epochs": 2}
    windows = round(n / SASREC_LENGTH)
    in_order = parts.train.filter(pl.col("user") < 1_000).with_columns(timestamp=pl.int_range(pl.len(), dtype=pl.Int64).over("user"))
    models: dict[str, tuple[dict[str, Any], pl.DataFrame, dict[str, Any]]] = {
        "LightGCN": ({"layers": 2, "batch_size": n}, parts.train, {}),
        "SASRec": (
            {"batch_size": windows, "max_length": SASREC_LENGTH},
            in_order,
            {"n_heads": 2, "inner_size": 256, "loss_type": "CE", "MAX_ITEM_LIST_LENGTH": SASREC_LENGTH},
        ),
    }
    rows = []
    for model, (options, log, settings) in ((model, three) for model, three in models.items() if model in only):
        document = {**fit_message(log, catalog, Stream(1)), "model": model, "settings": {**RECBOLE, **settings}}
        document |= {"steps": steps, "epochs": 2, "threads": threads}
        own, other, theirs = [], [], {}
        for _ in range(repeat):
            own.append(_our_step(made(USE[model], {**options, **common}), log, catalog, steps))
            theirs = _ask_recbole(python, document)
            other.append(min(theirs["seconds"]) / theirs["steps"])
        row = {"what": "epoch", "model": model, "beside": "RecBole", "batch": n, "threads": threads}
        # as many steps for both, since a step learns from as many items
        seconds = [min(part) * parts.train.height / n for part in (own, other)]
        rows.append(row | {"ours_seconds": seconds[0], "their_seconds": seconds[1], "ratio_seconds": seconds[0] / seconds[1]})
    return rows


def _our_step(recommender: Any, log: pl.DataFrame, catalog: Any, steps: int) -> float:
    """Seconds of a training step, as the mean over the first ones of the quicker of two epochs."""
    times = []

    def progress(report: EpochReport) -> None:
        times.append(time.perf_counter())

    recommender.progress = progress
    with only_first_batches(steps, times):
        recommender.fit(log, catalog, Stream(1))
    return min(end - start for start, end in zip(times[::2], times[1::2], strict=True)) / steps


@contextlib.contextmanager
def only_first_batches(steps: int, times: list[float]) -> Iterator[None]:
    """Makes epochs end after so many steps, and notes when they start."""
    from environments.recommenders import training  # noqa: PLC0415 - it imports torch

    whole = training.shuffled

    def first(n: int, batch_size: int, device: Any, lengths: Any = None) -> Any:
        times.append(time.perf_counter())
        return whole(n, batch_size, device, lengths)[:steps]

    training.shuffled = first
    try:
        yield
    finally:
        training.shuffled = whole


def _ask_recbole(python: Path, document: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).with_name("recbole_steps.py")
    done = subprocess.run([str(python), str(script)], input=json.dumps(document), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"RecBole failed in {python}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def serving(parts: Parts, only: Sequence[str]) -> list[Row]:
    """Milliseconds for a cohort."""
    import torch  # noqa: F401, PLC0415 - see the module

    users = np.sort(Stream(1).generator().choice(int(parts.train["user"].max()) + 1, COHORT, replace=False)).astype(np.int32)  # type: ignore[arg-type]
    histories = histories_of(parts.train, users)
    rows = []
    for model in only:
        recommender: Recommender = made(*SERVED[model])
        recommender.fit(parts.train, parts.catalog(), Stream(1))
        recommender.recommend(users, histories, CANDIDATES, Stream(2))
        with threadpool_limits(1, "blas"):
            times = [timed(partial(recommender.recommend, users, histories, CANDIDATES, Stream(2)))[:2] for _ in range(31)]
        row = {"what": "serving", "model": model, "people": COHORT, "candidates": CANDIDATES}
        clock, used = zip(*times, strict=True)
        row |= {"milliseconds": 1e3 * min(clock), "median_milliseconds": 1e3 * statistics.median(clock)}
        rows.append(row | {"cpu_milliseconds": 1e3 * min(used)})
    return rows


def main(arguments: Sequence[str]) -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="recommender_speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds ml-1m, or packed data of recommenders --pack")
    parser.add_argument("--recbole", type=Path, metavar="PYTHON", help="of an environment with RecBole")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--what", nargs="+", choices=("fit", "epoch", "serving"), default=["fit", "epoch", "serving"])
    parser.add_argument("--only", nargs="+", choices=[*SERVED, "SASRec"], default=[*SERVED, "SASRec"], metavar="MODEL")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/recommender_speed.json"))
    given = parser.parse_args(arguments)
    parts = parts_of("ml-1m-811", given.data)
    rows = []
    if "fit" in given.what:
        rows += fit_and_lists(parts, given.repeat, given.threads, given.only)
    if "epoch" in given.what and given.recbole is not None:
        rows += epochs(parts, given.recbole, given.repeat, given.threads, given.steps, given.only)
    if "serving" in given.what:
        rows += serving(parts, [model for model in SERVED if model in given.only])
    rows = [{name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()} for row in rows]
    old = json.loads(given.output.read_text(encoding="utf-8"))["rows"] if given.output.is_file() else []
    new = {(row["what"], row["model"]) for row in rows}
    rows = sorted([*(row for row in old if (row["what"], row["model"]) not in new), *rows], key=lambda row: (row["what"], row["model"]))
    data = {"interactions": parts.train.height, "people": parts.train["user"].n_unique(), "items": parts.n_items}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"data": data, "cores": cores(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
