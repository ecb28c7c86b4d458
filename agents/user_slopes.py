"""How much each user goes for popular items: a random slope per user, with a prior that is read off everybody.

The choice model gives an item the log-odds ``V_ui``. Some users choose more popular items than that says, others rarer ones. So
``V_ui + b_u p_i - log(Z_u(b_u) / Z_u(0))`` takes its place, with p the item's standardised log popularity and ``Z_u(b) = sum_i
exp(V_ui + b p_i)`` over what the user has not met: a slope changes which items are chosen, and not how many of the catalog.

A user's n training interactions are taken for choices of that model, a conditional logit (McFadden 1974). Only their mean popularity
enters ``log L(b) = n (b mean(p) - log Z_u(b)) + constant``: the log-odds of the user's own interactions cancel out, and could not be used,
since scores of relatedness know them already. With the prior ``b_u ~ N(0, tau^2)`` the posterior is taken as normal around its mode,
with the curvature there (Laplace); tau is that of all users by empirical Bayes (Breslow & Clayton, "Approximate inference in
generalized linear mixed models", JASA 88, 1993). A simulated user's slope is drawn once from their posterior. Who has no history has
the prior, and who has a long one is nearly certain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.exposures import people_split
from agents.profiles import fit_profiles
from simulator.dataset import Dataset
from simulator.records import UserProfile
from simulator.seeds import Stream
from simulator.spread import spreads

FILE = "user_slopes.npz"

MOST_ITEMS = 1_000
"""Z is summed over at most so many items of the catalog; of larger ones over a sample that is weighted for how it was drawn."""

MOST_USERS = 150
"""The prior is fitted on at most so many users."""

STEPS, MOST_STEP, SETTLED = 60, 0.5, 1e-6
"""Of Newton's method: most repetitions, most change of a slope in one, and the change at which it ends."""

SWEEPS = 100
"""Repetitions of the estimate of tau."""

MOST_KNOWN = 1_000
"""So many users are remembered."""

LogOdds = Callable[[UserProfile, np.ndarray], np.ndarray]
"""Log-odds of some items (codes) for a user, up to a constant of the user, without a slope."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What a user would choose from, to any slope.

    Attributes:
        popularity: of the items that Z is summed over, standardised, shape (n,). log_odds: their V plus the log of their weight.
        count: the user's interactions, >= 0. mean: their mean popularity, 0 without any.
    """

    popularity: np.ndarray
    log_odds: np.ndarray
    count: int
    mean: float

    def at(self, slope: float) -> tuple[float, float, float]:
        """Log Z, and mean and variance of the popularity of a choice."""
        tilted = self.log_odds + slope * self.popularity
        top = float(tilted.max())
        odds = np.exp(tilted - top)
        total = float(odds.sum())
        share = odds / total
        mean = float((share * self.popularity).sum())
        return top + float(np.log(total)), mean, float((share * (self.popularity - mean) ** 2).sum())

    def posterior(self, variance: float) -> tuple[float, float]:
        """Mode of the slope, and the standard deviation by the curvature there, under a normal prior around 0.

        Args:
            variance: of the prior, > 0.
        """
        slope = 0.0
        for _ in range(STEPS):
            _, mean, spread = self.at(slope)
            step = (self.count * (self.mean - mean) - slope / variance) / (self.count * spread + 1.0 / variance)
            slope += float(np.clip(step, -MOST_STEP, MOST_STEP))
            if abs(step) < SETTLED:
                break
        _, _, spread = self.at(slope)
        return slope, (self.count * spread + 1.0 / variance) ** -0.5


