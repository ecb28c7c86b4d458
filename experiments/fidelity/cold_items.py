"""New items: can users tell which of the items that nobody has met yet they would choose?

A fifth of the items is held out with all their interactions: none enters a fit, a history, or a popularity. Held-out users
(`agents.exposures.people_split`) are asked which of the new items they met, each beside another new one with about as many interactions
that they never met. What evidence is worth is learned from the other users, on further items that are hidden meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from agents.cold_items import Choices, ColdScores, Lesson, choices, some_items, without_items
from agents.content import COLUMNS
from agents.exposures import people_split
from experiments import build
from experiments import config as configuration
from experiments.fidelity import cold_language, measured_sets, sentence_encoder, shelf
from experiments.fidelity.cold_language import Reader
from experiments.fidelity.resampling import area_under_curve, estimate, plain, resample, resampled_area
from simulator import plugins
from simulator.dataset import Catalog, Dataset
from simulator.errors import ConfigError
from simulator.one_thread import one_thread
from simulator.seeds import Stream

OUTPUT: Final[Path] = Path("results/benchmarks/cold_items.json")
SETS: Final[tuple[str, ...]] = ("ml-100k", "scientific", "beauty")
PLOTS: Final[Path] = Path("ml-100k-plots") / "items_info.json"
DEPARTMENTS: Final[tuple[str, ...]] = ("Industrial & Scientific",)
RESAMPLES: Final[int] = 500
ENCODED: Final[tuple[str, ...]] = ("encoder", "mapped encoder")

TODAY, BEFORE, SHIPPED, ALL = "genres_years_categories", "today_with_title_words", "calibrated_users", "all"
ROWS: Final[Mapping[str, tuple[str, ...]]] = {
    TODAY: COLUMNS,
    BEFORE: (*COLUMNS, "words"),
    "tfidf": ("texts",),
    "sentence_encoder": ("encoder",),
    "factors_from_words": ("mapped",),
    "factors_from_encoder": ("mapped encoder",),
    SHIPPED: (*COLUMNS, "texts", "topics", "mapped", "words"),
    ALL: (*COLUMNS, "texts", "topics", "mapped", "words", *ENCODED),
}
"""Rows and the scores that each may use (`agents.cold_items.ColdScores`); `SHIPPED` is what calibrated users have."""

OVER: Final[tuple[str, ...]] = ("tfidf", "sentence_encoder", SHIPPED, ALL)
"""Rows over which the language model's own lift is told."""

NO_MODEL: Final[str] = "not measured: no language model was asked (`usersim benchmark language FOLDER --parts cold-items` asks one)"


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows of all held-out users.

    Attributes:
        person: number of the user of each row, from 0. chosen: bool. people: number of users. weights: resamples of users.
    """

    person: np.ndarray
    chosen: np.ndarray
    people: int
    weights: np.ndarray

    @classmethod
    def of(cls, some: Sequence[Choices], stream: Stream) -> Asked:
        """Rows of choices, and resamples of their users that all figures share."""
        person = np.concatenate([np.full(len(one.items), number) for number, one in enumerate(some)])
        return cls(person, np.concatenate([one.chosen for one in some]), len(some), resample(len(some), RESAMPLES, stream))

    def within(self, scores: np.ndarray) -> np.ndarray:
        """Area under the curve of each user, shape (people,)."""
        starts = np.flatnonzero(np.diff(self.person, prepend=-1))
        parts = zip(np.split(scores, starts[1:]), np.split(self.chosen, starts[1:]), strict=True)
        return np.array([area_under_curve(own, chosen)[0] for own, chosen in parts])

    def resampled_mean(self, of_person: np.ndarray) -> np.ndarray:
        """Mean over users in each resample."""
        return np.asarray(self.weights @ of_person / self.weights.sum(axis=1))


def run(folder: Path, names: Sequence[str], output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures data sets one after another; the file is written after each, and those that are not measured now stay as they are.

    Args:
        folder: holds a folder for each data set. names: of `SETS`. output: JSON. say: told what is going on.
    """

    def figures(name: str) -> Mapping[str, Any]:
        say(f"{name}: hiding items and learning from what is written about them")
        return measure(dataset(name, folder))

    return measured_sets.run(names, output, figures)


