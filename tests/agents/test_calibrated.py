"""Calibrated people: what they learn from, what they do with it, and that it comes back the same."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit

from agents.actions import actions_for
from agents.behaviour import FEATURES, Behaviour
from agents.calibrated import CalibratedDecisions
from agents.decisions import first_page
from agents.exposures import people_split
from agents.hazard import fit_hazard
from agents.kept_weights import kept_file
from agents.profiles import fit_profiles
from agents.sampled_pages import MATCHED, RANDOM, catalog_log_odds, true_exposures
from environments.datasets.assembly import items_from_ids, users_from_ids
from simulator.dataset import Catalog, Dataset
from simulator.errors import ConfigError, DataError
from simulator.llm.scripted import ScriptedConfig, ScriptedLanguageModel
from simulator.plugins import build
from simulator.protocols import DecisionContext
from simulator.seeds import Stream

USE = "agents.calibrated:CalibratedDecisions"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))


def taste_world(n_users=120, n_items=90, seed=3):
    """Half of the people like even items, half odd ones; the first items are the popular ones; ratings follow taste."""
    generator = Stream(seed).child("taste world").generator()
    items = pl.DataFrame(
        {
            "item": np.arange(n_items, dtype=np.int32),
            "item_id": [f"i{item}" for item in range(n_items)],
            "title": [f"Film {item}" for item in range(n_items)],
            "year": pl.Series([1960 + item // 2 for item in range(n_items)], dtype=pl.Int32),
            "genres": [["Crime" if item % 2 else "Comedy"] for item in range(n_items)],
            "description": pl.Series([None] * n_items, dtype=pl.String),
        }
    )
    users = pl.DataFrame(
        {
            "user": np.arange(n_users, dtype=np.int32),
            "user_id": [f"u{user}" for user in range(n_users)],
            "age": pl.Series([20 + user % 40 for user in range(n_users)], dtype=pl.Int32),
            "gender": ["female" if user % 2 else "male" for user in range(n_users)],
            "occupation": pl.Series([None] * n_users, dtype=pl.String),
        }
    )
    rows = []
    for user in range(n_users):
        odds = 1.0 / np.sqrt(1 + np.arange(n_items)) * np.where(np.arange(n_items) % 2 == user % 2, 6.0, 1.0)
        drawn = generator.choice(n_items, size=int(generator.integers(16, 30)), replace=False, p=odds / odds.sum())
        time = 900_000_000 + 10_000 * user
        for count, item in enumerate(drawn.tolist()):
            time += 100_000 if count % 7 == 6 else 30
            grade = 3.6 + (0.9 if item % 2 == user % 2 else -0.9) + generator.normal(0, 0.7)
            rows.append((user, item, float(np.clip(np.round(grade), 1, 5)), time))
    schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
    return Dataset("taste", Catalog(items), users, pl.DataFrame(rows, schema=schema, orient="row"), (1.0, 5.0))


@pytest.fixture(scope="module")
def world():
    return taste_world()


def make(world, model=None, **options):
    options = {"language_model": model is not None, **options}
    context = DecisionContext(
        catalog=world.catalog,
        actions=actions_for(world),
        language_model=model,
        rating_scale=world.rating_scale,
        page_size=5,
        max_pages=5,
        seed=7,
    )
    return build(USE, options, where="decision", methods=("fit", "decide", "close_sessions", "save", "load"), context=context)


def fitted(world, model=None, **options):
    made = make(world, model, **options)
    made.fit(world, fit_profiles(world), Stream(7).child("decisions"))
    return made


@pytest.fixture(scope="module")
def without_model(world):
    return fitted(world, weights="fit")


def pages(world, people=None, items=range(20, 25)):
    profiles = fit_profiles(world)
    return [first_page(profiles[user], np.array(items), Stream(1).child("page", user)) for user in (people or range(10))]


def choices(model, situations):
    return np.array([decision.outcomes["choose"].probabilities[:, 0] for decision in model.decide(situations)])


def same(first, second):
    return all(
        np.array_equal(one.outcomes[name].probabilities, other.outcomes[name].probabilities)
        and np.array_equal(one.outcomes[name].values, other.outcomes[name].values, equal_nan=True)
        for one, other in zip(first, second, strict=True)
        for name in one.outcomes
    )


def test_people_choose_what_people_like_them_chose(world, without_model):
    chosen = choices(without_model, pages(world, range(40)))
    suits = (np.arange(20, 25)[None, :] % 2) == (np.arange(40)[:, None] % 2)
    assert chosen[suits].mean() > 2 * chosen[~suits].mean()


def test_people_rate_higher_what_people_like_them_rated_higher(world, without_model):
    stars = np.array(
        [decision.outcomes["rate"].probabilities @ np.arange(1, 6) for decision in without_model.decide(pages(world, range(40)))]
    )
    suits = (np.arange(20, 25)[None, :] % 2) == (np.arange(40)[:, None] % 2)
    assert stars[suits].mean() > stars[~suits].mean() + 0.4


def test_on_pages_of_good_items_they_choose_as_often_as_the_setting_says(world):
    rates = {}
    for rate in (0.15, 0.5):
        model = fitted(world, choose_rate=rate)
        best = []
        for profile in fit_profiles(world):
            free = np.setdiff1d(np.arange(world.n_items), profile.history)
            evidence = model._evidence(profile, profile.history, free)
            best.append(first_page(profile, free[np.argsort(-evidence)[:20]], Stream(1).child(profile.user)))
        rates[rate] = choices(model, best).mean()
    assert rates[0.15] == pytest.approx(0.15, abs=0.03)
    assert rates[0.5] == pytest.approx(0.5, abs=0.05)


def test_weights_come_with_errors_and_the_calibration_gets_better(without_model):
    report = without_model.calibration.report
    told = report["evidence"]
    assert told["after"]["brier"] < told["before"]["brier"]
    assert told["after"]["ece"] < 0.08
    errors = np.array([row["error"] for row in told["weights"]])
    assert np.isfinite(errors).all()
    assert {"people", "rows"} <= set(told)


def test_order_and_company_do_not_matter(world, without_model):
    situations = pages(world)
    together = without_model.decide(situations)
    backwards = without_model.decide(situations[::-1])[::-1]
    alone = [without_model.decide([situation])[0] for situation in situations]
    assert same(together, backwards)
    assert same(together, alone)


@pytest.mark.parametrize("asks", [False, True])
def test_what_was_saved_decides_the_same(world, tmp_path, asks):
    model = fitted(world, ScriptedLanguageModel() if asks else None, people=5)
    model.save(tmp_path)
    again = make(world, ScriptedLanguageModel() if asks else None, people=5)
    again.load(tmp_path)
    assert same(model.decide(pages(world)), again.decide(pages(world)))


def test_weights_are_estimated_once_for_the_same_data_and_used_again(world, tmp_path):
    script = ScriptedLanguageModel()
    first = fitted(world, script, people=5)
    asked = len(script.prompts)
    again = ScriptedLanguageModel()
    second = fitted(world, again, people=5)
    assert len(again.prompts) < asked
    assert same(first.decide(pages(world)), second.decide(pages(world)))
    third = ScriptedLanguageModel(ScriptedConfig(spread=2.0))
    fitted(world, third, people=5)
    assert len(third.prompts) == asked, "another model needs weights of its own"


class Adapted(ScriptedLanguageModel):
    """A scripted model that says it has an adapter."""

    adapter, file_format = "abc", "bf16"

    @property
    def identity(self):
        return replace(super().identity, settings={"adapter": self.adapter, "format": self.file_format})


def test_weights_that_come_with_an_adapter_hold_for_it_in_any_format(world, tmp_path, monkeypatch):
    first = Adapted()
    known = fitted(world, first, people=5)
    asked = len(first.prompts)
    (kept,) = (tmp_path / "cache" / "calibration").glob("*.json")
    (tmp_path / "shipped" / "films").mkdir(parents=True)
    kept.rename(tmp_path / "shipped" / "films" / "calibration.json")
    monkeypatch.setattr("agents.kept_weights.SHIPPED", tmp_path / "shipped")
    again = Adapted()
    again.file_format = "q8_0"
    found = fitted(world, again, people=5)
    assert len(again.prompts) < asked
    assert same(known.decide(pages(world)), found.decide(pages(world)))
    other, more = Adapted(), Adapted()
    other.adapter = "def"
    fitted(world, other, people=5)
    fitted(world, more, people=6)
    assert len(other.prompts) == asked, "another adapter needs weights of its own"
    assert len(more.prompts) >= asked, "and so do other options"


def test_weights_of_an_earlier_run_are_read_from_its_folder(world, tmp_path):
    (tmp_path / "run" / "decisions").mkdir(parents=True)
    model = fitted(world, choose_rate=0.2)
    model.save(tmp_path / "run" / "decisions")
    again = fitted(world, choose_rate=0.2, weights=str(tmp_path / "run"))
    assert same(model.decide(pages(world)), again.decide(pages(world)))


def test_weights_that_are_not_there_or_lack_the_language_model_are_refused(world, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no calibration\.json"):
        fitted(world, weights=str(tmp_path / "nothing"))
    fitted(world).save(tmp_path)
    with pytest.raises(ConfigError, match="fitted without a language model"):
        fitted(world, ScriptedLanguageModel(), weights=str(tmp_path))
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not hold weights"):
        fitted(world, weights=str(tmp_path))


def test_a_language_model_is_asked_for_unless_it_is_not_wanted(world):
    with pytest.raises(ConfigError, match="language_model = false"):
        make(world, None, language_model=True)
    assert CalibratedDecisions.uses_language_model({})
    assert not CalibratedDecisions.uses_language_model({"language_model": False})


def test_the_language_model_is_asked_about_validation_people_alone(world):
    script = ScriptedLanguageModel()
    fitted(world, script, people=4, reference_pages=1, weights="fit")
    pages_asked = [prompt for prompt in script.prompts if any("choose" in probe.name for probe in prompt.probes)]
    assert 4 <= len(pages_asked) - 1 <= 4 * 4


def with_knowledge(world, strength):
    """A scripted model whose answers know the taste: yes to what suits the person, with some noise."""
    from simulator.records import Scores

    noise = Stream(9).child("noise").generator()
    parity = {f"Film {item}": item % 2 for item in range(world.n_items)}

    def answer(prompt):
        text, logprobs = prompt.text, []
        likes_even = text.count("Comedy") > text.count("Crime")
        titles = iter([name for name in parity if f" {name} " in text or f" {name}(" in text or f"{name} (" in text])
        for probe in prompt.probes:
            values = np.zeros(len(probe.labels))
            if set(probe.labels) == {"yes", "no"}:
                title = next(titles, None)
                suits = title is not None and (parity[title] == 0) == likes_even
                values[0] = strength * (1.0 if suits else -1.0) + noise.normal()
            logprobs.append(values - np.log(np.exp(values).sum()))
        return Scores(tuple(logprobs), (1.0,) * len(logprobs))

    return ScriptedLanguageModel(scores=answer)


def test_a_language_model_that_knows_nothing_gets_next_to_no_weight(world):
    model = fitted(world, with_knowledge(world, 0.0), people=24, weights="fit")
    report = model.calibration.report["choice"]
    row = next(row for row in report["weights"] if row["name"] == "language model")
    assert abs(row["weight"]) < 3 * row["error"] + 1e-6
    assert report["likelihood_ratio"]["p"] > 0.001


def test_held_out_rows_change_no_weight_and_no_evidence(world, tmp_path):
    from environments.datasets.splits import SplitConfig, split

    config = SplitConfig(method="random", test_share=0.3)
    parts = split(world, config, Stream(7).child("split"))
    held_out = set(zip(parts.test["user"].to_list(), parts.test["item"].to_list(), strict=True))
    is_held_out = pl.Series([pair in held_out for pair in world.interactions.select("user", "item").iter_rows()])
    changed = world.interactions.with_columns(rating=pl.when(is_held_out).then(6 - pl.col("rating")).otherwise(pl.col("rating")))
    other = split(world.with_interactions(changed), config, Stream(7).child("split"))
    assert not other.test.equals(parts.test)
    written = []
    for number, train in enumerate((parts.train, other.train)):
        folder = tmp_path / str(number)
        folder.mkdir()
        fitted(train, weights="fit").save(folder)
        written.append({file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix != ".npz"})
        written[-1] |= {
            f"{file.name}/{name}": values.tobytes() for file in sorted(folder.glob("*.npz")) for name, values in np.load(file).items()
        }
    assert written[0] == written[1]


def test_no_weight_depends_on_what_only_a_later_step_may_see(world):
    """People whose evidence is judged (held out) are not among those that the weights are fitted on."""
    model = fitted(world, weights="fit")
    exposures, _, _ = model._exposures(world, fit_profiles(world), Stream(7).child("decisions"))
    assert not {one.profile.user for one in exposures} & set(people_split(world).held_out.tolist())


def test_data_without_ratings_times_genres_and_ages_works(world):
    rows = world.interactions.with_columns(rating=pl.lit(None, dtype=pl.Float32), timestamp=pl.lit(None, dtype=pl.Int64))
    items = world.catalog.items.with_columns(
        year=pl.lit(None, dtype=pl.Int32), genres=pl.Series([[]] * world.n_items, dtype=pl.List(pl.String))
    )
    users = world.users.with_columns(age=pl.lit(None, dtype=pl.Int32), gender=pl.lit(None, dtype=pl.String))
    bare = Dataset("bare", Catalog(items), users, rows, None)
    model = fitted(bare)
    decisions = model.decide(pages(bare))
    assert set(decisions[0].outcomes) == {"choose", "leave"}
    assert all(np.isfinite(decision.outcomes["choose"].probabilities).all() for decision in decisions)
    assert model.calibration.leaving is None


def test_staying_as_in_visits_needs_data_with_times(world):
    rows = world.interactions.with_columns(timestamp=pl.lit(None, dtype=pl.Int64))
    with pytest.raises(ConfigError, match=r"stay = 'visits' needs data with times"):
        fitted(world.with_interactions(rows), stay="visits")


def test_people_who_stay_as_in_their_visits_leave_only_after_choosing(world):
    model = fitted(world, stay="visits")
    for decision in model.decide(pages(world)):
        if not decision.outcomes["choose"].values.any():
            assert decision.outcomes["leave"].probabilities[0, 0] == 0.0


def test_log_odds_are_corrected_for_how_non_choices_were_sampled():
    """Choices in proportion to popularity, non-choices as they are sampled: the logit of the sample lacks just what is added."""
    counts = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    chosen, uniform = counts / counts.sum(), np.full(6, 1 / 6)
    share = MATCHED / (MATCHED + RANDOM)
    sampled = np.log(chosen / ((1 - share) * uniform + share * chosen))
    np.testing.assert_allclose(sampled + catalog_log_odds(np.log(counts / 40.0)), np.log(chosen / uniform))
    np.testing.assert_allclose(catalog_log_odds(np.zeros(4)), 0.0, atol=1e-12)
    assert catalog_log_odds(np.zeros(0)).shape == (0,)


def test_a_person_without_a_history_or_group_is_decided_for(world, without_model):
    situation = pages(world, [0])[0]
    profile = replace(situation.profile, history=np.zeros(0, dtype=np.int32), ratings=np.zeros(0, dtype=np.float32), age=None, gender=None)
    nobody = replace(situation, profile=profile, state=replace(situation.state, history=profile.history))
    assert np.isfinite(choices(without_model, [nobody])).all()


def sittings(leaving, n_people=150, each=6):
    """A log of people who rate item after item and stop with a probability that follows from how many and how high the last was."""
    generator = Stream(12).child("sittings").generator()
    rows = []
    for user in range(n_people):
        time, free = 1_000_000_000 + user, generator.permutation(400).tolist()
        for _ in range(each):
            time += 500_000
            for place in range(1, 60):
                rating = float(generator.integers(1, 6))
                rows.append((user, free.pop(), rating, time))
                time += 60
                if not free or generator.random() < leaving(place, rating):
                    break
    items = items_from_ids(pl.Series([str(item) for item in range(400)]))
    people = users_from_ids(pl.Series([str(1_000 + user) for user in range(n_people)]))
    schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
    return Dataset("sittings", Catalog(items), people, pl.DataFrame(rows, schema=schema, orient="row"), (1.0, 5.0))


def test_people_tire_and_are_put_off_as_far_as_the_log_says():
    tired = fit_hazard(sittings(lambda place, rating: 0.02 * place), np.arange(150))
    put_off = fit_hazard(sittings(lambda place, rating: 0.4 if rating == 1 else 0.1), np.arange(150))
    neither = fit_hazard(sittings(lambda place, rating: 0.18), np.arange(150))
    assert tired.weights[1] > 3 * tired.errors[1]
    assert tired.weights[1] > neither.weights[1] + 1.0
    assert put_off.weights[2] < -3 * put_off.errors[2]
    assert abs(neither.weights[2]) < 3 * neither.errors[2]


def impressions(world, n_people=60, place_effect=-0.8):
    generator = Stream(5).child("impressions").generator()
    rows = []
    for user in range(n_people):
        for page in range(1, 7):
            for position, item in enumerate(generator.choice(world.n_items, size=5, replace=False).tolist(), start=1):
                odds = -0.5 + (1.2 if item % 2 == user % 2 else -1.2) + place_effect * np.log(position)
                chosen = bool(generator.random() < 1 / (1 + np.exp(-odds)))
                rows.append((f"u{user}", 0, page, f"i{item}", position, chosen))
    schema = {"user": pl.String, "session": pl.Int32, "page": pl.Int32, "item": pl.String, "position": pl.Int32, "chosen": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_true_exposures_tell_the_place_and_the_rate(world, tmp_path):
    table = impressions(world)
    table.write_parquet(tmp_path / "impressions.parquet")
    model = fitted(world, exposures=tmp_path / "impressions.parquet", choose_rate=0.9)
    rows = {row["name"]: row for row in model.calibration.report["choice"]["weights"]}
    assert abs(rows["log place"]["weight"] + 0.8) < 3 * rows["log place"]["error"]
    shown = [
        first_page(fit_profiles(world)[user], Stream(user).generator().choice(world.n_items, size=5, replace=False), Stream(1))
        for user in range(60)
    ]
    assert choices(model, shown).mean() == pytest.approx(table["chosen"].mean(), abs=0.06)


def test_exposures_in_text_are_those_in_parquet(world, tmp_path):
    table, profiles = impressions(world), fit_profiles(world)
    table.write_parquet(tmp_path / "impressions.parquet")
    table.write_csv(tmp_path / "impressions.csv")
    one, other = (true_exposures(tmp_path / f"impressions.{kind}", world, profiles, 60) for kind in ("parquet", "csv"))
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        for column in ("items", "chosen", "ratings", "place", "fatigue"):
            assert np.array_equal(getattr(first, column), getattr(second, column), equal_nan=column == "ratings")
        assert [page.tolist() for page in first.pages] == [page.tolist() for page in second.pages]


@pytest.mark.parametrize(("name", "content"), [("x.parquet", b"PAR1 cut off"), ("x.csv", b"user,item,position,chosen\nu1,1,first,true\n")])
def test_exposures_that_cannot_be_read_get_a_sentence(world, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        true_exposures(tmp_path / name, world, fit_profiles(world), 1)
    assert "\n" not in str(caught.value)


def test_exposures_that_are_missing_or_incomplete_are_refused(world, tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        fitted(world, exposures=tmp_path / "no.parquet")
    impressions(world).drop("position").write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="no column 'position'"):
        fitted(world, exposures=tmp_path / "bad.parquet")
    impressions(world).with_columns(user=pl.lit("stranger")).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no row is about a person"):
        fitted(world, exposures=tmp_path / "other.parquet")


def test_the_stored_document_says_what_the_weights_are_for(world, tmp_path):
    fitted(world).save(tmp_path)
    document = json.loads((tmp_path / "calibration.json").read_text())
    assert document["key"]["data"] == world.fingerprint()
    assert document["key"]["language_model"] is None
    assert document["report"]["fitted_on"]["people"] > 0


def test_among_recommended_items_people_are_told_apart_from_what_a_linear_model_ranks_first(world):
    """The popular items of the own parity are all plausible; weights fitted there rank them as the hidden interactions do."""
    made = fitted(world, weights="fit", among="recommended")
    told = made.calibration.report["evidence"]
    assert told["rows"] <= told["people"] * 90
    assert made._key["options"]["among"] == "recommended"
    profile = fit_profiles(world)[3]
    free = np.setdiff1d(np.arange(world.n_items), profile.history)
    suits = free % 2 == 1
    preferences = made.preferences(profile, free)
    assert preferences[suits].mean() > preferences[~suits].mean() + 0.5


def test_preferences_for_the_catalog_are_those_that_decide_and_not_those_of_the_sample(world):
    made = fitted(world, weights="fit")
    profile = fit_profiles(world)[3]
    items = np.setdiff1d(np.arange(world.n_items), profile.history)[:5]
    difference = made.preferences(profile, items) - logit(choices(made, [first_page(profile, items, Stream(1))])[0])
    assert difference == pytest.approx(np.full(5, difference[0]), abs=1e-9)


def test_weights_for_sampled_items_are_not_used_for_recommended_ones(world):
    sampled, recommended = fitted(world), fitted(world, among="recommended")
    assert sampled._key["options"]["among"] == "sampled"
    assert kept_file(sampled._key) != kept_file(recommended._key)


def test_an_item_that_was_met_is_judged_by_the_rest(world):
    behaviour, profile = Behaviour.fit(world), fit_profiles(world)[3]
    item, other = int(profile.history[4]), int(np.setdiff1d(np.arange(world.n_items), profile.history)[0])
    rest = profile.history != item
    without = replace(profile, history=profile.history[rest], ratings=profile.ratings[rest])
    found = behaviour.features(profile, profile.history, np.array([other, item]))
    np.testing.assert_array_equal(found[1], behaviour.features(without, without.history, np.array([item]))[0])
    np.testing.assert_array_equal(found[0], behaviour.features(profile, profile.history, np.array([other]))[0])


def test_people_go_for_years_qualities_and_popularity_like_those_of_their_history(world):
    behaviour, profile = Behaviour.fit(world), fit_profiles(world)[0]
    years, quality, popular = behaviour.slopes[0], behaviour.slopes[1], behaviour.popularity
    every = np.arange(world.n_items)

    def features(history, name):
        return behaviour.features(replace(profile, history=history, ratings=None), history, every)[:, FEATURES.index(name)]

    for name, values in (("own year", years), ("own quality", quality), ("own popularity", popular)):
        order = np.argsort(values)
        low, high = order[:20], order[-20:]
        # what is judged by the rest of a history is left out
        middle = order[20:-20]
        gain = features(high, name) - features(low, name)
        assert np.corrcoef(gain[middle], values[middle])[0, 1] > 0.5, name


def test_a_mood_acts_within_a_visit_only(world):
    model = fitted(world)
    assert model._moods is not None
    model._moods = replace(model._moods, pull=np.linspace(-1.0, 1.0, world.n_items)[:, None])
    asked = pages(world, range(4))
    within = [replace(page, visit=Stream(5).child("visit", number)) for number, page in enumerate(asked)]
    calm = fitted(world, moods=False)
    assert same(model.decide(asked), calm.decide(asked))
    assert same(calm.decide(within), calm.decide(asked))
    changed = logit(choices(model, within)) - logit(choices(calm, asked))
    moods = np.array([float(page.visit.child("mood").generator().standard_normal(1)[0]) for page in within])
    np.testing.assert_allclose(changed, moods[:, None] * model._moods.pull[20:25, 0], atol=1e-9)


def test_popular_items_are_chosen_as_often_as_in_the_log(world, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.sampled_pages.POSITIVES", 4)
    profiles = fit_profiles(world)
    items = np.arange(world.n_items)
    met = np.stack([np.isin(items, profile.history) for profile in profiles])

    def slope(model, lacking):
        """Of true counts on expected ones, along popularity: 0 where popular items are chosen as often as in the log."""
        index = np.stack([model._evidence(profile, profile.history, items) + model._sampled + lacking for profile in profiles])
        own = np.array([brentq(lambda level, row=row: expit(row + level).sum() - 22, -30, 30) for row in index])
        expected = expit(index + own[:, None]).mean(axis=0)
        known = met.sum(axis=0) > 0
        return np.polyfit(model._behaviour.popularity[known], (met.mean(axis=0) - expected)[known], 1)[0]

    sampled, whole = fitted(world), fitted(world, whole_log=True)
    assert abs(slope(sampled, sampled._exposed)) < 0.3 * abs(slope(sampled, 0.0))
    assert np.array_equal(whole._exposed, sampled._exposed)
    assert whole._key != sampled._key
    for profile in profiles[:5]:  # the ratings know all of the log in any case
        assert np.array_equal(whole.expected_ratings(profile, items), sampled.expected_ratings(profile, items))
    whole.save(tmp_path)
    again = make(world, whole_log=True)
    again.load(tmp_path)
    asked = [replace(page, visit=Stream(5).child("visit", number)) for number, page in enumerate(pages(world))]
    assert same(again.decide(asked), whole.decide(asked))


def test_a_tone_acts_within_a_visit_only(world):
    model = fitted(world, whole_log=True)
    assert model._moods is not None
    asked = pages(world, range(12))
    within = [replace(page, visit=Stream(5).child("visit", number)) for number, page in enumerate(asked)]

    def stars(situations):
        return np.array([decision.outcomes["rate"].probabilities @ np.arange(1, 6) for decision in model.decide(situations)])

    model._moods = replace(model._moods, tone=0.0)
    before = stars(asked)
    model._moods = replace(model._moods, tone=0.8)
    np.testing.assert_array_equal(stars(asked), before)
    moved = (stars(within) - before).mean(axis=1)
    glad = np.array([float(page.visit.child("tone").generator().standard_normal()) for page in within])
    assert np.corrcoef(moved, glad)[0, 1] > 0.7


def test_people_rate_by_what_is_expected_of_them_and_a_level_of_their_own(world, tmp_path):
    model = fitted(world)
    profile = fit_profiles(world)[2]
    items = np.arange(20, 25)
    raters = model._raters
    rated = raters.model
    rater = rated.rater(profile.history, profile.ratings, profile.user)
    level = rated.own_level(rater, Stream(model._context.seed).child("own levels", profile.user_id).generator())
    (decision,) = model.decide([first_page(profile, items, Stream(9))])
    picked = decision.outcomes["choose"].probabilities[:, 0]
    moved = level + rated.selection.picked(picked, model._usual_pick(profile))
    expected = rated.probabilities(rater, rated.of_rater(rater, items) + moved)
    np.testing.assert_allclose(decision.outcomes["rate"].probabilities, expected @ raters._onto, atol=1e-12)
    plain = model.expected_ratings(profile, items)
    np.testing.assert_allclose(plain, rated.expected(np.full(5, profile.user), items), atol=1e-3)


def test_what_nobody_picked_is_liked_less_as_is_said_and_what_is_picked_keeps_its_level(world):
    model = fitted(world, foreseen=1.0)
    profile, items = fit_profiles(world)[2], np.arange(20, 25)
    raters = model._raters
    selection = replace(raters.model.selection, strength=0.8)
    raters.model = replace(raters.model, selection=selection)
    gap = model.expected_ratings(profile, items) - model.expected_ratings(profile, items, assigned=True)
    usual = model._usual_pick(profile)
    assert 0 < usual < 1
    inside = (model.expected_ratings(profile, items) < 5) & (model.expected_ratings(profile, items, assigned=True) > 1)
    np.testing.assert_allclose(gap[inside], (1 - usual) * selection.gap)
    assert inside.any()
    assert any("foresee 100%" in one for one in model.assumptions)


def test_the_rating_model_comes_back_from_disk(world, tmp_path):
    model = fitted(world)
    model.save(tmp_path)
    again = make(world)
    again.load(tmp_path)
    assert again._raters.model.report == model._raters.model.report
    assert again.calibration.report["ratings"]["ratings"] == world.interactions.height
    assert same(again.decide(pages(world)), model.decide(pages(world)))


@pytest.mark.parametrize("slope", [1.0, 1.25])
def test_parts_sum_to_the_log_odds_whatever_these_are_stretched_by(world, without_model, monkeypatch, slope):
    monkeypatch.setattr(without_model, "_calibration", replace(without_model.calibration, slope=slope))
    for decision, parts in without_model.explained(pages(world)):
        asked = logit(decision.outcomes["choose"].probabilities[:, 0])
        np.testing.assert_allclose(sum(parts.values()), asked, atol=1e-6)
