"""An augmentation from the command to the table: leaks, resuming, arms, the size control, errors."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from experiments import build
from experiments import config as configuration
from experiments.augmentation import augment as augmentation
from experiments.augmentation import cells, strata, synthetic
from experiments.cli import call

CONFIG = """
name = "films"
seed = 3
language_model = false
[dataset]
path = "{data}"
split = "temporal"
test_share = 0.25
[population]
users = "all"
[memory]
use = "agents.memory:NoMemory"
[decision]
use = "agents.calibrated:CalibratedDecisions"
language_model = false
among = "recommended"
typical_pages = 4.0
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 4
max_pages = 4
[augmentation]
seeds = 2
doses = [0.2, 0.5]
least_fidelity = 0.4
[augmentation.recommenders.popularity]
use = "environments.recommenders.popularity:Popularity"
[augmentation.recommenders.item-knn]
use = "environments.recommenders.item_knn:ItemKNN"
neighbours = 8
"""


@pytest.fixture(scope="module", autouse=True)
def _quick(tmp_path_factory):
    """Runs draw figures at their end, which have tests of their own; weights are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.analysis.report.write_report", lambda _: None)
        patch.setenv("USERSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write_config(folder, data):
    file = folder / "films.toml"
    file.write_text(CONFIG.format(data=data), encoding="utf-8")
    return file


def silent(what, done, total):
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("augment")
    config = augmentation.checked(configuration.read(write_config(folder, film_files)))
    return config, folder / "made", augmentation.augment(config, folder / "made", 1, silent)


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.parquet")) if "arms" not in file.parts}


def test_every_source_dose_and_stratum_of_every_recommender_has_a_row(finished):
    config, _, document = finished
    found = {(row["recommender"], row["source"], row["dose"], row["stratum"]) for row in document["rows"]}
    sources = ("duplicated", *config.augmentation.sources)
    arms = [("real", 0.0), ("alone", 1.0), *((source, dose) for source in sources for dose in (0.2, 0.5))]
    assert found == {(name, *arm, stratum) for name in ("popularity", "item-knn") for arm in arms for stratum in strata.STRATA}
    assert len(found) == len(document["rows"])


def test_gains_are_differences_of_the_ndcgs_and_lie_in_their_intervals(finished):
    _, _, document = finished
    ndcg = {(r["recommender"], r["source"], r["dose"], r["stratum"]): r["ndcg"]["value"] for r in document["rows"]}
    for row in document["rows"]:
        gain = row.get("gain_over_duplicated")
        if gain and gain["value"] is not None:
            mine = ndcg[row["recommender"], row["source"], row["dose"], row["stratum"]]
            assert gain["value"] == pytest.approx(mine - ndcg[row["recommender"], "duplicated", row["dose"], row["stratum"]])
            assert gain["low"] <= gain["value"] <= gain["high"]
    assert any(row["source"] == "confidence" and row["gain_over_duplicated"]["value"] != 0 for row in document["rows"])


def test_what_people_chose_is_compared_with_as_much_that_nobody_chose(finished):
    _, _, document = finished
    for row in document["rows"]:
        gains = {key.removeprefix("gain_over_") for key in row if key.startswith("gain_over_")}
        of_people = row["source"] in ("synthetic", "confidence", "fidelity")
        assert gains == (
            {"duplicated", "real", "exposure", "evidence"}
            if of_people
            else {"duplicated", "real"}
            if row["source"] in ("exposure", "evidence")
            else {"real"}
            if row["source"] in ("duplicated", "alone")
            else set()
        )


def test_doses_are_met_as_far_as_there_are_rows(finished):
    config, folder, document = finished
    total = document["training_interactions"]
    added = {(row["source"], row["dose"]): row["added"] for row in document["rows"]}
    for dose in (0.2, 0.5):
        for source in ("duplicated", "evidence", "exposure"):
            assert added[source, dose] == round(dose * total)
        assert 0 < added["confidence", dose] <= round(dose * total)
    worker = cells.Worker(config, folder, {seed: folder / "arms" / f"seed-{seed}" for seed in (3, 4)})
    rows, more = worker.training_rows(cells.Cell(3, "popularity", "confidence", 0.2))
    assert rows.height == total + more


def test_synthetic_rows_are_no_repetition_of_real_ones(finished):
    config, folder, _ = finished
    train = build.data(cells.of_seed(config, 3)).train
    shown = synthetic.shown(folder / "arms" / "seed-3", train)
    assert shown.join(train.interactions, on=("user", "item"), how="semi").is_empty()
    assert not shown.select("user", "item").is_duplicated().any()
    assert 0 < shown["chosen"].sum() < shown.height
    places = shown.group_by("user", maintain_order=True).agg("place")["place"].to_list()
    assert all(place == sorted(place) for place in places)


def test_held_out_interactions_change_no_synthetic_row_and_nothing_that_is_trained_on(finished, film_files, tmp_path):
    """The items and ratings of everything that is held out are exchanged for others, in the file itself."""
    config, folder, _ = finished
    parts = build.data(cells.of_seed(config, 3))
    changed = tmp_path / "changed"
    shutil.copytree(film_files, changed)
    ids, people = parts.train.catalog.item_ids, parts.train.users["user_id"].to_list()
    held_out = {(people[row["user"]], ids[row["item"]]) for row in parts.test.iter_rows(named=True)}
    free = {}
    for user, items in parts.train.interactions.group_by("user").agg("item").iter_rows():
        own = {ids[item] for item in items}
        free[people[user]] = [item for item in ids if item not in own and (people[user], item) not in held_out]
    lines, exchanged = [], 0
    for line in (changed / "u.data").read_text().splitlines():
        user, item, rating, time = line.split("\t")
        if (user, item) in held_out:
            item, rating, exchanged = free[user].pop(), str(6 - int(rating)), exchanged + 1
        lines.append("\t".join((user, item, rating, time)))
    assert exchanged == parts.test.height > 0
    (changed / "u.data").write_text("\n".join(lines) + "\n")
    other = augmentation.checked(configuration.read(write_config(tmp_path, changed), ["augmentation.seeds=1"]))
    assert not build.data(cells.of_seed(other, 3)).test.equals(parts.test)
    augmentation.augment(other, tmp_path / "made", 1, silent)
    for name in ("shown", "fidelity", "evidence", "strata"):
        before, after = (pl.read_parquet(cells.seed_folder(place, 3) / f"{name}.parquet") for place in (folder, tmp_path / "made"))
        assert before.equals(after), name
    runs = [{3: place / "arms" / "seed-3"} for place in (folder, tmp_path / "made")]
    workers = [cells.Worker(config, folder, runs[0]), cells.Worker(other, tmp_path / "made", runs[1])]
    for cell in cells.cells_of(other):
        before, after = (worker.training_rows(cell)[0] for worker in workers)
        assert before.equals(after), cell


def test_an_interrupted_augmentation_goes_on_and_ends_with_the_same_files(finished, tmp_path):
    config, folder, document = finished
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    whole = files(again)
    lost = [cells.Cell(3, "item-knn", "confidence", 0.5).file(again), cells.Cell(4, "popularity", "real", 0.0).file(again)]
    kept = cells.Cell(3, "popularity", "synthetic", 0.2).file(again)
    for file in (*lost, again / augmentation.FILE, cells.seed_folder(again, 4) / "shown.parquet"):
        file.unlink()
    then = kept.stat().st_mtime_ns
    assert augmentation.augment(config, again, 2, silent) == document
    assert kept.stat().st_mtime_ns == then
    assert files(again) == whole


def test_the_size_control_adds_as_many_rows_of_people_who_are_nobody(finished):
    config, folder, _ = finished
    worker = cells.Worker(config, folder, {3: folder / "arms" / "seed-3"})
    rows, added = worker.training_rows(cells.Cell(3, "popularity", "duplicated", 1.0))
    real = build.data(cells.of_seed(config, 3)).train.interactions
    assert added == real.height
    assert rows.head(real.height).equals(real)
    assert rows.tail(added)["user"].min() >= 24
    assert set(rows.tail(added)["item"]) <= set(real["item"])


def test_strata_are_counted_in_the_training_part(finished):
    config, _, document = finished
    train = build.data(cells.of_seed(config, 3)).train
    made = strata.Strata.of(train, config.augmentation)
    counts = np.bincount(train.interactions["user"].to_numpy(), minlength=train.n_users)
    assert made.cold_users.tolist() == (counts <= document["cold_users_have_at_most"]).tolist()
    assert 0 < made.cold_users.sum() < train.n_users
    of_item = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items)
    assert of_item[made.items["tail_items"]].max() <= of_item[made.items["head_items"]].min()
    assert of_item[made.items["tail_items"]].sum() <= 0.2 * of_item.sum()
    assert (made.items["cold_items"] == (of_item <= 5)).all()


