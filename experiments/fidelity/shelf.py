"""The shelf: simulated users on many public data sets, with no setting that differs but names of columns and words of the domain.

What each figure is held against stands beside it: the best of the baselines (`experiments.fidelity.baselines`), tuned on validation users.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from agents.calibrated import CalibratedDecisions
from agents.choice_model import fit_logit
from agents.exposures import PeopleSplit, hide, items_by_user, people_split
from agents.profiles import fit_profiles
from agents.rating_model import Ratings
from environments.feed import Feed
from experiments import anchoring, build, round_recommender
from experiments import config as configuration
from experiments.config import ExperimentConfig
from experiments.fidelity import accuracy, baselines, measured_sets, session_lengths, shelf_data
from experiments.fidelity.baselines import CHANCE, COUNTS, Judge, Part, Scored
from experiments.fidelity.candidates import MATCHED, POSITIVE, nested_candidates
from experiments.run import origin
from experiments.sections import RecommenderSection
from simulator.dataset import Dataset
from simulator.errors import UsersimError
from simulator.one_thread import one_thread
from simulator.paths import cache_folder
from simulator.protocols import DecisionContext
from simulator.records import UserProfile
from simulator.seeds import Stream

CONFIGS: Final[Path] = Path(__file__).parent.parent / "configs" / "shelf"
OUTPUT: Final[Path] = Path("results/benchmarks/shelf.json")
SUBSAMPLES: Final[Path] = Path("results/benchmarks/shelf_subsamples.json")
START, END = "<!-- shelf: written by `usersim benchmark shelf` -->", "<!-- end of shelf -->"
"""Between them stands the table in a document."""

SETS: Final[tuple[str, ...]] = (
    "ml-100k", "ml-1m", "ml-latest-small", "lastfm", "ciao-dvd", "gift-cards", "scientific", "beauty", "toys", "sports", "yelp",
)  # fmt: skip
SEQUENCES: Final[Mapping[str, str]] = {f"s3rec-{name}": f"s3rec/{name}" for name in ("beauty", "toys", "sports", "yelp")}
RECBOLE: Final[tuple[str, ...]] = ("amazon-2018-scientific",)
MOST_JUDGED, MOST_VALIDATION = 1_000, 400
RESAMPLES: Final[int] = 200
DRAWS: Final[int] = 10
"""Times that users' slopes and choices are drawn for how much they differ."""
FEWEST_RATED, FEWEST_VARIED = 5, 20
"""Ratings of a user whose mean is compared, and users whose variance is."""

MOST_PAGES, MOST_EASE_PAGES, MOST_BPR = 300, 5_000, 200_000
"""Users of a first round that is looked at; items and interactions above which EASE and BPR do not fill any, for their time."""

RECOMMENDERS: Final[Mapping[str, str]] = {
    "Random": "environments.recommenders.random:Random",
    "Popularity": "environments.recommenders.popularity:Popularity",
    "ItemKNN": "environments.recommenders.item_knn:ItemKNN",
    "EASE": "environments.recommenders.ease:EASE",
    "BPR": "environments.recommenders.bpr:BPR",
}
NO_SVDPP: Final[str] = (
    "Surprise's SVD++ was run on its five folds of all ratings and not on this split: `usersim benchmark ratings FOLDER --surprise PYTHON`"
    " holds its error beside ours there, in results/benchmarks/ratings.json"
)


def run(folder: Path, names: Sequence[str], output: Path, say: Callable[[str], None], users: Sequence[int] = ()) -> dict[str, Any]:
    """Measures data sets one after another; the file is written after each, and those that are not measured now stay as they are.

    Args:
        folder: holds a folder for each data set. names: of `SETS`. output: JSON. say: told what is going on.
        users: sizes of random subsamples that are measured instead of everybody, under names such as ``ml-100k-300``.
    """
    sizes: dict[str, tuple[str, int | None]] = {f"{name}-{size}": (name, size) for name in names for size in users}
    sizes = sizes or {name: (name, None) for name in names}

    def figures(label: str) -> Mapping[str, Any]:
        say(f"{label}: fitting users and baselines")
        name, size = sizes[label]
        config = experiment(name, folder)
        own = measure(config, size)
        started = time.perf_counter()
        later = at_one_moment(config, size)
        if later is not None:
            later["seconds"] = round(time.perf_counter() - started, 1)
        return with_later(own, later)

    return measured_sets.run(list(sizes), output, figures)


