"""A run continues as what it was: nothing is lost, invented or mixed, whatever happens between two starts."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from environments.datasets.splits import SplitConfig, split
from experiments import build
from experiments import config as configuration
from experiments.cli import call
from experiments.run import resume, start
from experiments.same_settings import take_over
from experiments.stored_settings import settings_of
from simulator.errors import FallbackError, RunError
from simulator.files import remove
from simulator.run_directory import RunDirectory
from simulator.run_lock import LOCK, locked
from simulator.seeds import Stream

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
name = "continued"
rounds = 2
cohort_size = 6
[dataset]
path = {data}
[population]
users = 18
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 4
max_pages = 3
"""


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    """Runs draw figures at their end, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        yield


def experiment(folder, data, *more):
    file = folder / "continued.toml"
    file.write_text(EXPERIMENT.format(data=json.dumps(str(data))) + "\n".join(more), encoding="utf-8")
    return file


def run(file, output, *more):
    return call(["run", str(file), "--output", str(output), "--workers", "1", *more])


def again(output, *more):
    return call(["resume", str(output), "--workers", "1", *more])


def summary(output):
    return json.loads((output / "summary.json").read_text())


def manifest(output):
    return json.loads((output / "manifest.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("continued")
    assert run(experiment(folder, film_files), folder / "run") == 0
    return folder / "run"


@pytest.fixture
def half(finished, tmp_path):
    """The same run, as it was when it was killed in its second round."""
    shutil.copytree(finished, tmp_path / "half")
    for name in ("summary.json", "hashes.json"):
        (tmp_path / "half" / name).unlink()
    shutil.rmtree(tmp_path / "half" / "rounds" / "001" / "cohort-0001")
    return tmp_path / "half"


# --- unusable replies ---


def test_a_run_over_the_limit_of_unusable_replies_is_never_completed_by_resuming(tmp_path, film_files, capsys):
    file = experiment(tmp_path, film_files)
    assert run(file, tmp_path / "run", "--set", "language_model.unusable_share=0.3") == 1
    shards = list((tmp_path / "run" / "rounds").rglob("result.json"))
    for _ in range(4):
        assert again(tmp_path / "run") == 1
    assert list((tmp_path / "run" / "rounds").rglob("result.json")) == shards
    assert not (tmp_path / "run" / "summary.json").exists()
    said = capsys.readouterr().err
    way = said.rpartition("usersim resume ")[2].partition("`")[0].replace("\n", " ").split()
    assert again(Path(way[0]), *way[1:]) == 0
    assert way[1] == "--set"
    share = float(way[2].partition("=")[2])
    assert summary(tmp_path / "run")["fallback_share"] <= share
    changed = manifest(tmp_path / "run")["changed"][0]
    assert changed["settings"] == [way[2]]
    assert changed["values"]["decision.max_fallback_share"] == [0.02, share]


@pytest.mark.parametrize("users", [1, 4])
def test_a_small_run_has_the_same_limit_as_a_large_one(users, tmp_path, film_files, capsys):
    few = ("--set", f"population.users={users}", "--set", "rounds=1", "--set", "language_model.unusable_share=0.95")
    assert run(experiment(tmp_path, film_files), tmp_path / "run", *few) == 1
    assert "more than decision.max_fallback_share = 0.02" in capsys.readouterr().err
    assert again(tmp_path / "run") == 1
    assert not (tmp_path / "run" / "summary.json").exists()


def test_the_limit_counts_shards_that_were_read_back_as_those_of_now(finished, tmp_path, film_files):
    file = experiment(tmp_path, film_files)
    shared = ("--set", "language_model.unusable_share=0.2", "--set", "decision.max_fallback_share=1.0")
    assert run(file, tmp_path / "run", *shared) == 0
    for name in ("summary.json", "hashes.json"):
        (tmp_path / "run" / name).unlink()
    with pytest.raises(FallbackError, match=r"of \d+ pages had a reply that could not be used"):
        resume(tmp_path / "run", 1, lambda *_: None, ["decision.max_fallback_share=0.05"])


# --- settings ---


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("cohort_size = 6", "cohort_size = 9", "cohort_size"),
        ("seed = 7", "seed = 8", "seed"),
        ("rounds = 2", "rounds = 3", "rounds"),
        ("users = 18", "users = 12", "population.users"),
        ("page_size = 4", "page_size = 5", "recommender.page_size"),
        ('exploration = "none"', 'exploration = "epsilon"', "recommender.exploration"),
        ("round_days = 7.0", "round_days = 9.0", "round_days"),
        ('name = "continued"', 'name = "other"', "name"),
        ("unusable_share = 0.0", "unusable_share = 0.01", "language_model.unusable_share"),
    ],
)
def test_an_edited_configuration_is_refused_by_the_name_of_its_key(before, after, key, half, capsys):
    text = (half / "config.toml").read_text()
    assert before in text
    (half / "config.toml").write_text(text.replace(before, after))
    assert again(half) == 2
    assert f"config.toml: {key} was {before.partition(' = ')[2]}".replace('"', "'") in capsys.readouterr().err.replace("\n", " ")
    (half / "config.toml").write_text(text)
    assert again(half) == 0


def test_a_setting_that_may_be_changed_can_be_changed_in_the_file_and_is_recorded(half, finished):
    text = (half / "config.toml").read_text()
    (half / "config.toml").write_text(text.replace("max_fallback_share = 0.02", "max_fallback_share = 0.5"))
    assert again(half) == 0
    (change,) = manifest(half)["changed"]
    assert change["values"] == {"decision.max_fallback_share": [0.02, 0.5]}
    assert summary(half)["sha256"] == summary(finished)["sha256"]
    (half / "config.toml").write_text(text)
    assert again(half) == 2  # it is complete


def test_a_setting_that_is_new_or_gone_in_an_edited_configuration_is_named_too(half, capsys):
    text = (half / "config.toml").read_text()
    for changed, key in ((text.replace("cohort_size = 6\n", ""), "cohort_size"), (text + "\n[interventions.x]\n", "interventions.x")):
        (half / "config.toml").write_text(changed)
        assert again(half) == 2
        assert f"{key} was " in capsys.readouterr().err


def test_comments_and_the_order_of_keys_are_no_change(half, finished):
    text = (half / "config.toml").read_text()
    (half / "config.toml").write_text("# mine\n" + text)
    assert again(half) == 0
    assert summary(half)["sha256"] == summary(finished)["sha256"]


def test_an_edit_is_not_taken_in_along_with_a_setting_that_may_be_changed(half, capsys):
    text = (half / "config.toml").read_text()
    (half / "config.toml").write_text(text.replace("seed = 7", "seed = 8"))
    assert again(half, "--set", "decision.max_fallback_share=0.5") == 2
    assert "seed was 7" in capsys.readouterr().err


# --- code, packages, machine ---


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("code", "run"), "0" * 64),
        (("code", "recommender"), "0" * 64),
        (("git_revision",), "0" * 40),
        (("packages", "numpy"), "1.0.0"),
        (("packages", "polars"), "1.0.0"),
        (("packages", "llama-cpp-python"), "0.0.1"),
        (("machine", "blas"), "openblas Prescott"),
        (("machine", "processor"), "Another CPU"),
    ],
)
def test_other_code_packages_or_processor_are_refused_or_accepted_and_recorded(path, value, half, finished, capsys):
    stored = manifest(half)
    place = stored
    for step in path[:-1]:
        place = place[step]
    now, place[path[-1]] = place[path[-1]], value
    (half / "manifest.json").write_text(json.dumps(stored))
    assert again(half) == 2
    error = capsys.readouterr().err
    assert ".".join(path) in error
    assert "--accept-changes" in error
    assert again(half, "--accept-changes") == 0
    (change,) = manifest(half)["changed"]
    assert change["accepted"] == {".".join(path): [value, now]}
    assert change["time"].startswith("20")
    assert summary(half)["sha256"] == summary(finished)["sha256"]


def test_other_data_is_refused_with_and_without_accepting_changes(half):
    stored = manifest(half)
    stored["data"]["fingerprint"] = "0" * 64
    (half / "manifest.json").write_text(json.dumps(stored))
    for more in ((), ("--accept-changes",)):
        assert again(half, *more) == 2


def test_a_replay_does_not_go_on_with_another_log(finished, tmp_path, film_files, capsys):
    """What people are made from is read again by a run that is continued; what was found out about it since does not count."""
    source, replayed = tmp_path / "source", tmp_path / "replayed"
    shutil.copytree(finished, source)
    more = ["--set", "decision.use=agents.controls:ReplayedDecisions", "--set", f"decision.run={source}", "--set", "language_model=false"]
    assert run(experiment(tmp_path, film_files), replayed, *more) == 0
    whole = summary(replayed)["sha256"]
    (replayed / "summary.json").unlink()
    (source / "fidelity").mkdir()
    (source / "fidelity" / "fidelity.json").write_text("{}")
    assert again(replayed) == 0
    assert summary(replayed)["sha256"] == whole
    for name in ("summary.json", "rounds/001"):
        remove(replayed / name)
    directory = RunDirectory(source)
    directory.write_json("summary", {**summary(source), "sha256": {"impressions": "another"}})
    assert again(replayed) == 2
    assert "files.decision.run was" in capsys.readouterr().err
    assert again(replayed, "--accept-changes") == 0
    assert "files.decision.run" in RunDirectory(replayed).read_json("manifest")["changed"][0]["accepted"]


def test_a_run_does_not_go_on_with_another_scale_of_ratings(tmp_path, capsys):
    """The scale is that of all ratings, of those that are held out too, which are in no training part."""
    rows = [(user, item, 1 + (user + item) % 5, 10_000_000 + 1_000 * item) for user in range(12) for item in range(user % 3, 20, 2)]
    data = tmp_path / "r.csv"
    text = "user_id,item_id,rating,timestamp\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    data.write_text(text)
    file = tmp_path / "scale.toml"
    file.write_text(
        f'name = "scale"\nrounds = 2\nlanguage_model = false\n[dataset]\nuse = "environments.datasets.tables:InteractionTables"\n'
        f'interactions = "{data}"\n[population]\nusers = 6\n[decision]\nuse = "agents.controls:EvidenceDecisions"\n'
        '[recommender]\nuse = "environments.recommenders.popularity:Popularity"\npage_size = 3\nmax_pages = 1\n'
    )
    assert run(file, tmp_path / "run") == 0
    for name in ("summary.json", "rounds/001"):
        remove(tmp_path / "run" / name)
    user, item, _, when = rows[-1]
    data.write_text(text.replace(f"{user},{item},{rows[-1][2]},{when}\n", f"{user},{item},6,{when}\n"))
    assert again(tmp_path / "run") == 2
    assert "rating_scale was" in capsys.readouterr().err
    data.write_text(text)
    assert again(tmp_path / "run") == 0


def test_a_plug_in_of_a_run_that_was_edited_is_another_code(tmp_path, film_files, killed_at):
    plugin = tmp_path / "own.py"
    plugin.write_text("from environments.recommenders.popularity import Popularity\nclass Own(Popularity): pass\n")
    assert run(experiment(tmp_path, film_files), tmp_path / "run", "--set", f"recommender.use={plugin}:Own") == 0
    (tmp_path / "run" / "summary.json").unlink()
    plugin.write_text(plugin.read_text() + "# edited\n")
    assert killed_at(0, "resume", str(tmp_path / "run"), "--workers", "1", "--trust") == 2
    assert "code.recommender was" in (tmp_path / "run" / "run.log").read_text()


# --- everybody once a round ---


def older(run):
    """The run as one of a version whose folders did not say where they belong."""
    stored = json.loads((run / "manifest.json").read_text())
    del stored["identity"]
    del stored["checksum"]
    (run / "manifest.json").write_text(json.dumps(stored))


def test_a_person_who_is_missing_in_a_shard_is_named_with_it(half, capsys):
    older(half)
    folder = half / "rounds" / "000" / "cohort-0002"
    stored = json.loads((folder / "result.json").read_text())
    lost = stored["people"].pop()
    (folder / "result.json").write_text(json.dumps(stored))
    for file in folder.glob("*.parquet"):
        pl.read_parquet(file).filter(pl.col("user") != lost).write_parquet(file)
    (folder / "SHA256SUMS").unlink()  # with it, the cohort would be simulated again
    assert again(half) == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert f"person '{lost}' is missing in" in error
    assert "cohort-0002" in error


def test_a_shard_that_stands_twice_is_named_with_the_people_who_would_be_doubled(half, capsys):
    older(half)
    shutil.rmtree(half / "rounds" / "000" / "cohort-0002")
    shutil.copytree(half / "rounds" / "000" / "cohort-0001", half / "rounds" / "000" / "cohort-0002")
    assert again(half) == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert "is twice in round 0" in error
    assert "cohort-0001 and in" in error
    shutil.rmtree(half / "rounds" / "000" / "cohort-0002")
    assert again(half) == 0


# --- one at a time ---


HOLD = """
import pathlib, sys
from simulator.run_lock import locked
with locked(pathlib.Path(sys.argv[1]), "usersim resume"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_writes_into_is_refused_with_its_name(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    held = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline() == "held\n"
        before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
        for name, more in {
            "resume": (),
            "plot": (),
            "export": ("--format", "csv"),
            "fidelity": ("--parts", "choose"),
            "evaluate": ("--policy", policy(tmp_path)),
        }.items():
            assert call([name, str(tmp_path / "run"), *more]) == 2
            error = capsys.readouterr().err
            assert f"is being written by process {held.pid} on " in error
            assert "since 20" in error
            assert "(usersim resume)" in error
        assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before
        assert call(["verify", str(tmp_path / "run")]) == 0
        held.kill()
    finally:
        held.communicate()
    assert (tmp_path / "run" / LOCK).is_file()
    assert again(tmp_path / "run") == 0
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_lock_of_a_run_is_free_again_after_an_error(tmp_path):
    def fail():
        with locked(tmp_path, "usersim run"):
            with pytest.raises(RunError, match=f"process {os.getpid()}"), locked(tmp_path, "usersim run"):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with locked(tmp_path, "usersim run"):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


# --- a start that is refused ---


def test_a_worker_that_dies_in_the_first_cohort_loses_nothing_that_was_made_before(tmp_path, film_files):
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os, multiprocessing\nfrom environments.recommenders.popularity import Popularity\nclass Deadly(Popularity):\n"
        "    def recommend(self, *rest, **more):\n        os._exit(9) if multiprocessing.parent_process() else None\n"
        "        return super().recommend(*rest, **more)\n"
    )
    file, output = experiment(tmp_path, film_files), tmp_path / "run"
    assert call(["run", str(file), "--output", str(output), "--workers", "2", "--set", f"recommender.use={plugin}:Deadly"]) == 1
    assert (output / "decisions").is_dir()
    assert again(output, "--trust") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ("population.users=500",),
        ("dataset.path=nowhere",),
        ("recommender.use=environments.recommenders.narre:NARRE",),
        ("decision.use=agents.controls:ReplayedDecisions", "decision.run=nowhere"),
    ],
)
def test_a_start_that_is_refused_leaves_nothing_so_that_the_mended_command_works(wrong, tmp_path, film_files):
    file = experiment(tmp_path, film_files)
    given = [part for setting in wrong for part in ("--set", setting)]
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "deep" / "run", tmp_path / "empty"):
        assert run(file, output, *given) == 2
    assert not (tmp_path / "deep").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    assert run(file, tmp_path / "empty", "--set", "rounds=1") == 0


