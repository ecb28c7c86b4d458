"""The example that learns: its mathematics, and that it learns what the people of a small world like."""

import json

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from experiments.examples.policy_gradient import main
from experiments.examples.slate_policy import NAMES, SlatePolicy, page_features
from experiments.reinforcement.features import ItemFeatures
from simulator.seeds import Stream

EXPERIMENT = """
name = "films"
language_model = false
[dataset]
path = {data}
[population]
users = 20
[decision]
use = "agents.controls:EvidenceDecisions"
[recommender]
use = "environments.recommenders.random:Random"
page_size = 3
"""
RNG = Stream(3).child("policy gradient")


def log_probability(theta, features, page):
    scores, total = features @ theta, 0.0
    left = np.ones(len(scores), dtype=bool)
    for item in page:
        total += scores[item] - np.log(np.exp(scores[left]).sum())
        left[item] = False
    return total


def test_the_gradient_is_that_of_the_log_probability_of_the_page():
    rng = RNG.child("gradient").generator()
    features, there = rng.normal(size=(6, 9, len(NAMES))), np.ones((6, 9), dtype=bool)
    there[5, 4:] = False
    policy = SlatePolicy(rng.normal(size=len(NAMES)))
    pages, gradients = policy.draw(features, there, 3, rng)
    for row in range(6):
        own = features[row][there[row]]
        for j in range(len(NAMES)):
            step = 1e-5 * np.eye(len(NAMES))[j]
            slope = (log_probability(policy.theta + step, own, pages[row]) - log_probability(policy.theta - step, own, pages[row])) / 2e-5
            assert gradients[row, j] == pytest.approx(slope, abs=1e-6)


def test_pages_are_drawn_as_often_as_plackett_and_luce_say():
    features = np.zeros((20_000, 3, len(NAMES)))
    features[:, :, 0] = [0.0, 1.0, 2.0]
    policy = SlatePolicy(np.eye(len(NAMES))[0])
    pages, _ = policy.draw(features, np.ones((20_000, 3), dtype=bool), 2, RNG.child("draws").generator())
    for page in ((0, 1), (1, 2), (2, 0), (2, 1)):
        share = float((pages == page).all(axis=1).mean())
        assert share == pytest.approx(np.exp(log_probability(policy.theta, features[0], page)), abs=0.012)


def test_places_without_a_candidate_come_last():
    there = np.array([[True, False, True, True]])
    policy = SlatePolicy(np.ones(len(NAMES)))
    features = np.zeros((1, 4, len(NAMES)))
    features[0, 3] = 1.0
    assert policy.best(features, there, 4, RNG.generator())[0, 0] == 3
    assert policy.best(features, there, 4, RNG.generator())[0, -1] == 1
    assert set(policy.draw(features, there, 3, RNG.generator())[0][0].tolist()) == {0, 2, 3}


def test_features_say_which_candidates_are_like_the_history_and_the_session():
    names = ("genre: Crime", "genre: Drama", "year", "popularity", "mean rating", "factor 0", "factor 1")
    values = np.array(
        [[1, 0, 0.1, 0.9, 0.5, 1, 0], [0, 1, 0.2, 0.1, 0.6, 0, 1], [1, 0, 0.3, 0.5, 0.1, 1, 0], [0, 1, 0, 0, 0, 0, 1]], np.float32
    )
    items = ItemFeatures(names, values, slice(5, 7))
    observation = {
        "candidates": np.array([[0, 1, 4]]),
        "candidate_features": np.array([[[*values[0], 1.0], [*values[1], 0.0], [0.0] * 8]]),
        "history": np.array([[4, 2]]),
        "shown": np.array([[3, 2]]),
        "chosen": np.array([[1, 0]]),
    }
    features = page_features(observation, items)[0]
    by_name = dict(zip(NAMES, features.T, strict=True))
    assert np.array_equal(features[2], np.zeros(len(NAMES)))
    for name in ("score of the recommender", "popularity", "like the history", "genres of the history", "like this session's skips"):
        assert by_name[name][:2] == pytest.approx([1, -1])
    for name in ("year", "mean rating", "like this session's choices", "genres of this session's choices"):
        assert by_name[name][:2] == pytest.approx([-1, 1])


@pytest.fixture
def command(tmp_path, film_files):
    file = tmp_path / "films.toml"
    file.write_text(EXPERIMENT.format(data=json.dumps(str(film_files))), encoding="utf-8")
    return [str(file), "--output", str(tmp_path / "out"), "--candidates", "15", "--environments", "24"]


def test_it_learns_what_people_like_and_repeats_to_the_digit(command, capsys, tmp_path):
    learning = [*command, "--updates", "20", "--episodes", "6", "--json"]
    assert main(learning) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["gain of the learned policy"]["random candidates"]["low"] > 0
    assert [point["pages"] for point in first["curve"]] == sorted(point["pages"] for point in first["curve"])
    assert (tmp_path / "out" / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "out" / "learning.json").read_text()) == first
    assert main(learning) == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_the_result_is_a_table_and_the_whole_return_may_be_learned(command, capsys):
    assert main([*command, "--updates", "1", "--discount", "1", "--seed", "3", "--reward", "session_length"]) == 0
    assert "learned is ahead by" in capsys.readouterr().out


def test_a_reward_that_nothing_shown_moves_is_no_ground_for_being_ahead(command, capsys, tmp_path):
    """People who decide at random, and of whom no response to pages is assumed, look at as many pages under every policy."""
    people = ["--set", "decision.use=agents.controls:RandomDecisions", "--set", "decision.leave_response=0"]
    assert main([*command, *people, "--updates", "1", "--episodes", "1", "--reward", "session_length"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "nothing that is shown moves this reward, so there is nothing to learn" in said
    assert "learned is ahead by 0.000 (the same for everybody)" in said
    document = json.loads((tmp_path / "out" / "learning.json").read_text())
    assert document["gain of the learned policy"]["popularity"] == {"value": 0.0, "low": None, "high": None}
    assert main([*command, "--updates", "1", "--episodes", "1"]) == 0
    assert json.loads((tmp_path / "out" / "learning.json").read_text())["no verdict"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--updates", "0"], "--updates 0, but it must be at least 1"),
        (["--discount", "2"], "a discount from 0 to 1"),
        (["--reward", "nice"], "unknown reward 'nice'"),
        (["--set", "population.users=1"], "set at least 2"),
        (["--candidates", "1"], "candidates = 1, but a page has 3 places"),
    ],
)
def test_wrong_options_are_one_sentence(command, options, words, capsys):
    assert main([*command, *options]) == 2
    assert words in capsys.readouterr().err