def with_later(own: Mapping[str, Any], later: Mapping[str, Any] | None) -> dict[str, Any]:
    """Figures, and under ``global_time`` those of one cut in time with the same keys; None stands for what one of both does not have.

    ``seconds`` is of the cut in time here; `experiments.fidelity.measured_sets.run` adds that of the whole.
    """
    if later is None:
        return {**own, "global_time": None}
    of_both: dict[str, Any] = dict.fromkeys([*own, *(key for key in later if key not in ("not_measured", "seconds"))])
    return {**of_both, **own, "global_time": {**of_both, **later}}


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each data set, for people to read."""

    def shown(one: Mapping[str, Any], name: str, form: str = "{:.3f}") -> str:
        value = one.get(name)
        return "" if value is None else form.format(value)

    rows = []
    for name, own in found["data"].items():
        if "not_measured" in own:
            rows.append({"data": name, "users": own["not_measured"]})
            continue
        rows.append(
            {
                "data": name,
                "users": str(own["held_out_users"]),
                "matched AUC": shown(own, "auc_matched") + ("" if own["matched"] else " (not matched)"),
                "lift over": f"{own['best_baseline']} {own['lift']:+.3f} [{own['lift_low']:+.3f}, {own['lift_high']:+.3f}]",
                "pairs": shown(own, "auc_pairs"),
                "lift in pairs": f"{own['lift_pairs']:+.3f} [{own['lift_pairs_low']:+.3f}, {own['lift_pairs_high']:+.3f}]",
                "1:1 accuracy (counts)": f"{own['accuracy_1_1']:.3f} ({own['accuracy_1_1_counts']:.3f})",
                "RMSE (biases)": f"{shown(own, 'rmse')} ({shown(own, 'rmse_biases')})" if own.get("rmse") is not None else "",
                "variance of popularity": shown(own["variance_ratio"], "popularity", "{:.2f}"),
                "slope": shown(own, "calibration_slope", "{:.2f}"),
                f"chosen (asked {own['choose_rate_asked']:.2f})": _range(own["choose_rate_got"].values()),
            }
        )
    return rows


def _range(values: Iterable[float]) -> str:
    found = sorted(values)
    return f"{found[0]:.2f} to {found[-1]:.2f}" if found else ""


def experiment(name: str, folder: Path) -> ExperimentConfig:
    """The experiment of a data set in a folder; files of sequences are written as tables first, into the cache.

    Raises:
        UsersimError: it is not there.
    """
    config = configuration.read(CONFIGS / f"{name}.toml")
    own = str(config.dataset.options["path"])
    if own in SEQUENCES or own in RECBOLE:
        place = cache_folder() / "shelf" / own
        if own in RECBOLE:
            shelf_data.from_recbole(folder / own, place)
        else:
            shelf_data.from_sequences(folder / SEQUENCES[own], place)
    else:
        place = folder / own
    return configuration.read(CONFIGS / f"{name}.toml", [f"dataset.path={place}"])


def at_one_moment(config: ExperimentConfig, users: int | None = None) -> dict[str, Any] | None:
    """The figures of users without a language model where everything after one moment is held out; None where the data has no times."""
    if not build.dataset(config).has_times:
        return None
    section = config.dataset.model_copy(update={"split": "global_time", "test_share": 0.2})
    decision = config.decision.model_validate({**config.decision.model_dump(), "hide": "auto", "language_model": False})
    try:
        return measure(config.model_copy(update={"dataset": section, "decision": decision}), users)
    except UsersimError as error:
        return {"not_measured": str(error)}


@one_thread()
def measure(config: ExperimentConfig, users: int | None = None) -> dict[str, Any]:
    """All figures of one data set, or of a random subsample of so many of its users, flat."""
    divided = build.data(config, None if users is None else shelf_data.of_users(build.dataset(config), users, config.seed))
    train, roles, stream = divided.train, people_split(divided.train), Stream(config.seed).child("shelf")
    held_out = _held_out(train, divided.test, roles, stream)
    validation = _validation(train, roles, config, stream)
    model, seconds = fitted(config, train, list(held_out.profiles.values()))
    judge = Judge(held_out.rows, held_out.counts, RESAMPLES, stream.child("resamples"))
    tried = list(baselines.scored(validation.train, validation.profiles, validation.rows, baselines.settings(train.n_items)))
    best = baselines.best_of(tried, Judge(validation.rows, validation.counts, 0, stream), held_out)
    taste, utility = asked(model, held_out)
    matched = abs(judge.point("auc_matched", best["auc_matched"][COUNTS].scores) - 0.5) <= CHANCE
    figures: dict[str, Any] = {
        "users": train.n_users,
        "items": train.n_items,
        "training_interactions": train.interactions.height,
        "held_out_users": held_out.rows["user"].n_unique(),
        "validation_users": validation.rows["user"].n_unique(),
        "matched": bool(matched),
        "counts_auc_matched": judge.point("auc_matched", best["auc_matched"][COUNTS].scores),
        "fit_seconds": round(seconds, 1),
    }
    figures |= _against(judge, best, taste, utility)
    of_baselines = accuracy.of_baselines(held_out, validation, best["auc_random"], tried)
    without_hidden, _ = fitted(config, validation.train, list(validation.profiles.values()))  # as baselines are, for the threshold
    own = accuracy.one_to_one(held_out.rows, utility, validation.rows, asked(without_hidden, validation)[1])
    figures |= accuracy.lifts(own, of_baselines) | {"auc_random": judge.point("auc_random", utility)}
    figures["auc_random_baselines"] = {name: judge.point("auc_random", one.scores) for name, one in best["auc_random"].items()}
    figures["calibration_slope"] = _slope(held_out.rows, utility)
    varied = _varied(model, held_out, divided.test, stream.child("varied"))
    figures |= _rated(model, held_out, divided.test, varied, stream.child("rated")) | varied
    session_lengths.add(figures, session_lengths.compared(held_out, divided.test, stream.child("sessions")))
    figures |= _rates_on_pages(model, config, held_out, stream.child("pages"))
    return figures


def _held_out(train: Dataset, test: pl.DataFrame, roles: PeopleSplit, stream: Stream) -> Part:
    """Held-out interactions of held-out users among items that they never met."""
    every = pl.concat([train.interactions.select(test.columns), test]).sort("user", maintain_order=True)
    people = np.sort(stream.child("people").generator().permutation(roles.held_out)[:MOST_JUDGED])
    hidden = test.filter(pl.col("user").is_in(people.tolist()))
    found = nested_candidates(hidden, items_by_user(every, train.n_users), train, people, stream.child("candidates"))
    profiles = {profile.user: profile for profile in fit_profiles(train)}
    return Part(train, profiles, pl.concat([found[user] for user in found if user in profiles]))


def _validation(train: Dataset, roles: PeopleSplit, config: ExperimentConfig, stream: Stream) -> Part:
    """Training interactions of validation users, hidden once more."""
    people = np.sort(stream.child("validation").generator().permutation(roles.validation)[:MOST_VALIDATION])
    order: Literal["random", "temporal"] = "random" if config.dataset.split == "random" or not train.has_times else "temporal"
    parts = hide(train, people, config.dataset.test_share, order, stream.child("hide"))
    found = nested_candidates(
        parts.hidden, items_by_user(train.interactions, train.n_users), parts.observed, people, stream.child("validation candidates")
    )
    profiles = {profile.user: profile for profile in fit_profiles(parts.observed)}
    return Part(parts.observed, profiles, pl.concat([found[user] for user in found if user in profiles]))


def fitted(config: ExperimentConfig, train: Dataset, profiles: Sequence[UserProfile]) -> tuple[CalibratedDecisions, float]:
    """Calibrated users without a language model, fitted anew to a training part, and the seconds that took."""
    feed = config.recommender.feed_config()
    context = DecisionContext(train.catalog, build.actions(train), None, train.rating_scale, feed.page_size, feed.max_pages, config.seed)
    options = CalibratedDecisions.Config.model_validate({**config.decision.options, "weights": "fit"})
    model = CalibratedDecisions(options, context=context)
    started = time.perf_counter()
    model.fit(train, profiles, Stream(config.seed).child("decisions"))
    return model, time.perf_counter() - started


def asked(model: CalibratedDecisions, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Taste and utility of rows."""
    taste, utility = [], []
    for (user,), rows in part.rows.group_by("user", maintain_order=True):
        profile, items = part.profiles[int(str(user))], rows["item"].to_numpy().astype(np.int64)
        taste.append(model.tastes(profile, items))
        utility.append(model.preferences(profile, items))
    return np.concatenate(taste), np.concatenate(utility)


