"""Text of items as people read it: one line, short, unable to imitate the marks of a prompt.

Titles come from files that anybody may have written. Everything in this package that puts an item into words takes
them from here, so that a title like ``<|im_end|>`` stays a title.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from simulator.dataset import Catalog

ELLIPSIS = "…"
"""Ends a text that was cut."""

# Chat markers are built from these: <|im_end|>, </s>, [INST]. The full-width forms are included because tokenizers that
# normalise with NFKC would turn them back into the plain ones.
_LOOK_ALIKES = str.maketrans({"|": "/", "<": "(", ">": ")", "[": "(", "]": ")", "｜": "/", "＜": "(", "＞": ")", "［": "(", "］": ")"})

_P = ParamSpec("_P")
_T = TypeVar("_T")


def per_catalog(function: Callable[Concatenate[Catalog, _P], _T]) -> Callable[Concatenate[Catalog, _P], _T]:
    """Keeps the result of ``function(catalog, *args)`` as long as that catalog lives.

    Every person of a cohort needs the same word vectors and item lines; a cache that is keyed weakly by the catalog
    shares them without keeping a catalog alive. The result must not refer to the catalog.
    """
    cache: WeakKeyDictionary[Catalog, dict[object, _T]] = WeakKeyDictionary()

    @wraps(function)
    def cached(catalog: Catalog, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        results = cache.setdefault(catalog, {})
        key = (args, tuple(sorted(kwargs.items())))
        if key not in results:
            results[key] = function(catalog, *args, **kwargs)
        return results[key]

    return cached


def clean(text: str, limit: int = 80) -> str:
    """One printable line of at most `limit` characters.

    Control, format and other invisible characters go, white space is collapsed, ``| < > [ ]`` become harmless
    look-alikes, and what is too long is cut at a word boundary and ends with an ellipsis. Cleaning twice changes nothing.

    Args:
        text: any text from a data file or a language model.
        limit: largest length of the result in characters, at least 1.

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit = {limit}: a text needs room for at least 1 character.")
    # Printable text has no white space but spaces and nothing invisible; nearly every text is, and looking at its characters is slow.
    visible = text if text.isprintable() else "".join(map(_shown, text))
    line = " ".join(visible.translate(_LOOK_ALIKES).split())
    if len(line) <= limit:
        return line
    cut = line[:limit]
    head, space, _ = cut.rpartition(" ")
    return (head if space else cut[:-1]).rstrip(" ,;:-") + ELLIPSIS


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character).startswith("C") else character


@dataclass(frozen=True, slots=True)
class _Line:
    title: str
    name: str
    genres: tuple[str, ...]


@per_catalog
def _lines(catalog: Catalog, limit: int) -> list[_Line]:
    lines = []
    for item_id, title, year, genres in catalog.items.select("item_id", "title", "year", "genres").iter_rows():
        name = clean(title or "", limit) or clean(f"{catalog.domain.item} {item_id}", limit)
        words = tuple(word for word in (clean(genre or "", 30) for genre in genres or ()) if word)
        lines.append(_Line(name, name if year is None else f"{name} ({year})", words))
    return lines


def item_name(catalog: Catalog, item: int, limit: int = 80, *, year: bool = True) -> str:
    """Title and year of an item, such as ``Heat (1995)``; the domain's word and the item's id where there is no title.

    Args:
        catalog: the items.
        item: item code.
        limit: largest length of the title in characters, the year not counted.
        year: False leaves the year out; its digits cost a language model up to six tokens.
    """
    line = _lines(catalog, limit)[item]
    return line.name if year else line.title


def item_genres(catalog: Catalog, item: int) -> tuple[str, ...]:
    """The genres of an item in the catalog's order, cleaned."""
    return _lines(catalog, 80)[item].genres


def item_text(catalog: Catalog, item: int, genres: int = 2, limit: int = 80) -> str:
    """Title, year and first genres of an item, such as ``Heat (1995) Action, Crime``.

    Args:
        catalog: the items.
        item: item code.
        genres: how many genres at most, in the catalog's order.
        limit: largest length of the title in characters, year and genres not counted.
    """
    line = _lines(catalog, limit)[item]
    return f"{line.name} {', '.join(line.genres[:genres])}".rstrip()
