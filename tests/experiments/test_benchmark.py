"""`usersim benchmark`: what its figures mean, and that nothing measured is lost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.benchmarks import inference, speed_table
from experiments.benchmarks.agreement import divergence, flips
from experiments.benchmarks.engine_speed import Products
from experiments.benchmarks.prefix_floor import floor
from experiments.benchmarks.prompt_parts import as_popular, within_person_auc
from experiments.benchmarks.whole_runs import PeakMemory
from experiments.cli import call
from simulator.errors import RunError
from simulator.llm.packed_weights import Architecture
from simulator.records import Decision, Outcome
from simulator.seeds import Stream

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "results" / "benchmarks" / "inference.json"


class Letters:
    """A model whose tokens are letters, and whose prompts are texts."""

    def tokens(self, prompt):
        return [ord(letter) for letter in prompt]


def test_the_floor_counts_what_no_earlier_prompt_begins_with():
    assert floor(["rules anna 1", "rules anna 2", "rules bert 1"], Letters()) == (len("rules anna 1") + 1 + len("bert 1"), 36)


@given(st.lists(st.text("ab", max_size=6), max_size=12))
def test_the_floor_is_the_number_of_different_beginnings(texts):
    new, total = floor(texts, Letters())
    assert new == len({text[:n] for text in texts for n in range(1, len(text) + 1)})
    assert total == sum(map(len, texts))


def decision(values, probabilities):
    return Decision({"choose": Outcome(np.array(values, float), np.array(probabilities))})


def test_a_flip_is_a_value_or_a_likeliest_label_that_differs():
    one = decision([1, 0, np.nan], [[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    other = decision([1, 1, 1], [[0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    assert flips(one, one) == (0, 0, 2)
    assert flips(one, other) == (1, 1, 2)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_divergence_is_zero_for_equal_distributions_and_else_not_negative(one, other):
    q = np.log(np.array(one) / np.sum(one))
    p = np.log(np.array(other[: len(one)]) / np.sum(other[: len(one)]))
    assert divergence(q, q) == 0
    assert divergence(q, p) >= 0


def test_divergence_of_a_known_pair():
    assert divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75])) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))


def test_auc_within_people_ignores_how_high_a_person_scores():
    odds, real = np.array([[9.0, 8, 8, 7], [1, 0, 0, -1]]), np.array([[True, True, False, False]] * 2)
    auc, error = within_person_auc(odds, real)
    assert auc == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert error == 0


def test_matched_items_are_as_popular_new_and_different():
    popularity = np.arange(200)
    items = np.array([10, 100, 101])
    matched = as_popular(items, {*range(90, 100), 100, 101, 10}, popularity, Stream(1).generator())
    assert len(set(matched.tolist())) == 3
    assert not set(matched.tolist()) & {*range(90, 102), 10}
    assert np.abs(popularity[matched] - popularity[items]).max() <= 35


def test_peak_memory_counts_children():
    child = "import time; block = bytearray(150_000_000); time.sleep(3)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    with PeakMemory(process.pid) as memory:
        process.wait()
    assert 150e6 < memory.peak < 400e6


@pytest.fixture
def without_a_model(monkeypatch):
    """The benchmark with parts that measure nothing; the middle one fails."""

    def fails(self):
        time.sleep(0)
        raise RunError("the disk is full.")

    monkeypatch.setattr(
        inference, "_circumstances", lambda: {"machine": {"cores": 2, "processor": "P"}, "model": {"name": "M", "format": "bf16"}}
    )
    for number, part in enumerate(inference.PARTS):
        monkeypatch.setattr(inference.Benchmark, part, lambda self, number=number: {f"figure {number}": number})
    monkeypatch.setattr(inference.Benchmark, "chat", fails)
    return monkeypatch


def test_a_part_that_fails_loses_nothing_and_can_be_repeated_alone(without_a_model, tmp_path, capsys):
    file = tmp_path / "deep" / "inference.json"
    assert call(["benchmark", "inference", "--output", str(file), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(file.read_text())
    assert printed["failures"] == {"chat": "RunError: the disk is full."}
    chat = inference.PARTS.index("chat")
    assert {f"figure {number}" for number in range(len(inference.PARTS)) if number != chat} <= set(printed)
    without_a_model.setattr(inference.Benchmark, "chat", lambda self: {"speedup_over_chat": 14.0})
    assert call(["benchmark", "inference", "--part", "chat", "--output", str(file), "--json"]) == 0
    repeated = json.loads(file.read_text())
    assert (repeated["failures"], repeated["speedup_over_chat"], repeated["figure 0"]) == ({}, 14.0, 0)


def test_an_unknown_part_is_one_sentence(capsys):
    assert call(["benchmark", "inference", "--part", "speed"]) == 2
    error = capsys.readouterr().err
    assert "'speed'" in error
    assert "ceiling, breakdown, chat" in error


RESULTS = {
    "date": "2026-11-23T10:00:00+00:00",
    "machine": {"cores": 2, "processor": "P"},
    "model": {"name": "M", "format": "bf16", "backend": "B"},
    "processes": 2,
    "threads_each": 1,
    "share_of_ceiling": 0.9,
    "page_tokens_per_second": 450.0,
    "ceiling_tokens_per_second": 500.0,
    "same_log": False,
}


def test_rates_of_products_are_positive_in_every_type():
    shape = Architecture(1, 64, 4, 2, 32, 96, 40, 128, 1e-5, 10_000.0)
    rates = Products(shape).rates()
    assert set(rates) == {"float32", "bfloat16", "int8"}
    assert all(0 < rate < 1e6 for rate in rates.values())
    assert shape.linear_weights == 64 * 128 + 2 * 64 * 64 + 128 * 64 + 3 * 64 * 96


def test_the_table_names_the_engine_and_what_the_machine_multiplies():
    measured = {
        "engine": "torch",
        "engine_format": "int8",
        "llama_format": "bf16",
        "speedup_over_llama": 2.07,
        "share_of_machine": 0.94,
        "share_of_type": 0.48,
        "reached_gflops": 207.0,
        "machine_gflops": {"float32": 111.0, "bfloat16": 221.0, "int8": 435.0},
        "make_run_seconds": 190.2,
        "make_run_people": 200,
        "make_run_pages": 1338,
    }
    table = speed_table.markdown(RESULTS | measured)
    assert "torch in int8, against llama.cpp in bf16 | 2.07 times" in table
    assert "0.94 (207 GFLOP/s a core; products reach float32 111, bfloat16 221, int8 435)" in table
    assert "200 people of `make run` after set-up, with empty caches | 190 s, 1,338 pages" in table


def test_the_table_has_what_was_measured_and_nothing_else():
    table = speed_table.markdown(RESULTS)
    assert "| 90% (450 of 500 tokens/s a core) | at least 85% |" in table
    assert "**no**" in table
    assert "chat" not in table


def test_the_table_replaces_what_stands_between_the_marks(tmp_path, capsys):
    result, document = tmp_path / "result.json", tmp_path / "README.md"
    result.write_text(json.dumps(RESULTS))
    document.write_text(f"before\n{speed_table.START}\nFORMER\n{speed_table.END}\nafter\n")
    for changed in (True, False):
        assert call(["benchmark", "table", str(document), "--result", str(result), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["changed"] is changed
    text = document.read_text()
    assert text.startswith(f"before\n{speed_table.START}\n| what |")
    assert text.endswith(f"{speed_table.END}\nafter\n")
    assert "FORMER" not in text


@pytest.mark.parametrize(
    "text", ["no marks", speed_table.START, f"{speed_table.END}{speed_table.START}", 2 * (speed_table.START + speed_table.END)]
)
def test_a_document_without_the_marks_is_left_alone(tmp_path, capsys, text):
    result, document = tmp_path / "result.json", tmp_path / "README.md"
    result.write_text(json.dumps(RESULTS))
    document.write_text(text)
    assert call(["benchmark", "table", str(document), "--result", str(result)]) == 2
    assert "once each" in capsys.readouterr().err
    assert document.read_text() == text


@pytest.mark.parametrize("content", [None, "{ half a"])
def test_a_missing_or_damaged_result_is_one_sentence(tmp_path, capsys, content):
    result = tmp_path / "result.json"
    if content:
        result.write_text(content)
    assert call(["benchmark", "table", "README.md", "--result", str(result)]) == 2
    assert "usersim benchmark inference" in capsys.readouterr().err


def test_the_readme_says_what_was_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = speed_table.markdown(speed_table.read(RESULT))
    assert speed_table.rewritten(readme, table) == readme
