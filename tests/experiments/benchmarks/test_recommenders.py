import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from environments.recommenders.popularity import Popularity
from experiments.benchmarks import recommender_protocols as protocols
from experiments.benchmarks import recommenders
from simulator.errors import DataError
from simulator.plugins import resolve
from simulator.seeds import Stream


@pytest.fixture
def made_up(tmp_path):
    """Files in the layout of the original data: 30 people, 60 items."""
    rng = Stream(3).generator()
    pairs = [(user, item) for user in range(30) for item in rng.permutation(60)[:20]]
    rows = [(user, item, 1 + (user * item) % 5, 1_000 * user + place) for place, (user, item) in enumerate(pairs)]
    for name in ("ml-100k", "ml-1m/ncf-loo", "lastfm-hetrec-2k"):
        (tmp_path / name).mkdir(parents=True)
    order = rng.permutation(len(rows))
    lines = [f"{u + 1}\t{i + 1}\t{r}\t{t}\n" for u, i, r, t in (rows[place] for place in order)]
    (tmp_path / "ml-100k/u.data").write_text("".join(lines))
    (tmp_path / "ml-1m/ratings.dat").write_text("".join(f"{u + 1}::{i + 100}::{r}::{t}\n" for u, i, r, t in rows))
    listens = "".join(f"{u + 2}\t{i + 51}\t7\n" for u, i, _, _ in rows)
    (tmp_path / "lastfm-hetrec-2k/user_artists.dat").write_text("userID\tartistID\tweight\n" + listens)
    codes = {item: code for code, item in enumerate(dict.fromkeys(i for _, i, _, _ in rows))}
    owned = {user: [codes[i] for u, i, _, _ in rows if u == user] for user in range(30)}
    tests = {user: items[0] for user, items in owned.items()}
    (tmp_path / "ml-1m/ncf-loo/ml-1m.test.rating").write_text("".join(f"{user}\t{item}\t5\t0\n" for user, item in tests.items()))
    with gzip.open(tmp_path / "ml-1m/ncf-loo/ml-1m.test.negative.gz", "wt") as file:
        for user, item in tests.items():
            negatives = [other for other in range(60) if other not in owned[user]][:15]
            file.write("\t".join([f"({user},{item})", *map(str, negatives)]) + "\n")
    return tmp_path


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_every_protocol_divides_all_interactions_and_no_pair_is_on_both_sides(made_up, name):
    parts = protocols.PROTOCOLS[name].divide(made_up)
    whole = pl.concat((parts.train, parts.valid, parts.test))
    assert whole.select("user", "item").is_duplicated().sum() == 0
    if name != "ml-1m-811":
        assert whole.height == 600
    else:
        assert whole["rating"].min() == 3
    assert whole["item"].max() < parts.n_items == len(parts.catalog())
    shares = [part.height / whole.height for part in (parts.train, parts.valid, parts.test)]
    wanted = {"811": (0.8, 0.1, 0.1), "75": (0.75, 0, 0.25)}.get(name.rsplit("-", 1)[-1], (0.95, 0, 0.05))
    np.testing.assert_allclose(shares, wanted, atol=0.05)


def test_the_last_one_out_is_the_newest(made_up):
    parts = protocols.last_one_out(made_up)
    newest = parts.train.group_by("user").agg(pl.col("timestamp").max()).join(parts.test, on="user")
    assert newest.height == 30
    assert (newest["timestamp"] < newest["timestamp_right"]).all()


def test_candidates_are_ranked_by_the_recommender_and_counted_once(made_up):
    protocol = protocols.PROTOCOLS["ncf-loo"]
    parts = protocol.divide(made_up)
    doubled = protocols.Parts(
        parts.train, parts.valid, parts.test, parts.n_items, np.column_stack((parts.candidates, parts.candidates[:, 0]))
    )
    popularity = Popularity()
    popularity.fit(parts.train, parts.catalog(), Stream(0))
    counts = np.bincount(parts.train["item"].to_numpy(), minlength=60) - 1e-6 * np.arange(60)
    ranks = (counts[parts.candidates[:, 1:]] > counts[parts.candidates[:, :1]]).sum(axis=1)
    measured = protocols.measure(popularity, protocol, parts, knows_valid=False)
    assert measured["HR@10"] == pytest.approx((ranks < 10).mean())
    assert measured["NDCG@10"] == pytest.approx(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())
    assert protocols.measure(popularity, protocol, doubled, knows_valid=False)["NDCG@10"] <= measured["NDCG@10"]


@pytest.mark.parametrize("knows_valid", [True, False])
def test_items_of_the_validation_part_are_never_ranked(made_up, knows_valid):
    protocol = protocols.PROTOCOLS["lastfm-811"]
    parts = protocol.divide(made_up)
    popularity = Popularity()
    popularity.fit(parts.train, parts.catalog(), Stream(0))
    measured = protocols.measure(popularity, protocol, parts, knows_valid=knows_valid)
    counts = np.bincount(parts.train["item"].to_numpy(), minlength=parts.n_items)
    recalls = []
    for user in range(30):
        seen = [*parts.train.filter(user=user)["item"], *parts.valid.filter(user=user)["item"]]
        shown = [item for item in np.argsort(-counts, kind="stable") if item not in seen][:10]
        wanted = parts.test.filter(user=user)["item"].to_list()
        recalls.append(len(set(shown) & set(wanted)) / len(wanted))
    assert measured["Recall@10"] == pytest.approx(np.mean(recalls))


