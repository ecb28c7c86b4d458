"""Estimators by hand, against published values, as properties, and in worlds whose truth is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.offline import policy_estimators as single
from experiments.analysis.offline import slate_estimators as slates
from experiments.analysis.offline.estimates import asymptotic, bootstrap
from experiments.benchmarks import offline_evaluation as benchmark
from simulator.errors import ConfigError, DataError
from simulator.seeds import Stream

# Four rows: w = 2, 0.5, 0, 1 and q of the logged action, mean of q under the target.
REWARD = np.array([1.0, 0.0, 1.0, 1.0])
TARGET = np.array([1.0, 0.25, 0.0, 0.5])
PROPENSITY = np.array([0.5, 0.5, 0.25, 0.5])
PREDICTED = np.array([0.5, 0.5, 0.0, 1.0])
EXPECTED = np.array([0.5, 0.25, 0.5, 0.75])
MODEL = (REWARD, TARGET, PROPENSITY, PREDICTED, EXPECTED)


def by_hand():
    yield "replay", single.replay(REWARD, TARGET, PROPENSITY), 1.0
    yield "IPS", single.ips(REWARD, TARGET, PROPENSITY), (2 + 0 + 0 + 1) / 4
    yield "clipped", single.clipped_ips(REWARD, TARGET, PROPENSITY, 1.5), (1.5 + 0 + 0 + 1) / 4
    yield "SNIPS", single.snips(REWARD, TARGET, PROPENSITY), 3 / 3.5
    yield "DM", single.direct_method(EXPECTED, TARGET, PROPENSITY), 0.5
    yield "DR", single.doubly_robust(*MODEL), 0.5 + (2 * 0.5 - 0.5 * 0.5) / 4
    yield "SNDR", single.self_normalised_doubly_robust(*MODEL), 0.5 + (2 * 0.5 - 0.5 * 0.5) / 3.5
    yield "Switch", single.switch_doubly_robust(*MODEL, 1.0), 0.5 - 0.25 / 4
    yield "DRos", single.optimistic_shrinkage(*MODEL, 4.0), 0.5 + (4 * 2 / 8 * 0.5 - 4 * 0.5 / 4.25 * 0.5) / 4


@pytest.mark.parametrize(("name", "found", "value"), list(by_hand()), ids=[name for name, _, _ in by_hand()])
def test_an_estimator_gives_what_the_formula_gives_by_hand(name, found, value):
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.contributions.mean() == pytest.approx(found.value)


def test_the_support_is_described():
    found = single.ips(REWARD, TARGET, PROPENSITY, np.array([0.0, 0.0, 1.0, 0.0]))
    assert found.effective_sample_size == pytest.approx(3.5**2 / (4 + 0.25 + 1))
    assert (found.largest_weight, found.unsupported) == (2.0, 0.25)
    assert single.ips(REWARD, TARGET, PROPENSITY).unsupported == pytest.approx(1 - 3.5 / 4)


def test_published_vectors_are_reproduced():
    file = Path(__file__).resolve().parents[3] / "reference" / "ope_vectors.json"
    errors = benchmark.vectors(file)
    assert len(errors) == len(json.loads(file.read_text())["expected"])
    assert max(errors.values()) < 1e-9


def test_the_open_bandit_value_is_reproduced(shared_data):
    logs, distribution = shared_data / "open-bandit-sample/random/all", shared_data.parent / "reference/obd_bts_action_dist_round0.npy"
    if not (logs / "all.csv.gz").is_file() or not distribution.is_file():
        pytest.skip(f"there is no Open Bandit sample at {logs}")
    found = benchmark.open_bandit(logs, distribution)
    assert found["ips"].value == pytest.approx(0.004553, abs=5e-7)
    assert found["snips"].value == pytest.approx(0.0047758330812309535, abs=1e-12)


rows = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30)


@given(rows)
def test_limits_of_the_estimators_are_each_other(log):
    reward, mu, pi, predicted, expected = np.array(log).T
    model = (reward, pi, mu, predicted, expected)
    zeros = np.zeros(len(reward))
    dr, dm = single.doubly_robust(*model).value, single.direct_method(expected, pi, mu).value
    assert single.doubly_robust(reward, pi, mu, zeros, zeros).value == pytest.approx(single.ips(reward, pi, mu).value)
    assert single.switch_doubly_robust(*model, np.inf).value == pytest.approx(dr)
    assert single.optimistic_shrinkage(*model, np.inf).value == pytest.approx(dr)
    assert single.optimistic_shrinkage(*model, 1e-14).value == pytest.approx(dm, abs=1e-5)
    assert single.clipped_ips(reward, pi, mu, 1e9).value == pytest.approx(single.ips(reward, pi, mu).value)
    assert single.clipped_ips(reward, pi, mu, 1.0).value <= single.ips(reward, pi, mu).value + 1e-12


@given(rows)
def test_the_logging_policy_evaluated_on_itself_earns_what_it_earned(log):
    reward, mu, *_ = np.array(log).T
    slate = np.arange(len(reward)) // 3
    for found in (
        single.ips(reward, mu, mu),
        single.snips(reward, mu, mu),
        slates.independent_ips(reward, mu, mu),
        slates.reward_interaction_ips(reward, mu, mu, slate),
        slates.self_normalised_reward_interaction_ips(reward, mu, mu, slate),
        slates.cascade_doubly_robust(reward, mu, mu, slate, reward * 0.3, reward * 0.3),
    ):
        assert found.value == pytest.approx(reward.mean())
        assert found.effective_sample_size == pytest.approx(len(reward))


def test_slate_estimators_by_hand():
    # Two slates of two places with w = (2, 0.5) and (1, 3).
    reward, pi, mu, slate = np.array([1.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.25, 0.5, 0.9]), np.array([0.5, 0.5, 0.5, 0.3]), [7, 7, 9, 9]
    assert slates.reward_interaction_ips(reward, pi, mu, slate).value == pytest.approx((2 + 1 + 0 + 3) / 4)
    assert slates.independent_ips(reward, pi, mu).value == pytest.approx((2 + 0.5 + 0 + 3) / 4)
    opinion, own = np.full(4, 0.5), np.full(4, 0.25)
    assert slates.independent_doubly_robust(reward, pi, mu, opinion, own).value == pytest.approx(0.25 + (1 + 0.25 - 0.5 + 1.5) / 4)
    assert slates.self_normalised_reward_interaction_ips(reward, pi, mu, slate).value == pytest.approx(0.5 * 2 / 3 + 0.5 * 4 / 4)
    predicted, expected = np.array([0.5, 0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.25, 1.0])
    cascade = slates.cascade_doubly_robust(reward, pi, mu, slate, predicted, expected)
    assert cascade.value == pytest.approx(((2 * 0.5 + 0.5) + (1 * 0.5 + 2 * 0.5) + (1 * -0.5 + 0.25) + (3 * 1 + 1 * 1)) / 4)


def test_slates_of_one_place_are_single_actions():
    log = benchmark.world(3)
    pi, mu, slate = log.target[log.kinds, log.actions], log.logging[log.kinds, log.actions], np.arange(len(log.rewards))
    expected = slate / len(slate)
    assert slates.reward_interaction_ips(log.rewards, pi, mu, slate).value == pytest.approx(single.ips(log.rewards, pi, mu).value)
    assert slates.self_normalised_reward_interaction_ips(log.rewards, pi, mu, slate).value == pytest.approx(
        single.snips(log.rewards, pi, mu).value
    )
    assert slates.cascade_doubly_robust(log.rewards, pi, mu, slate, expected, expected).value == pytest.approx(
        single.doubly_robust(log.rewards, pi, mu, expected, expected).value
    )


def test_in_a_cascade_only_estimators_that_look_up_are_right():
    """Two places, two items; the second place pays only below item 0. Place by place the truth is missed, by products it is not."""
    rng = Stream(8).generator()
    n = 40_000
    first = rng.random(n) < 0.5
    second = rng.random(n) < 0.5
    target = np.where(np.stack([first, second], axis=1), 0.9, 0.1)  # item 1 with 0.9, at both places
    reward = np.stack([np.zeros(n), (~first & second).astype(float)], axis=1)
    truth = 0.1 * 0.9 / 2
    flat = (reward.ravel(), target.ravel(), np.full(2 * n, 0.5))
    slate = np.repeat(np.arange(n), 2)
    wrong = np.full(2 * n, 0.2)
    for found in (slates.reward_interaction_ips(*flat, slate), slates.cascade_doubly_robust(*flat, slate, wrong, wrong)):
        interval = asymptotic(found, slate)
        assert interval.low < truth < interval.high
    assert asymptotic(single.ips(*flat), slate).low > 3 * truth


@pytest.mark.parametrize(
    ("target", "propensity", "says"), [([0.5], [0.0], "propensity of row 0"), ([1.5], [0.5], "target probability of row 0")]
)
def test_impossible_probabilities_are_refused(target, propensity, says):
    with pytest.raises(DataError, match=says):
        single.ips(np.ones(1), np.array(target), np.array(propensity))


def test_wrong_settings_and_empty_logs_are_refused():
    with pytest.raises(ConfigError, match="threshold"):
        single.switch_doubly_robust(*MODEL, 0.0)
    with pytest.raises(DataError, match="no rows"):
        single.ips(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(DataError, match="sort the rows"):
        slates.places(np.array([1, 0]))
    with pytest.raises(ConfigError, match="no setting"):
        single.tuned([], lambda _: single.doubly_robust(*MODEL), single.doubly_robust(*MODEL))


def test_tuning_keeps_all_weights_where_the_model_is_wrong_and_drops_them_where_it_is_right():
    rng = Stream(6).generator()
    n = 4000
    mu, pi = rng.uniform(0.01, 1.0, n), np.full(n, 0.5)
    reward = (rng.random(n) < 0.5).astype(float)
    settings = [np.inf, 10.0, 0.1]

    def chosen(opinion):
        q = np.full(n, opinion)
        make = lambda s: single.optimistic_shrinkage(reward, pi, mu, q, q, s)  # noqa: E731
        return single.tuned(settings, make, single.doubly_robust(reward, pi, mu, q, q))

    assert chosen(0.5) == 0.1
    assert chosen(3.0) > 0.1


def test_the_interval_of_a_mean_is_the_textbook_one():
    from scipy.stats import t

    reward = Stream(2).generator().normal(size=50)
    found = single.ips(reward, np.ones(50), np.ones(50))
    interval = asymptotic(found, np.arange(50))
    error = reward.std(ddof=1) / np.sqrt(50)
    assert interval.standard_error == pytest.approx(error)
    assert interval.high - interval.low == pytest.approx(2 * t.ppf(0.975, 49) * error)


def test_rows_of_a_person_count_once():
    reward = Stream(2).generator().normal(size=50)
    once = asymptotic(single.ips(reward, np.ones(50), np.ones(50)), np.arange(50))
    four = np.repeat(reward, 4)
    again = asymptotic(single.ips(four, np.ones(200), np.ones(200)), np.repeat(np.arange(50), 4))
    assert again.standard_error == pytest.approx(once.standard_error)


def test_one_person_alone_has_no_interval():
    interval = asymptotic(single.ips(REWARD, TARGET, PROPENSITY), np.zeros(4, dtype=int))
    assert (interval.low, interval.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("people", [300, 6000])
def test_both_kinds_of_intervals_agree_in_large_logs(people):
    rng = Stream(3).generator()
    whose = np.repeat(np.arange(people), 3)
    reward, mu, pi = rng.random(len(whose)), rng.uniform(0.2, 1, len(whose)), rng.uniform(0, 1, len(whose))
    found = {"ips": single.ips(reward, pi, mu), "snips": single.snips(reward, pi, mu)}
    resampled = bootstrap(found, whose, Stream(9))
    for name, one in found.items():
        assert resampled[name].standard_error == pytest.approx(asymptotic(one, whose).standard_error, rel=0.15)


def test_95_percent_intervals_hold_the_truth_in_95_percent_of_the_worlds():
    """The doubly robust estimator here has a reward model that is wrong in every world, so its weights must do the work."""
    hits = {"ips": 0, "snips": 0, "dr": 0}
    worlds = 500
    for number in range(worlds):
        made = benchmark.world(number, people=300, rows=3)
        pi, mu = made.target[made.kinds, made.actions], made.logging[made.kinds, made.actions]
        opinion = 0.8 * made.mean_reward + 0.15
        expected = (made.target * opinion).sum(axis=1)[made.kinds]
        found = {
            "ips": single.ips(made.rewards, pi, mu),
            "snips": single.snips(made.rewards, pi, mu),
            "dr": single.doubly_robust(made.rewards, pi, mu, opinion[made.kinds, made.actions], expected),
        }
        for name, one in found.items():
            interval = asymptotic(one, made.people)
            hits[name] += interval.low <= made.truth <= interval.high
    assert all(0.92 <= count / worlds <= 0.98 for count in hits.values()), hits


def test_what_the_benchmark_is_not_given_is_null_with_a_reason(tmp_path):
    result = benchmark.run(None, None, None, 2, tmp_path / "made" / "result.json")
    assert json.loads((tmp_path / "made/result.json").read_text()) == result
    assert (
        {name for name, value in result.items() if value is None} == set(result["missing"]) == {"ope_vectors_max_error", "open_bandit_ips"}
    )
    assert result["million_impressions_seconds"] > 0
    assert 0 <= result["coverage_dr"] <= 1
