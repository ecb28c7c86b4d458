"""Baselines beside simulated users: what is tuned on validation users, what is left out, and what lift is taken over."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from agents.exposures import items_by_user
from agents.profiles import fit_profiles
from environments.datasets.splits import SplitConfig, split
from environments.datasets.tables import InteractionTables
from experiments import build
from experiments import config as configuration
from experiments.fidelity import accuracy, baselines, shelf, shelf_data
from experiments.fidelity.baselines import COUNTS, Judge, Part, Scored, beside, scored, settings, tuned
from experiments.fidelity.candidates import nested_candidates
from simulator.errors import DataError
from simulator.seeds import Stream

USERS, ITEMS = 90, 80


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Users who like one of two halves of the items, and popular items more; with ratings and times."""
    place = tmp_path_factory.mktemp("shelf")
    generator = Stream(4).child("world").generator()
    popularity = generator.permutation(np.linspace(-1.5, 1.5, ITEMS))
    rows = []
    for user in range(USERS):
        half = user % 2
        utility = popularity + 2.0 * (np.arange(ITEMS) % 2 == half) + generator.gumbel(size=ITEMS)
        for order, item in enumerate(np.argsort(-utility)[:24].tolist()):
            rating = int(np.clip(np.rint(3.5 + (item % 2 == half) + generator.normal()), 1, 5))
            rows.append((f"u{user}", f"i{item}", rating, 1_500_000_000 + 86_400 * order + 1_000 * user))
    pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row").write_csv(place / "log.csv")
    return place


@pytest.fixture(scope="module")
def parts(folder):
    data = InteractionTables(InteractionTables.Config(path=folder, interactions="log.csv")).load()
    divided = split(data, SplitConfig(method="random", test_share=0.3), Stream(1))
    train = divided.train
    every = pl.concat([train.interactions.select(divided.test.columns), divided.test]).sort("user", maintain_order=True)
    found = nested_candidates(divided.test, items_by_user(every, train.n_users), train, np.arange(USERS), Stream(2))
    return Part(train, {profile.user: profile for profile in fit_profiles(train)}, pl.concat(found.values()))


def judge_of(part, resamples=50):
    counts = np.bincount(part.train.interactions["item"].to_numpy(), minlength=part.train.n_items).astype(float)
    return Judge(part.rows, counts, resamples, Stream(3))


def test_every_baseline_is_tried_with_every_setting_and_scaling(parts):
    found = list(scored(parts.train, parts.profiles, parts.rows, settings(parts.train.n_items)))
    assert {one.name for one in found} == {COUNTS, "biases", "ItemKNN", "EASE"}
    assert len([one for one in found if one.name == "EASE"]) == 2 * len(baselines.GRID["EASE"])
    assert all(np.isfinite(one.scores).all() for one in found)


def test_without_ratings_there_are_no_biases(parts):
    train = parts.train
    without = train.with_interactions(train.interactions.with_columns(rating=pl.lit(None, dtype=train.interactions["rating"].dtype)))
    found = list(scored(without, parts.profiles, parts.rows, [(COUNTS, {}), ("biases", {"shrinkage": 5.0})]))
    assert [one.name for one in found] == [COUNTS]


def test_counts_are_at_chance_against_items_of_the_same_popularity_and_above_it_against_random_ones(parts):
    judge = judge_of(parts)
    (counts,) = scored(parts.train, parts.profiles, parts.rows, [(COUNTS, {})])
    assert judge.point("auc_matched", counts.scores) == pytest.approx(0.5, abs=0.05)
    assert judge.point("auc_random", counts.scores) > 0.6


def test_pairs_count_ties_half_and_leave_out_what_is_further_apart_than_the_caliper(parts):
    judge = judge_of(parts)
    assert judge.point("auc_pairs", np.zeros(parts.rows.height)) == 0.5
    positive = (parts.rows["kind"] == "positive").to_numpy()
    assert judge.point("auc_pairs", positive.astype(float)) == 1.0
    apart = Judge(parts.rows, np.exp(np.arange(parts.train.n_items, dtype=float)), 10, Stream(3))
    assert np.isnan(apart.point("auc_pairs", positive.astype(float)))


def test_what_is_best_on_validation_users_is_taken(parts):
    judge = judge_of(parts)
    found = list(scored(parts.train, parts.profiles, parts.rows, settings(parts.train.n_items)))
    for place in tuned(found, judge, "auc_matched"):
        same = [judge.point("auc_matched", one.scores) for one in found if one.name == found[place].name]
        assert judge.point("auc_matched", found[place].scores) == max(same)


