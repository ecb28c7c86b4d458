"""All text that the language model reads when it plays a person. The only place with prompt wording.

A page prompt goes from what changes least to what changes most, so that a backend can keep prefixes::

    [rules shared by all][who you are][what you remember][the page, with probes]

Text that comes from a data set or from a model (titles, tastes, memories) passes `agents.text.clean` and stands inside
a line of its own; it cannot start a line, a segment or a probe. Control tokens of a chat model are never produced from
text (`simulator.protocols.LanguageModel`).
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from agents.actions import of_scope
from agents.text import clean, item_genres, item_name
from simulator.dataset import Catalog
from simulator.plugins import ComponentConfig
from simulator.records import (
    Action,
    GenerationRequest,
    Impression,
    ItemVector,
    MemoryRecord,
    Message,
    Probe,
    Prompt,
    Segment,
    SessionState,
    Situation,
    UserProfile,
)
from simulator.seeds import Stream

Parts = list[str | Probe | ItemVector]

VARIANTS = ("examples", "thought_tokens", "item_vectors", "history_vectors")
"""Options of `PromptConfig` that add to the prompt and are not written down while they are off."""

DOMAIN_WORDS = ("item", "items", "choose", "chosen")
"""The words of `simulator.dataset.Domain` that questions and rules may use in braces."""


class PromptConfig(ComponentConfig):
    """What goes into a prompt; every part costs tokens.

    Attributes:
        liked, disliked: how many titles show the taste. With 16 and 4 people were told apart no better (experiments/LOG.md).
        favourite_genres: how many genres with the highest lift.
        traits, demographics, taste: whether these parts of the profile are told.
        memories: at most this many recalled records are told; memory_chars: and at most this many characters, the
            least relevant record is dropped first.
        years: whether items are told with their year, which costs up to six tokens each.
        item_genres: genres told per item. description_chars: characters of an item's description (0: none).
        mask_titles: replaces titles by "film 17" and so on, to measure what memorised titles contribute.
        unasked: names of item and page actions that page prompts leave out; what people do there is then drawn from what is
            known without the model.
        rules: the first line of every page prompt, in other words; may use {item}, {items}, {choose}, {chosen}. None is the
            line that comes with usersim.
        examples: lines of an earlier page that show what the person did (few-shot in context, Brown et al. 2020): in turn items of
            their training history, with the true answers, and random items that are not in it.
        thought_tokens: a thought about the page of at most so many tokens is written and put before the page, which is then scored
            as ever (chain of thought, Wei et al. 2022); 0 writes none. It costs as much as generating does.
        item_vectors: whether the learned vector of an item stands behind every title; history_vectors: and the vectors of at most so
            many of the latest items of the history in the person's line. They need a model that was tuned to read them
            (`simulator.llm.vectors`).
    """

    liked: int = Field(4, ge=0, le=50)
    disliked: int = Field(2, ge=0, le=50)
    favourite_genres: int = Field(3, ge=0, le=20)
    traits: bool = True
    demographics: bool = True
    taste: bool = True
    memories: int = Field(3, ge=0, le=50)
    memory_chars: int = Field(200, ge=0, le=10_000)
    years: bool = False
    item_genres: int = Field(2, ge=0, le=20)
    description_chars: int = Field(0, ge=0, le=2_000)
    mask_titles: bool = False
    unasked: tuple[str, ...] = ()
    rules: str | None = Field(None, min_length=1, max_length=2_000)
    examples: int = Field(0, ge=0, le=50)
    thought_tokens: int = Field(0, ge=0, le=200)
    item_vectors: bool = False
    history_vectors: int = Field(0, ge=0, le=200)

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What was kept for prompts of before (weights, examples) is for the same prompts, and is found again.
        written: dict[str, Any] = handler(self)
        return {name: value for name, value in written.items() if value or name not in VARIANTS}

    @field_validator("rules")
    @classmethod
    def _known_words(cls, rules: str | None) -> str | None:
        words = ", ".join(f"{{{word}}}" for word in DOMAIN_WORDS)
        hint = f"has a brace that is not one of {words}; double a brace that is meant as such"
        try:
            fields = [(name, form, conversion) for _, name, form, conversion in Formatter().parse(rules or "") if name is not None]
        except ValueError as error:
            raise ValueError(hint) from error
        if any(name not in DOMAIN_WORDS or form or conversion for name, form, conversion in fields):
            raise ValueError(hint)
        return rules


NOTE_WORDS = {"advert": "advert: {}", "price": "price: {}", "explanation": "shown because {}"}
"""How what an intervention writes beside an item is put into words."""

TRAIT_WORDS = {
    "activity": {"low": "rarely comes", "medium": "comes now and then", "high": "comes often"},
    "conformity": {"low": "judges against the crowd", "medium": "often agrees with others", "high": "judges like everybody"},
    "diversity": {"low": "keeps to a few genres", "medium": "likes several genres", "high": "tries all genres"},
    "pickiness": {"low": "rates generously", "medium": "rates fairly", "high": "is hard to please"},
}


class PromptBuilder:
    """Writes prompts for one data set and one list of actions.

    Args:
        catalog: the items and the words of their domain.
        actions: what people can do; their questions become probes.
        config: what goes in. seed: of the run; draws which of a person's interactions are told as examples.
    """

    def __init__(self, catalog: Catalog, actions: Sequence[Action], config: PromptConfig | None = None, seed: int = 0) -> None:
        self.catalog, self._seed = catalog, seed
        self.config = config or PromptConfig()
        asked = [action for action in actions if action.name not in self.config.unasked]
        self.item_actions = of_scope(asked, "item")
        self.page_actions = of_scope(asked, "page")
        self.session_actions = of_scope(actions, "session")
        self._words = {word: getattr(catalog.domain, word) for word in DOMAIN_WORDS}
        self._rules = Segment((self._rules_text(),))

    def page(self, situation: Situation, thought: str = "") -> Prompt:
        """The prompt of one page turn. Its probes: each item's actions in order of position, then the page's actions.

        Args:
            situation: who is in front of which page.
            thought: what the person thinks about it, one line (see `thought`), or empty.
        """
        thinking = (self._listing(situation), Segment((f" {thought}\n",))) if thought else ()
        return Prompt((*self._opening(situation), *thinking, self._page_segment(situation)))

    def thought(self, situation: Situation) -> GenerationRequest:
        """Asks for a thought about the page, before anything on it is decided."""
        prompt = Prompt((*self._opening(situation), self._listing(situation)))
        stream = situation.stream.child("thought")
        return GenerationRequest((), max_tokens=self.config.thought_tokens, stream=stream, temperature=0.0, stop=("\n",), prompt=prompt)

    def closing(self, situation: Situation) -> Prompt:
        """The prompt that looks back on a finished session. Its probes are the session's actions."""
        first, *more = self.session_actions
        parts: list[str | Probe] = [Probe(first.name, first.labels)]
        for action in more:
            parts += [f"\n{self._question(action)}", Probe(action.name, action.labels)]
        return Prompt((*self._looking_back(situation), Segment((self._question(first),)), Segment(tuple(parts))))

    def reason(self, situation: Situation, answers: Sequence[str], stream: Stream) -> GenerationRequest:
        """Asks for the reason of the session actions' `answers` (labels), as the continuation of the same text."""
        first, *more = zip(self.session_actions, answers, strict=True)
        # The question is a segment of its own, as in `closing`, so that it is computed once.
        told = "".join(f"{self._question(action)} {answer}\n" for action, answer in more)
        lead = f" {first[1]}\n{told}The reason in one short sentence: I"
        return self._sentence(situation, stream, Segment((self._question(first[0]),)), Segment((lead,)))

    def insight(self, situation: Situation, stream: Stream) -> GenerationRequest:
        """Asks for one sentence worth remembering about the session (reflection, Park et al. 2023, section 4.2)."""
        return self._sentence(situation, stream, Segment((f"What I learned about my taste in {self._words['items']}: I",)))

    def _sentence(self, situation: Situation, stream: Stream, *lead: Segment) -> GenerationRequest:
        prompt = Prompt((*self._looking_back(situation), *lead))
        return GenerationRequest((), max_tokens=24, stream=stream, temperature=0.7, stop=("\n", ".", "!", "?"), prompt=prompt)

    def taste(self, profile: UserProfile, stream: Stream) -> GenerationRequest:
        """Asks for one paragraph about a person's taste, written once from the training history."""
        domain = self.catalog.domain
        request = f"In two sentences, describe this person's taste in {domain.items}."
        messages = (
            Message("system", f"You describe people's taste in {domain.items} from what they {domain.chosen} and liked."),
            Message("user", f"{self.person_text(profile)}{request}"),
        )
        return GenerationRequest(messages, max_tokens=60, stream=stream, temperature=0.5, stop=("\n\n",))

    def interview(
        self,
        profile: UserProfile,
        memories: Sequence[MemoryRecord],
        conversation: Sequence[Message],
        stream: Stream,
    ) -> GenerationRequest:
        """Asks the person the last question of a conversation, in character.

        Args:
            profile: who is asked. memories: what the person has in mind, most relevant first.
            conversation: alternating "user" (interviewer) and "assistant" (person) turns, ending with a question.
            stream: randomness of the answer.
        """
        domain = self.catalog.domain
        system = (
            f"You play a person who uses a {domain.item} site. Answer in the first person, as this person, in one to three sentences. "
            f"Say only what fits the description and the memories.\n"
            f"{self.person_text(profile)}{self._memory_text(memories, limit=1_200, most=12)}"
        )
        return GenerationRequest((Message("system", system), *conversation), max_tokens=120, stream=stream, temperature=0.7)

    # --- the parts ---

    def _rules_text(self) -> str:
        if self.config.rules is not None:
            return clean(self.config.rules.format(**self._words), 2_000) + "\n"
        domain = self.catalog.domain
        rating = any(action.name == "rate" for action in self.item_actions)
        stars = ", and the stars from 1 to 5 it would get" if rating else ""
        return (
            f"One person on a {domain.item} site. Each line is a {domain.item} that was shown, "
            f"whether the person did {domain.choose} it{stars}. Own taste decides.\n"
        )

    def person_text(self, profile: UserProfile) -> str:
        """Who somebody is, one line."""
        return "".join(part for part in self._person(profile, vectors=False) if isinstance(part, str))

    def _person(self, profile: UserProfile, *, vectors: bool) -> Parts:
        config, facts = self.config, []
        if config.demographics:
            told = [profile.gender, f"{profile.age} years old" if profile.age is not None else None, profile.occupation]
            facts += [", ".join(clean(word, 40) for word in told if word)]
        if config.favourite_genres and profile.genres:
            facts.append(f"favourite genres {', '.join(clean(genre, 30) for genre in list(profile.genres)[: config.favourite_genres])}")
        if config.traits:
            facts += [
                TRAIT_WORDS[name][trait.level]
                for name in ("activity", "conformity", "diversity", "pickiness")
                if (trait := getattr(profile, name)) is not None
            ]
        parts: Parts = ["The person: " + "; ".join(fact for fact in facts if fact) + "."]
        for lead, items, most in ((" Loves: ", profile.liked, config.liked), (" Dislikes: ", profile.disliked, config.disliked)):
            for number, item in enumerate(items[:most] if most else ()):
                parts += [", " if number else lead, self._title(item), *(self._vectors([item]) if vectors and config.item_vectors else ())]
            parts += ["."] if most and items else []
        if vectors and config.history_vectors and len(profile.history):
            parts += [f" {self._words['chosen'].capitalize()}:", *self._vectors(profile.history[-config.history_vectors :].tolist()), "."]
        if config.taste and profile.taste:
            parts.append(" " + clean(profile.taste, 300))
        return [*parts, "\n"]

    def _vectors(self, items: Sequence[int]) -> Parts:
        return [ItemVector(str(self.catalog.item_ids[item])) for item in items]

    def _opening(self, situation: Situation) -> tuple[Segment, ...]:
        memory = self._memory_text(situation.memories, limit=self.config.memory_chars, most=self.config.memories)
        parts = [*self._person(situation.profile, vectors=True), memory, *self._examples(situation.profile)]
        return (self._rules, Segment(tuple(_merged([part for part in parts if part]))))

    def _examples(self, profile: UserProfile) -> Parts:
        """An earlier page with true answers: what the person took, and what they never took; always the same in one run."""
        choose = next((action for action in self.item_actions if action.name == "choose"), None)
        rate = next((action for action in self.item_actions if action.name == "rate"), None)
        if not self.config.examples or choose is None or not len(profile.history):
            return []
        generator = Stream(self._seed).child("examples", profile.user_id).generator()
        rows = generator.permutation(len(profile.history))[: (self.config.examples + 1) // 2]
        others = np.setdiff1d(np.arange(len(self.catalog)), profile.history)
        passed = generator.permutation(others)[: self.config.examples // 2]
        told = [(int(profile.history[row]), int(row)) for row in rows] + [(int(item), -1) for item in passed]
        parts: Parts = ["An earlier page:\n"]
        for place, number in enumerate(generator.permutation(len(told)).tolist(), start=1):
            item, row = told[number]
            parts += [*self._shown(place, item), f" | {self._question(choose)} {choose.labels[choose.values.index(row >= 0)]}"]
            if rate is not None and row >= 0 and profile.ratings is not None:
                nearest = int(np.argmin(np.abs(np.array(rate.values, dtype=float) - float(profile.ratings[row]))))
                parts.append(f" {self._question(rate)} {rate.labels[nearest]}")
            parts.append("\n")
        return parts

    def _listing(self, situation: Situation) -> Segment:
        """What a thought is about; it stands before the thought when that is written, and when the page is scored."""
        named = "; ".join(self._item_line(impression.item) for impression in situation.page.impressions)
        return Segment((f"On the next page: {named}.\nThis person thinks: I",))

    def _looking_back(self, situation: Situation) -> tuple[Segment, ...]:
        """What the closing prompt and the texts after it have in common, so that it is computed once."""
        return (*self._opening(situation), Segment((self._visit_text(situation.state),)))

    def told(self, memories: Sequence[MemoryRecord]) -> int:
        """How many of the recalled memories a page prompt tells: the first that fit; the less relevant rest is dropped."""
        return len(_fitting(memories, self.config.memory_chars, self.config.memories))

    def _memory_text(self, memories: Sequence[MemoryRecord], *, limit: int, most: int) -> str:
        told = _fitting(memories, limit, most)
        return f"Remembers: {' '.join(told)}\n" if told else ""

    def _page_segment(self, situation: Situation) -> Segment:
        state = situation.state
        so_far = f", {state.chosen} of {state.shown} {self._words['chosen']}" if state.shown else ""
        parts: Parts = [f"Page {situation.page.number}{so_far}:\n"]
        for impression in situation.page.impressions:
            parts += [*self._shown(impression.position, impression.item), f"{_noted(impression)} |"]
            for action in self.item_actions:
                parts += [f" {self._question(action)}", Probe(f"{action.name} {impression.position}", action.labels)]
            parts.append("\n")
        for action in self.page_actions:
            parts += [self._question(action), Probe(action.name, action.labels), "\n"]
        return Segment(tuple(_merged(parts[:-1])))

    def _question(self, action: Action) -> str:
        return action.question.format(**self._words).strip()

    def _title(self, item: int) -> str:
        if self.config.mask_titles:
            return f"{self._words['item']} {item}"
        return item_name(self.catalog, item, year=self.config.years)

    def _shown(self, position: int, item: int) -> Parts:
        """A line of a page up to what is asked about the item."""
        vector = self._vectors([item]) if self.config.item_vectors else []
        return [f"{position}. {self._item_line(item)}", *vector]

    def _item_line(self, item: int) -> str:
        config = self.config
        genres = item_genres(self.catalog, item)[: config.item_genres]
        text = f"{self._title(item)} {', '.join(genres)}".rstrip()
        description = self.catalog.items["description"][item] if config.description_chars else None
        return f"{text}: {clean(description, config.description_chars)}" if description else text

    def _visit_text(self, state: SessionState) -> str:
        domain = self.catalog.domain
        items = state.history[len(state.history) - state.chosen :][-3:]
        named = ", ".join(self._title(int(item)) for item in items)
        chosen = f"I {domain.chosen} {state.chosen} of {state.shown} {domain.items}" + (f": {named}" if named else "")
        rated = f", {state.mean_rating:.1f} stars on average" if state.mean_rating is not None else ""
        return f"Visit over: {chosen}{rated}.\n"


def _fitting(memories: Sequence[MemoryRecord], limit: int, most: int) -> list[str]:
    """Texts of the first memories, at most `most` and `limit` characters together."""
    told: list[str] = []
    for record in memories[:most]:
        text = clean(record.text, 160)
        if sum(map(len, told)) + len(text) > limit:
            break
        told.append(text)
    return told


def _noted(impression: Impression) -> str:
    """What interventions write beside an item, in brackets behind its line; empty without any."""
    told = (NOTE_WORDS[note.kind].format(clean(note.text, 120)) for note in impression.notes if note.text)
    return "".join(f" ({words})" for words in told)


def _merged(parts: Sequence[str | Probe | ItemVector]) -> Parts:
    """Neighbouring texts joined, so that they are tokenised as one."""
    merged: Parts = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return merged
