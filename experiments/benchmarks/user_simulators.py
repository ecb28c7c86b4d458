"""The leaderboard of user simulators: populations on the same pages, and logs of others, judged without their decision models.

    usersim benchmark users FOLDER [--data ml-100k] [--population calibrated]
    usersim benchmark users --add NAME=report/fidelity.json

Every population meets pages of the same kind, filled without a taste: items at random, popular ones more often. Its log is then read as
that of a stranger (`experiments.fidelity.judged_log`), so that a row of ours and a row of somebody else are made by the same code. The
settings are the same for all data sets; visits are not compared, since one session per user is a setting here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from agents.exposures import people_split
from experiments import build, marked_tables
from experiments.config import ExperimentConfig
from experiments.fidelity.judged_log import judge
from experiments.fidelity.shelf import experiment
from experiments.run import start
from experiments.sections import DecisionSection, RecommenderSection
from simulator.errors import ConfigError, UsersimError
from simulator.files import read_json, write_atomically

OUTPUT: Final[Path] = Path("results/benchmarks/users.json")
PAGE: Final[Path] = Path("docs/leaderboard.md")
START, END = "<!-- users: written by `usersim benchmark users` -->", "<!-- end of users -->"

CALIBRATED: Final[str] = "agents.calibrated:CalibratedDecisions"
POPULATIONS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "calibrated": (CALIBRATED, {"language_model": False}),
    "calibrated, no moods": (CALIBRATED, {"language_model": False, "moods": False}),
    "evidence": ("agents.controls:EvidenceDecisions", {}),
    "popularity": ("agents.controls:PopularityDecisions", {}),
    "own rates": ("agents.controls:RandomDecisions", {}),
    "traits": ("agents.bad_users:TraitsDecisions", {}),
}
"""Name -> decision model and its options: ours; ours without the mood of the one visit that each user makes here; a logistic model of
popularity, one neighbourhood score and quality, with ratings by biases; popularity alone with the user's own histogram of ratings; a fixed
rate of choosing with that histogram; users of whom traits alone are known."""

EVERYTHING: Final[str] = "everything 4"
"""What the calibrated population chooses, with the same rating for everything, three quarters up the scale."""

USERS, PAGE_SIZE, PAGES = 300, 25, 8
RESAMPLES: Final[int] = 300
FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    "users": ("log", "users"),
    "choices": ("log", "choices"),
    "choose_rate": ("parts", "shown", "choose_rate"),
    "auc_shown": ("parts", "shown", "among_shown", "auc"),
    "lift_shown": ("parts", "shown", "among_shown", "lift"),
    "auc_within": ("parts", "shown", "among_shown", "within", "auc"),
    "lift_within": ("parts", "shown", "among_shown", "within", "lift"),
    "hits_lift": ("parts", "shown", "hits", "lift"),
    "worst_ratio": ("headline", "worst_distribution_ratio"),
    "ratings_ratio": ("parts", "distributions", "distributions", "ratings", "distances", "wasserstein", "ratio"),
    "popularity_variance": ("headline", "variance_ratio_popularity"),
    "rating_variance": ("headline", "variance_ratio_ratings"),
    "rating_shift": ("headline", "positivity_shift"),
}
"""Figure of a row -> where it stands in a report."""


def run(folder: Path, names: Sequence[str], populations: Sequence[str], output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures populations on data sets; the file is written after each, and what is not measured now stays.

    Args:
        folder: holds a folder for each data set. names: of `experiments.fidelity.shelf.SETS`.
        populations: of `POPULATIONS`, or `EVERYTHING`. output: JSON. say: told what is going on.
    """
    found = read(output)
    for name in names:
        for population in populations:
            say(f"{name}: {population}")
            try:
                row = figures(measure(experiment(name, folder), population))
            except UsersimError as error:
                row = {"not_measured": str(error)}
            found["data"].setdefault(name, {})[population] = row
            write(found, output)
    return found


def measure(config: ExperimentConfig, population: str) -> dict[str, Any]:
    """The report of one population on the data of an experiment."""
    train = build.data(config).train
    able = np.intersect1d(people_split(train).held_out, train.interactions["user"].to_numpy())
    use, options = POPULATIONS["calibrated" if population == EVERYTHING else population]
    decision = {"use": use, **options} | ({"hide": config.decision.options.get("hide", "auto")} if use == CALIBRATED else {})
    feed = {"use": "environments.recommenders.random:Random", "popularity": 1.0, "page_size": PAGE_SIZE, "max_pages": PAGES}
    changed = config.model_copy(
        update={
            "decision": DecisionSection.model_validate(decision),
            "recommender": RecommenderSection.model_validate(feed),
            "population": config.population.model_copy(update={"users": min(USERS, len(able)), "among": "held-out"}),
        }
    )
    with tempfile.TemporaryDirectory(prefix="usersim-users-") as folder:
        log = start(changed, Path(folder) / "run", 1, lambda what, done, total, result: None).path
        if population == EVERYTHING:
            log = _same_rating(log, Path(folder) / "log.parquet")
        return judge(log, changed, people=USERS, bootstrap=RESAMPLES)


