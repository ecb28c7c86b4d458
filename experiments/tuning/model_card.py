"""What stands beside an adapter: whom it learned from, and a card for people.

``learned_from.json`` is a list, the data of the tuning first, then that of the adapter it began with: ``data`` and ``fingerprint``,
``learned`` (ids of the users who were learned from) and ``watched`` (ids of the validation users who decided when to stop). Nobody
else had a part in it, so whoever is judged must be in none of them. ``README.md`` says what the adapter is, what it may be used for,
and its figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.exposures import people_split
from environments.datasets.sources import known
from simulator.dataset import Dataset
from simulator.errors import ModelError
from simulator.files import write_atomically
from simulator.llm import adapters

FILE = "README.md"
UNKNOWN_TERMS = "those of your own data, which also hold for what was learned from it"
MEANS = {
    "choose_loss": "loss of choosing (nats)",
    "choose_auc": "area under the curve of choosing",
    "rate_loss": "loss of rating (nats)",
}


def learned(train: Dataset, start: str | None) -> list[dict[str, Any]]:
    """The entries of ``learned_from.json``.

    Args:
        train: the training part. start: the adapter that the tuning began with, or None; where nothing is known of it, ids are null.
    """
    split, ids = people_split(train), train.users["user_id"].to_list()
    own = {
        "data": train.name,
        "fingerprint": train.fingerprint(),
        "learned": [ids[code] for code in split.fit.tolist()],
        "watched": [ids[code] for code in split.validation.tolist()],
    }
    return [own, *_before(start)] if start is not None else [own]


def _before(start: str) -> list[dict[str, Any]]:
    try:
        folder = adapters.find(start)
    except ModelError:  # it is gone, and only the card of the tuning says what it was
        return [{"data": start, "fingerprint": None, "learned": None, "watched": None}]
    entries = adapters.learned_from(folder)
    cards = adapters.descent(adapters.card(folder))
    told = [card.get("data", {}) for card in cards]
    unknown = [{"data": data.get("name", start), "fingerprint": data.get("fingerprint"), "learned": None, "watched": None} for data in told]
    return entries or unknown


def write(folder: Path, card: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """Writes both files beside an adapter."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    write_atomically(folder / adapters.LEARNED, f"[\n{lines}\n]\n".encode())
    write_atomically(folder / FILE, text(card, entries).encode())


def terms(data: str) -> str:
    """Terms of use of a data set."""
    return known()[data].terms if data in known() else UNKNOWN_TERMS


def text(card: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """The card, Markdown: data, terms, what it may be used for, how it was made, figures.

    Args:
        card: of `experiments.tuning.tune`. entries: of `learned`; empty for an adapter of before.
    """
    cards = adapters.descent(card)
    tuning, data = card["tuning"], card["data"]
    names = list(dict.fromkeys(str(one["data"]["name"]) for one in cards if "data" in one))
    rows = [f"| {MEANS.get(key, key)} | {tuning['before'][key]:.4f} | {tuning['after'][key]:.4f} |" for key in tuning["before"]]
    learned_lines = [_who(one) for one in entries] or [f"- {data['name']}: {card['people']['fit']:,} users (ids were not kept)"]
    split = ", ".join(f"{key} {value}" for key, value in data["split"].items() if value)
    films = any(name.startswith("ml-") for name in names)
    uses = (
        "Research. It was learned from MovieLens, so the terms of that hold for it too: without permission of GroupLens it is not for "
        "commercial or revenue-bearing purposes, and no endorsement by the University of Minnesota or GroupLens may be implied. "
        "Acknowledge the data: Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015. Nobody is to be "
        "identified with it."
        if films
        else "What the terms of the data allow."
    )
    kept = f"; `{adapters.LEARNED}` has the ids" if entries else ""
    apart = "The people of ML-100K (1997 and 1998) and of ML-1M (2000) are not the same.\n" if {"ml-100k", "ml-1m"} <= set(names) else ""
    began = "".join(f" It began with an adapter tuned on {one['data']['name']}." for one in cards[1:] if "data" in one)
    return f"""# Adapter {card["name"]}

Low-rank updates of {card["model"]["name"]} (SHA-256 {card["model"]["sha256"]}), which make it answer what a user would choose on a page.

## Data

{chr(10).join(f"- {name}: {terms(name)}" for name in names)}

Learned from the training part alone ({split}; fingerprint {data["fingerprint"][:16]}): {data["interactions"]:,} interactions.
{chr(10).join(learned_lines)}

{apart}Users who are held out (`agents.exposures.people_split`) were neither learned from nor watched{kept}.

## What it may be used for

{uses}
It says nothing reliable about single people, about items beyond its data, or about texts: those are checked and mostly made from facts.

## How it was made

{tuning["steps"]:,} steps, {tuning["tokens"]:,} tokens, {tuning["seconds"]:,.0f} s on {tuning.get("device", "an unknown device")}.{began}
`{adapters.CARD}` has every setting.

## Figures

On validation users, before and after:

| | before | after |
|---|---|---|
{chr(10).join(rows)}

What it adds to simulated users is measured on held-out users by `usersim benchmark language --set language_model.adapter={card["name"]}`.
"""


def _who(entry: Mapping[str, Any]) -> str:
    if entry.get("learned") is None:
        return f"- {entry['data']}: users whose ids were not kept"
    return f"- {entry['data']}: {len(entry['learned']):,} users learned from, {len(entry['watched']):,} watched to know when to stop"
