"""`usersim benchmark variants`: the pages, what is read off them, and that measured variants are kept."""

import json

import numpy as np
import polars as pl
import pytest

from agents.exposures import people_split
from agents.profiles import fit_profiles
from experiments.benchmarks import variants
from experiments.benchmarks.variant_pages import MATCHED, RANDOM, REAL, figures, judged, summed_up
from simulator.seeds import Stream


@pytest.fixture
def halves(film_world):
    rows = film_world.interactions.with_row_index("row")
    held_out = rows.filter(pl.col("row") % 3 == 0).drop("row")
    return film_world.with_interactions(rows.filter(pl.col("row") % 3 != 0).drop("row")), held_out


def pages_of(halves, people=None, seed=0, pages=1, most=100):
    train, held_out = halves
    profiles = {profile.user: profile for profile in fit_profiles(train)}
    return judged(train, held_out, profiles, np.arange(train.n_users) if people is None else people, pages, most, Stream(seed))


def test_pages_hold_what_was_taken_among_what_never_was(halves):
    train, held_out = halves
    pages = pages_of(halves)
    real = set(held_out.select("user", "item").iter_rows())
    known = set(train.interactions.select("user", "item").iter_rows())
    assert len(pages.kinds) > 10
    for situation, kinds in zip(pages.situations, pages.kinds, strict=True):
        pairs = [(situation.profile.user, item) for item in situation.page.items.tolist()]
        assert len(set(pairs)) == 6
        assert [pair in real for pair in pairs] == (kinds == REAL).tolist()
        assert not known & set(pairs)
        assert sorted(kinds.tolist()) == [RANDOM, RANDOM, MATCHED, MATCHED, REAL, REAL]


def test_only_the_judged_people_are_asked_and_who_is_does_not_depend_on_the_others(halves):
    whole, some = pages_of(halves), pages_of(halves, people_split(halves[0]).held_out)
    asked = {situation.profile.user: situation.page.items.tolist() for situation in whole.situations}
    assert {situation.profile.user for situation in some.situations} <= set(people_split(halves[0]).held_out.tolist())
    for situation in some.situations:
        assert asked[situation.profile.user] == situation.page.items.tolist()


def test_as_many_people_are_judged_as_are_wanted_whatever_the_number_of_pages(halves):
    pages = pages_of(halves, pages=2, most=3)
    assert pages.kinds.shape == (3, 12)
    assert len(pages.situations) == 6
    for row in range(3):
        assert len({situation.profile.user for situation in pages.situations[2 * row : 2 * row + 2]}) == 1
        assert (np.sort(pages.kinds[row].reshape(2, 6)) == [RANDOM, RANDOM, MATCHED, MATCHED, REAL, REAL]).all()


def test_figures_of_an_oracle_and_of_a_preference_for_places(halves):
    pages = pages_of(halves)
    chance = np.where(pages.kinds == REAL, 0.9, np.where(pages.kinds == MATCHED, 0.6, 0.95))
    # The first place is liked by everybody, whatever stands there.
    shares = np.stack([np.log(chance), np.log(1 - chance)], axis=-1)
    shares[:, 0, 0] += 3.0
    found = figures(shares, pages.kinds)
    assert found["auc_matched"].mean() > 0.95
    assert found["auc_random"].mean() < 0.2
    even = figures(np.full((*pages.kinds.shape, 2), np.log(0.5)), pages.kinds)
    assert even["loss"] == pytest.approx(np.full(len(pages.kinds), np.log(2)))
    assert even["auc_matched"] == pytest.approx(np.full(len(pages.kinds), 0.5))


def test_differences_are_paired():
    generator = np.random.default_rng(0)
    base = generator.normal(size=200)
    found = summed_up({"auc_matched": base + 0.1}, {"auc_matched": base}, Stream(1))
    assert found["difference"]["auc_matched"] == {"value": 0.1, "low": 0.1, "high": 0.1}
    assert found["auc_matched"]["high"] - found["auc_matched"]["low"] > 0.1


def test_measured_variants_are_kept_only_for_the_same_people_and_settings(tmp_path):
    told = {"seed": 7, "judged": {"people": 2}}
    own = {"zero-shot": {"auc_matched": np.array([0.5, 0.6]), "auc_random": np.array([0.5, 0.5]), "loss": np.array([0.7, 0.7])}}
    asked = {"prompt_tokens_per_page": 9.0, "generated_tokens_per_page": 0.0, "processor_seconds_per_page": 0.1}
    rows = {"zero-shot": {"asked": asked}}
    result = variants._result(told, variants.VARIANTS, rows, own, {}, Stream(1))
    output = tmp_path / "variants.json"
    output.write_text(variants._document(result), encoding="utf-8")
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    kept, people = variants._earlier(output, told)
    assert kept == rows
    assert people["zero-shot"]["auc_matched"].tolist() == [0.5, 0.6]
    assert variants._earlier(output, {**told, "seed": 8}) == ({}, {})
    assert variants._earlier(tmp_path / "none.json", told) == ({}, {})
    later = variants._result(
        told, variants.VARIANTS, kept | {"lora": {"asked": asked}}, people | {"lora": people["zero-shot"]}, {}, Stream(1)
    )
    assert [row["variant"] for row in later["variants"]] == ["zero-shot", "lora"]
    assert later["variants"][1]["difference"]["loss"]["value"] == 0.0
    assert [row["variant"] for row in variants.table(later)] == ["zero-shot", "lora"]


def test_an_unknown_variant_is_one_sentence(film_files, tmp_path, capsys, monkeypatch):
    from experiments.cli import call

    file = tmp_path / "films.toml"
    file.write_text(
        f'name = "films"\n[dataset]\npath = {json.dumps(str(film_files))}\nsplit = "random"\ntest_share = 0.4\n', encoding="utf-8"
    )
    monkeypatch.setattr(variants, "base_model", lambda config: film_files / "u.item")
    output = ["--quick", "--output", str(tmp_path / "v.json")]
    assert call(["benchmark", "variants", str(file), *output, "--variant", "loras"]) == 2
    assert "did you mean 'lora'" in capsys.readouterr().err
    assert not (tmp_path / "v.json").exists()
