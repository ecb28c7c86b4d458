"""What a clause can claim, and whether it is true (`agents.claim_forms` lists the clauses, `agents.text_check` takes sentences apart).

A form is a regular expression over a normalised clause: lower case, number words as digits, each title as ``«k»``. Nothing is accepted
that no form describes, so that every word of an accepted sentence has been looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agents.facts import Facts
from agents.text import per_catalog
from agents.titles import Named
from simulator.dataset import Catalog

ITEM = r"«\d+»"
LIST = rf"{ITEM}(?:, {ITEM})*(?:,? and {ITEM})?"
CHOICE = rf"{ITEM}(?:, {ITEM})*(?:,? (?:and|or) {ITEM})?"
NUMBER = r"\d+(?:\.\d+)?"
VISIT = r"(?: today| this time| here| (?:in|during|on|of) (?:this|my|the) (?:visit|session))?"

WORDS = {"film": ("film", "films", "title", "titles"), "artist": ("artist", "artists", "band", "bands")}
"""What items may be called besides the domain's words."""

SATISFIED, UNSATISFIED = 7.0, 4.0
"""From where on somebody may be called satisfied, and up to where dissatisfied, of 1 to 10."""

ROUNDED = 0.051
"""How far a mean with one decimal may lie from the true one."""

TRAITS = {
    "activity": {"low": "rarely come", "medium": "come now and then", "high": "come often"},
    "conformity": {"low": "judge against the crowd", "medium": "often agree with others", "high": "judge like everybody"},
    "diversity": {"low": "keep to a few genres", "medium": "like several genres", "high": "try all genres"},
    "pickiness": {"low": "rate generously", "medium": "rate fairly", "high": "am hard to please"},
}
GENDERS = {"male": ("male", "man", "guy"), "female": ("female", "woman")}


@dataclass(frozen=True, slots=True)
class Context:
    """What was said so far in a sentence.

    Attributes:
        facts: what is true. named: the titles, by the number that stands for them.
        last: the items that "it" or "them" means. leaning: 1 where the last clause was about something good, -1 bad, 0 neither.
    """

    facts: Facts
    named: Sequence[Named]
    last: frozenset[int] = frozenset()
    leaning: int = 0


Checked = Context | str
"""The context after a true claim, or why the claim is not accepted."""


# --- sets of items ---


def _codes(text: str, context: Context) -> list[tuple[int, ...]]:
    """The possible items of each title in a part of a clause."""
    return [context.named[int(number)].items for number in re.findall(r"«(\d+)»", text)]


def _among(text: str, context: Context, true: frozenset[int], known: frozenset[int]) -> frozenset[int] | str:
    """The items that a list names, if all are in the set that the clause is about."""
    found = set()
    for items in _codes(text, context):
        if known.isdisjoint(items):
            return "an item that was not shown"
        fitting = true.intersection(items)
        if not fitting:
            return "not what happened to the item"
        found.add(min(fitting))
    return frozenset(found)


def _of(genre: str | None, items: frozenset[int], facts: Facts) -> frozenset[int]:
    return items if not genre else frozenset(item for item in items if genre in _genres(facts, item))


def _genres(facts: Facts, item: int) -> set[str]:
    return set(_lower_genres(facts.catalog)[item])


@per_catalog
def _lower_genres(catalog: Catalog) -> list[tuple[str, ...]]:
    return [tuple(genre.lower() for genre in genres or () if genre) for genres in catalog.items["genres"].to_list()]


def objects(items: str, genres: str) -> str:
    """The expression of what a clause is about, with its groups: a list, a number, a share, or a pronoun."""
    noun = rf"(?: (?:{items}|of them|ones))"
    shown = r"(?: (?:that )?(?:i was|were) (?:shown|offered)(?: to me)?)?"
    count = (
        r"(?P<bound>exactly |only |just |at least |at most |more than |fewer than |less than |the |all )?(?P<count>\d+|an?|no|none)"
        rf"(?: (?P<genre>{genres}))?{noun}?(?: (?:out )?of (?:the |all )?(?P<total>\d+){noun}?| of (?:the |them|all)?{noun}?)?{shown}"
        rf"(?:(?::|,|, namely) (?P<detail>{LIST}))?"
    )
    share = (
        rf"(?P<share>all|every|everything|nothing|anything|any|most|half|some|several)(?: (?P<kind>{genres}))?(?: of(?: the)?)?"
        rf"{noun}?{shown}"
    )
    listed = rf"(?P<alone>only |just )?(?P<list>{LIST})(?:,? and (?P<more>\d+) (?:more|others?)(?: (?:{items}))?)?"
    return rf"(?:{listed}|{count}|{share}|(?P<pronoun>it|them|both|both of them|each of them|each))"


