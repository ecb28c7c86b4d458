"""Models of other libraries. LensKit and RecTools are optional installs; their tests skip where they are absent."""

import importlib.util

import numpy as np
import pytest

from environments.recommenders.implicit_library import ImplicitLibrary, ImplicitLibraryConfig
from environments.recommenders.lenskit_library import LensKitLibrary, LensKitLibraryConfig
from environments.recommenders.rectools_library import RecToolsLibrary, RecToolsLibraryConfig
from simulator.errors import ConfigError, PluginError, RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, RecommenderContract

WORLD = CheckerboardWorld()


def absent(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"the package {package} is not installed")


def fit(recommender):
    recommender.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    return recommender


class TestImplicitALS(PersonalisedRecommenderContract):
    def make(self):
        return ImplicitLibrary(ImplicitLibraryConfig(options={"factors": 2, "iterations": 15}))


class TestImplicitBPR(PersonalisedRecommenderContract):
    def make(self):
        options = {"factors": 4, "iterations": 200, "learning_rate": 0.05, "regularization": 0.05}
        return ImplicitLibrary(ImplicitLibraryConfig(model="implicit.cpu.bpr:BayesianPersonalizedRanking", options=options))


class TestImplicitNeighbours(PersonalisedRecommenderContract):
    def make(self):
        return ImplicitLibrary(ImplicitLibraryConfig(model="implicit.nearest_neighbours:CosineRecommender", options={"K": 30}))


@absent("lenskit")
class TestLensKitNeighbours(PersonalisedRecommenderContract):
    def make(self):
        return LensKitLibrary(LensKitLibraryConfig(model="lenskit.knn:ItemKNNScorer", options={"feedback": "implicit", "max_nbrs": 20}))


@absent("lenskit")
class TestLensKitFactors(PersonalisedRecommenderContract):
    def make(self):
        return LensKitLibrary(LensKitLibraryConfig(options={"embedding_size": 2, "epochs": 10}))


@absent("rectools")
class TestRecToolsByHistory(PersonalisedRecommenderContract):
    def make(self):
        return RecToolsLibrary(RecToolsLibraryConfig(options={"regularization": 10.0}))


@absent("rectools")
class TestRecToolsByPerson(RecommenderContract):
    def make(self):
        options = {"model": {"factors": 8, "iterations": 5}}
        return RecToolsLibrary(RecToolsLibraryConfig(model="ImplicitALSWrapperModel", options=options, by_history=False))


def test_an_option_that_the_model_of_implicit_does_not_have_is_named():
    with pytest.raises(ConfigError, match="did you mean 'factors'"):
        fit(ImplicitLibrary(ImplicitLibraryConfig(options={"factor": 8})))


def test_a_model_that_implicit_does_not_have_is_named():
    with pytest.raises(PluginError, match=r"unknown class of implicit\.cpu\.als 'Alternating'"):
        fit(ImplicitLibrary(ImplicitLibraryConfig(model="implicit.cpu.als:Alternating")))


def test_factors_that_overflow_are_an_error():
    made = fit(ImplicitLibrary(ImplicitLibraryConfig(model="implicit.cpu.bpr:BayesianPersonalizedRanking", options={"iterations": 1})))
    made._users = np.full_like(made._users, np.nan)
    with pytest.raises(RecommenderError, match="lower its learning rate"):
        made.recommend(np.array([0], dtype=np.int32), [WORLD.history(0)], 3, Stream(1))


@pytest.mark.parametrize(("package", "recommender"), [("lenskit", LensKitLibrary), ("rectools", RecToolsLibrary)])
def test_a_library_that_is_not_installed_is_named(package, recommender):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"the package {package} is installed")
    with pytest.raises(PluginError, match=package):
        fit(recommender())


@absent("lenskit")
def test_lenskit_refuses_options_and_missing_ratings_in_one_sentence():
    with pytest.raises(ConfigError, match="refuses them"):
        fit(LensKitLibrary(LensKitLibraryConfig(options={"embedding_size": "many"})))
    unrated = CheckerboardWorld(ratings=False).dataset
    with pytest.raises(ConfigError, match="ratings = true"):
        LensKitLibrary(LensKitLibraryConfig(ratings=True)).fit(unrated.interactions, unrated.catalog, Stream(1))


@absent("rectools")
def test_rectools_refuses_options_in_one_sentence():
    with pytest.raises(ConfigError, match="EASEModel of RecTools"):
        fit(RecToolsLibrary(RecToolsLibraryConfig(options={"regularisation": 1.0})))
