"""The pages a language model is tuned on: the very prompts of the simulation, with what people really did as answers.

A part of each person's training interactions is hidden (`agents.exposures.hide`). Profile, and so the prompt, come from the
rest; the hidden items stand on pages among items the person never interacted with, random ones and others matched in
popularity. "choose" is true for the hidden items, and "rate" is known for them where the data has ratings. When people
leave is not in such data, so that probe is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from agents.actions import CHOOSE, RATE
from agents.exposures import Candidates, Hidden, Negatives, hide, items_by_user
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from agents.stars import stars
from agents.text import item_name
from experiments.tuning.examples_config import ExamplesConfig
from experiments.tuning.packs import Ask, Branch, Pack, PackBuilder
from experiments.tuning.teacher import Teacher
from simulator.dataset import Dataset
from simulator.errors import ModelError
from simulator.llm.llama_prompts import Compiled, Compiler, Place
from simulator.records import Impression, MemoryRecord, Page, SessionState, Situation, UserProfile
from simulator.seeds import Stream


@dataclass(frozen=True, eq=False)
class Situations:
    """Pages of one person in front of the same memories."""

    pages: tuple[Situation, ...]
    chosen: tuple[np.ndarray, ...]
    ratings: tuple[np.ndarray, ...]


def examples(
    train: Dataset,
    people: np.ndarray,
    prompts: PromptBuilder,
    compiler: Compiler,
    config: ExamplesConfig,
    share: float,
    order: Literal["random", "temporal"],
    rng: Stream,
    teacher: Teacher | None = None,
) -> Pack:
    """One pass over the people: a part of what each did is hidden and asked.

    Args:
        train: the training part. people: user codes of those who are asked.
        prompts: writes the prompts. compiler: of the language model.
        config: how. share, order: how many and which interactions are hidden, as in `agents.exposures.hide`.
        rng: of everything drawn; different streams give different examples of the same people.
        teacher: says how probable each choice was; None: it is taught as it was.

    Raises:
        ModelError: a label of an action has several tokens in this model, so that it cannot be read at one place.
    """
    hidden = hide(train, people, share, order, rng.child("hide"))
    profiles = {profile.user: profile for profile in fit_profiles(hidden.observed)}
    drawn = _mixed(train, hidden, config, rng.child("candidates"))
    told = (_situations(train, profiles[one.user], one, config, rng.child("pages", one.user)) for one in drawn if one.user in profiles)
    found = pack(told, prompts, compiler, config.row_tokens, train.rating_scale)
    return found if teacher is None else _taught(found, teacher, hidden.observed, profiles, prompts)


def _taught(found: Pack, teacher: Teacher, observed: Dataset, profiles: Mapping[int, UserProfile], prompts: PromptBuilder) -> Pack:
    """The pack with a teacher's probabilities at the probes of choosing."""
    choose = next(action for action in prompts.item_actions if action.name == CHOOSE.name)
    rows = np.flatnonzero((found.probe_kind == found.kinds.index(CHOOSE.name)) & (found.probe_label >= 0))
    shares = found.probe_share.copy()
    chosen = found.probe_label[rows] == choose.values.index(True)
    shares[rows] = teacher.shares(observed, profiles, found.probe_user[rows], found.probe_item[rows], chosen)
    return replace(found, probe_share=shares)


def pack(
    told: Iterator[Situations] | Sequence[Situations],
    prompts: PromptBuilder,
    compiler: Compiler,
    row_tokens: int,
    scale: tuple[float, float] | None,
) -> Pack:
    """Situations as tokens, with the true answers where they are known.

    Raises:
        ModelError: as `examples`.
    """
    actions = (*prompts.item_actions, *prompts.page_actions)
    kinds = {action.name: number for number, action in enumerate(actions)}
    builder: PackBuilder | None = None
    spellings: dict[str, tuple[tuple[int, ...], ...]] = {}
    for one in told:
        compiled = [compiler.prompt(prompts.page(situation)) for situation in one.pages]
        if builder is None:
            spellings = _spellings(
                compiled[0], [action.name for action in actions], len(one.pages[0].page.impressions), len(prompts.item_actions)
            )
            builder = PackBuilder(list(kinds), [spellings[name] for name in kinds], row_tokens)
        branches = [
            _branch(prompt, situation, chosen, rated, prompts, kinds, scale)
            for prompt, situation, chosen, rated in zip(compiled, one.pages, one.chosen, one.ratings, strict=True)
        ]
        prefix = np.concatenate(compiled[0].chunks[:-1])
        builder.add(one.pages[0].profile.user, prefix, len(compiled[0].chunks[0]), branches)
    if builder is None:
        builder = PackBuilder((), (), row_tokens)
    return builder.build()


def _branch(
    prompt: Compiled,
    situation: Situation,
    chosen: np.ndarray,
    rated: np.ndarray,
    prompts: PromptBuilder,
    kinds: dict[str, int],
    scale: tuple[float, float] | None,
) -> Branch:
    places = iter(prompt.places)
    asks = []
    for number, impression in enumerate(situation.page.impressions):
        for action in prompts.item_actions:
            label = -1
            if action.name == CHOOSE.name:
                label = action.values.index(bool(chosen[number]))
            elif action.name == RATE.name and scale is not None and not np.isnan(rated[number]):
                label = int(stars(np.array([rated[number]]), scale)[0]) - 1
            asks.append(Ask(_offset(prompt, next(places)), kinds[action.name], label, impression.item, impression.position))
    asks += [Ask(_offset(prompt, next(places)), kinds[action.name], -1, -1, 0) for action in prompts.page_actions]
    return Branch(prompt.chunks[-1], tuple(asks))