def about(match: re.Match[str], context: Context, true: frozenset[int], everything: frozenset[int], listed: frozenset[int]) -> Checked:
    """Whether the objects of a clause are those of which it is true.

    Args:
        match: with the groups of `objects`. context: so far.
        true: of which of the items shown the clause is true. everything: of which of them it could be.
        listed: of which it is true if they are named, the history among them where that counts.
    """
    facts, group = context.facts, match.groupdict()
    known = facts.shown | (facts.known if facts.whole_life or listed - true else frozenset())
    if group["list"]:
        found = _among(group["list"], context, listed, known)
        if isinstance(found, str):
            return found
        wrong = (group["alone"] or group["more"]) and (len(found) + int(group["more"] or 0) != len(true) or not found <= true)
        return "another number" if wrong else replace(context, last=found)
    if group["pronoun"]:
        return _pointed(group["pronoun"], context, listed)
    if group["share"]:
        pool, hit = _of(group["kind"], everything, facts), _of(group["kind"], true, facts)
        return replace(context, last=hit) if _share(group["share"], len(hit), len(pool)) else "another share"
    return _counted(group, context, true, everything)


def _pointed(word: str, context: Context, true: frozenset[int]) -> Checked:
    """What a pronoun says of the items named before."""
    wanted = {"it": len(context.last) == 1, "both": len(context.last) == 2, "both of them": len(context.last) == 2}
    if not wanted.get(word, len(context.last) > 1):
        return "a word that points nowhere"
    return context if context.last <= true else "not what happened to the item"


def _counted(group: dict[str, str | None], context: Context, true: frozenset[int], everything: frozenset[int]) -> Checked:
    facts = context.facts
    hit, pool = _of(group["genre"], true, facts), _of(group["genre"], everything, facts)
    word, bound = str(group["count"]), (group["bound"] or "").strip()
    count = {"a": 1, "an": 1, "no": 0, "none": 0}.get(word)
    number = int(word) if count is None else count
    ways = {
        "at least": len(hit) >= number,
        "at most": len(hit) <= number,
        "more than": len(hit) > number,
        "fewer than": len(hit) < number,
        "less than": len(hit) < number,
        "all": len(hit) == number == len(pool),
    }
    if not ways.get(bound, len(hit) == number):
        return "another number"
    if group["total"] and int(group["total"]) not in {len(facts.met), len(everything)}:
        return "another number shown"
    if group["detail"]:
        named = _among(group["detail"], context, hit, facts.shown)
        if isinstance(named, str) or len(named) != number:
            return named if isinstance(named, str) else "another number"
    return replace(context, last=hit)


def _share(word: str, hit: int, pool: int) -> bool:
    wanted = {
        "all": hit == pool > 0,
        "every": hit == pool > 0,
        "everything": hit == pool > 0,
        "nothing": hit == 0,
        "most": 2 * hit > pool,
        "half": 2 * hit == pool > 0,
        "some": hit > 0,
        "several": hit > 2,
    }
    return wanted.get(word, False)


# --- what happened ---


def chose(match: re.Match[str], context: Context) -> Checked:
    """Items that were chosen."""
    facts = context.facts
    listed = facts.chosen | (facts.known if facts.whole_life else frozenset())
    return _paged(match, about(match, context, facts.chosen, facts.shown, listed))


def skipped(match: re.Match[str], context: Context) -> Checked:
    """Items that were passed over."""
    facts = context.facts
    return _paged(match, about(match, context, facts.skipped, facts.shown, facts.skipped))


