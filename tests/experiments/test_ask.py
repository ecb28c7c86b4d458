"""Asking users: what they say is what the simulation draws from, and what its parts sum to."""

import json
from itertools import product

import numpy as np
import polars as pl
import pytest

from agents.moods import Moods
from experiments.ask import answers, ask, ask_again, opened
from experiments.asked_pairs import pages_of
from experiments.cli import call
from experiments.page_joint import chosen_given_number, number_chosen, sets_chosen

EXPERIMENT = """
name = "asked"
rounds = 2
cohort_size = 6
[dataset]
path = "{data}"
[population]
users = 12
synthetic = 1
sessions = "rhythm"
[decision]
use = "agents.calibrated:CalibratedDecisions"
language_model = false
weights = "fit"
whole_log = true
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 4
max_pages = 3
"""


@pytest.fixture(scope="module")
def experiment(simulated, film_files):
    return simulated("asked", EXPERIMENT.format(data=film_files))


@pytest.fixture(scope="module")
def run(experiment):
    return experiment.parent / "run"


@pytest.fixture(scope="module")
def shown(run):
    return pl.read_parquet(run / "impressions.parquet")


def parts_of(table):
    return table.select(pl.sum_horizontal(pl.col("^part: .*$"))).to_series().to_numpy()


def test_asked_again_every_page_of_a_run_has_the_probabilities_that_it_was_drawn_with(run, shown):
    again = ask_again(run)
    assert again.height == shown.height > 100
    assert again["session"].max() > 0
    assert again["choose"].to_numpy() == pytest.approx(again["logged"].to_numpy(), abs=1e-12)
    assert again["expected_rating"].to_numpy() == pytest.approx(again["rating_expected"].to_numpy(), abs=1e-9)
    assert parts_of(again) == pytest.approx(again["logit"].to_numpy(), abs=1e-6)
    assert (1 / (1 + np.exp(-parts_of(again)))) == pytest.approx(again["logged"].to_numpy(), abs=1e-9)
    assert "part: other terms" not in again.columns


def test_every_score_of_the_evidence_is_a_part_and_a_changed_history_changes_it(run, shown):
    user = shown.group_by("user").agg(pl.col("chosen").sum()).sort("chosen", "user")["user"][-1]
    pairs = pl.DataFrame({"user": [user] * 20, "item": shown["item"].unique(maintain_order=True)[:20]})
    first, last = ask(run, pairs, when="start").pairs, ask(run, pairs).pairs
    for table in (first, last):
        assert parts_of(table) == pytest.approx(table["logit"].to_numpy(), abs=1e-6)
        assert table["choose"].to_numpy() == pytest.approx(1 / (1 + np.exp(-table["logit"].to_numpy())))
        ratings = table.select(f"rating_{value}" for value in range(1, 6))
        assert ratings.sum_horizontal().to_numpy() == pytest.approx(1.0)
        assert (ratings.to_numpy() @ np.arange(1, 6)) == pytest.approx(table["expected_rating"].to_numpy())
        assert table["item"].to_list() == pairs["item"].to_list()
    assert {"part: level", "part: popularity", "part: linear", "part: genres", "part: related: level", "part: age"} <= set(first.columns)
    assert sum(name.startswith("part: related: ") for name in first.columns) > 3
    assert not np.allclose(first["part: linear"].to_numpy(), last["part: linear"].to_numpy())
    assert np.array_equal(first["part: sampling"].to_numpy(), last["part: sampling"].to_numpy())


def test_an_experiment_is_asked_as_the_start_of_its_run(experiment, run, shown):
    pairs = shown.select("user", "item").head(6)
    assert ask(experiment, pairs).pairs.equals(ask(run, pairs, when="start").pairs)


def test_order_of_rows_and_other_users_do_not_matter(run, shown):
    pairs = shown.select("user", "item").unique(maintain_order=True).head(12)
    whole = ask(run, pairs).pairs
    assert ask(run, pairs.reverse()).pairs.reverse().equals(whole)
    assert ask(run, pairs.head(3)).pairs.equals(whole.head(3))


def test_the_joint_of_a_page_is_that_of_its_visits(run, shown):
    page = shown.select("user", "item").unique(maintain_order=True).filter(pl.col("user") == shown["user"][0]).head(4)
    page = page.with_columns(page=pl.lit("evening"))
    with opened(run) as asked:
        n = len(asked.train.catalog)
        asked.decisions._moods = Moods(np.random.default_rng(0).normal(0, 1.5, (n, 2)), np.zeros(n))  # so few visits tell of none
        pages = pages_of(page, asked.users, asked.train)
        usual, visits = answers(asked, *pages), answers(asked, *pages, visits=40)
    for found in (usual, visits):
        chances = found.pairs["choose"].to_numpy()
        assert found.pairs["position"].to_list() == [1, 2, 3, 4]
        assert found.numbers["probability"].sum() == pytest.approx(1.0)
        assert found.numbers["probability"].to_numpy() @ np.arange(5) == pytest.approx(chances.sum())
        assert found.sets.height == 16
        of = found.sets.with_columns(number=pl.col("chosen").list.len().cast(pl.Int32)).group_by("number").agg(pl.col("probability").sum())
        assert of.sort("number")["probability"].to_numpy() == pytest.approx(found.numbers["probability"].to_numpy())
        assert parts_of(found.pairs) == pytest.approx(found.pairs["logit"].to_numpy(), abs=1e-6)
        ones = found.given_number.filter(pl.col("number") == 1)["choose"]
        assert ones.sum() == pytest.approx(1.0)
    independent = number_chosen(visits.pairs["choose"].to_numpy()[None])
    assert not np.allclose(independent, visits.numbers["probability"].to_numpy())  # a mood is shared by the items of a page
    assert number_chosen(usual.pairs["choose"].to_numpy()[None]) == pytest.approx(usual.numbers["probability"].to_numpy())


