"""The rating model (`agents.rating_model`) against biases and Surprise, on Surprise's folds; distributions; little data; selection.

    usersim benchmark ratings FOLDER [--surprise surprise-env/bin/python] [--part folds] [--quick]

FOLDER holds the folders ml-100k, ml-1m, ml-latest-small, amazon-gift-cards and ciao-dvd; what is absent is left out, with the reason. Folds
are those of Surprise's ``KFold(n_splits=5, random_state=0)``: predictions are clipped to the scale, all is fitted on the training folds.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.model_selection import KFold

from agents.rating_model import RatingModel, Ratings, spread_of_people
from experiments.benchmarks.picked_ratings import Truth, judged
from simulator.errors import UsersimError
from simulator.files import write_atomically
from simulator.one_thread import one_thread
from simulator.seeds import Stream

OUTPUT = Path("results/benchmarks/ratings.json")
PARTS = ("folds", "scales", "little", "selection", "surprise")
TARGETS = {"ml-100k": 0.880, "ml-1m": 0.832}
WORKER = Path(__file__).with_name("surprise_worker.py")
RESAMPLES = 1_000
FEWEST = 5
"""Spreads of people are those of people with so many held-out ratings."""

STEEPNESS = 1.6
BETAS = (0.0, 0.25, 0.5)


@dataclass(frozen=True)
class Size:
    """How much is done. Attributes: folds of each data set; data sets of the folds; worlds of the selection."""

    folds: int
    names: tuple[str, ...]
    worlds: int


FULL = Size(5, ("ml-100k", "ml-1m", "ml-latest-small", "amazon-gift-cards", "ciao-dvd"), 3)
MANY_PEOPLE = 10_000
"""Of data with so many people one fold is enough."""

QUICK = Size(1, ("ml-100k",), 1)


def read(folder: Path, name: str) -> pl.DataFrame:
    """The ratings of a data set, columns user, item and rating, in the order of its own file."""
    if name == "ml-100k":
        table = pl.read_csv(folder / name / "u.data", separator="\t", has_header=False).select(pl.nth(0, 1, 2))
    elif name == "ml-1m":
        table = pl.read_csv(folder / name / "ratings_reconstructed.csv.gz").select(pl.nth(0, 1, 2))
    elif name == "ml-latest-small":
        table = pl.read_csv(folder / name / "ratings.csv").select(pl.nth(0, 1, 2))
    elif name == "ciao-dvd":
        table = pl.read_csv(folder / name / "movie-ratings.txt", has_header=False).select(pl.nth(0, 1, 4))
    else:
        rows = pl.read_ndjson(
            folder / name / "Gift_Cards_5.json.gz", schema={"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64}
        )
        table = rows.select("reviewerID", "asin", "overall")
    table = table.rename(dict(zip(table.columns, ("user", "item", "rating"), strict=True)))
    return table.with_columns(pl.col("rating").cast(pl.Float64)).unique(("user", "item"), keep="first", maintain_order=True)


def coded(table: pl.DataFrame) -> Ratings:
    """People and items as codes, rows in their own order."""
    codes = [np.unique(table[name].to_numpy(), return_inverse=True)[1].astype(np.int64) for name in ("user", "item")]
    return Ratings(codes[0], codes[1], table["rating"].to_numpy(), (int(codes[0].max()) + 1, int(codes[1].max()) + 1))


def folds(n: int) -> list[np.ndarray]:
    """Rows of each test fold of Surprise's ``KFold(n_splits=5, random_state=0)``; those of scikit-learn are the same."""
    return [test for _, test in KFold(5, shuffle=True, random_state=0).split(np.zeros(n))]


@dataclass(frozen=True, eq=False)
class Fold:
    """What a fit said of a test fold.

    Attributes:
        real, people: ratings, and whose. expected, biases: expected ratings by the model and by its biases. drawn: ratings.
        log_loss: of the values. seconds: of a processor, one thread, for the fit. trust: of `RatingModel`.
        tv: how often each value was given and drawn.
    """

    real: np.ndarray
    people: np.ndarray
    expected: np.ndarray
    biases: np.ndarray
    drawn: np.ndarray
    log_loss: float
    seconds: float
    trust: float
    tv: tuple[np.ndarray, np.ndarray]


