"""What a language model on a server may cost: a pace for requests, and a ledger of tokens and money with a budget.

Both live in one small SQLite file, so that all worker processes of a run share them and a resumed run goes on counting.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simulator.errors import BudgetError, ModelError

_TABLES = """
CREATE TABLE IF NOT EXISTS spent (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    requests INTEGER NOT NULL, estimated INTEGER NOT NULL, lost INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, money REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS pace (only INTEGER PRIMARY KEY CHECK (only = 1), next REAL NOT NULL);
INSERT OR IGNORE INTO spent VALUES (1, 0, 0, 0, 0, 0, 0.0);
INSERT OR IGNORE INTO pace VALUES (1, 0.0);
"""

_EVERYTHING = "SELECT requests, estimated, lost, prompt_tokens, completion_tokens, money FROM spent"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a ledger holds.

    Attributes:
        requests: answered ones. estimated: those among them whose tokens the server did not tell, so that they were estimated.
        lost: requests that were sent and never answered; a server may charge for them, the ledger does not.
        prompt_tokens, completion_tokens: of the answered ones. money: in the currency of the prices.
    """

    requests: int = 0
    estimated: int = 0
    lost: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0


class Ledger:
    """Counts what was spent, and says when the next request may go out.

    A request under way when the budget is used up is still paid for: a run may exceed its budget by the requests of all
    its workers at that moment, and by nothing else.

    Args:
        path: the file, made if there is none; None keeps the ledger in memory.
        prices: money per token of a prompt, and per token of a completion.
        budget: the most money, or None.
        requests_per_minute: the most requests of all processes that share the file, evenly spaced, or None.
        now: seconds of a clock that all processes share.

    Raises:
        ModelError: the file cannot be used.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        prices: tuple[float, float] = (0.0, 0.0),
        budget: float | None = None,
        requests_per_minute: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path, self.prices, self.budget = path, prices, budget
        self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._now = now
        self._lock = threading.Lock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None, check_same_thread=False)
            self._file.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        except (sqlite3.Error, OSError) as error:
            raise ModelError(
                f"the ledger {path} cannot be used ({error}); remove it, or name another with language_model.ledger."
            ) from error

    def turn(self) -> float:
        """Reserves the next place in the pace; seconds to wait until it comes, >= 0."""
        with self._lock:
            now = self._now()
            row = self._file.execute("UPDATE pace SET next = max(next, ?) + ? RETURNING next", (now, self._interval)).fetchone()
            return max(0.0, float(row[0]) - self._interval - now)

    def pause(self, seconds: float) -> None:
        """Lets no request of any process out for so long, because the server asked for a rest."""
        with self._lock:
            self._file.execute("UPDATE pace SET next = max(next, ?)", (self._now() + seconds,))

    def check(self) -> None:
        """Passes if there is money left.

        Raises:
            BudgetError: there is none.
        """
        if self.budget is None:
            return
        spent = self.spent()
        if spent.money >= self.budget:
            raise BudgetError(
                f"the language model's budget of {self.budget:g} is used up: {spent.money:.4f} spent on {spent.prompt_tokens:,} prompt and "
                f"{spent.completion_tokens:,} completion tokens in {spent.requests:,} requests. Finished cohorts are kept: continue with "
                "`usersim resume RUN --set language_model.budget=...` and a larger one."
            )

    def add(self, prompt_tokens: int, completion_tokens: int, *, estimated: bool = False) -> None:
        """Enters one answered request."""
        money = prompt_tokens * self.prices[0] + completion_tokens * self.prices[1]
        with self._lock:
            self._file.execute(
                "UPDATE spent SET requests = requests + 1, estimated = estimated + ?, prompt_tokens = prompt_tokens + ?, "
                "completion_tokens = completion_tokens + ?, money = money + ?",
                (int(estimated), prompt_tokens, completion_tokens, money),
            )

    def add_lost(self) -> None:
        """Enters a request that was sent and not answered."""
        with self._lock:
            self._file.execute("UPDATE spent SET lost = lost + 1")

    def spent(self) -> Spent:
        """Everything so far, of all processes that share the file."""
        with self._lock:
            row = self._file.execute(_EVERYTHING).fetchone()
        return Spent(*row)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()


def spent_in(path: Path) -> Spent | None:
    """What a ledger holds, read without changing it; None if there is no ledger at `path`, or it cannot be read."""
    if not path.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=60)) as file:
            return Spent(*file.execute(_EVERYTHING).fetchone())
    except sqlite3.Error:
        return None
