"""Our recommenders under published protocols, beside the published numbers.

    python -m experiments.benchmarks.recommenders DATA [--protocol NAME ...] [--only MODEL ...] [--output FILE]

DATA holds the data sets (`experiments.benchmarks.recommender_protocols`). Each model that is run replaces its own rows of the
file and leaves all others, so quick models can be run on one machine and slow ones on another. A row is ``{"dataset", "protocol",
"model", "metric", "published", "ours", "tolerance", "seconds"}``: `published` is null where nobody published a number for that
protocol; `tolerance` says how near ours must be: "0.001" on either side, or "-5 %" at most below; `seconds` is fit and test.
``--seeds N`` fits N times and tells the mean, with `by_seed` beside it.

On a machine with a GPU and without the data sets: pack the divided data here, run there with a time limit for each model and several
models at once, and bring the file back. It needs numpy, scipy, torch, polars and pydantic there, and nothing else::

    python -m experiments.benchmarks.recommenders DATA --pack FOLDER
    python -m experiments.benchmarks.recommenders FOLDER --only NeuMF NGCF LightGCN SASRec GRU4Rec BERT4Rec \
        --device cuda --seconds 150 --jobs 4 --output FILE

A training that is stopped by its time limit leaves its best weights so far. ``--try FILE`` runs the models of a JSON file instead of
those with published numbers, as ``experiments/benchmarks/bert4rec_trials.json``: a list of {"protocol", "model", "options"} and, if there
are several of a model, "label". ``--readme README.md`` writes the table of the results into the README and runs nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from environments.recommenders.epochs import Enough
from environments.recommenders.training_config import EpochReport
from experiments.benchmarks.recommender_protocols import PROTOCOLS, Protocol, measure, pack, parts_of
from simulator.errors import UsersimError
from simulator.files import write_atomically
from simulator.plugins import build, load
from simulator.seeds import Stream

Row = dict[str, Any]

BEGIN, END = "<!-- recommenders: written by experiments.benchmarks.recommenders --readme -->", "<!-- end of recommenders -->"
METHODS = ("fit", "recommend", "save", "load")

USE = {
    "Popularity": "popularity:Popularity",
    "ItemKNN": "item_knn:ItemKNN",
    "EASE": "ease:EASE",
    "BPR": "bpr:BPR",
    "NeuMF": "neumf:NeuMF",
    "NGCF": "ngcf:NGCF",
    "LightGCN": "lightgcn:LightGCN",
    "GRU4Rec": "gru4rec:GRU4Rec",
    "SASRec": "sasrec:SASRec",
    "BERT4Rec": "bert4rec:BERT4Rec",
}
"""Model -> module and class in environments.recommenders."""


@dataclass(frozen=True)
class Target:
    """One model under one protocol.

    Attributes:
        protocol, model: which.
        published: metric -> published number; empty where there is none.
        tolerance: how near ours must be, see the module.
        options: of the model; everything else is its default.
        label: what the table calls it, if not by the model's name.
    """

    protocol: str
    model: str
    published: dict[str, float] = field(default_factory=dict)
    tolerance: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Limits:
    """How training is done here.

    Attributes:
        device: "cpu", "cuda" or "auto". epochs: at most, or None for the models' own number. seconds: of training, or None.
        seeds: fits whose mean is told.
    """

    device: str = "auto"
    epochs: int | None = None
    seconds: float | None = None
    seeds: int = 1


def _two(first: str, second: str, numbers: dict[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    return {model: {first: one, second: two} for model, (one, two) in numbers.items()}


MICROSOFT = {
    model: dict(zip(("nDCG@10", "P@10", "R@10"), numbers, strict=True))
    for model, numbers in {"BPR": (0.4450, 0.3887, 0.2166), "LightGCN": (0.4164, 0.3592, 0.1960), "NeuMF": (0.3686, 0.3269, 0.1632)}.items()
}
NCF = _two("HR@10", "NDCG@10", {"ItemKNN": (0.6596, 0.3900), "NeuMF": (0.7120, 0.4369)})
ML_1M = _two(
    "Recall@10", "NDCG@10", {"BPR": (0.1776, 0.2401), "NeuMF": (0.1651, 0.2271), "NGCF": (0.1814, 0.2508), "LightGCN": (0.1861, 0.2538)}
)
LASTFM = _two("Recall@10", "NDCG@10", {"BPR": (0.1761, 0.1674), "LightGCN": (0.2064, 0.1972)})
STEPS: dict[tuple[str, str], dict[str, Any]] = {
    ("ml-1m-811", "LightGCN"): {"batch_size": 8_192, "learning_rate": 0.004},
    ("ml-1m-811", "NGCF"): {"batch_size": 8_192, "learning_rate": 0.002, "layers": 1, "l2": 0.01},
    ("lastfm-811", "LightGCN"): {"patience": 20},
}
"""Options of those that propagate over a graph in every step: fewer and longer steps on a large one, more patience on a small one. The
layers of NGCF are normalised and cannot overfit, the factors beside them can: a ridge on these helps, and one layer learns quickest."""
TARGETS = [
    Target("random-75", "Popularity", {"MAP@10": 0.0550, "nDCG@10": 0.2529, "P@10": 0.2246, "R@10": 0.1117}, "0.001"),
    Target("ncf-loo", "Popularity", {"HR@10": 0.4531, "NDCG@10": 0.2542}, "0.002"),
    *(
        Target(protocol, model, numbers, tolerance, STEPS.get((protocol, model), {}))
        for protocol, table, tolerance in (
            ("stratified-75", MICROSOFT, "-5 %"),
            ("ncf-loo", NCF, "-3 %"),
            ("ml-1m-811", ML_1M, "-5 %"),
            ("lastfm-811", LASTFM, "-5 %"),
        )
        for model, numbers in table.items()
    ),
    *(Target("loo", model) for model in ("Popularity", "ItemKNN", "EASE", "BPR", "GRU4Rec", "SASRec", "BERT4Rec")),
    Target("loo", "SASRec", options={"loss": "gbce"}, label="SASRec, gBCE of 256 negatives"),
    Target("loo", "SASRec", options={"loss": "gbce", "negatives": 1, "calibration": 0.0}, label="SASRec, BCE of 1 negative"),
    *(Target(protocol, "EASE") for protocol in ("random-75", "stratified-75", "ncf-loo", "ml-1m-811")),
]


def run(target: Target, data: Path, limits: Limits = Limits()) -> list[Row]:
    """Fits and tests one model, and returns its rows.

    A model that holds back a part of its log to decide when to stop gets the protocol's validation part with the log, and
    holds back as much; the others are fitted on the training part alone.
    """
    protocol = PROTOCOLS[target.protocol]
    parts = parts_of(target.protocol, data)
    use = f"environments.recommenders.{USE[target.model]}"
    options = dict(target.options)
    config = getattr(load(use), "Config", None)
    known = config.model_fields if config is not None else {}
    if "device" in known:
        options.setdefault("device", limits.device)
    if "epochs" in known and limits.epochs is not None:
        options["epochs"] = limits.epochs
    validates = "validation_share" in known and known["validation_share"].default > 0
    log = parts.train
    if validates and parts.valid.height:
        log = pl.concat((parts.train, parts.valid)).sort("user", maintain_order=True)
        options.setdefault("validation_share", parts.valid.height / log.height)
    started = time.perf_counter()

    def progress(report: EpochReport) -> None:
        spent = time.perf_counter() - begun
        if report.epoch % 10 == 0:
            value = "" if report.validation is None else f", validation {report.validation:.4f}"
            name = target.label or target.model
            print(f"{target.protocol:14} {name:11} epoch {report.epoch}, loss {report.loss:.4f}{value}, {spent:.0f} s", file=sys.stderr)
        if limits.seconds is not None and spent > limits.seconds:
            raise Enough

    ours = []
    for seed in range(limits.seeds):
        begun = time.perf_counter()
        recommender = build(use, options, where=target.model, methods=METHODS)
        if "epochs" in known:
            recommender.progress = progress
        recommender.fit(log, parts.catalog(), Stream(42 + seed).child("fit"))
        ours.append(measure(recommender, protocol, parts, knows_valid=validates))
    return rows(protocol, target, ours, (time.perf_counter() - started) / limits.seeds)


def rows(protocol: Protocol, target: Target, ours: Sequence[dict[str, float]], seconds: float) -> list[Row]:
    """The rows of one model, in the order of the protocol's metrics: means over the seeds, which are named if there are several."""
    where = {"dataset": protocol.dataset, "protocol": protocol.name, "model": target.label or target.model}
    return [
        {
            **where,
            "metric": metric,
            "published": target.published.get(metric),
            "ours": round(statistics.fmean(own[metric] for own in ours), 4),
            "tolerance": target.tolerance if metric in target.published else None,
            "seconds": round(seconds, 1),
            **({"by_seed": [round(own[metric], 4) for own in ours]} if len(ours) > 1 else {}),
        }
        for metric in ours[0]
    ]


