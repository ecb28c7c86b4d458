import importlib.util
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from environments.recommenders.http_service import HttpService, HttpServiceConfig
from simulator.errors import RecommenderError
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract, RecommenderContract

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
