"""What the JSON documents of the OpenAI interface say; servers differ in what they leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.llm import replies
from simulator.llm.http_server import Reply


def choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of a reply, or nothing."""
    choices = document.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


Likely = list[tuple[str, Any]]
"""Tokens with what a server tells of their log-probability, unchecked."""


def _listed(document: Mapping[str, Any]) -> list[tuple[str, int | None, Likely]]:
    """Token, its place in the text and the likeliest tokens there, position by position; empty where the server does not tell.

    Two forms are in use: lists beside one another (``tokens``, ``text_offset``, ``top_logprobs``), and the one of chats, a list
    ``content`` with an entry for each token, in which llama-server tells no places.
    """
    told = choice(document).get("logprobs")
    if not isinstance(told, Mapping):
        return []
    content = told.get("content")
    if isinstance(content, list):
        found: list[tuple[str, int | None, Likely]] = []
        place = 0
        for entry in content:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("token"), str):
                return []
            found.append((entry["token"], place, _entries(entry.get("top_logprobs")) or _entries([entry])))
            place += len(entry["token"])
        return found
    tokens, places, top = (
        [*value] if isinstance(value := told.get(key), list) else [] for key in ("tokens", "text_offset", "top_logprobs")
    )
    rows = max(len(tokens), len(top))
    tokens, places, top = (values + [None] * (rows - len(values)) for values in (tokens, places, top))
    return [
        (str(token or ""), place if isinstance(place, int) else None, _entries(likely))
        for token, place, likely in zip(tokens, places, top, strict=True)
    ]


def _entries(told: object) -> Likely:
    """The likeliest tokens at one place: an object of logarithms, or a list of objects with ``token`` and ``logprob``."""
    if isinstance(told, Mapping):
        return list(told.items())
    entries = told if isinstance(told, list) else []
    return [
        (entry["token"], entry.get("logprob")) for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("token"), str)
    ]


def last_listed(document: Mapping[str, Any], most: int) -> dict[str, float]:
    """The likeliest first tokens of a completion.

    Raises:
        ImpossibleError: what is told are no probabilities.
    """
    listed = _listed(document)
    return replies.most_likely(listed[0][2], most) if listed else {}


def echoed(document: Mapping[str, Any], text: str, most: int) -> dict[int, dict[str, float]]:
    """Place in the text -> the likeliest tokens there, where a token begins at that place.

    Raises:
        ImpossibleError: what is told are no probabilities.
    """
    found = {}
    for token, place, likely in _listed(document):
        # Behind a letter of several tokens a server may lose count; the token must stand where it says.
        if likely and place is not None and 0 <= place and (place == len(text) or (token and text.startswith(token, place))):
            found[place] = replies.most_likely(likely, most)
    return found


def without_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A conversation in which what the system says stands before the next turn of the user, for models that know no system."""
    merged: list[dict[str, str]] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        if waiting and message["role"] != "user":
            merged.append({"role": "user", "content": "\n\n".join(waiting)})
            waiting = []
        merged.append({"role": message["role"], "content": "\n\n".join([*waiting, message["content"]])})
        waiting = []
    return [*merged, {"role": "user", "content": "\n\n".join(waiting)}] if waiting else merged


def written(reply: Reply) -> tuple[str, str]:
    """Status and text of a chat reply or a completion."""
    if reply.status != "ok":
        return reply.status, reply.text
    first = choice(reply.document)
    message = first.get("message")
    said = message if isinstance(message, Mapping) else first
    text = _text(said.get("content", said.get("text")))
    if said.get("refusal") or first.get("finish_reason") == "content_filter":
        return "refused", _text(said.get("refusal")) or text or ""
    if text is None:
        return "unreadable", _text(str(dict(reply.document))[:300]) or ""
    return ("length" if first.get("finish_reason") == "length" else "ok"), text


def _text(content: object) -> str | None:
    """A text, or the texts of the parts that some servers send instead, as UTF-8 can write it; None if there is none."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") in ("text", "output_text")]
        content = "".join(part for part in parts if isinstance(part, str)) if parts else None
    return content.encode("utf-8", "replace").decode("utf-8") if isinstance(content, str) else None
