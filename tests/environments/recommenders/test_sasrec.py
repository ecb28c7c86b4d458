from environments.recommenders.sasrec import SASRec, SASRecConfig
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract


class TestSASRec(PersonalisedRecommenderContract):
    world = CheckerboardWorld(shuffled=True)

    def make(self):
        return SASRec(
            SASRecConfig(
                dimension=16,
                max_length=12,
                layers=1,
                epochs=40,
                dropout=0.5,
                batch_size=16,
                learning_rate=0.01,
                validation_share=0.0,
                device="cpu",
            )
        )


class TestGBCE(PersonalisedRecommenderContract):
    world = CheckerboardWorld(shuffled=True)

    def make(self):
        return SASRec(
            SASRecConfig(
                dimension=16,
                max_length=12,
                layers=1,
                loss="gbce",
                negatives=8,
                epochs=100,
                batch_size=16,
                learning_rate=0.01,
                validation_share=0.0,
                device="cpu",
            )
        )
