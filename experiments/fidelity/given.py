"""The part of a fidelity report that judges users and not the recommender: what they choose given what they were shown.

`experiments.fidelity.conditional` compares; here the log of a run, and what is known of items, are brought into its form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from agents.evidence import Evidence
from experiments.fidelity.behaviour import Behaviour
from experiments.fidelity.conditional import Kept, Shown, compared, verdict
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.distances import worst
from experiments.fidelity.repeats import repeated
from simulator.dataset import Dataset

FIRST_ORDER = ("round", "user", "session", "page", "position")
"""In which order a run shows items."""


def measure(context: FidelityContext) -> dict[str, Any]:
    """Choices of a run given its exposures, and repeated consumption, against the same users' held-out interactions.

    Returns:
        As `conditional.compared`, with the figure ``repeats``, the ``worst`` figure as in `distributions.measure`, and a ``verdict``.

    Raises:
        DataError: there is no run, or nobody real in it.
    """
    behaviour = Behaviour(context)
    stream = context.stream.child("given")
    histories = [context.profiles[user].history for user in behaviour.people.tolist()]
    context.report("choices given what was shown", 0, 1)
    pool = first_shown(behaviour, histories)
    real = held_out(context.split.test, behaviour.people)
    people = len(behaviour.people)
    features = features_of(context.train, histories, pool.person, pool.item)
    found = compared(pool, real, features, people, stream)
    again = repeated(behaviour.repeats(behaviour.simulated), behaviour.repeats(behaviour.held_out), people, stream.child("repeats"))
    if again is None:
        found["not_measured"]["repeats"] = "fewer than four people chose anything"
    else:
        found["figures"]["repeats"] = again
    context.report("choices given what was shown", 1, 1)
    return judged(found) | {"people": people, "only_held_out_people": behaviour.only_held_out}


def judged(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `conditional.compared` returned, with the worst figure and the verdict."""
    largest = worst(found["figures"])
    return {
        **found,
        "worst": None if largest is None else {"figure": largest[0], "distance": largest[1], **largest[2]},
        "verdict": verdict(found["figures"], found["not_measured"]),
    }


def features_of(train: Dataset, histories: Sequence[np.ndarray], person: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
    """What is compared of items, from the training part alone: name -> values, shape of `person`.

    - popularity: log of 1 + training interactions;
    - taste: how much closer the item is to the user's history than to those of all compared users (`Evidence.affinity`, less its mean over
      them): 0 on average for whoever chooses without a taste of their own, however popular what they choose is;
    - quality: mean rating, shrunk; where the data has ratings.

    Args:
        train: training part. histories: of the users, item codes. person: indices of `histories`. item: codes.
    """
    evidence = Evidence(train.interactions, train.n_users, train.n_items)
    own, usual = np.zeros(len(person)), np.zeros(train.n_items)
    order = np.argsort(person, kind="stable")
    ends = np.searchsorted(person[order], np.arange(len(histories) + 1))
    for number, history in enumerate(histories):
        affinity = evidence.affinity(history)
        usual += affinity / len(histories)
        rows = order[ends[number] : ends[number + 1]]
        own[rows] = affinity[item[rows]]
    found = {"popularity": evidence.popularity[item], "taste": own - usual[item]}
    return found | ({"quality": evidence.quality[item]} if train.has_ratings else {})


def held_out(test: pl.DataFrame, people: np.ndarray) -> Kept:
    """Held-out interactions of some users, each item once.

    Args:
        test: `INTERACTIONS_SCHEMA`. people: user codes, ascending; their places are the numbers of users.
    """
    rows = test.filter(pl.col("user").is_in(people.tolist())).unique(["user", "item"], keep="first", maintain_order=True)
    rating = rows["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return Kept(np.searchsorted(people, rows["user"].to_numpy()), rows["item"].to_numpy().astype(np.int64), rating)


def first_shown(behaviour: Behaviour, histories: Sequence[np.ndarray]) -> Shown:
    """What each compared user of a run was shown for the first time, without what is in their training part."""
    items = {name: number for number, name in enumerate(behaviour.train.catalog.item_ids.tolist())}
    codes = {behaviour.context.user_ids[user]: number for number, user in enumerate(behaviour.people.tolist())}
    rows = behaviour.run.impressions.filter(pl.col("user").is_in(list(codes))).sort(FIRST_ORDER)
    rows = rows.unique(["user", "item"], keep="first", maintain_order=True)
    unknown = pl.lit(None, dtype=pl.Float64)
    table = rows.select(
        person=pl.col("user").replace_strict(codes, return_dtype=pl.Int64),
        item=pl.col("item").replace_strict(items, return_dtype=pl.Int64),
        chosen=pl.col("chosen"),
        probability=pl.col("chosen_probability") if "chosen_probability" in rows.columns else unknown,
        rating=pl.col("rating").cast(pl.Float64) if "rating" in rows.columns else unknown,
    )
    shown = Shown(
        table["person"].to_numpy(),
        table["item"].to_numpy(),
        table["chosen"].to_numpy(),
        *(table[name].fill_null(float("nan")).to_numpy() for name in ("probability", "rating")),
    )
    return without_history(shown, histories, behaviour.train.n_items)


def without_history(shown: Shown, histories: Sequence[np.ndarray], n_items: int) -> Shown:
    """Exposures without those to items of the user's training part, which nobody can hold out."""
    trained = np.concatenate([number * n_items + history.astype(np.int64) for number, history in enumerate(histories)])
    return shown.only(~np.isin(shown.person.astype(np.int64) * n_items + shown.item, trained))
