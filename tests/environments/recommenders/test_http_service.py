import importlib.util
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from environments.recommenders.http_service import HttpService, HttpServiceConfig
from simulator.errors import ConfigError, RecommenderError
from simulator.plugins import resolve
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, RecommenderContract
from simulator.testing_liars import LIES, Liar

WORLD = CheckerboardWorld()
spec = importlib.util.spec_from_file_location("example_service", Path(__file__).parent / "example_service.py")
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


@pytest.fixture
def served():
    """Starts servers; each gets what answers a (path, message)."""
    servers = []

    def start(answer=None):
        server = example.serve(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def service(url, **options):
    return HttpService(HttpServiceConfig(url=url, wait_seconds=0.01, **options))


def fitted(made):
    made.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    return made


def ask(made, n=5):
    return made.recommend(np.array([0], dtype=np.int32), [WORLD.history(0)], n, Stream(2))[0]


def answering(reply):
    return lambda path, message: (200, {"state": "s"} if path == "fit" else reply(message))


class TestHttpService(PersonalisedRecommenderContract):
    @pytest.fixture(autouse=True)
    def _server(self, served):
        self.url = served()

    def make(self):
        return service(self.url)


class TestServiceThatDraws(RecommenderContract):
    @pytest.fixture(autouse=True)
    def _server(self, served):
        def answer(path, message):
            if path == "fit":
                return 200, example.fit(message)
            model = example.STATES[message["state"]]
            return 200, {"slates": [example.drawn(model, person, message["n"]) for person in message["people"]]}

        self.url = served(answer)

    def make(self):
        return service(self.url)


def test_a_service_that_fails_for_a_moment_is_asked_again(served):
    failures = iter([503, 500])

    def answer(path, message):
        status = 200 if path == "fit" else next(failures, 200)
        return status, {"fit": example.fit, "recommend": example.recommend}[path](message)

    assert len(ask(fitted(service(served(answer)))).items) == 5
    assert next(failures, None) is None


def test_a_service_that_keeps_failing_is_given_up(served):
    asked = []

    def answer(path, message):
        asked.append(path)
        return 503, {}

    with pytest.raises(RecommenderError, match=r"/fit failed 2 times, last: status 503"):
        fitted(service(served(answer), attempts=2))
    assert asked == ["fit", "fit"]


def test_a_request_that_the_service_refuses_is_not_repeated(served):
    asked = []

    def answer(path, message):
        asked.append(path)
        return 422, b"no such field"

    with pytest.raises(RecommenderError, match="refused the request with status 422: no such field"):
        fitted(service(served(answer)))
    assert asked == ["fit"]


def test_a_slow_service_is_given_up_in_time(served):
    def slow(message):
        time.sleep(0.5)
        return {"slates": []}

    made = fitted(service(served(answering(slow)), timeout_seconds=0.1, attempts=1))
    with pytest.raises(RecommenderError, match=r"no answer within 0\.1 s"):
        ask(made)


def test_a_service_that_is_not_there_is_named():
    with pytest.raises(RecommenderError, match="is the service running"):
        fitted(service("http://127.0.0.1:9", attempts=1))


def test_a_service_with_its_own_model_is_never_sent_the_log(served):
    def answer(path, message):
        assert path == "recommend"
        assert message["state"] == "mine"
        return 200, {"slates": [{"items": ["i40"], "scores": [1]}]}

    made = fitted(service(served(answer), fits=False, state="mine"))
    assert ask(made, n=1).items.tolist() == [40]


SEEN, UNSEEN = WORLD.history(0), np.setdiff1d(np.arange(WORLD.n_items), WORLD.history(0))
GOOD = [f"i{item}" for item in UNSEEN]
BROKEN = [
    ("unknown item", {"items": ["ghost", *GOOD[:5]], "scores": [9, 5, 4, 3, 2, 1]}, "the unknown item 'ghost'"),
    ("repeated item", {"items": [GOOD[0], GOOD[0], *GOOD[1:5]], "scores": [9, 5, 4, 3, 2, 1]}, "twice in one slate"),
    ("item not to be shown", {"items": [f"i{SEEN[0]}", *GOOD[:5]], "scores": [9, 5, 4, 3, 2, 1]}, "in that person's history"),
    ("score", {"items": GOOD[:6], "scores": [9, "high", 4, 3, 2, 1]}, "the score 'high'"),
    ("order", {"items": GOOD[:5], "scores": [1, 2, 3, 4, 5]}, "scores that increase"),
    ("no scores", {"items": GOOD[:5]}, "no scores"),
    ("too few items", {"items": GOOD[:2], "scores": [2, 1]}, "2 usable items where 5 were asked for and 5 exist"),
]


@pytest.mark.parametrize(("kind", "slate", "message"), BROKEN)
def test_an_answer_that_breaks_the_contract_is_refused_or_repaired_and_counted(served, caplog, kind, slate, message):
    url = served(answering(lambda _: {"slates": [slate]}))
    with pytest.raises(RecommenderError, match=message):
        ask(fitted(service(url)))
    mending = fitted(service(url, repair="repair"))
    repaired = ask(mending)
    assert mending.reader.repairs == {kind: 1}
    assert kind in caplog.text
    assert len(repaired.items) == len(np.unique(repaired.items)) == 5
    assert not np.isin(repaired.items, SEEN).any()
    assert (np.diff(repaired.scores) <= 0).all()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ([], "must answer a JSON object"),
        ({"error": "the model is gone"}, "answered with an error: 'the model is gone'"),
        ({"slates": []}, "0 slates for 1 people"),
        ({"lists": []}, "it must answer {'slates'"),
        ({"slates": [{"items": GOOD[:5], "scores": [1]}]}, "5 items but 1 scores"),
        ({"slates": [{"items": GOOD[:2], "scores": [2, 1], "propensities": [0.5, 0.5]}]}, "an answer with propensities cannot be repaired"),
    ],
)
def test_what_cannot_be_repaired_is_refused(served, reply, message):
    with pytest.raises(RecommenderError, match=message):
        ask(fitted(service(served(answering(lambda _: reply)), repair="repair")))


