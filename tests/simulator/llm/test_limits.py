import threading

import pytest

from simulator.errors import BudgetError, ModelError
from simulator.llm.limits import Ledger, Spent


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_turns_are_evenly_spaced_and_time_that_passed_is_not_saved_up():
    clock = Clock()
    ledger = Ledger(requests_per_minute=60, now=clock)
    assert [ledger.turn() for _ in range(3)] == [0, 1, 2]
    clock.now += 10
    assert [ledger.turn() for _ in range(2)] == [0, 1]
    ledger.close()


def test_a_pause_holds_for_everybody_who_shares_the_file(tmp_path):
    clock = Clock()
    one, other = (Ledger(tmp_path / "ledger.sqlite", now=clock) for _ in range(2))
    assert other.turn() == 0
    one.pause(5)
    assert other.turn() == 5
    clock.now += 5
    assert one.turn() == other.turn() == 0
    one.close()
    other.close()


def test_what_was_spent_is_counted_by_all_and_remembered(tmp_path):
    file = tmp_path / "folder" / "ledger.sqlite"

    def spend():
        ledger = Ledger(file, prices=(1e-6, 2e-6))
        for number in range(20):
            ledger.add(100, 10, estimated=number == 0)
        ledger.add_lost()
        ledger.close()

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = Ledger(file, budget=0.0096)
    spent = ledger.spent()
    assert spent == Spent(80, 4, 4, 8000, 800, pytest.approx(0.0096))
    ledger.close()


def test_a_budget_that_is_used_up_stops(tmp_path):
    ledger = Ledger(prices=(0.5, 0.0), budget=1.0)
    ledger.add(1, 0)
    ledger.check()
    ledger.add(1, 0)
    with pytest.raises(BudgetError, match=r"budget of 1 is used up: 1.0000 spent on 2 prompt.*usersim resume"):
        ledger.check()
    ledger.close()


def test_a_file_that_is_no_ledger_is_said_so(tmp_path):
    (tmp_path / "ledger.sqlite").write_text("not a database " * 100)
    with pytest.raises(ModelError, match=r"the ledger .* cannot be used"):
        Ledger(tmp_path / "ledger.sqlite")