@one_thread()
def fold_of(data: Ratings, test: np.ndarray, rng: Stream, levels: Stream) -> Fold:
    """Fits on the other rows and rates these; people's own levels are the same in all folds."""
    rest = np.setdiff1d(np.arange(len(data)), test)
    part, here = data.part(rest), data.part(test)
    started = time.process_time()
    model = RatingModel.fit(Ratings.of(part.users, part.items, part.given, part.shape), rng.child("fit"))
    seconds = time.process_time() - started
    expected = model.expected(here.users, here.items)
    biases = np.clip(model.biases.expected(here.users, here.items), *model.ends)
    counts, codes = model.counts[here.users], model.own.codes(here.given)
    level = model.level_spread(model.counts.sum(axis=1)) * levels.generator().standard_normal(data.shape[0])
    cumulative = np.cumsum(model.shape.probabilities(expected + level[here.users], counts), axis=1)
    uniform = rng.child("draws").generator().random((2, len(test)))
    drawn = (uniform[0][:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1).clip(max=len(model.own.values) - 1)
    v = len(model.own.values)
    return Fold(
        here.given,
        here.users,
        expected,
        biases,
        model.own.drawn(drawn, uniform[1]),
        model.shape.log_loss(expected, counts, codes),
        seconds,
        model.trust,
        (np.bincount(codes, minlength=v), np.bincount(drawn, minlength=v)),
    )


def figures(found: list[Fold]) -> dict[str, Any]:
    """Errors, and distances of drawn from real ratings, over the rows of all folds."""
    real, people, expected, biases, drawn = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("real", "people", "expected", "biases", "drawn")
    )
    given, simulated = (np.sum([one.tv[k] for one in found], axis=0, dtype=np.float64) for k in (0, 1))
    difference = (expected - real) ** 2 - (biases - real) ** 2
    many = np.bincount(people)[people] >= FEWEST
    ratio = spread_of_people(drawn[many], people[many]) / spread_of_people(real[many], people[many]) if many.any() else np.full(2, np.nan)
    return {
        "rmse": float(np.mean([np.sqrt(np.mean((one.expected - one.real) ** 2)) for one in found])),
        "mae": float(np.mean([np.abs(one.expected - one.real).mean() for one in found])),
        "rmse_biases": float(np.mean([np.sqrt(np.mean((one.biases - one.real) ** 2)) for one in found])),
        "squared_error_less_biases": _interval(difference, people),
        "log_loss": float(np.average([one.log_loss for one in found], weights=[len(one.real) for one in found])),
        "tv_own_values": float(np.abs(given / given.sum() - simulated / simulated.sum()).sum() / 2),
        "variance_between_people": float(ratio[0]),
        "variance_within_people": float(ratio[1]),
        "trust": float(np.mean([one.trust for one in found])),
        "fit_seconds": float(max(one.seconds for one in found)),
        "ratings": sum(len(one.real) for one in found),
        "folds": len(found),
    }


