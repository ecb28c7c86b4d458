"""New people, drawn from the joint distribution of the real ones.

A Gaussian copula (Sklar 1959; Nelsen, "An Introduction to Copulas", 2006) keeps each quantity's own distribution and the
rank correlations between all of them: the traits, the spread of the ratings, the taste for popular items, the principal
components of the log genre shares, age, and the numbers of the rhythm. From the drawn quantities a history is drawn that agrees with them
(`agents.drawing`), and the profile is then *measured* on that history as for real people, so that it cannot contradict itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh
from scipy.stats import norm, rankdata

from agents import traits
from agents.drawing import RatingStyle, draw_items, draw_ratings, item_rates
from agents.profiles import Norms, fit_norms, profile_parts
from agents.rhythm import DEFAULT_RHYTHM
from agents.shrinkage import dirichlet_strength, shrink_shares
from agents.traits import Histories
from simulator.dataset import Dataset, synthetic_id
from simulator.errors import ConfigError
from simulator.records import Rhythm, UserProfile
from simulator.seeds import Stream

FEWEST_PEOPLE = 10
"""Correlations of fewer people mean nothing."""
CANDIDATES = 8
"""Histories drawn for one person; the one whose diversity is nearest to the drawn diversity is kept."""
DONORS = 10
"""Nearest real people; one lends what has no order (gender, occupation) and the taste outside `MOST_TASTES`, all their mean hours."""
MOST_TASTES = 20
"""Principal components of the log genre shares that enter the copula."""


@dataclass(frozen=True, slots=True)
class Copula:
    """The joint distribution of several quantities.

    Attributes:
        names: of the quantities. columns: their sorted real values, one array each (missing ones left out).
        scores: normal scores of the real people, 0 where missing, shape (n_people, n_quantities).
        factor: Cholesky factor of the correlation of the scores.
    """

    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    scores: np.ndarray
    factor: np.ndarray


def fit_copula(table: dict[str, np.ndarray]) -> Copula:
    """Fits a Gaussian copula.

    Args:
        table: quantity -> value of each person, NaN where unknown; all of the same length.
    """
    columns, scores = [], []
    for values in table.values():
        known = ~np.isnan(values)
        score = np.zeros(len(values))
        score[known] = norm.ppf((rankdata(values[known]) - 0.5) / known.sum())
        columns.append(np.sort(values[known]))
        scores.append(score)
    matrix = np.stack(scores, axis=1)
    spread = np.sqrt((matrix**2).mean(axis=0))
    scaled = matrix / np.where(spread > 0, spread, 1.0)
    correlation = scaled.T @ scaled / len(matrix)
    np.fill_diagonal(correlation, 1.0)
    # 1 % of independence keeps the matrix positive definite when quantities repeat each other
    factor = np.linalg.cholesky(0.99 * correlation + 0.01 * np.eye(len(correlation)))
    return Copula(tuple(table), tuple(columns), matrix, factor)


def draw(copula: Copula, rng: np.random.Generator) -> tuple[dict[str, float], np.ndarray]:
    """One person's quantities, each within the range of the real ones, and their normal scores."""
    scores = copula.factor @ rng.standard_normal(len(copula.names))
    places = norm.cdf(scores)
    values = {}
    for name, column, place in zip(copula.names, copula.columns, places, strict=True):
        # ages come in bands in some data, so an age must be one that occurs
        values[name] = float(np.quantile(column, place, method="inverted_cdf" if name == "age" else "linear"))
    return values, scores


