"""Our recommenders under published protocols, beside the published numbers.

    python -m experiments.benchmarks.recommenders DATA [--protocol NAME ...] [--only MODEL ...] [--output FILE]

DATA holds the data sets (`experiments.benchmarks.recommender_protocols`). Each model that is run replaces its own rows of the
file and leaves all others, so quick models can be run on one machine and slow ones on another. A row is ``{"dataset", "protocol",
"model", "metric", "published", "ours", "tolerance", "seconds"}``: `published` is null where nobody published a number for that
protocol; `tolerance` says how near ours must be: "0.001" on either side, or "-5 %" at most below; `seconds` is fit and test.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from experiments.benchmarks.recommender_protocols import PROTOCOLS, Protocol, measure
from experiments.build import METHODS
from simulator.errors import UsersimError
from simulator.plugins import build, load
from simulator.seeds import Stream

Row = dict[str, Any]

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
    """

    protocol: str
    model: str
    published: dict[str, float] = field(default_factory=dict)
    tolerance: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


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
TARGETS = [
    Target("random-75", "Popularity", {"MAP@10": 0.0550, "nDCG@10": 0.2529, "P@10": 0.2246, "R@10": 0.1117}, "0.001"),
    Target("ncf-loo", "Popularity", {"HR@10": 0.4531, "NDCG@10": 0.2542}, "0.002"),
    *(
        Target(protocol, model, numbers, tolerance)
        for protocol, table, tolerance in (
            ("stratified-75", MICROSOFT, "-5 %"),
            ("ncf-loo", NCF, "-3 %"),
            ("ml-1m-811", ML_1M, "-5 %"),
            ("lastfm-811", LASTFM, "-5 %"),
        )
        for model, numbers in table.items()
    ),
    *(Target("loo", model) for model in ("Popularity", "ItemKNN", "EASE", "BPR", "GRU4Rec", "SASRec", "BERT4Rec")),
    *(Target(protocol, "EASE") for protocol in ("random-75", "stratified-75", "ncf-loo", "ml-1m-811")),
]


def run(target: Target, data: Path) -> list[Row]:
    """Fits and tests one model, and returns its rows.

    A model that holds back a part of its log to decide when to stop gets the protocol's validation part with the log, and
    holds back as much; the others are fitted on the training part alone.
    """
    protocol = PROTOCOLS[target.protocol]
    parts = protocol.divide(data)
    use = f"environments.recommenders.{USE[target.model]}"
    options = dict(target.options)
    config = getattr(load(use), "Config", None)
    validates = config is not None and "validation_share" in config.model_fields
    log = parts.train
    if validates and parts.valid.height:
        log = pl.concat((parts.train, parts.valid)).sort("user", maintain_order=True)
        options.setdefault("validation_share", parts.valid.height / log.height)
    recommender = build(use, options, where=target.model, methods=METHODS["recommender"])
    started = time.perf_counter()
    recommender.fit(log, parts.catalog(), Stream(42).child("fit"))
    ours = measure(recommender, protocol, parts, knows_valid=validates)
    return rows(protocol, target, ours, time.perf_counter() - started)


def rows(protocol: Protocol, target: Target, ours: dict[str, float], seconds: float) -> list[Row]:
    """The rows of one model, in the order of the protocol's metrics."""
    where = {"dataset": protocol.dataset, "protocol": protocol.name, "model": target.model}
    return [
        {
            **where,
            "metric": metric,
            "published": target.published.get(metric),
            "ours": round(value, 4),
            "tolerance": target.tolerance if metric in target.published else None,
            "seconds": round(seconds, 1),
        }
        for metric, value in ours.items()
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


def _show(protocol: str, row: Row) -> None:
    verdict = {True: "reached", False: "MISSED", None: ""}[reached(row)]
    published = "" if row["published"] is None else f"{row['published']:.4f}"
    line = f"{protocol:14} {row['model']:11} {row['metric']:10} {published:>7} {row['ours']:.4f} {row['seconds']:7.1f} s {verdict}"
    print(line, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs what was asked for and writes after every model."""
    parser = argparse.ArgumentParser(prog="recommenders", description="Our recommenders under published protocols.")
    parser.add_argument("data", type=Path, help="folder that holds ml-100k, ml-1m and lastfm-hetrec-2k")
    parser.add_argument("--protocol", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--only", nargs="+", choices=list(USE), default=list(USE), metavar="MODEL", help=f"of {', '.join(USE)}")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/recommenders.json"))
    given = parser.parse_args(arguments)
    for target in TARGETS:
        if target.protocol not in given.protocol or target.model not in given.only:
            continue
        try:
            new = run(target, given.data)
        except UsersimError as error:
            print(f"{target.protocol}, {target.model}: {error}", file=sys.stderr)
            return error.exit_status
        old = json.loads(given.output.read_text(encoding="utf-8")) if given.output.is_file() else []
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(merged(old, new), indent=1) + "\n", encoding="utf-8")
        for row in new:
            _show(target.protocol, row)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
