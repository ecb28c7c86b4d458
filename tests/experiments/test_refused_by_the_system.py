"""What the operating system refuses is one sentence and exit status 2, in every command; lost output never stops one half-way."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import call
from experiments.console import emit, emit_table, stdout

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
name = "refused"
language_model = false
cohort_size = 4
[dataset]
path = "{data}"
[population]
users = 4
[decision]
use = "agents.{decisions}"
{options}
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 4
max_pages = 2
"""


def experiment(folder, data, decisions="controls:RandomDecisions", options=""):
    file = folder / "refused.toml"
    file.write_text(EXPERIMENT.format(data=data, decisions=decisions, options=options), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("file.csv", "Not a directory"),
        ("file.csv/run", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("/proc/run", "No such file or directory"),
    ],
)
def test_an_output_that_cannot_be_is_one_sentence(tmp_path, film_files, output, says, capsys):
    (tmp_path / "file.csv").write_text("rows")
    target = tmp_path / output
    assert call(["run", str(experiment(tmp_path, film_files)), "--output", str(target), "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("usersim: ")
    assert says in said
    assert "Traceback" not in said
    assert (tmp_path / "file.csv").read_text() == "rows"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EMFILE, errno.EFBIG, errno.EIO])
def test_a_disk_that_refuses_is_one_sentence_and_the_run_goes_on_where_it_was(tmp_path, film_files, number, monkeypatch, capsys):
    file, run = experiment(tmp_path, film_files), tmp_path / "run"
    import polars as pl

    write, refused = pl.DataFrame.write_parquet, []

    def refuse(frame, target, **options):
        if "cohort" in str(target):
            refused.append(target)
            raise OSError(number, os.strerror(number), str(target))
        return write(frame, target, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pl.DataFrame, "write_parquet", refuse)
        assert call(["run", str(file), "--output", str(run), "--workers", "1"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"usersim: {run / 'rounds' / '000' / 'cohort-0000'}: {os.strerror(number)}; ")
    assert refused
    assert not list(run.rglob("*.part"))
    assert call(["resume", str(run), "--workers", "1"]) == 0


@pytest.mark.parametrize("cache", ["a file", "/proc/nothing", "below a file", "read-only"])
def test_a_cache_that_cannot_be_used_stops_no_run(tmp_path, film_files, cache, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    places = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache", "/proc/nothing": Path("/proc/nothing")}
    monkeypatch.setenv("USERSIM_CACHE", str(places.get(cache, "/sys/usersim")))
    file = experiment(tmp_path, film_files, "calibrated:CalibratedDecisions", "language_model = false")
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1
    assert (tmp_path / "file").read_text() == "x"


def test_a_kept_entry_that_was_changed_is_dropped_and_said(tmp_path, film_files, monkeypatch, capsys):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    file = experiment(tmp_path, film_files, "calibrated:CalibratedDecisions", "language_model = false")

    def weights(name):
        assert call(["run", str(file), "--output", str(tmp_path / name), "--workers", "1"]) == 0
        return (tmp_path / name / "decisions" / "calibration.json").read_bytes()

    first = weights("first")
    (entry,) = (tmp_path / "cache" / "calibration").glob("*.json")
    assert weights("again") == first, "kept weights are to the byte those that were estimated"
    spoils = (
        lambda text: text.replace('"weights": [\n   ', '"weights": [\n   -', 1),
        lambda text: text.replace('"weights": [\n   ', '"weights": [\n   NaN,\n   ', 1),
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "",
    )
    for number, spoil in enumerate(spoils):
        entry.write_text(spoil(entry.read_text()))
        capsys.readouterr()
        assert weights(f"spoiled-{number}") == first
        assert "It is dropped" in capsys.readouterr().err


def test_too_little_memory_is_one_sentence(tmp_path, film_files, monkeypatch, capsys):
    def greedy(*_):
        raise MemoryError

    monkeypatch.setattr("experiments.run.fit_profiles", greedy)
    assert call(["run", str(experiment(tmp_path, film_files)), "--output", str(tmp_path / "run"), "--workers", "1"]) == 2
    assert "there is too little memory" in capsys.readouterr().err


@pytest.mark.parametrize(("megabytes", "says"), [(600, "are needed"), (1_500, "are needed")])
def test_a_limit_of_memory_is_told_before_anything_is_computed(tmp_path, film_files, megabytes, says):
    file = experiment(tmp_path, film_files)
    done = shell(f"ulimit -v {megabytes * 1024}; usersim run {file} --output {tmp_path / 'run'} --workers 1", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("usersim: this shell allows ")
    assert says in done.stderr
    assert not (tmp_path / "run").exists()


def test_more_workers_than_there_is_memory_for_are_refused_with_numbers(tmp_path, film_files, monkeypatch, capsys):
    monkeypatch.setattr("experiments.memory._free", lambda: 0.6 * 2**30)
    file = experiment(tmp_path, film_files)
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "4"]) == 2
    assert "a run with 4 workers needs at least 1.0 GiB of memory" in capsys.readouterr().err
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0


def shell(command, tmp_path, **environment):
    """A command line of the shell, with `usersim` in it."""
    whole = command.replace("usersim", f"{sys.executable} -m experiments.cli")
    return subprocess.run(
        ["bash", "-c", whole], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("usersim data list --json > /dev/full", 2, "standard output: No space left on device"),
        ("usersim data list --json >&-", 2, "standard output: Bad file descriptor"),
        ("usersim data list 2>&-", 0, ""),
        ("usersim run no-such-file.toml 2> /dev/full", 2, ""),
        ("usersim run no-such-file.toml 2>&- >&- <&-", 2, ""),
        ("(usersim data list --json; exit $?) | true; exit ${PIPESTATUS[0]}", 1, ""),
    ],
)
def test_lost_output_ends_a_command_with_a_status_and_without_a_traceback(tmp_path, command, status, says):
    done = shell(command, tmp_path)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("environment", [{"COLUMNS": "5"}, {"COLUMNS": "0", "TERM": "dumb"}])
def test_a_very_narrow_terminal_gets_plain_lines(tmp_path, environment):
    said = shell("usersim data list", tmp_path, **environment).stdout
    assert "ml-100k" in said
    assert "│" not in said


def test_tables_show_brackets_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr(stdout, "width", 100)
    monkeypatch.setenv("TERM", "xterm")
    emit({"run": "x [old]/run"}, as_json=False)
    emit_table([{"run": "x [red]/run"}], as_json=False)
    said = capsys.readouterr().out
    assert "x [old]/run" in said
    assert "x [red]/run" in said
