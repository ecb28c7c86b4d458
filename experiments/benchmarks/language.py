"""What the language model adds to the simulated users: one table, each figure on held-out users or on a run, with its control.

The figures stand flat in ``results/benchmarks/language_model.json``: those of MovieLens-100K with the temporal split at the top, the other
data sets under ``by_dataset``. Parts (`PARTS`) are measured one after another, the file is written after each, and what was measured before
with the same model, data and code is found again. A figure that was not measured is null, and ``not_run`` says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from experiments import config as configuration
from experiments.benchmarks import language_parts as parts
from experiments.benchmarks.language_parts import ENDS, MAIN, Figures, Wanted
from experiments.fidelity import cold_items
from simulator.errors import ConfigError, UsersimError
from simulator.files import read_json, write_atomically
from simulator.paths import without_places

OUTPUT: Final[Path] = Path("results/benchmarks/language_model.json")
DATA: Final[Mapping[str, str | None]] = {"ml-100k": None, "ml-100k-random": None, "ml-1m": "ml-1m"}
"""Experiment file -> folder of its data among those of the user; None where `usersim data get` has it."""

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "choices": ("alone_auc_matched", "lift", "lift_within", "auc_matched", "auc_matched_without"),
    "satisfaction": ("satisfaction_rho_outcome",),
    "texts": ("planted_false_caught", "true_rejected_share"),
    "notes": ("note_effects",),
    "cold-items": ("cold_items",),
    "run": (
        "decisions_changed_share",
        "texts_passed_share",
        "texts_false_share",
        "satisfaction_rho_rating",
        "satisfaction_nothing_chosen_rank",
    ),
}
"""Part -> its figures."""

SPREADLESS: Final[tuple[str, ...]] = ("note_effects", "cold_items")
"""Figures that are tables themselves, with intervals and numbers of users in them."""

Step = tuple[str, str, str | None, Callable[[], Figures]]
"""Part, what it is called in the file, the data set or None for the top, and what measures it."""


def parts_named(text: str | None) -> tuple[str, ...]:
    """The parts of a comma-separated list, in the order of `PARTS`; None is all.

    Raises:
        ConfigError: there is no such part.
    """
    names = list(PARTS) if text is None else [name.strip() for name in text.split(",") if name.strip()]
    wrong = next((name for name in names if name not in PARTS), None)
    if wrong is not None or not names:
        raise ConfigError(f"--parts {text}: allowed are some of {', '.join(PARTS)}, with commas between them.")
    return tuple(name for name in PARTS if name in names)


def server(url: str, model: str | None) -> str:
    """The setting that asks a server with the OpenAI interface instead of the model of the experiment files, whose options go with it."""
    for what, value in (("--server", url), ("--model", model or "")):
        if any(sign in value for sign in "'\"\\\n"):
            raise ConfigError(f"{what} {value}: quotes, backslashes and line ends are not allowed in it.")
    named = f", model = '{model}'" if model else ""
    return f"language_model={{use = 'simulator.llm.openai_api:OpenAIServer', base_url = '{url}'{named}}}"


def run(wanted: Wanted, some: Sequence[str], names: Sequence[str], output: Path) -> dict[str, Any]:
    """Measures parts; the file is written after each.

    Args:
        wanted: with what. some: of `PARTS`. names: of `DATA`, and of the sets of `cold_items`. output: JSON; parts that are not measured
            now keep their figures in it.

    Returns:
        The document that was written.

    Raises:
        ConfigError: a setting is wrong.
        UsersimError: no part could be measured; the reason of the last.
    """
    found = _before(output)
    for name, own in DATA.items():
        wanted.experiment(name, own)  # a wrong setting is found before anything is measured
    failed: UsersimError | None = None
    done = 0
    for part, label, place, measure in _steps(wanted, some, names):
        wanted.report(label, 0, 0)
        try:
            figures = measure()
            done += 1
        except UsersimError as error:
            failed, figures = error, _nothing(part) | {"why": without_places(str(error))}
        _put(found, part, label, place, figures)
        model = configuration.read(parts.RUN, wanted.set_).language_model
        asked = None if model is None else {"use": model.use, **model.options}
        found["measured_with"][label] = {"language_model": asked, "settings": list(wanted.set_)}
        _write(found, output)
    if failed is not None and not done:
        raise failed
    return found


def _steps(wanted: Wanted, some: Sequence[str], names: Sequence[str]) -> Iterator[Step]:
    sets: Mapping[str, Callable[[Wanted, str, str | None], Figures]] = {
        "choices": parts.choices,
        "satisfaction": parts.glad,
        "notes": parts.notes,
    }
    once: Mapping[str, Callable[[Wanted], Figures]] = {"texts": parts.texts, "run": parts.run}
    for part in some:
        if part in once:
            yield part, part, None, lambda part=part: once[part](wanted)  # type: ignore[misc]
        elif part == "cold-items":
            for name in (name for name in cold_items.SETS if name in names):
                yield part, f"cold-items of {name}", name, lambda name=name: {"cold_items": parts.new_items(wanted, name)}  # type: ignore[misc]
        else:
            for name in (name for name in DATA if name in names and (part != "notes" or name == MAIN)):
                yield part, f"{part} of {name}", name, lambda part=part, name=name: sets[part](wanted, name, DATA[name])  # type: ignore[misc]


def _before(output: Path) -> dict[str, Any]:
    """What the file holds, completed by nulls for what was never measured."""
    found: dict[str, Any] = read_json(output, "move it away", ConfigError) if output.is_file() else {}
    for key in ("by_dataset", "not_run", "measured_with", "cold_items"):
        if not isinstance(found.get(key), dict):
            found[key] = {}
    for part in PARTS:
        for key, value in _nothing(part).items():
            if key not in found:
                found[key] = value
    known = [*found["measured_with"], *found["not_run"]]
    for label in _labels():
        if label not in known:
            found["not_run"][label] = "not measured yet"
    return found


def _labels() -> list[str]:
    named = [f"{part} of {name}" for part in ("choices", "satisfaction") for name in DATA]
    return [*named, "texts", f"notes of {MAIN}", *(f"cold-items of {name}" for name in cold_items.SETS), "run"]


def _nothing(part: str) -> Figures:
    """The figures of a part, all null."""
    return {f"{key}{end}": None for key in PARTS[part] for end in (("",) if key in SPREADLESS else ENDS)}


def _put(found: dict[str, Any], part: str, label: str, place: str | None, figures: Figures) -> None:
    """Figures into the document: those of `MAIN` and of no data set at the top, those of others under ``by_dataset``."""
    why = figures.pop("why", None)
    found["not_run"].pop(label, None)
    if why:
        found["not_run"][label] = why
    if part == "cold-items":
        assert place is not None
        one = figures["cold_items"]
        found["cold_items"][place] = None if one is None else one["rows_auc"]
        found["by_dataset"].setdefault(place, {})["cold_items_about"] = one and {
            key: value for key, value in one.items() if key != "rows_auc"
        }
        return
    if place is not None:
        found["by_dataset"].setdefault(place, {}).update(figures)
    if place in (None, MAIN):
        found |= figures


def _write(found: Mapping[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each figure, for people to read."""
    rows = []
    plain = [key for keys in PARTS.values() for key in keys if key not in SPREADLESS]
    for name, own in {MAIN: found, **{name: own for name, own in found["by_dataset"].items() if name != MAIN}}.items():
        known = [(key, {end: own.get(f"{key}_{end}") for end in ("low", "high", "users")}) for key in plain if own.get(key) is not None]
        rows += [_row(name, key.replace("_", " "), {"value": own[key], **ends}) for key, ends in known]
    for kind, one in (found.get("note_effects") or {}).items():
        rows.append(_row(MAIN, f"note: {kind.replace('_', ' ')}", {**one, "users": one["people"]}))
    for name, one in found["cold_items"].items():
        for row, figures in (one or {}).items():
            if "auc" in figures:
                rows.append(_row(name, f"new items: {row.replace('_', ' ')}", {**figures["auc"], "users": figures["auc"]["people"]}))
    return rows


def _row(name: str, figure: str, one: Mapping[str, Any]) -> dict[str, str]:
    interval = "" if one.get("low") is None else f"[{one['low']:.4f}, {one['high']:.4f}]"
    value = "" if one["value"] is None else f"{one['value']:.4f}"
    return {"data": name, "figure": figure, "value": value, "95 %": interval, "users": str(one.get("users") or "")}
