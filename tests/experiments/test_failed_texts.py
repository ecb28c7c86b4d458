"""Texts that the language model failed to write are rows with a status, and are counted."""

import json

import polars as pl

from experiments.cli import call

MODEL = '''
from simulator.llm.scripted import ScriptedLanguageModel
from simulator.records import Completion


class Failing(ScriptedLanguageModel):
    """A fifth of the texts is whole and true, one is false, one is cut, one fails, and one comes out without a word."""

    def generate(self, requests):
        answers = super().generate(requests)
        kinds = [int(request.stream.key() % 5) for request in requests]
        whole = Completion(" was shown at least 1 film", 6)
        return [
            (whole, answer, Completion(answer.text, 3, "length"), Completion("half a sen", 0, "timeout"), Completion(" ", 1, "ok"))[kind]
            for kind, answer in zip(kinds, answers)
        ]
'''
EXPERIMENT = """
name = "texts"
cohort_size = 8
[dataset]
path = {data}
[population]
users = 24
[memory]
reflect_after = 0
[decision]
reference_pages = 4
least_texts_share = 0
[language_model]
use = {model}
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 3
max_pages = 2
"""


def test_texts_that_failed_are_logged_with_their_status_and_counted(tmp_path, film_files, capsys):
    (tmp_path / "failing.py").write_text(MODEL, encoding="utf-8")
    file = tmp_path / "texts.toml"
    model = json.dumps(f"{tmp_path / 'failing.py'}:Failing")
    file.write_text(EXPERIMENT.format(data=json.dumps(str(film_files)), model=model), encoding="utf-8")
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    texts = pl.read_parquet(tmp_path / "run" / "texts.parquet")
    # Every session asked for a reason and an insight, whatever became of them.
    assert texts.height == 2 * summary["sessions"]
    assert set(texts["status"]) == {"ok", "length", "timeout", "empty", "not understood"}
    # What failed is not shown: a sentence made from facts stands in its place.
    assert set(texts.filter(pl.col("status") == "ok")["text"]) == {"I was shown at least 1 film."}
    failed = texts.filter(pl.col("status") != "ok")
    assert failed["text"].str.contains(r"^(I|My) .*\.$").all()
    assert not failed.filter(pl.col("text") == pl.col("rejected")).height
    assert set(failed.filter(pl.col("status").is_in(["timeout", "empty"]))["rejected"]) == {""}
    assert (failed.filter(pl.col("status").is_in(["length", "not understood"]))["rejected"].str.len_chars() > 3).all()
    assert summary["texts"] == texts.filter(pl.col("status") == "ok").height
    assert summary["texts_passed_share"] == summary["texts"] / texts.height
    assert summary["texts_from_facts"] == failed.height
    counts = {status: texts.filter(pl.col("status") == status).height for status in ("empty", "length", "not understood", "timeout")}
    assert min(counts.values()) > 0
    assert summary["text_failures"] == counts
    memories = pl.read_parquet(tmp_path / "run" / "memories.parquet").filter(pl.col("kind") == "insight")
    insights = texts.filter(pl.col("kind") == "insight")
    assert sorted(memories["text"]) == sorted(insights["text"])


def test_a_model_that_writes_too_little_that_is_true_is_not_asked_for_texts(tmp_path, film_files, capsys):
    (tmp_path / "failing.py").write_text(MODEL, encoding="utf-8")
    file = tmp_path / "texts.toml"
    contents = EXPERIMENT.format(data=json.dumps(str(film_files)), model=json.dumps(f"{tmp_path / 'failing.py'}:Failing"))
    file.write_text(contents.replace("least_texts_share = 0\n", ""), encoding="utf-8")
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    texts = pl.read_parquet(tmp_path / "run" / "texts.parquet")
    assert set(texts["status"]) == {"facts"}
    assert texts["text"].str.len_chars().min() > 3
    assert summary["texts_passed_share"] is None
    assert summary["text_failures"] == {}
    assert summary["figures"]["texts_trial_passed_share"] < 0.5
    assert any("made from facts" in sentence for sentence in summary["assumptions"])