class UserSlopes:
    """Slopes of users.

    Args:
        popularity: of every item, standardised over interactions, shape (n_items,).
        some, weights: items that Z is summed over, ascending codes, and how many each stands for, shape (n,).
        variance: tau squared, >= 0. seed: of the experiment.
    """

    def __init__(self, popularity: np.ndarray, some: np.ndarray, weights: np.ndarray, variance: float, seed: int) -> None:
        self.popularity, self.some, self.weights, self.variance = popularity, some, weights, variance
        self._stream = Stream(seed).child("own slopes")
        self._known: dict[str, tuple[UserProfile, float, float]] = {}

    @classmethod
    def fit(cls, train: Dataset, log_odds: LogOdds, rng: Stream, seed: int) -> UserSlopes:
        """Reads the prior off training interactions of users on whom nothing is judged (`agents.exposures.people_split`).

        Args:
            train: the training part. log_odds: of the choice model. rng: draws items and users.
            seed: of the experiment; each user's slope is drawn from ``Stream(seed).child("own slopes", user_id)``.
        """
        counts = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items)
        some, weights = sampled_items(counts, rng.child("items").generator())
        made = cls(_standardised(counts), some, weights, 0.0, seed)
        split = people_split(train)
        users = rng.child("users").generator().permutation(np.sort(np.concatenate([split.fit, split.validation])))
        picked = set(users[:MOST_USERS].tolist())
        profiles = [profile for profile in fit_profiles(train) if profile.user in picked and len(profile.history)]
        made.variance = prior_variance([curve for profile in profiles if (curve := made.curve(profile, log_odds)) is not None])
        return made

    def log_odds(self, profile: UserProfile, items: np.ndarray, log_odds: LogOdds) -> np.ndarray:
        """What a user's slope adds to the log-odds of items, shape (len(items),); `items` are item codes, `log_odds` as in `fit`."""
        if self.variance <= 0.0:
            return np.zeros(len(items))
        slope, level = self._of(profile, log_odds)
        return np.asarray(slope * self.popularity[items] - level)

    def slope(self, profile: UserProfile, log_odds: LogOdds) -> float:
        """A user's slope, drawn from their posterior by their id, in log-odds per standard deviation of log popularity."""
        return self._of(profile, log_odds)[0] if self.variance > 0.0 else 0.0

    def drawn_again(self, profile: UserProfile, items: np.ndarray, log_odds: LogOdds, stream: Stream, draws: int) -> np.ndarray:
        """What slopes drawn anew from a user's posterior would change in the log-odds of items, up to a constant of the user.

        Args:
            profile: of the user. items: item codes. log_odds: as in `fit`. stream: draws by the user's id. draws: how many, >= 1.

        Returns:
            Shape (draws, len(items)).
        """
        curve = self.curve(profile, log_odds) if self.variance > 0.0 else None
        if curve is None:
            return np.zeros((draws, len(items)))
        mode, deviation = curve.posterior(self.variance)
        slopes = mode + deviation * stream.child(profile.user_id).generator().standard_normal(draws)
        return np.asarray(np.outer(slopes - self._of(profile, log_odds)[0], self.popularity[items]))

    def curve(self, profile: UserProfile, log_odds: LogOdds) -> Curve | None:
        """What a user would choose from; None where they have met every item that Z is summed over."""
        met = np.unique(profile.history)
        free = ~np.isin(self.some, met)
        if not free.any():
            return None
        items = self.some[free]
        own = self.popularity[met]
        return Curve(
            self.popularity[items], log_odds(profile, items) + np.log(self.weights[free]), len(met), float(own.mean()) if len(met) else 0.0
        )

    def _of(self, profile: UserProfile, log_odds: LogOdds) -> tuple[float, float]:
        found = self._known.get(profile.user_id)
        if found is None or found[0] is not profile:
            curve, slope, level = self.curve(profile, log_odds), 0.0, 0.0
            if curve is not None:
                mode, deviation = curve.posterior(self.variance)
                slope = mode + deviation * float(self._stream.child(profile.user_id).generator().standard_normal())
                level = curve.at(slope)[0] - curve.at(0.0)[0]
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[profile.user_id] = (profile, slope, level)
        return found[1], found[2]

    def save(self, folder: Path) -> None:
        """Writes ``user_slopes.npz`` into an existing folder."""
        np.savez(folder / FILE, popularity=self.popularity, some=self.some, weights=self.weights, variance=self.variance)

    @classmethod
    def load(cls, folder: Path, seed: int) -> UserSlopes | None:
        """Restores what `save` wrote; None where it wrote nothing, as in runs of before."""
        if not (folder / FILE).is_file():
            return None
        with np.load(folder / FILE) as stored:
            return cls(stored["popularity"], stored["some"], stored["weights"], float(stored["variance"]), seed)


def prior_variance(curves: Sequence[Curve]) -> float:
    """Tau squared: what makes the slopes of these users as far apart as they are; 0 where chance alone would do.

    Starts at ``sum(g^2 - H) / sum(H^2)``, g and H the score and the information of each user at slope 0 (moments), and repeats
    ``tau^2 = mean(mode^2 + deviation^2)`` around it (EM with the posterior of `Curve.posterior`; Laird & Ware, Biometrics 38, 1982).
    """
    start = [(curve.count * (curve.mean - mean), curve.count * spread) for curve in curves for _, mean, spread in [curve.at(0.0)]]
    score, information = (np.array(values) for values in zip(*start, strict=True)) if start else (np.zeros(0), np.zeros(0))
    total = float((information**2).sum())
    variance = float((score**2 - information).sum()) / total if total > 0.0 else 0.0
    if variance <= 0.0:
        return 0.0
    for _ in range(SWEEPS):
        before, parts = variance, [curve.posterior(variance) for curve in curves]
        variance = float(np.mean([mode**2 + deviation**2 for mode, deviation in parts]))
        if abs(variance - before) < 1e-3 * before:
            break
    return variance


def _standardised(counts: np.ndarray) -> np.ndarray:
    """Log of 1 + counts, with mean 0 and variance 1 over interactions; 0 where all items are equally popular."""
    values = np.log1p(counts.astype(np.float64))
    spread = float(spreads(np.repeat(values, counts)))
    return np.asarray((values - np.average(values, weights=counts)) / spread) if spread > 0.0 else np.zeros(len(values))


def sampled_items(counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Different items, half of them in proportion to their counts, and how many items each stands for.

    Systematic sampling: item i is in it with probability ``min(1, k q_i)``, q half even and half by counts, and stands for the inverse of
    that (Horvitz & Thompson, JASA 47, 1952).
    """
    n = len(counts)
    if n <= MOST_ITEMS:
        return np.arange(n), np.ones(n)
    chance = np.minimum(1.0, MOST_ITEMS * 0.5 * (1.0 / n + counts / max(1, counts.sum())))
    order = rng.permutation(n)
    ends = np.floor(np.cumsum(chance[order]) + rng.random())
    taken = np.sort(order[np.diff(ends, prepend=0.0) > 0])
    return taken, 1.0 / chance[taken]
