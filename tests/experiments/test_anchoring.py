"""How often people choose: as often as asked on pages of the experiment's own recommender, one level for all that is compared."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from agents.calibrated import CalibratedDecisions
from agents.controls import EvidenceDecisions
from agents.profiles import fit_profiles
from environments.feed import Feed
from experiments import anchoring, build
from experiments import config as configuration
from experiments.anchor import read, sentence
from experiments.cli import call
from experiments.comparison_arms import from_recommenders
from experiments.fidelity.shelf import RECOMMENDERS
from experiments.round_recommender import fitted
from experiments.run import origin
from experiments.sections import RecommenderSection
from simulator.seeds import Stream

pytestmark = pytest.mark.usefixtures("no_report")
EXPERIMENT = """
name = "level"
rounds = 2
cohort_size = {cohort}
language_model = false
[dataset]
path = "{data}"
[population]
users = 20
[decision]
use = "agents.{use}"
choose_rate = 0.25
{options}
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 4
max_pages = 3
"""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("USERSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def experiment(folder, data, *, cohort=8, use="calibrated:CalibratedDecisions", options="language_model = false"):
    file = folder / f"level-{cohort}.toml"
    file.write_text(EXPERIMENT.format(data=data, cohort=cohort, use=use, options=options), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory, film_files):
    folder = tmp_path_factory.mktemp("finished")
    assert call(["run", str(experiment(folder, film_files)), "--output", str(folder / "run"), "--workers", "1"]) == 0
    return folder / "run"


def summary(run):
    return json.loads((run / "summary.json").read_text())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, film_files):
    """A configuration, its data, its people and both decision models with a level, fitted."""
    config = configuration.read(experiment(tmp_path_factory.mktemp("prepared"), film_files))
    train = build.data(config).train
    profiles = fit_profiles(train)
    blueprint = build.Blueprint(config, train.catalog, build.actions(train), train.rating_scale, tmp_path_factory.mktemp("run"))
    models = {}
    for kind, options in ((CalibratedDecisions, {"language_model": False}), (EvidenceDecisions, {})):
        models[kind] = kind(kind.Config(choose_rate=0.25, **options), context=blueprint.context(None))
        models[kind].fit(train, profiles, Stream(7).child("decisions"))
    return blueprint, train, profiles, models


@pytest.mark.parametrize("kind", [CalibratedDecisions, EvidenceDecisions])
@pytest.mark.parametrize("name", list(RECOMMENDERS))
def test_people_choose_as_often_as_asked_whatever_the_recommender(prepared, name, kind):
    blueprint, train, profiles, models = prepared
    config = blueprint.config.model_copy(
        update={"recommender": RecommenderSection.model_validate({"use": RECOMMENDERS[name], "page_size": 4})}
    )
    here = replace(blueprint, config=config)
    feed = Feed(fitted(config, train, 0), "policy", config.recommender.feed_config(), train.n_items)
    model, start = models[kind], origin(train)
    anchor = anchoring.found(here, model, feed, profiles, start)
    moved = model.rehearsing()
    moved.anchor(anchor.shift, np.array(anchor.usual))
    seen = anchoring.rehearse(here, moved, feed, profiles, start, Stream(99))
    assert anchor.expected == pytest.approx(0.25, rel=0.01)
    assert np.concatenate(seen.chances).mean() == pytest.approx(0.25, rel=0.1)
    assert model._shift == 0.0, "the model itself has not moved"


def test_the_run_says_what_was_asked_and_what_it_got(finished):
    told = summary(finished)["choose_rate"]
    log = pl.read_parquet(finished / "impressions.parquet")
    assert told["asked"] == 0.25
    assert told["anchored_on"].startswith("EASE-")
    assert told["expected"] == pytest.approx(0.25, rel=0.01)
    assert told["got"] == pytest.approx(log["chosen"].mean())
    assert told["got_by_round"][0] == pytest.approx(log.filter(pl.col("round") == 0)["chosen"].mean())
    assert log.filter(pl.col("round") == 0)["chosen_probability"].mean() == pytest.approx(0.25, rel=0.1)
    assert "asked 0.250" in (finished / "report.html").read_text()


def test_the_anchor_and_the_log_are_the_same_with_two_workers_and_other_cohorts(finished, tmp_path, film_files):
    file = experiment(tmp_path, film_files, cohort=5)
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "2"]) == 0
    assert (tmp_path / "run/anchor/anchor.json").read_bytes() == (finished / "anchor/anchor.json").read_bytes()
    assert summary(tmp_path / "run")["sha256"] == summary(finished)["sha256"]


@pytest.mark.parametrize("point", [12, 24])
def test_a_run_that_was_killed_goes_on_with_its_anchor(finished, tmp_path, film_files, killed_at, point):
    output = tmp_path / "run"
    assert killed_at(point, "run", str(experiment(tmp_path, film_files)), "--output", str(output), "--workers", "1") != 0
    assert call(["resume", str(output), "--workers", "1"]) == 0
    assert (output / "anchor/anchor.json").read_bytes() == (finished / "anchor/anchor.json").read_bytes()
    assert summary(output)["sha256"] == summary(finished)["sha256"]


def test_arms_have_one_anchor_and_keep_their_differences(finished, tmp_path, film_files):
    file, folder = experiment(tmp_path, film_files), tmp_path / "compared"
    assert call(["compare", str(file), "--recommenders", "random,ease", "--output", str(folder), "--workers", "1"]) == 0
    arms = {name: summary(folder / "arms" / name)["choose_rate"] for name in ("Random", "EASE")}
    anchors = {name: read(folder / "arms" / name) for name in arms}
    assert anchors["Random"] == anchors["EASE"] == read(finished)
    assert arms["Random"]["anchored_on"] == arms["EASE"]["anchored_on"] == summary(finished)["choose_rate"]["anchored_on"]
    assert arms["Random"]["got"] < 0.8 * arms["EASE"]["got"]
    assert summary(folder / "arms/EASE")["sha256"] == summary(finished)["sha256"], "as if it were run alone"
    document = json.loads((folder / "comparison.json").read_text())
    assert not document["warnings"]
    assert document["arms"]["Random"]["choose_rate"]["anchored_on"].startswith("EASE-")


def test_runs_with_other_anchors_are_compared_with_a_warning(finished, tmp_path, film_files, capsys):
    file = experiment(tmp_path, film_files)
    other = ["--set", "recommender.use=environments.recommenders.popularity:Popularity"]
    assert call(["run", str(file), "--output", str(tmp_path / "popular"), "--workers", "1", *other]) == 0
    assert call(["compare", str(finished), str(tmp_path / "popular"), "--output", str(tmp_path / "compared")]) == 0
    assert "pages on which decision.choose_rate is met" in json.loads((tmp_path / "compared/comparison.json").read_text())["warnings"][0]


def test_a_section_says_on_whose_pages_the_rate_is_met(tmp_path, film_files):
    file = experiment(tmp_path, film_files)
    config = configuration.read(file, ["anchor.use=environments.recommenders.popularity:Popularity", "anchor.page_size=3"])
    assert build.resolved(config)["anchor"]["page_size"] == 3
    assert anchoring.anchor_of(config).recommender.use.endswith(":Popularity")
    assert from_recommenders(file, "random,ease", ())["Random"].anchor == configuration.read(file).recommender
    with pytest.raises(Exception, match="anchor"):
        build.resolved(configuration.read(file, ["anchor.use=environments.recommenders.popularity:Popularity", "anchor.pages=3"]))


def test_with_known_exposures_nothing_is_moved(finished, tmp_path, film_files):
    options = f'language_model = false\nexposures = "{finished / "impressions.parquet"}"'
    file = experiment(tmp_path, film_files, options=options)
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0
    told = summary(tmp_path / "run")["choose_rate"]
    assert told["asked"] is None
    assert read(tmp_path / "run").shift == 0.0
    assert "decision.choose_rate is not used" in sentence(told)


def test_people_without_a_level_have_no_anchor(tmp_path, film_files):
    file = experiment(tmp_path, film_files, use="controls:RandomDecisions", options="")
    assert not anchoring.can_be_anchored(configuration.read(file))
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0
    assert not (tmp_path / "run/anchor").exists()
    assert "choose_rate" not in summary(tmp_path / "run")


def test_a_sample_has_people_of_all_activities(prepared):
    profiles = prepared[2]
    some = anchoring.sample_of(profiles, 6, Stream(1))
    assert [one.user_id for one in some] == [one.user_id for one in anchoring.sample_of(profiles[::-1], 6, Stream(1))]
    lengths = sorted(len(one.history) for one in profiles)
    ranks = [np.searchsorted(lengths, len(one.history)) for one in some]
    assert ranks == sorted(ranks)
    assert ranks[-1] - ranks[0] > len(profiles) // 2
    assert len(anchoring.sample_of(profiles, 1_000, Stream(1))) == len(profiles)


@pytest.mark.parametrize("slope", [-0.5, 0.3, 1.0])
def test_how_far_levels_show_is_read_off_what_is_chosen(slope):
    rng = Stream(4).generator()
    levels = np.repeat(rng.normal(0.0, 0.8, 400), 10)
    log_odds = -1.0 + slope * levels + rng.normal(0.0, 1.5, len(levels))
    assert anchoring.level_slope(log_odds, levels) == pytest.approx(slope, abs=0.1)
    assert anchoring.level_slope(log_odds, np.full(len(levels), 0.3)) == 1.0


def test_what_somebody_usually_chooses_follows_their_level_as_far_as_levels_show(prepared):
    _, _, profiles, models = prepared
    moved = models[CalibratedDecisions].rehearsing()
    levels = np.array([moved.own_level(profile) for profile in profiles])
    for slope in (-0.5, 1.0):
        moved.anchor(0.0, np.array([-1.0]), slope)
        usual = np.array([moved._staying(profile).usual_share for profile in profiles])
        assert np.log(usual / (1.0 - usual)) == pytest.approx(-1.0 + slope * levels)
    assert np.ptp(levels) > 0.1
