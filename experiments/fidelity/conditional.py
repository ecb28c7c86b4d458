"""Distributions of what users choose *given what they were shown*, simulated against real, with noise floors.

What a recommender shows decides what can be chosen, so choices from its pages differ from held-out interactions with the whole catalog
however right the users are. A weight by the inverse propensity of exposure would mend that where every item has one; the top of a ranking
has none outside of itself. Therefore both sides are restricted to the same exposures: the pool of a user is what the run showed them and
their training part does not hold, simulated choices are those of the pool, real ones the held-out interactions that lie in the pool.

Three things would still follow the pages, and are taken out:

- *levels*: a feature of an item is its mid-rank within the user's pool, in (0, 1), uniform for choices at random from any pages;
- *rate*: how often shown items are chosen is a setting where no exposures are logged. Simulated choices are thinned to the rate of the real
  ones: with probability p of a choice, kept in proportion to ``expit(logit p + d) / p``, d such that as many are expected as there are real
  ones (Poisson thinning; importance weights bounded by ``exp(|d|)``). Users who choose half of a page are so not taken for undecided;
- *size*: the noise floor falls with the number of observations. A user gives at most `MOST_EACH` of each side, the same number of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from experiments.fidelity.behaviour import Observed
from experiments.fidelity.distances import compare
from simulator.seeds import Stream

MOST_EACH: Final[int] = 3
"""Choices of a user that are compared, at most: the same on pages where much is found as on those where little is."""

FEWEST_USERS: Final[int] = 20
"""Users with a choice on both sides below which nothing is said."""

LIMIT: Final[float] = 2.0
"""Noise floors from which on a distance is too far."""

SURE: Final[float] = 1e-6
_SHIFT: Final[float] = 30.0


@dataclass(frozen=True, eq=False)
class Shown:
    """Items at the first time that each was shown to each user.

    Attributes:
        person: 0 .. n-1, shape (n,). item: codes, shape (n,); pairs of both are unique.
        chosen: bool, shape (n,). probability: with which it was chosen, NaN where unknown, shape (n,).
        rating: given, the data's units, NaN where none, shape (n,).
    """

    person: np.ndarray
    item: np.ndarray
    chosen: np.ndarray
    probability: np.ndarray
    rating: np.ndarray

    def only(self, kept: np.ndarray) -> Shown:
        """Those rows, by a mask of shape (n,)."""
        return Shown(self.person[kept], self.item[kept], self.chosen[kept], self.probability[kept], self.rating[kept])


@dataclass(frozen=True, eq=False)
class Kept:
    """Real interactions: `person` and `item` as in `Shown`, `rating` NaN where none; pairs are unique, shapes (m,)."""

    person: np.ndarray
    item: np.ndarray
    rating: np.ndarray


def compared(pool: Shown, real: Kept, features: Mapping[str, np.ndarray], people: int, stream: Stream) -> dict[str, Any]:
    """Choices from the same exposures, simulated against real, feature by feature.

    Args:
        pool: what the simulated users saw for the first time and decided, without what is in their training part, which cannot be held
            out. real: held-out interactions of the same users with the whole catalog.
        features: name -> value of each row of the pool, shape (n,).
        people: how many users there are. stream: of the thinning and of the divisions into halves.

    Returns:
        ``users`` and ``exposures`` of the pools; ``share_chosen`` and ``share_real`` of them; ``shift`` d of the thinning in log-odds
        (None without probabilities) and ``effective_choices`` (Kish); ``figures``: name -> `distances.compare`;
        ``not_measured``: name -> reason.
    """
    order = np.lexsort((pool.item, pool.person))  # sums are rounded alike whatever the order of a log's rows
    pool, features = pool.only(order), {name: values[order] for name, values in features.items()}
    row = _rows_of(pool, real)
    is_real = np.zeros(len(pool.person), dtype=bool)
    is_real[row[row >= 0]] = True
    given = np.full(len(pool.person), np.nan)
    given[row[row >= 0]] = real.rating[row >= 0]
    found: dict[str, Any] = {
        "users": len(np.unique(pool.person)),
        "exposures": len(pool.person),
        "share_chosen": float(pool.chosen.mean()) if len(pool.person) else None,
        "share_real": float(is_real.mean()) if len(pool.person) else None,
    }
    keep, shift = at_rate(pool, int(is_real.sum()))
    found |= {"shift": shift, "effective_choices": float(keep.sum() ** 2 / np.square(keep).sum()) if keep.any() else 0.0}
    mine, theirs = _drawn(pool, keep, is_real, people, stream.child("drawn"))
    found["compared_users"] = len(np.unique(pool.person[theirs]))
    figures: dict[str, Any] = {}
    missing: dict[str, str] = {}
    sides = {
        f"{name}_given_shown": tuple(Observed(pool.person[rows], ranks[rows]) for rows in (mine, theirs))
        for name, values in features.items()
        for ranks in [ranks_within(pool.person, values)]
    }
    if np.isfinite(pool.rating).any() and np.isfinite(given).any():
        sides["ratings_given_shown"] = (_rated(pool.person, pool.rating, mine), _rated(pool.person, given, theirs))
    for name, (simulated, true) in sides.items():
        one = compare(simulated, true, people, stream.child(name)) if found["compared_users"] >= FEWEST_USERS else None
        if one is None:
            missing[name] = f"fewer than {FEWEST_USERS} users have a real and a simulated choice among what they were shown"
        else:
            figures[name] = one
    return found | {"figures": figures, "not_measured": missing}


def at_rate(pool: Shown, wanted: int) -> tuple[np.ndarray, float | None]:
    """In what proportion each simulated choice is kept, so that choices are as frequent as the real ones.

    Args:
        pool: exposures. wanted: real choices among them.

    Returns:
        Weights of the rows in [0, 1], 0 where nothing was chosen, shape (n,), and the shift of the log-odds; without probabilities, or
        where no shift can reach the rate, weights of 1 and None.
    """
    plain = pool.chosen.astype(np.float64)
    if not wanted or wanted >= len(plain) or not np.isfinite(pool.probability).all():
        return plain, None
    chance = np.clip(pool.probability, SURE, 1.0 - SURE)
    index = logit(chance)

    def too_many(shift: float) -> float:
        return float(expit(index + shift).sum()) - wanted

    if too_many(-_SHIFT) > 0 or too_many(_SHIFT) < 0:
        return plain, None
    shift = float(brentq(too_many, -_SHIFT, _SHIFT))
    weights = expit(index + shift) / chance * plain
    return weights / max(float(weights.max(initial=0.0)), 1.0), shift


def ranks_within(person: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mid-rank of each value among those of its person, in (0, 1), ties sharing one, shape (n,)."""
    order = np.lexsort((values, person))
    who, what = person[order], values[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (who[1:] != who[:-1]) | (what[1:] != what[:-1])
    group = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(order)))
    before = starts - np.searchsorted(who, who[starts])
    of_person = np.bincount(person, minlength=int(person.max(initial=-1)) + 1)[who]
    found = np.empty(len(order))
    found[order] = (before[group] + sizes[group] / 2.0) / of_person
    return found


