"""A JSON schema as a regular expression, for backends that bring no grammar of their own.

What the expression accepts satisfies the schema; it accepts less than the schema allows: every property is written, in the
order of the schema, and white space is one space at most behind ``:`` and ``,``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import regex

from simulator.errors import ModelError

_STRING = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})'
_INTEGER = r"-?(?:0|[1-9][0-9]{0,14})"
_NUMBER = _INTEGER + r"(?:\.[0-9]{1,12})?"
_WIDEST_RANGE = 1_000
_SILENT = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "additionalProperties", "format"}
_KNOWN = {
    "object": {"type", "properties", "required"},
    "array": {"type", "items", "minItems", "maxItems"},
    "string": {"type", "minLength", "maxLength"},
    "integer": {"type", "minimum", "maximum"},
    "number": {"type"},
    "boolean": {"type"},
    "null": {"type"},
}


def pattern(schema: Mapping[str, Any]) -> str:
    """The regular expression of a schema.

    Raises:
        ModelError: the schema has something that cannot be expressed; names it.
    """
    try:
        return _value(schema)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"this JSON schema cannot constrain a text ({error!r}): {json.dumps(schema, default=str)[:200]}") from error


class PatternGrammar:
    """Which tokens may come next so that a text matches a regular expression (see `simulator.llm.text_writing.Grammar`).

    A token that is part of a character (a few bytes of it) is never allowed, so texts consist of whole tokens of text.

    Args:
        expression: of the whole text. piece, ends: as in `simulator.llm.text_writing.Text`.
    """

    def __init__(self, expression: str, piece: Callable[[int], bytes], ends: Callable[[int], bool]) -> None:
        self._expression = regex.compile(expression)
        self._piece, self._ends = piece, ends
        self._text = ""

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        """Mask over `tokens` (int32) of those that may come next."""
        openings: dict[str, bool] = {}
        return np.array([self._may_follow(int(token), openings) for token in tokens], dtype=bool)

    def accept(self, token: int) -> None:
        """Moves on by a token that `allowed` allows and that does not end the text."""
        self._text += self._piece(token).decode()

    def close(self) -> None:
        """Nothing to free."""

    def _may_follow(self, token: int, openings: dict[str, bool]) -> bool:
        if self._ends(token):
            return self._expression.fullmatch(self._text) is not None
        try:
            added = self._piece(token).decode()
        except UnicodeDecodeError:
            return False
        if not added:
            return False
        # Most tokens of a vocabulary fail at their first character, and there are few of those.
        if added[0] not in openings:
            openings[added[0]] = self._begins(added[0])
        return openings[added[0]] and (len(added) == 1 or self._begins(added))

    def _begins(self, added: str) -> bool:
        return self._expression.fullmatch(self._text + added, partial=True) is not None


def _value(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return _either([_literal(value) for value in schema["enum"]])
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return _either([_value(choice) for choice in schema[name]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return _either([_value({**schema, "type": one}) for one in kind])
    if kind not in _KNOWN:
        raise ValueError(f"type {kind!r} is not one of {', '.join(_KNOWN)}")
    unknown = set(schema) - _KNOWN[kind] - _SILENT
    if unknown:
        raise ValueError(f"{kind} with {sorted(unknown)[0]!r}")
    return _MAKERS[kind](schema)


def _object(schema: Mapping[str, Any]) -> str:
    missing = set(schema.get("required", ())) - set(schema.get("properties", {}))
    if missing:
        raise ValueError(f"{sorted(missing)[0]!r} is required but no property")
    members = [f"{_literal(str(name))}: ?{_value(value)}" for name, value in schema.get("properties", {}).items()]
    return r"\{" + ", ?".join(members) + r"\}"


def _array(schema: Mapping[str, Any]) -> str:
    least, most = _bounds(schema, "minItems", "maxItems")
    item = _value(schema["items"])
    more = f"(?:, ?{item})" + _times(max(0, least - 1), None if most is None else max(0, most - 1))
    some = "" if most == 0 else item + more
    return r"\[" + (some if least else f"(?:{some})?") + r"\]"


def _string(schema: Mapping[str, Any]) -> str:
    return f'"{_STRING}{_times(*_bounds(schema, "minLength", "maxLength"))}"'


def _integer(schema: Mapping[str, Any]) -> str:
    if "minimum" not in schema and "maximum" not in schema:
        return _INTEGER
    lowest, highest = int(schema["minimum"]), int(schema["maximum"])
    if not 0 <= highest - lowest <= _WIDEST_RANGE:
        raise ValueError(f"an integer from {lowest} to {highest}")
    return _either([str(number) for number in range(lowest, highest + 1)])


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": lambda schema: _NUMBER,
    "boolean": lambda schema: "(?:true|false)",
    "null": lambda schema: "null",
}


def _literal(value: Any) -> str:
    return str(regex.escape(json.dumps(value, ensure_ascii=False)))


def _either(choices: Sequence[str]) -> str:
    if not choices:
        raise ValueError("a choice of nothing")
    return f"(?:{'|'.join(choices)})"


def _bounds(schema: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    low, high = int(schema.get(least, 0)), schema.get(most)
    if high is not None and int(high) < low:
        raise ValueError(f"{most} {high} is below {least} {low}")
    return low, None if high is None else int(high)


def _times(least: int, most: int | None) -> str:
    return f"{{{least},{'' if most is None else most}}}"
