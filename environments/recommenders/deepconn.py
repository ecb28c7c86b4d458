"""DeepCoNN: what a person wrote meets what was written about an item. This file wraps torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from environments.recommenders.review_ratings import ReviewConfig, ReviewRatingRecommender, Tower


class DeepCoNNConfig(ReviewConfig):
    """Options of `DeepCoNN`, besides those of `ReviewConfig`.

    Attributes:
        biases: whether people and items have biases of their own; without, as in the paper, who has no reviews is rated the mean
            but for the other side's text.
    """

    biases: bool = True


class DeepCoNN(ReviewRatingRecommender):
    """Two convolutional networks that read all reviews of a person and of an item, joined by a factorisation machine.

    ``x = relu(W max over words of relu(conv(reviews)) + g)`` on both sides, and with ``z = [x_u, y_i]``
    ``rating = w_0 + w . z + sum over k < l of (v_k . v_l) z_k z_l`` (Zheng, Noroozi and Yu, "Joint deep modeling of users and items
    using reviews for recommendation", WSDM 2017). The machine's pairs inside one side are a number for that
    person or item, and those across are a dot product, so ranking all items is one matrix product.

    Differences from the paper: a window of words does not reach from one review into the next; word vectors are learned from
    random ones; biases of people and items are added to the machine's (option `biases`); the review of a training rating
    itself is hidden (option `exclude_target`): trained with it, the model predicts well only where it can read the very review whose
    rating it is to predict (Catherine and Cohen, "TransNets", RecSys 2017).
    """

    Config = DeepCoNNConfig
    config: DeepCoNNConfig

    def __init__(self, config: DeepCoNNConfig | None = None) -> None:
        super().__init__()
        self.config = config or DeepCoNNConfig()

    def towers(self, shape: tuple[int, int], biases: tuple[Tensor, Tensor]) -> tuple[Tower, Tower]:
        """See `ReviewRatingRecommender`."""
        people, items = (_Half(self.config, part) for part in biases)
        return people, items


class _Half(Tower):
    """The dense layer of one side and its rows of the factorisation machine."""

    def __init__(self, config: DeepCoNNConfig, biases: Tensor) -> None:
        super().__init__(biases if config.biases else torch.zeros_like(biases))
        self.bias.weight.requires_grad_(config.biases)
        self.dense = nn.Linear(config.filters, config.dimension)
        self.linear = nn.Linear(config.dimension, 1, bias=False)
        self.factors = nn.Parameter(0.1 * torch.randn(config.dimension, config.dimension))

    def forward(self, codes: Tensor, features: Tensor, others: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Tower`; the largest value of a filter over all reviews is what the paper's one long text gives."""
        x = torch.relu(self.dense(features.amax(1)))
        vectors = x @ self.factors
        inside = 0.5 * (vectors.square().sum(1) - (x.square() @ self.factors.square()).sum(1))
        shares = real / real.sum(1, keepdim=True).clamp(min=1)
        return vectors, self.bias(codes)[:, 0] + self.linear(x)[:, 0] + inside, shares
