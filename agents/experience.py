"""What a page and a session leave behind in words: the sentences that people remember.

=========  ========================================================================  ==========================================
kind       made of                                                                   importance
=========  ========================================================================  ==========================================
seen       the items of a page that were passed over, in one sentence                0.05
chosen     a chosen item without a rating                                            0.3
rated      a chosen item with its rating r                                           0.2 + 0.8 |r - own mean| / (high - low)
feeling    the end of a session: satisfaction s of 10, fatigue                       |s - 5.5| / 4.5; without s, the fatigue
insight    what the person concluded from a session                                  0.9
=========  ========================================================================  ==========================================

The rule stands in for asking the language model to rate the poignancy of each memory (Park et al., "Generative Agents",
UIST 2023, section 4.1), which would cost one call per record: what was out of the ordinary for this person matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agents.actions import CHOOSE, RATE, SATISFACTION
from agents.text import clean, item_name
from simulator.dataset import Catalog
from simulator.records import Closing, Decision, MemoryKind, MemoryRecord, Outcome, Page, SessionState

SEEN_IMPORTANCE = 0.05
CHOSEN_IMPORTANCE = 0.3
RATED_IMPORTANCE = 0.2
INSIGHT_IMPORTANCE = 0.9

NAMED_SKIPS = 6
"""Passed-over items that a sentence names; the others are counted."""

INSIGHT_LENGTH = 200
"""Largest length of an insight in characters."""


def records_of_page(
    page: Page,
    decision: Decision,
    *,
    catalog: Catalog,
    state: SessionState,
    own_mean: float | None,
    scale: tuple[float, float] | None,
    next_record: int,
) -> list[MemoryRecord]:
    """What a person remembers of a page: one record per chosen item, by position, then one for all others.

    Args:
        page: what was shown.
        decision: what was done, with the outcomes of "choose" and, where the data has ratings, "rate".
        catalog: the items and their domain's words.
        state: when the page appeared.
        own_mean: the person's mean rating before the run, or None; then the middle of the scale counts as ordinary.
        scale: (lowest, highest) rating, or None without ratings.
        next_record: number of the first record.

    Returns:
        Records with numbers counting up from `next_record`; empty only for a decision without "choose".
    """
    chosen = decision.outcomes.get(CHOOSE.name)
    if chosen is None:
        return []
    rated = decision.outcomes.get(RATE.name)
    records: list[MemoryRecord] = []
    skipped: list[int] = []

    def add(kind: MemoryKind, text: str, item: int, importance: float) -> None:
        records.append(_record(next_record + len(records), kind, state, text, item=item, importance=importance))

    for place, impression in enumerate(page.impressions):
        if chosen.values[place] != 1:
            skipped.append(impression.item)
            continue
        did = f"I {catalog.domain.chosen} {item_name(catalog, impression.item, year=False)}"
        rating = math.nan if rated is None else float(rated.values[place])
        if math.isnan(rating) or scale is None:
            add("chosen", f"{did}.", impression.item, CHOSEN_IMPORTANCE)
        else:
            stars = f"{rating:g} star" if rating == 1 else f"{rating:g} stars"
            add("rated", f"{did} and gave it {stars}.", impression.item, _rated_importance(rating, own_mean, scale))
    if skipped:
        names = [item_name(catalog, item, limit=40, year=False) for item in skipped[:NAMED_SKIPS]]
        more = f" and {len(skipped) - NAMED_SKIPS} more" if len(skipped) > NAMED_SKIPS else ""
        add("seen", f"I skipped {', '.join(names)}{more}.", skipped[0] if len(skipped) == 1 else -1, SEEN_IMPORTANCE)
    return records


def records_of_session(
    closing: Closing,
    state: SessionState,
    *,
    catalog: Catalog,
    rests_on: Sequence[MemoryRecord],
    next_record: int,
) -> list[MemoryRecord]:
    """What a person remembers of a session as a whole: a feeling and, if they drew one, an insight.

    Args:
        closing: how the person looked back.
        state: at the end, counting what was chosen on the last page.
        catalog: for the domain's words.
        rests_on: the records that the insight was drawn from; the feeling is added to its references.
        next_record: number of the first record.

    Returns:
        One or two records with numbers counting up from `next_record`.
    """
    domain = catalog.domain
    things = {0: f"no {domain.items}", 1: f"1 {domain.item}"}.get(state.chosen, f"{state.chosen} {domain.items}")
    satisfaction = closing.outcomes.get(SATISFACTION.name)
    value = _only(satisfaction)
    verdict = "" if value is None else f", was {value:g} of 10 satisfied"
    text = f"I {domain.chosen} {things}{verdict} and felt {_tiredness(state.fatigue)}."
    importance = _bounded(state.fatigue if value is None else abs(value - 5.5) / 4.5)
    feeling = _record(next_record, "feeling", state, text, importance=importance)
    insight = clean(closing.insight, INSIGHT_LENGTH)
    if not insight:
        return [feeling]
    references = tuple(sorted({record.record for record in rests_on} | {feeling.record}))
    return [
        feeling,
        _record(next_record + 1, "insight", state, insight, importance=INSIGHT_IMPORTANCE, references=references),
    ]


def _record(
    number: int,
    kind: MemoryKind,
    state: SessionState,
    text: str,
    *,
    item: int = -1,
    importance: float,
    references: tuple[int, ...] = (),
) -> MemoryRecord:
    return MemoryRecord(
        record=number,
        kind=kind,
        round=state.round,
        session=state.session,
        time=state.time,
        text=text,
        item=item,
        importance=importance,
        references=references,
        last_recall=state.time,
    )


def _rated_importance(rating: float, own_mean: float | None, scale: tuple[float, float]) -> float:
    low, high = scale
    ordinary = (low + high) / 2 if own_mean is None else own_mean
    return _bounded(RATED_IMPORTANCE + (1 - RATED_IMPORTANCE) * abs(rating - ordinary) / (high - low))


def _only(outcome: Outcome | None) -> float | None:
    if outcome is None or math.isnan(float(outcome.values[0])):
        return None
    return float(outcome.values[0])


def _tiredness(fatigue: float) -> str:
    if fatigue < 1 / 3:
        return "fresh"
    return "a little tired" if fatigue < 2 / 3 else "tired"


def _bounded(value: float) -> float:
    return min(1.0, max(0.0, value))