def merged(old: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """The old rows without those of the models in the new ones, and the new ones; sorted."""
    replaced = {(row["dataset"], row["protocol"], row["model"]) for row in new}
    kept = [row for row in old if (row["dataset"], row["protocol"], row["model"]) not in replaced]
    return sorted((*kept, *new), key=lambda row: (row["dataset"], row["protocol"], row["model"]))


def reached(row: Row) -> bool | None:
    """Whether our number is within the tolerance; None without a published one."""
    if row["published"] is None:
        return None
    if row["tolerance"].endswith("%"):
        return bool(row["ours"] >= row["published"] * (1 + float(row["tolerance"].rstrip("% ")) / 100))
    return bool(abs(row["ours"] - row["published"]) <= float(row["tolerance"]) + 1e-9)


def table(rows: Sequence[Row]) -> str:
    """The README's table: one line per model and protocol, ours beside the published number in brackets."""
    lines = ["| data set, protocol | model | ours ± deviation over seeds, where several (published) | reached |", "|---|---|---|---|"]
    for (dataset, protocol, model), group in itertools.groupby(rows, key=lambda row: (row["dataset"], row["protocol"], row["model"])):
        own = list(group)
        numbers = [f"{row['metric']} {row['ours']:.4f}{_spread(row)}" for row in own]
        verdicts = {reached(row) for row in own} - {None}
        verdict = "" if not verdicts else f"yes, within {own[0]['tolerance']}" if verdicts == {True} else "no"
        lines.append(f"| {dataset}, {protocol} | {model} | {', '.join(numbers)} | {verdict} |")
    return "\n".join(lines) + "\n"


def _spread(row: Row) -> str:
    """What stands behind a number: the standard deviation over seeds and the published one, where there are such."""
    spread = f" ± {statistics.stdev(row['by_seed']):.4f}" if "by_seed" in row else ""
    return spread + ("" if row["published"] is None else f" ({row['published']:.4f})")


def with_table(text: str, rows: Sequence[Row]) -> str:
    """A text whose part between the two marks is the table.

    Raises:
        UsersimError: it lacks the marks.
    """
    before, begins, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not (begins and ends):
        raise UsersimError(f"the README has no lines {BEGIN} and {END} between which the table goes; add them.")
    return f"{before}{BEGIN}\n{table(rows)}{END}{after}"


def _show(protocol: str, row: Row) -> None:
    verdict = {True: "reached", False: "MISSED", None: ""}[reached(row)]
    published = "" if row["published"] is None else f"{row['published']:.4f}"
    line = f"{protocol:14} {row['model']:11} {row['metric']:10} {published:>7} {row['ours']:.4f} {row['seconds']:7.1f} s {verdict}"
    print(line, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs what was asked for and writes after every model."""
    parser = argparse.ArgumentParser(prog="recommenders", description="Our recommenders under published protocols.")
    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        default=Path("data"),
        help="folder that holds ml-100k, ml-1m and lastfm-hetrec-2k, or what --pack wrote",
    )
    parser.add_argument("--protocol", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--only", nargs="+", choices=list(USE), default=list(USE), metavar="MODEL", help=f"of {', '.join(USE)}")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/recommenders.json"))
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write the divided data there and run nothing")
    parser.add_argument("--try", type=Path, metavar="FILE", dest="tried", help="models to run instead, in JSON")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="write the table of --output into it and run nothing")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--epochs", type=int, help="of training at most, instead of the models' own")
    parser.add_argument("--seconds", type=float, help="of training at most, for each model")
    parser.add_argument("--seeds", type=int, default=1, help="fits of each model, of which the mean is told")
    parser.add_argument("--jobs", type=int, default=1, help="models to run at once, each in a process of its own")
    given = parser.parse_args(arguments)
    targets = TARGETS if given.tried is None else [Target(**target) for target in json.loads(given.tried.read_text(encoding="utf-8"))]
    targets = [target for target in targets if target.protocol in given.protocol and target.model in given.only]
    try:
        if given.readme is not None:
            rows = json.loads(given.output.read_text(encoding="utf-8"))
            given.readme.write_text(with_table(given.readme.read_text(encoding="utf-8"), rows), encoding="utf-8")
            return 0
        if given.pack is not None:
            given.pack.mkdir(parents=True, exist_ok=True)
            for name in given.protocol:
                pack(PROTOCOLS[name].divide(given.data), given.pack / f"{name}.npz")
            return 0
        for target, new in _run_all(targets, given.data, Limits(given.device, given.epochs, given.seconds, given.seeds), given.jobs):
            _write(new, given.output)
            for row in new:
                _show(target.protocol, row)
    except UsersimError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _run_all(targets: Sequence[Target], data: Path, limits: Limits, jobs: int) -> Iterator[tuple[Target, list[Row]]]:
    """The targets with their rows, as they finish."""
    if jobs == 1:
        for target in targets:
            yield target, run(target, data, limits)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(run, target, data, limits): target for target in targets}
        for done in as_completed(running):
            yield running[done], done.result()


def _write(new: Sequence[Row], file: Path) -> None:
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(merged(old, new), indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
