"""What each leak buys: figures of simulated users, EASE and counts, where the training part knows more than it could have known then.

The same held-out rows are judged under every cut. At some moments the log is cut for everybody (Ji et al., "A critical study on data
leakage in recommender system offline evaluation", TOIS 2023); each user with rows on both sides is judged at the last such moment, on a
half of what came after, drawn at random, among items that they never met. `CUTS` says what is known besides what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from agents.calibrated import CalibratedDecisions
from agents.exposures import items_by_user
from agents.profiles import fit_profiles
from environments.datasets.splits import SplitConfig, filtered, split
from experiments import build
from experiments.config import ExperimentConfig
from experiments.fidelity import measured_sets, shelf
from experiments.fidelity.baselines import COUNTS, SCALINGS, Judge, Part, scored
from experiments.fidelity.candidates import nested_candidates
from experiments.fidelity.resampling import estimate, person_index, plain, resample
from simulator.dataset import Dataset, require
from simulator.errors import DataError
from simulator.one_thread import one_thread
from simulator.records import UserProfile
from simulator.seeds import Stream

OUTPUT: Final[Path] = Path("results/benchmarks/leaks.json")
SETS: Final[tuple[str, ...]] = ("ml-100k", "ml-latest-small", "ciao-dvd")
MOMENTS: Final[tuple[float, ...]] = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of all interactions that lie before the moments."""

CORE: Final[int] = 5
FEWEST_BEFORE, FEWEST_AFTER = 5, 2
"""Interactions that a user has before and after a moment at least to be judged there."""

HELD_OUT_OF_OTHERS: Final[float] = 0.2
RESAMPLES: Final[int] = 1_000
HONEST: Final[str] = "one moment for everybody"
PROFILES, POPULARITY, PER_USER, RANDOM = "profiles from all data", "later popularity", "per-user cut", "random cut"
CUTS: Final[Mapping[str, str]] = {
    HONEST: "what happened before the moment, and nothing else",
    PROFILES: "as above, but profiles are made of all rows, the held-out ones among them",
    POPULARITY: "besides, other users' later rows, with their items and ratings dealt anew among them, so that only popularity is told",
    PER_USER: "besides, other users' later rows but for the latest fifth of each",
    RANDOM: "besides, other users' later rows but for a random fifth of each, and the other half of one's own",
}
"""Cut -> what is known under it."""

USERS, EASE, BIASES = "simulated users", "EASE", "biases"
EASE_OPTIONS: Final[Mapping[str, float]] = {"l2": 200.0}
FIGURES: Final[tuple[str, ...]] = ("auc_matched", "auc_pairs")


@dataclass(frozen=True, eq=False)
class Judged:
    """What was found at one moment.

    Attributes:
        part: candidates, with what came before the moment as training part.
        scores: cut -> who -> figure -> scores of ``part.rows``, shape (n,).
        rated: held-out rows with a rating, `INTERACTIONS_SCHEMA`. expected: cut -> who -> expected ratings of them, shape (m,).
    """

    part: Part
    scores: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
    rated: pl.DataFrame
    expected: Mapping[str, Mapping[str, np.ndarray]]


