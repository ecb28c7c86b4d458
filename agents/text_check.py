"""Whether a sentence about a visit or a person is true: taken apart into clauses, of which each must be a known form and a fact.

The checker is closed: what it cannot take apart is not accepted, whatever it says (the
forms are `agents.claim_forms`, their truth `agents.claims`). So a sentence
stands only if every word of it was understood and compared with what is known, which is what grounded generation is judged by (Rashkin
et al. 2023, "Measuring attribution in natural language generation models": attributable to identified sources). It refuses true
sentences of unusual form; it never has to foresee a lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from agents.claim_forms import Form, forms
from agents.claims import WORDS, Context
from agents.facts import Facts
from agents.text import per_catalog
from agents.titles import Named, titles_in
from simulator.dataset import Catalog

UNFINISHED, NOT_UNDERSTOOD, INVENTED = "unfinished", "not understood", "an unknown name"

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_DIGITS = {word: number for number, word in enumerate(_ONES.split())} | {word: 10 * k for k, word in enumerate(_TENS.split(), start=2)}
_SHORT = {"i'm": "i am", "i've": "i have", "it's": "it is", "didn't": "did not", "don't": "do not", "wasn't": "was not"}
_NEXT = r",? and then |,? and |,? but |,? while |, then |; |, | because | since "
_END = re.compile(rf"(?P<next>{_NEXT})|$")
_WHICH = re.compile(r", which i (gave|rated) (?:it )?")
_SUBJECT = re.compile(r"i |my |the |«|[\w'-]+(?:, [\w'-]+)*(?:,? and [\w'-]+)? (?:is|are) ")
"""What a sentence begins with; later clauses may leave the person out."""

MOST_CLAUSES = 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker says of a sentence.

    Attributes:
        reason: why it is not accepted; empty if it is. items: codes of the items that it names.
    """

    reason: str
    items: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the sentence is accepted."""
        return not self.reason


def check(sentence: str, facts: Facts) -> Verdict:
    """Whether a sentence in the first person is complete and true.

    Args:
        sentence: one sentence. facts: what is true.
    """
    text = " ".join(sentence.split())
    named = titles_in(facts.catalog, text, facts.shown)
    items = tuple(sorted({item for one in named for item in (facts.shown | facts.known).intersection(one.items)}))
    if not re.fullmatch(r"[A-Z0-9\"“'].*[.!]", text):
        return Verdict(UNFINISHED, items)
    plain = _normal(text, named)
    context = Context(facts, named)
    reasons: list[str] = []
    if _true(plain[:-1].strip(), 0, context, _forms(facts.catalog), reasons, 0):
        return Verdict("", items)
    if reasons:
        return Verdict(reasons[0], items)
    return Verdict(INVENTED if _invents(text, named) else NOT_UNDERSTOOD, items)


def sentences(text: str, catalog: Catalog, prefer: frozenset[int] = frozenset()) -> list[str]:
    """The sentences of a text; the dots of titles and of decimal numbers end none.

    Args:
        text: any. catalog: whose titles are left whole. prefer: see `agents.titles.titles_in`.
    """
    line = " ".join(text.split())
    inside = {place for one in titles_in(catalog, line, prefer) for place in range(one.start, one.end)}
    parts, start = [], 0
    for match in re.finditer(r"[.!?…]+(?=\s|$)", line):
        if match.start() not in inside:
            parts.append(line[start : match.end()].strip())
            start = match.end()
    return [part for part in (*parts, line[start:].strip()) if part]


def _true(text: str, start: int, context: Context, known: list[Form], reasons: list[str], depth: int) -> bool:
    """Whether the rest of a sentence is a row of true clauses; reasons against those that were understood are added."""
    if depth == MOST_CLAUSES:
        return False
    for form in known:
        for end in _END.finditer(text, start):
            match = form.pattern.fullmatch(text, start, end.start())
            if match is None or (start == 0 and not _SUBJECT.match(text)):
                continue
            checked = form.check(match, context)
            if isinstance(checked, str):
                reasons.append(checked)
                continue
            if (end["next"] or "") in (" because ", " since ") and not checked.leaning:
                reasons.append("a reason that is no fact")
                continue
            if _is_reason(text, start) and checked.leaning != context.leaning:
                reasons.append("a reason that is no fact")
                continue
            if end["next"] is None or _true(text, end.end(), replace(checked), known, reasons, depth + 1):
                return True
    return False


def _is_reason(text: str, start: int) -> bool:
    """Whether the clause that begins at a place is given as the reason of the one before."""
    return text[:start].endswith((" because ", " since "))


def _normal(text: str, named: list[Named]) -> str:
    """Lower case, digits for number words, ``«k»`` for titles, long forms for short ones."""
    parts, last = [], 0
    for number, one in enumerate(named):
        parts += [_words(text[last : one.start]), f"«{number}»"]
        last = one.end
    line = "".join([*parts, _words(text[last:])])
    line = re.sub(r"[\"“”'](«\d+»)[\"“”']", r"\1", line)
    # "I watched X, which I gave 4 stars" says the same as "..., and gave it 4 stars".
    line = _WHICH.sub(r" and \1 it ", line)
    line = re.sub(r"^of the (\d+)((?: [\w-]+){1,3}?),? i ([\w ]+?) (\d+)(?=[.,]| and )", r"i \3 \4 of the \1\2", line)
    line = line.replace(" after the first page", " after 1 page")
    line = re.sub(r"^on average,? i gave (\d+(?:\.\d+)?)", r"i gave an average of \1", line)
    line = re.sub(r"^(?:today|this time|in this (?:visit|session)),? (?=i )", "", line)
    return re.sub(r"^there were (\d+) (\w+)(?=,? and i )", r"i was shown \1 \2", line)


def _words(text: str) -> str:
    low = text.lower().replace("’", "'").replace("favorite", "favourite").replace("movies", "films").replace("movie", "film")
    low = re.sub(r"[\w]+'\w+", lambda match: _SHORT.get(match.group(), match.group()), low)
    low = re.sub(rf"\b({'|'.join(_TENS.split())})-({'|'.join(_ONES.split()[1:10])})\b", _sum, low)
    low = re.sub(rf"\b({'|'.join(_DIGITS)})\b", lambda match: str(_DIGITS[match.group()]), low)
    return re.sub(r"(\d)-star\b", r"\1 star", low)


def _sum(match: re.Match[str]) -> str:
    return str(_DIGITS[match[1]] + _DIGITS[match[2]])


def _invents(text: str, named: list[Named]) -> bool:
    """Whether something in quotes or with a capital letter inside of the sentence is no title of the catalog."""
    inside = {place for one in named for place in range(one.start, one.end)}
    names = re.finditer(r"(?<=\s)[\"“']?(?!I\b)[A-Z]\w*|[\"“][^\"”]+[\"”]", text)
    return any(match.start() not in inside for match in names)


@per_catalog
def _forms(catalog: Catalog) -> list[Form]:
    """The forms in the words of a catalog's domain."""
    domain = catalog.domain
    nouns = {*WORDS.get(domain.item, ()), domain.item, domain.items, "item", "items"}
    genres = [genre for genre in catalog.genre_names if genre] or ["no genre"]
    past = {domain.chosen, "chose", "picked", "took", "selected", "chosen", *(("saw", "seen") if domain.item == "film" else ())}
    plain = {domain.choose, "choose", "pick", "take", "select", *(("see",) if domain.item == "film" else ())}
    return forms(_either(nouns), _either(genres), _either(past), _either(plain))


def _either(words: Iterable[str]) -> str:
    """An expression of any of some words, the longest first."""
    return "|".join(re.escape(word.lower()) for word in sorted(words, key=lambda word: (-len(word), word)))
