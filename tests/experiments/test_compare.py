"""`usersim compare` on whole runs of a small world."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from experiments.analysis import metrics
from experiments.analysis.finished_run import FinishedRun
from experiments.cli import call
from experiments.component_names import import_path, shipped
from experiments.stored_settings import settings_of
from simulator.errors import ConfigError
from simulator.plugins import load
from simulator.run_directory import RunDirectory


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """The runs that are compared here name a file of code of their own, which is made here too."""
    monkeypatch.setenv("USERSIM_TRUST", "1")


EXPERIMENT = """
name = "compared"
rounds = 2
cohort_size = 8
language_model = false
[dataset]
path = "{data}"
split = "random"
[population]
users = "all"
[decision]
use = "{people}"
[recommender]
use = "environments.recommenders.{recommender}"
page_size = 4
max_pages = 3
"""
KNOWN = '''
import numpy as np
from agents.controls import RandomDecisions
from simulator.records import Slate


class Taste(RandomDecisions):
    """People choose 7 of 10 items whose number leaves the same rest by 2 as their own, and 1 of 10 others."""

    def _probabilities(self, situation):
        probabilities = super()._probabilities(situation)
        own = situation.page.items % 2 == situation.profile.user % 2
        chance = np.where(own, 0.7, 0.1)
        action = next(action for action in self._actions if action.name == "choose")
        probabilities["choose"] = np.column_stack([chance if value else 1.0 - chance for value in action.values])
        return probabilities


class Fitting:
    """Items that the person likes first."""

    other = 0

    def fit(self, interactions, catalog, rng):
        self.items = np.arange(len(catalog), dtype=np.int32)

    def save(self, folder):
        np.save(folder / "items.npy", self.items)

    def load(self, folder):
        self.items = np.load(folder / "items.npy")

    def recommend(self, user_ids, histories, n, rng):
        slates = []
        for user, history in zip(user_ids, histories):
            items = np.setdiff1d(self.items, history)
            items = items[np.argsort((items + user + self.other) % 2, kind="stable")]
            slates.append(Slate(items[:n], -np.arange(len(items[:n]), dtype=float)))
        return slates


class Opposite(Fitting):
    """The other items first."""

    other = 1
'''


def experiment(folder, data, recommender="random:Random", people=None, name="experiment"):
    (folder / "known.py").write_text(KNOWN, encoding="utf-8")
    file = folder / f"{name}.toml"
    text = EXPERIMENT.format(data=data, recommender=recommender, people=people or f"{folder / 'known.py'}:Taste")
    file.write_text(text, encoding="utf-8")
    return file


def compared(capsys, *arguments):
    assert call(["compare", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert call(["compare", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    """Runs draw figures at their end, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        yield


@pytest.fixture(scope="module")
def known(tmp_path_factory, film_files):
    """People whose taste is known, before random items, those that they like, and the others."""
    folder = tmp_path_factory.mktemp("known")
    file = experiment(folder, film_files)
    names = f"random,{folder / 'known.py'}:Fitting,{folder / 'known.py'}:Opposite"
    assert call(["compare", str(file), "--recommenders", names, "--output", str(folder / "out"), "--workers", "1"]) == 0
    return folder / "out"


def document_of(folder):
    return json.loads((folder / "comparison.json").read_text())


def row(document, arm, metric):
    return next(each for each in document["differences"] if each["arm"] == arm and each["metric"] == metric)


def test_the_recommender_that_shows_what_people_like_wins_and_its_opposite_loses(known):
    document = document_of(known)
    assert document["baseline"] == "Random"
    assert list(document["arms"]) == ["Random", "Fitting", "Opposite"]
    for arm, sign in (("Fitting", 1), ("Opposite", -1)):
        watched = row(document, arm, "watch_rate")
        assert sign * watched["value"] > 0.05
        assert (sign * watched["low"] > 0) == (sign * watched["high"] > 0) == True  # noqa: E712 - both sides of the interval
        assert watched["p_holm"] < 0.05
        verdict = next(each for each in document["verdicts"] if each["arm"] == arm)
        assert "watch_rate" in verdict["claims"]["use"]["better" if sign > 0 else "worse"]
        assert verdict["sentence"].startswith(
            f"{arm} against Random: {'more' if sign > 0 else 'less'} is watched (watch rate {'+' if sign > 0 else '-'}"
        )
        assert row(document, arm, "diversity")["high"] < 0


