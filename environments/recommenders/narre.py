"""NARRE: reviews weighted by how much they say. This file wraps torch."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from environments.recommenders.ranking import not_fitted
from environments.recommenders.review_ratings import ReviewConfig, ReviewRatingRecommender, Tower


class NARREConfig(ReviewConfig):
    """Options of `NARRE`, besides those of `ReviewConfig`.

    Attributes:
        attention: width of the layer that weighs reviews.
        code_dimension: length of the vector of who wrote a review, or of what it is about, that the weighing sees.
    """

    attention: int = Field(default=32, ge=1, le=65_536)
    code_dimension: int = Field(default=32, ge=1, le=65_536)


class NARRE(ReviewRatingRecommender):
    """Reviews are read one by one and summed by a learned usefulness; vectors of people and items are added to the sums.

    For item i with reviews l by people u_l: ``a_l = softmax over l of h . relu(W_O o_l + W_u c(u_l) + b)`` with o_l the convolved
    review, ``Y_i = W sum of a_l o_l + b``, likewise X_u for a person, and
    ``rating = mean + b_u + b_i + w . ((q_u + X_u) * (p_i + Y_i))`` (Chen, Zhang, Liu and Ma, "Neural attentional rating regression with
    review-level explanations", WWW 2018). `usefulness` gives the ``a_l`` of items. Word vectors are learned from
    random ones, the mean is that of the ratings, and the review of a training rating itself is hidden (option `exclude_target`).
    """

    Config = NARREConfig
    config: NARREConfig

    def __init__(self, config: NARREConfig | None = None) -> None:
        super().__init__()
        self.config = config or NARREConfig()

    def towers(self, shape: tuple[int, int], biases: tuple[Tensor, Tensor]) -> tuple[Tower, Tower]:
        """See `ReviewRatingRecommender`."""
        people = _Attention(self.config, biases[0], shape[1], scaled=False)
        items = _Attention(self.config, biases[1], shape[0], scaled=True)
        return people, items

    def usefulness(self, item: int) -> list[tuple[int, float]]:
        """Who wrote the reviews of an item that were read, and the weight of each: the most useful first, weights sum to 1.

        Args:
            item: code of an item; one without reviews has an empty list.

        Raises:
            RecommenderError: it has not been fitted.
        """
        if not self._state:
            not_fitted(self)
        writers, weights = self._state["writers"][item], self._state["shares"][item]
        order = np.argsort(-weights, kind="stable")
        return [(int(writers[place]), float(weights[place])) for place in order if writers[place] >= 0]


class _Attention(Tower):
    """One side: weighs the reviews, sums them, and adds the vector of the person or item."""

    def __init__(self, config: NARREConfig, biases: Tensor, n_others: int, *, scaled: bool) -> None:
        super().__init__(biases)
        self.codes = nn.Embedding(len(biases) + 1, config.dimension, padding_idx=len(biases))
        self.others = nn.Embedding(n_others, config.code_dimension)
        self.of_review = nn.Linear(config.filters, config.attention)
        self.of_other = nn.Linear(config.code_dimension, config.attention, bias=False)
        self.weight = nn.Linear(config.attention, 1, bias=False)
        self.dense = nn.Linear(config.filters, config.dimension)
        self.output = nn.Parameter(torch.ones(config.dimension)) if scaled else None
        self._dropout = config.dropout
        for table in (self.codes, self.others):
            nn.init.normal_(table.weight, std=0.1)
        self.forget_unknown()

    def forget_unknown(self) -> None:
        """See `Tower`."""
        super().forget_unknown()
        with torch.no_grad():
            self.codes.weight[-1] = 0

    def forward(self, codes: Tensor, features: Tensor, others: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Tower`."""
        seen = torch.relu(self.of_review(features) + self.of_other(self.others(others)))
        weights = self.weight(seen)[..., 0].masked_fill(~real, -1e9)
        shares = torch.softmax(weights, dim=1) * real  # without any review, nothing rather than everything alike
        text = self.dense((shares[..., None] * features).sum(1))
        vectors = nn.functional.dropout(self.codes(codes) + text, self._dropout, self.training)
        if self.output is not None:
            vectors = vectors * self.output
        return vectors, self.bias(codes)[:, 0], shares
