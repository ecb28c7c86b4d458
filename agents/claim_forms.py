"""The forms of clause that are understood, as regular expressions over a normalised clause (see `agents.claims`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agents.claims import (
    CHOICE,
    ITEM,
    LIST,
    NUMBER,
    TRAITS,
    VISIT,
    Checked,
    Context,
    but_not,
    chose,
    end_of_ratings,
    extreme,
    favourite_genres,
    felt_about,
    has_trait,
    is_content,
    is_person,
    is_tired,
    item_is,
    mean_rating,
    not_chosen,
    objects,
    rated,
    saw_pages,
    skipped,
    skipped_rest,
    was_satisfied,
    was_shown,
)

Table = list[tuple[str, Callable[[re.Match[str], Context], Checked]]]

START, ALSO = r"(?:i )?(?:have )?", r"(?:also |really |then |finally )?"
PAGES = r"(?: on (?:all )?(?P<pages>\d+) pages?)?"
STARS = rf"(?P<stars>{NUMBER})"
RATING = rf"(?:an? )?(?:rating of )?{STARS}(?: stars?)?(?: ?(?:/|out of|of) ?(?P<top>\d+)(?: stars?)?)?(?P<average> on average| each)?"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of clause: its expression, and what tells whether a match is true."""

    pattern: re.Pattern[str]
    check: Callable[[re.Match[str], Context], Checked]


def forms(items: str, genres: str, chosen: str, choose: str) -> list[Form]:
    """All forms, in the words of a domain.

    Args:
        items, genres, chosen, choose: alternatives of a regular expression: nouns, genres, the verb in past tense and plain.
    """
    which, noun = objects(items, genres), rf"(?: (?:{items}))"
    kinds = rf"(?:{genres})(?:(?:, and|,| and) (?:{genres}))*"
    table = [*_done(which, noun, chosen, choose), *_rated(which), *_felt(which, noun), *_being(noun, items, kinds)]
    return [Form(re.compile(expression), check) for expression, check in table]


def _done(which: str, noun: str, chosen: str, choose: str) -> Table:
    """What was shown, chosen and skipped."""
    return [
        (rf"{START}{ALSO}(?:{chosen}) {which}{VISIT}{PAGES}", chose),
        (rf"{START}{ALSO}(?:skipped|passed over|passed on|turned down|ignored|left out) {which}{VISIT}{PAGES}", skipped),
        (rf"{START}(?:{chosen}) (?P<took>{LIST}),? but not (?P<named>{CHOICE}){VISIT}", but_not),
        (rf"{START}{ALSO}(?:skipped|passed over|ignored|left out) (?:the rest|the others?|the other (?P<rest>\d+){noun}?)", skipped_rest),
        (rf"{START}(?:did not|never) (?:{choose}) (?:(?P<named>{CHOICE})|anything|any{noun}|any of them){VISIT}", not_chosen),
        (rf"{START}(?:was shown|got|was offered) {which}{VISIT}{PAGES}", was_shown),
        (rf"{START}(?:saw|looked at|went through) (?P<pages>\d+) pages?{VISIT}", saw_pages),
        (rf"{START}left after (?P<pages>\d+) pages?", saw_pages),
    ]


def _rated(which: str) -> Table:
    """Ratings and their mean."""
    return [
        (rf"{START}{ALSO}(?:gave|rated) {which} (?:with |at )?{RATING}", rated),
        (rf"{START}{ALSO}gave {RATING} to {which}", rated),
        (rf"{which} (?:got|was given|received) {RATING}(?: from me)?", rated),
        (rf"my rating (?:for|of) {which} was {RATING}", rated),
        (rf"(?:my|the) (?P<end>highest|lowest) rating(?: i gave)? was (?:an? )?{STARS}(?: stars?)?", end_of_ratings),
        (rf"(?:my|the) (?:average|mean) rating was {STARS}(?: stars?)?", mean_rating),
        (rf"{START}gave {STARS} stars? on average", mean_rating),
        (rf"{START}gave an average(?: rating)? of {STARS}(?: stars?)?", mean_rating),
    ]