def test_the_numbers_are_those_of_the_runs(known):
    document = document_of(known)
    for arm in document["arms"]:
        run = FinishedRun(known / "arms" / arm)
        values = {each["metric"]: each["value"] for each in document["values"] if each["arm"] == arm}
        assert values["watch_rate"] == pytest.approx(run.impressions["chosen"].mean())
        assert values["rating"] == pytest.approx(run.impressions["rating"].mean())
        assert values["pages"] == pytest.approx(run.sessions["pages"].mean())
        assert values["satisfaction"] == pytest.approx(run.sessions["satisfaction"].mean())
        assert values["coverage"] == metrics.coverage(run.impressions, run.items)
        assert values["gini"] == pytest.approx(metrics.gini(metrics.item_counts(run.impressions, run.items)))
        of_round = [each for each in document["by_round"] if each["arm"] == arm and each["metric"] == "watch_rate"]
        assert [each["round"] for each in of_round] == [0, 1]
        second = run.impressions.filter(pl.col("round") == 1)
        assert of_round[1]["value"] == pytest.approx(second["chosen"].mean())
    shares = row(document, "Fitting", "watch_rate")
    base = next(each["value"] for each in document["values"] if each["arm"] == "Random" and each["metric"] == "watch_rate")
    assert shares["relative"] == pytest.approx(shares["value"] / base)


