import sys
from pathlib import Path

import numpy as np
import pytest

from environments.recommenders import program as program_module
from environments.recommenders import replies
from environments.recommenders.program import Program, ProgramConfig
from simulator.errors import RecommenderError
from simulator.plugins import build
from simulator.seeds import Stream
from simulator.testing import CheckerboardWorld, PersonalisedRecommenderContract

EXAMPLE = str(Path(__file__).parent / "example_service.py")
WORLD = CheckerboardWorld()


def program(behave="", **options):
    return Program(ProgramConfig(command=[sys.executable, EXAMPLE, behave], **options))


def fitted(made):
    made.fit(WORLD.dataset.interactions, WORLD.dataset.catalog, Stream(1))
    return made


def ask(made, n=5):
    return made.recommend(np.array([0], dtype=np.int32), [WORLD.history(0)], n, Stream(2))


class TestProgram(PersonalisedRecommenderContract):
    @pytest.fixture(autouse=True)
    def _ended_afterwards(self):
        self.made = []
        yield
        for one in self.made:
            one.close()

    def make(self):
        self.made.append(program())
        return self.made[-1]


def test_a_program_that_hangs_is_ended_in_time_and_the_error_says_so():
    with pytest.raises(RecommenderError, match=r"did not answer within 0\.3 s while it was asked to recommend"):
        ask(fitted(program("hang", timeout_seconds=0.3, restarts=0)))


def test_a_program_that_dies_leaves_its_last_words():
    with pytest.raises(RecommenderError, match=r"ended with status 1 \(out of ideas\)"):
        ask(fitted(program("die")))


def test_a_program_that_died_is_started_again_from_its_saved_state(tmp_path):
    made = fitted(program(f"die-once:{tmp_path / 'died'}"))
    (tmp_path / "saved").mkdir()
    made.save(tmp_path / "saved")
    healthy = fitted(program())
    np.testing.assert_array_equal(ask(made)[0].items, ask(healthy)[0].items)
    assert (tmp_path / "died").exists()
    made.close()
    healthy.close()


def test_a_program_that_chats_on_stdout_is_told_so():
    with pytest.raises(RecommenderError, match="not a line of JSON"):
        ask(fitted(program("chat", restarts=0)))


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(RecommenderError, match=r"no-such-program cannot be started .* check recommender\.command"):
        fitted(Program(ProgramConfig(command=["no-such-program"])))


def test_an_experiment_file_can_name_a_program():
    made = build(
        "environments.recommenders.program:Program", {"command": ["x"]}, where="recommender", methods=("fit", "recommend", "save", "load")
    )
    assert made.config.command == ["x"]


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        ("endless-fit", "wrote a line of more than 2 MB"),
        ("drip-fit", r"did not answer within 1 s"),
        ("complain", r"ended with status 1 \(out of ideas\)"),
    ],
)
def test_a_program_that_never_ends_its_answer_is_ended(behave, words, monkeypatch):
    monkeypatch.setattr(program_module, "LARGEST_ANSWER", 2_000_000)
    timeout = 60 if behave != "drip-fit" else 1
    with pytest.raises(RecommenderError, match=words):
        fitted(program(behave, fit_timeout_seconds=timeout, restarts=0))


def test_a_program_that_writes_line_after_line_is_ended_and_kept_from_filling_the_memory():
    made = program("lines-fit", fit_timeout_seconds=60, restarts=0)
    with pytest.raises(RecommenderError, match="to fit; it must answer"):
        fitted(made)
    assert made._conversation._lines.qsize() <= 1
    with pytest.raises(RecommenderError, match="without having been asked"):
        fitted(made)


def test_a_program_that_reads_nothing_is_ended_in_time():
    made = program("deaf", restarts=0)
    with pytest.raises(RecommenderError, match=r"did not answer within 0\.3 s"):
        made._ask({"do": "fit", "items": "x" * 5_000_000}, 0.3)


def test_a_program_is_told_the_own_ids_of_people(tmp_path):
    made = fitted(program())
    own = list(WORLD.dataset.users["user_id"])
    message = replies.recommend_message("s", np.array([3], dtype=np.int32), [WORLD.history(3)], None, 5, Stream(2), made._ids)
    assert message["people"][0]["user"] == own[3]
    (tmp_path / "saved").mkdir()
    made.save(tmp_path / "saved")
    again = program()
    again.load(tmp_path / "saved")
    assert again._ids.users.tolist() == own
    np.testing.assert_array_equal(ask(made)[0].items, ask(again)[0].items)
    for one in (made, again):
        one.close()


def test_a_saved_state_without_ids_is_one_sentence(tmp_path):
    made = fitted(program())
    (tmp_path / "saved").mkdir()
    made.save(tmp_path / "saved")
    made.close()
    (tmp_path / "saved" / "ids.json").write_text('{"items": ["a"]}')
    with pytest.raises(RecommenderError, match="does not hold the ids of items and people"):
        program().load(tmp_path / "saved")
