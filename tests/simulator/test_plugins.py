import pytest

from simulator.errors import ConfigError, PluginError
from simulator.plugins import build, load


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("environments.recommenders.popularity", "is not an import path"),
        ("environments.recommenders.popularty:Popularity", "there is no module 'environments.recommenders.popularty'"),
        ("environments.recommenders.popularity:Popularty", "did you mean 'Popularity'?"),
        ("nowhere/recommender.py:Mine", "there is no file 'nowhere/recommender.py'"),
        ("simulator.errors:ConfigError", "it has no method fit, recommend"),
    ],
)
def test_a_wrong_import_path_is_explained(path, says):
    with pytest.raises(PluginError) as caught:
        load(path, methods=("fit", "recommend"))
    assert says in str(caught.value)


def test_a_module_that_fails_on_import_is_named_with_its_error(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        load(f"{file}:Mine")


def test_a_missing_package_of_a_plugin_is_named(tmp_path):
    file = tmp_path / "needy.py"
    file.write_text("import a_package_that_is_not_there\n")
    with pytest.raises(PluginError, match="a_package_that_is_not_there"):
        load(f"{file}:Mine")


def test_a_class_in_a_file_of_ones_own_is_built_with_its_options(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from simulator.plugins import ComponentConfig\n"
        "class MineConfig(ComponentConfig):\n    depth: int = 3\n"
        "class Mine:\n    Config = MineConfig\n    def __init__(self, config):\n        self.depth = config.depth\n    def fit(self): ...\n"
    )
    assert build(f"{file}:Mine", {"depth": 5}, where="recommender", methods=("fit",)).depth == 5
    with pytest.raises(ConfigError, match=r"\[recommender\] unknown key 'dept'; did you mean 'depth'\?"):
        build(f"{file}:Mine", {"dept": 5}, where="recommender", methods=("fit",))
    with pytest.raises(ConfigError, match=r"\[recommender\] depth = 'deep'"):
        build(f"{file}:Mine", {"depth": "deep"}, where="recommender", methods=("fit",))


def test_options_for_a_class_without_options_are_refused(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text("class Plain:\n    pass\n")
    with pytest.raises(ConfigError, match="takes no options, but 'depth' is given"):
        build(f"{file}:Plain", {"depth": 5}, where="recommender", methods=())
