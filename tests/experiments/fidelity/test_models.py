"""The decision models that are compared: named alike whatever the experiment, and asked with the same prompts."""

import pytest

from agents.profiles import fit_profiles
from experiments.config import ExperimentConfig
from experiments.fidelity.models import CALIBRATED, DecisionModels
from experiments.fidelity.pages import MOST_ASKED

SCRIPTED = {"use": "simulator.llm.scripted:ScriptedLanguageModel"}
ALONE = "agents.decisions:LanguageModelDecisions"


def models(film_world, folder, decision, language_model=SCRIPTED, **sections):
    document = {"name": "compared", "decision": decision, "language_model": language_model, "dataset": {"split": "random"}} | sections
    config = ExperimentConfig.model_validate(document)
    return DecisionModels(config, film_world, fit_profiles(film_world), folder)


@pytest.mark.parametrize(
    ("decision", "name"),
    [
        ({"use": ALONE}, "llm"),
        ({"use": "agents.controls:EvidenceDecisions"}, "evidence"),
        ({"use": CALIBRATED}, "calibrated"),
        ({"use": CALIBRATED, "language_model": False}, "calibrated_no_llm"),
        ({"use": "my_people.py:Mine"}, "experiment"),
    ],
)
def test_the_experiments_own_model_is_known_by_its_class(film_world, tmp_path, decision, name):
    found = models(film_world, tmp_path, decision)
    assert found.main == name
    assert len(set(found.names)) == len(found.names)
    assert name in found.names


def test_without_a_language_model_those_that_ask_one_are_missing_and_say_so(film_world, tmp_path):
    found = models(film_world, tmp_path, {"use": "agents.controls:RandomDecisions"}, None)
    assert not {"llm", "calibrated"} & set(found)
    assert found.why_not("llm") == "the experiment has no language model"
    with pytest.raises(KeyError):
        found["nobody"]


def test_a_model_is_fitted_once_and_all_share_one_language_model(film_world, tmp_path):
    found = models(film_world, tmp_path, {"use": ALONE})
    assert found["evidence"] is found["evidence"]
    assert found["llm"]._model is found.language_model
    assert (tmp_path / "language_model.sqlite").is_file()
    found.close()


def test_all_are_asked_with_the_prompts_and_priors_of_the_experiment(film_world, tmp_path):
    found = models(film_world, tmp_path, {"use": ALONE, "choose_rate": 0.4, "reference_pages": 3, "strength": 2.0})
    assert found.section("calibrated").options["reference_pages"] == 3
    assert found.section("calibrated").options["hide"] == "random"
    assert "strength" not in found.section("calibrated").options
    assert found.section("evidence").options == {"choose_rate": 0.4}


def test_weights_given_to_one_calibrated_model_are_not_those_of_the_other(film_world, tmp_path):
    found = models(film_world, tmp_path, {"use": CALIBRATED, "weights": "somewhere"})
    assert found.section("calibrated").options["weights"] == "somewhere"
    assert "weights" not in found.section("calibrated_no_llm").options


def test_a_model_of_another_training_part_leaves_the_first_as_it_was(film_world, tmp_path):
    found = models(film_world, tmp_path, {"use": "agents.controls:EvidenceDecisions"}, None)
    less = film_world.with_interactions(film_world.interactions.head(150))
    other = found.refitted("evidence", less, fit_profiles(less))
    assert other is not found["evidence"]


def test_a_language_model_is_asked_about_no_longer_pages_than_it_can_hold(film_world, tmp_path):
    found = models(film_world, tmp_path, {"use": ALONE}, recommender={"page_size": 50})
    assert found.unfitted("llm")._context.page_size == MOST_ASKED
    assert found.unfitted("calibrated")._context.page_size == MOST_ASKED
    assert found.unfitted("calibrated_no_llm")._context.page_size == 50
    found.close()
    short = models(film_world, tmp_path / "short", {"use": ALONE}, recommender={"page_size": 6})
    assert short.unfitted("llm")._context.page_size == 6
    short.close()