def run(folder: Path, names: Sequence[str], output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures data sets one after another; the file is written after each, and those that are not measured now stay as they are.

    Args:
        folder: holds a folder for each data set. names: of `SETS`. output: JSON. say: told what is going on.
    """

    def figures(name: str) -> Mapping[str, Any]:
        say(name)
        return measure(shelf.experiment(name, folder), say)

    return measured_sets.run(names, output, figures, {"cuts": dict(CUTS), "moments": list(MOMENTS), "resamples": RESAMPLES})


@one_thread()
def measure(config: ExperimentConfig, say: Callable[[str], None], moments: Sequence[float] = MOMENTS) -> dict[str, Any]:
    """Figures under each cut, and what each gains over the honest one, on one data set.

    Args:
        config: the experiment; its split is not used. say: told what is going on. moments: shares of all interactions before each moment.

    Returns:
        ``users``, ``held_out_rows`` and ``cuts``: cut -> who -> figure -> an estimate, with ``gain`` (another) but for the honest cut.

    Raises:
        DataError: the data has no times, or nobody has enough rows on both sides of a moment.
    """
    dataset = filtered(build.dataset(config), SplitConfig(k_core=CORE))
    require(dataset, times="what leaks buy")
    stream = Stream(config.seed).child("leaks")
    times = dataset.interactions["timestamp"].to_numpy()
    ends = [int(np.quantile(times, share, method="lower")) for share in moments]
    judged_at = _judged_at(dataset, ends)
    if not (judged_at >= 0).any():
        raise DataError(
            f"nobody in data set '{dataset.name}' has {FEWEST_BEFORE} interactions before one of {len(ends)} moments and {FEWEST_AFTER} "
            "after it, so that no cut can be judged; it takes users who come back."
        )
    parts = []
    for number, end in enumerate(ends):
        people = np.flatnonzero(judged_at == number)
        if len(people):
            say(f"moment {number + 1} of {len(ends)}, {len(people)} users")
            parts.append(_at(config, dataset, end, people, stream.child(number)))
    return _figures(parts, dataset, stream.child("resamples"))


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each data set and cut, for people to read; what a cut gains over the honest one stands behind each figure."""

    def shown(line: Mapping[str, Any], who: str, figure: str) -> str:
        one = line.get(who, {}).get(figure)
        if one is None or one["value"] is None:
            return ""
        gain = one.get("gain")
        return f"{one['value']:.3f}" + (f" ({gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}])" if gain else "")

    rows = []
    for name, own in found["data"].items():
        if "not_measured" in own:
            rows.append({"data": name, "cut": own["not_measured"]})
            continue
        for cut, line in own["cuts"].items():
            rows.append(
                {
                    "data": f"{name}, {own['users']} users",
                    "cut": cut,
                    "users: matched AUC": shown(line, USERS, "auc_matched"),
                    "users: pairs": shown(line, USERS, "auc_pairs"),
                    "users: RMSE": shown(line, USERS, "rmse"),
                    "EASE: matched AUC": shown(line, EASE, "auc_matched"),
                    "EASE: pairs": shown(line, EASE, "auc_pairs"),
                    "counts: pairs": shown(line, COUNTS, "auc_pairs"),
                }
            )
    return rows


def _judged_at(dataset: Dataset, ends: Sequence[int]) -> np.ndarray:
    """Number of the last moment at which each user can be judged, -1 for those who never can, shape (n_users,)."""
    users, times = dataset.interactions["user"].to_numpy(), dataset.interactions["timestamp"].to_numpy()
    found = np.full(dataset.n_users, -1)
    for number, end in enumerate(ends):
        before, after = (np.bincount(users[side], minlength=dataset.n_users) for side in (times <= end, times > end))
        found[(before >= FEWEST_BEFORE) & (after >= FEWEST_AFTER)] = number
    return found


def _held_out(dataset: Dataset, end: int, people: np.ndarray, stream: Stream) -> np.ndarray:
    """Rows that are judged: of each of `people` a random half of those after the moment, at least one; bool, shape (n,)."""
    users, times = dataset.interactions["user"].to_numpy(), dataset.interactions["timestamp"].to_numpy()
    ids, found = dataset.users["user_id"].to_list(), np.zeros(len(users), dtype=bool)
    for user in people.tolist():
        places = np.flatnonzero((users == user) & (times > end))
        found[stream.child(ids[user]).generator().permutation(places)[: len(places) // 2]] = True
    return found


def training_rows(dataset: Dataset, end: int, people: np.ndarray, held_out: np.ndarray, stream: Stream) -> dict[str, pl.DataFrame]:
    """What is known under each cut but `PROFILES`, which knows the rows of `HONEST`.

    Args:
        dataset: everything. end: the moment. people: codes of those who are judged. held_out: what is judged, bool, shape (n,).
        stream: of the random choices.
    """
    rows = dataset.interactions
    later = rows["timestamp"].to_numpy() > end
    mine = np.isin(rows["user"].to_numpy(), people)
    others = dataset.with_interactions(rows.filter(pl.Series(~mine)))
    before, own = rows.filter(pl.Series(~later)), rows.filter(pl.Series(mine & ~later))

    def of_others(method: str) -> pl.DataFrame:
        if others.interactions.is_empty():
            return others.interactions
        cut = SplitConfig.model_validate({"method": method, "test_share": HELD_OUT_OF_OTHERS})
        return split(others, cut, stream.child(method)).train.interactions

    def together(*parts: pl.DataFrame) -> pl.DataFrame:
        return pl.concat(parts).sort("user", "timestamp", maintain_order=True)

    dealt = rows.filter(pl.Series(later & ~mine))
    order = stream.child("dealt").generator().permutation(dealt.height)
    dealt = dealt.with_columns(dealt["item"][order], dealt["rating"][order]).unique(["user", "item"], keep="first", maintain_order=True)
    new = dealt.join(before, on=["user", "item"], how="anti", maintain_order="left")
    others_before = before.filter(pl.Series(~mine[~later]))
    return {
        HONEST: before,
        POPULARITY: together(before, new),
        PER_USER: together(own, others_before, _after(of_others("temporal"), end)),
        RANDOM: together(rows.filter(pl.Series(mine & ~held_out)), others_before, _after(of_others("random"), end)),
    }


def _after(rows: pl.DataFrame, end: int) -> pl.DataFrame:
    return rows.filter(pl.col("timestamp") > end)


def _at(config: ExperimentConfig, dataset: Dataset, end: int, people: np.ndarray, stream: Stream) -> Judged:
    """Scores under each cut at one moment."""
    held_out = _held_out(dataset, end, people, stream.child("held out"))
    hidden = dataset.interactions.filter(pl.Series(held_out))
    known = training_rows(dataset, end, people, held_out, stream.child("rows"))
    honest = dataset.with_interactions(known[HONEST])
    every = items_by_user(dataset.interactions, dataset.n_users)
    found = nested_candidates(hidden, every, honest, people, stream.child("candidates"))
    rows, rated = pl.concat([found[user] for user in people.tolist()]), hidden.filter(pl.col("rating").is_not_null())
    scores: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    part = Part(honest, {}, rows)
    for cut, learned in known.items():
        train = dataset.with_interactions(learned)
        profiles = {profile.user: profile for profile in fit_profiles(train)}
        order = "random" if cut == RANDOM else "latest"
        decision = config.decision.model_validate({**config.decision.model_dump(), "hide": order})
        model, _ = shelf.fitted(config.model_copy(update={"decision": decision}), train, list(profiles.values()))
        pairs = [(cut, profiles)]
        if cut == HONEST:
            part = Part(honest, profiles, rows)
            pairs.append((PROFILES, {profile.user: profile for profile in fit_profiles(dataset)}))
        for name, known_as in pairs:
            scores[name] = _scores(model, Part(train, known_as, rows))
            expected[name] = _expected(model, known_as, rated)
    return Judged(part, scores, rated, expected)


def _scores(model: CalibratedDecisions, part: Part) -> dict[str, dict[str, np.ndarray]]:
    taste, utility = shelf.asked(model, part)
    found = {USERS: {"auc_matched": taste, "auc_pairs": utility}}
    for one in scored(part.train, part.profiles, part.rows, [(COUNTS, {}), (EASE, EASE_OPTIONS)]):
        if one.name == COUNTS or one.scaling == SCALINGS[1]:
            found[one.name] = dict.fromkeys(FIGURES, one.scores)
    return found


def _expected(model: CalibratedDecisions, profiles: Mapping[int, UserProfile], rated: pl.DataFrame) -> dict[str, np.ndarray]:
    """Expected ratings of rows sorted by user; empty where nobody rates."""
    if model.raters is None or rated.is_empty():
        return {}
    users, biases = [], []
    raters = model.raters.model
    for (user,), some in rated.group_by("user", maintain_order=True):
        profile, items = profiles[int(str(user))], some["item"].to_numpy()
        if profile.ratings is None:
            return {}
        users.append(model.expected_ratings(profile, items))
        level = raters.biases.of_history(profile.history, profile.ratings.astype(np.float64))
        biases.append(np.clip(raters.biases.mean + level + raters.biases.of_item[items], *raters.ends))
    return {USERS: np.concatenate(users), BIASES: np.concatenate(biases)}


def _figures(parts: Sequence[Judged], dataset: Dataset, stream: Stream) -> dict[str, Any]:
    """All moments together; an item is another one at another moment, where it was as popular as it was then."""
    rows = pl.concat([one.part.rows.with_columns(item=pl.col("item") + number * dataset.n_items) for number, one in enumerate(parts)])
    judge = Judge(rows, np.concatenate([one.part.counts for one in parts]), RESAMPLES, stream)

    def joined(cut: str, who: str, figure: str) -> np.ndarray | None:
        found = [one.scores[cut].get(who, {}).get(figure) for one in parts]
        return None if any(values is None for values in found) else np.concatenate(found)  # type: ignore[arg-type]

    cuts: dict[str, Any] = {}
    for cut in CUTS:
        line: dict[str, Any] = {}
        for who in (USERS, EASE, COUNTS):
            for figure in FIGURES:
                own, honest = joined(cut, who, figure), joined(HONEST, who, figure)
                if own is not None and honest is not None:
                    gain = {} if cut == HONEST else {"gain": judge.both(figure, own, honest)}
                    line.setdefault(who, {})[figure] = judge.both(figure, own) | gain
        for who in (USERS, BIASES):
            if all(who in one.expected[cut] for one in parts):
                line.setdefault(who, {})["rmse"] = _rmse(parts, cut, who, stream.child("rmse"))
        cuts[cut] = line
    return {"users": rows["user"].n_unique(), "held_out_rows": int((rows["kind"] == "positive").sum()), "cuts": cuts}


def _rmse(parts: Sequence[Judged], cut: str, who: str, stream: Stream) -> dict[str, Any]:
    """Root mean squared error, with an interval over users, and what it gains over the honest cut."""
    users = np.concatenate([one.rated["user"].to_numpy() for one in parts])
    given = np.concatenate([one.rated["rating"].to_numpy().astype(np.float64) for one in parts])
    index, n = person_index(users)
    weights, sizes = resample(n, RESAMPLES, stream), np.bincount(index, minlength=n)

    def errors(of: str) -> tuple[float, np.ndarray]:
        squares = np.square(np.concatenate([one.expected[of][who] for one in parts]) - given)
        resampled = (weights @ np.bincount(index, weights=squares, minlength=n)) / np.maximum(weights @ sizes, 1.0)
        return float(np.sqrt(squares.mean())), np.sqrt(resampled)

    (own, owns), (honest, honests) = errors(cut), errors(HONEST)
    found = plain(estimate(own, owns, n))
    return found if cut == HONEST else found | {"gain": plain(estimate(own - honest, owns - honests, n))}
