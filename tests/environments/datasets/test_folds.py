"""A split of the data's own: by a second file, or by a column."""

import pytest

from environments.datasets.splits import SplitConfig, split
from environments.datasets.tables import InteractionTables
from experiments import config as configuration
from simulator.errors import ConfigError, DataError
from simulator.seeds import Stream

ROWS = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "z", 4), ("c", "z", 5)]
OWN = SplitConfig(method="own")


def log(folder, folds, name="log.csv"):
    lines = [f"{user},{item},{time},{fold}" for (user, item, time), fold in zip(ROWS, folds, strict=True)]
    (folder / name).write_text("user,item,time,part\n" + "\n".join(lines) + "\n")
    return folder


def load(folder, **options):
    return InteractionTables(InteractionTables.Config(**{"path": folder, "interactions": "log.csv", **options})).load()


def held_out(parts):
    named = parts.test.join(parts.train.users.select("user", "user_id"), on="user")
    return sorted(named.join(parts.train.catalog.items.select("item", "item_id"), on="item").select("user_id", "item_id").rows())


@pytest.mark.parametrize(
    ("folds", "options", "wanted"),
    [
        (["train", "TEST", "valid", "test ", "train"], {}, [("a", "y"), ("b", "z")]),
        ([1, 3, 2, 3, 1], {}, [("a", "y"), ("b", "z")]),
        ([1, 3, 2, 3, 1], {"test_fold": 2}, [("b", "x")]),
        ([1, 3, 2, 3, 1], {"test_fold": [2, 3]}, [("a", "y"), ("b", "x"), ("b", "z")]),
        (["0.0", "1.0", "0", "0", "0"], {}, [("a", "y")]),
    ],
)
def test_a_column_says_what_is_held_out(tmp_path, folds, options, wanted):
    parts = split(load(log(tmp_path, folds), fold="part", **options), OWN, Stream(1))
    assert held_out(parts) == wanted
    assert parts.train.interactions.columns == ["user", "item", "rating", "timestamp"]
    assert parts.train.interactions.height + parts.test.height == len(ROWS)


def test_a_second_file_is_held_out(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\na,x\na,y\nb,x\n")
    (tmp_path / "later.csv").write_text("user,item\nb,y\na,z\n")
    data = load(tmp_path, held_out="later.csv")
    assert held_out(split(data, OWN, Stream(1))) == [("a", "z"), ("b", "y")]
    assert data.understood["held out"] == "2 rows (the file of held-out interactions)"
    (tmp_path / "later.csv").write_text("user,item\nb,y\na,\n")
    with pytest.raises(DataError, match=r"later.csv, line 3, column 'item'"):
        load(tmp_path, held_out="later.csv")
    (tmp_path / "later.csv").write_text("user,thing\nb,y\n")
    with pytest.raises(DataError, match="parts of one table have the same columns"):
        load(tmp_path, held_out="later.csv")


def test_wrong_folds_are_named_with_their_place(tmp_path):
    with pytest.raises(DataError, match=r"line 3, column 'part': found 'tset', allowed is train, validation or test"):
        load(log(tmp_path, ["train", "tset", "test", "train", "train"]), fold="part")
    with pytest.raises(DataError, match=r"line 4, column 'part': found 'x', allowed is a whole number"):
        load(log(tmp_path, [1, 2, "x", 3, 1]), fold="part")
    with pytest.raises(DataError, match=r"line 3, column 'part': found nothing"):
        load(log(tmp_path, ["train", "", "test", "train", "train"]), fold="part")
    with pytest.raises(DataError, match=r"test_fold names 9, which no row has; the column holds 1, 2, 3"):
        load(log(tmp_path, [1, 2, 3, 3, 1]), fold="part", test_fold=9)
    with pytest.raises(DataError, match="the column holds words"):
        load(log(tmp_path, ["train", "test", "test", "train", "train"]), fold="part", test_fold=1)
    skipped = load(log(tmp_path, [1, 2, "x", 3, 1]), fold="part", test_fold=2, on_bad_rows="skip")
    assert skipped.skipped == {"unknown fold": 1}
    assert held_out(split(skipped, OWN, Stream(1))) == [("a", "y")]


def test_a_split_that_cannot_be_used_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match="has no held-out row: all 5 are for training"):
        split(load(log(tmp_path, ["train"] * 5), fold="part"), OWN, Stream(1))
    with pytest.raises(DataError, match="has no training row: all 5 are held out"):
        split(load(log(tmp_path, ["test"] * 5), fold="part"), OWN, Stream(1))
    with pytest.raises(DataError, match="holds out rows of 1 people, none of whom has a training row"):
        split(load(log(tmp_path, ["train", "train", "train", "train", "test"]), fold="part"), OWN, Stream(1))
    with pytest.raises(DataError, match="does not say what is held out"):
        split(load(log(tmp_path, ["train"] * 5)), OWN, Stream(1))


def test_people_of_whom_nothing_is_known_are_counted_in_a_note(tmp_path):
    parts = split(load(log(tmp_path, ["train", "test", "train", "train", "test"]), fold="part"), OWN, Stream(1))
    assert any("1 of 2 people with held-out rows have no training row ('c' first)" in note for note in parts.train.notes)


def test_settings_that_would_not_be_used_are_refused(tmp_path):
    file = log(tmp_path, ["train", "test", "train", "test", "train"]) / "mine.toml"
    text = f"""
    name = "mine"
    [dataset]
    use = "environments.datasets.tables:InteractionTables"
    path = "{tmp_path}"
    interactions = "log.csv"
    fold = "part"
    """
    file.write_text(text)
    with pytest.raises(ConfigError, match="fold says what is held out, and split = 'temporal' would not use it; set split = 'own'"):
        configuration.read(file)
    assert configuration.read(file, ["dataset.split=own"]).dataset.split == "own"
    for options, told in (({"fold": "part", "held_out": "later.csv"}, "keep one of them"), ({"test_fold": 1}, "name that with fold")):
        with pytest.raises(ValueError, match=told):
            InteractionTables.Config(interactions="log.csv", **options)


def test_the_future_that_a_split_gives_away_is_said_and_one_moment_gives_away_none(tmp_path):
    # a's second row (time 2) and b's second (time 4) are held out; of the training rows at 1, 3 and 5 two are later than the first of them
    parts = split(load(log(tmp_path, ["train", "test", "train", "test", "train"]), fold="part", timestamp="time"), OWN, Stream(1))
    note = parts.train.notes[-1]
    assert "67% of its interactions are later than the earliest held-out one, 67% later than the median one" in note
    assert "set dataset.split = 'global_time'" in note
    plain = load(log(tmp_path, ["train"] * 5), timestamp="time")
    for method, data, told in (("temporal", plain, 1), ("global_time", plain, 0), ("random", load(tmp_path, timestamp=""), 0)):
        new = split(data, SplitConfig(method=method, test_share=0.4), Stream(1)).train.notes[len(data.notes) :]
        assert len(new) == told
