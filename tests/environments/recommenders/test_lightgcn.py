from environments.recommenders.lightgcn import LightGCN, LightGCNConfig
from simulator.testing import PersonalisedRecommenderContract


class TestLightGCN(PersonalisedRecommenderContract):
    def make(self):
        return LightGCN(LightGCNConfig(dimension=8, epochs=30, batch_size=64, learning_rate=0.02, device="cpu"))
