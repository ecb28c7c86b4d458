from environments.recommenders.gru4rec import GRU4Rec, GRU4RecConfig
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract


class TestGRU4Rec(PersonalisedRecommenderContract):
    world = CheckerboardWorld(shuffled=True)

    def make(self):
        return GRU4Rec(
            GRU4RecConfig(dimension=16, hidden=16, epochs=40, batch_size=16, learning_rate=0.01, validation_share=0.0, device="cpu")
        )