def verdict(figures: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> dict[str, Any]:
    """Whether choices given what was shown are like real ones: bad if the interval of a distance lies above `LIMIT` noise floors.

    Returns:
        ``good`` (None where too little was measured), ``bad_figures`` in order of how bad they are, and a ``sentence``.
    """
    if missing:
        return {"good": None, "bad_figures": [], "sentence": f"No verdict on choices given what was shown: {next(iter(missing.values()))}."}
    worst_of = {
        name: max(
            (one for one in figure["distances"].values() if one["ratio"] is not None), key=lambda one: float(one["low"]), default=None
        )
        for name, figure in figures.items()
    }
    known = {name: one for name, one in worst_of.items() if one is not None}
    bad = sorted((name for name, one in known.items() if one["low"] > LIMIT), key=lambda name: -known[name]["low"])
    top = max(known, key=lambda name: float(known[name]["low"]), default=None)
    if top is None:
        return {"good": None, "bad_figures": [], "sentence": "No verdict on choices given what was shown: no distance has a noise floor."}
    told = ", ".join(f"{name} {known[name]['ratio']:.1f} [{known[name]['low']:.1f}, {known[name]['high']:.1f}]" for name in bad or [top])
    what = "are not like real ones" if bad else "are like real ones"
    kind = "above" if bad else "no figure surely above"
    sentence = f"Choices given what was shown {what}: {kind} {LIMIT:g} noise floors{' are' if bad else '; the largest is'} {told}."
    return {"good": not bad, "bad_figures": bad, "sentence": sentence}


def _rows_of(pool: Shown, real: Kept) -> np.ndarray:
    """The row of the pool of each real interaction, -1 where it was not shown."""
    width = int(max(pool.item.max(initial=0), real.item.max(initial=0))) + 1
    keys = pool.person.astype(np.int64) * width + pool.item
    order = np.argsort(keys)
    wanted = real.person.astype(np.int64) * width + real.item
    if not len(keys):
        return np.full(len(wanted), -1)
    place = np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)
    row = order[place]
    return np.where(keys[row] == wanted, row, -1)


def _drawn(pool: Shown, keep: np.ndarray, is_real: np.ndarray, people: int, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Rows of simulated and of real choices, of each user the same number of both.

    Numbers are drawn row by row in order of user and item, so that the order of the rows does not matter.
    """
    order = np.lexsort((pool.item, pool.person))
    chance, first, second = np.empty((3, len(order)))
    chance[order], first[order], second[order] = stream.generator().random((3, len(order)))
    mine, theirs = np.flatnonzero(chance < keep), np.flatnonzero(is_real)
    counts = [np.bincount(pool.person[rows], minlength=people) for rows in (mine, theirs)]
    most = np.minimum(np.minimum(*counts), MOST_EACH)
    return _few(pool.person, mine, first, most), _few(pool.person, theirs, second, most)


def _few(person: np.ndarray, rows: np.ndarray, chance: np.ndarray, most: np.ndarray) -> np.ndarray:
    rows = rows[np.lexsort((chance[rows], person[rows]))]
    who = person[rows]
    return np.asarray(rows[np.arange(len(rows)) - np.searchsorted(who, who) < most[who]])


def _rated(person: np.ndarray, rating: np.ndarray, rows: np.ndarray) -> Observed:
    rows = rows[np.isfinite(rating[rows])]
    return Observed(person[rows], rating[rows].astype(np.float64))