def _same_rating(run: Path, file: Path) -> Path:
    """The log of a run as a file, in which everything that was rated has the same rating."""
    shown = pl.read_parquet(run / "impressions.parquet").filter(~pl.col("synthetic"))
    if "rating" not in shown.columns:
        raise ConfigError("the data has no ratings, so nobody can give everything the same one.")
    scale = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["rating_scale"]
    values = shown["rating"].drop_nulls().unique().to_numpy()
    wanted = scale[0] + 0.75 * (scale[1] - scale[0])
    nearest = float(values[abs(values - wanted).argmin()])
    same = pl.when(pl.col("rating").is_not_null()).then(nearest).alias("rating")
    columns = ("user", "item", "time", "session", "page", "position", "chosen", pl.col("chosen_probability").alias("probability"))
    shown.select(*columns, same).write_parquet(file)
    return file


def figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the leaderboard from a report: figure -> value, and ``<figure>_low``, ``<figure>_high`` where it has an interval."""
    row: dict[str, Any] = {}
    for name, path in FIGURES.items():
        place: Any = document
        for step in path:
            place = place.get(step) if isinstance(place, Mapping) else None
        if isinstance(place, Mapping):
            row |= {name: place.get("value"), f"{name}_low": place.get("low"), f"{name}_high": place.get("high")}
        else:
            row[name] = place
    return row


def add(entry: str, output: Path) -> dict[str, Any]:
    """Adds the row of a log of somebody else, from ``NAME=FILE``: the report that `usersim fidelity --log` wrote.

    Raises:
        ConfigError: the entry or the file is not of this kind.
    """
    name, equals, file = entry.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--add {entry}: write NAME=FILE with the fidelity.json of `usersim fidelity --log`.")
    document = read_json(Path(file), "give the fidelity.json of `usersim fidelity --log`", ConfigError)
    if "log" not in document or "data" not in document:
        raise ConfigError(f"--add {entry}: {file} is not a report of a log; write one with `usersim fidelity --log`.")
    if name in (*POPULATIONS, EVERYTHING):
        raise ConfigError(f"--add {entry}: '{name}' is a row of ours; choose another name.")
    found = read(output)
    found["data"].setdefault(document["data"], {})[name] = figures(document)
    write(found, output)
    return found


def read(file: Path) -> dict[str, Any]:
    """What was measured so far."""
    return read_json(file, "move it away", ConfigError) if file.is_file() else {"data": {}}


def write(found: Mapping[str, Any], file: Path) -> None:
    """Writes the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows for people."""
    rows = []
    for data, populations in found["data"].items():
        for name, row in populations.items():
            if "not_measured" in row:
                rows.append({"data": data, "users": name, "AUC among shown": row["not_measured"]})
                continue
            rows.append(
                {
                    "data": data,
                    "users": name,
                    "AUC among shown": _told(row, "auc_shown"),
                    "over the best baseline": _told(row, "lift_shown", sign=True),
                    "AUC within users": _told(row, "auc_within"),
                    "over the best there": _told(row, "lift_within", sign=True),
                    "hits, times popularity's": _told(row, "hits_lift"),
                    "worst distribution, floors": _told(row, "worst_ratio"),
                    "ratings, floors": _told(row, "ratings_ratio"),
                    "variance of popularity": _told(row, "popularity_variance"),
                    "variance of ratings": _told(row, "rating_variance"),
                    "rating shift": _told(row, "rating_shift", sign=True),
                }
            )
    return rows


def _told(row: Mapping[str, Any], name: str, *, sign: bool = False) -> str:
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return ""
    form = "+.2f" if sign else ".2f"
    return f"{value:{form}}" + ("" if low is None or high is None else f" [{low:{form}}, {high:{form}}]")


def write_page(found: Mapping[str, Any], page: Path) -> bool:
    """Writes the table between the marks of a document; whether it changed.

    Raises:
        ConfigError: the document lacks the marks.
    """
    return marked_tables.write(page, START, END, table(found))
