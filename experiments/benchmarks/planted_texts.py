"""True sentences about visits, and the same with a fault planted, to see what the checker of texts (`agents.text_check`) lets through.

The kinds of faults were written after the checker, from what language models get wrong about people and films, and not from its forms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agents import text_facts
from agents.facts import Facts, of_visit
from agents.text import item_genres, item_name
from agents.text_check import check
from simulator.records import Closing, Situation

FAULTS = 500

Plant = Callable[[Facts, np.random.Generator], str | None]


def measure(visits: Sequence[tuple[Situation, Closing]], catalog: Any, scale: tuple[float, float] | None, seed: int) -> dict[str, Any]:
    """What the checker does with true and with false sentences.

    Args:
        visits: that are over. catalog: the items. scale: of the ratings. seed: of the faults.

    Returns:
        ``planted_false_caught``: share of the planted faults that are rejected. ``true_rejected_share``: of sentences made from facts,
        ``paraphrases_rejected_share``: of true ones in other words. ``missed``: kind -> faults of it that passed, with an example.
    """
    generator = np.random.default_rng(seed)
    caught, planted, missed = 0, 0, Counter[str]()
    examples: dict[str, str] = {}
    facts = [of_visit(catalog, scale, situation, closing) for situation, closing in visits]
    kinds = list(FALSE.items())
    for number in range(20 * FAULTS):
        kind, plant = kinds[number % len(kinds)]
        one = facts[int(generator.integers(len(facts)))]
        sentence = plant(one, generator)
        if sentence is None or planted == FAULTS:
            continue
        planted += 1
        if check(sentence, one).passed:
            missed[kind] += 1
            examples[kind] = sentence
        else:
            caught += 1
    true = [sentence for one in facts for sentence in (*text_facts.visit_sentences(one), *text_facts.insight_sentences(one))]
    where = [one for one in facts for _ in (*text_facts.visit_sentences(one), *text_facts.insight_sentences(one))]
    others = [(sentence, one) for one in facts for say in TRUE if (sentence := say(one, generator)) is not None]
    rejected = [sentence for sentence, one in others if not check(sentence, one).passed]
    return {
        "planted": planted,
        "planted_false_caught": caught / planted if planted else None,
        "true_sentences": len(true),
        "true_rejected_share": float(np.mean([not check(sentence, one).passed for sentence, one in zip(true, where, strict=True)])),
        "paraphrases": len(others),
        "paraphrases_rejected_share": len(rejected) / len(others) if others else None,
        "kinds": len(kinds),
        "missed": {kind: {"count": count, "example": examples[kind]} for kind, count in sorted(missed.items())},
        "rejected_examples": rejected[:5],
    }


# --- parts of sentences ---


def _name(facts: Facts, item: int) -> str:
    return item_name(facts.catalog, item, year=False)


def _one(items: Sequence[int], generator: np.random.Generator) -> int | None:
    return int(items[int(generator.integers(len(items)))]) if len(items) else None


def _chosen(facts: Facts, generator: np.random.Generator) -> int | None:
    return _one(sorted(facts.chosen), generator)


def _skipped(facts: Facts, generator: np.random.Generator) -> int | None:
    return _one(sorted(facts.skipped), generator)


def _unseen(facts: Facts, generator: np.random.Generator) -> int:
    """An item that was neither shown nor is in the history, with another title than all that were."""
    names = {_name(facts, item) for item in facts.shown | facts.known}
    while True:
        item = int(generator.integers(len(facts.catalog)))
        if _name(facts, item) not in names:
            return item


def _true(facts: Facts, generator: np.random.Generator) -> str:
    said = [*text_facts.visit_sentences(facts), *text_facts.insight_sentences(facts)]
    return said[int(generator.integers(len(said)))]


def _with(
    pick: Callable[[Facts, np.random.Generator], int | None], say: Callable[[Facts, str, int, np.random.Generator], str | None]
) -> Plant:
    def plant(facts: Facts, generator: np.random.Generator) -> str | None:
        item = pick(facts, generator)
        return None if item is None else say(facts, _name(facts, item), item, generator)

    return plant


def _other_rating(facts: Facts, item: int, generator: np.random.Generator) -> int | None:
    if facts.scale is None or item not in facts.given:
        return None
    others = [value for value in range(int(facts.scale[0]), int(facts.scale[1]) + 1) if value != facts.given[item]]
    return _one(others, generator)


NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
FALSE_ENDS = (
    " with my wife.",
    " last Tuesday.",
    " twice.",
    " because my friends told me to.",
    " in the cinema.",
    ", directed by Steven Spielberg.",
    " for the third time.",
    " and then I cried.",
    " although it was raining.",
    " on my new television.",
)
STRANGE = (
    "Ich habe drei Filme gesehen.",
    "J'ai aimé ce film.",
    "Film film film film film.",
    "I I I watched watched the the.",
    "The person: female, 24 years old, student; favourite genres Drama.",
    "My satisfaction with this visit, from 1 to 10: 7.",
    "I am a language model and cannot watch films.",
    "Visit over: I watched 3 of 10 films.",
    "I xqzt the vmlp and brrk.",
    "I watched.",
    "I have never seen a film in my life.",
    "I always watch everything to the end.",
    "I hate all films.",
    "What did I watch?",
    "I would have liked to watch more.",
    "I will watch more tomorrow.",
    "I own a dog named Rex.",
    "I live in Chicago.",
    "I have two children.",
    "Everybody loves these films.",
)


def _strange(facts: Facts, generator: np.random.Generator) -> str:
    return STRANGE[int(generator.integers(len(STRANGE)))]


def _more(facts: Facts, generator: np.random.Generator) -> str:
    more = len(facts.chosen) + int(generator.integers(1, 6))
    return f"I {facts.catalog.domain.chosen} {more} {facts.catalog.domain.items}."


def _more_in_words(facts: Facts, generator: np.random.Generator) -> str:
    more = min(12, len(facts.chosen) + int(generator.integers(1, 6)))
    return f"I {facts.catalog.domain.chosen} {NUMBERS[more]} {facts.catalog.domain.items}."


def _of_more(facts: Facts, generator: np.random.Generator) -> str:
    domain, more = facts.catalog.domain, len(facts.met) + int(generator.integers(1, 9))
    return f"I {domain.chosen} {len(facts.chosen)} of {more} {domain.items}."


def _pages(facts: Facts, generator: np.random.Generator) -> str:
    return f"I left after {(facts.pages or 0) + int(generator.integers(1, 5))} pages."


def _older(facts: Facts, generator: np.random.Generator) -> str | None:
    age = facts.profile.age
    if age is None:
        return None
    other = age + int(generator.integers(1, 30)) * (1 if generator.random() < 0.5 or age < 35 else -1)
    said = (f"I am {other} years old.", f"I am a {other}-year-old {facts.profile.occupation}.", f"I, {other}, liked it.")
    return said[int(generator.integers(3))]


def _other_work(facts: Facts, generator: np.random.Generator) -> str | None:
    works = [one for one in ("doctor", "student", "lawyer", "engineer", "retired", "programmer") if one != facts.profile.occupation]
    work = works[int(generator.integers(len(works)))]
    return (f"I am a {work}.", f"I work as a {work}.", f"My occupation is {work}.")[int(generator.integers(3))]


def _other_gender(facts: Facts, generator: np.random.Generator) -> str | None:
    other = {"male": ("woman", "female"), "female": ("man", "male")}.get(facts.profile.gender or "")
    return None if other is None else (f"I am a {other[0]}.", f"I am {other[1]}.")[int(generator.integers(2))]


def _cut(facts: Facts, generator: np.random.Generator) -> str:
    words = _true(facts, generator).split()
    return " ".join(words[: int(generator.integers(1, len(words)))])


def _average(facts: Facts, generator: np.random.Generator) -> str | None:
    mean, domain = facts.mean_rating, facts.catalog.domain
    if mean is None:
        return None
    other = mean + (1.0 if mean < 3 else -1.0) * float(generator.uniform(0.2, 1.5))
    return f"I {domain.chosen} {len(facts.chosen)} {domain.items} and gave them {other:.1f} stars on average."


def _ended(facts: Facts, generator: np.random.Generator) -> str:
    return _true(facts, generator).removesuffix(".") + FALSE_ENDS[int(generator.integers(len(FALSE_ENDS)))]


def _other_genre(facts: Facts, generator: np.random.Generator) -> str | None:
    item = _one(sorted(facts.shown), generator)
    if item is None:
        return None
    others = [genre for genre in facts.catalog.genre_names if genre not in item_genres(facts.catalog, item)]
    genre = others[int(generator.integers(len(others)))].lower()
    return f"{_name(facts, item)} is a {genre} {facts.catalog.domain.item}."


def _other_favourite(facts: Facts, generator: np.random.Generator) -> str | None:
    others = [genre for genre in facts.catalog.genre_names if genre not in facts.favourites]
    genre = others[int(generator.integers(len(others)))]
    return (f"My favourite genre is {genre}.", f"I love {genre.lower()} {facts.catalog.domain.items}.")[int(generator.integers(2))]


def _not_best(facts: Facts, generator: np.random.Generator) -> str | None:
    top = max(facts.given.values(), default=None)
    item = _one([one for one, rating in sorted(facts.given.items()) if rating != top], generator)
    return None if item is None else f"My favourite {facts.catalog.domain.item} was {_name(facts, item)}."


def _loved_low(facts: Facts, generator: np.random.Generator) -> str | None:
    item = _one([one for one in sorted(facts.given) if facts.disliked(one)], generator)
    return None if item is None else f"I {('loved', 'liked', 'enjoyed')[int(generator.integers(3))]} {_name(facts, item)}."


def _hated_high(facts: Facts, generator: np.random.Generator) -> str | None:
    item = _one([one for one in sorted(facts.given) if facts.liked(one)], generator)
    return None if item is None else f"I {('hated', 'disliked', 'did not like')[int(generator.integers(3))]} {_name(facts, item)}."


def _all(facts: Facts, generator: np.random.Generator) -> str | None:
    domain = facts.catalog.domain
    said = [] if not facts.skipped else [f"I {domain.chosen} all of them.", f"I {domain.chosen} every {domain.item}."]
    said += [] if not facts.chosen else [f"I {domain.chosen} none of the {domain.items}.", f"I did not {domain.choose} anything."]
    return said[int(generator.integers(len(said)))] if said else None


def _mood(facts: Facts, generator: np.random.Generator) -> str | None:
    if facts.satisfaction is None:
        return None
    other = int(facts.satisfaction) % 10 + 1
    word = "disappointed" if facts.satisfaction >= 7 else "very happy"
    return (f"My satisfaction with this visit was {other}.", f"I was {word}.")[int(generator.integers(2))]


def _misspelled(facts: Facts, name: str, item: int, generator: np.random.Generator) -> str | None:
    letters = [k for k, letter in enumerate(name) if letter.isalpha()]
    if len(letters) < 4:
        return None
    k = letters[int(generator.integers(1, len(letters)))]
    changed = name[:k] + chr((ord(name[k].lower()) - 96) % 26 + 97) + name[k + 1 :]
    return f"I {facts.catalog.domain.chosen} {changed}."


def _year(facts: Facts, name: str, item: int, generator: np.random.Generator) -> str | None:
    year = facts.catalog.items["year"][item]
    return None if year is None else f"I {facts.catalog.domain.chosen} {name} ({year + int(generator.integers(1, 20))})."


def _rated(facts: Facts, name: str, item: int, generator: np.random.Generator) -> str | None:
    stars = _other_rating(facts, item, generator)
    domain = facts.catalog.domain
    says = (f"I {domain.chosen} {name} and gave it {stars} stars.", f"I gave {name} {stars} stars.", f"I rated {name} {stars} out of 5.")
    return None if stars is None else says[int(generator.integers(3))]


def _both(facts: Facts, generator: np.random.Generator) -> str | None:
    took, left = _chosen(facts, generator), _skipped(facts, generator)
    if took is None or left is None:
        return None
    domain = facts.catalog.domain
    names = _name(facts, took), _name(facts, left)
    says = (
        f"I {domain.chosen} {names[0]} and {names[1]}.",
        f"I skipped {names[0]} and {domain.chosen} {names[1]}.",
        f"I {domain.chosen} {names[0]} and then skipped it.",
        f"I gave {names[1]} 5 stars.",
        f"I {domain.chosen} {names[0]}, but I did not {domain.choose} it.",
    )
    return says[int(generator.integers(len(says)))]


def _invented(facts: Facts, generator: np.random.Generator) -> str:
    kind = ("Green", "Last", "Silent")[int(generator.integers(3))]
    return f'I {facts.catalog.domain.chosen} "The {kind} Harbour of {generator.integers(99)}".'


FALSE: dict[str, Plant] = {
    "too many": _more,
    "too many, in words": _more_in_words,
    "of too many": _of_more,
    "other number of pages": _pages,
    "other rating": _with(_chosen, _rated),
    "item that was not shown": _with(_unseen, lambda f, name, *_: f"I {f.catalog.domain.chosen} {name}."),
    "item that was not shown, skipped": _with(_unseen, lambda f, name, *_: f"I skipped {name}."),
    "skipped item chosen": _with(_skipped, lambda f, name, *_: f"I {f.catalog.domain.chosen} {name} today."),
    "chosen item skipped": _with(_chosen, lambda f, name, *_: f"I skipped {name}."),
    "chosen item denied": _with(_chosen, lambda f, name, *_: f"I did not {f.catalog.domain.choose} {name}."),
    "misspelled title": _with(_chosen, _misspelled),
    "sequel": _with(_chosen, lambda f, name, *_: f"I {f.catalog.domain.chosen} {name} Part Two."),
    "invented title": _invented,
    "other year": _with(_chosen, _year),
    "other genre": _other_genre,
    "other favourite genre": _other_favourite,
    "other age": _older,
    "other occupation": _other_work,
    "other gender": _other_gender,
    "cut": _cut,
    "other mean": _average,
    "added": _ended,
    "not the best": _not_best,
    "loved what was rated low": _loved_low,
    "hated what was rated high": _hated_high,
    "all and none": _all,
    "other mood": _mood,
    "contradiction": _both,
    "strange": _strange,
}
"""Kind of fault -> a false (or no) sentence about some facts, or None where it cannot be planted."""


def _paraphrase(say: Callable[[Facts, str, int], str | None]) -> Plant:
    return _with(_chosen, lambda facts, name, item, _: say(facts, name, item))


TRUE: tuple[Plant, ...] = (
    _paraphrase(lambda f, name, _: f"I {f.catalog.domain.chosen} {name} today."),
    _paraphrase(lambda f, name, _: f"Today I {f.catalog.domain.chosen} {name}."),
    _paraphrase(lambda f, name, i: f"I gave {name} {f.given[i]:g} stars." if i in f.given and f.given[i] != 1 else None),
    _paraphrase(lambda f, name, i: f"{name} got {f.given[i]:g} stars from me." if i in f.given and f.given[i] != 1 else None),
    _with(_skipped, lambda f, name, *_: f"I didn't {f.catalog.domain.choose} {name}."),
    lambda f, _: f"I picked {NUMBERS[len(f.chosen)]} of the {NUMBERS[len(f.met)]} {f.catalog.domain.items}." if len(f.met) < 13 else None,
    lambda f, _: f"Of the {len(f.met)} {f.catalog.domain.items} I {f.catalog.domain.chosen} {len(f.chosen)}.",
    lambda f, _: f"There were {len(f.met)} {f.catalog.domain.items}, and I {f.catalog.domain.chosen} {len(f.chosen)} of them.",
    lambda f, _: f"I'm {f.profile.age}." if f.profile.age is not None else None,
    lambda f, _: f"My satisfaction was {f.satisfaction:g} out of 10." if f.satisfaction is not None else None,
)
"""True sentences in other words than those made from facts."""
