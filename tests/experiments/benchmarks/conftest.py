"""Experiments on made-up films, without a language model and with a cache of their own."""

import pytest

EXPERIMENT = """
name = "films"
language_model = false
[dataset]
path = "{data}"
split = "random"
test_share = 0.3
[decision]
use = "agents.calibrated:CalibratedDecisions"
language_model = false
"""


@pytest.fixture
def film_experiment(tmp_path, film_files, monkeypatch):
    """The file of an experiment on `film_files`."""
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "films.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    return file