def test_ndcg_of_a_stratum_counts_only_its_items():
    masks = {name: np.array([True, True, False, False]) for name in strata.OF_ITEMS}
    masks["tail_items"] = np.array([False, False, True, True])
    made = strata.Strata(np.array([True]), 1, masks)
    found = strata.per_person(np.array([[0, 2]]), [np.array([2])], made, 2)
    assert np.isnan(found["head_items"][0])
    assert found["tail_items"][0] == pytest.approx(1 / np.log2(3))


def test_the_command_shows_tables_writes_a_figure_and_a_benchmark(finished, film_files, tmp_path, capsys, monkeypatch):
    _, folder, document = finished
    file = write_config(tmp_path, film_files)
    monkeypatch.chdir(tmp_path)
    assert call(["augment", str(file), "--output", str(folder), "--workers", "1", "--benchmark", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == document["rows"]
    assert json.loads((tmp_path / "results/benchmarks/augmentation.json").read_text()) == [document]
    assert (folder / "figures" / "dose-curve.png").read_bytes().startswith(b"\x89PNG")
    assert call(["augment", str(file), "--output", str(folder), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "+ confidence 20%" in out
    assert "people with at most" in out


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["augmentation.dose=1"], "dose"),
        (["augmentation.doses=[]"], "doses"),
        (['augmentation.sources=["luck"]'], "sources"),
        (["augmentation.doses=[0.5,0.5]"], "0.5 stands twice; name each once"),
        (['augmentation.recommenders.mine.use="no.such:Thing"'], "there is no module"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(film_files, tmp_path, capsys, overrides, sentence):
    options = [part for override in overrides for part in ("--set", override)]
    assert call(["augment", str(write_config(tmp_path, film_files)), "--output", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_more_doses_and_recommenders_keep_the_cells_that_are_there(finished, film_files, tmp_path):
    config, folder, _ = finished
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    whole = files(again)
    more = [
        "augmentation.seeds=1",
        "augmentation.doses=[0.2,0.3]",
        "augmentation.recommenders.chance.use=environments.recommenders.random:Random",
    ]
    other = augmentation.checked(configuration.read(write_config(tmp_path, film_files), more))
    document = augmentation.augment(other, again, 1, silent)
    assert {row["dose"] for row in document["rows"]} == {0.0, 0.2, 0.3, 1.0}
    assert {row["recommender"] for row in document["rows"]} == {"popularity", "item-knn", "chance"}
    now = files(again)
    assert {name: now[name] for name in whole} == whole
    assert augmentation.default_folder(config).parent == augmentation.default_folder(other).parent


def test_a_folder_with_other_settings_or_other_things_is_left_alone(finished, film_files, tmp_path, capsys):
    _, folder, _ = finished
    file = write_config(tmp_path, film_files)
    assert call(["augment", str(file), "--output", str(folder), "--set", "augmentation.k=5"]) == 2
    assert "augmentation.k = 10, and now 5 is wanted" in capsys.readouterr().err
    assert call(["augment", str(file), "--output", str(tmp_path)]) == 2
    assert "no augmentation" in capsys.readouterr().err