def test_a_baseline_has_no_lift_over_itself_and_the_truth_has_one(parts):
    judge = judge_of(parts)
    found = list(scored(parts.train, parts.profiles, parts.rows, settings(parts.train.n_items)))
    best = max((judge.point("auc_matched", one.scores), place) for place, one in enumerate(found))[1]
    itself = beside(parts, parts, {"auc_matched": found[best].scores}, 50, Stream(3))
    assert itself["auc_matched"]["lift"] == {"value": 0.0, "low": 0.0, "high": 0.0, "people": USERS}
    truth = (parts.rows["kind"] == "positive").to_numpy().astype(float)
    told = beside(parts, parts, {"auc_matched": truth, "auc_pairs": truth}, 50, Stream(3))
    assert told["auc_matched"]["value"] == 1.0
    assert told["auc_matched"]["lift"]["low"] > 0
    assert told["auc_pairs"]["best"]["name"] in told["auc_pairs"]["baselines"]
    json.dumps(told, allow_nan=False)


def test_few_validation_users_and_a_small_catalog_are_said(parts):
    few = Part(parts.train, parts.profiles, parts.rows.filter(pl.col("user") < 9))
    told = beside(parts, few, {"auc_matched": np.zeros(parts.rows.height)}, 5, Stream(3))
    assert any("9 validation users" in sentence for sentence in told["warnings"])


def test_a_baseline_below_chance_is_said(parts, monkeypatch):
    monkeypatch.setattr(baselines, "WORSE_THAN_CHANCE", 1.1)
    told = beside(parts, parts, {"auc_matched": np.zeros(parts.rows.height)}, 5, Stream(3))
    assert any(sentence.startswith("counts is worse than chance in auc_matched (0.") for sentence in told["warnings"])
    monkeypatch.undo()
    fair = beside(parts, parts, {"auc_matched": np.zeros(parts.rows.height)}, 5, Stream(3))
    assert not any("worse than chance" in sentence for sentence in fair["warnings"])


def test_baselines_do_not_depend_on_the_order_of_rows_and_items(folder, tmp_path):
    """Files in another order, and items under other numbers, which are other codes inside."""
    log = pl.read_csv(folder / "log.csv")
    for name, table in (("made", log), ("sorted", log.sort("item_id", "user_id")), ("backwards", log.reverse())):
        table.write_csv(tmp_path / f"{name}.csv")
    names = {item: f"i{99 - int(item[1:])}" for item in log["item_id"].unique().to_list()}
    log.with_columns(pl.col("item_id").replace_strict(names)).write_csv(tmp_path / "renamed.csv")
    found = {}
    for name in ("made", "sorted", "backwards", "renamed"):
        data = InteractionTables(InteractionTables.Config(path=tmp_path, interactions=f"{name}.csv")).load()
        ids = data.catalog.item_ids
        asked = [names[item] if name == "renamed" else item for item in sorted(names)]
        codes = [int(np.flatnonzero(ids == item)[0]) for item in asked]
        rows = pl.DataFrame({"user": np.repeat(np.arange(5), len(codes)), "item": codes * 5}).cast(pl.Int32)
        profiles = {profile.user: profile for profile in fit_profiles(data)}
        found[name] = [one.scores for one in scored(data, profiles, rows, settings(data.n_items))]
    for name in ("sorted", "backwards"):
        assert all(np.array_equal(one, other) for one, other in zip(found["made"], found[name], strict=True))
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(found["made"], found["renamed"], strict=True))


def test_a_data_set_of_the_shelf_has_all_its_figures(folder):
    lines = [
        'name = "small"', "seed = 7", "[dataset]", 'use = "environments.datasets.tables:InteractionTables"',
        f'path = "{folder.as_posix()}"', 'interactions = "log.csv"', 'split = "random"', "test_share = 0.3",
        "[decision]", 'use = "agents.calibrated:CalibratedDecisions"', "language_model = false", 'hide = "random"',
    ]  # fmt: skip
    file = folder / "small.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    found = shelf.measure(configuration.read(file))
    assert set(found["accuracy_1_1_baselines"]) == {COUNTS, "biases", "ItemKNN", "EASE"}
    assert found["lift_over_counts"] == found["accuracy_1_1"] - found["accuracy_1_1_baselines"][COUNTS]
    assert found["lift_1_1"] == found["accuracy_1_1"] - max(found["accuracy_1_1_baselines"].values())
    assert found["rmse_svdpp"] is None
    assert "results/benchmarks/ratings.json" in found["rmse_svdpp_note"]
    assert found["held_out_users"] == 27
    # two halves of the items: a taste tells them apart
    assert found["auc_matched"] > 0.6
    assert found["low"] <= found["auc_matched"] <= found["high"]
    assert found["best_baseline"] in found["baselines"]
    assert found["lift"] == pytest.approx(found["auc_matched"] - found["baselines"][found["best_baseline"]])
    assert found["lift_pairs"] == pytest.approx(found["auc_pairs"] - found["baselines_pairs"][found["best_baseline_pairs"]])
    assert 0.5 < found["rmse"] < 1.5
    assert set(found["choose_rate_got"]) == {"Random", "Popularity", "ItemKNN", "EASE", "BPR"}
    assert {"popularity", "ratings"} <= set(found["variance_ratio"])
    assert shelf.table({"data": {"small": found, "other": {"not_measured": "it is not there"}}})[1]["users"] == "it is not there"


