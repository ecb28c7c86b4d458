"""What a policy would show on a page that another one filled: the closed forms behind `environments.exposure`.

`environments.exposure` draws pages; here the same three rules are asked how probable *given* items are. A batch of pages is a
matrix of candidates, best first, one row per page, with `counts` candidates in each row and padding behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from environments.exposure import standardised
from environments.feed import FeedConfig

Rule = Literal["none", "epsilon", "plackett-luce"]

_STEP = 0.35
"""Step of the quadrature over log time; the trapezoid rule on this integrand errs by about exp(-pi^2 / step)."""

_BLOCK = 4_000_000
"""Numbers held in memory at once by the quadrature."""


@dataclass(frozen=True, slots=True)
class PageRule:
    """An exposure rule over batches of candidates.

    Attributes:
        rule: "none" (the best items in order), "epsilon" or "plackett-luce".
        epsilon, temperature: of the rule, see `environments.feed.FeedConfig`.
    """

    rule: Rule
    epsilon: float = 0.0
    temperature: float = 1.0

    @classmethod
    def of(cls, config: FeedConfig) -> PageRule:
        """The rule of a feed."""
        return cls(config.exploration, config.epsilon, config.temperature)

    def logits(self, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Logits of the softmax over candidates, -inf in the padding, shape (pages, candidates).

        Args:
            scores: of the candidates, best first, shape (pages, candidates). counts: candidates of each page, shape (pages,).
        """
        filled = np.full(scores.shape, -np.inf)
        for row, count in enumerate(counts.tolist()):
            # Standardised exactly as `exposure.plackett_luce` does it, so that a policy's own log is reproduced to the last bits.
            filled[row, :count] = standardised(scores[row, :count]) / self.temperature
        return filled

    def next_item(self, logits: np.ndarray, remaining: np.ndarray) -> np.ndarray:
        """Probability that each candidate is the next one shown, rows sum to 1 (to 0 where nothing remains).

        Args:
            logits: shape (pages, candidates), best first. remaining: which candidates are not on the page yet, same shape.

        Returns:
            float64, shape (pages, candidates).
        """
        if self.rule == "plackett-luce":
            masked = np.where(remaining, logits, -np.inf)
            top = masked.max(axis=1, keepdims=True)
            weights = np.exp(masked - np.where(np.isfinite(top), top, 0.0))
            total = weights.sum(axis=1, keepdims=True)
            return np.asarray(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0))
        best = remaining & (np.cumsum(remaining, axis=1) == 1)
        if self.rule == "none":
            return np.asarray(best, dtype=np.float64)
        left = np.maximum(remaining.sum(axis=1, keepdims=True), 1)
        return np.asarray(remaining * (self.epsilon / left) + best * (1.0 - self.epsilon))

    def marginals(self, logits: np.ndarray, counts: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """Probability that a candidate stands at a place, whatever stands above.

        Args:
            logits: shape (pages, candidates), best first, -inf in the padding. counts: candidates of each page, shape (pages,).
            shown: the candidate (its number in the row) at each place, -1 where the item at this place is not a candidate or
                there is no such place, shape (pages, places).

        Returns:
            float64 in [0, 1], shape (pages, places); 0 where `shown` is -1.
        """
        places = np.arange(shown.shape[1])
        if self.rule == "none":
            return np.asarray(shown == places, dtype=np.float64)
        made = _epsilon_marginals(counts, shown, self.epsilon) if self.rule == "epsilon" else _plackett_luce_marginals(logits, shown)
        return np.where(shown >= 0, np.clip(made, 0.0, 1.0), 0.0)


def _epsilon_marginals(counts: np.ndarray, shown: np.ndarray, epsilon: float) -> np.ndarray:
    """Exact, by a recursion over places whose state is how many better candidates than this one were shown.

    With r better candidates in all, j of them shown, and `left` candidates remaining, the next one shown is a better one with
    probability ``1 - epsilon + epsilon (r - j) / left`` as long as j < r (the best that remains is better), and this one with
    ``epsilon / left``, or ``1 - epsilon + epsilon / left`` once j = r.
    """
    rank = np.maximum(shown, 0)[..., None].astype(np.float64)
    places = shown.shape[1]
    better_shown = np.arange(places + 1, dtype=np.float64)
    state: np.ndarray = np.zeros((*shown.shape, places + 1))
    state[..., 0] = 1.0
    result = np.zeros(shown.shape)
    for place in range(places):
        left = np.maximum(counts - place, 1)[:, None, None].astype(np.float64)
        is_best = better_shown == rank
        possible = better_shown <= rank
        this = np.where(possible, epsilon / left + is_best * (1.0 - epsilon), 0.0)
        better = np.where(better_shown < rank, epsilon * (rank - better_shown) / left + (1.0 - epsilon), 0.0)
        worse_left = np.maximum(left - 1.0 - (rank - better_shown), 0.0)
        worse = np.where(possible, epsilon * worse_left / left, 0.0)
        result[:, place] = (state * this).sum(axis=2)[:, place]
        moved = state * worse
        moved[..., 1:] += (state * better)[..., :-1]
        state = moved
    return result


def _plackett_luce_marginals(logits: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """By one quadrature, exact to about nine digits: the order of a Plackett-Luce draw is that of exponential arrival times.

    With rates ``lambda = exp(logit)``, candidate i is at place k if it arrives at some time t after exactly k - 1 others:
    ``integral of lambda_i exp(-lambda_i t) P(k - 1 of the others before t) dt``. The inner probability is Poisson-binomial and
    is found by adding one candidate after another; the integral is a trapezoid sum over log t, whose integrand is analytic.
    """
    places = shown.shape[1]
    candidates = logits.shape[1]
    result = np.zeros(shown.shape)
    finite = np.isfinite(logits)
    equal = finite.any(axis=1) & (np.where(finite, logits, 0.0).max(axis=1) == np.where(finite, logits, np.inf).min(axis=1))
    result[equal] = 1.0 / np.maximum(finite[equal].sum(axis=1, keepdims=True), 1)
    open_pages = np.flatnonzero(~equal & finite.any(axis=1))
    if len(open_pages) == 0:
        return result
    top = logits[open_pages].max(axis=1, keepdims=True)
    centred = logits[open_pages] - top
    ranked = -np.sort(-centred, axis=1)
    enough = np.minimum(places, np.isfinite(ranked).sum(axis=1) - 1)
    first = float((-np.log(np.exp(ranked).sum(axis=1))).min()) - 22.0
    last = float((-np.take_along_axis(ranked, enough[:, None], axis=1)).max()) + np.log(40.0)
    nodes = np.arange(first, last + _STEP, _STEP)
    block = max(1, _BLOCK // (places * (places + 1) * len(nodes)))
    for start in range(0, len(open_pages), block):
        rows = slice(start, start + block)
        own = np.maximum(shown[open_pages[rows]], 0)
        # P(this many of the others have arrived), for every page, place (its item is left out), node and number
        arrived: np.ndarray = np.zeros((*own.shape, len(nodes), places))
        arrived[..., 0] = 1.0
        for candidate in range(candidates):
            rate = np.exp(centred[rows, candidate])[:, None] * np.exp(nodes)
            chance = (-np.expm1(-rate))[:, None, :] * (own != candidate)[:, :, None]
            added = arrived[..., :-1] * chance[..., None]
            arrived *= (1.0 - chance)[..., None]
            arrived[..., 1:] += added
        log_rate = np.take_along_axis(centred[rows], own, axis=1)[:, :, None] + nodes
        density = np.exp(log_rate - np.exp(np.minimum(log_rate, 50.0)))
        at_place = arrived[:, np.arange(places), :, np.arange(places)].transpose(1, 0, 2)
        result[open_pages[rows]] = (density * at_place).sum(axis=2) * _STEP
    return result
