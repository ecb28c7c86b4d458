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
