"""Ratings of simulated people: what is expected of each of them, with a level of their own, as probabilities of what can come out."""

from __future__ import annotations

import numpy as np

from agents.rating_model import Rater, RatingModel
from agents.rating_values import OwnValues
from simulator.records import Action, UserProfile
from simulator.seeds import Stream

MOST_KNOWN = 1_000
"""So many people are remembered."""


def onto_results(own: OwnValues, action: Action) -> np.ndarray:
    """Which result of an action each of the data's values is, or the nearest one to it: 0/1, shape (v, n_results)."""
    results = np.array(action.results, dtype=np.float64)
    found = np.zeros((len(own.values), len(results)))
    found[np.arange(len(own.values)), np.abs(own.values[:, None] - results).argmin(axis=1)] = 1.0
    return found


class Raters:
    """People by their profiles, as a rating model knows them.

    Args:
        model: fitted. stream: of the own levels of all people. onto: of `onto_results`.
    """

    def __init__(self, model: RatingModel, stream: Stream, onto: np.ndarray) -> None:
        self.model = model
        self._stream, self._onto = stream, onto
        self._known: dict[str, tuple[UserProfile, Rater, float]] = {}

    def expected(self, profile: UserProfile, items: np.ndarray, usual: float | None = None) -> np.ndarray:
        """Expected ratings within the scale, the data's units, shape (len(items),), without an own level.

        Args:
            profile: with ratings. items: item codes. usual: for items that somebody has to rate without having picked them, the probability
                with which they picked what they picked (`Selection.assigned`); None for those that they picked.
        """
        found = self.model.of_rater(self._of(profile)[0], items)
        shift = 0.0 if usual is None else self.model.selection.assigned(usual)
        return np.asarray(np.clip(found + shift, *self.model.ends))

    def probabilities(self, profile: UserProfile, items: np.ndarray, moved: np.ndarray, also_known: float) -> np.ndarray:
        """Probabilities of the results of rating some items, shape (len(items), n_results).

        Args:
            profile: with ratings. items: item codes. moved: what else is added to the expected ratings, the data's units.
            also_known: as in `agents.rating_values.Shape.probabilities`.
        """
        return np.asarray(np.einsum("nv,vr->nr", self.of_values(profile, items, moved, also_known), self._onto))

    def of_values(self, profile: UserProfile, items: np.ndarray, moved: np.ndarray | float = 0.0, also_known: float = 0.0) -> np.ndarray:
        """Probabilities of the data's own values (`OwnValues.values`), shape (len(items), v); arguments as of `probabilities`."""
        rater, level = self._of(profile)
        return self.model.probabilities(rater, self.model.of_rater(rater, items) + level + moved, also_known)

    def _of(self, profile: UserProfile) -> tuple[Rater, float]:
        found = self._known.get(profile.user_id)
        if found is None or found[0] is not profile:
            assert profile.ratings is not None
            rater = self.model.rater(profile.history, profile.ratings, -1 if profile.synthetic else profile.user)
            level = self.model.own_level(rater, self._stream.child(profile.user_id).generator())
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[profile.user_id] = (profile, rater, level)
        return found[1], found[2]