def test_everything_is_on_disk_and_every_arm_is_an_ordinary_run(known):
    for name in ("by-round", "differences", "power"):
        assert (known / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    html = (known / "report.html").read_text(encoding="utf-8")
    assert "less is watched" in html
    assert "http" not in html.replace("http-equiv", "")
    assert all((known / "arms" / arm / "summary.json").is_file() for arm in ("Random", "Fitting", "Opposite"))


def test_the_people_s_luck_is_the_same_in_every_arm(known):
    """One person in front of one item on one page chooses it in both arms or in neither, as long as the chance is the same."""
    keys = ["user", "session", "page", "item"]
    first, second = (pl.read_parquet(known / "arms" / arm / "impressions.parquet") for arm in ("Random", "Fitting"))
    both = first.filter(pl.col("round") == 0).join(second.filter(pl.col("round") == 0), on=keys)
    assert both.height > 20
    alike = both.filter((pl.col("chosen_probability") - pl.col("chosen_probability_right")).abs() < 1e-9)
    assert alike.height > 10
    assert (alike["chosen"] == alike["chosen_right"]).all()


def test_a_comparison_killed_again_and_again_ends_with_the_same_bytes(known, tmp_path, killed_at):
    plan = tmp_path / "killed"
    plan.mkdir()
    shutil.copy(known / "plan.json", plan / "plan.json")
    for point in (15, 9, 30):  # in the first arm, after it was continued, in the next one
        assert killed_at(point, "compare", str(plan), "--workers", "1") == -9
        assert not (plan / "comparison.json").exists()
    assert call(["compare", str(plan), "--workers", "1"]) == 0
    assert (plan / "comparison.json").read_bytes() == (known / "comparison.json").read_bytes()
    assert (plan / "report.html").read_bytes() == (known / "report.html").read_bytes()
    for name in ("by-round", "differences", "power"):
        assert (plan / "figures" / f"{name}.png").read_bytes() == (known / "figures" / f"{name}.png").read_bytes()
    assert not list(plan.rglob("*.part"))


def test_another_arm_can_be_added_and_the_others_are_found_again(known, tmp_path, capsys):
    again = tmp_path / "again"
    shutil.copytree(known, again)
    before = {file: file.stat().st_mtime_ns for file in (again / "arms").rglob("impressions.parquet")}
    plugin = known.parent / "known.py"
    names = f"{plugin}:Opposite,random,item_knn"
    arguments = ["--recommenders", names, "--output", again, "--workers", "1", "--baseline", "random"]
    document = compared(capsys, known.parent / "experiment.toml", *arguments)
    assert document["baseline"] == "Random"
    assert [verdict["arm"] for verdict in document["verdicts"]] == ["Opposite", "ItemKNN"]
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    found, then = (row(each, "Opposite", "watch_rate")["value"] for each in (document, document_of(known)))
    assert found == then


def test_finished_runs_are_compared_without_simulating(known, tmp_path, capsys):
    runs = [known / "arms" / arm for arm in ("Random", "Fitting")]
    document = compared(capsys, *runs, "--output", tmp_path / "out")
    assert document["values"] == [each for each in document_of(known)["values"] if each["arm"] in ("Random", "Fitting")]
    assert row(document, "Fitting", "rating")["value"] == row(document_of(known), "Fitting", "rating")["value"]
    assert not (tmp_path / "out" / "arms").exists()
    assert document["files"]["report"] == str(tmp_path / "out" / "report.html")


def test_two_files_are_two_arms_and_equal_ones_differ_in_nothing(tmp_path, film_files, capsys):
    files = [experiment(tmp_path, film_files, name=name) for name in ("one", "other")]
    document = compared(capsys, *files, "--output", tmp_path / "out", "--workers", "1", "--set", "rounds=1")
    assert all(each["value"] == 0 and each["p"] == 1 for each in document["differences"])
    assert document["verdicts"][0]["sentence"].startswith("other and one did the same to everybody")
    assert document["warnings"] == ["one and other have the same recommender."]


def test_more_seeds_pool_people_and_tell_the_spread(tmp_path, film_files, capsys):
    file = experiment(tmp_path, film_files)
    arguments = [file, "--recommenders", "popularity,random", "--output", tmp_path / "out", "--workers", "1", "--set", "rounds=1"]
    document = compared(capsys, *arguments, "--seeds", 2)
    assert document["seeds"] == [7, 8]
    assert document["arms"]["Random"]["runs"] == ["arms/Random", "arms/Random@8"]
    found = row(document, "Random", "coverage")
    assert found["value"] == pytest.approx(np.mean(found["by_seed"]))
    shown = [pl.read_parquet(tmp_path / "out" / "arms" / run / "impressions.parquet") for run in ("Random", "Random@8")]
    value = next(each["value"] for each in document["values"] if each["arm"] == "Random" and each["metric"] == "watch_rate")
    assert value == pytest.approx(pl.concat(shown)["chosen"].mean())


def test_what_the_data_does_not_have_is_said_and_the_rest_compared(tmp_path, film_files, capsys):
    data = tmp_path / "bare.csv"
    log = pl.read_csv(film_files / "u.data", separator="\t", has_header=False, new_columns=["user", "item", "rating", "time"])
    log.select("user", "item").write_csv(data)
    loader = 'use = "environments.datasets.tables:InteractionTables"\nname = "bare"\ninteractions = "bare.csv"'
    text = EXPERIMENT.format(data=tmp_path, recommender="random:Random", people="agents.controls:RandomDecisions")
    text = text.replace("[dataset]", f"[dataset]\n{loader}")
    (tmp_path / "bare.toml").write_text(text, encoding="utf-8")
    document = compared(
        capsys, tmp_path / "bare.toml", "--recommenders", "random,popularity", "--output", tmp_path / "out", "--workers", "1"
    )
    assert set(document["missing"]) == {"likes", "rating", "diversity"}
    assert "watch_rate" in {metric["key"] for metric in document["metrics"]}


def bare_experiment(folder, film_files, people, *, ratings=False):
    """The same people and items from a table of interactions alone."""
    log = pl.read_csv(film_files / "u.data", separator="\t", has_header=False, new_columns=["user", "item", "rating", "time"])
    log.select("user", "item", *(["rating"] if ratings else [])).write_csv(folder / "bare.csv")
    loader = 'use = "environments.datasets.tables:InteractionTables"\nname = "bare"\ninteractions = "bare.csv"'
    text = EXPERIMENT.format(data=folder, recommender="random:Random", people=people).replace("[dataset]", f"[dataset]\n{loader}")
    (folder / "bare.toml").write_text(text, encoding="utf-8")
    return folder / "bare.toml"


@pytest.mark.parametrize(
    ("people", "ratings", "silent"),
    [
        ("agents.controls:RandomDecisions", False, {"watch_rate", "satisfaction"}),
        ("agents.controls:RandomDecisions", True, {"watch_rate", "likes", "rating", "satisfaction"}),
    ],
)
def test_what_people_do_not_react_to_grounds_no_verdict(tmp_path, film_files, capsys, people, ratings, silent):
    file = bare_experiment(tmp_path, film_files, people, ratings=ratings)
    arguments = [
        "--recommenders",
        "popularity,random",
        "--output",
        tmp_path / "out",
        "--workers",
        "1",
        "--margin",
        "0.5",
        "--set",
        "rounds=1",
    ]
    document = compared(capsys, file, *arguments)
    told = {each["metric"]: each["no_verdict"] for each in document["differences"]}
    assert {key for key, reason in told.items() if reason} >= silent
    if not ratings:
        assert told["satisfaction"].endswith(("since the data has no ratings", "the same for everybody in both arms"))
    verdict = document["verdicts"][0]
    assert "no less" not in verdict["sentence"]
    assert not verdict["no_less"]
    assert "satisfaction" in verdict["sentence"]
    assert "nothing (" in verdict["sentence"]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Not measured, because" in html
    assert "Not drawn: " in html


def test_people_who_react_ground_verdicts(known):
    document = document_of(known)
    assert {each["metric"]: each["no_verdict"] for each in document["differences"] if each["arm"] == "Fitting"}["watch_rate"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiment.toml"], "one experiment file is nothing to compare"),
        (["experiment.toml", "--recommenders", "ease"], "name at least two, separated by commas"),
        (["experiment.toml", "--recommenders", "ease,poplarity"], "unknown recommender 'poplarity'; did you mean 'popularity'?"),
        (["experiment.toml", "--recommenders", "ease,EASE"], "EASE is named twice"),
        (["experiment.toml", "--recommenders", "ease,nowhere.py:Mine"], "there is no file 'nowhere.py'"),
        (["experiment.toml", "experiment.toml", "--recommenders", "ease,bpr"], "--recommenders goes with one experiment file"),
        (["experiment.toml", "--recommenders", "ease,bpr", "--baseline", "als"], "unknown arm for --baseline 'als'"),
        (["experiment.toml", "--recommenders", "ease,program"], "arm Program: [recommender] command is missing"),
        (["experiment.toml", "more-people.toml"], "have other people: population.users = 'all' and 5"),
        (["experiment.toml", "more-rounds.toml"], "have another number of rounds: rounds = 2 and 3"),
        (["experiment.toml", "other-seed.toml"], "draw with other seeds"),
        (["experiment.toml", "other-split.toml"], "are about other data: dataset.test_share = 0.2 and 0.3"),
        (["nothing.toml", "experiment.toml"], "there is no experiment file nothing.toml"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(arguments, said, tmp_path, film_files, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = experiment(tmp_path, film_files)
    text = file.read_text()
    (tmp_path / "more-people.toml").write_text(text.replace('users = "all"', "users = 5"))
    (tmp_path / "more-rounds.toml").write_text(text.replace("rounds = 2", "rounds = 3"))
    (tmp_path / "other-seed.toml").write_text("seed = 8\n" + text)
    (tmp_path / "other-split.toml").write_text(text.replace('split = "random"', 'split = "random"\ntest_share = 0.3'))
    assert said in refused(capsys, *arguments)
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def fewer(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("fewer")
    file = experiment(folder, film_files, "random:Random")
    found = {}
    for name, setting in (("users", "population.users=5"), ("rounds", "rounds=1"), ("split", "dataset.test_share=0.4")):
        found[name] = folder / name
        assert call(["run", str(file), "--set", setting, "--output", str(found[name]), "--workers", "1"]) == 0
    return found


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("users", "have other people: 24 and 5, of which 5 are in both"),
        ("rounds", "have another number of rounds: rounds = 2 and 1"),
        ("split", "learned from other training interactions of the same people and items"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused_with_what_is_missing(other, said, known, fewer, capsys):
    assert said in refused(capsys, known / "arms" / "Fitting", fewer[other])


def test_runs_with_other_seeds_or_items_are_refused(known, fewer, tmp_path, capsys):
    shutil.copytree(known / "arms" / "Random", tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("seed = 7", "seed = 8"))
    assert "seed was 7 when the run was started" in refused(capsys, known / "arms" / "Fitting", tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    run.write_json("manifest", {**run.read_json("manifest"), "settings": settings_of(run)})
    assert "draw with other seeds" in refused(capsys, known / "arms" / "Fitting", tmp_path / "run")
    items = pl.read_parquet(tmp_path / "run" / "items.parquet")
    items[:-3].write_parquet(tmp_path / "run" / "items.parquet")
    assert "items.parquet (37 rows) is not what was written" in refused(capsys, known / "arms" / "Fitting", tmp_path / "run")
    # Runs of an older version hold no hashes, by which that would be noticed.
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").write_text(json.dumps({key: value for key, value in summary.items() if key != "hashes_sha256"}))
    assert "have other items: 40 and 37, of which 37 are in both" in refused(capsys, known / "arms" / "Fitting", tmp_path / "run")


def test_misplaced_folders_and_options_are_refused(known, tmp_path, film_files, capsys):
    run, other = known / "arms" / "Fitting", known / "arms" / "Random"
    file = experiment(tmp_path, film_files)
    assert "compare runs with runs" in refused(capsys, run, file)
    assert "one run is nothing to compare" in refused(capsys, run)
    assert "a run is given twice" in refused(capsys, run, run)
    assert "finished runs are compared as they are; --seeds goes with experiment files" in refused(capsys, run, other, "--seeds", "2")
    assert "goes on as it was begun; leave out --seed" in refused(capsys, known, "--seed", "3")
    assert "is a run, whose report would be lost" in refused(capsys, run, other, "--output", run)
    assert "already holds something that is no comparison" in refused(capsys, file, "--recommenders", "ease,random", "--output", tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{")
    assert "is no plan of a comparison" in refused(capsys, tmp_path / "broken")
    assert "is not a run" in refused(capsys, tmp_path, run)


def test_people_who_decide_otherwise_are_compared_with_a_warning(known, tmp_path, film_files, capsys):
    file = experiment(tmp_path, film_files, "random:Random", people="agents.controls:RandomDecisions")
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0
    capsys.readouterr()
    document = compared(capsys, known / "arms" / "Fitting", tmp_path / "run", "--output", tmp_path / "out")
    assert "Fitting and Random differ not only in the recommender" in document["warnings"][0]
    assert "decision.use" in document["warnings"][0]


@pytest.mark.parametrize("name", ["item_knn", "ItemKNN", "itemknn", "item-knn"])
def test_a_recommender_is_found_by_the_name_of_its_module_or_class(name):
    assert import_path(name) == "environments.recommenders.item_knn:ItemKNN"
    assert import_path("a.b:C") == "a.b:C"


def test_every_recommender_that_comes_with_usersim_is_named_and_helpers_are_not():
    assert {"ease", "bpr", "random", "popularity", "sasrec", "lightgcn"} <= set(shipped())
    assert not {"arrays", "factors", "training", "review_texts", "ranking"} & set(shipped())
    assert all(callable(load(path, methods=("fit", "recommend", "save", "load"))) for path in shipped().values())
    with pytest.raises(ConfigError, match="did you mean 'lightgcn'"):
        import_path("lightgcm")