def test_one_cut_in_time_has_the_same_keys_and_null_where_there_is_nothing(folder, tmp_path):
    assert shelf.with_later({"lift": 0.1}, None) == {"lift": 0.1, "global_time": None}
    found = shelf.with_later({"lift": 0.1, "rmse": 0.9}, {"not_measured": "nobody came back", "seconds": 2.0})
    assert found == {
        "lift": 0.1,
        "rmse": 0.9,
        "global_time": {"lift": None, "rmse": None, "not_measured": "nobody came back", "seconds": 2.0},
    }
    assert shelf.with_later({"lift": 0.1}, {"rmse": 0.9})["rmse"] is None
    pl.read_csv(folder / "log.csv").drop("timestamp").write_csv(tmp_path / "log.csv")
    lines = ['name = "small"', "[dataset]", 'use = "environments.datasets.tables:InteractionTables"', f'path = "{tmp_path.as_posix()}"']
    lines += ['interactions = "log.csv"', 'split = "random"', "[decision]", 'use = "agents.calibrated:CalibratedDecisions"']
    (tmp_path / "small.toml").write_text("\n".join([*lines, "language_model = false", 'hide = "random"']), encoding="utf-8")
    assert shelf.at_one_moment(configuration.read(tmp_path / "small.toml")) is None


def test_the_file_of_the_shelf_has_one_cut_in_time_and_subsamples_of_users(tmp_path, monkeypatch):
    def measured(config, users=None):
        if config.dataset.split == "global_time" and users == 5:
            raise DataError("nobody came back.")
        return {"lift": 0.1, "held_out_users": users}

    monkeypatch.setattr(shelf, "measure", measured)
    monkeypatch.setattr(build, "dataset", lambda config: SimpleNamespace(has_times=config.name != "lastfm"))
    monkeypatch.setattr(shelf, "experiment", lambda name, folder: configuration.read(shelf.CONFIGS / f"{name}.toml"))
    found = shelf.run(tmp_path, ("ml-100k", "lastfm"), tmp_path / "all.json", lambda text: None)["data"]
    assert found["lastfm"]["global_time"] is None
    assert found["ml-100k"]["global_time"].keys() == found["ml-100k"].keys() - {"global_time"}
    found = shelf.run(tmp_path, ("ml-100k",), tmp_path / "some.json", lambda text: None, (5, 9))["data"]
    assert {name: one["held_out_users"] for name, one in found.items()} == {"ml-100k-5": 5, "ml-100k-9": 9}
    assert found["ml-100k-5"]["global_time"]["not_measured"] == "nobody came back."
    assert found["ml-100k-5"]["global_time"]["lift"] is None


def test_accuracy_stands_at_each_ways_own_most_accurate_threshold():
    """At the thresholds of F1, all would be called chosen by either way, and half be right."""
    chosen = [True, False, True, True, True, False, False, False]
    kinds = ["positive" if one else "random" for one in chosen]
    ranks = [0, 0, 1, 2, 3, 1, 2, 3]
    table = pl.DataFrame({"user": [0] * 8, "item": range(8), "kind": kinds, "rank": ranks}).cast({"user": pl.Int32, "item": pl.Int32})
    part = Part(None, {}, table)
    known = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    better = np.array([0.9, 0.1, 30.0, 0.1, 0.1, 0.1, 0.1, 0.1])
    ways = [Scored(COUNTS, {}, "raw", known), Scored("EASE", {"l2": 50.0}, "raw", better)]
    found = accuracy.of_baselines(part, part, {one.name: one for one in ways}, ways)
    assert found == {COUNTS: 5 / 8, "EASE": 6 / 8}
    assert accuracy.lifts(0.875, found) == {
        "accuracy_1_1": 0.875,
        "accuracy_1_1_counts": 5 / 8,
        "accuracy_1_1_baselines": found,
        "lift_over_counts": 0.25,
        "best_baseline_1_1": "EASE",
        "lift_1_1": 0.125,
    }


