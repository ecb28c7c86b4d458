"""Sentences made from facts: what stands where a language model writes nothing, or nothing that is true.

Every sentence passes `agents.text_check`, since both say the same about the same facts; which of the possible ones is said is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from agents.facts import Facts
from agents.text import item_name
from simulator.seeds import Stream

MOST_NAMED = 3
"""Items that a sentence names."""

MOST_CHARACTERS = 200
"""Longer sentences are not said where a shorter one is possible."""


def reason(facts: Facts, stream: Stream) -> str:
    """Why a visit was as it was: what was shown, chosen and rated.

    Args:
        facts: of the visit. stream: which of the possible sentences.
    """
    return _drawn(visit_sentences(facts), stream)


def insight(facts: Facts, stream: Stream) -> str:
    """What is worth remembering of a visit: what was rated best and worst, of which kind, or what was passed over."""
    return _drawn(insight_sentences(facts) or visit_sentences(facts), stream)


def visit_sentences(facts: Facts) -> list[str]:
    """What can be said of a visit as a whole."""
    domain, shown, chosen = facts.catalog.domain, len(facts.met), sorted(facts.chosen, key=_order(facts))
    count = f"{len(chosen)} of {shown} {domain.items}"
    if not chosen:
        return [f"I {domain.chosen} none of the {shown} {domain.items}.", f"I skipped all {domain.items} that I was shown."]
    names = _listed([item_name(facts.catalog, item, year=False) for item in chosen[:MOST_NAMED]])
    more = f", and {len(chosen) - MOST_NAMED} more" if len(chosen) > MOST_NAMED else ""
    said = [f"I {domain.chosen} {count}.", f"I {domain.chosen} {names}{more}."]
    mean = facts.mean_rating
    if mean is not None and set(facts.given) >= facts.chosen:
        if len(chosen) == 1:
            said.append(f"I {domain.chosen} {names} and gave it {_stars(mean)}.")
        else:
            said.append(f"I {domain.chosen} {count} and gave them {mean:.1f} stars on average.")
    return said


def insight_sentences(facts: Facts) -> list[str]:
    """What can be said of single items of a visit, and of the person's taste."""
    domain, given = facts.catalog.domain, facts.given
    said = []
    if len(given) > 1:
        best, worst = max(given.values()), min(given.values())
        top = [item for item, rating in given.items() if rating == best]
        low = [item for item, rating in given.items() if rating == worst]
        if len(top) == 1:
            said.append(f"My favourite {domain.item} was {_name(facts, top[0])}, and I gave it {_stars(best)}.")
        if len(low) == 1:
            said.append(f"I liked {_name(facts, low[0])} least, and gave it {_stars(worst)}.")
    for feeling, verb in ((facts.liked, "liked"), (facts.disliked, "disliked")):
        items = sorted((item for item in given if feeling(item)), key=_order(facts))[:MOST_NAMED]
        if items:
            said.append(f"I {verb} {_listed([_name(facts, item) for item in items])}.")
    if facts.favourites and facts.chosen:
        genre = facts.favourites[0].lower()
        count = sum(genre in {one.lower() for one in facts.catalog.items["genres"][item].to_list()} for item in facts.chosen)
        if count:
            said.append(f"I {domain.chosen} {count} {genre} {domain.item if count == 1 else domain.items}.")
    return said


def taste(facts: Facts) -> str:
    """Whom a profile describes, in the third person: favourite genres, and items that show the taste; empty where nothing is known."""
    said = []
    if facts.favourites:
        said.append(f"This person's favourite genre{'s are' if len(facts.favourites) > 1 else ' is'} {_listed(list(facts.favourites))}.")
    for verb, items in (("likes", facts.profile.liked), ("dislikes", facts.profile.disliked)):
        named = [_name(facts, item) for item in items[:2]]
        if named:
            said.append(f"This person {verb} {_listed(named)}.")
    return " ".join(said)


def own_taste(facts: Facts) -> list[str]:
    """The same in the person's own words, a sentence each."""
    return [in_first_person(f"This person{part}") for part in taste(facts).split("This person") if part.strip()]


_THIRD = re.compile(r"^(?:This person|The person|He|She|They)(?:(?P<own>'s) | (?P<verb>likes?|loves?|enjoys?|prefers?|dislikes?|is|are) )")


def in_first_person(sentence: str) -> str:
    """A sentence about somebody as they would say it, where it begins as such sentences do; else the sentence."""
    match = _THIRD.match(sentence)
    if match is None:
        return sentence.strip()
    verb = {"is": "am", "are": "am"}.get(match["verb"] or "", (match["verb"] or "").removesuffix("s"))
    return ("My " if match["own"] else f"I {verb} ") + sentence[match.end() :].strip()


def who(facts: Facts) -> list[str]:
    """What a profile says of age, gender and occupation."""
    profile, said = facts.profile, []
    if profile.age is not None:
        said.append(f"I am {profile.age} years old.")
    if profile.occupation and profile.occupation.lower() not in ("none", "other"):
        said.append(f"My occupation is {profile.occupation}.")
    if profile.gender:
        said.append(f"I am {profile.gender}.")
    return said


def of_item(facts: Facts, item: int) -> str:
    """What happened with an item, or that nothing is known of it."""
    name, domain = _name(facts, item), facts.catalog.domain
    if item in facts.ratings:
        return f"I {domain.chosen} {name} and gave it {_stars(facts.ratings[item])}."
    if item in facts.chosen or item in facts.known:
        return f"I {domain.chosen} {name}."
    return f"I did not {domain.choose} {name}." if item in facts.shown else f"I know nothing about {name}."


def _drawn(said: Sequence[str], stream: Stream) -> str:
    short = [one for one in said if len(one) <= MOST_CHARACTERS] or [said[0]]
    return short[int(stream.child("sentence").generator().integers(len(short)))]


def _order(facts: Facts) -> Callable[[int], tuple[float, int]]:
    places = {one.item: number for number, one in reversed(list(enumerate(facts.met)))}
    return lambda item: (-facts.given.get(item, 0.0), places[item])


def _name(facts: Facts, item: int) -> str:
    return item_name(facts.catalog, item, year=False)


def _stars(rating: float) -> str:
    return f"{rating:g} star" if rating == 1 else f"{rating:g} stars"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
