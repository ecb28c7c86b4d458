"""What the JSON documents of the OpenAI interface say; servers differ in what they leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.llm import replies
from simulator.llm.http_server import Reply


def choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of a reply, or nothing."""
    choices = document.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _listed(document: Mapping[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Tokens, their places and the likeliest tokens of a completion; empty where the server does not tell."""
    told = choice(document).get("logprobs")
    if not isinstance(told, dict):
        return [], [], []
    tokens, places, top = (told.get(key) for key in ("tokens", "text_offset", "top_logprobs"))
    return tokens or [], places or [], top or []


def last_listed(document: Mapping[str, Any], most: int) -> dict[str, float]:
    """The likeliest first tokens of a completion."""
    top = _listed(document)[2]
    return replies.most_likely(top[0], most) if top and isinstance(top[0], dict) else {}


def echoed(document: Mapping[str, Any], text: str, most: int) -> dict[int, dict[str, float]]:
    """Place in the text -> the likeliest tokens there, where a token begins at that place."""
    tokens, places, top = _listed(document)
    found = {}
    for token, place, listed in zip(tokens, places, top, strict=False):
        # Behind a letter of several tokens a server may lose count; the token must stand where it says.
        if isinstance(listed, dict) and isinstance(place, int) and (place == len(text) or (token and text.startswith(str(token), place))):
            found[place] = replies.most_likely(listed, most)
    return found


def written(reply: Reply) -> tuple[str, str]:
    """Status and text of a chat reply or a completion."""
    if reply.status != "ok":
        return reply.status, reply.text
    first = choice(reply.document)
    message = first.get("message")
    said = message if isinstance(message, dict) else first
    text = said.get("content", said.get("text"))
    if said.get("refusal") or first.get("finish_reason") == "content_filter":
        return "refused", str(said.get("refusal") or text or "")
    if not isinstance(text, str):
        return "unreadable", str(dict(reply.document))[:300]
    return ("length" if first.get("finish_reason") == "length" else "ok"), text