def test_a_folder_that_holds_something_else_keeps_it_when_a_start_is_refused(tmp_path, film_files):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert run(experiment(tmp_path, film_files), tmp_path / "out") == 2
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["mine.txt"]


# --- messages ---


def test_a_run_keeps_its_messages_with_times_and_appends_on_resuming(half):
    assert again(half) == 0
    lines = (half / "run.log").read_text().splitlines()
    assert all(line.startswith(("20", "    ")) for line in lines)
    told = "\n".join(lines)
    assert "usersim run: process" in told
    assert "usersim resume: process" in told
    assert told.index("usersim run: done") < told.index("usersim resume: process")
    assert "round 2: people browse: cohort 1" in told
    assert lines[-1].endswith("info usersim resume: done")


def test_an_error_of_a_run_stands_in_its_log(half):
    text = (half / "config.toml").read_text()
    (half / "config.toml").write_text(text.replace("seed = 7", "seed = 8"))
    assert again(half) == 2
    assert "error " in (half / "run.log").read_text().splitlines()[-1]
    assert "seed was 7" in (half / "run.log").read_text()


def test_the_log_of_a_run_holds_warnings_and_no_secrets(tmp_path):
    import logging
    import warnings

    from simulator.run_log import logged

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with logged(tmp_path):
            warnings.warn("a column is nearly constant", UserWarning, stacklevel=1)
            logging.getLogger("simulator.llm").warning("http://joe:hunter2@host/v1 answered 401; Authorization: Bearer abcdef123456")
            logging.getLogger("experiments.x").info("the key sk-abcdefghijkl and that is all")
        logging.getLogger("simulator.llm").info("after the end")
    told = (tmp_path / "run.log").read_text()
    assert "UserWarning: a column is nearly constant" in told
    assert [str(one.message) for one in shown] == ["a column is nearly constant"]
    assert "http://***@host/v1 answered 401" in told
    assert not any(secret in told for secret in ("hunter2", "abcdef123456", "abcdefghijkl"))
    assert "after the end" not in told


