"""Does the verdict on users depend on who fills their pages? The same users, and wrong ones, on pages of several recommenders.

    usersim benchmark pages CONFIG --set dataset.path=FOLDER [--recommender ease] [--population calibrated]

Each recommender ranks for every held-out user; each population decides about these items, page by page, and is judged by
`experiments.fidelity.conditional`. Calibrated users should be called good everywhere or nowhere, the others bad everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.profiles import fit_profiles
from experiments import build
from experiments.component_names import import_path
from experiments.config import ExperimentConfig
from experiments.fidelity.conditional import Shown, compared
from experiments.fidelity.context import judged_people
from experiments.fidelity.given import features_of, held_out, judged, without_history
from experiments.fidelity.models import CALIBRATED, OF_PRIORS
from experiments.fidelity.pages import first_pages
from experiments.sections import DecisionSection, RecommenderSection
from simulator.dataset import Dataset
from simulator.errors import ConfigError, with_suggestion
from simulator.files import read_json, write_atomically
from simulator.one_thread import one_thread
from simulator.protocols import DecisionModel, Recommender
from simulator.records import UserProfile
from simulator.seeds import Stream

OUTPUT: Final[Path] = Path("results/benchmarks/pages.json")
RECOMMENDERS: Final[tuple[str, ...]] = ("ease", "random", "popularity")
WITHOUT: Final[Mapping[str, Any]] = {"language_model": False}
POPULATIONS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "calibrated": (CALIBRATED, WITHOUT),
    "traits": ("agents.bad_users:TraitsDecisions", {}),
    "popularity": ("agents.controls:PopularityDecisions", {}),
    "one-rating": ("agents.bad_users:OneRatingDecisions", WITHOUT),
}
"""Name -> import path, and the options that make it this one. The first has the experiment's own options, and so has the last."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done. Attributes: users judged at most; items that each recommender shows each of them at most."""

    users: int = 300
    items: int = 400


@one_thread()
def run(
    config: ExperimentConfig, recommenders: Sequence[str], populations: Sequence[str], size: Size, say: Callable[[str], None]
) -> dict[str, Any]:
    """Judges every population on the pages of every recommender.

    Args:
        config: the experiment: data, split, page size, options of the decision model. recommenders: names or import paths.
        populations: of `POPULATIONS`. size: how much. say: told of the progress.

    Returns:
        ``data``, ``split``, ``seed``, ``users``, ``items``; ``populations``: name -> ``pages``: recommender -> `brief`, with
        ``same_verdict`` and ``overlap`` of `agreement`.

    Raises:
        UsersimError: there is no such recommender or population, or the data is not usable.
    """
    uses = {name: import_path(name) for name in recommenders}
    for name in populations:
        if name not in POPULATIONS:
            raise ConfigError(with_suggestion("population", name, POPULATIONS))
    divided = build.data(config)
    train, profiles = divided.train, fit_profiles(divided.train)
    stream = Stream(config.seed).child("page policies")
    people = judged_people(divided, profiles, size.users, stream.child("people"))
    known = {profile.user: profile for profile in profiles}
    judging = [known[user] for user in people.tolist()]
    real, histories = held_out(divided.test, people), [profile.history for profile in judging]
    actions, page_size = build.actions(train), config.recommender.feed_config().page_size
    yes = next(action for action in actions if action.name == "choose").values.index(True)
    models = {name: _fitted(config, name, train, profiles, say) for name in populations}
    found: dict[str, dict[str, Any]] = {name: {} for name in populations}
    for recommender, use in uses.items():
        filled = build.recommender(config.model_copy(update={"recommender": RecommenderSection(use=use)}))
        filled.fit(train.interactions, train.catalog, stream.child("fit", recommender))
        ranked = rankings(filled, judging, min(size.items, train.n_items), stream.child("recommend", recommender))
        for name, model in models.items():
            say(f"{train.name}: {name} on the pages of {recommender}")
            shown = decided(model, judging, ranked, page_size, yes, stream.child("decide", recommender))
            shown = without_history(shown, histories, train.n_items)
            features = features_of(train, histories, shown.person, shown.item)
            found[name][recommender] = brief(judged(compared(shown, real, features, len(people), stream.child("compared"))))
    return {
        "data": train.name,
        "split": config.dataset.split_config().model_dump(mode="json"),
        "seed": config.seed,
        "users": len(people),
        "items": size.items,
        "populations": {name: {"pages": pages, **agreement(pages)} for name, pages in found.items()},
    }


def rankings(recommender: Recommender, users: Sequence[UserProfile], n: int, stream: Stream) -> list[np.ndarray]:
    """The first n unseen items of each user, best first."""
    slates = recommender.recommend(np.array([one.user for one in users]), [one.history for one in users], n, stream)
    return [np.asarray(slate.items) for slate in slates]


