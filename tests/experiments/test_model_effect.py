"""A run says what the language model did, and one flag does without it."""

import json

import polars as pl
import pytest

from experiments.cli import call
from experiments.model_effect import effect, first_words, text_words

SUMMARY = {
    "tokens": {"prompt_tokens": 900, "computed_tokens": 500, "generated_tokens": 100, "calls": 9},
    "decisions_changed_share": 0.039,
    "model_seconds": 8.0,
    "cohort_seconds": 10.0,
}


@pytest.mark.parametrize(
    ("changed", "figures", "worth"),
    [
        (0.039, {"model_lift": 0.01, "model_lift_low": 0.002, "model_lift_high": 0.02}, True),
        (0.039, {"model_lift": 0.01, "model_lift_low": -0.002, "model_lift_high": 0.02, "model_p": 0.001}, False),
        (0.004, {"model_lift": 0.01, "model_lift_low": 0.002, "model_lift_high": 0.02}, False),
        (0.039, {"model_p": 0.001}, True),
        (0.039, {"model_p": 0.4}, False),
        (0.039, {}, False),
        (None, {"model_p": 0.001}, None),
    ],
)
def test_a_model_is_worth_its_cost_where_it_changes_enough_for_the_better(changed, figures, worth):
    found = effect({**SUMMARY, "decisions_changed_share": changed, "figures": figures})
    assert found["worth_its_cost"] is worth
    assert (found["tokens"], found["time_share"]) == (600, 0.8)
    assert ("--no-language-model" in found["said"]) == (worth is False)


def test_without_a_model_nothing_is_said_of_one():
    assert effect({"tokens": {"calls": 0}}) is None
    assert first_words({"tokens": {"calls": 0}, "language_model": None}) == "no language model had a say"
    assert first_words({}) == "", "of a run of before nothing is known"
    assert text_words({"texts": 0, "texts_from_facts": 0}) == ""
    assert "25% of the language model's texts" in text_words({"texts": 1, "texts_from_facts": 3, "texts_passed_share": 0.25})


EXPERIMENT = """
name = "effect"
[dataset]
path = {data}
[population]
users = 12
taste = true
[decision]
use = "agents.calibrated:CalibratedDecisions"
weights = "fit"
people = 8
reference_pages = 2
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 4
max_pages = 2
"""


def test_a_run_counts_the_decisions_that_the_model_changed_and_one_flag_does_without(tmp_path, film_files, capsys):
    file = tmp_path / "effect.toml"
    file.write_text(EXPERIMENT.format(data=json.dumps(str(film_files))), encoding="utf-8")
    runs = {"with": [], "without": ["--no-language-model"]}
    summaries = {}
    for name, flags in runs.items():
        assert call(["run", str(file), "--output", str(tmp_path / name), "--workers", "1", "--json", *flags]) == 0
        summaries[name] = json.loads(capsys.readouterr().out)
    pages = pl.read_parquet(tmp_path / "with" / "pages.parquet")
    share = pages["unlike_without_model"].sum() / (pages["shown"].sum() + pages.height)
    did = summaries["with"]["language_model"]
    assert did["decisions_changed_share"] == pytest.approx(share)
    assert 0 <= share < 1
    assert did["tokens"] > 0
    assert did["said"] in (tmp_path / "with" / "summary.json").read_text()
    first = first_words(summaries["with"])
    assert first.startswith("it has a say in which items are chosen, none in when people leave")
    report = (tmp_path / "with" / "report.html").read_text()
    assert first[:60] in report[: report.index('id="run"')], "what the model does and does not stands in the first screen"
    assert f"{share:.1%}" in report[: report.index('id="run"')]
    assert "No language model had a say" in (tmp_path / "without" / "report.html").read_text()
    assert summaries["without"]["language_model"] is None
    assert summaries["without"]["tokens"]["calls"] == 0
    assert pl.read_parquet(tmp_path / "without" / "pages.parquet")["unlike_without_model"].null_count() == summaries["without"]["pages"]
