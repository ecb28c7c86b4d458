from environments.recommenders.neumf import NeuMF, NeuMFConfig
from simulator.testing import PersonalisedRecommenderContract


class TestNeuMF(PersonalisedRecommenderContract):
    def make(self):
        return NeuMF(NeuMFConfig(dimension=8, hidden=(16, 8), epochs=40, batch_size=64, learning_rate=0.01, device="cpu"))
