"""Environments of Gymnasium: the rules of the interface, the same people as in a run, one or many at once."""

import json
from collections import Counter

import numpy as np
import polars as pl
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode  # noqa: E402

from environments.given_slates import Given, GivenSlates  # noqa: E402
from experiments import build  # noqa: E402
from experiments import config as configuration  # noqa: E402
from experiments.cli import call  # noqa: E402
from experiments.reinforcement import ENVIRONMENT, make, make_vector  # noqa: E402
from experiments.reinforcement.seats import Seats  # noqa: E402
from experiments.reinforcement.world import open_world  # noqa: E402
from simulator.errors import UsersimError  # noqa: E402
from simulator.records import PageRequest, Slate  # noqa: E402
from simulator.seeds import Stream  # noqa: E402

EXPERIMENT = """
name = "learned"
[dataset]
path = {data}
[population]
users = 12
synthetic = 2
[decision]
use = "agents.controls:EvidenceDecisions"
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[recommender]
use = "environments.recommenders.ease:EASE"
page_size = 3
max_pages = 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory, film_files):
    path = tmp_path_factory.mktemp("learned") / "learned.toml"
    path.write_text(EXPERIMENT.format(data=json.dumps(str(film_files))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def world(file):
    return open_world(file)


@pytest.fixture(scope="module")
def offering(file):
    """A world in which an action picks among ten candidates."""
    return open_world(file, candidates=10)


@pytest.fixture(scope="module")
def asking(file):
    """A world whose people ask a (scripted) language model."""
    return open_world(file, ["decision.use=agents.decisions:LanguageModelDecisions", "decision.reference_pages=4"])


def same(one, other):
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def played(environment, seed, actions):
    """Everything that an environment answers until the episode ends."""
    seen = [environment.reset(seed=seed)]
    for action in actions:
        seen.append(environment.step(action))
        if seen[-1][2] or seen[-1][3]:
            break
    return seen


def drawn(environment, count, seed=5):
    environment.action_space.seed(seed)
    return [environment.action_space.sample() for _ in range(count)]


@pytest.mark.parametrize("options", [{}, {"candidates": 10, "reward": "likes", "repair_penalty": 0.5}])
def test_the_checker_of_gymnasium_finds_nothing(file, options):
    """Warnings are errors here."""
    environment = gymnasium.make(ENVIRONMENT, config=str(file), **options)
    check_env(environment.unwrapped)
    environment.close()
    environment.close()


def test_both_are_registered_with_the_wrappers_of_gymnasium(file):
    environments = gymnasium.make_vec(f"experiments.reinforcement:{ENVIRONMENT}", num_envs=3, config=str(file), history_length=7)
    counted = gymnasium.wrappers.vector.RecordEpisodeStatistics(environments)
    observations, _ = counted.reset(seed=1)
    returns = []
    for _ in range(12):
        observations, _, _, _, infos = counted.step(counted.action_space.sample())
        assert observations in environments.observation_space
        returns += infos["episode"]["r"][infos["_episode"]].tolist() if "episode" in infos else []
    assert observations["history"].shape == (3, 7)
    assert returns
    counted.close()


@pytest.mark.parametrize("kind", ["world", "asking"])
def test_an_episode_is_that_of_the_person_in_a_run_of_the_same_pages(kind, request, film_world):
    """The agent shows what the run's recommender shows, so people must do what they do in `Cohort.run`, row by row."""
    world = request.getfixturevalue(kind)
    from environments.feed import Feed
    from simulator.log import CohortLog
    from simulator.session import Cohort

    fitted = build.recommender(world.config)
    fitted.fit(world.train.interactions, world.train.catalog, Stream(1))
    feed = Feed(fitted, "agent", world.config.recommender.feed_config(), world.train.n_items)
    person, stream = world.people[3], Stream(9).child("somebody")
    log = CohortLog(world.actions, world.train.catalog.item_ids)
    seats = Seats(world, 1)
    seats.begin({0: (stream, person)})
    seat = seats.seat(0)
    while not seat.over:
        seats.turn({0: feed.serve([seat.request])[0].items})

    from agents.arrivals import Window
    from agents.user import UserAgent
    from simulator.records import Past

    window = Window(world.origin, world.origin + world.round_seconds)

    def somebody(model):
        memory = build.memory(world.config, world.train.catalog)
        return [UserAgent(model, person, memory, Past(), world.habits, round_number=0, window=window, origin=world.origin, stream=stream)]

    Cohort(somebody, feed, world.decisions, log, stream).run()
    expected, found = log.tables(), seat.tables
    for name, table in expected.items():
        unknown = [column for column in ("score", "propensity") if column in table.columns]
        assert found[name].drop(unknown).equals(table.drop(unknown))
    assert expected["pages"].height >= 1
    assert found["impressions"]["propensity"].null_count() == found["impressions"].height


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(world):
    one, other = make(world), make(world)
    actions = drawn(one, 3)
    first, again, different = played(one, 4, actions), played(other, 4, actions), played(one, 5, actions)
    assert len(first) == len(again)
    for left, right in zip(first, again, strict=True):
        same(left[0], right[0])
        assert left[1:] == right[1:]
    assert str(first) != str(different)
    one.reset(seed=4)
    other.reset(seed=4)
    later = [[environment.reset()[1]["user"] for _ in range(12)] for environment in (one, other)]
    assert later[0] == later[1]
    assert len(set(later[0])) > 2
    users = Counter(one.reset(seed=seed)[1]["user"] for seed in range(60))
    assert len(users) > 7