# --- scripts ---


@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_script_without_a_guard_is_told_to_write_one(from_stdin, tmp_path, film_files):
    file = experiment(tmp_path, film_files)
    script = textwrap.dedent(f"""
        from pathlib import Path
        from experiments import config, run
        from simulator.errors import RunError
        try:
            run.start(config.read(Path({str(file)!r})), None, 2, lambda *_: None)
        except RunError as error:
            print(error)
    """)
    (tmp_path / "script.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "-" if from_stdin else "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=script if from_stdin else "",
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'if __name__ == "__main__":' in ended.stdout
    assert ended.stdout.count("__main__") == 1
    assert "Traceback" not in ended.stderr.replace("FileNotFoundError", "")


def test_start_and_resume_are_the_same_as_the_commands(tmp_path, film_files, finished):
    config = configuration.read(experiment(tmp_path, film_files))
    made = start(config, tmp_path / "run", 1, lambda *_: None)
    assert summary(made.path)["sha256"] == summary(finished)["sha256"]


# --- from another folder ---


@pytest.fixture
def elsewhere(tmp_path, film_files, monkeypatch):
    """A run that was started with a relative path in the folder `here`; and we are now in `there`, which has other data of that name."""
    for name in ("here", "there"):
        shutil.copytree(film_files, tmp_path / name / "films")
    log = tmp_path / "there" / "films" / "u.data"
    lines = log.read_text(encoding="latin-1").splitlines()
    log.write_text("\n".join(line.replace("\t5\t", "\t1\t") for line in lines) + "\n", encoding="latin-1")
    file = experiment(tmp_path, "films", "[decision]", 'use = "agents.controls:EvidenceDecisions"')
    monkeypatch.chdir(tmp_path / "here")
    assert run(file, "run", "--set", 'recommender.exploration="epsilon"') == 0
    monkeypatch.chdir(tmp_path / "there")
    return tmp_path / "here" / "run"


def policy(folder):
    (folder / "policy.toml").write_text('[recommender]\nuse = "environments.recommenders.popularity:Popularity"\nexploration = "epsilon"\n')
    return str(folder / "policy.toml")


def test_a_run_is_continued_and_evaluated_from_any_folder(elsewhere, tmp_path):
    whole = summary(elsewhere)["sha256"]
    assert call(["evaluate", str(elsewhere), "--policy", policy(tmp_path), "--force"]) == 0
    (elsewhere / "summary.json").unlink()
    shutil.rmtree(elsewhere / "rounds" / "001")
    assert again(elsewhere) == 0
    assert summary(elsewhere)["sha256"] == whole


def test_no_command_says_anything_about_a_run_from_other_data(elsewhere, tmp_path, capsys):
    """A run of an older version, which stored its paths as they were typed."""
    text = (elsewhere / "config.toml").read_text()
    (elsewhere / "config.toml").write_text(text.replace(str(elsewhere.parent / "films"), "films"))
    directory = RunDirectory(elsewhere)
    kept = ("settings", "settings_sha256")
    directory.write_json("manifest", {key: value for key, value in directory.read_json("manifest").items() if key not in kept})
    for command in (
        ["fidelity", str(elsewhere), "--parts", "choose", "--people", "5"],
        ["evaluate", str(elsewhere), "--policy", policy(tmp_path)],
        ["interview", str(elsewhere), "--user", "u1", "--ask", "Who are you?"],
    ):
        capsys.readouterr()
        assert call(command) == 2
        assert "was started with another data" in capsys.readouterr().err
    from experiments.reinforcement.world import open_world

    with pytest.raises(RunError, match="was started with another data"):
        open_world(elsewhere)
    assert not (elsewhere / "fidelity" / "fidelity.json").exists()


def test_nothing_is_judged_by_other_held_out_data(elsewhere, tmp_path, film_world, capsys):
    """The run is the same whatever was held out, so it goes on; what it is held against is not."""
    held_out = split(film_world, SplitConfig(), Stream(7).child("split")).test
    names = {(str(user), str(film_world.catalog.item_ids[item])) for user, item in held_out.select("user", "item").iter_rows()}
    log = tmp_path / "here" / "films" / "u.data"
    lines = [line.split("\t") for line in log.read_text(encoding="latin-1").splitlines()]
    changed = ["\t".join((user, item, str(6 - int(stars)) if (user, item) in names else stars, at)) for user, item, stars, at in lines]
    log.write_text("\n".join(changed) + "\n", encoding="latin-1")
    assert call(["fidelity", str(elsewhere), "--parts", "choose", "--people", "5"]) == 2
    assert f"was started with another data: {held_out.height} held-out interactions" in capsys.readouterr().err
    assert not (elsewhere / "fidelity" / "fidelity.json").exists()
    (elsewhere / "summary.json").unlink()
    assert again(elsewhere) == 0


def test_nothing_is_said_about_a_finished_run_whose_settings_were_edited(finished, tmp_path, capsys):
    from experiments.dashboard.world import open_world as open_live
    from experiments.reinforcement.world import open_world

    edited, other = tmp_path / "edited", tmp_path / "other"
    for folder in (edited, other):
        shutil.copytree(finished, folder)
    text = (edited / "config.toml").read_text()
    (edited / "config.toml").write_text(text.replace("page_size = ", "page_size = 1"))
    for command in (
        ["compare", str(other), str(edited), "--output", str(tmp_path / "comparison")],
        ["fidelity", str(edited), "--parts", "choose", "--people", "5"],
        ["evaluate", str(edited), "--policy", policy(tmp_path)],
        ["interview", str(edited), "--user", "u1", "--ask", "Who are you?"],
    ):
        capsys.readouterr()
        assert call(command) == 2, command
        assert "recommender.page_size was" in capsys.readouterr().err, command
    for open_run in (open_world, lambda run: open_live(run, (), 3, lambda *_: None)):
        with pytest.raises(RunError, match=r"recommender\.page_size was"):
            open_run(edited)


def test_what_was_prepared_is_not_taken_from_a_run_whose_settings_were_edited(finished, tmp_path, film_files):
    """Its decisions were fitted under other settings than those that stand there now."""
    config = configuration.read(experiment(tmp_path, film_files), ["seed=8"])
    edited = tmp_path / "edited"
    shutil.copytree(finished, edited)
    dumped = configuration.dump(config, build.resolved(config))
    run = RunDirectory.create(tmp_path / "new")
    (run.path / "config.toml").write_bytes(dumped)
    run.write_json("manifest", RunDirectory(finished).read_json("manifest"))
    assert take_over(run, config, [edited]) is None
    (edited / "config.toml").write_bytes(dumped)
    assert take_over(run, config, [edited]) is None
    honest = RunDirectory(edited)
    honest.write_json("manifest", {**honest.read_json("manifest"), "settings": settings_of(honest), "files": {"decision.exposures": "1"}})
    assert take_over(run, config, [edited]) is None, "a file had another content"
    honest.write_json("manifest", {**honest.read_json("manifest"), "files": {}})
    assert take_over(run, config, [edited]) == edited


def test_paths_of_every_kind_are_stored_in_full(tmp_path, film_files, monkeypatch):
    from environments.datasets.tables import InteractionTables as Tables
    from simulator.llm.openai_api import OpenAIServer
    from simulator.plugins import resolve

    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapter").mkdir()
    where = {"where": "x", "methods": ()}
    tables = f"{Tables.__module__}:{Tables.__name__}"
    alone = resolve(tables, {"interactions": "r.csv", "items": "sub/i.csv"}, **where)
    assert (alone["interactions"], alone["items"]) == (str(tmp_path / "r.csv"), str(tmp_path / "sub" / "i.csv"))
    inside = resolve(tables, {"path": "data", "interactions": "r.csv"}, **where)
    assert (inside["path"], inside["interactions"]) == (str(tmp_path / "data"), "r.csv")
    server = f"{OpenAIServer.__module__}:{OpenAIServer.__name__}"
    assert resolve(server, {"base_url": "http://127.0.0.1:1/v1", "ledger": "l.sqlite"}, **where)["ledger"] == str(tmp_path / "l.sqlite")
    llama = "simulator.llm.llama_cpp:LlamaCpp"
    assert resolve(llama, {"path": "smollm2-135m-instruct", "adapter": "adapter"}, **where)["adapter"] == str(tmp_path / "adapter")
    assert resolve(llama, {"path": "smollm2-135m-instruct", "adapter": "a-name"}, **where)["adapter"] == "a-name"
    assert resolve(llama, {"path": "smollm2-135m-instruct"}, **where)["path"] == "smollm2-135m-instruct"
