"""Whole reports through the command line, on a made-up world in the files of MovieLens."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from experiments import config as configuration
from experiments.analysis.fidelity_figures import PARTS as FIGURE_OF
from experiments.analysis.fidelity_figures import make_figures
from experiments.analysis.fidelity_section import section
from experiments.analysis.figure_style import measurement, measurement_in
from experiments.analysis.finished_run import FinishedRun
from experiments.cli import call
from experiments.fidelity import report as reports
from experiments.fidelity.behaviour import Behaviour
from experiments.fidelity.choices import worse_than_chance
from experiments.fidelity.context import make_context, silent
from experiments.fidelity.given import first_shown
from experiments.fidelity.headline import headline, table
from experiments.fidelity.report import Options, add_to_benchmark, measure
from experiments.fidelity.scores import HELD_OUT, held_out_pages, scored, validation_pages
from experiments.sections import LanguageModelSection
from simulator.errors import ConfigError

EXPERIMENT = """
name = "believed"
language_model = {language_model}
[dataset]
path = "{data}"
split = "random"
test_share = 0.3
[population]
users = 16
sessions = "rhythm"
[decision]
use = "{decision}"
[recommender]
use = "environments.recommenders.random:Random"
page_size = 4
max_pages = 3
"""
PERFECT = '''
import json
from pathlib import Path
import numpy as np
from agents.controls import RandomDecisions

class Knows(RandomDecisions):
    """Chooses what is in the whole log and nothing else, and rates as the log does."""
    def fit(self, train, profiles, rng):
        super().fit(train, profiles, rng)
        self.log = {{tuple(pair) for pair in json.loads(Path("{log}").read_text())}}
    def _probabilities(self, situation):
        found = super()._probabilities(situation)
        yes = np.array([0.9 if (situation.profile.user, int(item)) in self.log else 0.1 for item in situation.page.items])
        return found | {{"choose": np.column_stack([yes, 1 - yes])}}
'''
PARTS = "choose,ratings,distributions,realism"


def experiment(folder: Path, data: Path, decision="agents.controls:EvidenceDecisions", language_model="false") -> Path:
    file = folder / "believed.toml"
    file.write_text(EXPERIMENT.format(data=data, decision=decision, language_model=language_model), encoding="utf-8")
    return file


def report(target: Path, *extra: str) -> dict:
    """What the command writes."""
    assert call(["fidelity", str(target), "--bootstrap", "50", *extra]) == 0
    folder = target if target.is_dir() else Path(extra[extra.index("--output") + 1])
    return json.loads((folder / "fidelity" / "fidelity.json").read_text())


def measured(run: Path, parts: str, **options) -> dict:
    """The same without drawing anything."""
    config = configuration.read(run / "config.toml")
    return measure(config, run / "fidelity", run, Options(parts=parts.split(","), bootstrap=50, **options), silent)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Weights that are estimated here are not kept for others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USERSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("believed")
    file = experiment(folder, film_files)
    report(file, "--output", str(folder / "run"), "--parts", PARTS)
    return folder / "run"


def test_the_report_says_how_every_control_did_and_what_could_not_be_measured(finished):
    found = json.loads((finished / "fidelity/fidelity.json").read_text())
    assert set(found["parts"]["choose"]["models"]) >= {"random", "popularity", "evidence"}
    assert found["model"] == "evidence"
    assert found["headline"]["accuracy_1_1"]["controls"].keys() >= {"random", "popularity"}
    assert found["parts"]["choose"]["models"]["random"]["random_1_1"]["auc"]["value"] == 0.5
    assert found["parts"]["choose"]["not_measured"]["llm"] == "the experiment has no language model"
    assert "does not log" in found["parts"]["distributions"]["not_measured"]["pages_per_session"]
    assert found["headline"]["rating_mae"]["controls"].keys() >= {"biases", "global_histogram"}
    assert {file.name for file in (finished / "fidelity/figures").glob("*.png")} == {
        "choices.png",
        "rating-calibration.png",
        "rating-histogram.png",
        "distributions.png",
    }


def test_pages_filled_at_random_give_a_slot_ratio_from_the_log_too(finished):
    document = json.loads((finished / "fidelity/fidelity.json").read_text())
    slots = document["parts"]["choose"]["slots"]
    # the log has more pages than are asked about, so it is what is told
    assert document["headline"]["slot_ratio"]["value"] == slots["log"]["ratio"]["value"]
    assert document["headline"]["slot_ratio"]["controls"]["random"] == slots["models"]["random"]["ratio"]["value"]
    assert slots["log"]["ratio"]["value"] > 0
    assert slots["models"]["random"]["ratio"]["value"] == pytest.approx(1.0)
    assert len(slots["models"]["evidence"]["by_place"]) == 4


def test_an_interrupted_report_goes_on_and_ends_the_same(finished, tmp_path):
    whole = measured(finished, PARTS)
    shutil.copytree(finished, tmp_path / "run")
    for file in (tmp_path / "run/fidelity/parts").iterdir():
        if file.is_file() and not file.stem.startswith("scores-"):
            file.unlink()
    (tmp_path / "run/fidelity/fidelity.json").unlink()
    again = measured(tmp_path / "run", PARTS)
    assert _without_seconds(again) == _without_seconds(whole)


def test_other_settings_are_measured_anew(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    first, other = measured(tmp_path / "run", "choose"), measured(tmp_path / "run", "choose", seed=99)
    assert first["parts"]["choose"]["models"]["evidence"] != other["parts"]["choose"]["models"]["evidence"]


def test_who_knows_the_held_out_part_is_perfect(film_files, film_world, tmp_path):
    log = film_world.interactions.select("user", "item").rows()
    (tmp_path / "log.json").write_text(json.dumps(log))
    (tmp_path / "knows.py").write_text(PERFECT.format(log=tmp_path / "log.json"))
    file = experiment(tmp_path, film_files, decision=f"{tmp_path / 'knows.py'}:Knows")
    found = report(file, "--output", str(tmp_path / "out"), "--parts", "choose")
    assert found["model"] == "experiment"
    for mix in ("random_1_1", "matched_1_1"):
        assert found["parts"]["choose"]["models"]["experiment"][mix]["auc"]["value"] == 1.0
    assert found["headline"]["accuracy_1_1"]["met"] is True


def test_the_language_model_alone_is_asked_through_the_same_pages(film_files, tmp_path):
    file = experiment(
        tmp_path, film_files, "agents.decisions:LanguageModelDecisions", '{ use = "simulator.llm.scripted:ScriptedLanguageModel" }'
    )
    found = report(file, "--output", str(tmp_path / "out"), "--parts", "choose,ratings")
    assert found["model"] == "llm"
    models = found["parts"]["choose"]["models"]
    assert models["llm"]["random_1_1"]["rows"] == models["evidence"]["random_1_1"]["rows"]
    assert found["headline"]["auc_matched_llm_alone"]["value"] == models["llm"]["matched_1_1"]["auc"]["value"]
    assert (tmp_path / "out/fidelity/language_model.sqlite").is_file()


def test_a_model_that_failed_is_tried_again_and_the_others_are_kept(film_files, tmp_path):
    broken = '{ use = "simulator.llm.scripted:ScriptedLanguageModel", unusable_share = 1.0 }'
    file = experiment(tmp_path, film_files, language_model=broken)
    for _ in range(2):
        found = report(file, "--output", str(tmp_path / "out"), "--parts", "choose", "--people", "3")
        assert "could be scored" in found["parts"]["choose"]["not_measured"]["llm"]
        assert not (tmp_path / "out/fidelity/parts/choose.json").is_file()
        assert (tmp_path / "out/fidelity/parts/scores-held_out-evidence.parquet").is_file()
    assert "llm" not in found["parts"]["choose"]["models"]


def test_changed_held_out_rows_change_no_profile_no_model_and_no_threshold(film_files, tmp_path):
    original = tmp_path / "original"
    config = configuration.read(experiment(tmp_path, film_files))
    context = make_context(config, original, run=None, people=5, bootstrap=20)
    moved = (context.split.test["item"] + 1) % context.train.n_items
    changed = make_context(config, tmp_path / "changed", run=None, people=5, bootstrap=20)
    changed.split.__dict__["test"] = changed.split.test.with_columns(item=moved.cast(pl.Int32), rating=pl.lit(1.0, dtype=pl.Float32))
    assert [repr(profile) for profile in changed.profiles.values()] == [repr(profile) for profile in context.profiles.values()]
    assert validation_pages(changed).rows.equals(validation_pages(context).rows)
    for name, folder in ((context, "a"), (changed, "b")):
        (tmp_path / folder).mkdir()
        name.models["evidence"].save(tmp_path / folder)
    assert (tmp_path / "a/choice_model.json").read_bytes() == (tmp_path / "b/choice_model.json").read_bytes()
    assert not held_out_pages(changed).rows.equals(held_out_pages(context).rows)
    assert not scored(changed, "popularity", HELD_OUT).equals(scored(context, "popularity", HELD_OUT))


def test_the_benchmark_has_one_object_per_data_set_and_split(finished, tmp_path):
    file = tmp_path / "results/benchmarks/fidelity.json"
    for people in (5, 6):
        add_to_benchmark(measured(finished, "choose,ratings", people=people), file)
    entries = json.loads(file.read_text())
    assert [entry["people"] for entry in entries] == [6]
    keys = "accuracy_1_1 f1_1_1 f1_1_9 auc_matched llm_lift llm_lift_low auc_matched_llm_alone rating_mae rating_tv"
    keys += " worst_distribution_ratio c2st_auc slot_ratio kendall_tau tune_minutes"
    assert entries[0].keys() >= set(keys.split())
    assert entries[0]["controls"]["accuracy_1_1"]["popularity"] > 0


def test_parts_of_a_benchmark_can_be_measured_one_by_one(finished, tmp_path):
    file = tmp_path / "fidelity.json"
    first, second = (measured(finished, part, people=people) for part, people in (("ratings", 5), ("choose", 6)))
    for document in (first, second):
        add_to_benchmark(document, file)
    (entry,) = json.loads(file.read_text())
    assert entry["rating_mae"] == first["headline"]["rating_mae"]["value"]
    assert entry["accuracy_1_1"] == second["headline"]["accuracy_1_1"]["value"]
    assert entry["targets"]["rating_mae"]["met"] == first["headline"]["rating_mae"]["met"]
    assert [entry["measured_with"][key]["people"] for key in ("rating_mae", "accuracy_1_1")] == [5, 6]


def test_json_is_one_document_and_needs_no_run_where_no_log_is_compared(film_files, tmp_path, capsys):
    file = experiment(tmp_path, film_files)
    assert call(["fidelity", str(file), "--output", str(tmp_path / "out"), "--people", "3", "--parts", "choose", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["headline"]["auc_matched"]["value"] > 0
    assert (found["people"], found["run"]) == (3, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no experiment file nowhere"),
        (["tuning/nowhere"], "In tuning/: ml-100k, ml-1m."),
        (["{run}", "--parts", "choice"], "unknown part 'choice'; did you mean 'choose'?"),
        (["{run}", "--parts", ","], "--parts is empty"),
        (["{run}", "--set", "seed=3"], "which is judged as it is; --set goes with an experiment file"),
        (["{empty}"], "is not a run"),
    ],
)
def test_wrong_inputs_are_answered_with_one_sentence(arguments, sentence, finished, tmp_path, capsys):
    filled = [argument.format(run=finished, empty=tmp_path) for argument in arguments]
    assert call(["fidelity", *filled]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said


def test_a_benchmark_file_that_is_something_else_is_not_overwritten(finished, tmp_path):
    file = tmp_path / "fidelity.json"
    document = json.loads((finished / "fidelity/fidelity.json").read_text())
    for content in ('{"a": 1}', "not JSON"):
        file.write_text(content)
        with pytest.raises(ConfigError, match="move it away"):
            add_to_benchmark(document, file)
        assert file.read_text() == content


def test_the_report_of_the_run_shows_the_table(finished):
    page = (finished / "report.html").read_text()
    assert "Fidelity: against held-out real people" in page
    assert "negatives matched in popularity" in page


def _without_seconds(document: dict) -> dict:
    parts = {name: {key: value for key, value in part.items() if key != "seconds"} for name, part in document["parts"].items()}
    return document | {"parts": parts}


def test_a_control_that_is_worse_than_chance_is_a_warning_on_the_terminal_and_in_the_report(
    finished, tmp_path, film_files, film_world, capsys
):
    """As a baseline is that learned from the end of a file that is sorted by item."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    warnings = json.loads((run / "fidelity" / "fidelity.json").read_text())["warnings"]
    assert not any("worse than chance" in sentence for sentence in warnings)
    assert any("validation users only" in sentence for sentence in warnings)
    found = json.loads((run / "fidelity" / "fidelity.json").read_text())["parts"]["choose"]
    area = found["models"]["evidence"]["matched_1_1"]["auc"]
    assert worse_than_chance(found) == []
    area.update(value=0.45, low=0.3, high=0.6)
    assert worse_than_chance(found) == [], "not for certain"
    area.update(value=0.3273, low=0.3, high=0.36)
    (sentence,) = worse_than_chance(found)
    assert sentence.startswith("evidence is worse than chance at telling held-out choices from matched items: AUC 0.327 [0.300, 0.360]")
    document = json.loads((run / "fidelity" / "fidelity.json").read_text())
    (run / "fidelity" / "fidelity.json").write_text(json.dumps({**document, "warnings": [sentence]}))
    assert sentence in section(run)["sentences"]
    (tmp_path / "log.json").write_text(json.dumps(film_world.interactions.select("user", "item").rows()))
    backwards = PERFECT.format(log=tmp_path / "log.json").replace("0.9 if", "0.1 if").replace("else 0.1", "else 0.9")
    (tmp_path / "backwards.py").write_text(backwards)
    file = experiment(tmp_path, film_files, f"{tmp_path / 'backwards.py'}:Knows")
    capsys.readouterr()
    assert call(["fidelity", str(file), "--parts", "choose", "--bootstrap", "50", "--output", str(tmp_path / "out")]) == 0
    assert "is worse than chance at telling held-out choices from random items" in capsys.readouterr().err


