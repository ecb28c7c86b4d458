"""What a person can answer from what is known of them: which facts a question asks for, or a plain refusal.

A question is understood only if all its words are: what asks for anything else is refused, since any answer would be made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from agents import text_facts
from agents.facts import Facts
from agents.titles import titles_in
from simulator.records import MemoryRecord

REFUSAL = "I do not know: nothing that I remember, and nothing that is known of me, says so."

MOST = 4
"""Sentences of an answer."""

_PLAIN_WORDS = """
a about after again all am an and any are as at be been before best but by
can could did do does doing ever find for found from give gave had has
have hello hi how i if in is it its just last least made many me more most much my name of often on one or other our out page pages please
really recently say session show shown site so some tell than that the them then there these they thing things think this those time to
today told too us usually very visit visits was we were what when which who whom whose why will with would you your yours yourself
"""
_PLAIN = frozenset(_PLAIN_WORDS.split())
_ASKED = {
    "age": "old age born year years",
    "work": "job work occupation profession living",
    "gender": "man woman gender sex male female",
    "who": "introduce describe person yourself",
    "taste": "like love liked loved favourite favorite favourites favorites enjoy enjoyed prefer taste genre genres kind kinds type types "
    "interested interests",
    "dislike": "dislike disliked hate hated worst least bad",
    "chose": "watch watched watching choose chose chosen pick picked saw see seen buy bought listen listened took take",
    "skipped": "skip skipped ignore ignored pass passed",
    "rated": "rate rated rating ratings star stars average score mean good",
    "felt": "feel felt feeling satisfied satisfaction happy content tired fresh pleased disappointed reason went go",
    "learned": "remember memory memories learn learned learnt insight keep mind",
}
_TOPICS = {word: topic for topic, words in _ASKED.items() for word in words.split()}


def facts_for(question: str, facts: Facts, memories: Sequence[MemoryRecord]) -> list[str]:
    """Sentences from facts that answer a question; none if it asks for what is not known.

    Args:
        question: one line. facts: of the person (`agents.facts.of_life`). memories: what the person has in mind, the most relevant first.
    """
    named = titles_in(facts.catalog, question, facts.shown | facts.known)
    rest = "".join(" " if any(one.start <= k < one.end for one in named) else letter for k, letter in enumerate(question))
    domain = facts.catalog.domain
    words = re.findall(r"[\w'-]+", rest.lower().replace("’", "'"))
    own = {*f"{domain.item} {domain.items} {domain.choose} {domain.chosen} film films movie movies title titles item items".lower().split()}
    genres = {genre.lower() for genre in facts.catalog.genre_names}
    known = _PLAIN | own | genres | _TOPICS.keys()
    if any(word.split("'")[0] not in known for word in words):
        return []
    said: list[str] = []
    for one in named:
        met = facts.shown.union(facts.known).intersection(one.items) or set(one.items[:1])
        said += [text_facts.of_item(facts, item) for item in sorted(met)]
    topics = dict.fromkeys(_TOPICS[word] for word in words if word in _TOPICS)
    if any(word in genres for word in words):
        topics["taste"] = "taste"
    if not named:
        for topic in topics:
            said += _ABOUT[topic](facts, memories)
        if not topics and ("why" in words or "how" in words):
            said += _felt(facts, memories)
    return list(dict.fromkeys(said))[:MOST]


def _age(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    return [one for one in text_facts.who(facts) if one.endswith(" years old.")]


def _work(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    return [one for one in text_facts.who(facts) if one.startswith("My occupation")]


def _gender(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    return [f"I am {facts.profile.gender}."] if facts.profile.gender else []


def _who(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    return [*text_facts.who(facts), *text_facts.own_taste(facts)]


def _taste(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    liked = [one for one in text_facts.insight_sentences(facts) if one.startswith("I liked ") and " least, and gave it " not in one]
    return [one for one in text_facts.own_taste(facts) if "I dislike" not in one] + liked[:1]


def _dislike(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    said = [one for one in text_facts.own_taste(facts) if "I dislike" in one]
    return said + [one for one in text_facts.insight_sentences(facts) if one.startswith("I disliked")]


def _chose(facts: Facts, _: Sequence[MemoryRecord]) -> list[str]:
    return text_facts.visit_sentences(facts)[:2] if facts.met else []


def _skipped(facts: Facts, memories: Sequence[MemoryRecord]) -> list[str]:
    return [one.text for one in memories if one.kind == "seen"][:1]


def _rated(facts: Facts, memories: Sequence[MemoryRecord]) -> list[str]:
    mean = facts.mean_rating
    return ([] if mean is None else [f"My average rating was {mean:.1f} stars."]) + [one.text for one in memories if one.kind == "rated"][
        :2
    ]


def _felt(_: Facts, memories: Sequence[MemoryRecord]) -> list[str]:
    return [one.text for one in memories if one.kind == "feeling"][:1]


def _learned(_: Facts, memories: Sequence[MemoryRecord]) -> list[str]:
    return [one.text for one in memories if one.kind != "seen"][:3]


_ABOUT: dict[str, Callable[[Facts, Sequence[MemoryRecord]], list[str]]] = {
    "age": _age,
    "work": _work,
    "gender": _gender,
    "who": _who,
    "taste": _taste,
    "dislike": _dislike,
    "chose": _chose,
    "skipped": _skipped,
    "rated": _rated,
    "felt": _felt,
    "learned": _learned,
}
