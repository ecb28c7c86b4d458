"""Recommenders outside this process: what is said to them, and how their answers are checked or repaired.

The same JSON documents travel over HTTP (`environments.recommenders.http_service`) and over the pipes of a program
(`environments.recommenders.program`). People and items have the data set's own ids, as texts, whatever numbers they have inside; synthetic
people are called "synthetic-0000" and so on, as in the log.

*fit* ``{"seed": 123, "items": [{"id": "50", "title": "Star Wars", "year": 1977, "genres": ["Action"], "description": null}, ...],
"interactions": {"user": ["196", ...], "item": ["50", ...], "rating": [5.0, ...], "timestamp": [881250949, ...]}}``, ratings and times
null where the data has none, is answered by ``{"state": "any text"}``, a name for what was learned.

*recommend* ``{"state": "any text", "n": 10, "people": [{"user": "196", "history": ["50", ...], "exclude": [], "seed": 456}, ...]}``,
histories oldest first, is answered by ``{"slates": [{"items": ["181", ...], "scores": [0.9, ...]}, ...]}``: for each person, in
order, n distinct known items that are neither in ``history`` nor in ``exclude``, best first, fewer only where fewer are left;
scores finite and not increasing. A recommender that draws its list at random adds ``"propensities"``: the probability of
each item at its place given those before it, above 0 and at most 1; all its randomness must come from the person's ``seed``.

Anything may answer ``{"error": "one sentence"}`` instead.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from simulator.dataset import Catalog, synthetic_id
from simulator.errors import RecommenderError
from simulator.records import Slate
from simulator.seeds import Stream

Repair = Literal["refuse", "repair"]
"""What to do with an answer that breaks the contract."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnIds:
    """The data set's own ids by code, which are all that is said of people and items to others.

    Attributes:
        items, users: ids by code, objects of type str.
    """

    items: np.ndarray
    users: np.ndarray

    @classmethod
    def of(cls, catalog: Catalog) -> OwnIds:
        """Those of a data set."""
        return cls(catalog.item_ids, catalog.user_ids)

    @classmethod
    def read(cls, file: Path) -> OwnIds:
        """Those that `write` wrote.

        Raises:
            RecommenderError: the file does not hold them.
        """
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            return cls(*(np.array(stored[name], dtype=object) for name in ("items", "users")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecommenderError(
                f"{file} does not hold the ids of items and people ({type(error).__name__}); fit the recommender again."
            ) from error

    def write(self, file: Path) -> None:
        """Writes them as JSON."""
        file.write_text(json.dumps({"items": self.items.tolist(), "users": self.users.tolist()}), encoding="utf-8")

    def people(self, codes: Iterable[int]) -> list[str]:
        """Ids of people, of synthetic ones too."""
        known = len(self.users)
        return [str(self.users[code]) if code < known else synthetic_id(code - known) for code in codes]


def fit_message(interactions: pl.DataFrame, catalog: Catalog, rng: Stream) -> dict[str, Any]:
    """The document that asks to learn from the log so far."""
    columns = interactions.select("user", "item", "rating", "timestamp")
    items = catalog.items.select(pl.col("item_id").alias("id"), "title", "year", "genres", "description")
    ids = OwnIds.of(catalog)
    return {
        "seed": rng.integer(),
        "items": items.to_dicts(),
        "interactions": {
            "user": ids.people(columns["user"].to_list()),
            "item": ids.items[columns["item"].to_numpy()].tolist(),
            "rating": columns["rating"].to_list(),
            "timestamp": columns["timestamp"].to_list(),
        },
    }


def recommend_message(
    state: str,
    user_ids: np.ndarray,
    histories: Sequence[np.ndarray],
    exclude: Sequence[np.ndarray] | None,
    n: int,
    rng: Stream,
    ids: OwnIds,
) -> dict[str, Any]:
    """The document that asks for one slate per person."""
    codes = [int(user) for user in user_ids]
    people = [
        {
            "user": name,
            "history": ids.items[history].tolist(),
            "exclude": ids.items[exclude[row]].tolist() if exclude is not None else [],
            "seed": rng.child(code).integer(),
        }
        for row, (code, name, history) in enumerate(zip(codes, ids.people(codes), histories, strict=True))
    ]
    return {"state": state, "n": n, "people": people}


def parsed(text: bytes) -> object:
    """A JSON document from elsewhere.

    Raises:
        ValueError: it is none, or nested so deeply that it cannot be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class ReplyReader:
    """Turns answers into slates, refusing or repairing what breaks the contract.

    Repairs, each counted in `repairs`: items that are unknown, repeated, or not to be shown are left out ("unknown item",
    "repeated item", "item not to be shown"); an item whose score is no finite number is left out ("score"); items are sorted by
    score where scores increase ("order"); lists without scores get their places as scores ("no scores"); what lacks at the
    end is filled with the most popular items left, scored below the rest ("too few items"). An answer with propensities is
    never repaired, since its propensities would no longer be true.

    Attributes:
        repairs: kind of repair -> how often it was needed, since this reader was made.
    """

    def __init__(self, name: str, repair: Repair) -> None:
        """Prepares for answers of the recommender `name` (for messages)."""
        self.repairs: Counter[str] = Counter()
        self._name = name
        self._repair = repair
        self._codes: dict[str, int] = {}
        self._by_popularity = np.empty(0, dtype=np.int32)

    def use(self, item_ids: np.ndarray, popularity: np.ndarray) -> None:
        """Learns the catalog's item ids and the order in which too short lists are filled."""
        self._codes = {item: code for code, item in enumerate(item_ids)}
        self._by_popularity = np.argsort(-popularity, kind="stable").astype(np.int32)

    def read(self, reply: object, forbidden: Sequence[np.ndarray], n: int) -> list[Slate]:
        """The slates of an answer to *recommend*.

        Args:
            reply: the JSON document.
            forbidden: per person, item codes that must not be shown.
            n: items that were asked for.

        Raises:
            RecommenderError: the answer cannot be read, or breaks the contract and is not to be repaired.
        """
        slates = reply.get("slates") if isinstance(reply, Mapping) else None
        if not isinstance(slates, list) or not all(isinstance(slate, Mapping) for slate in slates):
            raise RecommenderError(
                f"{self._name} answered {_short(reply)}; it must answer {{'slates': [{{'items': [...], 'scores': [...]}}]}}."
            )
        if len(slates) != len(forbidden):
            raise RecommenderError(
                f"{self._name} answered {len(slates)} slates for {len(forbidden)} people; it must answer one per person."
            )
        before = self.repairs.copy()
        read = [self._slate(slate, left_out, n) for slate, left_out in zip(slates, forbidden, strict=True)]
        if self.repairs != before:
            _log.warning("%s: repaired %s", self._name, dict(self.repairs - before))
        return read

    def _slate(self, slate: Mapping[str, Any], forbidden: np.ndarray, n: int) -> Slate:
        items, scores, propensities = slate.get("items"), slate.get("scores"), slate.get("propensities")
        if not isinstance(items, list) or any(other is not None and not isinstance(other, list) for other in (scores, propensities)):
            raise RecommenderError(f"{self._name} answered the slate {_short(slate)}; items, scores and propensities must be lists.")
        for name, values in (("scores", scores), ("propensities", propensities)):
            if values is not None and len(values) != len(items):
                raise RecommenderError(f"{self._name} answered {len(items)} items but {len(values)} {name}; there must be one per item.")
        random, hidden = propensities is not None, set(forbidden.tolist())
        if scores is None:
            self._broken("no scores", "no scores", random)
            scores = [-float(place) for place in range(len(items))]
        taken = self._usable(items, scores, hidden, random)
        codes, ranks = np.fromiter(taken, dtype=np.int32), np.fromiter(taken.values(), dtype=np.float64)
        if (np.diff(ranks) > 0).any():
            self._broken("order", "scores that increase; the best item must come first", random)
            order = np.argsort(-ranks, kind="stable")
            codes, ranks = codes[order], ranks[order]
        codes, ranks = codes[:n], ranks[:n]  # more than was asked for is harmless
        missing = min(n, len(self._codes) - len(hidden)) - len(codes)
        if missing > 0:
            self._broken("too few items", f"{len(codes)} usable items where {n} were asked for and {len(codes) + missing} exist", random)
            rest = self._by_popularity[~np.isin(self._by_popularity, [*taken, *hidden])][:missing]
            lowest = ranks[-1] if len(ranks) else 0.0
            codes, ranks = np.concatenate((codes, rest)), np.concatenate((ranks, lowest - 1.0 - np.arange(len(rest))))
        return Slate(codes, ranks, self._chances(propensities)[:n] if propensities is not None else None)

    def _chances(self, propensities: list[Any]) -> np.ndarray:
        """Propensities as numbers in (0, 1]."""
        numbers = [_number(chance) for chance in propensities]
        wrong = next((given for given, chance in zip(propensities, numbers, strict=True) if chance is None or not 0 < chance <= 1), None)
        if wrong is not None or None in numbers:
            self._broken("propensity", f"the propensity {_short(wrong)}, which is no number above 0 and at most 1", random=True)
        return np.array(numbers, dtype=np.float64)

    def _usable(self, items: list[Any], scores: list[Any], hidden: set[int], random: bool) -> dict[int, float]:
        """Item code -> score of the entries that can be shown, in the order of the answer."""
        taken: dict[int, float] = {}
        for item, score in zip(items, scores, strict=True):
            code = self._codes.get(str(item), -1)
            if code < 0:
                self._broken("unknown item", f"the unknown item {_short(item)}", random)
            elif code in taken:
                self._broken("repeated item", f"item {_short(item)} twice in one slate", random)
            elif code in hidden:
                self._broken("item not to be shown", f"item {_short(item)}, which is in that person's history or was excluded", random)
            elif (number := _number(score)) is None:
                self._broken("score", f"the score {_short(score)}, which is no finite number", random)
            else:
                taken[code] = number
        return taken

    def _broken(self, kind: str, what: str, random: bool) -> None:
        if random or self._repair == "refuse":
            cannot = " (an answer with propensities cannot be repaired)" if random and self._repair == "repair" else ""
            hint = "" if random else ", or set repair = 'repair' to have it repaired and counted"
            raise RecommenderError(f"{self._name} answered {what}{cannot}; correct the recommender{hint}.")
        self.repairs[kind] += 1


def checked(reply: object, name: str) -> Mapping[str, Any]:
    """A JSON object that is not an error.

    Raises:
        RecommenderError: it is something else, or says ``{"error": ...}``.
    """
    if not isinstance(reply, Mapping):
        raise RecommenderError(f"{name} answered {_short(reply)}; it must answer a JSON object (see environments/recommenders/replies.py).")
    if "error" in reply:
        raise RecommenderError(f"{name} answered with an error: {_short(reply['error'])}.")
    return reply


def state_of(reply: object, name: str) -> str:
    """The name of the learned state in an answer to *fit*.

    Raises:
        RecommenderError: there is none.
    """
    state = checked(reply, name).get("state")
    if not isinstance(state, str):
        raise RecommenderError(f"{name} answered {_short(reply)} to fit; it must answer {{'state': 'any text'}}.")
    return state


def _number(value: object) -> float | None:
    """A finite number of a JSON document, or None; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
