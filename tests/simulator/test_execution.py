import logging
import os
import signal
import warnings
from functools import partial

import pytest

from simulator.errors import RunError
from simulator.execution import cores, execution, own_cores
from simulator.run_log import join_log


class Doubler:
    def __init__(self, bonus):
        self.bonus = bonus

    def __call__(self, task):
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "fail":
            raise ValueError("task failed")
        return 2 * task + self.bonus


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_whoever_does_it(workers):
    work = execution(partial(Doubler, 1), workers)
    assert sorted(work.map(list(range(10)))) == [2 * task + 1 for task in range(10)]
    assert sorted(work.map([])) == []
    work.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_reaches_the_caller_as_itself(workers):
    work = execution(partial(Doubler, 1), workers)
    with pytest.raises(ValueError, match="task failed"):
        list(work.map(["fail"]))
    work.close()


def test_a_killed_worker_is_reported_with_what_to_do():
    work = execution(partial(Doubler, 1), 2)
    with pytest.raises(RunError, match="usersim resume"):
        list(work.map([1, "die", 2]))
    work.close()


class CoresOfAWorker:
    def __call__(self, task):
        return own_cores()


def test_workers_divide_the_cores_of_the_machine_among_them():
    work = execution(CoresOfAWorker, 1)
    assert list(work.map([0])) == [cores()]
    work.close()
    work = execution(CoresOfAWorker, 2)
    assert set(work.map([0, 1])) == {max(1, cores() // 2)}
    work.close()


class Telling:
    def __init__(self, folder):
        join_log(folder)

    def __call__(self, task):
        logging.getLogger("environments.told").warning("task %d", task)
        warnings.warn("odd", RuntimeWarning, stacklevel=1)
        return task


def test_what_workers_tell_is_kept_in_the_log_of_the_run(tmp_path):
    work = execution(partial(Telling, tmp_path), 2)
    assert sorted(work.map([1, 2, 3])) == [1, 2, 3]
    work.close()
    told = (tmp_path / "run.log").read_text().splitlines()
    assert sorted(line.split(" ", 2)[1:] for line in told if "task" in line) == [["warning", f"task {number}"] for number in (1, 2, 3)]
    assert any(line.endswith("RuntimeWarning: odd") for line in told)
