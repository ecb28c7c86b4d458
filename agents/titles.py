"""Where a sentence names items of the catalog: titles as they stand there, with a moved article or without what is in brackets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agents.text import ELLIPSIS, clean, per_catalog
from simulator.dataset import Catalog

_TOKEN = re.compile(r"\w+|[^\w\s]")
_ARTICLES = ("the", "a", "an", "le", "la", "les", "il", "el", "der", "die", "das")
_MOVED = re.compile(rf"^(?P<rest>.+), (?P<article>{'|'.join(_ARTICLES)}|L')$", re.IGNORECASE)
LONGEST = 200
"""Characters of a title that are compared at most."""


@dataclass(frozen=True, slots=True)
class Named:
    """An item that a text names.

    Attributes:
        start, end: where it stands, in characters. items: codes of the items of that title (and year), ascending.
        year: that stands behind the title in brackets, or None.
    """

    start: int
    end: int
    items: tuple[int, ...]
    year: int | None = None


def titles_in(catalog: Catalog, text: str, prefer: frozenset[int] = frozenset()) -> list[Named]:
    """The titles in a text from left to right, the longest at each place; upper and lower case count, but for the article in front.

    A title that is a number or the word "I" is taken for one only if it is an item of `prefer`.

    Args:
        catalog: the items. text: one line. prefer: codes of the items that the text may well be about.
    """
    index = _index(catalog)
    tokens = [(match.group(), match.start(), match.end()) for match in _TOKEN.finditer(text)]
    found: list[Named] = []
    place = 0
    while place < len(tokens):
        match = next((one for one in index.get(_first(tokens[place][0]), ()) if _stands(one, tokens, place, prefer)), None)
        if match is None:
            place += 1
            continue
        words, items = match
        after = place + len(words)
        year = _year(tokens, after)
        if year is not None:
            items = tuple(item for item in items if catalog.items["year"][item] == year)
            after += 3
        found.append(Named(tokens[place][1], tokens[after - 1][2], items, year))
        place = after
    return found


def _stands(one: tuple[tuple[str, ...], tuple[int, ...]], tokens: list[tuple[str, int, int]], place: int, prefer: frozenset[int]) -> bool:
    words, items = one
    if len(words) > len(tokens) - place or any(words[k] != tokens[place + k][0] for k in range(1, len(words))):
        return False
    first = tokens[place][0]
    if first != words[0] and not (len(words) > 1 and words[0].lower() in _ARTICLES):
        return False
    return not (len(words) == 1 and (first.isdigit() or first == "I")) or not prefer.isdisjoint(items)


def _year(tokens: list[tuple[str, int, int]], place: int) -> int | None:
    """The year in brackets that stands at a place."""
    if place + 2 < len(tokens) and tokens[place][0] == "(" and tokens[place + 2][0] == ")":
        word = tokens[place + 1][0]
        return int(word) if len(word) == 4 and word.isdecimal() else None
    return None


def _first(word: str) -> str:
    return word.lower()


@per_catalog
def _index(catalog: Catalog) -> dict[str, list[tuple[tuple[str, ...], tuple[int, ...]]]]:
    """First word -> titles that begin with it, as words, the longest first, with the items that are called so."""
    called: dict[tuple[str, ...], set[int]] = {}
    for item, (item_id, title) in enumerate(catalog.items.select("item_id", "title").iter_rows()):
        for name in variants(clean(title or "", LONGEST) or f"{catalog.domain.item} {item_id}"):
            words = tuple(_TOKEN.findall(name))
            if words:
                called.setdefault(words, set()).add(item)
    index: dict[str, list[tuple[tuple[str, ...], tuple[int, ...]]]] = {}
    for words, items in called.items():
        index.setdefault(_first(words[0]), []).append((words, tuple(sorted(items))))
    for titles in index.values():
        titles.sort(key=lambda one: (-len(one[0]), one[0]))
    return index


def variants(title: str) -> list[str]:
    """A title as people write it: as it stands, its article in front, without what is in brackets, and cut as prompts cut it."""
    plain = re.sub(r"\s*\([^()]*\)\s*$", "", title)
    names = [title, plain] if plain else [title]
    for name in list(names):
        moved = _MOVED.match(name)
        if moved:
            article = moved["article"]
            names.append(f"{article}{'' if article.endswith(chr(39)) else ' '}{moved['rest']}")
    cut = [clean(title, limit) for limit in (80, 40)]
    return list(dict.fromkeys([*names, *(name for name in cut if name.endswith(ELLIPSIS))]))
