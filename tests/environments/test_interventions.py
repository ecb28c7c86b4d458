import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from agents.profiles import fit_profiles
from environments.feed import Feed, FeedConfig
from environments.interventions import Intervened, InterventionConfig, aimed, assignments
from environments.recommenders.popularity import Popularity
from simulator.errors import ConfigError
from simulator.records import PageRequest
from simulator.seeds import Stream

RUN = Stream(7)


def advert(**changes):
    options = {"kind": "advert", "text": "new", "items": {"share": 1.0}, "response": "read", **changes}
    return InterventionConfig.model_validate(options)


def targets(world, **rule):
    (one,) = aimed({"a": advert(items=rule)}, world, RUN)
    return sorted(one.targets)


@pytest.fixture
def feed(film_world):
    recommender = Popularity()
    recommender.fit(film_world.interactions, film_world.catalog, Stream(1))
    return Feed(recommender, "policy", FeedConfig(page_size=6), film_world.n_items)


def request(user, seed=1):
    return PageRequest(
        user, 1, np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32), Stream(seed).child("user", user, "page", 1, "feed")
    )


def served(feed, world, users, round_number=0, **changes):
    interventions = aimed({"a": advert(**changes)}, world, RUN)
    ids = {user: str(user) for user in users}
    return Intervened(feed, interventions, round_number, ids, RUN).serve([request(user) for user in users])


def notes(pages):
    return [note for page in pages for impression in page.impressions for note in impression.notes]


def test_people_are_treated_by_a_hash_of_their_id_in_the_wanted_share(film_world):
    (one,) = aimed({"a": advert(share=0.3)}, film_world, RUN)
    treated = [one.treats(f"person-{number}", RUN) for number in range(4_000)]
    assert np.mean(treated) == pytest.approx(0.3, abs=0.03)
    assert treated == [one.treats(f"person-{number}", RUN) for number in range(4_000)]
    assert treated != [one.treats(f"person-{number}", Stream(8)) for number in range(4_000)]


def test_a_larger_share_keeps_everybody_whom_a_smaller_one_treated(film_world):
    few, many = (aimed({"a": advert(share=share)}, film_world, RUN)[0] for share in (0.2, 0.6))
    people = [f"person-{number}" for number in range(500)]
    assert all(many.treats(person, RUN) for person in people if few.treats(person, RUN))


def test_a_group_treats_the_same_people_and_other_names_treat_others(film_world):
    one, same, other = aimed({"a": advert(group="g"), "b": advert(group="g"), "c": advert()}, film_world, RUN)
    people = [f"person-{number}" for number in range(400)]
    drawn = [[which.treats(person, RUN) for person in people] for which in (one, same, other)]
    assert drawn[0] == drawn[1]
    assert 0.4 < np.mean(np.array(drawn[0]) == np.array(drawn[2])) < 0.6


def test_the_pages_stay_what_the_feed_serves(feed, film_world):
    plain = feed.serve([request(user) for user in range(10)])
    for page, noted in zip(plain, served(feed, film_world, range(10)), strict=True):
        assert noted.items.tolist() == page.items.tolist()
        assert [i.propensity for i in noted.impressions] == [i.propensity for i in page.impressions]


def test_everybody_meets_the_treatment_or_what_the_control_group_has(feed, film_world):
    found = notes(served(feed, film_world, range(20), control_text="as always"))
    assert {(note.treated, note.text) for note in found} == {(True, "new"), (False, "as always")}
    assert {note.response for note in found} == {0.0}


def test_an_assumed_response_is_told_to_nobody_and_moves_the_treated_only(feed, film_world):
    found = notes(served(feed, film_world, range(20), response=0.8, control_text="as always"))
    assert {(note.treated, note.text, note.response) for note in found} == {(True, "", 0.8), (False, "", 0.0)}


def test_nothing_happens_to_other_items_or_in_other_rounds(feed, film_world):
    pages = served(feed, film_world, range(6), items={"popular": 2})
    best = targets(film_world, popular=2)
    assert all(bool(impression.notes) == (impression.item in best) for page in pages for impression in page.impressions)
    assert any(notes(pages))
    assert not notes(served(feed, film_world, range(6), round_number=0, from_round=1))
    assert not notes(served(feed, film_world, range(6), round_number=3, to_round=2))


def test_treating_impressions_draws_anew_for_every_item_and_person(feed, film_world):
    pages = served(feed, film_world, range(24), unit="impression", share=0.5)
    drawn = [[impression.notes[0].treated for impression in page.impressions] for page in pages]
    assert 0.35 < np.mean(drawn) < 0.65
    assert all(0 < column < 1 for column in np.mean(drawn, axis=0))
    again = served(feed, film_world, range(24), unit="impression", share=0.5)
    assert drawn == [[impression.notes[0].treated for impression in page.impressions] for page in again]


def test_items_are_found_by_popularity_rating_genre_id_and_share(film_world):
    log = film_world.interactions
    counts = np.bincount(log["item"].to_numpy(), minlength=film_world.n_items)
    assert sorted(counts[targets(film_world, popular=3)]) == sorted(counts)[-3:]
    assert sorted(counts[targets(film_world, unpopular=3)]) == sorted(counts)[:3]
    low, high = targets(film_world, worst=5), targets(film_world, best=5)
    mean = dict(log.group_by("item").agg(pl.col("rating").mean()).iter_rows())
    assert np.mean([mean[item] for item in low]) < np.mean([mean[item] for item in high])
    genre = film_world.catalog.genre_names[0]
    with_genre = [i for i, found in enumerate(film_world.catalog.items["genres"].to_list()) if genre in found]
    assert targets(film_world, genre=genre) == with_genre
    assert targets(film_world, ids=[film_world.catalog.item_ids[4]]) == [4]
    assert 0 < len(targets(film_world, share=0.5)) < film_world.n_items


def test_the_table_of_treatments_names_everybody(film_world):
    people = fit_profiles(film_world)
    found = aimed({"a": advert(), "b": advert(unit="impression")}, film_world, RUN)
    table = assignments(found, people, RUN)
    assert table["user"].to_list() == sorted(person.user_id for person in people)
    assert table["intervention"].unique().to_list() == ["a"]
    assert table["treated"].to_list() == [found[0].treats(user, RUN) for user in table["user"]]


def test_wrong_targets_get_a_sentence(film_world):
    with pytest.raises(ConfigError, match=r"\[interventions.a\] items: there is no item 'x99'"):
        targets(film_world, ids=["x99"])
    with pytest.raises(ConfigError, match="unknown genre 'Dramma'; did you mean 'Drama'"):
        targets(film_world, genre="Dramma")
    rows = film_world.interactions.with_columns(rating=pl.lit(None, dtype=pl.Float32))
    unrated = type(film_world)("plain", film_world.catalog, film_world.users, rows, None)
    with pytest.raises(ConfigError, match="has no ratings"):
        targets(unrated, worst=3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"items": {}}, "needs exactly one of"),
        ({"items": {"share": 0.5, "popular": 3}}, "has share and popular"),
        ({"text": ""}, "needs a text"),
        ({"from_round": 3, "to_round": 2}, "to_round = 2 is before from_round = 3"),
        ({"response": float("inf")}, "finite"),
        ({"share": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused(changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        advert(**changes)