def dataset(name: str, folder: Path) -> Dataset:
    """A data set with all that is written about its items: plots of films where the folder has them, categories apart from titles.

    Raises:
        UsersimError: it is not there.
    """
    config = shelf.experiment(name, folder)
    if name == "ml-100k" and (folder / PLOTS).is_file():
        place = [f"dataset.path={config.dataset.options['path']}", f"dataset.plots={folder / PLOTS}"]
        config = configuration.read(shelf.CONFIGS / f"{name}.toml", place)
    section = config.dataset
    data: Dataset = plugins.build(section.use, section.options, where="dataset", methods=build.METHODS["dataset"]).load()
    return replace(data, catalog=_with_categories(data.catalog))


def _with_categories(catalog: Catalog) -> Catalog:
    """Takes the category path out of titles that hold it ("title. Department Category Category. Brand."), as single words."""
    titles, genres = [], []
    for title, known in zip(catalog.items["title"].to_list(), catalog.items["genres"].to_list(), strict=True):
        at = max((str(title).rfind(f"{name} ") for name in DEPARTMENTS), default=-1)
        if at < 0 or len(known):
            titles.append(title)
            genres.append(list(known))
            continue
        path, _, brand = str(title)[at:].partition(". ")
        titles.append(f"{str(title)[:at]} {brand}".strip() or title)
        genres.append(sorted(set(re.findall(r"\w+", path.lower()))))
    told = catalog.items.with_columns(title=pl.Series(titles), genres=pl.Series(genres, dtype=pl.List(pl.String)))
    return Catalog(told, catalog.domain)


@one_thread()
def measure(data: Dataset, seed: int = 7, reader: Reader | None = None) -> dict[str, Any]:
    """All rows of one data set.

    Args:
        data: with texts of items. seed: of the choice of items and users. reader: a language model that is asked too, of fewer users.

    Raises:
        ConfigError: nothing is written about the items, or too little was chosen among the hidden ones.
    """
    stream, users = Stream(seed).child("cold items"), people_split(data).held_out
    new = some_items(data, stream.child("new"))
    train = without_items(data, new)
    some = choices(data, new, users, stream.child("asked"))
    encoded = sentence_encoder.vectors(texts_of(data.catalog)) if sentence_encoder.installed() else None
    lesson = Lesson.of(train, stream.child("lesson"), encoded)
    scores = ColdScores.fit(train, encoded)
    if lesson is None or scores is None or not some:
        raise ConfigError(
            f"data set '{data.name}' has nothing written about its items, or too few choices among a fifth of them; use one with titles, "
            "descriptions or genres, and more interactions."
        )
    asked, rows = Asked.of(some, stream.child("resamples")), scores.of_choices(some)
    known = {name.partition(", ")[0] for name in scores.names}
    popularity = np.bincount(train.interactions["item"].to_numpy(), minlength=data.n_items)
    said = {"popularity": popularity[np.concatenate([one.items for one in some])].astype(np.float64)}
    wanted = {name: _of_known(used, known) for name, used in ROWS.items()}
    weights = {name: lesson.weights(used) for name, used in wanted.items() if used}
    said |= {name: one.log_odds(rows) for name, one in weights.items()}
    own: dict[str, Any] = {cold_language.ALONE: {"why": NO_MODEL}}
    about: dict[str, Any] = {}
    if reader is not None:
        best = ALL if ALL in said else SHIPPED
        weighed = weights[best].log_odds(lesson.rows)
        places, told, about = reader.measure(train, some, said[best], lesson, weighed, stream)
        own = _of_model(said, some, places, told, stream)
    return {
        "held_out_users": asked.people,
        "new_items": len(new),
        "items": data.n_items,
        "rows": len(asked.chosen),
        "learned_from": {"rows": len(lesson.chosen), "users": len(np.unique(lesson.people))},
        "described_share": 1.0 - data.catalog.items["description"].null_count() / max(1, data.n_items),
        "rows_auc": {name: _figures(said, name, asked) for name in said}
        | {name: {"why": sentence_encoder.WHY_NOT} for name in ROWS if encoded is None and set(ROWS[name]) & set(ENCODED)}
        | own,
        **({"language_model": about} if about else {}),
    }