def test_joints_are_right_where_they_can_be_counted():
    chances = np.array([[0.2, 0.5, 0.9], [0.6, 0.1, 0.3]])
    joint = {}
    for taken in product((0, 1), repeat=3):
        joint[taken] = np.mean([np.prod(np.where(taken, row, 1 - row)) for row in chances])
    found = {tuple(int(k in members) for k in range(3)): chance for members, chance in sets_chosen(chances)}
    assert found == pytest.approx(joint)
    two = {taken: chance for taken, chance in joint.items() if sum(taken) == 2}
    assert number_chosen(chances)[2] == pytest.approx(sum(two.values()))
    given = [sum(chance for taken, chance in two.items() if taken[k]) / sum(two.values()) for k in range(3)]
    assert chosen_given_number(chances)[2] == pytest.approx(given)


def test_other_decision_models_have_probabilities_without_parts(run, experiment, shown, tmp_path):
    file = tmp_path / "random.toml"
    section = '[decision]\nuse = "agents.controls:PopularityDecisions"\n'
    text = experiment.read_text(encoding="utf-8")
    file.write_text(text[: text.index("[decision]")] + section + text[text.index("[recommender]") :], encoding="utf-8")
    found = ask(file, shown.select("user", "item").head(3)).pairs
    assert found["choose"].is_between(0, 1).all()
    assert not [name for name in found.columns if name.startswith("part: ")]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("user,item\n{user},{item}\nnobody,{item}\n", "row 2: there is no user 'nobody'"),
        ("user,item\n{user},no such film\n", "row 1: there is no item 'no such film'"),
        ("user,item\n{user},{item}\n{user},\n", "row 2: there is no item; each row names one"),
        ("user,film\n{user},{item}\n", "has no column 'item'"),
        ("user,item,page\n{user},{item},a\n{user},{item},a\n", "row 2: item '{item}' is twice on page 'a'"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(run, shown, tmp_path, capsys, rows, told):
    names = {"user": shown["user"][0], "item": shown["item"][0]}
    file = tmp_path / "pairs.csv"
    file.write_text(rows.format(**names), encoding="utf-8")
    assert call(["ask", str(run), "--pairs", str(file)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert told.format(**names) in error
    assert "Traceback" not in error


def test_the_command_writes_what_python_gets(run, shown, tmp_path, capsys):
    pairs = shown.select("user", "item").head(4).with_columns(page=pl.col("user"))
    file = tmp_path / "pairs.csv"
    pairs.write_csv(file)
    found = ask(run, pairs, visits=2)
    command = ["ask", str(run), "--pairs", str(file), "--visits", "2", "--json"]
    assert call([*command, "--parquet", str(tmp_path / "a.parquet"), "--csv", str(tmp_path / "a.csv")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["about"]["when"] == "end"
    assert document["pairs"] == found.pairs.to_dicts()
    assert pl.read_parquet(tmp_path / "a.parquet").equals(found.pairs)
    assert pl.read_parquet(tmp_path / "a-sets.parquet").equals(found.sets)
    assert pl.read_csv(tmp_path / "a-numbers.csv").height == found.numbers.height
    assert call(command[:-1]) == 0
    assert "log-odds" in capsys.readouterr().out
    assert call(["ask", str(run), "--logged", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_difference"] < 1e-12


def test_what_a_language_model_says_is_a_part(experiment, shown, tmp_path):
    file = tmp_path / "asked.toml"
    text = experiment.read_text(encoding="utf-8").replace("language_model = false", "people = 3")
    file.write_text(f'{text}[language_model]\nuse = "simulator.llm.scripted:ScriptedLanguageModel"\n', encoding="utf-8")
    with opened(file) as asked:
        choice = asked.decisions.calibration.choice
        choice.weights[choice.names.index("language model")] = 0.7
        found = answers(asked, *pages_of(shown.select("user", "item").head(5), asked.users, asked.train)).pairs
    assert (found["part: language model"] != 0).all()
    assert parts_of(found) == pytest.approx(found["logit"].to_numpy(), abs=1e-6)
    assert "part: other terms" not in found.columns


def test_users_of_an_experiment_have_no_end(experiment, tmp_path, capsys):
    assert call(["ask", str(experiment), "--pairs", str(tmp_path / "none.csv"), "--when", "end"]) == 2
    assert "has not done anything" in " ".join(capsys.readouterr().err.split()).replace("have", "has")


def test_a_run_is_only_read(run, shown):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    with opened(run) as asked:
        assert asked.time > 0
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