def synthesise(profiles: Sequence[UserProfile], n: int, train: Dataset, rng: Stream) -> list[UserProfile]:
    """Draws people who could be in the data but are not.

    Args:
        profiles: of the real people to learn from, of `agents.profiles.fit_profiles`.
        n: people wanted.
        train: the training part that the profiles were fitted on.
        rng: of the draw; person k depends on ``rng.child(k)`` only, so a larger n keeps the people of a smaller one.

    Returns:
        Profiles marked `synthetic`, user codes from ``train.n_users`` on, ids "synthetic-0000" and so on. No history has
        the same items as a real person's.

    Raises:
        ConfigError: there are too few real people, or too few items to draw a history that nobody has.
    """
    if n == 0:
        return []
    if len(profiles) < FEWEST_PEOPLE:
        raise ConfigError(
            f"population.synthetic = {n} needs at least {FEWEST_PEOPLE} real people to learn from, but the data has {len(profiles)}; "
            "set it to 0."
        )
    norms = fit_norms(train)
    sketch = _Sketch(profiles, norms, train)
    drawn = [sketch.person(rng.child(k).generator(), n) for k in range(n)]
    ratings = np.concatenate([ratings for _, _, ratings in drawn]) if norms.item_means is not None else None
    parts = profile_parts(_joined([items for _, items, _ in drawn], ratings), norms)
    return [
        replace(base, user=train.n_users + k, user_id=synthetic_id(k), **part)
        for k, ((base, _, _), part) in enumerate(zip(drawn, parts, strict=True))
    ]


class _Sketch:
    """What is learned once from the real people and used for every drawn one."""

    def __init__(self, profiles: Sequence[UserProfile], norms: Norms, train: Dataset) -> None:
        self.profiles, self.norms = profiles, norms
        people = _joined([profile.history for profile in profiles])
        counts = traits.genre_counts(people, norms.genres)
        # Half the estimated strength: shares n / (n + s/2) of the way from everybody's to the own ones vary between people as much as
        # the true ones do, to first order, whereas full shrinkage makes all alike and none adds chance to chance
        # (Louis, "Estimating a population of parameter values using Bayes and empirical Bayes methods", JASA 79, 1984).
        tastes = np.log(np.maximum(shrink_shares(counts, norms.genre_shares, dirichlet_strength(counts) / 2.0), 1e-12))
        self.usual = tastes.mean(axis=0)
        self.directions = _components(tastes - self.usual)
        places = (tastes - self.usual) @ self.directions.T
        self.rest = tastes - self.usual - places @ self.directions
        mainstream = people.mean(np.log(np.maximum(norms.popularity, 1.0))[people.items])
        self.copula = fit_copula({"mainstream": mainstream} | _quantities(profiles, places))
        self.hours = np.array([profile.rhythm.hours for profile in profiles])
        self.taken = {np.sort(profile.history).tobytes() for profile in profiles}
        if norms.item_means is not None:
            self.grades, self.frequencies = _grades(train.interactions["rating"].to_numpy().astype(np.float64))

    def person(self, rng: np.random.Generator, wanted: int) -> tuple[UserProfile, np.ndarray, np.ndarray]:
        """A profile whose measured fields are still those of a donor, and the history and ratings to measure them on."""
        values, scores = draw(self.copula, rng)
        nearest = self._nearest(scores)
        index = int(rng.choice(nearest))
        donor = self.profiles[index]
        items = self._history(values, self.rest[index], rng, wanted)
        ratings = np.empty(0, dtype=np.float32)
        if self.norms.item_means is not None:
            means = self.norms.item_means[items]
            style = RatingStyle(values["pickiness"], values["spread"], values["conformity"])
            ratings = draw_ratings(means, self.grades, self.frequencies, style, rng)
        age = round(values["age"]) if "age" in values and donor.age is not None else None
        rhythm = DEFAULT_RHYTHM
        if donor.rhythm.source != "default":
            rhythm = replace(self._rhythm(values, nearest), visits=donor.rhythm.visits)
        return replace(donor, synthetic=True, age=age, rhythm=rhythm, taste=None), items, ratings

    def _nearest(self, scores: np.ndarray) -> np.ndarray:
        weights = np.ones(len(scores))
        if "age" in self.copula.names:
            # the occupation depends on the age more than on anything else here: no pupils of sixty
            weights[self.copula.names.index("age")] = len(scores)
        distances = ((self.copula.scores - scores) ** 2 * weights).sum(axis=1)
        return np.argsort(distances, kind="stable")[:DONORS]

    def _history(self, values: dict[str, float], rest: np.ndarray, rng: np.random.Generator, wanted: int) -> np.ndarray:
        norms = self.norms
        n = int(min(max(round(np.exp(values["activity"])), 1), np.count_nonzero(norms.popularity)))
        tastes = np.array([values[name] for name in self.copula.names if name.startswith("taste ")])
        targets = np.exp(self.usual + tastes @ self.directions + rest)
        rates = item_rates(norms.popularity, norms.genres, targets, values["mainstream"], n)
        best, distance = None, np.inf
        for _ in range(CANDIDATES):
            items = draw_items(rates, n, rng)
            reached = traits.diversity(np.asarray(norms.genres[items].sum(axis=0))[None, :])[0]
            if abs(reached - values["diversity"]) < distance and np.sort(items).tobytes() not in self.taken:
                best, distance = items, abs(reached - values["diversity"])
        if best is None:
            raise ConfigError(
                f"population.synthetic = {wanted} cannot be met: with {np.count_nonzero(norms.popularity)} items, every history of "
                f"{n} that was drawn is also a real person's; the data is too small for synthetic people, set it to 0."
            )
        return best

    def _rhythm(self, values: dict[str, float], nearest: np.ndarray) -> Rhythm:
        hours = self.hours[nearest].mean(axis=0)
        return Rhythm(
            sessions_per_week=float(np.exp(values["sessions_per_week"])),
            gap_log_mean=values["gap_log_mean"],
            gap_log_sd=values["gap_log_sd"],
            items_per_session=max(float(np.exp(values["items_per_session"])), 1.0),
            seconds_per_item=float(np.exp(values["seconds_per_item"])),
            hours=tuple((hours / hours.sum()).tolist()),
            source="population",
            gap_factor=float(np.exp(values["gap_factor"])),
        )


