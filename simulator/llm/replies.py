"""Answers of a model that is known only by the texts it sends: probabilities of labels from texts of tokens, and filled forms.

`simulator.llm.labels` reads labels from token numbers; here a server tells the likeliest next tokens as texts, some at a
time, so a label is found by what it looks like.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simulator.errors import ModelError
from simulator.llm.labels import OPENING, stripped
from simulator.llm.vectors import unknown_vectors
from simulator.records import ItemVector, Probe, Prompt, Scores

WORTH_ASKING = 0.01
"""A token that only begins labels is followed if its probability is at least this share of what was found beside it."""
ROUNDING = 1e-4
"""A logarithm may be above 0 by so much: servers compute in few digits."""
ALL_TOGETHER = 0.05
"""Probabilities may be above 1 together by so much, for the same reason."""
_DEEPEST = 8
"""Tokens of a label at most."""
_MARKER = re.compile(r"<(?=[|/]|s>|start_of_turn|end_of_turn|bos>|eos>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS)\b)", re.IGNORECASE)


def plain(text: str) -> str:
    """A text in which nothing looks like a control token, so that a server cannot take it for one, and that UTF-8 can write.

    A server tokenises a whole prompt; most take ``<|im_end|>`` for the end of a turn wherever it stands. A space behind
    the bracket prevents it. Texts without such marks stay as they are.
    """
    return _MARKER.sub(lambda found: f"{found.group()} ", text.encode("utf-8", "replace").decode("utf-8"))


# --- probabilities --------------------------------------------------------------------------------------------------


def unrolled(prompt: Prompt) -> tuple[str, tuple[int, ...]]:
    """The text of a prompt without its probes, and how many characters of it stand before each probe.

    Raises:
        ModelError: a probe has no text before it, or fewer than two different labels.
    """
    parts = [part for segment in prompt.segments for part in segment.parts]
    text, places = "", []
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(part, str):
            text += plain(stripped(part) if isinstance(following, Probe) else part)
            continue
        if isinstance(part, ItemVector):
            raise unknown_vectors("a server that is reached by texts")
        if not text:
            raise ModelError(f"probe '{part.name}' has no text before it; put its question first.")
        if len({label.strip().lower() for label in part.labels} - {""}) != len(part.labels) or len(part.labels) < 2:
            raise ModelError(f"probe '{part.name}' needs at least two labels that differ, not {list(part.labels)}.")
        places.append(len(text))
    return text, tuple(places)


class ImpossibleError(ValueError):
    """What a server tells are no probabilities."""


def most_likely(listed: Mapping[str, Any] | Iterable[tuple[str, Any]], most: int) -> dict[str, float]:
    """Probabilities of the `most` likeliest tokens; a server may add the one it drew, which says nothing.

    Args:
        listed: text of a token and natural log of its probability, None if it is not told; tokens that look the same count together.
        most: how many were asked for.

    Raises:
        ImpossibleError: a probability is above 1, or none at all (NaN, infinite, no number), or all of them are above 1 together.
    """
    found: dict[str, float] = {}
    for token, told in listed.items() if isinstance(listed, Mapping) else listed:
        if told is not None:
            found[str(token)] = found.get(str(token), 0.0) + _chance(told)
    total = math.fsum(found.values())
    if total > 1.0 + ALL_TOGETHER:
        raise ImpossibleError(f"the probabilities of {len(found)} tokens are {total:.3g} together, which is more than 1")
    ranked = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
    return {token: min(chance, 1.0) for token, chance in ranked}


def _chance(told: object) -> float:
    """The probability that a logarithm stands for; servers may write it as a text."""
    try:
        value = math.nan if isinstance(told, bool) or not isinstance(told, int | float | str) else float(told)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value) or value > ROUNDING:
        raise ImpossibleError(f"{str(told)[:40]!r} is no logarithm of a probability")
    return math.exp(min(0.0, value))


def read_labels(probe: Probe, answers: Mapping[str, Mapping[str, float]], *, spaced: bool = True) -> tuple[np.ndarray, float] | list[str]:
    """Label probabilities at one probe, or what the server must still be asked.

    A token that is a label (in lower case, upper case or capitalised, with or without spaces before it) gives its
    probability to it. A token that only begins labels (the 1 of "1" and "10") is followed. Where the model writes the space
    before a label as a token of its own, the probabilities after it are read, as `simulator.llm.labels` does. A label that is not
    among the listed tokens has at most the probability of the least likely listed one; half of that is taken.

    Args:
        probe: what is read.
        answers: text written behind the probe ("" at first) -> the likeliest tokens after it with their probabilities.
        spaced: whether a label continues the text before the probe with a space (see `wants_space`).

    Returns:
        Natural log of the probability of each label, normalised (float64), and the probability of all labels together
        before that: 0 if no label was found. Or texts behind which the server must be asked, to be added to `answers`.
    """
    weights, floors = np.zeros(len(probe.labels)), np.zeros(len(probe.labels))
    wanted: list[str] = []
    start = ""
    if spaced and _space_is_a_token(probe, answers[""]):
        if " " not in answers:
            return [" "]
        start = " "
    _descend(probe, answers, start, 1.0, range(len(probe.labels)), (weights, floors), wanted)
    if wanted:
        return wanted
    mass = float(weights.sum())
    logs = np.log(np.maximum(np.where(weights > 0, weights, floors), np.finfo(np.float64).tiny))
    return logs - np.log(np.exp(logs - logs.max()).sum()) - logs.max(), min(mass, 1.0)


def wants_space(before: str) -> bool:
    """Whether a label behind this text begins with a space."""
    return not before[-1].isspace() and before[-1] not in OPENING


def _space_is_a_token(probe: Probe, listed: Mapping[str, float]) -> bool:
    spellings = {spelling for label in probe.labels for spelling in _spellings(label)}
    bare = any(token in spellings for token in listed)
    return " " in listed and bare and not any(token[:1] == " " and token[1:] in spellings for token in listed)


def _descend(
    probe: Probe,
    answers: Mapping[str, Mapping[str, float]],
    written: str,
    chance: float,
    alive: Sequence[int],
    found: tuple[np.ndarray, np.ndarray],
    wanted: list[str],
    depth: int = 0,
) -> float:
    """Shares out the probability `chance` of `written` among the labels it may become; returns how much was shared out."""
    weights, floors = found
    listed = answers[written]
    texts = {token: (written + token).lstrip(" ") for token in listed}
    whole = {token: k for token, text in texts.items() for k in alive if text in _spellings(probe.labels[k])}
    # A label that is a token itself is not looked for behind tokens that begin it: " Y" hardly ever goes on to " Yes".
    rest = [k for k in alive if k not in whole.values()]
    partial = {
        token: members
        for token, text in texts.items()
        if token and (members := [k for k in rest if any(spelling.startswith(text) for spelling in _spellings(probe.labels[k]))])
    }
    seen = sum(listed[token] for token in {*whole, *partial})
    shared, any_whole = 0.0, bool(whole)
    for token, members in partial.items():
        # Where labels are tokens together with their space, a space alone leads to spellings that the model does not use.
        beside = any_whole and not token.strip(" ")
        if beside or listed[token] < WORTH_ASKING * seen or depth == _DEEPEST:
            continue
        text = written + token
        if text not in answers:
            wanted.append(text)
            continue
        gone = _descend(probe, answers, text, chance * listed[token], members, found, wanted, depth + 1)
        own = whole.pop(token, None)
        if own is not None:
            weights[own] += max(0.0, chance * listed[token] - gone)
        shared += gone if own is None else chance * listed[token]
    for token, k in whole.items():
        weights[k] += chance * listed[token]
        shared += chance * listed[token]
    for k in alive:
        floors[k] += 0.5 * chance * min(listed.values(), default=0.0)
    return shared


def _spellings(label: str) -> set[str]:
    label = label.strip()
    return {label, label.lower(), label.upper(), label.capitalize()}


# --- forms ----------------------------------------------------------------------------------------------------------

INSTRUCTIONS = (
    "The text below has blanks such as <name: a|b>: the name of the blank, then its possible answers. Fill in every blank as "
    "the person in the text would. Reply with one JSON object that maps the name of each blank to one of its answers."
)


def form(prompt: Prompt) -> str:
    """The prompt as a text with blanks; its own angle brackets become round ones, so that no text can imitate a blank."""
    blanks = str.maketrans({"<": "(", ">": ")"})
    text = ""
    for part in (part for segment in prompt.segments for part in segment.parts):
        if isinstance(part, ItemVector):
            raise unknown_vectors("a server that is reached by texts")
        text += plain(part).translate(blanks) if isinstance(part, str) else f" <{part.name}: {'|'.join(part.labels)}>"
    return text


def form_schema(probes: Sequence[Probe]) -> dict[str, Any]:
    """The JSON schema of a filled form.

    Raises:
        ModelError: two probes have the same name.
    """
    names = [probe.name for probe in probes]
    if len(set(names)) < len(names):
        raise ModelError(f"a reply cannot tell two probes named '{max(names, key=names.count)}' apart; give them different names.")
    return {
        "type": "object",
        "properties": {probe.name: {"type": "string", "enum": list(probe.labels)} for probe in probes},
        "required": names,
        "additionalProperties": False,
    }


def read_form(probes: Sequence[Probe], reply: str, smoothing: float) -> Scores:
    """Near-certain probabilities from a filled form.

    The label that was written gets ``1 - smoothing``, the others share `smoothing` equally. The mass is 1, since nothing
    is known about answers that were not given. What stands around the form does no harm: thoughts, prose, a fence, further keys.

    Args:
        probes: what was asked, in order. reply: what the model wrote.
        smoothing: in (0, 1).

    Returns:
        Scores whose status is "unreadable" if a blank is missing or filled with something else, or if two forms say different things.
    """
    filled = {answers for document in _objects(without_thoughts(reply)) if (answers := _filled(probes, document)) is not None}
    if len(filled) != 1:
        return Scores((), (), "unreadable", reply)
    logprobs = []
    for probe, chosen in zip(probes, next(iter(filled)), strict=True):
        values = np.full(len(probe.labels), smoothing / (len(probe.labels) - 1))
        values[chosen] = 1.0 - smoothing
        logprobs.append(np.log(values))
    return Scores(tuple(logprobs), (1.0,) * len(logprobs))


def without_thoughts(text: str) -> str:
    """What a model says, without what it thought before: ``<think>...</think>`` and the like, also where the beginning is missing.

    A thought that does not end is cut off, so that nothing in it is taken for an answer.
    """
    if _FINAL in text:
        text = text.rpartition(_FINAL)[2].partition("<|")[0]
    said = _THOUGHT.sub("", text)
    said = _THOUGHT_END.split(said)[-1]
    said = _THOUGHT_BEGIN.split(said)[0]
    return text if said == text else said.strip()


_THOUGHT = re.compile(r"<(think|thinking|thought|thoughts|reasoning|reflection)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHT_BEGIN = re.compile(r"<(?:think|thinking|thought|thoughts|reasoning|reflection)>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought|thoughts|reasoning|reflection)>", re.IGNORECASE)
_FINAL = "<|channel|>final<|message|>"
_LONGEST_REPLY = 100_000
"""Signs of a reply in which a form is looked for, from its end."""
_MOST_OBJECTS = 200


def _objects(reply: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects in a text, those within others too."""
    text = reply[-_LONGEST_REPLY:]
    for found in itertools.islice(re.finditer(r"{", text), _MOST_OBJECTS):
        with contextlib.suppress(ValueError, RecursionError):
            document, _ = _DECODER.raw_decode(text, found.start())
            if isinstance(document, dict):
                yield document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which no key may stand twice with different values."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"'{key}' stands twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _filled(probes: Sequence[Probe], document: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Which label an object gives to each probe; None if it does not fill all of them."""
    answers = []
    for probe in probes:
        value = document.get(probe.name)
        written = f"{value:g}" if isinstance(value, float) else str(value).strip().lower()
        chosen = [number for number, label in enumerate(probe.labels) if label.strip().lower() == written]
        if len(chosen) != 1:
            return None
        answers.append(chosen[0])
    return tuple(answers)
