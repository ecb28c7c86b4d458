"""Recommenders compared on held-out interactions: fit, tune on a validation part if asked, test, intervals over people.

An evaluation file has the same ``[dataset]`` as an experiment, and one table for each recommender::

    name = "films"
    k = 10

    [dataset]
    use = "environments.datasets.movielens:MovieLens100K"
    split = "temporal"

    [recommenders.popularity]
    use = "environments.recommenders.popularity:Popularity"

    [recommenders.ease]
    use = "environments.recommenders.ease:EASE"
    tune.l2 = [100.0, 300.0, 1000.0]     # the best by NDCG on the validation part is fitted again on all training data
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from environments.datasets.splits import Split, SplitConfig, split
from experiments import build
from experiments.analysis import list_metrics as lists
from experiments.analysis import ranking_metrics as metrics
from experiments.analysis.intervals import Estimate, bootstrap_ratio
from experiments.config import document
from experiments.ranked_lists import histories_of, ranked_lists
from experiments.rating_errors import RatingErrors, rating_errors
from experiments.sections import DatasetSection, Section
from simulator.credentials import check_settings
from simulator.dataset import Catalog, Dataset
from simulator.errors import ConfigError
from simulator.plugins import build as make
from simulator.plugins import explain, portable, resolve
from simulator.protocols import Recommender
from simulator.seeds import Stream

PATIENCE = 0.8
"""Chance of looking at one more place, of rank-biased precision."""

CONVENTIONS = {
    "recall": "hits over all relevant items",
    "map": "sum of the precision at hits over min(k, relevant items)",
    "map_all_relevant": "sum of the precision at hits over all relevant items",
    "ndcg": "the ideal list holds min(k, relevant items)",
    "novelty": "bits, from counts of people",
    "diversity": "1 - cosine of genres",
    "popularity": "share of the training people",
    "serendipity": "items of equal popularity share a rank (dense)",
    "rbp": f"patience {PATIENCE}",
    "genres_apart": "genres that differ, mean over the pairs of a list",
    "unexpectedness": "1 - mean co-occurrence cosine with the history",
    "inverse_propensity_hits": "hits weighted by all interactions over the item's, not divided",
}
"""Metric -> what libraries do in different ways, and how it is done here."""

TAIL = 0.2
"""The long tail is what the head that holds 80 % of the training interactions leaves."""

MAX_PAIRWISE = 8_000
"""Catalogs up to this size get measures that need all pairs of items."""

MAX_COOCCURRENCE = 2_000
"""Catalogs up to this size get measures that need all pairs of items and people."""


class RecommenderEntry(Section):
    """One recommender: `use`, its options, and `tune`: option -> values to try, all combinations of them."""

    tune: dict[str, list[Any]] = Field(default_factory=dict)


class EvaluationConfig(BaseModel):
    """An evaluation file.

    Attributes:
        name: of the evaluation. seed: of all randomness. k: places of the lists.
        validation_share: of each person's training interactions, for tuning.
        dataset: as in an experiment. recommenders: name -> recommender, compared with the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)
    seed: int = Field(7, ge=0, lt=2**63)
    k: int = Field(10, ge=1, le=1_000)
    validation_share: float = Field(0.1, gt=0, lt=1)
    dataset: DatasetSection = DatasetSection()
    recommenders: dict[str, RecommenderEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Evaluated:
    """What one recommender reached.

    Attributes:
        name, use, options: which; the options are complete, tuned ones included.
        trials: the combinations that were tried on the validation part, each with its NDCG.
        fit_seconds: of the last fit. milliseconds_per_person: of making one list of k.
        metrics: metric -> estimate, an interval over people where the metric is one number per person.
        difference: NDCG minus that of the first recommender, people paired; None for the first.
        rating_difference: mean squared error of the ratings minus that of the first recommender that predicts ratings, people
            paired; None for that one and for those that predict none.
    """

    name: str
    use: str
    options: dict[str, Any]
    fit_seconds: float
    milliseconds_per_person: float
    metrics: dict[str, Estimate]
    difference: Estimate | None = None
    rating_difference: Estimate | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)


Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and of how much."""


def read(file: Path, overrides: Sequence[str] = ()) -> EvaluationConfig:
    """Reads and checks an evaluation file, or one of those that come with usersim by its name.

    Raises:
        ConfigError, PluginError: the first thing that is wrong.
    """
    shipped = Path(__file__).parent / "configs" / "evaluations"
    if not file.is_file():
        file = shipped / f"{file.name.removesuffix('.toml')}.toml" if len(file.parts) == 1 else file
    if not file.is_file():
        names = sorted(path.stem for path in shipped.glob("*.toml"))
        raise ConfigError(f"there is no evaluation file {file.name}; evaluations that come with usersim: {', '.join(names)}.")
    contents = document(file, overrides)
    check_settings(contents)
    try:
        config = EvaluationConfig.model_validate(contents)
    except ValidationError as error:
        of_data = error.errors()[0]["loc"][0] == "dataset"
        where, model = ("dataset", DatasetSection) if of_data else ("evaluation", EvaluationConfig)
        raise ConfigError(f"{file}: {explain(error, where, model, skip=int(of_data))}") from error
    section = config.dataset
    resolve(section.use, section.options, where="dataset", methods=build.METHODS["dataset"], also=section.own_keys)
    for name, entry in config.recommenders.items():
        for options in combinations(entry):
            resolve(entry.use, options, where=f"recommenders.{name}", methods=build.METHODS["recommender"], also=entry.own_keys)
    return config


def combinations(entry: RecommenderEntry) -> list[dict[str, Any]]:
    """The options to try: those given, with every combination of those to tune."""
    return [{**entry.options, **dict(zip(entry.tune, values, strict=True))} for values in itertools.product(*entry.tune.values())]


def evaluate(config: EvaluationConfig, report: Report) -> list[Evaluated]:
    """Fits and tests all recommenders, in the order of the file."""
    section, stream = config.dataset, Stream(config.seed)
    report("reading the data", 0, len(config.recommenders))
    loader = make(section.use, section.options, where="dataset", methods=build.METHODS["dataset"])
    parts = split(loader.load(), section.split_config(), stream.child("split"))
    results: list[Evaluated] = []
    baseline: np.ndarray | None = None
    first_errors: RatingErrors | None = None
    for done, (name, entry) in enumerate(config.recommenders.items()):
        report(name, done, len(config.recommenders))
        trials = _tuned(config, name, entry, parts.train, report)
        options = max(trials, key=lambda trial: trial["ndcg"])["options"] if trials else combinations(entry)[0]
        result, ndcg, errors = _tested(config, name, entry.use, options, parts)
        difference = rating_difference = None
        if baseline is not None:
            apart = ndcg - baseline
            difference = bootstrap_ratio(np.nan_to_num(apart), ~np.isnan(apart), stream.child("difference", name))
        if errors is not None and first_errors is not None:
            rating_difference = errors.against(first_errors, stream.child("rating difference", name))
        baseline = ndcg if baseline is None else baseline
        first_errors = errors if first_errors is None else first_errors
        added = {"trials": trials, "difference": difference, "rating_difference": rating_difference}
        results.append(Evaluated(**{**vars(result), **added}))
    report("done", len(config.recommenders), len(config.recommenders))
    return results


def record(result: Evaluated) -> dict[str, Any]:
    """A result as JSON: numbers that are not defined become null."""
    return {key: _plain(value) for key, value in asdict(result).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and np.isnan(value) else value


# --- one recommender ------------------------------------------------------------------------------------------------


def per_person(
    ranked: np.ndarray, relevant: Sequence[np.ndarray], train: pl.DataFrame, users: np.ndarray, catalog: Catalog, k: int
) -> dict[str, np.ndarray]:
    """Every metric that is one number per person, by name.

    What each is divided by, where libraries differ, says `CONVENTIONS`. Everybody must have something to find, so that all means are over
    the same people.
    """
    hits = metrics.hit_matrix(ranked, relevant)
    counts = np.array([len(items) for items in relevant])
    pairs = train.select("user", "item").unique()
    n_people = max(pairs["user"].n_unique(), 1)
    popularity = np.bincount(pairs["item"].to_numpy(), minlength=len(catalog)).astype(np.float64)
    values = {
        "ndcg": metrics.ndcg(hits, metrics.ones_below(counts), k),
        "recall": metrics.recall(hits, counts, k),
        "precision": metrics.precision(hits, k),
        "hit_rate": metrics.hit_rate(hits, k),
        "f1": metrics.f_score(hits, counts, k),
        "mcc": metrics.matthews_correlation(hits, counts, k, len(catalog)),
        "accuracy": metrics.accuracy(hits, counts, k, len(catalog)),
        "map": metrics.average_precision(hits, counts, k),
        "map_all_relevant": metrics.average_precision(hits, counts, k, "relevant"),
        "mrr": metrics.reciprocal_rank(hits, k),
        "rbp": metrics.rank_biased_precision(hits, PATIENCE, k=k),
        "inverse_propensity_hits": metrics.inverse_propensity_hits(hits, ranked, popularity, k),
        "novelty": lists.novelty(ranked, lists.self_information(popularity, n_people), k),
        "popularity": lists.average_popularity(ranked, popularity / n_people, k),
        "tail_share": lists.tail_share(ranked, lists.tail_items(popularity, TAIL, "interactions"), k),
        "serendipity": lists.serendipity(hits, lists.better_than_popularity(ranked, popularity, k), k),
    }
    if catalog.genre_names and len(catalog) <= MAX_PAIRWISE:
        genres = catalog.genre_matrix
        owned = np.zeros((len(users), len(catalog)), dtype=np.float32)
        for row, history in enumerate(histories_of(pairs, users)):
            owned[row, history] = 1
        shown = np.zeros_like(owned)
        np.add.at(shown, (np.arange(len(ranked))[:, None], np.maximum(ranked[:, :k], 0)), ranked[:, :k] >= 0)
        values["diversity"] = lists.intra_list_diversity(ranked, 1.0 - lists.cosine_similarity(genres), k)
        if len(catalog) <= MAX_COOCCURRENCE:
            values["genres_apart"] = lists.intra_list_diversity(ranked, lists.hamming_distance(genres), k)
            values["unexpectedness"] = _mean_of_lists(lists.unexpectedness(ranked, owned, lists.cooccurrence_similarity(owned), k))
        values["miscalibration"] = lists.calibration(lists.genre_distribution(owned, genres), lists.genre_distribution(shown, genres))
    return values


def to_find(parts: Split) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Who is tested: those with something held out that a list may hold, so that every mean is over the same people.

    What somebody comes back to is in the history, so no list may hold it.

    Returns:
        User codes, ascending; and item codes of each one's history and of what is to be found.

    Raises:
        ConfigError: nobody has anything to find.
    """
    users = np.sort(parts.test["user"].unique().to_numpy())
    histories = histories_of(parts.train.interactions, users)
    relevant = [np.setdiff1d(items, history) for items, history in zip(histories_of(parts.test, users), histories, strict=True)]
    kept = [row for row, items in enumerate(relevant) if len(items)]
    if not kept:
        raise ConfigError(
            f"none of the {len(users):,} people with held-out interactions has one with an item outside their training part, so there is "
            "nothing to find; use another dataset.split, a larger dataset.test_share, or dataset.duplicates other than 'keep'."
        )
    return users[kept], [histories[row] for row in kept], [relevant[row] for row in kept]


