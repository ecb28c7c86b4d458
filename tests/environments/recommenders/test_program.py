import sys
from pathlib import Path

import numpy as np
import pytest

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
