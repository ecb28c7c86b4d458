"""Two probes of decisions: the page stays and the profile is somebody else's; the items stay and change places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from experiments.fidelity.context import Report, silent
from experiments.fidelity.estimates import none_for_nan, row_mean, row_ratio
from experiments.fidelity.pages import in_stars
from experiments.fidelity.questions import Questions, answers
from simulator.protocols import DecisionModel
from simulator.records import Action, Page, Situation, UserProfile
from simulator.seeds import Stream


def draw_strangers(people: np.ndarray, count: int, stream: Stream) -> dict[int, np.ndarray]:
    """For each person the codes of `count` others among `people` (all others if they are fewer), drawn at random."""
    drawn = {}
    for user in people.tolist():
        others = people[people != user]
        drawn[user] = stream.child(user).generator().permutation(others)[:count]
    return drawn


def profile_swap(
    model: DecisionModel,
    asked: Questions,
    profiles: Mapping[int, UserProfile],
    strangers: Mapping[int, np.ndarray],
    actions: Sequence[Action],
    stream: Stream,
    report: Report = silent,
) -> dict[str, Any]:
    """Whether the person can be told from others by what they really did, if the model is given each one's profile.

    The same pages are decided with the person's own profile and with those of strangers. Profiles are ranked by the
    likelihood of the person's real choices, given how many of a page were chosen (`choice_likelihood`), and by that of the
    real ratings of the chosen; ties share their rank.

    Returns:
        For ``choices`` and ``ratings``: ``found`` (share of people whose own profile comes first), ``found_by_chance``,
        ``percentile`` (share of strangers that fit worse; chance 0.5), ``ahead`` (log-likelihood per person of the own profile over
        the mean stranger's, nats).
    """
    owners = np.unique(asked.owner)
    places = {int(user): np.flatnonzero([s.profile.user == user for s in asked.situations]) for user in owners}
    most = max((len(strangers[user]) for user in owners.tolist()), default=0)
    fits = {kind: np.full((len(owners), most + 1), np.nan) for kind in ("choices", "ratings")}
    for rank in range(most + 1):
        situations, rows = [], []
        for number, user in enumerate(owners.tolist()):
            if rank > len(strangers[user]):
                continue
            profile = profiles[user] if rank == 0 else profiles[int(strangers[user][rank - 1])]
            situations += [posing_as(asked.situations[page], profile) for page in places[user].tolist()]
            rows.append(number)
        choose, rate, _ = answers(model, situations, actions, report, f"profile {rank + 1} of {most + 1}")
        kept = np.isin(asked.owner, owners[rows])
        page_of, chosen, given = asked.page[kept], asked.chosen[kept], asked.stars[kept]
        owner = np.searchsorted(owners, asked.owner[kept])
        first = np.unique(page_of, return_index=True)[1]
        fits["choices"][rows, rank] = np.bincount(owner[first], weights=choice_likelihood(choose, chosen, page_of), minlength=len(owners))[
            rows
        ]
        if rate is not None:
            rated = given > 0
            logs = np.log(np.maximum(in_stars(rate[rated], actions)[np.arange(int(rated.sum())), given[rated] - 1], 1e-12))
            fits["ratings"][rows, rank] = np.bincount(owner[rated], weights=logs, minlength=len(owners))[rows]
    return {kind: _retrieval(fit, owners, stream.child(kind)) for kind, fit in fits.items() if not np.isnan(fit).all()}


def posing_as(situation: Situation, profile: UserProfile) -> Situation:
    """The same page before somebody else, out of whose past the items of the page are taken, as nobody is shown what they know."""
    shown = situation.page.items
    new = ~np.isin(profile.history, shown)
    other = replace(
        profile,
        history=profile.history[new],
        ratings=None if profile.ratings is None else profile.ratings[new],
        liked=tuple(item for item in profile.liked if item not in shown),
        disliked=tuple(item for item in profile.disliked if item not in shown),
    )
    return replace(situation, profile=other, state=replace(situation.state, history=other.history))


def choice_likelihood(probabilities: np.ndarray, chosen: np.ndarray, page: np.ndarray) -> np.ndarray:
    """Log-likelihood of the real choices of each page, given how many there were.

    ``sum of the chosen items' log-odds - log e_k(odds)``, where k items were chosen and e_k, the k-th elementary symmetric
    polynomial, sums over all ways to choose as many (conditional logistic likelihood: Chamberlain, "Analysis of covariance
    with qualitative data", Review of Economic Studies 47, 1980). How much somebody chooses at all, which the test fixes, does not count.

    Args:
        probabilities: of choosing, shape (n,). chosen: bool, shape (n,). page: number of the page, rows of a page adjacent, shape (n,).

    Returns:
        One number <= 0 per page, in order; 0 for a page that could not be answered.
    """
    starts = np.unique(page, return_index=True)[1]
    found = np.zeros(len(starts))
    for number, rows in enumerate(np.split(np.arange(len(page)), starts[1:])):
        p = np.clip(probabilities[rows], 1e-9, 1 - 1e-9)
        if np.isnan(p).any():
            continue
        odds, count = np.log(p) - np.log1p(-p), int(chosen[rows].sum())
        ways = np.full(count + 1, -np.inf)
        ways[0] = 0.0
        for value in odds:
            ways[1:] = np.logaddexp(ways[1:], ways[:-1] + value)
        found[number] = odds[chosen[rows]].sum() - ways[count]
    return found


def _retrieval(fits: np.ndarray, owners: np.ndarray, stream: Stream) -> dict[str, Any]:
    """Fits of the own profile (first column) and of strangers (the others, NaN where there are fewer)."""
    own, others = fits[:, :1], fits[:, 1:]
    there = ~np.isnan(others)
    # two profiles that the model does not tell apart may differ by rounding
    equal, better = np.abs(others - own) <= 1e-9, others > own + 1e-9
    first = ~(better & there).any(axis=1) / (1.0 + (equal & there).sum(axis=1))
    count = there.sum(axis=1)
    known = np.where(count > 0, count, np.nan)
    percentile = 1.0 - ((better & there).sum(axis=1) + 0.5 * (equal & there).sum(axis=1)) / known
    ahead = own[:, 0] - np.where(there, others, 0.0).sum(axis=1) / known
    return {
        "found": row_mean(np.where(count > 0, first, np.nan), owners, stream.child("found")),
        "found_by_chance": none_for_nan(float(np.nanmean(1.0 / (1.0 + known)))) if (count > 0).any() else None,
        "percentile": row_mean(percentile, owners, stream.child("percentile")),
        "ahead": row_mean(ahead, owners, stream.child("ahead")),
        "strangers": int(count.max(initial=0)),
    }


def order_bias(
    model: DecisionModel, asked: Questions, actions: Sequence[Action], stream: Stream, report: Report = silent
) -> dict[str, Any]:
    """What the place on the page does to an item: every item stands once in every place of its page.

    Only full pages are used. The items of a page are moved on by one place at a time, the last one to the top, so that the
    watch rates of all places are over exactly the same items.

    Returns:
        ``change``: mean absolute change of an item's choose probability between two places; ``between_items``: that between two
        items of a page, each averaged over the places, as a yardstick; ``rate_by_place``: mean choose probability per place;
        ``top_over_bottom``: ratio of the first place's to the last one's; ``moves``: rounds of moving.
    """
    size = max(len(situation.page.impressions) for situation in asked.situations)
    full = [situation for situation in asked.situations if len(situation.page.impressions) == size]
    owners = np.array([situation.profile.user for situation in full])
    table = np.empty((size, len(full), size))  # (move, page, item)
    for move in range(size):
        order = (np.arange(size) + move) % size
        choose, _, _ = answers(model, [reordered(situation, order) for situation in full], actions, report, f"order {move + 1} of {size}")
        table[move][:, order] = choose.reshape(len(full), size)
    pairs = list(combinations(range(size), 2))
    change = np.mean([np.abs(table[a] - table[b]).mean(axis=1) for a, b in pairs], axis=0) if pairs else np.zeros(len(full))
    usual = table.mean(axis=0)
    spread = np.mean([np.abs(usual[:, a] - usual[:, b]) for a, b in pairs], axis=0) if pairs else np.zeros(len(full))
    # after m moves item i stands in place (i - m) modulo the size
    by_place = np.stack([np.mean([table[m][:, (place + m) % size] for m in range(size)], axis=0) for place in range(size)])
    return {
        "change": row_mean(change, owners, stream.child("change")),
        "between_items": row_mean(spread, owners, stream.child("between")),
        "rate_by_place": [row_mean(rates, owners, stream.child("place", place)) for place, rates in enumerate(by_place)],
        "top_over_bottom": row_ratio(by_place[0], by_place[-1], owners, stream.child("ratio")),
        "moves": size,
    }


def reordered(situation: Situation, order: np.ndarray) -> Situation:
    """The same items in other places: first the one that stood in place ``order[0]``, and so on."""
    old = situation.page.impressions
    shown = tuple(replace(old[index], position=place) for place, index in enumerate(order.tolist(), 1))
    return replace(situation, page=Page(situation.page.number, situation.page.policy, shown))
