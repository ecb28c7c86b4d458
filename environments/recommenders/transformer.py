"""The transformer layers that SASRec and BERT4Rec share. This file wraps torch."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from environments.recommenders.sequential import Dropout, SequentialConfig


class TransformerConfig(SequentialConfig):
    """Options of recommenders made of transformer layers, besides those of `SequentialConfig` and `TrainingConfig`.

    Attributes:
        layers: transformer layers.
        heads: of each layer; must divide `dimension`.
    """

    layers: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=2, ge=1, le=64)


class TransformerLayer(nn.Module):  # type: ignore[misc]
    """Self-attention and a feed-forward network four times as wide, each normalised before and added to its input.

    Vaswani et al., "Attention is all you need" (2017), in the order of Xiong et al. (ICML 2020).
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Makes a layer with random weights."""
        super().__init__()
        d = config.dimension
        self.heads = config.heads
        self.before = nn.LayerNorm(d)
        self.queries_keys_values = nn.Linear(d, 3 * d)
        self.mixed = nn.Linear(d, d)
        self.forward_network = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, allowed: Tensor | None, wanted: Tensor | None = None) -> Tensor:
        """One layer.

        Args:
            x: shape (b, length, dimension).
            allowed: which positions may be looked at, bool, shape (b, length); None: all up to one's own.
            wanted: the positions whose states are asked for, bool, shape (b, length); None: all.

        Returns:
            States, shape (b, length, dimension), or (number of positions wanted, dimension).
        """
        b, length, d = x.shape
        parts = self.queries_keys_values(self.before(x)).view(b, length, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mask = None if allowed is None else allowed[:, None, None, :]
        # attention weights are not dropped: torch would leave its fast kernel
        seen = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=allowed is None).transpose(1, 2).reshape(b, length, d)
        if wanted is not None:
            x, seen = x[wanted], seen[wanted]
        x = x + self.dropout(self.mixed(seen))
        x = x + self.dropout(self.forward_network(x))
        return x