def not_chosen(match: re.Match[str], context: Context) -> Checked:
    """ "did not watch ..." of a list, or of anything at all."""
    facts = context.facts
    if match["named"]:
        never = facts.skipped - (facts.known if facts.whole_life else frozenset())
        found = _among(match["named"], context, never, facts.shown)
        return found if isinstance(found, str) else replace(context, last=found)
    return replace(context, last=facts.shown) if not facts.chosen else "something was chosen"


def but_not(match: re.Match[str], context: Context) -> Checked:
    """Items that were chosen, and others that were not."""
    facts = context.facts
    took = _among(match["took"], context, facts.chosen | (facts.known if facts.whole_life else frozenset()), facts.shown | facts.known)
    return took if isinstance(took, str) else not_chosen(match, context)


def skipped_rest(match: re.Match[str], context: Context) -> Checked:
    """All others were passed over."""
    left = context.facts.skipped
    if not left or (match["rest"] and int(match["rest"]) != len(left)):
        return "another number"
    return replace(context, last=left)


def was_shown(match: re.Match[str], context: Context) -> Checked:
    """Items that were shown."""
    facts = context.facts
    if match.groupdict().get("count") and match["count"].isdigit() and not match["genre"] and int(match["count"]) == len(facts.met):
        return _paged(match, replace(context, last=facts.shown))
    return _paged(match, about(match, context, facts.shown, facts.shown, facts.shown))


def _paged(match: re.Match[str], checked: Checked) -> Checked:
    """The number of pages at the end of a clause, where there is one."""
    if isinstance(checked, str) or not match.groupdict().get("pages"):
        return checked
    return checked if checked.facts.pages == int(match["pages"]) else "another number of pages"


def saw_pages(match: re.Match[str], context: Context) -> Checked:
    """How many pages were seen."""
    return _paged(match, context)


def rated(match: re.Match[str], context: Context) -> Checked:
    """The rating of items, or their mean."""
    facts = context.facts
    if facts.scale is None:
        return "no ratings"
    stars, top = float(match["stars"]), match.groupdict().get("top")
    if top and float(top) != facts.scale[1]:
        return "another scale"
    if match.groupdict().get("average"):
        objects_ = about(match, context, facts.chosen, facts.chosen, facts.chosen)
        if isinstance(objects_, str):
            return objects_
        given = [facts.ratings[item] for item in objects_.last if item in facts.ratings]
        return objects_ if given and abs(sum(given) / len(given) - stars) < ROUNDED else "another mean rating"
    same = frozenset(item for item, rating in facts.given.items() if rating == stars)
    everywhere = frozenset(item for item, rating in facts.ratings.items() if rating == stars)
    checked = about(match, context, same, frozenset(facts.given), everywhere if facts.whole_life else same)
    if isinstance(checked, str):
        return "another rating" if checked == "not what happened to the item" else checked
    high, low = _leaning(facts, stars)
    return replace(checked, leaning=high - low)


def _leaning(facts: Facts, stars: float) -> tuple[int, int]:
    assert facts.scale is not None
    middle = sum(facts.scale) / 2
    return int(stars > middle), int(stars < middle)


def mean_rating(match: re.Match[str], context: Context) -> Checked:
    """The mean of all ratings of the visit."""
    mean = context.facts.mean_rating
    return context if mean is not None and abs(mean - float(match["stars"])) < ROUNDED else "another mean rating"


def end_of_ratings(match: re.Match[str], context: Context) -> Checked:
    """The highest or lowest rating of the visit."""
    given = context.facts.given.values()
    end = (max if match["end"] == "highest" else min)(given, default=None)
    return context if end is not None and float(match["stars"]) == end else "another rating"


def felt_about(wanted: bool) -> Callable[[re.Match[str], Context], Checked]:
    """Liking (or disliking) what was rated in the visit, or what the profile tells."""

    def check(match: re.Match[str], context: Context) -> Checked:
        facts = context.facts
        tells = facts.liked if wanted else facts.disliked
        told = facts.profile.liked if wanted else facts.profile.disliked
        here = frozenset(item for item in facts.given if tells(item))
        other = facts.profile.disliked if wanted else facts.profile.liked
        named = here | frozenset(item for item in facts.ratings if tells(item) and (facts.whole_life or item in told)) | frozenset(told)
        named -= frozenset(other) | frozenset(item for item in facts.given if not tells(item))
        checked = about(match, context, here, frozenset(facts.given), named)
        return checked if isinstance(checked, str) else replace(checked, leaning=1 if wanted else -1)

    return check


