"""What the agent sees: what a recommender may know, as arrays. Never a person's profile, memory, state of mind or held-out data."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from experiments.reinforcement.seats import Seat
from experiments.reinforcement.world import World


class Observer:
    """Makes observations.

    ======================  ======================  ============================================================================
    key                     shape                   meaning
    ======================  ======================  ============================================================================
    ``user``                ()                      code of the person, as any recommender is told
    ``history``             (history_length,)       items they interacted with, in training and in this episode; the newest last
    ``history_ratings``     (history_length,)       what they rated them
    ``page``                ()                      number of the page that is to be filled, from 1
    ``shown``               (max_pages x places,)   items shown in this session, in order
    ``chosen``              (max_pages x places,)   1 for those that were chosen
    ``ratings``             (max_pages x places,)   what they were rated
    ``time``                (2,)                    hour of the day / 24; share of the episode's ``round_days`` that has passed
    ``candidates``          (candidates,)           items that the experiment's recommender offers, best first
    ``candidate_features``  (candidates, features)  their features (`World.features`), and their score among the candidates, 0 to 1
    ======================  ======================  ============================================================================

    Items are codes; n_items means no item. Ratings are places on the rating scale in [0, 1]; -1 means none. The last two keys are
    there only where the environment has ``candidates``; otherwise the features of all items are in the environment's `features`.

    Args:
        world: of the people. history_length: items of a history that are told, the newest.
    """

    def __init__(self, world: World, history_length: int) -> None:
        self._world, self._length = world, history_length
        n, places = world.train.n_items, world.max_pages * world.page_size
        self.space = spaces.Dict(
            {
                "user": spaces.Discrete(world.n_users),
                "history": spaces.Box(0, n, (history_length,), np.int32),
                "history_ratings": spaces.Box(-1.0, 1.0, (history_length,), np.float32),
                "page": spaces.Discrete(world.max_pages + 2),
                "shown": spaces.Box(0, n, (places,), np.int32),
                "chosen": spaces.MultiBinary(places),
                "ratings": spaces.Box(-1.0, 1.0, (places,), np.float32),
                "time": spaces.Box(0.0, 1.0, (2,), np.float32),
            }
        )
        if world.candidates is not None:
            self.space["candidates"] = spaces.Box(0, n, (world.candidates,), np.int32)
            width = world.features.values.shape[1] + 1
            self.space["candidate_features"] = spaces.Box(-1.0, 1.0, (world.candidates, width), np.float32)

    def observe(self, seats: list[Seat]) -> dict[str, np.ndarray]:
        """The observations of seats, one row each: an element of the batched space."""
        nothing = {"history": self._world.train.n_items, "shown": self._world.train.n_items, "candidates": self._world.train.n_items}
        nothing |= {"history_ratings": -1, "ratings": -1}
        seen = {}
        for key, part in self.space.items():
            assert part.shape is not None
            seen[key] = np.full((len(seats), *part.shape), nothing.get(key, 0), part.dtype)
        for row, seat in enumerate(seats):
            self._write(seen, row, seat)
        return seen

    def _write(self, seen: dict[str, np.ndarray], row: int, seat: Seat) -> None:
        world = self._world
        seen["user"][row] = seat.profile.user
        kept = len(seat.items[-self._length :])
        if kept:
            seen["history"][row, -kept:] = seat.items[-kept:]
            seen["history_ratings"][row, -kept:] = self._scaled(seat.ratings[-kept:])
        count = len(seat.shown)
        seen["shown"][row, :count] = seat.shown
        seen["chosen"][row, :count] = seat.chosen
        seen["ratings"][row, :count] = self._scaled(seat.stars)
        seen["page"][row] = seat.number
        passed = (seat.time - world.origin) / world.round_seconds
        seen["time"][row] = (seat.time % 86_400) / 86_400, min(max(passed, 0.0), 1.0)
        if world.candidates is None or seat.candidates is None:
            return
        items, scores = seat.candidates.items, seat.candidates.scores
        seen["candidates"][row, : len(items)] = items
        seen["candidate_features"][row, : len(items), :-1] = world.features.values[items]
        if len(items):
            seen["candidate_features"][row, : len(items), -1] = (scores - scores[-1]) / max(scores[0] - scores[-1], 1e-12)

    def _scaled(self, ratings: list[float]) -> np.ndarray:
        scale = self._world.train.rating_scale
        if scale is None:
            return np.full(len(ratings), -1.0)
        low, high = scale
        places = np.clip((np.array(ratings, dtype=np.float64) - low) / (high - low), 0.0, 1.0)
        return np.where(np.isnan(places), -1.0, places)


def row_of(observations: dict[str, np.ndarray], row: int) -> dict[str, Any]:
    """The observation of one seat, an element of the single space."""
    return {key: values[row].copy() if values[row].ndim else np.int64(values[row]) for key, values in observations.items()}
