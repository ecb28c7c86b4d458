"""Populations that are wrong in a known way, which a fidelity measure must call bad.

`agents.controls:PopularityDecisions` is one more: users who choose by popularity alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from agents.calibrated import CalibratedDecisions
from agents.controls import RandomDecisions
from agents.priors import VisitConfig
from simulator.dataset import Dataset
from simulator.protocols import DecisionContext
from simulator.records import Situation, Trait, UserProfile
from simulator.seeds import Stream
from simulator.spread import standard

HIGH: Final[float] = 0.75
"""Where on the scale `OneRatingDecisions` rate everything: 4 of 1 to 5."""


class TraitsDecisions(RandomDecisions):
    """Users of traits alone, those of Agent4Rec (Zhang et al. 2024, section 3.1) and SimUSER's pickiness, without any taste.

    ``logit P(choose) = logit(choose_rate) + a_u + g_u + f_u * popularity_i`` with activity a, mean rating g and conformity f of the user,
    each ``2 * percentile - 1`` in [-1, 1] (f with the sign turned: those conform whose deviation from the items' means is small), and
    the standardised log popularity of the item. Ratings are drawn from the user's own histogram. What an item is about does not matter.
    """

    def __init__(self, config: VisitConfig, *, context: DecisionContext) -> None:
        super().__init__(config, context=context)
        self._popularity = np.zeros(len(context.catalog))

    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Counts how popular items are."""
        super().fit(train, profiles, rng)
        self._popularity = standard(np.log1p(np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items)))

    def save(self, folder: Path) -> None:
        """Writes ``priors.json`` and ``popularity.json``."""
        super().save(folder)
        (folder / "popularity.json").write_text(json.dumps(self._popularity.tolist()), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""
        super().load(folder)
        self._popularity = np.array(json.loads((folder / "popularity.json").read_text(encoding="utf-8")))

    def _probabilities(self, situation: Situation) -> dict[str, np.ndarray]:
        who = situation.profile
        level = float(logit(self._config.choose_rate)) + _signed(who.activity) + _signed(who.pickiness)
        positive = expit(level - _signed(who.conformity) * self._popularity[situation.page.items])
        choose = next(action for action in self._actions if action.name == "choose")
        return super()._probabilities(situation) | {
            choose.name: np.column_stack([positive if value else 1.0 - positive for value in choose.values])
        }


class OneRatingDecisions(CalibratedDecisions):
    """Calibrated users who choose as they do, and give everything the same rating, three quarters up the scale (4 of 1 to 5)."""

    def _ratings(self, situation: Situation, *args: Any, **options: Any) -> np.ndarray:
        rate = next(action for action in self._actions if action.name == "rate")
        low, high = self._context.rating_scale or (min(rate.results), max(rate.results))
        away = np.abs(np.array(rate.results, dtype=np.float64) - (low + HIGH * (high - low)))
        certain = np.zeros((len(situation.page.impressions), len(away)))
        certain[:, away.argmin()] = 1.0
        return certain


def _signed(trait: Trait | None) -> float:
    """Where somebody stands among all, in [-1, 1]; 0 without the trait."""
    return 0.0 if trait is None else 2.0 * trait.percentile - 1.0