def _joined(histories: Sequence[np.ndarray], ratings: np.ndarray | None = None) -> Histories:
    people = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
    return Histories(people, np.concatenate(histories), ratings, len(histories))


def _components(centred: np.ndarray) -> np.ndarray:
    """Directions of the greatest variance, shape (k, n_genres), k at most `MOST_TASTES`."""
    size = centred.shape[1]
    if size == 0:
        return np.zeros((0, 0))
    _, vectors = eigh(centred.T @ centred, subset_by_index=(max(0, size - MOST_TASTES), size - 1))
    return np.asarray(vectors.T[::-1])


def _quantities(profiles: Sequence[UserProfile], tastes: np.ndarray) -> dict[str, np.ndarray]:
    """What the copula joins: quantity -> value of each person; positive skewed ones as logs."""

    def column(values: Sequence[float | None]) -> np.ndarray:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    table = {
        "activity": np.log(column([p.activity.value for p in profiles])),
        "diversity": column([p.diversity.value for p in profiles]),
        "conformity": column([p.conformity.value if p.conformity else None for p in profiles]),
        "pickiness": column([p.pickiness.value if p.pickiness else None for p in profiles]),
        "spread": column([None if p.ratings is None else float(p.ratings.std()) for p in profiles]),
        "age": column([p.age for p in profiles]),
        "sessions_per_week": np.log(column([p.rhythm.sessions_per_week for p in profiles])),
        "gap_log_mean": column([p.rhythm.gap_log_mean for p in profiles]),
        "gap_log_sd": column([p.rhythm.gap_log_sd for p in profiles]),
        "gap_factor": np.log(column([p.rhythm.gap_factor for p in profiles])),
        "items_per_session": np.log(column([p.rhythm.items_per_session for p in profiles])),
        "seconds_per_item": np.log(column([p.rhythm.seconds_per_item for p in profiles])),
    }
    table |= {f"taste {k}": tastes[:, k] for k in range(tastes.shape[1])}
    return {name: values for name, values in table.items() if not np.isnan(values).all()}


def _grades(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratings that occur and their shares; a continuous scale is represented by 41 of its quantiles."""
    grades, counts = np.unique(ratings, return_counts=True)
    if len(grades) > 41:
        grades, counts = np.unique(np.quantile(ratings, np.linspace(0, 1, 41), method="inverted_cdf"), return_counts=True)
    return grades, counts / counts.sum()
