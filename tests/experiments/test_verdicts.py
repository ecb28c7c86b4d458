"""What a comparison comes to, in plain words."""

import numpy as np
import pytest

from experiments.comparison import verdicts_of

METRICS = [
    {"key": "watch_rate", "name": "watch rate", "kind": "use", "better": 1, "percent": True},
    {"key": "rating", "name": "rating", "kind": "pleasure", "better": 1, "percent": False},
    {"key": "satisfaction", "name": "satisfaction", "kind": "pleasure", "better": 1, "percent": False},
    {"key": "gini", "name": "exposure Gini", "kind": "range", "better": -1, "percent": False},
]


def difference(metric, value=0.0, p=1.0, p_loss=0.5, needed=None, arm="B", no_verdict=None):
    found = {"arm": arm, "metric": metric, "value": value, "relative": value, "p_holm": p, "p_loss": p_loss}
    return {**found, "standard_error": 0.1, "people_needed": needed, "no_verdict": no_verdict}


def verdict(*differences, level=0.95):
    """The first arm's verdict; metrics that are not named differ by nothing that can be told."""
    rows = list(differences)
    for arm in {row["arm"] for row in differences}:
        named = {row["metric"] for row in rows if row["arm"] == arm}
        rows += [difference(metric["key"], arm=arm) for metric in METRICS if metric["key"] not in named]
    document = {"baseline": "A", "level": level, "margin": 0.05, "metrics": METRICS, "differences": rows}
    return verdicts_of(document, "watched")[0]


NO_LOSS = [difference("rating", 0.001, p_loss=0.001), difference("satisfaction", 0.001, p_loss=0.02)]


def test_more_use_and_no_loss_of_pleasure():
    found = verdict(difference("watch_rate", 0.12, p=0.01), *NO_LOSS)
    assert found["sentence"] == (
        "B against A: more is watched (watch rate +12.0%); it pleases no less (a loss of 5% in rating and satisfaction is ruled out)."
    )
    assert found["no_less"]


def test_a_pleasure_whose_loss_is_not_ruled_out_leaves_it_open():
    found = verdict(difference("watch_rate", 0.12, p=0.01), NO_LOSS[0], difference("satisfaction", 0.001, p_loss=0.03))
    assert "whether it pleases less cannot be told" in found["sentence"]
    assert not found["no_less"]


def test_two_arms_need_stronger_evidence_of_no_loss_than_one():
    others = [{**row, "arm": "C", "p_loss": 0.5} for row in NO_LOSS]
    assert verdict(difference("watch_rate", 0.12, p=0.01), *NO_LOSS)["no_less"]
    assert not verdict(difference("watch_rate", 0.12, p=0.01), *NO_LOSS, *others)["no_less"]


def test_without_a_difference_the_number_of_people_is_told_with_two_digits():
    found = verdict(difference("watch_rate", -0.013, p=0.3, needed=18_764))
    assert (
        "no difference can be told in what people do; about 19,000 people would be needed to see one of this size (watch rate -1.3%)"
        in (found["sentence"])
    )
    assert found["claims"]["use"] == {"better": [], "worse": []}


@pytest.mark.parametrize(
    ("value", "said"), [(-0.1, "it pleases less (satisfaction -10.0%)"), (0.1, "it pleases more (satisfaction +10.0%)")]
)
def test_a_difference_in_pleasure_comes_before_the_lack_of_a_loss(value, said):
    assert said in verdict(difference("satisfaction", value, p=0.001))["sentence"]


def test_a_small_certain_loss_is_told_as_one():
    found = verdict(NO_LOSS[0], difference("satisfaction", -0.02, p=0.001, p_loss=0.001))
    assert "it pleases less (satisfaction -2.0%, though by less than 5%)" in found["sentence"]


def test_less_concentration_is_a_broader_range_and_more_a_narrower_one():
    assert "shows a broader range (exposure Gini -10.0%)" in verdict(difference("gini", -0.1, p=0.01))["sentence"]
    assert "shows a narrower range (exposure Gini +10.0%)" in verdict(difference("gini", 0.1, p=0.01))["sentence"]


def test_a_difference_that_does_not_stand_after_correction_is_not_claimed():
    found = verdict(difference("gini", 0.5, p=float(np.nextafter(0.05, 1))))
    assert found["claims"]["range"] == {"better": [], "worse": []}


SILENT = "nothing that is shown moves it, since the data has no ratings"


def test_a_pleasure_that_nothing_moves_grounds_no_verdict_and_is_named():
    found = verdict(
        difference("watch_rate", 0.12, p=0.01), *(difference(key, no_verdict=SILENT, p_loss=None) for key in ("rating", "satisfaction"))
    )
    assert found["sentence"] == (
        "B against A: more is watched (watch rate +12.0%); whether it pleases was not measured; rating and satisfaction tell nothing "
        f"({SILENT})."
    )
    assert not found["no_less"]


def test_what_is_ruled_out_names_only_what_was_measured():
    found = verdict(difference("watch_rate", 0.12, p=0.01), NO_LOSS[0], difference("satisfaction", no_verdict=SILENT, p_loss=0.0))
    assert "it pleases no less (a loss of 5% in rating is ruled out); satisfaction tells nothing" in found["sentence"]
    assert found["no_less"]


def test_a_pleasure_of_which_an_arm_has_nothing_leaves_it_open():
    empty = difference("rating", None, p=None, p_loss=None, no_verdict="there is nothing to measure it by in B")
    found = verdict(difference("watch_rate", -0.9, p=0.01), empty, NO_LOSS[1])
    assert not found["no_less"]
    assert "whether it pleases less cannot be told" in found["sentence"]
    assert "rating tells nothing (there is nothing to measure it by in B)" in found["sentence"]


@pytest.mark.parametrize("metric", ["watch_rate", "rating", "satisfaction", "gini"])
def test_no_claim_rests_on_what_tells_nothing_whatever_its_numbers_say(metric):
    found = verdict(difference(metric, 0.5, p=1e-9, p_loss=0.0, no_verdict="it differs by the same for everybody"))
    assert not any(names for kind in found["claims"].values() for names in kind.values())
    assert not found["no_less"]