def test_the_time_of_a_tuning_says_what_took_it():
    lines = headline({"tuning": {"minutes": {"value": 4.0, "device": "one core"}}}, "llm", ["llm"])
    assert [row["figure"] for row in table({"headline": lines})] == ["minutes that tuning took (one core)"]
    assert headline({"tuning": {"minutes": {"value": 4.0}}}, "llm", ["llm"])["tune_minutes"]["device"] is None


def test_the_time_of_a_tuning_is_that_on_its_own_data_and_names_what_it_began_with(tmp_path):
    def card(data, seconds, **more):
        return {"data": {"name": data}, "tuning": {"seconds": seconds, "device": "cpu"}, **more}

    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "card.json").write_text(json.dumps(card("small", 600, start=card("large", 3000, start=card("large", 6000)))))
    model = {"use": "simulator.llm.llama_cpp:LlamaCpp", "adapter": str(tmp_path)}
    config = SimpleNamespace(language_model=LanguageModelSection.model_validate(model))
    assert reports._tuning(config) == {"minutes": {"value": 10.0, "device": "cpu, after 150 minutes on large"}}
    assert reports._tuning(SimpleNamespace(language_model=None)) == {}


def test_no_text_of_a_fidelity_figure_is_cut_and_each_holds_the_hash_of_its_part(finished, tmp_path, cut_texts):
    document = json.loads((finished / "fidelity/fidelity.json").read_text())
    made = make_figures(document, tmp_path)
    assert cut_texts == []
    assert made
    for name, file in made.items():
        assert measurement_in(file) == measurement(document["parts"][FIGURE_OF[name]])


