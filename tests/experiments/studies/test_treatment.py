import polars as pl
import pytest

from experiments.studies.treatment import BEFORE, BEYOND, CONTROL_GROUP, ITS_ITEMS, Treatment, TreatmentConfig
from simulator.errors import ConfigError
from simulator.seeds import Stream

PEOPLE = [str(number) for number in range(400)]
TREATED = set(PEOPLE[::2])
CONFIG = """
name = "x"
seed = 3
[interventions.advert]
kind = "advert"
unit = "person"
share = {share}
from_round = 1
response = 0.5
text = ""
control_text = ""
items = {{ids = ["a"]}}
"""


def log(page, who, effect, spill=0.0):
    """Items a and b before and after; whoever is in `who` takes a more often by `effect` from round 1 on, and b by `spill`."""
    rng = Stream(1).child("treatment").generator()
    luck = rng.random((len(PEOPLE), 2, 8, 2))
    rows = []
    for number, user in enumerate(PEOPLE):
        for turn in (0, 1):
            for k in range(8):
                more = (effect, spill) if turn and user in who else (0.0, 0.0)
                p = [0.3 + more[0], 0.4 + more[1]]
                chosen = [luck[number, turn, k, place] < p[place] for place in (0, 1)]
                targeted = ["advert", ""] if turn else ["", ""]
                treated = ["advert" if turn and user in who else "", ""]
                rows += page(
                    user, "ab", chosen, turn=turn, session=turn, number=k + 1, targeted=targeted, treated=treated, chosen_probability=p
                )
    return rows


@pytest.fixture
def measured(write_arms, page):
    def measure(effect, spill=0.0, truth=True):
        tables = {
            "advert": log(page, TREATED, effect, spill),
            "all": log(page, set(PEOPLE), effect, spill),
            "nobody": log(page, set(), effect, spill),
        }
        configs = {name: CONFIG.format(share=share) for name, share in (("advert", 0.5), ("all", 1.0), ("nobody", 0.0))}
        who = {"advert": TREATED, "all": set(PEOPLE), "nobody": set()}
        extra = {
            name: {"treatments": pl.DataFrame({"user": PEOPLE, "intervention": "advert", "treated": [user in own for user in PEOPLE]})}
            for name, own in who.items()
        }
        arms = write_arms(tables, "nobody", PEOPLE, configs, extra)
        options = TreatmentConfig(truth={"advert": ("all", "nobody")} if truth else {})
        rows = Treatment(options).measure(arms).rows
        return {(row.group, row.against): row for row in rows if row.arm == "advert"}

    return measure


def test_the_effect_is_found_near_the_truth_that_treating_everybody_tells(measured):
    rows = measured(0.2, spill=-0.1)
    own = rows[ITS_ITEMS, CONTROL_GROUP]
    assert own.truth == pytest.approx(0.2)
    assert own.low < 0.2 < own.high
    assert own.low > 0.1
    beside = rows["other items on those pages", CONTROL_GROUP]
    assert beside.truth == pytest.approx(-0.1)
    assert beside.low < -0.1 < beside.high < 0
    assert rows[f"{ITS_ITEMS}, everybody", "nobody treated"].value == pytest.approx(0.2)


def test_before_it_began_there_is_no_effect_and_taking_that_difference_away_keeps_the_truth(measured):
    rows = measured(0.2)
    before, beyond = rows[BEFORE, CONTROL_GROUP], rows[BEYOND, CONTROL_GROUP]
    assert before.low < 0 < before.high
    assert before.truth == 0.0
    assert beyond.value == pytest.approx(rows[ITS_ITEMS, CONTROL_GROUP].value - before.value)
    assert beyond.low < 0.2 < beyond.high


def test_without_an_effect_there_is_none(measured):
    rows = measured(0.0)
    for group in (ITS_ITEMS, "other items on those pages", "whole visit"):
        assert rows[group, CONTROL_GROUP].low < 0 < rows[group, CONTROL_GROUP].high


def test_without_arms_that_know_it_no_truth_is_claimed(measured):
    assert measured(0.2, truth=False)[ITS_ITEMS, CONTROL_GROUP].truth is None


def test_a_study_without_a_control_group_is_refused(write_arms, page):
    table = pl.DataFrame({"user": PEOPLE, "intervention": "advert", "treated": [True] * len(PEOPLE)})
    arms = write_arms(
        {"all": log(page, set(PEOPLE), 0.2)}, "all", PEOPLE, {"all": CONFIG.format(share=1.0)}, {"all": {"treatments": table}}
    )
    with pytest.raises(ConfigError, match="no control group: no arm has an intervention on people with a share between 0 and 1"):
        Treatment(TreatmentConfig()).measure(arms)