def test_a_subsample_has_its_users_and_their_items_only(folder):
    data = InteractionTables(InteractionTables.Config(path=folder, interactions="log.csv")).load()
    small, large = shelf_data.of_users(data, 10, 7), shelf_data.of_users(data, 30, 7)
    assert (small.n_users, large.n_users) == (10, 30)
    assert set(small.users["user_id"]) < set(large.users["user_id"])
    assert small.interactions["item"].n_unique() == small.n_items
    own = {item for (item,) in small.interactions.join(small.catalog.items, on="item").select("item_id").rows()}
    log = pl.read_csv(folder / "log.csv").filter(pl.col("user_id").is_in(small.users["user_id"].to_list()))
    assert own == set(log["item_id"])
    assert small.interactions.height == log.height
    assert set(shelf_data.of_users(data, 10, 8).users["user_id"]) != set(small.users["user_id"])
    with pytest.raises(DataError, match=r"--users 91.* has 90 users"):
        shelf_data.of_users(data, 91, 7)


def test_every_experiment_of_the_shelf_can_be_read_and_differs_in_names_only():
    allowed = {"path", "use", "interactions", "items", "columns", "separator", "weight", "domain", "encoding", "item_genres"}
    allowed |= {"item_genre_columns", "genre_names", "genre_ids", "genres", "duplicates", "list_separator", "split", "test_share"}
    allowed |= {"timestamp", "time_format"}
    for name in shelf.SETS:
        document = configuration.document(shelf.CONFIGS / f"{name}.toml")
        assert set(document["dataset"]) <= allowed
        assert {key: document[key] for key in ("seed", "decision")} == {
            "seed": 7,
            "decision": {"use": "agents.calibrated:CalibratedDecisions", "language_model": False, "hide": "random"},
        }


def test_tables_are_made_of_sequences(tmp_path):
    source = tmp_path / "beauty"
    source.mkdir()
    (source / "titles_order.txt").write_text("1 10 11\n2 11 12 10\n", encoding="utf-8")
    titles = {"id2title": {"10": "Soap, green", "11": "Comb", "12": "Brush"}}
    paths = {"id2category": {"10": [["Beauty", "Soap | Wash", "Beauty"]], "11": [["Beauty"]], "12": []}}
    (source / "title_maps.json").write_text(json.dumps(titles), encoding="utf-8")
    (source / "category_map.json").write_text(json.dumps(paths), encoding="utf-8")
    shelf_data.from_sequences(source, tmp_path / "made")
    log = pl.read_csv(tmp_path / "made" / "interactions.csv", infer_schema=False)
    assert log.rows() == [("1", "10"), ("1", "11"), ("2", "11"), ("2", "12"), ("2", "10")]
    items = pl.read_csv(tmp_path / "made" / "items.csv", infer_schema=False)
    assert items.row(0) == ("10", "Soap, green", "Beauty|Soap / Wash")
    (source / "title_maps.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="id2title"):
        shelf_data.from_sequences(source, tmp_path / "made")
    with pytest.raises(DataError, match=r"sequences\.txt"):
        shelf_data.from_sequences(tmp_path, tmp_path / "made")


def test_tables_are_made_of_recboles_sequences(tmp_path):
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    (tmp_path / "Toys.test.inter").write_text(header + "0\t0 1\t2\n1\t2\t0\n", encoding="utf-8")
    (tmp_path / "Toys.item2index").write_text("A\t0\nB\t1\nC\t2\n", encoding="utf-8")
    (tmp_path / "Toys.text").write_text("item_id:token\ttext:token_seq\nA\tA ball.\nC\tA kite.\nZ\tUnknown.\n", encoding="utf-8")
    shelf_data.from_recbole(tmp_path, tmp_path / "made")
    assert pl.read_csv(tmp_path / "made" / "interactions.csv").rows() == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 0)]
    assert pl.read_csv(tmp_path / "made" / "items.csv").rows() == [(0, "A ball."), (2, "A kite.")]
    with pytest.raises(DataError, match="no file"):
        shelf_data.from_recbole(tmp_path / "made", tmp_path / "other")