def test_an_answer_that_is_not_json_is_shown(served):
    with pytest.raises(RecommenderError, match=r"not JSON: '<html>oops'"):
        fitted(service(served(lambda path, message: (200, b"<html>oops"))))


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_of_a_service_lasts_longer_than_its_time_out_or_fills_anything(lie):
    with Liar(lie) as server:
        made = service(server.url, attempts=2, fit_timeout_seconds=0.3, timeout_seconds=0.3)
        if lie == "long":
            assert fitted(made)._state == "s"
            return
        with pytest.raises(RecommenderError) as error:
            fitted(made)
        assert server.sent < 300_000_000
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)
    assert server.url in str(error.value)


@pytest.mark.parametrize(
    ("chance", "message"),
    [
        (1.5, "1.5"),
        (-0.1, "-0.1"),
        (0, "0"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("0.5", "'0.5'"),
        (None, "None"),
        (True, "True"),
        ([0.5], "0.5"),
    ],
)
@pytest.mark.parametrize("repair", ["refuse", "repair"])
def test_a_propensity_that_is_no_probability_is_refused(served, chance, message, repair):
    slate = {"items": GOOD[:5], "scores": [5, 4, 3, 2, 1], "propensities": [0.5, chance, 0.5, 0.5, 0.5]}
    with pytest.raises(RecommenderError, match=r"propensity .*no number above 0 and at most 1") as error:
        ask(fitted(service(served(answering(lambda _: {"slates": [slate]})), repair=repair)))
    assert message in str(error.value)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), 10**400, None, True, "5", [5], {}])
def test_a_score_that_is_no_finite_number_is_refused_or_repaired(served, score):
    slate = {"items": GOOD[:6], "scores": [9, score, 4, 3, 2, 1]}
    url = served(answering(lambda _: {"slates": [slate]}))
    with pytest.raises(RecommenderError, match="no finite number"):
        ask(fitted(service(url)))
    mending = fitted(service(url, repair="repair"))
    assert np.isfinite(ask(mending).scores).all()
    assert mending.reader.repairs == {"score": 1}


def test_a_service_is_told_the_own_ids_of_people_and_items_and_never_inner_numbers(served, tmp_path):
    told = {}

    def answer(path, message):
        told[path] = message
        return 200, {"fit": example.fit, "recommend": example.recommend}[path](message)

    dataset = WORLD.dataset
    own = pl.Series("user_id", [f"person {900 - code}" for code in range(dataset.n_users)])
    named = replace(dataset, users=dataset.users.with_columns(own))
    made = service(served(answer))
    made.fit(named.interactions, named.catalog, Stream(1))
    codes = named.interactions["user"].to_list()
    assert told["fit"]["interactions"]["user"] == [f"person {900 - code}" for code in codes]
    made.save(tmp_path)
    again = service(made.config.url)
    again.load(tmp_path)
    for asked in (made, again):
        people = np.array([3, dataset.n_users + 2], dtype=np.int32)
        asked.recommend(people, [WORLD.history(3), WORLD.history(0)], 5, Stream(2))
        first, synthetic = told["recommend"]["people"]
        assert (first["user"], synthetic["user"]) == ("person 897", "synthetic-0002")
        assert first["history"] == [f"i{item}" for item in WORLD.history(3)]


def test_secret_headers_are_sent_from_the_environment_and_a_file_and_masked_where_they_come_back(served, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_SERVICE", "Bearer hunter2")
    (tmp_path / "more").write_text("X-Api-Key: tops3cret\n")
    seen = []

    def answer(path, message, headers):
        seen.append(headers)
        return 403, f"no entry for Bearer hunter2 with {headers['X-Api-Key']}".encode()

    url = served(answer)
    with pytest.raises(RecommenderError, match="no entry for") as error:
        fitted(service(url, headers={"Accept": "text/plain"}, headers_env={"Authorization": "MY_SERVICE"}, headers_file=tmp_path / "more"))
    assert (seen[0]["Authorization"], seen[0]["X-Api-Key"], seen[0]["Accept"]) == ("Bearer hunter2", "tops3cret", "text/plain")
    assert "hunter2" not in str(error.value)
    assert "tops3cret" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://user:hunter2@localhost"},
        {"url": "hunter2@localhost"},
        {"url": "http://localhost?key=hunter2"},
        {"url": "http://localhost", "headers": {"Authorization": "Bearer hunter2"}},
        {"url": "http://localhost", "headers": ["hunter2"]},
        {"url": "http://localhost", "headers_env": {"Authorization": "hunter2"}},
        {"url": "http://localhost", "headers_env": {"Authorization": "Bearer hunter2"}},
        {"url": "http://localhost", "headers_env": "hunter2"},
    ],
)
def test_a_secret_among_the_options_is_refused_and_not_shown(options):
    with pytest.raises(ConfigError) as error:
        resolve("environments.recommenders.http_service:HttpService", options, where="recommender", methods=("fit",))
    assert "hunter2" not in str(error.value)
    with pytest.raises(ValidationError) as invalid:
        HttpServiceConfig(**options)
    assert "hunter2" not in str(invalid.value)
