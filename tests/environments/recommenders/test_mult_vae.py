from environments.recommenders.mult_vae import MultVAE, MultVAEConfig
from simulator.testing import PersonalisedRecommenderContract


class TestMultVAE(PersonalisedRecommenderContract):
    def make(self):
        return MultVAE(MultVAEConfig(dimension=8, hidden=16, epochs=60, batch_size=8, learning_rate=0.01, device="cpu"))
