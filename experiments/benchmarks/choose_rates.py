"""The share of shown items that users choose, beside the one that was asked for, on the pages of every recommender that comes with usersim.

    usersim benchmark choose-rate FOLDER [--data ml-100k] [--recommender ease]

`decision.choose_rate` is met on pages of the experiment's own recommender (`experiments.anchoring`). The level is found anew for each here,
and what a first round then draws is what is told. Neural ones train for few epochs: where the level lies matters, not how good they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.profiles import fit_profiles
from experiments import build
from experiments.component_names import import_path
from experiments.fidelity import measured_sets, shelf
from experiments.sections import RecommenderSection
from simulator.errors import UsersimError
from simulator.paths import without_places
from simulator.plugins import load
from simulator.records import UserProfile
from simulator.seeds import Stream

OUTPUT: Final[Path] = Path("results/benchmarks/choose_rate.json")
USERS, EPOCHS = 300, 2
"""Users of the first round; epochs of recommenders that train in epochs."""

TOLERANCE: Final[float] = 0.1
"""Relative difference between asked and got from which on a rate is out of range."""


def run(folder: Path, names: Sequence[str], recommenders: Sequence[str], output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures data sets one after another (`measured_sets.run`).

    Args:
        folder: holds a folder for each data set. names: of `shelf.SETS`. recommenders: short names or import paths; others keep their
            figures. output: JSON. say: told what is going on.
    """
    known = measured_sets.read(output)["data"]

    def figures(name: str) -> Mapping[str, Any]:
        found = measure(folder, name, recommenders, say)
        return {"asked": found["asked"], "got": known.get(name, {}).get("got", {}) | found["got"]}

    return measured_sets.run(names, output, figures, {"users": USERS, "epochs": EPOCHS})


def measure(folder: Path, name: str, recommenders: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Asked and got on one data set: ``asked``, and ``got``: recommender -> share, or the reason why it fills no pages."""
    config = shelf.experiment(name, folder)
    train = build.data(config).train
    profiles = fit_profiles(train)
    model, _ = shelf.fitted(config, train, profiles)
    people = _some(profiles, Stream(config.seed).child("choose rates"))
    got: dict[str, float | str] = {}
    for recommender in recommenders:
        say(f"{name}: {recommender}")
        try:
            got[recommender] = shelf.rate_on_pages(model, config, section(recommender), train, people)
        except UsersimError as error:
            got[recommender] = without_places(str(error))
    return {"asked": model.config.choose_rate, "got": got}


def section(recommender: str) -> RecommenderSection:
    """The recommender with few epochs, where it trains in epochs."""
    use = import_path(recommender)
    known = getattr(load(use, methods=("fit", "recommend")), "Config").model_fields  # noqa: B009
    return RecommenderSection.model_validate({"use": use} | ({"epochs": EPOCHS} if "epochs" in known else {}))


def _some(profiles: Sequence[UserProfile], stream: Stream) -> list[UserProfile]:
    places = np.sort(stream.generator().permutation(len(profiles))[:USERS])
    return [profiles[place] for place in places.tolist()]


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows for people: asked, got, and whether got is within `TOLERANCE` of asked."""
    rows = []
    for data, own in found["data"].items():
        if "not_measured" in own:
            rows.append({"data": data, "recommender": own["not_measured"]})
            continue
        for name, got in own["got"].items():
            told = isinstance(got, float)
            near = told and abs(got / own["asked"] - 1.0) <= TOLERANCE
            within = ("yes" if near else "no") if told else ""
            rows.append(
                {"data": data, "recommender": name, "asked": f"{own['asked']:.2f}", "got": f"{got:.3f}" if told else got, "within": within}
            )
    return rows
