"""How people rate: what is expected of a rating, how ratings lie around it on the data's own values, and what picking has to do with it.

The expected rating is ``m = bias + w (factors - bias)``, with biases (`agents.rating_biases`) and Bayesian factors
(`agents.rating_factors`). How far the factors can be trusted, w, is the slope of what the biases miss of held-out ratings on what the
factors add, less one standard error, within [0, 1]: where they do not help, the biases rate alone. Ratings are distributed around m as
`agents.rating_values` has it. A simulated person has a level of their own besides, drawn once, since n ratings leave it open.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.rating_biases import Biases
from agents.rating_factors import RatingFactors, Sizes
from agents.rating_selection import Selection, strength_of_selection, unpicked
from agents.rating_values import OwnValues, Shape
from simulator.seeds import Stream

PARTS = 5
"""Of the ratings one part is held out to judge the factors; below `ALL_PARTS` ratings each of them."""

ALL_PARTS = 20_000
FEWEST, FEWEST_SHAPED = 500, 50
"""With fewer ratings the biases rate alone, and everybody's histogram is not narrowed."""

MOST_ROWS = 6_000
"""Held-out ratings that the shape of the distribution is fitted to."""

MOST_PICKS, OTHERS = 50_000, 4
"""Picked ratings that are compared with random items, and random items for each."""

LEVELLED, TRIALS = 5, 4
"""Whether people have a level of their own is judged by people with so many held-out ratings, in so many draws."""

FORESEEN = 0.5


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings in arrays, sorted by person, item and rating, so that the order of rows does not matter.

    Attributes:
        users, items: codes, shape (n,). given: the data's units, float64, shape (n,). shape: (n_users, n_items).
    """

    users: np.ndarray
    items: np.ndarray
    given: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, given: np.ndarray, shape: tuple[int, int]) -> Ratings:
        """Sorts them."""
        order = np.lexsort((given, items, users))
        return cls(users[order].astype(np.int64), items[order].astype(np.int64), given[order].astype(np.float64), shape)

    def __len__(self) -> int:
        return len(self.given)

    def part(self, rows: np.ndarray) -> Ratings:
        """Some rows."""
        return Ratings(self.users[rows], self.items[rows], self.given[rows], self.shape)

    def biases(self) -> Biases:
        """Levels of these ratings."""
        return Biases.fit(self.users, self.items, self.given, self.shape)

    def factors(self, rng: Stream, sizes: Sizes) -> RatingFactors:
        """Factors of these ratings."""
        return RatingFactors.fit(self.users, self.items, self.given, self.shape, rng, sizes)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was expected of ratings that the fit had not seen.

    Attributes:
        rows: of `Ratings`, shape (n,). bias, factors: expected ratings. counts: of each value among their people's others, shape (n, v).
    """

    rows: np.ndarray
    bias: np.ndarray
    factors: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, eq=False)
class Rater:
    """What is known of how one person rates.

    Attributes:
        level: bias, the data's units. factors: in each sample, shape (s, k), or None. counts: of each value, shape (v,).
    """

    level: float
    factors: np.ndarray | None
    counts: np.ndarray