def _felt(which: str, noun: str) -> Table:
    """What was liked, least and best."""
    return [
        (rf"{START}{ALSO}(?:liked|loved|enjoyed|like|love|enjoy) {which}{VISIT}", felt_about(wanted=True)),
        (rf"{START}(?:disliked|dislike|hated|hate|(?:did|do) not (?:like|love|enjoy)) {which}{VISIT}", felt_about(wanted=False)),
        (rf"(?:my favourite|the best)(?: of them|{noun})?{VISIT} was (?P<one>{ITEM})", extreme(best=True)),
        (rf"{START}gave my (?:highest|best) rating to (?P<one>{ITEM})", extreme(best=True)),
        (rf"{START}gave my (?:lowest|worst) rating to (?P<one>{ITEM})", extreme(best=False)),
        (rf"(?P<one>{ITEM}) was the(?: 1)?{noun}? ?(?:that )?i liked (?:most|best)", extreme(best=True)),
        (rf"(?P<one>{ITEM}) was (?:my favourite|the best)(?: of them|{noun})?{VISIT}", extreme(best=True)),
        (rf"{START}(?:liked|loved|enjoyed) (?P<one>{ITEM}) (?:most|best)", extreme(best=True)),
        (rf"(?:my least favourite|the worst)(?: of them|{noun})?{VISIT} was (?P<one>{ITEM})", extreme(best=False)),
        (rf"{START}liked (?P<one>{ITEM}) least", extreme(best=False)),
    ]


def _being(noun: str, items: str, kinds: str) -> Table:
    """How somebody felt and who they are, and what items are."""
    return [
        (rf"{START}rated my satisfaction (?:as |at |with )?(?P<score>\d+)(?: of 10| out of 10|/10)?", was_satisfied),
        (r"my satisfaction(?: with this visit)? was (?P<score>\d+)(?: of 10| out of 10|/10)?", was_satisfied),
        (rf"{START}(?:was|am|felt) (?P<score>\d+) (?:of|out of) 10 satisfied{VISIT}", was_satisfied),
        (
            rf"{START}(?:was|am|felt) (?P<how>not |very |quite )?(?:satisfied|happy|content|pleased"
            r"|(?P<bad>dissatisfied|disappointed|unhappy))(?: with this visit)?",
            is_content,
        ),
        (rf"{START}(?:was|am|felt|feel) (?P<state>fresh|a little tired|tired)(?: at the end)?", is_tired),
        (r"(?:i )?am (?P<age>\d+)(?: years old)?", is_person),
        (r"my age is (?P<age>\d+)", is_person),
        (r"(?:i )?am an? (?P<age>\d+)(?:-| )years?(?:-| )old(?P<words>(?:,? [\w]+){1,5})", is_person),
        (r"(?:i )?(?:am|work as) (?:an? )?(?P<words>[\w]+(?: [\w]+){0,4})", is_person),
        (r"my (?:occupation|job|profession|gender) is (?:an? )?(?P<words>[\w]+(?: [\w]+){0,3})", is_person),
        (rf"(?:i )?(?:like|love|enjoy|prefer) (?P<genres>{kinds}){noun}?", favourite_genres),
        (rf"my favourite (?:genres? (?:is|are|include)|{items} are) (?P<genres>{kinds})", favourite_genres),
        (rf"my (?:first|strongest) favourite genre is (?P<single>(?P<genres>{kinds}))", favourite_genres),
        (rf"(?P<genres>{kinds}) (?:is|are) (?:1 of |among )?my favourite genres?", favourite_genres),
        (rf"(?:i )?(?P<trait>{'|'.join(words for levels in TRAITS.values() for words in levels.values())})", has_trait),
        (rf"an? (?P<kinds>{kinds}){noun}(?: from (?P<year>\d{{4}}))?", item_is),
        (
            rf"(?:(?P<one>{ITEM})|it) (?:is|was) an? (?P<kinds>{kinds})"
            rf"{noun}?(?: from (?P<year>\d{{4}}))?",
            item_is,
        ),
        (
            rf"(?:(?P<one>{ITEM})|it) (?:is|was) (?:an?{noun} )?(?:from|of|made in|released in) (?P<year>\d{{4}})",
            item_is,
        ),
    ]