@pytest.mark.parametrize("kind", ["world", "offering", "asking"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_many_at_once_see_and_do_what_each_does_alone(kind, mode, request):
    world = request.getfixturevalue(kind)
    together = make_vector(4, world, autoreset_mode=mode, reward="rating")
    alone = [make(world, reward="rating") for _ in range(4)]
    observations, infos = together.reset(seed=20)
    for number, environment in enumerate(alone):
        own, info = environment.reset(seed=20 + number)
        same(own, {key: values[number] for key, values in observations.items()})
        assert info["user"] == infos["user"][number]
    begins = [False] * 4
    for actions in drawn(together, 14):
        observations, rewards, terminated, truncated, infos = together.step(actions)
        for number, environment in enumerate(alone):
            if begins[number]:
                own, info = environment.reset()
                assert (rewards[number], terminated[number], truncated[number]) == (0.0, False, False)
                begins[number] = False
            else:
                own, reward, over, cut, info = environment.step(actions[number])
                assert (rewards[number], terminated[number], truncated[number]) == (reward, over, cut)
                if (over or cut) and mode is AutoresetMode.SAME_STEP:
                    same(own, infos["final_obs"][number])
                    assert infos["final_info"]["session"][number] == info["session"]
                    own, info = environment.reset()
                begins[number] = (over or cut) and mode is AutoresetMode.NEXT_STEP
            same(own, {key: values[number] for key, values in observations.items()})
            assert all(infos[key][number] == value for key, value in info.items())


def test_without_autoreset_an_ended_environment_waits_for_a_mask(world):
    environments = make_vector(3, world, autoreset_mode="Disabled")
    environments.reset(seed=[7, 8, 9])
    over = np.zeros(3, dtype=bool)
    while not over.any():
        _, _, terminated, truncated, _ = environments.step(environments.action_space.sample())
        over = terminated | truncated
    with pytest.raises(UsersimError, match=r"the episode of environment \d is over: reset it"):
        environments.step(environments.action_space.sample())
    _, infos = environments.reset(options={"reset_mask": over, "user": ["1", "2", "3"]})
    assert np.array_equal(infos["_user"], over)
    assert [infos["user"][number] for number in np.flatnonzero(over)] == [("1", "2", "3")[number] for number in np.flatnonzero(over)]
    environments.step(environments.action_space.sample())


def test_one_person_may_sit_on_several_seats(offering):
    environments = make_vector(3, offering)
    observations, infos = environments.reset(seed=[7, 7, 8], options={"user": "3"})
    assert infos["user"].tolist() == ["3"] * 3
    assert np.array_equal(observations["candidates"][0], observations["candidates"][2])
    actions = np.array([[0, 1, 2], [7, 8, 9], [0, 1, 2]])
    _, _, _, _, infos = environments.step(actions)
    shown = [[row["item"] for row in rows] for rows in infos["impressions"]]
    assert shown[0] == shown[2] != shown[1]


REWARDED = {
    "choices": lambda log, pages, sessions: log["chosen"].sum(),
    "likes": lambda log, pages, sessions: (log["rating"] >= 4).sum(),
    "rating": lambda log, pages, sessions: log["rating"].sum(),
    "satisfaction": lambda log, pages, sessions: sessions["satisfaction"].sum(),
    "session_length": lambda log, pages, sessions: pages.height,
}


@pytest.mark.parametrize("reward", list(REWARDED))
def test_rewards_are_what_the_log_says(world, reward):
    environment = make(world, reward=reward)
    total = 0.0
    for seed in range(12):
        seen = played(environment, seed, drawn(environment, 3, seed))
        tables = environment.tables()
        log, pages, sessions = (tables[name] for name in ("impressions", "pages", "sessions"))
        earned = sum(step[1] for step in seen[1:])
        assert earned == pytest.approx(REWARDED[reward](log, pages, sessions))
        rows = [row for step in seen[1:] for row in step[4]["impressions"]]
        assert pl.DataFrame(rows, schema=log.schema).equals(log)
        exit_ = sessions["exit"].item()
        assert seen[-1][2:4] == ((False, True) if exit_ == "last_page" else (True, False))
        total += earned
    assert total > 0


def test_a_function_of_ones_own_may_be_the_reward(world, tmp_path):
    (tmp_path / "mine.py").write_text("def top(turn):\n    return 10 * turn.impressions[0]['chosen']\n\nnumber = 3\n")
    environment = make(world, reward=f"{tmp_path}/mine.py:top")
    rewards = {step[1] for seed in range(8) for step in played(environment, seed, drawn(environment, 3, seed))[1:]}
    assert rewards == {0.0, 10.0}
    with pytest.raises(UsersimError, match="did you mean 'top'"):
        make(world, reward=f"{tmp_path}/mine.py:topp")


def test_the_observation_is_what_a_recommender_may_know(world):
    environment = make(world, history_length=60)
    observation, _ = environment.reset(seed=2, options={"user": "6"})
    person = world.person("6")
    known, n = len(person.history), world.train.n_items
    assert observation["history"][-known:].tolist() == person.history.tolist()
    assert (observation["history"][:-known] == n).all()
    assert observation["history_ratings"][-known:] == pytest.approx((person.ratings - 1) / 4)
    assert set(observation) == {"user", "history", "history_ratings", "page", "shown", "chosen", "ratings", "time"}
    while True:
        observation, _, terminated, truncated, info = environment.step(drawn(environment, 1)[0])
        rows = environment.tables()["impressions"]
        codes = {item: code for code, item in enumerate(world.train.catalog.item_ids)}
        assert observation["shown"][: rows.height].tolist() == [codes[item] for item in rows["item"]]
        assert observation["chosen"][: rows.height].tolist() == rows["chosen"].to_list()
        assert observation["ratings"][: rows.height] == pytest.approx(((rows["rating"] - 1) / 4).fill_null(-1.0).to_numpy())
        taken = rows.filter("chosen")["item"].to_list()
        assert observation["history"][60 - len(taken) :].tolist() == [codes[item] for item in taken]
        assert observation["page"] == info["page"]["page"] + 1
        if terminated or truncated:
            break


def test_nothing_held_out_reaches_an_environment(file, world, film_world):
    config = configuration.read(file)
    test = build.data(config).test
    assert test.height > 0
    held = set(test.select("user", "item").iter_rows())
    assert not held & set(world.train.interactions.select("user", "item").iter_rows())
    for person in world.people:
        assert not {(person.user, item) for item in person.history.tolist()} & held


def test_candidates_are_the_best_of_the_recommender_and_actions_pick_among_them(offering):
    environment = make(offering)
    observation, info = environment.reset(seed=3)
    candidates, scores = observation["candidates"], observation["candidate_features"][:, -1]
    assert len(set(candidates.tolist())) == 10
    assert not set(candidates.tolist()) & set(observation["history"].tolist())
    assert scores[0] == 1.0
    assert scores[-1] == 0.0
    assert (np.diff(scores) <= 0).all()
    assert np.array_equal(observation["candidate_features"][:, :-1], offering.features.values[candidates])
    _, _, _, _, info = environment.step(np.array([4, 0, 9]))
    ids = offering.train.catalog.item_ids
    assert [row["item"] for row in info["impressions"]] == [ids[candidates[place]] for place in (4, 0, 9)]
    assert info["repaired"] == 0


def test_masks_avoid_every_repair_but_those_within_a_page(world):
    environment = make(world, repair_penalty=2.0)
    observation, _ = environment.reset(seed=3)
    mask = environment.action_masks().reshape(3, -1)
    allowed = np.flatnonzero(mask[0])
    assert set(np.flatnonzero(~mask[0]).tolist()) == set(observation["history"].tolist()) - {world.train.n_items}
    _, reward, _, _, info = environment.step(allowed[:3])
    assert info["repaired"] == 0
    assert reward == sum(row["chosen"] for row in info["impressions"])
    environment.reset(seed=3)
    seen = int(observation["history"][-1])
    _, reward, _, _, info = environment.step(np.array([seen, allowed[0], allowed[0]]))
    assert info["repaired"] == 2
    assert reward == sum(row["chosen"] for row in info["impressions"]) - 4.0
    assert len({row["item"] for row in info["impressions"]}) == 3


def test_repairs_take_the_first_backup_that_is_nowhere_on_the_page():
    def page(items, history=(), shown=(), backups=(0, 1, 2, 3, 4)):
        slates = GivenSlates(5, "agent")
        request = PageRequest(0, 1, np.array(history, dtype=np.int32), np.array(shown, dtype=np.int32), Stream(1))
        given = np.array(items)
        slates.give([Given(given, given / 10, Slate(np.array(backups, dtype=np.int32), np.array(backups) / 10))])
        served = slates.serve([request])[0]
        return None if served is None else [(one.position, one.item, one.score) for one in served.impressions], slates.repaired

    assert page([3, 1]) == ([(1, 3, 0.3), (2, 1, 0.1)], [0])
    assert page([3, 3, 0]) == ([(1, 3, 0.3), (2, 1, 0.1), (3, 0, 0.0)], [1])
    assert page([4, 5], history=[4, 0], shown=[1]) == ([(1, 2, 0.2), (2, 3, 0.3)], [2])
    assert page([0, 1, 2], history=[0, 1, 3, 4]) == ([(1, 2, 0.2)], [2])
    assert page([0], history=range(5)) == (None, [1])


def test_when_everything_was_shown_the_episode_ends(file):
    environment = make(
        file, ["recommender.page_size=30", "recommender.max_pages=5", "decision.choose_rate=0.01", "decision.typical_pages=50"]
    )
    over, seeds, exhausted = False, iter(range(40)), 0
    for seed in seeds:
        environment.reset(seed=seed)
        over = False
        while not over:
            _, reward, terminated, truncated, info = environment.step(environment.action_space.sample())
            over = terminated or truncated
        if info["session"]["exit"] == "exhausted":
            assert (terminated, truncated, reward, info["impressions"]) == (True, False, 0.0, [])
            exhausted += 1
    assert exhausted > 0


def test_all_sessions_of_a_period_are_one_episode_if_people_come_by_their_rhythm(file):
    environment = make(file, ["population.sessions=rhythm", "round_days=60"], reward="satisfaction")
    sessions = []
    for seed in range(6):
        environment.reset(seed=seed)
        paid, terminated, truncated = 0, False, False
        while not (terminated or truncated):
            observation, reward, terminated, truncated, info = environment.step(environment.action_space.sample())
            paid += reward > 0
            if "session" in info and not truncated:
                assert (observation["shown"] == environment.world.train.n_items).all()
                assert observation["page"] == 1
        assert (terminated, truncated) == (False, True)
        sessions.append(environment.tables()["sessions"].height)
        assert paid == sessions[-1]
    assert max(sessions) > 1


def test_a_run_lends_its_fitted_people(file, tmp_path):
    assert call(["run", str(file), "--output", str(tmp_path / "run"), "--workers", "1"]) == 0
    fresh, kept = make(file), make(tmp_path / "run")
    actions = drawn(fresh, 3)
    for one, other in zip(played(fresh, 1, actions), played(kept, 1, actions), strict=True):
        same(one[0], other[0])
        assert one[1:] == other[1:]
    with pytest.raises(UsersimError, match="cannot be set for a run"):
        make(tmp_path / "run", ["population.users=3"])


def test_a_page_can_be_read(world):
    environment = make(world, render_mode="ansi")
    environment.reset(seed=1, options={"user": "2"})
    assert environment.render() == "Person 2: no page yet."
    environment.step(np.array([0, 1, 2]))
    assert len(environment.render().splitlines()) == 4
    assert "1. Film" in environment.render()
    assert make(world).render() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reward": "likse"}, "unknown reward 'likse'; did you mean 'likes'?"),
        ({"reward": "json:dumpz"}, "in 'json:dumpz'"),
        ({"candidates": 2}, "candidates = 2, but a page has 3 places"),
        ({"candidates": 41}, "write a number from 3 to 40"),
        ({"history_length": 0}, "history_length = 0, but it must be at least 1"),
        ({"repair_penalty": -1}, "must be 0 or more"),
        ({"render_mode": "human"}, "render_mode = 'human', but it must be 'ansi'"),
        ({"overrides": ["recommender.page_sice=3"]}, "page_sice"),
        ({"overrides": ["population.taste=true"]}, "give the folder of one"),
        ({"config": "nowhere.toml"}, "there is no experiment file nowhere.toml"),
    ],
)
def test_a_wrong_setting_is_one_sentence(file, options, words):
    with pytest.raises(UsersimError) as caught:
        make(**{"config": file, **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ([0, 1], r"shape \(2,\); it must be item codes, whole numbers from 0 to 39, shape \(3,\)"),
        ([0.0, 1.0, 2.0], "the action is float64"),
        ([0, 1, 40], "the action has 40"),
        ([0, -1, 3], "the action has -1"),
        (None, "the action is object"),
    ],
)
def test_a_wrong_action_is_one_sentence(world, action, words):
    environment = make(world)
    environment.reset(seed=1)
    with pytest.raises(UsersimError, match=words):
        environment.step(action)