def decided(
    model: DecisionModel, users: Sequence[UserProfile], ranked: Sequence[np.ndarray], page_size: int, yes: int, stream: Stream
) -> Shown:
    """What users decide about ranked items, shown page by page; nobody leaves.

    Args:
        model: fitted. users: whose pages. ranked: item codes of each user. page_size: items on a page.
        yes: place of the probability of choosing among those of both answers. stream: of the decisions.
    """
    rows = [
        (number, situation.page.items, decision)
        for number, (user, items) in enumerate(zip(users, ranked, strict=True))
        for situations in [first_pages(user, items, page_size, stream.child(user.user_id))]
        for situation, decision in zip(situations, model.decide(situations), strict=True)
    ]
    chosen = [decision.outcomes["choose"].values == 1.0 for _, _, decision in rows]
    rated = [
        decision.outcomes["rate"].values if "rate" in decision.outcomes else np.full(len(items), np.nan) for _, items, decision in rows
    ]
    return Shown(
        np.concatenate([np.full(len(items), number) for number, items, _ in rows]),
        np.concatenate([items for _, items, _ in rows]).astype(np.int64),
        np.concatenate(chosen),
        np.concatenate([decision.outcomes["choose"].probabilities[:, yes] for _, _, decision in rows]),
        np.concatenate(rated),
    )


def brief(found: Mapping[str, Any]) -> dict[str, Any]:
    """One cell: shares, sizes, verdict, and of each figure its means and the distance that is most surely too far."""
    figures = {}
    for name, figure in found["figures"].items():
        known = [(one["low"], kind) for kind, one in figure["distances"].items() if one["ratio"] is not None]
        kind = max(known)[1] if known else None
        one = figure["distances"][kind] if kind is not None else {}
        figures[name] = {
            "simulated": figure["simulated"]["mean"],
            "real": figure["real"]["mean"],
            "observations": figure["compared_observations"],
            "which": kind,
            **{key: one.get(key) for key in ("distance", "floor", "ratio", "low", "high")},
        }
    told = ("exposures", "share_chosen", "share_real", "shift", "effective_choices", "compared_users", "not_measured", "worst", "verdict")
    return {**{key: found[key] for key in told}, "figures": figures}


def agreement(pages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the verdict is the same on all pages, and of each figure whether the intervals have a point in common."""
    verdicts = {page["verdict"]["good"] for page in pages.values()}
    names = {name: None for page in pages.values() for name in page["figures"]}
    overlap = {}
    for name in names:
        limits = [(page["figures"][name]["low"], page["figures"][name]["high"]) for page in pages.values() if name in page["figures"]]
        known = [(low, high) for low, high in limits if low is not None]
        overlap[name] = len(known) == len(pages) and max(low for low, _ in known) <= min(high for _, high in known)
    return {"same_verdict": len(verdicts) == 1 and None not in verdicts, "overlap": overlap}


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each population: the verdict on the pages of each recommender, with the figure that is most surely too far."""
    rows = []
    for name, own in found["populations"].items():
        row = {"data": found["data"], "users": name}
        for recommender, page in own["pages"].items():
            known = {key: one for key, one in page["figures"].items() if one["ratio"] is not None}
            key = max(known, key=lambda key: float(known[key]["low"]), default=None)
            word = {True: "good", False: "bad", None: "too little"}[page["verdict"]["good"]]
            one = known[key] if key is not None else None
            row[recommender] = word if one is None else f"{word}: {key} {one['ratio']:.1f} [{one['low']:.1f}, {one['high']:.1f}]"
        rows.append(row | {"same": "yes" if own["same_verdict"] else "no"})
    return rows


def write(found: Mapping[str, Any], output: Path) -> None:
    """Puts a result into a JSON file with one object for each data set; others stay as they are.

    Raises:
        ConfigError: the file holds something else.
    """
    known = read_json(output, "move it away", ConfigError) if output.exists() else {"data": {}}
    if not isinstance(known.get("data"), dict):
        raise ConfigError(f"{output} does not hold results by data set; move it away.")
    known["data"][found["data"]] = found
    write_atomically(output, (json.dumps(known, indent=1, allow_nan=False) + "\n").encode())


def _fitted(
    config: ExperimentConfig, name: str, train: Dataset, profiles: Sequence[UserProfile], say: Callable[[str], None]
) -> DecisionModel:
    """The users of a population, who have those of the experiment's options that they know."""
    say(f"{train.name}: fitting {name}")
    use, options = POPULATIONS[name]
    own = config.decision.options
    if options == WITHOUT:
        inherited = own if config.decision.use == CALIBRATED else {"hide": "random" if config.dataset.split == "random" else "auto"}
    else:
        inherited = {key: value for key, value in own.items() if key in OF_PRIORS}
    section = DecisionSection.model_validate({"use": use, **inherited, **options})
    experiment = config.model_copy(update={"decision": section})
    blueprint = build.Blueprint(experiment, train.catalog, build.actions(train), train.rating_scale, Path())
    model = build.decisions(experiment, blueprint.context(None))
    model.fit(train, profiles, Stream(config.seed).child("decisions"))
    return model
