"""What the language model adds to the simulated users, on held-out users, each figure beside its control.

The figures stand in ``results/benchmarks/language_model.json``: those of MovieLens-100K with the temporal split at the top, all data sets
under ``by_dataset``. Each part keeps its figures until it is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from experiments import config as configuration
from experiments.fidelity import report as reports
from experiments.fidelity.context import Report
from simulator.errors import ConfigError
from simulator.files import read_json, write_atomically
from simulator.paths import cache_folder

CONFIGS: Final[Path] = Path(__file__).parent.parent / "configs" / "language"
OUTPUT: Final[Path] = Path("results/benchmarks/language_model.json")
DATA: Final[Mapping[str, str | None]] = {"ml-100k": None, "ml-100k-random": None, "ml-1m": "ml-1m"}
"""Experiment file -> folder of its data among those of the user; None where `usersim data get` has it."""

MAIN: Final[str] = "ml-100k"
MIX: Final[str] = "matched_1_1"
PEOPLE: Final[int] = 500
"""Held-out users at most."""

Say = Callable[[str], None]


def run(
    folder: Path | None, names: Sequence[str], people: int, bootstrap: int, set_: Sequence[str], output: Path, report: Report
) -> dict[str, Any]:
    """Asks held-out users of each data set about their choices, with and without the language model; the file is written after each.

    Args:
        folder: holds a folder for each data set that `DATA` names. names: of `DATA`. people: held-out users at most, >= 1.
        bootstrap: resamples of users behind an interval. set_: settings of all experiments, such as those of another language model.
        output: JSON. report: told of the progress.

    Returns:
        The document that was written.

    Raises:
        ConfigError: a data set is wanted whose folder is not named.
        UsersimError: the data or the model cannot be used.
    """
    found: dict[str, Any] = read_json(output, "move it away", ConfigError) if output.is_file() else {}
    for name in names:
        own = DATA[name]
        if own is not None and folder is None:
            raise ConfigError(f"the data set '{name}' needs the folder that holds a folder {own}; name it, or choose others with --data.")
        place = [] if own is None or folder is None else [f"dataset.path={folder / own}"]
        config = configuration.read(CONFIGS / f"{name}.toml", [*place, *set_])
        options = reports.Options(people, ("choose",), bootstrap, None)
        document = reports.measure(config, cache_folder() / "language" / name, None, options, report)
        found.setdefault("by_dataset", {})[name] = figures(document)
        if name == MAIN:
            found |= found["by_dataset"][name]
        write_atomically(output, (json.dumps(found, indent=1) + "\n").encode())
    return found


def figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a fidelity report's part of choices, flat; null where they were not measured, with the reasons in ``why``.

    Args:
        document: of `experiments.fidelity.report.measure`.
    """
    choose = document["parts"]["choose"]
    models = choose.get("models", {})
    alone, with_it, without = (models.get(name, {}).get(MIX, {}).get("auc") for name in ("llm", "calibrated", "calibrated_no_llm"))
    lift = choose.get("lift", {}).get(MIX, {})
    result: dict[str, Any] = {"held_out_users": document["people"], "seed": document["seed"]}
    result |= _spread("alone_auc_matched", alone)
    result |= _spread("auc_matched", with_it)
    result |= _spread("auc_matched_without", without)
    result |= _spread("lift", lift.get("auc"))
    result |= _spread("lift_within", lift.get("auc_per_person"))
    missing = choose.get("not_measured")
    return result | ({"why": missing} if missing else {})


def _spread(name: str, estimate: Mapping[str, Any] | None) -> dict[str, float | None]:
    return {name: (estimate or {}).get("value"), f"{name}_low": (estimate or {}).get("low"), f"{name}_high": (estimate or {}).get("high")}


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each data set, for people to read."""

    def shown(own: Mapping[str, Any], name: str, form: str) -> str:
        if own.get(name) is None:
            return ""
        low, high = own[f"{name}_low"], own[f"{name}_high"]
        return form.format(own[name]) + ("" if low is None else f" [{form.format(low)}, {form.format(high)}]")

    return [
        {
            "data": name,
            "users": str(own["held_out_users"]),
            "language model alone": shown(own, "alone_auc_matched", "{:.3f}"),
            "users without it": shown(own, "auc_matched_without", "{:.3f}"),
            "with it": shown(own, "auc_matched", "{:.3f}"),
            "lift": shown(own, "lift", "{:+.4f}"),
            "lift within users": shown(own, "lift_within", "{:+.4f}"),
        }
        for name, own in found.get("by_dataset", {}).items()
    ]