def test_a_figure_of_an_earlier_measurement_is_not_shown_beside_the_table(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    file = run / "fidelity/fidelity.json"
    document = json.loads(file.read_text())
    made = make_figures(document, run / "fidelity/figures")
    assert "choices" in made
    assert "Choices" in {figure["title"] for figure in section(run)["figures"]}
    document["parts"]["choose"]["people"] = -1
    file.write_text(json.dumps(document))
    assert "Choices" not in {figure["title"] for figure in section(run)["figures"]}


def test_a_benchmark_keeps_its_order_and_says_of_what_each_part_was_measured(finished, tmp_path):
    file = tmp_path / "fidelity.json"
    document = json.loads((finished / "fidelity/fidelity.json").read_text())
    add_to_benchmark(document, file)
    add_to_benchmark({**document, "data": "other"}, file)
    only = {**document, "parts": {"choose": document["parts"]["choose"]}, "not_measured": {}}
    add_to_benchmark(only, file)
    first, second = json.loads(file.read_text())
    assert (first["data"], second["data"]) == (document["data"], "other")
    assert first["measurements"] == {name: measurement(part) for name, part in document["parts"].items()}
    assert first["not_measured"].keys() >= document["not_measured"].keys() - {"choose"}


def test_choices_given_what_was_shown_are_judged_on_first_exposures_outside_of_the_training_part(finished):
    run = FinishedRun(finished)
    context = make_context(configuration.read(finished / "config.toml"), finished / "fidelity", run=finished, people=300, bootstrap=50)
    behaviour = Behaviour(context)
    histories = [context.profiles[user].history for user in behaviour.people.tolist()]
    pool = first_shown(behaviour, histories)
    assert len(set(zip(pool.person.tolist(), pool.item.tolist(), strict=True))) == len(pool.item) > 0
    assert all(item not in histories[person] for person, item in zip(pool.person.tolist(), pool.item.tolist(), strict=True))
    first = run.impressions.sort("round", "user", "session", "page", "position").unique(["user", "item"], keep="first")
    names, ids = context.user_ids, behaviour.train.catalog.item_ids
    chosen = dict(zip(first.select("user", "item").iter_rows(), first["chosen"], strict=True))
    assert [chosen[names[behaviour.people[person]], ids[item]] for person, item in zip(pool.person, pool.item, strict=True)] == list(
        pool.chosen
    )
    found = measured(finished, "given")
    assert found["parts"]["given"]["verdict"]["good"] is None  # too few held-out users in this world
    assert found["parts"]["given"]["figures"]["repeats"]["real"]["mean"] == 0.0
    assert found["headline"]["worst_given_shown_ratio"]["value"] is not None
