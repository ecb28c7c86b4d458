"""Model cards, and that nobody who is held out in an experiment that ships had a part in an adapter that ships."""

import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import experiments
from agents.exposures import people_split
from environments.datasets.assembly import items_from_ids, users_from_ids
from experiments import config as configuration
from experiments.commands import models
from experiments.tuning import model_card
from simulator.dataset import INTERACTIONS_SCHEMA, Catalog, Dataset
from simulator.errors import ModelError
from simulator.llm import adapters

CONFIGS = Path(experiments.__file__).parent / "configs"
USERS = {"MovieLens100K": ("ml-100k", 943), "MovieLens1M": ("ml-1m", 6040)}
"""Loader -> name of its data, and number of its users, whose ids are 1, 2, 3 ..."""


def of_users(name: str, count: int) -> Dataset:
    catalog = Catalog(items_from_ids(pl.Series(["1"])))
    return Dataset(
        name, catalog, users_from_ids(pl.Series([str(user + 1) for user in range(count)])), pl.DataFrame(schema=INTERACTIONS_SCHEMA)
    )


def experiments_on_films():
    """Every experiment that ships and is about MovieLens, those of studies with their settings: file, section [dataset]."""
    for file in sorted(CONFIGS.rglob("*.toml")):
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        base = document.get("base")
        section = document.get("dataset") or document.get("settings", {}).get("dataset") or {}
        if base is not None:
            section = configuration.read(Path(base)).dataset.model_dump(mode="json") | section
        if str(section.get("use", "")).rpartition(":")[2] in USERS:
            yield file, section


def test_nobody_held_out_in_an_experiment_that_ships_had_a_part_in_an_adapter_that_ships():
    found = list(experiments_on_films())
    assert len(found) > 10
    for folder in sorted(path.parent for path in adapters.SHIPPED.glob(f"*/{adapters.CONFIG}")):
        card, entries = adapters.card(folder), adapters.learned_from(folder)
        if not entries:  # an adapter of before kept the rule and not the ids
            assert card["data"]["name"] == "ml-100k"
            assert "start" not in card
            entries = model_card.learned(of_users("ml-100k", 943), None)
        assert (len(entries[0]["learned"]), len(entries[0]["watched"])) == (card["people"]["fit"], card["people"]["validation"])
        for file, section in found:
            assert not section.get("k_core"), f"{file}: with fewer users others are held out; compare with these"
            assert section.get("min_rating") is None, f"{file}: likewise"
            name, count = USERS[section["use"].rpartition(":")[2]]
            data = of_users(name, count)
            held_out = {data.users["user_id"][code] for code in people_split(data).held_out.tolist()}
            assert len(held_out) >= 280
            for entry in entries:
                assert entry["learned"] is not None, f"{folder.name}: nobody knows whom it learned from on {entry['data']}"
                taught = {*entry["learned"], *entry["watched"]} if entry["data"] == name else set()
                assert not taught & held_out, f"{folder.name} learned from users who are held out in {file}"


@pytest.fixture
def card():
    return {
        "name": "mine",
        "data": {"name": "ml-100k", "fingerprint": "f" * 64, "interactions": 80_000, "split": {"method": "temporal", "test_share": 0.2}},
        "model": {"name": "small.gguf", "sha256": "a" * 64},
        "people": {"fit": 473, "validation": 188, "held_out": 282},
        "start": {"name": "ml-1m-taste", "data": {"name": "ml-1m", "fingerprint": "e" * 64}},
        "tuning": {"before": {"choose_auc": 0.5}, "after": {"choose_auc": 0.7}, "steps": 10, "tokens": 1_000, "seconds": 60.0},
    }


def test_a_card_says_whose_data_it_is_on_what_terms_and_what_came_of_it(card, tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    start = tmp_path / "cache" / "tuned" / "ml-1m-taste"
    start.mkdir(parents=True)
    (start / adapters.CONFIG).write_text("{}")
    model_card.write(start, {**card, "name": "ml-1m-taste"}, model_card.learned(of_users("ml-1m", 6040), None))
    entries = model_card.learned(of_users("ml-100k", 943), "ml-1m-taste")
    assert [entry["data"] for entry in entries] == ["ml-100k", "ml-1m"]
    assert (len(entries[0]["learned"]), len(entries[0]["watched"]), len(entries[1]["learned"])) == (473, 188, 4040)
    folder = tmp_path / "mine"
    folder.mkdir()
    model_card.write(folder, card, entries)
    assert adapters.learned_from(folder) == entries
    assert (folder / adapters.LEARNED).stat().st_size < 100_000
    text = (folder / model_card.FILE).read_text()
    assert "no commercial use and no redistribution without permission" in text
    assert "- ml-1m: 4,040 users learned from, 1,000 watched" in text
    assert "| area under the curve of choosing | 0.5000 | 0.7000 |" in text
    assert "It began with an adapter tuned on ml-1m." in text
    gone = model_card.learned(of_users("ml-100k", 943), "nothing-like-it")
    assert gone[1]["learned"] is None


def test_a_damaged_list_is_one_sentence(tmp_path):
    (tmp_path / adapters.LEARNED).write_text('[{"data": "ml-100k"}]')
    with pytest.raises(ModelError, match="whom the adapter learned from"):
        adapters.learned_from(tmp_path)


def test_adapters_are_listed_with_their_terms():
    result = CliRunner().invoke(models.app, ["adapters", "--json"], catch_exceptions=False)
    row = next(row for row in json.loads(result.stdout)["rows"] if row["name"] == "ml-100k")
    assert "GroupLens" in row["terms"]
    shown = CliRunner().invoke(models.app, ["adapters", "ml-100k"], catch_exceptions=False).stdout
    assert shown.startswith("# Adapter ml-100k")
