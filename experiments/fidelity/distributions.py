"""Distributions of what simulated people did against those of the same real people, each as a multiple of its noise floor."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.fidelity.behaviour import FEWEST_FOR_ENTROPY, NOT_TOLD, Behaviour, Log, Observed
from experiments.fidelity.context import FidelityContext
from experiments.fidelity.distances import compare, jensen_shannon, matched, ratio_to_floor, worst
from experiments.fidelity.repeats import repeated
from simulator.seeds import Stream


def measure(context: FidelityContext) -> dict[str, Any]:
    """Every distribution that the data can tell.

    Returns:
        ``distributions``: name -> `distances.compare`; ``not_measured``: name -> reason; ``worst``: the largest ratio.

    Raises:
        DataError: there is no run, or nobody real in it.
    """
    behaviour = Behaviour(context)
    stream = context.stream.child("distributions")
    n = len(behaviour.people)
    found: dict[str, Any] = {}
    missing = dict(NOT_TOLD)
    pairs = observations(behaviour, missing)
    for number, (name, (simulated, real)) in enumerate(pairs.items()):
        context.report("distributions", number, len(pairs) + 1)
        measured = repeated if name == "repeat_share" else compare
        compared = measured(simulated, real, n, stream.child(name)) if len(simulated.values) and len(real.values) else None
        if compared is None:
            missing[name] = "fewer than four people have any of it in both logs"
        else:
            found[name] = compared
    context.report("distributions", len(pairs), len(pairs) + 1)
    moves = _transitions(behaviour, stream.child("genre_transitions"))
    if isinstance(moves, str):
        missing["genre_transitions"] = moves
    else:
        found["genre_transitions"] = moves
    largest = worst(found)
    return {
        "people": n,
        "only_held_out_people": behaviour.only_held_out,
        "distributions": found,
        "not_measured": missing,
        "worst": None if largest is None else {"distribution": largest[0], "distance": largest[1], **largest[2]},
    }


def observations(behaviour: Behaviour, missing: dict[str, str]) -> dict[str, tuple[Observed, Observed]]:
    """Simulated and real observations of every distribution; what cannot be compared is noted in `missing` with the reason."""
    simulated, held_out, real = behaviour.simulated, behaviour.held_out, behaviour.real
    found: dict[str, tuple[Observed, Observed]] = {
        "popularity_of_chosen": (behaviour.popularity(simulated), behaviour.popularity(held_out)),
        "repeat_share": (behaviour.repeats(simulated), behaviour.repeats(held_out)),
    }
    if behaviour.train.has_ratings:
        found["ratings"] = (behaviour.ratings(simulated), behaviour.ratings(held_out))
    else:
        missing["ratings"] = "the data has no ratings"
    if behaviour.train.catalog.genre_names:
        found["novelty"] = (behaviour.novelty(simulated), behaviour.novelty(held_out))
        found["genre_entropy"] = genre_entropy(behaviour, simulated, held_out)
    else:
        missing |= dict.fromkeys(("novelty", "genre_entropy"), "the data has no genres")
    if not behaviour.train.has_times:
        return found | _none(missing, ("items_per_session", "sessions_per_person", "gaps"), "the data has no times, so no sittings")
    found["items_per_session"] = (behaviour.items_per_session(simulated), behaviour.items_per_session(real))
    if behaviour.sessions_are_a_setting:
        reason = "population.sessions = 'one' sets how often people come; simulate with population.sessions = 'rhythm' to compare it"
        return found | _none(missing, ("sessions_per_person", "gaps"), reason)
    days = behaviour.context.config.rounds * behaviour.context.config.round_days
    found["sessions_per_person"] = (behaviour.sessions_per_person(simulated, days), behaviour.sessions_per_person(real, days))
    found["gaps"] = (behaviour.gaps(simulated, days), behaviour.gaps(real, days))
    return found


def genre_entropy(behaviour: Behaviour, simulated: Log, real: Log) -> tuple[Observed, Observed]:
    """Entropy in bits of the genres of each person's choices, from equally many choices of both logs, at least four."""
    n = len(behaviour.people)
    logs = (simulated, real)
    first, second = (Observed(log.rows["person"].to_numpy(), np.arange(log.rows.height, dtype=np.float64)) for log in logs)
    drawn = matched(first, second, n, behaviour.context.stream.child("genre entropy"))
    entropies = []
    for log, sample in zip(logs, drawn, strict=True):
        counts = np.zeros((n, len(behaviour.train.catalog.genre_names)))
        np.add.at(counts, sample.person, behaviour.genre_counts(log)[sample.values.astype(np.int64)])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
        entropy = -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1)
        enough = np.flatnonzero((np.bincount(sample.person, minlength=n) >= FEWEST_FOR_ENTROPY) & (counts.sum(axis=1) > 0))
        entropies.append(Observed(enough, entropy[enough]))
    return entropies[0], entropies[1]


def _transitions(behaviour: Behaviour, stream: Stream) -> dict[str, Any] | str:
    """Jensen-Shannon distance of the genre-to-genre transitions, or why there is none."""
    if not behaviour.train.has_times:
        return "the data has no times, so no order of choices"
    if not behaviour.train.catalog.genre_names:
        return "the data has no genres"
    n = len(behaviour.people)
    found = [behaviour.transitions(log) for log in (behaviour.simulated, behaviour.real)]
    first, second = (Observed(person, np.arange(len(person), dtype=np.float64)) for person, _ in found)
    samples = matched(first, second, n, stream.child("matched"))
    tables = []
    for (_, pairs), sample in zip(found, samples, strict=True):
        table = np.zeros((n, pairs.shape[1]))
        np.add.at(table, sample.person, pairs[sample.values.astype(np.int64)])
        tables.append(table)
    people = int((tables[0].sum(axis=1) > 0).sum())
    if people < 4:
        return "fewer than four people made two choices in a session in both logs"
    return {
        "people": people,
        "compared_observations": len(samples[0].values),
        "distances": {"jensen_shannon": ratio_to_floor(tables[0], tables[1], jensen_shannon, stream.child("js"))},
    }


def _none(missing: dict[str, str], names: tuple[str, ...], reason: str) -> dict[str, tuple[Observed, Observed]]:
    missing |= dict.fromkeys(names, reason)
    return {}