def _offset(prompt: Compiled, place: Place) -> int:
    return place.offset if place.chunk == len(prompt.chunks) - 1 else -1


def _spellings(prompt: Compiled, names: Sequence[str], items: int, per_item: int) -> dict[str, tuple[tuple[int, ...], ...]]:
    numbers = [*range(per_item), *range(items * per_item, len(prompt.places))]
    found = {}
    for name, number in zip(names, numbers, strict=True):
        spelling = prompt.places[number].spelling
        if spelling.inner:
            raise ModelError(
                f"the labels of '{name}' have several tokens each in this model, so it cannot be tuned on them; use shorter labels."
            )
        found[name] = spelling.first
    return found


def _mixed(train: Dataset, hidden: Hidden, config: ExamplesConfig, rng: Stream) -> Iterator[Candidates]:
    """Hidden items of each person among popularity-matched and random others, shuffled."""
    popularity = np.bincount(hidden.observed.interactions["item"].to_numpy(), minlength=train.n_items)
    negatives = Negatives(popularity, rng)
    known = items_by_user(train.interactions, train.n_users)
    ids = train.users["user_id"].to_list()
    users, items = hidden.hidden["user"].to_numpy(), hidden.hidden["item"].to_numpy()
    ratings = hidden.hidden["rating"].to_numpy().astype(np.float64) if train.has_ratings else np.full(len(items), np.nan)
    for user in np.unique(users).tolist():
        generator = rng.child(ids[user]).generator()
        rows = np.arange(*np.searchsorted(users, [user, user + 1]).tolist())
        _, first = np.unique(items[rows], return_index=True)
        rows = rows[generator.permutation(first)[: config.positives]]
        positives = items[rows].astype(np.int64)
        wanted = generator.choice(positives, size=max(1, round(config.negatives * len(positives))), replace=config.negatives > 1)
        matched = int(config.matched * len(wanted))
        drawn = np.concatenate(negatives.both(wanted[:matched], len(wanted) - matched, (known[user],), generator))
        mix = generator.permutation(len(positives) + len(drawn))
        yield Candidates(
            user,
            np.concatenate([positives, drawn])[mix],
            np.concatenate([np.ones(len(positives), dtype=bool), np.zeros(len(drawn), dtype=bool)])[mix],
            np.concatenate([ratings[rows], np.full(len(drawn), np.nan)])[mix],
        )


def _situations(train: Dataset, profile: UserProfile, found: Candidates, config: ExamplesConfig, rng: Stream) -> Situations:
    """The candidates cut into the pages of visits of up to five pages."""
    generator = rng.generator()
    memories = _memories(train, profile, generator) if generator.random() < config.memories else ()
    pages, chosen, ratings = [], [], []
    first, number, shown, taken = 0, 1, 0, 0
    while first < len(found.items):
        size = int(generator.integers(config.page_sizes[0], config.page_sizes[1] + 1))
        part = slice(first, first + size)
        pages.append(_situation(profile, memories, found.items[part], _state(profile, number, shown, taken), number, rng.child(first)))
        chosen.append(found.chosen[part])
        ratings.append(found.ratings[part])
        first, number = first + size, number + 1
        shown, taken = shown + size, taken + int(chosen[-1].sum())
        if number > 5:
            number, shown, taken = 1, 0, 0
    return Situations(tuple(pages), tuple(chosen), tuple(ratings))


def _situation(
    profile: UserProfile, memories: tuple[MemoryRecord, ...], items: np.ndarray, state: SessionState, number: int, stream: Stream
) -> Situation:
    page = Page(number, "examples", tuple(Impression(place, int(item), 0.0, 1.0) for place, item in enumerate(items, start=1)))
    return Situation(profile, memories, page, state, stream)


def _state(profile: UserProfile, number: int = 1, shown: int = 0, chosen: int = 0) -> SessionState:
    return SessionState(0, 0, 0, 0, number, shown, chosen, None, 0.0, profile.history)


def _memories(train: Dataset, profile: UserProfile, generator: np.random.Generator) -> tuple[MemoryRecord, ...]:
    """What somebody might remember of an earlier visit: observed interactions, in the words of `agents.experience`."""
    rows = generator.permutation(len(profile.history))[: int(generator.integers(1, 4))]
    records = []
    for number, row in enumerate(rows.tolist()):
        text = f"I {train.catalog.domain.chosen} {item_name(train.catalog, int(profile.history[row]), year=False)}"
        rating = None if profile.ratings is None else float(profile.ratings[row])
        ending = "." if rating is None else f" and gave it {rating:g} star{'' if rating == 1 else 's'}."
        records.append(MemoryRecord(number, "chosen" if rating is None else "rated", 0, 0, 0, text + ending, int(profile.history[row])))
    return tuple(records)