def _against(judge: Judge, best: Mapping[str, Mapping[str, Scored]], taste: np.ndarray, utility: np.ndarray) -> dict[str, Any]:
    """Areas under the curve of taste (matched) and utility (pairs), and their lift over the best baseline of all four."""
    matched = baselines.over_the_best(judge, "auc_matched", taste, best["auc_matched"])
    pairs = baselines.over_the_best(judge, "auc_pairs", utility, best["auc_pairs"])
    found: dict[str, Any] = {}
    if matched is not None:
        found |= {"auc_matched": matched["value"], "low": matched["low"], "high": matched["high"], "auc_within": judge.within(taste)}
        found |= {"best_baseline": matched["best"]["name"], "baseline": matched["best"], "baselines": matched["baselines"]}
        found |= {name: matched["lift"][key] for name, key in (("lift", "value"), ("lift_low", "low"), ("lift_high", "high"))}
        found |= {"auc_matched_utility": judge.point("auc_matched", utility)}
    if pairs is not None:
        found |= {"auc_pairs": pairs["value"], "auc_pairs_low": pairs["low"], "auc_pairs_high": pairs["high"]}
        found |= {"best_baseline_pairs": pairs["best"]["name"], "baselines_pairs": pairs["baselines"]}
        found |= {f"lift_pairs{end}": pairs["lift"][key] for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}
    return found