def _of_model(
    said: Mapping[str, np.ndarray],
    some: Sequence[Choices],
    places: Sequence[int],
    told: Mapping[str, np.ndarray],
    stream: Stream,
) -> dict[str, Any]:
    """The rows of the language model, on the users who were asked, with paired lifts over what needs no model."""
    starts = np.cumsum([0, *(len(one.items) for one in some)])
    rows = np.concatenate([np.arange(starts[place], starts[place + 1]) for place in places])
    asked = Asked.of([some[place] for place in places], stream.child("language model").child("resamples"))
    fewer = {**{name: scores[rows] for name, scores in said.items()}, **told}
    found = {}
    for name in told:
        found[name] = _figures(fewer, name, asked)
        for base in OVER:
            if base in fewer:
                found[name][f"lift_over_{base}"] = _figures(fewer, name, asked, base)["lift"]
    return found


def _of_known(used: Sequence[str], known: set[str]) -> tuple[str, ...]:
    """The scores of a row; without descriptions, titles are all the text there is. None where the encoder is wanted and not there."""
    if set(used) & set(ENCODED) and not set(ENCODED) <= known:
        return ()
    return tuple("texts" if name == "words" and name not in known else name for name in used)


def _figures(said: Mapping[str, np.ndarray], name: str, asked: Asked, over: str = TODAY) -> dict[str, Any]:
    """Areas of a row, within users and pooled, and the paired lift over another one (genres, years and categories)."""
    scores, base = said[name], said[over]
    own, other = asked.within(scores), asked.within(base)
    pooled, pooled_base = (resampled_area(one, asked.chosen, asked.person, asked.weights) for one in (scores, base))
    value, value_base = (float(area_under_curve(one, asked.chosen)[0]) for one in (scores, base))
    found = {
        "auc": plain(estimate(float(own.mean()), asked.resampled_mean(own), asked.people)),
        "auc_pooled": plain(estimate(value, pooled, asked.people)),
        "lift": plain(estimate(float((own - other).mean()), asked.resampled_mean(own - other), asked.people)),
        "lift_pooled": plain(estimate(value - value_base, pooled - pooled_base, asked.people)),
    }
    return {
        key: {part: round(number, 5) if isinstance(number, float) else number for part, number in one.items()} for key, one in found.items()
    }


def texts_of(catalog: Catalog) -> list[str]:
    """One text for each item: title, year, genres, description."""
    return [
        " ".join(str(part) for part in (title, year, ", ".join(genres or []), description) if part)
        for title, year, genres, description in catalog.items.select("title", "year", "genres", "description").iter_rows()
    ]


def table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each data set and evidence, for people to read."""

    def shown(one: Mapping[str, Any], form: str) -> str:
        return f"{one['value']:{form}} [{one['low']:{form}}, {one['high']:{form}}]"

    lines = []
    for name, own in found["data"].items():
        for row, one in own.get("rows_auc", {"": {"why": own.get("not_measured", "")}}).items():
            told = {"AUC within users": one["why"]} if "why" in one else {"AUC within users": shown(one["auc"], ".3f")}
            more = {} if "why" in one else {"pooled": shown(one["auc_pooled"], ".3f"), "lift": shown(one["lift"], "+.3f")}
            lines.append({"data": name, "evidence": row.replace("_", " "), **told, "pooled": "", "lift": "", **more})
    return lines