def extreme(best: bool) -> Callable[[re.Match[str], Context], Checked]:
    """ "my favourite was ...": rated higher (or lower) than everything else of the visit."""

    def check(match: re.Match[str], context: Context) -> Checked:
        given = context.facts.given
        if len(given) < 2:
            return "nothing to compare with"
        end = max(given.values()) if best else min(given.values())
        at = frozenset(item for item, rating in given.items() if rating == end)
        if len(at) > 1:
            return "not the only one"
        found = _among(match["one"], context, at, context.facts.shown)
        return found if isinstance(found, str) else replace(context, last=found, leaning=1 if best else -1)

    return check


def was_satisfied(match: re.Match[str], context: Context) -> Checked:
    """The satisfaction as a number."""
    value = context.facts.satisfaction
    return context if value is not None and float(match["score"]) == value else "another satisfaction"


def is_content(match: re.Match[str], context: Context) -> Checked:
    """The satisfaction in a word."""
    value = context.facts.satisfaction
    if value is None:
        return "an unknown satisfaction"
    bad = bool(match["bad"]) != (match["how"] == "not ")
    if match["how"] == "not " and match["bad"]:
        return "an unclear satisfaction"
    true = value <= UNSATISFIED if bad else value >= SATISFIED
    return replace(context, leaning=-1 if bad else 1) if true else "another satisfaction"


def is_tired(match: re.Match[str], context: Context) -> Checked:
    """The fatigue in a word."""
    fatigue = context.facts.fatigue
    if fatigue is None:
        return "an unknown feeling"
    word = "fresh" if fatigue < 1 / 3 else "a little tired" if fatigue < 2 / 3 else "tired"
    return context if word == match["state"] else "another feeling"


# --- who somebody is, and what items are ---


def is_person(match: re.Match[str], context: Context) -> Checked:
    """Age, gender and occupation."""
    profile, groups = context.facts.profile, match.groupdict()
    if groups.get("age") and int(groups["age"]) != profile.age:
        return "another age"
    left = (groups.get("words") or "").strip()
    if not left and not groups.get("age"):
        return "nothing said"
    occupation = " ".join(re.findall(r"\w+", (profile.occupation or "").lower()))
    if occupation and left.endswith(occupation):
        left = left.removesuffix(occupation).strip(" ,")
    gender = (profile.gender or "").lower()
    if left in GENDERS.get(gender, (gender,)):
        left = ""
    return "another person" if left else context


def favourite_genres(match: re.Match[str], context: Context) -> Checked:
    """Favourite genres."""
    facts = context.facts
    told = re.split(r", and |, | and ", match["genres"])
    best = [genre.lower() for genre in facts.favourites]
    if match.groupdict().get("single") and told != best[:1]:
        return "another favourite genre"
    return context if best and set(told) <= set(best) and len(told) == len(set(told)) else "another taste"


def has_trait(match: re.Match[str], context: Context) -> Checked:
    """A trait, in the words of prompts."""
    for name, levels in TRAITS.items():
        for level, words in levels.items():
            if words == match["trait"]:
                trait = getattr(context.facts.profile, name)
                return context if trait is not None and trait.level == level else "another character"
    return "another character"


def item_is(match: re.Match[str], context: Context) -> Checked:
    """Genres and year of an item."""
    facts, groups = context.facts, match.groupdict()
    items = _codes(match["one"], context)[0] if groups.get("one") else tuple(context.last)
    items = tuple(item for item in items if item in facts.shown | facts.known)
    if len(items) != 1:
        return "an item that was not shown"
    item = items[0]
    told = re.split(r", and |, | and | ", groups["kinds"]) if groups.get("kinds") else []
    if not set(told) <= _genres(facts, item):
        return "another genre"
    if groups.get("year") and int(groups["year"]) != facts.catalog.items["year"][item]:
        return "another year"
    return replace(context, last=frozenset({item})) if told or groups.get("year") else "nothing said"
