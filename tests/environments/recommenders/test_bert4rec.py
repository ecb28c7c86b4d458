import numpy as np
import torch

from environments.recommenders.bert4rec import BERT4Rec, BERT4RecConfig
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract


class TestBERT4Rec(PersonalisedRecommenderContract):
    world = CheckerboardWorld(shuffled=True)

    def make(self):
        return BERT4Rec(
            BERT4RecConfig(
                dimension=16, max_length=12, layers=1, epochs=60, batch_size=16, learning_rate=0.01, validation_share=0.0, device="cpu"
            )
        )


def test_only_items_are_ever_asked_for():
    torch.manual_seed(1)
    network = BERT4Rec(BERT4RecConfig(dimension=8, max_length=6, hidden_share=0.9)).network(5, np.ones(5))
    lengths = torch.tensor([2, 6, 4] * 40)
    windows = torch.randint(5, (120, 6)).masked_fill(torch.arange(6) >= lengths[:, None], 6)
    for _ in range(5):  # a target beyond the items would be an error of the cross-entropy
        assert torch.isfinite(network.loss(windows, lengths))


def test_what_is_expected_depends_on_how_long_ago_items_were_and_not_on_padding():
    torch.manual_seed(1)
    network = BERT4Rec(BERT4RecConfig(dimension=8, max_length=6)).network(5, np.ones(5)).eval()
    short, longer = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 2, 3, 6, 6, 6]])
    torch.testing.assert_close(network.states(short, torch.tensor([3])), network.states(longer, torch.tensor([3])))
    assert not torch.allclose(network.states(short, torch.tensor([3])), network.states(short.flip(1), torch.tensor([3])))