def _mean_of_lists(values: np.ndarray) -> np.ndarray:
    """Mean of each row over its places, NaN for an empty list."""
    there = ~np.isnan(values)
    total = np.where(there, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, there.sum(axis=1), out=np.full(len(values), np.nan), where=there.any(axis=1)))


def _tuned(config: EvaluationConfig, name: str, entry: RecommenderEntry, train: Dataset, report: Report) -> list[dict[str, Any]]:
    """The NDCG on the validation part of every combination of options; nothing if there is nothing to tune."""
    if not entry.tune:
        return []
    stream = Stream(config.seed).child("validation")
    method = SplitConfig(method=config.dataset.split, test_share=config.validation_share)
    parts = split(train, method, stream.child("split"))
    trials = []
    tried = combinations(entry)
    for number, options in enumerate(tried):
        report(f"{name}: tuning", number, len(tried))
        result, _, _ = _tested(config, name, entry.use, options, parts)
        trials.append({"options": options, "ndcg": result.metrics["ndcg"].value})
    return trials


def _tested(
    config: EvaluationConfig, name: str, use: str, options: dict[str, Any], parts: Split
) -> tuple[Evaluated, np.ndarray, RatingErrors | None]:
    """One fit on the training part and its test, with the NDCG of each person and the errors of predicted ratings."""
    methods, where, k, stream = build.METHODS["recommender"], f"recommenders.{name}", config.k, Stream(config.seed)
    recommender: Recommender = make(use, options, where=where, methods=methods)
    train, catalog = parts.train.interactions, parts.train.catalog
    started = time.perf_counter()
    recommender.fit(train, catalog, stream.child("fit"))
    fitted = time.perf_counter()
    users, histories, relevant = to_find(parts)
    ranked = ranked_lists(recommender, users, histories, k, stream.child("recommend"))
    served = time.perf_counter()
    errors = rating_errors(recommender, parts.test, parts.train.n_users)
    close = getattr(recommender, "close", None)
    if callable(close):
        close()
    values = per_person(ranked, relevant, train, users, catalog, k)
    estimates = {}
    for metric, value in values.items():
        defined = ~np.isnan(value)
        estimates[metric] = bootstrap_ratio(np.where(defined, value, 0.0), defined, stream.child("interval", metric))
    counts = lists.shown_counts(ranked, k, len(catalog))
    whole = {"coverage": lists.coverage(ranked, k, len(catalog)), "gini": lists.gini(counts), "entropy": lists.entropy(counts)}
    nan = float("nan")
    estimates |= {metric: Estimate(value, nan, nan, len(users)) for metric, value in whole.items()}
    if errors is not None:
        estimates |= errors.estimates(stream.child("interval"))
    complete = resolve(use, options, where=where, methods=methods)
    speed = 1e3 * (served - fitted) / max(len(users), 1)
    return Evaluated(name, portable(use), complete, fitted - started, speed, estimates), values["ndcg"], errors
