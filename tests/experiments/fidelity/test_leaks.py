"""What leaks buy: what is known under each cut, and that it buys something where there is something to buy."""

import numpy as np
import polars as pl
import pytest

from environments.datasets.tables import InteractionTables
from experiments import config as configuration
from experiments.fidelity import leaks, one_moment
from experiments.fidelity.headline import headline
from experiments.fidelity.leaks import HONEST, PER_USER, POPULARITY, PROFILES, RANDOM, training_rows
from simulator.errors import ConfigError, DataError
from simulator.seeds import Stream

USERS, ITEMS, END = 80, 60, 1_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Users who like one of two halves of the items and come before and after a moment; other items are popular after it."""
    place = tmp_path_factory.mktemp("leaks")
    generator = Stream(4).child("world").generator()
    fashion = generator.permutation(np.linspace(-1.5, 1.5, ITEMS))
    rows = []
    for user in range(USERS):
        taste = 2.0 * (np.arange(ITEMS) % 2 == user % 2)
        early = np.argsort(-(taste + fashion + generator.gumbel(size=ITEMS)))[:12]
        late_utility = taste - fashion + generator.gumbel(size=ITEMS)
        late_utility[early] = -np.inf
        for number, item in enumerate([*early.tolist(), *np.argsort(-late_utility)[:10].tolist()]):
            time = END - 12 + number if number < 12 else END + 1 + number
            rows.append((f"u{user}", f"i{item}", int(generator.integers(2, 6)), time))
    pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row").write_csv(place / "log.csv")
    return place


def config_of(folder, *more):
    file = folder / "small.toml"
    lines = [
        'name = "small"', "seed = 7", "[dataset]", 'use = "environments.datasets.tables:InteractionTables"',
        f'path = "{folder.as_posix()}"', 'interactions = "log.csv"', *more,
        "[decision]", 'use = "agents.calibrated:CalibratedDecisions"', "language_model = false",
    ]  # fmt: skip
    file.write_text("\n".join(lines), encoding="utf-8")
    return configuration.read(file)


def test_what_is_known_under_each_cut(folder):
    data = InteractionTables(InteractionTables.Config(path=folder, interactions="log.csv")).load()
    rows = data.interactions
    people = np.arange(20)
    held_out = leaks._held_out(data, END, people, Stream(1))
    judged = rows.filter(pl.Series(held_out))
    assert judged.group_by("user").len()["len"].to_list() == [5] * 20
    assert judged["timestamp"].min() > END
    known = training_rows(data, END, people, held_out, Stream(2))
    before = rows.filter(pl.col("timestamp") <= END)
    assert known[HONEST].equals(before)
    pairs = judged.select("user", "item")
    for cut, learned in known.items():
        assert learned.join(pairs, on=["user", "item"], how="inner").is_empty(), "what is judged is known under no cut"
        assert before.join(learned, on=["user", "item"], how="anti").is_empty(), "what happened before is known under all"
        assert learned["user"].is_sorted()
        mine = learned.filter(pl.col("user").is_in(people) & (pl.col("timestamp") > END))
        assert mine.height == (20 * 5 if cut == RANDOM else 0)
    later = rows.filter(~pl.col("user").is_in(people) & (pl.col("timestamp") > END))
    dealt = known[POPULARITY].filter(pl.col("timestamp") > END)
    counts, real = (np.bincount(table["item"].to_numpy(), minlength=ITEMS) for table in (dealt, later))
    assert dealt.height > 0.7 * later.height
    assert np.corrcoef(counts, real)[0, 1] > 0.9, "popularity is told"
    assert dealt.join(later, on=["user", "item"], how="inner").height < 0.5 * dealt.height, "and not who chose what"
    # a fifth of the 22 rows of each of the 60 others
    assert known[PER_USER].height == before.height + 60 * (10 - 4)


@pytest.fixture(scope="module")
def found(folder):
    return leaks.measure(config_of(folder), lambda what: None, (0.5,))


def test_leaks_buy_what_there_is_to_buy(found):
    assert found["users"] == USERS
    cuts = found["cuts"]
    assert list(cuts) == list(leaks.CUTS)
    counts = {cut: line[leaks.COUNTS]["auc_pairs"] for cut, line in cuts.items()}
    assert counts[HONEST]["value"] == pytest.approx(0.5, abs=0.1)
    for who in (leaks.USERS, leaks.EASE, leaks.COUNTS):
        for figure in leaks.FIGURES:
            assert cuts[PROFILES][who][figure]["gain"]["people"] == USERS
    assert "gain" not in cuts[HONEST][leaks.USERS]["auc_matched"]
    assert cuts[PROFILES][leaks.COUNTS]["auc_pairs"]["gain"]["value"] == 0.0
    assert cuts[HONEST][leaks.USERS]["rmse"]["value"] > 0
    rows = leaks.table({"data": {"small": found, "other": {"not_measured": "no times"}}})
    assert [row["cut"] for row in rows] == [*leaks.CUTS, "no times"]


def test_data_without_times_or_users_who_come_back_cannot_be_judged(folder):
    with pytest.raises(DataError, match="what leaks buy needs a timestamp"):
        leaks.measure(config_of(folder, 'timestamp = ""'), lambda what: None)
    with pytest.raises(DataError, match="nobody in data set 'log' has 5 interactions before"):
        leaks.measure(config_of(folder), lambda what: None, (0.01,))


def test_a_report_without_another_cut_says_why(folder):
    class Context:
        config = config_of(folder, 'split = "global_time"')
        train = InteractionTables(InteractionTables.Config(path=folder, interactions="log.csv")).load()

    with pytest.raises(ConfigError, match="the report's own split is at one moment"):
        one_moment.measure(Context())


def test_headline_figures_under_one_cut_stand_beside_the_others(folder):
    class Context:
        config = config_of(folder, 'split = "temporal"')
        train = InteractionTables(InteractionTables.Config(path=folder, interactions="log.csv")).load()

    found = one_moment.measure(Context())
    lines = headline({"one_moment": found}, "experiment", ["experiment"])
    for key, value in (("auc_matched", "auc_matched"), ("lift", "lift"), ("pairs", "auc_pairs"), ("rmse", "rmse")):
        assert lines[f"one_moment_{key}"]["value"] == found[value]
    assert lines["one_moment_auc_matched"]["controls"] == found["baselines"]
    assert lines["one_moment_rmse"]["controls"] == {"biases": found["rmse_biases"]}
    assert lines["one_moment_accuracy_1_1"]["controls"] == {"counts": found["accuracy_1_1_counts"]}
    assert lines["one_moment_lift"]["low"] == found["lift_low"]
    told = headline({"one_moment": {"not_measured": "no times"}}, "experiment", ["experiment"])
    assert told["one_moment_auc_matched"]["value"] is None
