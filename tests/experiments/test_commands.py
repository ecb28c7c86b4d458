"""The commands around a run, as a user types them."""

import json

import polars as pl
import pytest

from experiments.cli import call

EXPERIMENT = """
name = "commands"
cohort_size = 5
[dataset]
path = "{data}"
[population]
users = 7
taste = true
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.popularity:Popularity"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("commands")
    file = folder / "commands.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    assert call(["run", str(file), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


def document(capsys):
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def test_run_prints_one_json_document_on_request(tmp_path, film_files, capsys):
    file = tmp_path / "commands.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1", "--json"]) == 0
    printed = document(capsys)
    assert printed["run"] == str(tmp_path / "run")
    assert printed["people"] == 7
    assert set(printed["sha256"]) == {"impressions", "pages", "sessions", "memories", "texts"}


def test_tastes_are_written_once_and_told_in_prompts(finished, capsys):
    people = pl.read_parquet(finished / "people.parquet")
    assert people["taste"].null_count() == 0
    texts = pl.read_parquet(finished / "texts.parquet").filter(pl.col("kind") == "taste")
    assert dict(texts.select("user", "text").iter_rows()) == dict(people.select("user", "taste").iter_rows())


def test_resuming_a_complete_run_changes_no_table(finished, capsys):
    before = (finished / "impressions.parquet").read_bytes()
    assert call(["resume", str(finished), "--workers", "1", "--json"]) == 0
    assert document(capsys)["people"] == 7
    assert (finished / "impressions.parquet").read_bytes() == before


def test_somebody_can_be_interviewed(finished, capsys):
    user = pl.read_parquet(finished / "people.parquet")["user"][0]
    assert call(["interview", str(finished), "--user", user, "--ask", "What did you like?", "--ask", "Why?", "--json"]) == 0
    printed = document(capsys)
    assert [turn["question"] for turn in printed["turns"]] == ["What did you like?", "Why?"]
    assert all(turn["answer"] for turn in printed["turns"])
    assert printed["person"].startswith("The person: ")


def test_commands_about_a_run_say_what_they_are_doing_also_where_there_is_no_terminal(finished, tmp_path, capsys):
    """A language model takes a minute for an answer, and a large run as long for its figures."""
    user = pl.read_parquet(finished / "people.parquet")["user"][0]
    commands = {
        ("interview", str(finished), "--user", user, "--ask", "What did you like?", "--ask", "Why?"): (
            "waking up the person",
            "question 1 of 2",
            "question 2 of 2",
        ),
        ("plot", str(finished), "--figure", "genres"): ("drawing figures",),
        ("export", str(finished), "--format", "csv", "--output", str(tmp_path / "export")): ("exporting",),
        ("verify", str(finished)): ("looking at every file",),
    }
    for command, stages in commands.items():
        assert call(list(command)) == 0
        told = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
        assert [line for line in told if line in stages] == list(stages), command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--user", "nobody", "--ask", "hi"], "Allowed: "),
        (["--user", "1", "--json"], "--json needs at least one --ask"),
    ],
)
def test_an_interview_that_cannot_be_is_explained(finished, capsys, arguments, says):
    assert call(["interview", str(finished), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_questions_are_remembered_within_an_interview(finished, monkeypatch):
    from experiments import interview

    monkeypatch.setattr(interview, "writes_texts", lambda config, figures: True)
    session = interview.Interview(finished, pl.read_parquet(finished / "people.parquet")["user"][0])
    session.ask("What did you like?")
    session.ask("What did you watch, <|like|>?")
    texts = [message.text for message in session._model.requests[-1].messages]
    assert texts[1] == "What did you like?"
    assert texts[2] == session.answers[0].text
    assert "<|" not in texts[3]
    assert "Remembers: " in texts[0]
    # What the scripted model writes is not true, so facts answer; and nobody makes up what is not known.
    assert [answer.status for answer in session.answers] == ["facts", "facts"]
    assert session.answers[0].refused
    assert session.ask("Where does your brother live?").startswith("I do not know")
    assert session.answers[2].status == "unknown"
    session.close()


def test_plot_and_export_work_on_a_run_of_ones_own(finished, tmp_path, capsys):
    assert call(["plot", str(finished), "--json"]) == 0
    assert document(capsys)
    assert call(["export", str(finished), "--format", "recbole", "--output", str(tmp_path / "out"), "--json"]) == 0
    assert list((tmp_path / "out").glob("*.inter"))


def test_doctor_says_what_is_there(capsys):
    assert call(["doctor", "--json"]) == 0
    rows = {row["check"]: row for row in document(capsys)["rows"]}
    assert rows["packages"]["state"] == "ok"
    assert rows["mesa"]["found"].startswith("3.")
    assert {"cores", "GPU", "cache", "data ml-100k"} <= set(rows)


@pytest.mark.parametrize("command", ["run", "resume", "plot", "export", "interview", "doctor", "data", "models", "evaluate-recommenders"])
def test_every_command_explains_itself(command, capsys):
    assert call([command, "--help"]) == 0
    assert command in capsys.readouterr().out
