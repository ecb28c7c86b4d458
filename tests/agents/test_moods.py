"""What visits of one person have in common beyond the person."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.behaviour import Behaviour
from agents.moods import FILE, Moods, Visit, nested_components
from simulator.dataset import INTERACTIONS_SCHEMA, Catalog, Dataset
from simulator.seeds import Stream

GAP = 1_800.0
N_ITEMS = 200
CUTS = [-2.5, -1.2, 0.1, 1.6]


def log_of_visits(pull: float, n_users: int = 60, n_visits: int = 8, size: int = 12) -> Dataset:
    """People whose visits go for old or for new films: log-odds of `pull` times a normal variable of the visit, per sd of the year."""
    generator = Stream(11).child("moody").generator()
    years = np.arange(N_ITEMS) // 4 + 1950
    z = (years - years.mean()) / years.std()
    rows = []
    for user in range(n_users):
        free = np.ones(N_ITEMS, dtype=bool)
        for visit in range(n_visits):
            weights = np.exp(pull * generator.standard_normal() * z) * free
            drawn = generator.choice(N_ITEMS, size=size, replace=False, p=weights / weights.sum())
            free[drawn] = False
            rows += [(user, item, 3.0, 10**8 + 10**6 * visit + 20 * place) for place, item in enumerate(drawn.tolist())]
    items = {
        "item": pl.Series(np.arange(N_ITEMS), dtype=pl.Int32),
        "item_id": [f"i{item}" for item in range(N_ITEMS)],
        "title": [f"Film {item}" for item in range(N_ITEMS)],
        "year": pl.Series(years, dtype=pl.Int32),
        "genres": [["Drama"]] * N_ITEMS,
        "description": pl.Series([None] * N_ITEMS, dtype=pl.String),
    }
    users = {"user": pl.Series(np.arange(n_users), dtype=pl.Int32), "user_id": [f"u{user}" for user in range(n_users)]}
    known = {
        name: pl.Series([None] * n_users, dtype=kind)
        for name, kind in (("age", pl.Int32), ("gender", pl.String), ("occupation", pl.String))
    }
    table = pl.DataFrame(rows, schema=dict(INTERACTIONS_SCHEMA), orient="row")
    return Dataset("moody", Catalog(pl.DataFrame(items)), pl.DataFrame(users | known), table, (1.0, 5.0))


def visited(stream: Stream) -> Visit:
    return Visit(stream, Stream(8).child("somebody"), 0, np.ones(1))


def moods_of(data: Dataset, whole: bool = False) -> Moods | None:
    return Moods.fit(data, Behaviour.fit(data), GAP, whole)


def spread_over_years(moods: Moods) -> float:
    """Standard deviation between visits of the log-odds that one deviation of the year gains."""
    years = np.arange(N_ITEMS) // 4 + 1950
    z = (years - years.mean()) / years.std()
    drawn = np.array([np.polyfit(z, moods.log_odds(np.arange(N_ITEMS), visited(Stream(1).child(visit))), 1)[0] for visit in range(400)])
    return float(drawn.std())


def test_variance_is_divided_into_that_within_and_that_between_visits():
    generator = np.random.default_rng(4)
    person = np.repeat(np.arange(300), 5)
    visit = np.repeat(np.arange(1_500), generator.integers(2, 12, 1_500))
    values = 3.0 * generator.standard_normal(300)[person][visit] + 0.7 * generator.standard_normal(1_500)[visit]
    values = values + 1.5 * generator.standard_normal(len(visit))
    within, between, edge = nested_components(values[:, None], visit, person)
    assert within[0, 0] == pytest.approx(1.5**2, rel=0.05)
    assert between[0, 0] == pytest.approx(0.7**2, rel=0.2)
    # what chance makes of it stays below the edge
    left = 1.5 * generator.standard_normal(len(visit))
    within, between, edge = nested_components(left[:, None], visit, person)
    assert between[0, 0] / within[0, 0] < edge


def test_as_much_mood_is_found_as_visits_have():
    moody, calm = moods_of(log_of_visits(0.8)), moods_of(log_of_visits(0.0))
    assert moody is not None
    assert calm is not None
    assert spread_over_years(moody) == pytest.approx(0.8, abs=0.2)
    assert calm.pull.shape == (N_ITEMS, 0) or spread_over_years(calm) < 0.2


def test_a_mood_lasts_for_a_visit():
    moods = moods_of(log_of_visits(0.8))
    assert moods is not None
    items, visit = np.arange(20), visited(Stream(3).child("user", 1, "session", 4))
    whole = moods.log_odds(items, visit)
    np.testing.assert_array_equal(np.concatenate([moods.log_odds(items[:7], visit), moods.log_odds(items[7:], visit)]), whole)
    assert np.abs(whole - moods.log_odds(items, visited(Stream(3).child("user", 1, "session", 5)))).max() > 0.01


def test_moods_come_back_from_disk(tmp_path):
    moods = moods_of(with_tones(log_of_visits(0.8), 0.9), whole=True)
    assert moods is not None
    assert Moods.load(tmp_path) is None
    moods.save(tmp_path)
    again = Moods.load(tmp_path)
    assert again is not None
    items, visit = np.arange(30), visited(Stream(3).child("visit"))
    np.testing.assert_array_equal(again.log_odds(items, visit), moods.log_odds(items, visit))
    assert again.gladness(visit) == moods.gladness(visit) != (0.0, 0.0)
    np.savez(tmp_path / FILE, pull=moods.pull)  # as runs of before have it
    old = Moods.load(tmp_path)
    assert old is not None
    assert old.tone == 0.0
    assert not old.shift.any()


def with_tones(data: Dataset, tone: float) -> Dataset:
    """The same visits with stars: logistic noise, and a normal variable of the visit times `tone`."""
    generator = Stream(12).child("tones").generator()
    visits = data.interactions.select(pl.struct("user", pl.col("timestamp") // 10**6).rank("dense")).to_series().to_numpy() - 1
    heard = tone * generator.standard_normal(int(visits.max()) + 1)[visits] + generator.logistic(size=len(visits))
    return replace(data, interactions=data.interactions.with_columns(rating=pl.Series(1.0 + np.digitize(heard, CUTS), dtype=pl.Float32)))


def test_as_much_tone_is_found_as_visits_have_and_only_if_asked_for():
    toned, even = (moods_of(with_tones(log_of_visits(0.8), tone), whole=True) for tone in (0.9, 0.0))
    assert toned is not None
    assert even is not None
    assert toned.tone == pytest.approx(0.9 / np.sqrt(np.pi**2 / 3), abs=0.1)
    assert even.tone < 0.1
    plain = moods_of(with_tones(log_of_visits(0.8), 0.9))
    assert plain is not None
    assert plain.tone == 0.0
    assert not plain.shift.any()


def test_over_all_visits_tones_leave_the_variance_as_it_was():
    moods = Moods(np.zeros((1, 0)), np.zeros(1), 0.5)
    told = [moods.gladness(visited(Stream(4).child(visit))) for visit in range(8_000)]
    glad, shares = np.array([one[0] for one in told]), {one[1] for one in told}
    assert list(shares) == [pytest.approx(0.2)]
    assert glad.mean() == pytest.approx(0.0, abs=0.02)
    assert glad.var() == pytest.approx(0.2, rel=0.05)
    assert Moods(np.zeros((1, 0)), np.zeros(1)).gladness(visited(Stream(4))) == (0.0, 0.0)


def test_centred_moods_and_tones_of_a_person_cancel_out_over_their_visits(tmp_path):
    items = np.arange(3)
    moods = Moods(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), np.array([0.0, 0.0, 0.3]), 0.9, centred=True)
    moods.save(tmp_path)
    assert Moods.load(tmp_path).centred

    def visits(person, *sizes):
        shares = np.array(sizes) / sum(sizes)
        return [Visit(Stream(1).child(person, n), Stream(2).child(person), n, shares) for n in range(len(sizes))]

    sizes = (60, 20, 10, 10)
    four = np.array([[moods.log_odds(items, visit) for visit in visits(person, *sizes)] for person in range(3_000)])
    np.testing.assert_allclose(np.einsum("pvi,v->pi", four[:, :, :2], sizes), 0.0, atol=1e-9)
    # what one long visit and the level of the person have in common is not counted twice; short ones are further from it
    expected = [1 - 2 * size / 100 + (0.6**2 + 0.2**2 + 2 * 0.1**2) for size in sizes]
    np.testing.assert_allclose(four[:, :, 0].var(axis=0), expected, rtol=0.1)
    np.testing.assert_allclose(four[:, :, 2].mean(axis=0), -0.3 * np.array(expected), atol=0.04)
    even = np.array([[moods.log_odds(items, visit)[0] for visit in visits(person, 1, 1, 1)] for person in range(2_000)])
    # visits of one person differ by as much as if each mood were drawn by itself
    assert even.var(axis=1, ddof=1).mean() == pytest.approx(1.0, abs=0.05)
    # who came once was met in that mood already; a visit more has the mood of the first
    (once,) = visits(0, 30)
    np.testing.assert_allclose(moods.log_odds(items, once), 0.0, atol=1e-12)
    np.testing.assert_allclose(moods.gladness(once), (0.0, 0.0), atol=1e-12)
    first = visits(0, *sizes)[0]
    np.testing.assert_array_equal(moods.log_odds(items, replace(first, number=4)), moods.log_odds(items, first))
    tones = np.array([[moods.gladness(visit)[0] for visit in visits(person, 3, 1)] for person in range(200)])
    np.testing.assert_allclose(tones @ [3, 1], 0.0, atol=1e-12)


def test_a_log_that_cannot_tell_has_no_moods():
    data = log_of_visits(0.8, n_users=5, n_visits=2)
    assert moods_of(data) is None
    timeless = replace(data, interactions=data.interactions.with_columns(timestamp=pl.lit(None, dtype=pl.Int64)))
    assert moods_of(timeless) is None