def _slope(rows: pl.DataFrame, utility: np.ndarray) -> float | None:
    """Slope of what was chosen on the utility, against random items: 1 where log-odds are as far apart as they should be."""
    keep = (rows["kind"] != MATCHED).to_numpy()
    chosen = (rows["kind"] == POSITIVE).to_numpy()[keep]
    fitted = fit_logit(utility[keep, None], chosen.astype(np.float64), rows["user"].to_numpy()[keep], ("utility",))
    return float(fitted.weights[1]) if np.isfinite(fitted.errors[1]) else None


def _varied(model: CalibratedDecisions, held_out: Part, test: pl.DataFrame, stream: Stream) -> dict[str, Any]:
    """How much users differ, simulated over real, where each chooses as many items of the whole catalog as were held out.

    Items outside of the history are drawn without replacement in proportion to their odds (Gumbel variables added to them; Vieira 2014),
    and slopes from their posteriors, `DRAWS` times; figures are means over the draws, since one of a few hundred users moves by a quarter.
    """
    train, catalog = held_out.train, held_out.train.catalog
    values = {"popularity": np.log1p(held_out.counts)}
    years = catalog.items["year"].cast(pl.Float64).to_numpy()
    if np.isfinite(years).mean() > 0.5:
        values["year"] = years
    genres = catalog.genre_matrix.astype(np.float64)
    everything = np.arange(train.n_items)
    drawn: dict[str, list[list[float]]] = {}
    real: dict[str, list[float]] = {}
    items_of = {int(str(user)): rows["item"].to_numpy() for (user,), rows in test.group_by("user")}
    for user in held_out.rows["user"].unique(maintain_order=True).to_list():
        own = np.unique(items_of[user])
        if len(own) < 2:
            continue
        profile = held_out.profiles[user]
        index = model.preferences_drawn(profile, everything, stream.child("slopes"), DRAWS)
        index += stream.child(profile.user_id).generator().gumbel(size=index.shape)
        index[:, profile.history] = -np.inf
        simulated = np.argpartition(-index, len(own) - 1, axis=1)[:, : len(own)]
        for name, of_item in values.items():
            known = [items[np.isfinite(of_item[items])] for items in (*simulated, own)]
            if all(len(items) for items in known):
                means = [float(of_item[items].mean()) for items in known]
                drawn.setdefault(name, []).append(means[:-1])
                real.setdefault(name, []).append(means[-1])
        if genres.shape[1] > 1 and len(own) >= 5:
            drawn.setdefault("genre_entropy", []).append([_entropy(genres[items].sum(axis=0)) for items in simulated])
            real.setdefault("genre_entropy", []).append(_entropy(genres[own].sum(axis=0)))
    enough = [name for name in drawn if len(drawn[name]) >= FEWEST_VARIED and np.var(real[name]) > 0]
    ratios = {name: np.var(np.array(drawn[name]), axis=0) / np.var(real[name]) for name in enough}
    alike = {name: [np.corrcoef(draw, real[name])[0, 1] for draw in np.array(drawn[name]).T] for name in enough}
    return {
        "variance_ratio": {name: float(ratios[name].mean()) for name in enough},
        "variance_ratio_range": {name: [float(ratios[name].min()), float(ratios[name].max())] for name in enough},
        "variance_rho": {name: float(np.mean(alike[name])) for name in enough},
    }


