"""What behavioural evidence would answer where a person's one choice says little: soft labels for a tuning.

A choice is one draw. Evidence that was fitted on everybody knows its probability, and a model that is taught the probabilities sees
the same thing with less noise (distillation: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", section
2). What the pupil is asked with later holds no evidence: it has to say it from the words of the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.special import expit

from agents.behaviour import Behaviour
from agents.calibrated import CalibratedConfig, CalibratedDecisions
from agents.calibration import Calibration
from agents.calibration_fit import evidence_log_odds
from agents.choice_model import fit_logit
from agents.profiles import fit_profiles
from simulator.dataset import Dataset
from simulator.protocols import DecisionContext
from simulator.records import Action, UserProfile
from simulator.seeds import Stream


class Teacher:
    """Knows how probable a choice was.

    Args:
        weights: of the evidence. net: whether what popularity says is left out, so that only taste is taught
            (`agents.calibration.Design.tastes`). newest: whether what comes next was learned.
    """

    def __init__(self, weights: Calibration, *, net: bool, newest: bool) -> None:
        self._weights, self._net, self._newest = weights, net, newest

    @classmethod
    def fit(
        cls, train: Dataset, actions: Sequence[Action], order: Literal["random", "temporal"], rng: Stream, *, net: bool, seed: int = 0
    ) -> Teacher:
        """A teacher whose weights come from the training part, as those of `agents.calibrated.CalibratedDecisions` without a model.

        Args:
            train: the training part. actions: of the experiment. order: how the held-out part was chosen. rng: of what is drawn.
            net: as for the class. seed: of the experiment.
        """
        context = DecisionContext(train.catalog, tuple(actions), None, train.rating_scale, 1, 1, seed)
        config = CalibratedConfig(language_model=False, moods=False, hide="latest" if order == "temporal" else "random")
        decisions = CalibratedDecisions(config, context=context)
        decisions.fit(train, fit_profiles(train), rng)
        return cls(decisions.calibration, net=net, newest=order == "temporal")

    def shares(
        self, observed: Dataset, profiles: Mapping[int, UserProfile], users: np.ndarray, items: np.ndarray, chosen: np.ndarray
    ) -> np.ndarray:
        """Probability of what really happened.

        The evidence's log-odds are brought to the scale of these choices by a logistic regression on them.

        Args:
            observed: what evidence is computed from. profiles: by user code, from the same.
            users, items: codes of who was asked about what, shape (n,). chosen: whether it was chosen, bool, shape (n,).

        Returns:
            float32 in (0, 1), shape (n,): the probability of choosing where it was chosen, of not choosing elsewhere.
        """
        behaviour = Behaviour.fit(observed, newest=self._newest and observed.has_times)
        odds = np.zeros(len(items))
        for user in np.unique(users).tolist():
            rows, profile = np.flatnonzero(users == user), profiles[user]
            features = behaviour.features(profile, profile.history, items[rows].astype(np.int64))
            taste = self._weights.design.tastes(features)
            odds[rows] = taste if self._net else evidence_log_odds(self._weights, features, profile.history)
        scale = fit_logit(odds[:, None], chosen, users, ("evidence",), l2=1e-2)
        probability = expit(scale.index(odds[:, None]))
        return np.where(chosen, probability, 1.0 - probability).astype(np.float32)
