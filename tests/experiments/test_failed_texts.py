"""Texts that the language model failed to write are rows with a status, and are counted."""

import json

import polars as pl

from experiments.cli import call

MODEL = '''
from simulator.llm.scripted import ScriptedLanguageModel
from simulator.records import Completion


class Failing(ScriptedLanguageModel):
    """A quarter of the texts is whole, one is cut, one fails, and one comes out without a word."""

    def generate(self, requests):
        answers = super().generate(requests)
        kinds = [int(request.stream.key() % 4) for request in requests]
        return [
            (answer, Completion(answer.text, 3, "length"), Completion("half a sen", 0, "timeout"), Completion(" ", 1, "ok"))[kind]
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
    assert set(texts["status"]) == {"ok", "length", "timeout", "empty"}
    failed = texts.filter(pl.col("status").is_in(["timeout", "empty"]))
    assert set(failed["text"]) == {""}
    assert (texts.filter(pl.col("status").is_in(["ok", "length"]))["text"].str.len_chars() > 3).all()
    assert summary["texts"] == texts.filter(pl.col("status") == "ok").height
    counts = {status: texts.filter(pl.col("status") == status).height for status in ("empty", "length", "timeout")}
    assert min(counts.values()) > 0
    assert summary["text_failures"] == counts
    memories = pl.read_parquet(tmp_path / "run" / "memories.parquet").filter(pl.col("kind") == "insight")
    usable = texts.filter((pl.col("kind") == "insight") & (pl.col("text") != ""))
    assert memories.height == usable.height
