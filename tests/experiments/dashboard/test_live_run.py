"""The dashboard's live run, without a browser: the same people, the same step, settings that change between pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from experiments import config as configuration
from experiments.dashboard.live import LiveRun
from experiments.dashboard.world import World, open_world
from experiments.run import start
from simulator.errors import ConfigError, PluginError, RunError

EXPERIMENT = """
name = "live"
cohort_size = 5
rounds = 2
[dataset]
path = "{data}"
[population]
users = 8
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[decision]
use = "agents.decisions:LanguageModelDecisions"
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 4
"""
Tell = Callable[..., None]


def silent(*_: object) -> None:
    """Progress for nobody."""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, film_files: Path) -> Path:
    file = tmp_path_factory.mktemp("live") / "live.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(experiment: Path) -> Path:
    return start(configuration.read(experiment), experiment.parent / "run", 1, silent).path


@pytest.fixture
def world(experiment: Path) -> Iterator[World]:
    made = open_world(experiment, [], 6, silent)
    yield made
    made.close()


def test_live_people_do_in_the_first_round_what_they_do_in_the_run(world: World, finished: Path) -> None:
    run = LiveRun(world)
    while run.round == 0 and run.cohort.running:
        run.step()
    ids = [person.user_id for person in world.people]
    assert len(ids) == 6
    logged = pl.read_parquet(finished / "impressions.parquet").filter((pl.col("round") == 0) & pl.col("user").is_in(ids))
    live = run.log.impressions.select(logged.columns).sort("user", "session", "page", "position")
    assert live.equals(logged.sort("user", "session", "page", "position"))


def test_one_step_is_one_page_of_everybody_who_browses(world: World) -> None:
    run = LiveRun(world)
    assert run.turned == []
    run.step()
    assert run.steps == 1
    assert sorted(run.turned) == sorted(person.user_id for person in world.people)
    assert run.log.pages.height == 6 == run.turns[0]["browsing"]
    assert run.turns[0]["shown"] == 24 == run.log.impressions.height
    assert run.turns[0]["watched"] == run.log.impressions["chosen"].sum()
    assert run.turns[0]["tokens"] > 0
    first = run.story(run.turned[0])
    assert [item.chosen for item in first.visits[0].pages[0].items] == run.log.impressions.filter(pl.col("user") == run.turned[0])[
        "chosen"
    ].to_list()
    assert run.datacollector.get_model_vars_dataframe()["browsing"].tolist() == [6]


def test_people_remember_from_round_to_round_and_the_run_ends_after_the_last(world: World) -> None:
    run = LiveRun(world)
    user = world.people[0].user_id
    while run.round == 0:
        before = len(run.memories(user))
        run.step()
        assert len(run.turns) < 60
    assert len(run.memories(user)) > before > 0
    while run.running:
        run.step()
    assert (run.round, run.trouble) == (1, "")
    assert {visit.round for visit in run.story(user).visits} == {0, 1}
    assert {turn["round"] for turn in run.turns} == {1, 2}, "people count from 1, as the head of the page does"
    assert sum(turn["shown"] for turn in run.turns) == run.log.impressions.height


def test_settings_are_in_force_from_the_next_page_on(world: World) -> None:
    run = LiveRun(world)
    run.step()
    run.change(["recommender.use=environments.recommenders.random:Random", "recommender.page_size=3"])
    stayed = run.here
    run.step()
    assert run.turns[1]["shown"] == 3 * stayed > 0
    policies = run.log.impressions.group_by("page").agg(pl.col("policy").unique()).sort("page")["policy"].to_list()
    assert [names[0].partition("-")[0] for names in policies[:2]] == ["Popularity", "Random"]


def test_starting_over_begins_the_same_people_again_under_the_new_settings(world: World) -> None:
    first = LiveRun(world)
    first.step()
    again = LiveRun.start_over(world, ["recommender.page_size=6", "rounds=1"])
    assert world.live is again
    assert again.turns == []
    again.step()
    assert again.turns[0]["shown"] == 36
    assert again.last_round == 0


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("recommender.page_size=0", "page_size = 0"),
        ("recommender.exploration=sometimes", "exploration"),
        ("recommender.max_pages=3", "start over"),
        ("seed=8", "cannot be changed here"),
        ("recommender.use=environments.recommenders.bpr:BQR", "did you mean"),
        ("decision.colour=red", "colour"),
        ("recommender", "section.key=value"),
    ],
)
def test_a_setting_that_is_not_allowed_is_refused_in_the_words_of_an_experiment_file_and_changes_nothing(
    world: World, override: str, says: str
) -> None:
    run = LiveRun(world)
    before = world.parts
    with pytest.raises((ConfigError, PluginError), match=says):
        run.change([override])
    assert world.parts is before
    run.step()
    assert run.trouble == ""


def test_somebody_can_be_interviewed_between_two_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # The scripted model writes nothing true; it is to be asked all the same.
    monkeypatch.setattr("experiments.dashboard.world.writes_texts", lambda config, figures: True)
    run = LiveRun(world)
    run.step()
    user = world.people[0].user_id
    assert run.ask(user, "What did you like?")
    assert run.ask(user, "And what did you watch before that?")
    assert world._interviewer is not None
    asked = world._interviewer.requests[-1].messages  # type: ignore[attr-defined]
    assert [message.role for message in asked][-3:] == ["user", "assistant", "user"]
    assert any(record.text in asked[0].text for record in run.memories(user))


def test_people_without_a_language_model_browse_but_are_not_interviewed(experiment: Path) -> None:
    world = open_world(experiment, ["language_model=false", "decision.use=agents.controls:EvidenceDecisions"], 3, silent)
    try:
        run = LiveRun(world)
        run.step()
        assert run.turns[0]["browsing"] == 3
        assert run.turns[0]["tokens"] == 0
        with pytest.raises(ConfigError, match="nobody can be interviewed"):
            run.ask(world.people[0].user_id, "Hello?")
    finally:
        world.close()


def test_a_complete_run_goes_on_where_it_ended(finished: Path) -> None:
    files = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    world = open_world(finished, [], 4, silent)
    try:
        run = LiveRun(world)
        user = world.people[0].user_id
        stored = pl.read_parquet(finished / "memories.parquet").filter(pl.col("user") == user)
        assert [record.text for record in run.memories(user)] == stored["text"].to_list()
        run.step()
        assert run.round == 2
        assert {visit.round for visit in run.story(user).visits} == {0, 1, 2}
    finally:
        world.close()
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == files


def test_a_run_whose_shards_are_gone_is_refused_with_what_to_do(finished: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "rounds")
    with pytest.raises(RunError, match=r"no longer has .*give its config"):
        open_world(copy, [], 4, silent)


@pytest.mark.parametrize(
    "override",
    [
        "recommender.use=environments.recommenders.program:Program",
        'recommender.use="environments.recommenders.http_service:HttpService"',
        "recommender.use=os:system",
        "recommender.use=evil.py:Evil",
        "recommender.use={path = 'x'}",
        'recommender.command=["touch", "X"]',
        "recommender.command=touch",
        "recommender.url=http://127.0.0.1:9",
        "recommender.path=/etc/passwd",
        'recommender.headers={Accept = "x"}',
        'recommender.headers_file="/etc/passwd"',
        'recommender.base={use = "os:system"}',
        "recommender.base.use=os:system",
        'recommender={use = "os:system"}',
        "recommender=os:system",
        "decision.use=evil.py:Evil",
        "decision={use = 'evil.py:Evil'}",
        "decision.calibration=/tmp/x",
        "memory.use=evil.py:Evil",
        "memory.path='/tmp/x'",
        "rounds='os:system'",
        'recommender.weights=[1, "x"]',
        "recommender.similarity=os:system",
        "recommender.device=cuda",
        "language_model.path=/tmp/x.gguf",
        "dataset.path=/tmp",
        "population.taste=true",
    ],
)
def test_nothing_that_names_code_files_or_hosts_changes_from_the_page(world: World, override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from simulator import plugins

    run, before = LiveRun(world), world.parts
    monkeypatch.setattr(plugins, "load", lambda *_, **__: pytest.fail("something was imported"))
    for change in (run.change, lambda overrides: LiveRun.start_over(world, overrides)):
        with pytest.raises(ConfigError) as error:
            change(["recommender.page_size=2", override])
        assert "Traceback" not in str(error.value)
    assert world.parts is before
    assert world.live is run


def test_the_recommender_that_the_dashboard_began_with_comes_back_with_its_options(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from environments.recommenders.item_knn import ItemKNN\n\nclass Mine(ItemKNN):\n    Config = ItemKNN.Config\n", encoding="utf-8"
    )
    mine = f"{tmp_path}/mine.py:Mine"
    world = open_world(experiment, [f"recommender.use={mine}", "recommender.neighbours=3"], 3, silent)
    try:
        run = LiveRun(world)
        run.change(["recommender.use=environments.recommenders.popularity:Popularity"])
        assert world.parts.config.recommender.options_of_recommender == {}
        run.change([f'recommender.use="{mine}"'])
        assert world.parts.config.recommender.options_of_recommender == {"neighbours": 3}
        run.step()
        assert run.trouble == ""
    finally:
        world.close()
