"""The four promises of a run, kept by whole runs through the command line."""

import json

import polars as pl
import pytest

from experiments import config as configuration
from experiments.cli import call
from simulator.llm.models import DEFAULT, is_present

EXPERIMENT = """
name = "promises"
rounds = 2
cohort_size = 4
[dataset]
path = "{data}"
[population]
users = 14
synthetic = 2
[memory]
reflect_after = 0
[language_model]
use = "{model}"
{options}
[recommender]
use = "environments.recommenders.{recommender}"
page_size = 4
max_pages = 3
exploration = "{exploration}"
"""


def experiment(
    folder, data, *, model="simulator.llm.scripted:ScriptedLanguageModel", options="", recommender="ease:EASE", exploration="epsilon"
):
    file = folder / "promises.toml"
    file.write_text(
        EXPERIMENT.format(data=data, model=model, options=options, recommender=recommender, exploration=exploration), encoding="utf-8"
    )
    return file


def run(file, output, *extra):
    assert call(["run", str(file), "--output", str(output), *extra]) == 0
    return hashes(output)


def hashes(output):
    return json.loads((output / "summary.json").read_text())["sha256"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("finished")
    file = experiment(folder, film_files)
    run(file, folder / "run", "--workers", "1")
    return folder / "run"


def test_the_same_log_comes_out_again_and_with_two_workers(finished, tmp_path, film_files):
    file = experiment(tmp_path, film_files)
    assert run(file, tmp_path / "again", "--workers", "1") == hashes(finished)
    assert run(file, tmp_path / "two", "--workers", "2") == hashes(finished)


def test_another_seed_gives_another_log(finished, tmp_path, film_files):
    other = run(experiment(tmp_path, film_files), tmp_path / "run", "--workers", "1", "--seed", "8")
    assert all(other[name] != value for name, value in hashes(finished).items())


def test_the_joined_files_hold_what_their_hashes_say(finished):
    from simulator.run_directory import rows_sha256

    for name, digest in hashes(finished).items():
        assert rows_sha256(pl.read_parquet(finished / f"{name}.parquet")) == digest


def killed_and_resumed(file, output, points, workers, killed_at):
    """Starts a run again and again, each start dying at a counted write, then resumes it to the end."""
    for point in points:
        start = ["resume", str(output)] if (output / "config.toml").is_file() else ["run", str(file), "--output", str(output)]
        # a worker that dies at its own write ends the run with a sentence
        assert killed_at(point, *start, "--workers", workers) in ((-9,) if workers == "1" else (-9, 1))
        assert not (output / "summary.json").exists()
    assert call(["resume", str(output), "--workers", workers]) == 0


@pytest.mark.parametrize(("workers", "points"), [("1", (3, 9, 14, 3, 5)), ("2", (14, 3, 3))])
def test_a_run_killed_again_and_again_ends_with_the_same_log(finished, tmp_path, film_files, workers, points, killed_at):
    killed_and_resumed(experiment(tmp_path, film_files), tmp_path / "run", points, workers, killed_at)
    assert hashes(tmp_path / "run") == hashes(finished)
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_lost_shard_is_simulated_again_to_the_same_bytes(finished, tmp_path, film_files):
    import shutil

    file = experiment(tmp_path, film_files)
    run(file, tmp_path / "run", "--workers", "1")
    shutil.rmtree(tmp_path / "run" / "rounds" / "001" / "cohort-0002")
    (tmp_path / "run" / "summary.json").unlink()
    assert call(["resume", str(tmp_path / "run"), "--workers", "1"]) == 0
    assert hashes(tmp_path / "run") == hashes(finished)


def test_a_run_is_not_continued_with_other_data(finished, tmp_path, film_files, capsys):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(film_files, data)
    file = experiment(tmp_path, data)
    run(file, tmp_path / "run", "--workers", "1")
    (tmp_path / "run" / "summary.json").unlink()
    log = (data / "u.data").read_text(encoding="latin-1").splitlines()
    (data / "u.data").write_text("\n".join(log[:-1]) + "\n", encoding="latin-1")
    assert call(["resume", str(tmp_path / "run"), "--workers", "1"]) == 2
    assert "was started with another data" in capsys.readouterr().err


def test_every_impression_is_logged_with_policy_score_position_and_propensity(finished):
    log = pl.read_parquet(finished / "impressions.parquet")
    assert log.select(pl.col("policy", "score", "position", "propensity", "time").null_count()).sum_horizontal().item() == 0
    assert log["propensity"].is_between(0, 1, closed="right").all()
    assert log["propensity"].min() < 1
    places = log.group_by("round", "user", "session", "page", maintain_order=True).agg("position")["position"].to_list()
    assert all(page == list(range(1, len(page) + 1)) for page in places)


def test_what_was_seen_in_training_or_in_the_session_is_not_shown_again(finished):
    log = pl.read_parquet(finished / "impressions.parquet")
    assert log.group_by("user", "session").agg(pl.col("item").is_duplicated().any())["item"].any() is False
    real = pl.read_parquet(finished / "real.parquet")
    assert log.join(real, on=["user", "item"], how="inner").height == 0


def test_a_rating_is_there_exactly_where_something_was_chosen(finished):
    log = pl.read_parquet(finished / "impressions.parquet")
    assert (log["rating"].is_not_null() == log["chosen"]).all()
    assert log["rating"].drop_nulls().is_in([1.0, 2.0, 3.0, 4.0, 5.0]).all()


def test_the_tables_agree_with_each_other_and_with_the_summary(finished):
    summary = json.loads((finished / "summary.json").read_text())
    log, pages, sessions = (pl.read_parquet(finished / f"{name}.parquet") for name in ("impressions", "pages", "sessions"))
    assert summary["impressions"] == log.height == pages["shown"].sum() == sessions["impressions"].sum()
    assert summary["interactions"] == log["chosen"].sum() == pages["chosen_count"].sum() == sessions["interactions"].sum()
    assert summary["pages"] == pages.height == sessions["pages"].sum()
    assert summary["sessions"] == sessions.height
    assert summary["ratings"] == log["rating"].count()
    assert summary["people"] == 16
    assert log.filter("synthetic")["user"].str.starts_with("synthetic-").all()


def test_times_run_forward_and_rounds_do_not_overlap(finished):
    sessions = pl.read_parquet(finished / "sessions.parquet")
    pages = pl.read_parquet(finished / "pages.parquet")
    assert (sessions["end"] > sessions["start"]).all()
    assert sessions.filter(pl.col("round") == 0)["start"].max() < sessions.filter(pl.col("round") == 1)["start"].min()
    steps = pages.sort("user", "time").select((pl.col("time").diff() > 0).over("user").alias("forward"))["forward"].drop_nulls()
    assert steps.all()


def test_insights_rest_on_records_of_the_same_person(finished):
    memories = pl.read_parquet(finished / "memories.parquet")
    insights = memories.filter(pl.col("kind") == "insight")
    assert insights.height == pl.read_parquet(finished / "sessions.parquet").height
    known = {(user, record) for user, record in memories.select("user", "record").iter_rows()}
    for user, record, references in insights.select("user", "record", "references").iter_rows():
        assert references
        assert all((user, reference) in known and reference < record for reference in references)


def test_unusable_replies_are_logged_counted_and_bounded(tmp_path, film_files, capsys):
    file = experiment(tmp_path, film_files, options="unusable_share = 0.2", exploration="none")
    assert call(["run", str(file), "--output", str(tmp_path / "strict"), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert "decision.max_fallback_share = 0.02" in error
    assert "unreadable: as the script wants it" in error
    assert not (tmp_path / "strict" / "summary.json").exists()

    run(file, tmp_path / "lenient", "--workers", "1", "--set", "decision.max_fallback_share=0.9")
    pages = pl.read_parquet(tmp_path / "lenient" / "pages.parquet")
    bad = pages.filter(pl.col("status") != "ok")
    summary = json.loads((tmp_path / "lenient" / "summary.json").read_text())
    share = summary["fallback_share"]
    sessions = pl.read_parquet(tmp_path / "lenient" / "sessions.parquet")
    # Satisfaction follows from what happened, so that nobody is asked about a session.
    assert summary["session_failures"] == {}
    assert set(sessions["status"]) == {"ok"}
    assert share == pytest.approx(bad.height / pages.height)
    assert 0.05 < share < 0.4
    assert set(bad["reply"]) == {"as the script wants it"}
    assert bad["chosen_count"].sum() == 0


def test_changing_held_out_rows_changes_nothing_of_a_run(finished, tmp_path, film_files, film_world):
    import shutil

    from environments.datasets.splits import SplitConfig, split
    from simulator.seeds import Stream

    data = tmp_path / "data"
    shutil.copytree(film_files, data)
    held_out = split(film_world, SplitConfig(), Stream(7).child("split")).test
    ids = film_world.catalog.item_ids
    held = {(str(user), str(ids[item])) for user, item in held_out.select("user", "item").iter_rows()}
    lines, changed = [], 0
    for line in (data / "u.data").read_text(encoding="latin-1").splitlines():
        user, item, rating, when = line.split("\t")
        if (user, item) in held:
            rating, changed = str(6 - int(rating)), changed + 1
        lines.append("\t".join((user, item, rating, when)))
    assert changed == held_out.height
    (data / "u.data").write_text("\n".join(lines) + "\n", encoding="latin-1")
    assert run(experiment(tmp_path, data), tmp_path / "run", "--workers", "1") == hashes(finished)


def test_a_replayed_run_does_the_same_again(finished, tmp_path, film_files):
    file = experiment(tmp_path, film_files)
    overrides = ["--set", "decision.use=agents.controls:ReplayedDecisions", "--set", f"decision.run={finished}"]
    replayed = run(file, tmp_path / "run", "--workers", "1", *overrides)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["fallback_share"] == 0
    old, new = (pl.read_parquet(folder / "impressions.parquet") for folder in (finished, tmp_path / "run"))
    columns = ["user", "session", "page", "position", "item", "chosen", "rating"]
    assert new.select(columns).equals(old.select(columns))
    assert replayed["texts"] != hashes(finished)["texts"]


@pytest.mark.parametrize("control", ["RandomDecisions", "PopularityDecisions", "EvidenceDecisions"])
def test_every_control_runs_without_a_language_model(control, tmp_path, film_files):
    file = experiment(tmp_path, film_files, recommender="popularity:Popularity", exploration="plackett-luce")
    overrides = ["--set", f"decision.use=agents.controls:{control}", "--set", "language_model=false", "--set", "decision.choose_rate=0.4"]
    run(file, tmp_path / "run", "--workers", "1", *overrides)
    log = pl.read_parquet(tmp_path / "run" / "impressions.parquet")
    assert 0.1 < log["chosen"].mean() < 0.8
    assert log["chosen_probability"].is_between(0, 1).all()


@pytest.mark.parametrize("recommender", ["random:Random", "popularity:Popularity", "item_knn:ItemKNN", "ease:EASE", "bpr:BPR"])
def test_every_recommender_runs_by_changing_one_line(recommender, tmp_path, film_files):
    file = experiment(tmp_path, film_files, recommender=recommender, exploration="none")
    run(file, tmp_path / "run", "--workers", "1")
    log = pl.read_parquet(tmp_path / "run" / "impressions.parquet")
    assert log["policy"].n_unique() == 1
    assert log["policy"][0].startswith(recommender.partition(":")[2])


def test_people_come_by_their_own_rhythm(tmp_path, film_files):
    run(
        experiment(tmp_path, film_files),
        tmp_path / "run",
        "--workers",
        "1",
        *("--set", "population.sessions=rhythm", "--set", "round_days=30"),
    )
    sessions = pl.read_parquet(tmp_path / "run" / "sessions.parquet")
    counts = sessions.group_by("user").len()["len"]
    assert counts.max() > 2
    assert counts.n_unique() > 1


def test_people_live_their_time_in_the_data_again_with_the_same_log_in_one_round_and_in_several(tmp_path, film_files):
    people = ("population.sessions=relived", "decision.use=agents.controls:RandomDecisions", "decision.stay=visits")
    settings = (*people, "language_model=false", "recommender.max_pages=200", "recommender.refit=never")
    file = experiment(tmp_path, film_files, recommender="random:Random", exploration="none")
    again = [part for setting in settings for part in ("--set", setting)]
    run(file, tmp_path / "one", "--workers", "1", *again, "--set", "rounds=1", "--set", "round_days=400")
    real, log = (pl.read_parquet(tmp_path / "one" / f"{name}.parquet") for name in ("real", "sessions"))
    first = log.group_by("user").agg(pl.col("start").min()).join(real.group_by("user").agg(pl.col("timestamp").min()), on="user")
    assert (first["start"] == first["timestamp"]).all()
    run(file, tmp_path / "four", "--workers", "1", *again, "--set", "rounds=4", "--set", "round_days=100")
    columns = ["user", "session", "start", "end", "interactions"]
    one, four = (pl.read_parquet(tmp_path / name / "sessions.parquet").select(columns).sort(columns) for name in ("one", "four"))
    assert one.equals(four)


def test_people_who_have_their_history_ahead_of_them_may_choose_it_once_more(tmp_path, film_files):
    file = experiment(tmp_path, film_files, recommender="random:Random", exploration="none")
    fast = ("--workers", "1", "--set", "decision.use=agents.controls:RandomDecisions", "--set", "language_model=false")
    shown = {}
    for history in ("behind", "ahead"):
        run(file, tmp_path / history, *fast, "--set", "rounds=3", "--set", f"population.history={history}")
        impressions, real = (pl.read_parquet(tmp_path / history / f"{name}.parquet") for name in ("impressions", "real"))
        met = real.select("user", "item").unique()
        shown[history] = impressions.join(met, on=["user", "item"], how="semi").height
        chosen = impressions.filter("chosen").select("user", "item")
        assert chosen.height
        assert chosen.is_unique().all()
    assert shown["behind"] == 0
    assert shown["ahead"] > 0


def test_a_run_keeps_no_settings_of_tuning_and_reads_one_that_has_other_ones(tmp_path, film_files):
    run(experiment(tmp_path, film_files), tmp_path / "run", "--workers", "1")
    file = tmp_path / "run" / "config.toml"
    assert "tuning" not in file.read_text()
    file.write_text(file.read_text() + "\n[tuning]\nan_option_of_long_ago = 3\n")
    assert configuration.of_run(file).tuning == configuration.TuningSection()


@pytest.mark.model
@pytest.mark.skipif(not is_present(DEFAULT), reason="the default model is not in the cache (usersim models get)")
def test_the_real_model_gives_the_same_log_with_two_workers_and_after_kills(tmp_path, film_files, killed_at):
    file = experiment(tmp_path, film_files, model="simulator.llm.llama_cpp:LlamaCpp", options="sequences = 6")
    one = run(file, tmp_path / "one", "--workers", "1")
    assert run(file, tmp_path / "two", "--workers", "2") == one
    killed_and_resumed(file, tmp_path / "killed", (14, 3, 3), "2", killed_at)
    assert hashes(tmp_path / "killed") == one
