import numpy as np
import pytest

from agents.actions import ACTIONS, CHOOSE, LEAVE, RATE, SATISFACTION
from agents.choices import close, decide, unusable
from simulator.records import Impression, Note, Page, SessionState, Situation
from simulator.seeds import Stream


def situation(items=(3, 1, 2), stream=None):
    page = Page(1, "test", tuple(Impression(place + 1, item, 0.0, 1.0) for place, item in enumerate(items)))
    state = SessionState(0, 0, 0, 0, 1, 0, 0, None, 0.0, np.array([], dtype=np.int32))
    return Situation(None, (), page, state, stream or Stream(1, ("user", 5)))


def probabilities(n, choose=0.5, leave=0.5):
    return {
        "choose": np.tile([choose, 1 - choose], (n, 1)),
        "rate": np.tile([0.1, 0.2, 0.3, 0.3, 0.1], (n, 1)),
        "leave": np.array([[leave, 1 - leave]]),
        "satisfaction": np.full((1, 10), 0.1),
    }


def test_a_rating_is_given_exactly_to_what_was_chosen():
    decision = decide(ACTIONS, situation(tuple(range(200))), probabilities(200))
    chosen = decision.outcomes["choose"].values == 1.0
    assert 60 < chosen.sum() < 140
    assert np.array_equal(np.isfinite(decision.outcomes["rate"].values), chosen)


@pytest.mark.parametrize(("choose", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_certain_probabilities_are_certain(choose, expected):
    decision = decide(ACTIONS, situation(), probabilities(3, choose=choose, leave=choose))
    assert set(decision.outcomes["choose"].values) == {expected}
    assert decision.outcomes["leave"].values[0] == expected


def test_frequencies_follow_the_probabilities():
    given = probabilities(4000, choose=0.3)
    outcome = decide(ACTIONS, situation(tuple(range(4000))), given).outcomes
    assert outcome["choose"].values.mean() == pytest.approx(0.3, abs=0.03)
    stars = outcome["rate"].values[outcome["choose"].values == 1.0]
    assert np.bincount(stars.astype(int), minlength=6)[1:] / len(stars) == pytest.approx(given["rate"][0], abs=0.05)


def test_the_same_item_draws_the_same_wherever_it_stands_on_the_page():
    one, other = situation((7, 8, 9)), situation((9, 1, 7))
    first, second = (decide(ACTIONS, s, probabilities(3)).outcomes["choose"].values for s in (one, other))
    assert first[0] == second[2]
    assert first[2] == second[0]


def noted(items, responses):
    notes = [(Note("a", "advert", True, "", response),) if response else () for response in responses]
    shown = (Impression(k + 1, item, 0.0, 1.0, note) for k, (item, note) in enumerate(zip(items, notes, strict=True)))
    return Situation(None, (), Page(1, "test", tuple(shown)), situation().state, Stream(1, ("user", 5)))


def test_an_assumed_response_is_added_to_the_log_odds_of_choosing_that_item_and_of_nothing_else():
    given = probabilities(3, choose=0.3)
    decision = decide(ACTIONS, noted((3, 1, 2), (0.0, np.log(2.0), -np.log(3.0))), given)
    odds = decision.outcomes["choose"].probabilities[:, 0] / decision.outcomes["choose"].probabilities[:, 1]
    assert odds / (0.3 / 0.7) == pytest.approx([1.0, 2.0, 1 / 3])
    assert np.array_equal(decision.outcomes["rate"].probabilities, given["rate"])
    assert np.array_equal(decision.outcomes["leave"].probabilities, given["leave"])


def test_a_response_only_adds_choices_to_those_of_the_world_without_it():
    items = tuple(range(300))
    plain = decide(ACTIONS, noted(items, [0.0] * 300), probabilities(300)).outcomes["choose"].values
    moved = decide(ACTIONS, noted(items, [1.0] * 300), probabilities(300)).outcomes["choose"].values
    assert (moved >= plain).all()
    assert moved.sum() > plain.sum() + 30


def test_actions_are_drawn_independently():
    draws = [decide(ACTIONS, situation((1,), Stream(1, ("user", user))), probabilities(1)).outcomes for user in range(2000)]
    pairs = np.array([[d["choose"].values[0], d["leave"].values[0]] for d in draws])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.06


def test_leaving_may_depend_on_how_many_were_chosen_on_the_page():
    certain = {**probabilities(3, leave=0.0), "choose": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])}
    told = []

    def leaving(outcomes):
        told.append(outcomes)
        return np.array([[1.0, 0.0]])

    assert decide(ACTIONS, situation(), certain, leaving).outcomes["leave"].values.tolist() == [1.0]
    (outcomes,) = told
    assert outcomes["choose"].values.sum() == 2
    assert decide(ACTIONS, situation(), certain).outcomes["leave"].values.tolist() == [0.0]


def test_session_actions_are_drawn_at_the_end():
    closing = close(ACTIONS, situation(), probabilities(3), "because", "insight")
    assert closing.outcomes["satisfaction"].values[0] in SATISFACTION.values
    assert set(closing.outcomes) == {"satisfaction"}
    assert (closing.reason, closing.insight) == ("because", "insight")


def test_an_unusable_reply_chooses_nothing_and_leaves_and_says_so():
    decision = unusable(ACTIONS, situation(), probabilities(3), "no answer", "gibberish")
    assert decision.outcomes["choose"].values.tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(decision.outcomes["rate"].values).all()
    assert decision.outcomes["leave"].values.tolist() == [1.0]
    assert (decision.status, decision.reply) == ("no answer", "gibberish")


def test_declared_actions_are_binary_or_ordinal():
    assert [action.is_binary for action in (CHOOSE, RATE, LEAVE, SATISFACTION)] == [True, False, True, False]