@dataclass(frozen=True, eq=False)
class RatingModel:
    """A fitted model.

    Attributes:
        biases, factors: the latter None where they are not trusted. trust: w, in [0, 1].
        own: the data's values. shape: how ratings lie around what is expected.
        counts: how often each person of the fit gave each value, shape (n_users, v). selection: what picking says.
        levelled: whether simulated people have a level of their own. report: what was found, for people to read.
    """

    biases: Biases
    factors: RatingFactors | None
    trust: float
    own: OwnValues
    shape: Shape
    counts: np.ndarray
    selection: Selection
    levelled: bool = True
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(cls, ratings: Ratings, rng: Stream, *, foreseen: float = FORESEEN) -> RatingModel:
        """Fits everything to ratings, at least one.

        Args:
            ratings: of the training part. rng: of held-out parts and samples. foreseen: phi, see `agents.rating_selection`.
        """
        own = OwnValues.of(ratings.given)
        held = _held_out(ratings, own, rng) if len(ratings) >= FEWEST_SHAPED and len(own.values) > 1 else None
        slope, error = (0.0, 0.0) if held is None else _slope(ratings, held)
        trust = float(np.clip(slope - error, 0.0, 1.0))
        biases, codes = ratings.biases(), own.codes(ratings.given)
        shares = np.bincount(codes, minlength=len(own.values)) / len(codes)
        counts = own.counts(ratings.users, codes, ratings.shape[0])
        if held is None:
            shape, levelled = Shape(own.values, shares, float(np.sqrt(biases.noise)), 10.0, 0.0), True
        else:
            shape, levelled = _shape(ratings, own, shares, held, trust, biases, rng)
        factors = ratings.factors(rng.child("all"), Sizes.of(len(ratings), ratings.shape)) if trust > 0.0 else None
        beta, beta_error, rows = _selection(ratings, rng) if trust > 0.0 else (0.0, 0.0, 0)
        selection = Selection(beta, beta_error, foreseen, shape.spread, rows=rows)
        report = {
            "ratings": len(ratings),
            "values": own.values.tolist(),
            "slope": slope,
            "slope error": error,
            "trust": trust,
            "variances": {"noise": biases.noise, "people": biases.user_variance, "items": biases.item_variance},
            "shape": {"spread": shape.spread, "pseudo_counts": shape.pseudo_counts, "narrow": shape.narrow, "own level": levelled},
            "selection": selection.told(),
        }
        return cls(biases, factors, trust, own, shape, counts, selection, levelled, report)

    def measured_by(self, random: Ratings) -> RatingModel:
        """The same model, with the level of unpicked items by ratings of random items in place of an assumption.

        Args:
            random: at least one, of items that people were given to rate; people and items of the fit.
        """
        off = self.expected(random.users, random.items) - random.given
        sums, counts = np.bincount(random.users, weights=off - off.mean()), np.bincount(random.users)
        error = float(np.sqrt(np.square(sums).sum()) / counts.sum()) if (counts > 0).sum() > 1 else float(self.shape.spread)
        selection = replace(self.selection, measured=float(off.mean()), measured_error=error, rows=len(random))
        return replace(self, selection=selection, report={**self.report, "selection": selection.told()})

    def expected(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Expected ratings by people of the fit, within the scale, the data's units, shape (n,)."""
        bias = self.biases.expected(users, items)
        found = bias if self.factors is None else bias + self.trust * (self.factors.expected(users, items) - bias)
        return np.asarray(np.clip(found, *self.ends))

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest rating that occurs."""
        return float(self.own.within[0, 0]), float(self.own.within[-1, -1])

    def rater(self, history: np.ndarray, ratings: np.ndarray, user: int = -1) -> Rater:
        """Somebody with these ratings of this history.

        Args:
            history: item codes. ratings: the data's units. user: code of a person of the fit who gave exactly these, else anybody is
                folded in.
        """
        given = ratings.astype(np.float64)
        counts = np.bincount(self.own.codes(given), minlength=len(self.own.values)).astype(np.float64)
        level = self.biases.of_history(history, given)
        if self.factors is None:
            return Rater(level, None, counts)
        known = 0 <= user < len(self.counts) and np.array_equal(counts, self.counts[user])
        return Rater(level, self.factors.person(user) if known else self.factors.folded_in(history, given), counts)

    def of_rater(self, rater: Rater, items: np.ndarray) -> np.ndarray:
        """Expected ratings of some items, not yet kept within the scale, shape (len(items),)."""
        bias = self.biases.mean + rater.level + self.biases.of_item[items]
        if self.factors is None or rater.factors is None:
            return np.asarray(bias)
        return np.asarray(bias + self.trust * (self.factors.of_person(rater.factors, items) - bias))

    def own_level(self, rater: Rater, generator: np.random.Generator) -> float:
        """A level that a simulated person has besides what is expected of them, the data's units; drawn once per person."""
        return float(generator.standard_normal() * self.level_spread(rater.counts.sum()))

    def level_spread(self, n: np.ndarray) -> np.ndarray:
        """Standard deviation of the own level of people with n ratings, the data's units, shape of n; 0 unless `levelled`."""
        return np.asarray(self.levelled * _level_spread(self.shape.spread**2, self.biases.user_variance, n))

    def probabilities(self, rater: Rater, expected: np.ndarray, also_known: float = 0.0) -> np.ndarray:
        """Probability of each of `own.values`, shape (len(expected), v); `also_known` as in `Shape.probabilities`."""
        return self.shape.probabilities(expected, np.broadcast_to(rater.counts, (len(expected), len(rater.counts))), also_known)


def _level_spread(variance: float, between: float, n: Any) -> Any:
    """Standard deviation of what n ratings leave open of a person's level."""
    return np.sqrt(variance / (n + variance / between))


def _parts(ratings: Ratings, rng: Stream) -> list[np.ndarray]:
    """Rows of each held-out part."""
    order = rng.child("parts").generator().permutation(len(ratings))
    parts = [np.sort(part) for part in np.array_split(order, PARTS)]
    return parts if len(ratings) < ALL_PARTS else parts[:1]


def _held_out(ratings: Ratings, own: OwnValues, rng: Stream) -> HeldOut:
    found = []
    for number, rows in enumerate(_parts(ratings, rng)):
        rest, here = ratings.part(np.setdiff1d(np.arange(len(ratings)), rows)), ratings.part(rows)
        bias = rest.biases().expected(here.users, here.items)
        told = bias
        if len(ratings) >= FEWEST:
            told = rest.factors(rng.child("part", number), Sizes.of(len(rest), ratings.shape)).expected(here.users, here.items)
        counts = own.counts(rest.users, own.codes(rest.given), ratings.shape[0])[here.users]
        found.append((rows, bias, told, counts))
    return HeldOut(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _slope(ratings: Ratings, held: HeldOut) -> tuple[float, float]:
    """Slope of what the biases miss on what the factors add, and its standard error with people as clusters (Liang & Zeger 1986)."""
    added, missed = held.factors - held.bias, ratings.given[held.rows] - held.bias
    square = float(added @ added)
    if square <= 1e-12:
        return 0.0, 0.0
    slope = float(added @ missed) / square
    scores = np.bincount(ratings.users[held.rows], weights=added * (missed - slope * added))
    return slope, float(np.sqrt(np.square(scores).sum())) / square


def _shape(
    ratings: Ratings, own: OwnValues, shares: np.ndarray, held: HeldOut, trust: float, biases: Biases, rng: Stream
) -> tuple[Shape, bool]:
    """The distribution around what is expected, and whether people have a level of their own."""
    expected = held.bias + trust * (held.factors - held.bias)
    codes = own.codes(ratings.given[held.rows])
    some = np.sort(rng.child("shape").generator().permutation(len(codes))[:MOST_ROWS])
    shape = Shape.fit(own.values, shares, expected[some], held.counts[some], codes[some])
    people = ratings.users[held.rows]
    many = np.bincount(people)[people] >= LEVELLED
    if len(np.unique(people[many])) < 2 * LEVELLED:
        return shape, True
    people, expected, counts, codes = people[many], expected[many], held.counts[many], codes[many]
    generator = rng.child("levels").generator()
    spread = _level_spread(shape.spread**2, biases.user_variance, counts.sum(axis=1))
    real = spread_of_people(own.values[codes], people)
    off = []
    for levelled in (False, True):
        drawn = []
        for _ in range(TRIALS):
            level = generator.standard_normal(int(people.max()) + 1)[people] * spread if levelled else 0.0
            chances = np.cumsum(shape.probabilities(expected + level, counts), axis=1)
            picks = (generator.random(len(people))[:, None] * chances[:, -1:] >= chances).sum(axis=1)
            drawn.append(spread_of_people(own.values[picks.clip(max=len(own.values) - 1)], people))
        off.append(float(np.abs(np.log(np.maximum(np.mean(drawn, axis=0), 1e-9) / np.maximum(real, 1e-9))).sum()))
    return shape, off[1] <= off[0]


def spread_of_people(ratings: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Variance of people's mean ratings, and mean variance of the ratings of one person, shape (2,).

    Args:
        ratings: shape (n,). people: codes, shape (n,).
    """
    counts = np.bincount(people)
    here = counts > 0
    means = np.bincount(people, weights=ratings)[here] / counts[here]
    squares = np.bincount(people, weights=ratings**2)[here] / counts[here]
    return np.array([means.var(), np.mean(squares - means**2)])


def _selection(ratings: Ratings, rng: Stream) -> tuple[float, float, int]:
    """beta, its standard error, and the picked ratings that it is read off."""
    rows = _parts(ratings, rng)[0]
    rest = ratings.part(np.setdiff1d(np.arange(len(ratings)), rows))
    sizes = Sizes.of(len(rest), ratings.shape, features=False)
    factors = rest.factors(rng.child("values alone"), sizes)
    generator = rng.child("unpicked").generator()
    rows = np.sort(generator.permutation(rows)[:MOST_PICKS])
    people, picked = ratings.users[rows], ratings.items[rows]
    asked = np.repeat(people, OTHERS)
    others = unpicked(ratings.users, ratings.items, asked, ratings.shape[1], generator)
    there = others >= 0
    users, items = np.concatenate([people, asked[there]]), np.concatenate([picked, others[there]])
    chosen = np.concatenate([np.ones(len(people)), np.zeros(int(there.sum()))])
    popularity = np.bincount(ratings.items, minlength=ratings.shape[1])[items] - chosen
    beta, error = strength_of_selection(users, popularity, factors.tastes(users, items), chosen)
    return beta, error, len(rows)