def test_a_model_that_is_run_again_replaces_its_own_rows_only(made_up, tmp_path, capsys):
    file = tmp_path / "rows.json"
    elsewhere = {"dataset": "ML-1M", "protocol": "leave one out, 99 negatives", "model": "NeuMF", "metric": "HR@10", "published": 0.712}
    old = {**elsewhere, "dataset": "ML-100K", "protocol": "random 75/25", "model": "Popularity", "metric": "gone"}
    file.write_text(json.dumps([elsewhere, old]))
    arguments = [str(made_up), "--protocol", "random-75", "--only", "Popularity", "--output", str(file)]
    assert recommenders.main(arguments) == 0
    first = json.loads(file.read_text())
    assert elsewhere in first
    assert [row["metric"] for row in first if row["model"] == "Popularity"] == ["MAP@10", "nDCG@10", "P@10", "R@10"]
    assert set(first[0]) == {"dataset", "protocol", "model", "metric", "published", "ours", "tolerance", "seconds"}
    recommenders.main(arguments)
    again = json.loads(file.read_text())
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in first]
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_packed_parts_are_measured_as_the_data_they_came_from(made_up, tmp_path, name):
    packed = tmp_path / "packed"
    assert recommenders.main([str(made_up), "--protocol", name, "--pack", str(packed)]) == 0
    parts, again = protocols.PROTOCOLS[name].divide(made_up), protocols.unpacked(packed / f"{name}.npz")
    for part in ("train", "valid", "test"):
        there, here = getattr(parts, part), getattr(again, part)
        assert there.schema == here.schema
        assert there.drop("rating").equals(here.drop("rating"))
    assert again.n_items == parts.n_items
    np.testing.assert_array_equal(again.candidates, parts.candidates)
    target = recommenders.Target(name, "Popularity")
    first, second = (recommenders.run(target, folder) for folder in (made_up, packed))
    assert [{**row, "seconds": 0} for row in first] == [{**row, "seconds": 0} for row in second]


def test_models_of_a_file_run_at_once_each_for_its_time_only(made_up, tmp_path, capsys):
    small = {"dimension": 4, "max_length": 8}
    tried = [
        {"protocol": "loo", "model": "SASRec", "label": "SASRec, cut", "options": small},
        {"protocol": "stratified-75", "model": "BPR", "options": {"dimension": 4}},
    ]
    (tmp_path / "tried.json").write_text(json.dumps(tried))
    arguments = [str(made_up), "--try", str(tmp_path / "tried.json"), "--output", str(tmp_path / "rows.json")]
    assert recommenders.main([*arguments, "--jobs", "2", "--seconds", "0", "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["model"] for row in rows] == ["BPR"] * 3 + ["SASRec, cut"] * 2
    assert "SASRec, cut" in capsys.readouterr().out
    recommenders.main([*arguments, "--only", "BPR", "--epochs", "10"])
    assert "BPR         epoch 10, loss" in capsys.readouterr().err


def test_the_table_of_the_readme_is_that_of_the_results():
    root = Path(__file__).resolve().parents[3]
    rows = json.loads((root / "results/benchmarks/recommenders.json").read_text())
    text = (root / "README.md").read_text()
    assert text == recommenders.with_table(text, rows), "run python -m experiments.benchmarks.recommenders --readme README.md"


def test_the_table_says_what_was_reached(tmp_path, capsys):
    row = {"dataset": "A", "protocol": "b", "model": "C", "metric": "m", "published": 0.2, "ours": 0.19, "tolerance": "-5 %", "seconds": 1}
    rows = [row, {**row, "metric": "n", "published": None}, {**row, "model": "D", "ours": 0.1}]
    lines = recommenders.table(rows).splitlines()
    assert lines[2:] == ["| A, b | C | m 0.1900 (0.2000), n 0.1900 | yes, within -5 % |", "| A, b | D | m 0.1000 (0.2000) | no |"]
    (tmp_path / "README.md").write_text("no marks")
    (tmp_path / "rows.json").write_text("[]")
    assert recommenders.main(["--readme", str(tmp_path / "README.md"), "--output", str(tmp_path / "rows.json")]) == 2
    assert "the README has no lines" in capsys.readouterr().err


def test_every_target_and_every_trial_has_options_that_its_model_takes():
    trials = Path(recommenders.__file__).with_name("bert4rec_trials.json")
    tried = [recommenders.Target(**target) for target in json.loads(trials.read_text())]
    for target in (*recommenders.TARGETS, *tried):
        use = f"environments.recommenders.{recommenders.USE[target.model]}"
        assert resolve(use, target.options, where="recommender", methods=recommenders.METHODS).items() >= target.options.items()
    names = [(target.protocol, target.label or target.model) for target in (*recommenders.TARGETS, *tried)]
    assert len(set(names)) == len(names)


def test_tolerances_are_two_sided_numbers_or_shares_below():
    row = {"published": 0.2, "tolerance": "0.001"}
    assert recommenders.reached({**row, "ours": 0.199})
    assert not recommenders.reached({**row, "ours": 0.2011})
    row["tolerance"] = "-5 %"
    assert recommenders.reached({**row, "ours": 0.9})
    assert recommenders.reached({**row, "ours": 0.19})
    assert not recommenders.reached({**row, "ours": 0.1899})
    assert recommenders.reached({"published": None}) is None


def test_a_missing_file_is_named(tmp_path, capsys):
    with pytest.raises(DataError, match=r"u\.data; give the folder"):
        protocols.ml_100k(tmp_path)
    assert recommenders.main([str(tmp_path), "--only", "EASE"]) == 2
    assert "u.data" in capsys.readouterr().err


def test_the_published_popularity_numbers_are_reached(shared_data):
    rows = recommenders.run(recommenders.TARGETS[0], shared_data)
    assert [recommenders.reached(row) for row in rows] == [True] * 4
