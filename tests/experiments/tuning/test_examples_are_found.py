"""Examples of a tuning are used again if everything that they were made from is the same."""

import json

import pytest

from experiments.tuning.tune import _begun, _prepared, _same
from simulator.errors import ConfigError

TOLD = {
    "data": {"name": "x"},
    "model": {"sha256": "a"},
    "prompt": {},
    "packs": 2,
    "seed": 1,
    "validation_people": 9,
    "words": {},
    "actions": [],
}
MADE_BY = {"code": "c", "arithmetic": {"numpy": "2"}}


@pytest.mark.parametrize("name", [*TOLD, *MADE_BY])
def test_each_ingredient_makes_other_examples(name):
    known = {**TOLD, **MADE_BY}
    assert _same(known, known)
    assert not _same({**known, name: "other"}, known)


def test_what_an_older_version_did_not_keep_is_not_held_against_a_tuning_and_what_is_unknown_is():
    known = {key: value for key, value in TOLD.items() if key not in ("words", "actions", "validation_people")}
    assert _same(known, TOLD)
    assert not _same({**known, "soft_tokens": 4}, TOLD)


def test_a_tuning_under_way_goes_on_with_its_examples_whatever_the_code(tmp_path):
    assert not _begun(tmp_path)
    assert _prepared(tmp_path) is None
    (tmp_path / "prepared.json").write_text(json.dumps({**TOLD, "code": "older"}))
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    assert _begun(tmp_path)
    assert _same(_prepared(tmp_path), TOLD)
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(ConfigError, match=r"prepared\.json.*begin anew"):
        _prepared(tmp_path)