def test_what_comes_at_the_wrong_time_or_for_nobody_is_one_sentence(world, file):
    environment = make(world)
    with pytest.raises(UsersimError, match="call reset before step"):
        environment.step(np.array([0, 1, 2]))
    with pytest.raises(UsersimError, match="there is no person 'Nobody' among the 14 people"):
        environment.reset(options={"user": "Nobody"})
    played(environment, 1, drawn(environment, 3))
    with pytest.raises(UsersimError, match="this episode is over"):
        environment.step(np.array([0, 1, 2]))
    with pytest.raises(UsersimError, match="seed has 2 entries for 3 environments"):
        make_vector(3, world).reset(seed=[1, 2])
    with pytest.raises(UsersimError, match="reset_mask must be a boolean array"):
        make_vector(3, world).reset(options={"reset_mask": np.ones(2)})
    with pytest.raises(UsersimError, match="must be one of NextStep, SameStep, Disabled"):
        make_vector(3, world, autoreset_mode="never")
    with pytest.raises(UsersimError, match="chosen when it was opened"):
        make(world, candidates=7)


@pytest.mark.parametrize("made", [make, lambda world: make_vector(2, world)], ids=["one", "many"])
def test_an_option_of_reset_that_nobody_knows_is_one_sentence(world, made):
    environment = made(world)
    with pytest.raises(UsersimError, match="unknown option of reset 'usr'; did you mean 'user'"):
        environment.reset(seed=1, options={"usr": "1"})
    with pytest.raises(UsersimError, match="the options of reset are 'user'"):
        environment.reset(options="user")
    if made is make:
        with pytest.raises(UsersimError, match="unknown option of reset 'reset_mask'"):
            environment.reset(options={"reset_mask": np.array([True])})


def test_people_who_live_their_time_again_come_when_they_come_in_a_run(file):
    with_times = open_world(file, ["population.sessions=relived", "round_days=2000"])
    first = with_times.train.interactions["timestamp"].min()
    assert 0 <= first - with_times.origin < 86_400
    environment = make(with_times)
    environment.reset(seed=1, options={"user": with_times.people[0].user_id})
    environment.step(np.array([0, 1, 2]))
    start = environment.tables()["pages"]["time"][0]
    assert start == with_times.people[0].rhythm.visits.start
