from environments.recommenders.ngcf import NGCF, NGCFConfig
from simulator.testing import PersonalisedRecommenderContract


class TestNGCF(PersonalisedRecommenderContract):
    def make(self):
        return NGCF(NGCFConfig(dimension=8, layers=2, epochs=30, batch_size=64, learning_rate=0.02, device="cpu"))