def _rated(
    model: CalibratedDecisions, held_out: Part, test: pl.DataFrame, varied: Mapping[str, dict[str, float]], stream: Stream
) -> dict[str, Any]:
    """Errors of expected ratings, and drawn ratings beside real ones; what users' means vary by is added to `varied`."""
    found: dict[str, Any] = dict.fromkeys(("rmse", "rmse_biases", "rmse_svdpp", "tv_own_values"))
    found["rmse_svdpp_note"] = "the data has no ratings, or users do not rate" if model.raters is None else NO_SVDPP
    raters, train = model.raters, held_out.train
    if raters is None:
        return found
    people = held_out.rows["user"].unique().to_list()
    rows = test.filter(pl.col("user").is_in(people) & pl.col("rating").is_not_null()).sort("user", "item")
    if rows.is_empty():
        return found
    known = train.interactions.filter(pl.col("rating").is_not_null())
    arrays = known["user"].to_numpy(), known["item"].to_numpy(), known["rating"].to_numpy()
    biases = Ratings.of(*arrays, (train.n_users, train.n_items)).biases()
    own, chances, drawn = raters.model.own, np.zeros(len(raters.model.own.values)), {}
    expected = np.empty(rows.height)
    start = 0
    for (user,), some in rows.group_by("user", maintain_order=True):
        profile, items = held_out.profiles[int(str(user))], some["item"].to_numpy()
        if profile.ratings is None:
            return found
        expected[start : start + some.height] = model.expected_ratings(profile, items)
        of_values = raters.of_values(profile, items)
        chances += of_values.sum(axis=0)
        if some.height >= FEWEST_RATED:
            generator = stream.child(profile.user_id).generator()
            cumulative = of_values.cumsum(axis=1)
            codes = (generator.random((some.height, 1)) > cumulative[:, :-1]).sum(axis=1)
            drawn[profile.user_id] = (float(own.values[codes].mean()), float(some["rating"].mean()))  # type: ignore[arg-type]
        start += some.height
    given = rows["rating"].to_numpy().astype(np.float64)
    low, high = raters.model.ends
    plain_biases = np.clip(biases.expected(rows["user"].to_numpy(), rows["item"].to_numpy()), low, high)
    real = np.bincount(own.codes(given), minlength=len(own.values)) / len(given)
    if len(drawn) >= FEWEST_VARIED:
        simulated, true = (np.array(values) for values in zip(*drawn.values(), strict=True))
        if true.var() > 0:
            varied["variance_ratio"]["ratings"] = float(simulated.var() / true.var())
            varied["variance_rho"]["ratings"] = float(np.corrcoef(simulated, true)[0, 1])
    return found | {
        "rmse": float(np.sqrt(np.square(expected - given).mean())),
        "rmse_biases": float(np.sqrt(np.square(plain_biases - given).mean())),
        "tv_own_values": float(np.abs(chances / chances.sum() - real).sum() / 2.0),
    }


def _rates_on_pages(model: CalibratedDecisions, config: ExperimentConfig, held_out: Part, stream: Stream) -> dict[str, Any]:
    """The share that users choose in the first round of a run with each recommender, beside the one that was asked for.

    `MOST_PAGES` of all users take part, as in ``population.users``; the level is met as a run meets it (`experiments.anchoring`).
    """
    train, everybody = held_out.train, list(held_out.profiles.values())
    people = [everybody[place] for place in np.sort(stream.generator().permutation(len(everybody))[:MOST_PAGES]).tolist()]
    got: dict[str, float] = {}
    for name, use in RECOMMENDERS.items():
        if (name == "EASE" and train.n_items > MOST_EASE_PAGES) or (name == "BPR" and train.interactions.height > MOST_BPR):
            continue
        got[name] = rate_on_pages(model, config, config.recommender.model_copy(update={"use": use}), train, people)
    return {"choose_rate_asked": model.config.choose_rate, "choose_rate_got": got}


def rate_on_pages(
    model: CalibratedDecisions, config: ExperimentConfig, section: RecommenderSection, train: Dataset, people: Sequence[UserProfile]
) -> float:
    """The share that some users choose in the first round of a run with a recommender, on whose pages their level is met."""
    own = config.model_copy(update={"recommender": section})
    blueprint = build.Blueprint(own, train.catalog, build.actions(train), train.rating_scale, Path())
    feed = Feed(round_recommender.fitted(own, train, 0), build.policy_id(own), section.feed_config(), train.n_items)
    return anchoring.met(blueprint, model, feed, people, origin(train))


def _entropy(counts: np.ndarray) -> float:
    total = counts.sum()
    shares = counts[counts > 0] / max(total, 1.0)
    return float(-(shares * np.log(shares)).sum())
