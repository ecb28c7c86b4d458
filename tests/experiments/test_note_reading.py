"""Who may read notes: a model that a neutral note leaves alone, and that tells good from irrelevant from bad ones."""

import pytest

from environments.interventions import InterventionConfig
from experiments import note_reading
from simulator.errors import ConfigError
from simulator.records import ModelIdentity

MODEL = ModelIdentity("small", "0" * 64, "test 1")
DECISION = "agents.decisions:LanguageModelDecisions"


def effects(control=(0.0, -0.005, 0.005), persuasive=(0.05, 0.02, 0.08), discouraging=(0.05, 0.02, 0.08)):
    names = ("control", "persuasive_over_irrelevant", "irrelevant_over_discouraging")
    return {
        name: dict(zip(("value", "low", "high"), one, strict=True))
        for name, one in zip(names, (control, persuasive, discouraging), strict=True)
    }


def advert(response):
    return {"advert": InterventionConfig.model_validate({"kind": "advert", "text": "new", "items": {"share": 1.0}, "response": response})}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))


def test_who_reads_in_the_right_order_and_ignores_a_neutral_note_may_read():
    assert note_reading.verdict(effects()) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (effects(control=(-0.05, -0.06, -0.04)), "a neutral note changes how often it chooses by -5.0 points"),
        (effects(control=(0.0, -0.02, 0.005)), "more than 1 point"),
        (effects(persuasive=(0.01, -0.01, 0.03)), "persuasive notes do not do more for it than irrelevant ones"),
        (effects(discouraging=(-0.05, -0.08, -0.02)), "irrelevant notes do not do more for it than discouraging ones"),
        (effects(control=(None, None, None)), "too few pages"),
    ],
)
def test_who_does_not_may_not_and_is_told_why(found, why):
    assert why in (note_reading.verdict(found) or "")


def test_a_model_is_believed_by_what_was_found_of_it_with_the_same_decisions():
    with pytest.raises(ConfigError, match="not measured"):
        note_reading.refuse(advert("read"), MODEL, DECISION)
    note_reading.keep(MODEL, DECISION, None, effects())
    note_reading.refuse(advert("read"), MODEL, DECISION)
    with pytest.raises(ConfigError, match="not measured"):
        note_reading.refuse(advert("read"), MODEL, "agents.calibrated:CalibratedDecisions")
    note_reading.keep(MODEL, DECISION, "a neutral note puts it off", effects())
    with pytest.raises(ConfigError, match="puts it off"):
        note_reading.refuse(advert("read"), MODEL, DECISION)


def test_a_response_is_stated_and_0_unless_reading_is_asked_for():
    plain = InterventionConfig.model_validate({"kind": "price", "text": "half the price", "items": {"share": 1.0}})
    assert plain.response == 0.0
    note_reading.refuse({"price": plain}, MODEL, DECISION)