def _interval(values: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """A mean over rows with its 95 % interval, people resampled."""
    sums, counts = np.bincount(people, weights=values), np.bincount(people).astype(np.float64)
    here = counts > 0
    sums, counts = sums[here], counts[here]
    drawn = Stream(0).child("resamples").generator().multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=RESAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def judge(data: Ratings, size: Size, name: str) -> dict[str, Any]:
    """Figures of a data set, on the first folds."""
    stream = Stream(0).child("ratings benchmark", name)
    tests = folds(len(data))[: size.folds if data.shape[0] < MANY_PEOPLE else 1]
    found = figures([fold_of(data, test, stream.child("fold", number), stream.child("levels")) for number, test in enumerate(tests)])
    return found | {"users": data.shape[0], "items": data.shape[1]}


def _folds(folder: Path, size: Size, note: Callable[[str], object]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for name in size.names:
        if (data := _data(folder, name)) is None:
            found[name] = {"not_measured": f"{folder / name} is absent"}
            continue
        found[name] = judge(data, size, name) | ({"wanted": TARGETS[name]} if name in TARGETS else {})
        note(f"{name}: RMSE {found[name]['rmse']:.4f}, biases {found[name]['rmse_biases']:.4f}, {found[name]['fit_seconds']:.0f} s")
    return found


def _scales(folder: Path, size: Size, note: Callable[[str], object]) -> dict[str, Any]:
    """Other scales: ML-100K's ratings through a convex map with noise, as 1 to 10, as any number, and as good or bad."""
    if (data := _data(folder, "ml-100k")) is None:
        return {"not_measured": f"{folder / 'ml-100k'} is absent"}
    noise = 0.5 * Stream(0).child("other scales").generator().standard_normal(len(data))
    curved = 1.0 + 9.0 * np.clip((data.given + noise - 0.5) / 5.0, 0.0, 1.0) ** STEEPNESS
    scales = {"1 to 10": np.clip(np.round(curved), 1, 10), "continuous": curved, "0 or 1": (data.given >= 4).astype(np.float64)}
    found: dict[str, Any] = {}
    for name, given in scales.items():
        found[name] = judge(Ratings(data.users, data.items, given, data.shape), size, name)
        note(f"{name}: total variation {found[name]['tv_own_values']:.3f}")
    return found


def _little(folder: Path, size: Size, note: Callable[[str], object]) -> dict[str, Any]:
    """Few people, few ratings, and ratings that say nothing."""
    found: dict[str, dict[str, Any]] = {}
    if (data := _data(folder, "ml-100k")) is not None:
        drawn = Stream(0).child("little")
        people = drawn.child("people").generator().permutation(data.shape[0])
        thin = drawn.child("thin").generator().random(len(data))
        some = {count: np.isin(data.users, people[:count]) for count in (100, 300, 900)}
        shuffled = _compact(data.part(np.flatnonzero(some[100])))
        shuffled = Ratings(shuffled.users, shuffled.items, drawn.child("permuted").generator().permutation(shuffled.given), shuffled.shape)
        found = {
            f"ml-100k, {count} people": judge(_compact(data.part(np.flatnonzero(rows))), size, f"{count}") for count, rows in some.items()
        }
        for count in (100, 300):
            rows = np.flatnonzero(some[count] & (thin < 0.17))
            found[f"ml-100k, {count} people, a sixth of the ratings"] = judge(_compact(data.part(rows)), size, f"thin {count}")
        found["ml-100k, 100 people, ratings permuted"] = judge(shuffled, size, "permuted")
    for name, one in found.items():
        if "squared_error_less_biases" in one:
            note(f"{name}: RMSE {one['rmse']:.4f}, biases {one['rmse_biases']:.4f}, trust {one['trust']:.2f}")
    return found


def _selection(folder: Path, size: Size, note: Callable[[str], object]) -> dict[str, Any]:
    """Errors on items that nobody picked, where the truth is known (`experiments.benchmarks.picked_ratings`)."""
    if (data := _data(folder, "ml-100k")) is None:
        return {"not_measured": f"{folder / 'ml-100k'} is absent"}
    found: dict[str, Any] = {}
    for world in range(size.worlds):
        stream = Stream(world).child("picked ratings")
        truth = Truth.of(Ratings.of(data.users, data.items, data.given, data.shape), stream)
        for beta in BETAS:
            one = judged(truth, beta, 0.5, stream.child("beta", str(beta)))
            found.setdefault(f"beta {beta:g}", []).append(one)
            note(f"beta {beta:g}: found {one['found']:.2f}, bias {one['unshifted']['bias']:+.3f}, shifted {one['shifted']['bias']:+.3f}")
    return found


def _surprise(folder: Path, size: Size, python: Path | None, note: Callable[[str], object]) -> dict[str, Any]:
    """Surprise itself on the same folds, by another Python (`experiments.benchmarks.surprise_worker`)."""
    if python is None:
        return {"not_measured": "no environment with Surprise was named (--surprise)"}
    found: dict[str, Any] = {}
    for name in size.names:
        if name not in TARGETS or not (folder / name).is_dir():
            continue
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "ratings.csv"
            read(folder, name).write_csv(file)
            models = ["SVDpp", "SVD", "BaselineOnly"] if name == "ml-100k" else ["SVD", "BaselineOnly"]
            chosen = [word for model in models for word in ("--model", model)]
            done = subprocess.run(
                [str(python), str(WORKER), str(file), "--folds", str(size.folds), *chosen], capture_output=True, text=True, check=False
            )
        if done.returncode:
            found[name] = {"not_measured": f"Surprise ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
            continue
        found[name] = json.loads(done.stdout)
        note(f"Surprise on {name}: " + ", ".join(f"{model} {one['rmse']:.4f}" for model, one in found[name]["models"].items()))
    return found


def _compact(data: Ratings) -> Ratings:
    """The same ratings with codes of only who and what occurs."""
    users, items = (np.unique(codes, return_inverse=True)[1] for codes in (data.users, data.items))
    return Ratings(users, items, data.given, (int(users.max()) + 1, int(items.max()) + 1))


def _data(folder: Path, name: str) -> Ratings | None:
    return coded(read(folder, name)) if (folder / name).is_dir() else None


def run(
    folder: Path, size: Size, parts: tuple[str, ...], python: Path | None, output: Path, note: Callable[[str], object]
) -> dict[str, Any]:
    """Measures some parts of some data sets; the others keep their figures.

    Raises:
        UsersimError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsersimError(f"there is no folder {folder} with data sets.")
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    result["made_by"] = "usersim benchmark ratings"
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "folds": lambda: _folds(folder, size, note),
        "scales": lambda: _scales(folder, size, note),
        "little": lambda: _little(folder, size, note),
        "selection": lambda: _selection(folder, size, note),
        "surprise": lambda: _surprise(folder, size, python, note),
    }
    for name in parts:
        result[name] = {**result.get(name, {}), **jobs[name]()}
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, (json.dumps(result, indent=1) + "\n").encode())
    return result


def table(result: dict[str, Any]) -> list[dict[str, str]]:
    """The figures of all data sets, a row each."""
    rows = []
    for part in ("folds", "scales", "little"):
        for name, one in result.get(part, {}).items():
            if isinstance(one, dict) and "rmse" in one:
                rows.append(
                    {
                        "data": name,
                        "RMSE": f"{one['rmse']:.4f}",
                        "biases": f"{one['rmse_biases']:.4f}",
                        "total variation": f"{one['tv_own_values']:.3f}",
                        "between": f"{one['variance_between_people']:.2f}",
                        "within": f"{one['variance_within_people']:.2f}",
                        "fit": f"{one['fit_seconds']:.1f} s",
                    }
                )
    return rows
