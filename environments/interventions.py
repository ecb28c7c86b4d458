"""Interventions: adverts, prices and explanations beside some items, for some people, from some round on.

In an experiment file they are tables below ``[interventions]``, one each, whose name is the intervention's::

    [interventions.advert]
    kind = "advert"                     # or "price", "explanation"
    text = "everybody talks about it"   # what stands beside the item
    items = {popular = 100}             # or {share = 0.2}, {worst = 100}, {genre = "Drama"}, {ids = ["50", "181"]} ...
    share = 0.5                         # of the people, by a stable hash of their id; the others are the control group
    from_round = 1

They change nothing of what is shown: the recommender, the places and the propensities are those of the same experiment without
them. What is added is what stands beside the item, and it is logged who met it (columns ``targeted`` and ``treated`` of the
impressions, and the table ``treatments``). **How people respond** is one of two things, and the file says which: a response is assumed
(`response` = a number, log-odds of choosing, 0 by default), or they read the text (`response` = "read", only people with a language
model that was seen to read, `experiments.note_reading`).
An assumed response is put in by hand: it shows what an experiment would measure, and how well, and is no finding about people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field, model_validator

from simulator.dataset import Dataset
from simulator.errors import ConfigError, with_suggestion
from simulator.plugins import ComponentConfig, distinct
from simulator.protocols import Environment
from simulator.records import Impression, Note, Page, PageRequest, UserProfile
from simulator.seeds import Stream

PSEUDO_RATINGS = 10.0
"""The mean rating that `worst` and `best` go by is shrunk to the overall mean by so many ratings."""


class TargetConfig(ComponentConfig):
    """Which items an intervention aims at; exactly one rule.

    Attributes:
        ids: these items, by the data set's ids.
        share: this share of the catalog, by a stable hash of the item's id.
        popular, unpopular: so many items with the most, or fewest, training interactions.
        best, worst: so many items with the highest, or lowest, mean training rating, shrunk by ten ratings of the overall mean.
        genre: all items with this genre.
    """

    ids: Annotated[tuple[str | int, ...], AfterValidator(distinct)] | None = Field(None, min_length=1)
    share: float | None = Field(None, gt=0, le=1)
    popular: int | None = Field(None, ge=1, le=1_000_000_000)
    unpopular: int | None = Field(None, ge=1, le=1_000_000_000)
    best: int | None = Field(None, ge=1, le=1_000_000_000)
    worst: int | None = Field(None, ge=1, le=1_000_000_000)
    genre: str | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of {', '.join(type(self).model_fields)}, and has {found}")
        return self


class InterventionConfig(ComponentConfig):
    """One intervention.

    Attributes:
        kind: "advert", "price" or "explanation": how the text is put into words for those who read it.
        text: what stands beside an item for the treated; control_text: for the others (empty: nothing).
        items: which items it aims at.
        unit: "person" treats a share of the people, always the same; "impression" draws anew for every shown item.
        share: of the units, in [0, 1]. 0 and 1 treat nobody and everybody, which is how the truth is known.
        group: interventions of the same group treat the same people; the intervention's own name by default.
        from_round, to_round: first and last round in which it acts, from 0; to the end if `to_round` is None.
        response: the log-odds that are assumed to be added to choosing a treated item, by default 0; then nobody reads the text, so that it
            does not act twice. "read" if people read it, which a run refuses of a language model that was not seen to read.
    """

    kind: Literal["advert", "price", "explanation"]
    text: str = Field("", max_length=200)
    control_text: str = Field("", max_length=200)
    items: TargetConfig
    unit: Literal["person", "impression"] = "person"
    share: float = Field(0.5, ge=0, le=1)
    group: str | None = Field(None, min_length=1)
    from_round: int = Field(0, ge=0, le=10_000)
    to_round: int | None = Field(None, ge=0, le=10_000)
    response: Literal["read"] | Annotated[float, Field(ge=-100, le=100)] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.response == "read" and not self.text:
            raise ValueError("response = 'read' needs a text that people can read")
        if isinstance(self.response, float) and not np.isfinite(self.response):
            raise ValueError("response must be 'read' or a finite number of log-odds")
        if self.to_round is not None and self.to_round < self.from_round:
            raise ValueError(f"to_round = {self.to_round} is before from_round = {self.from_round}")
        return self

    def acts_in(self, round_number: int) -> bool:
        """Whether it acts in this round (from 0)."""
        return self.from_round <= round_number and (self.to_round is None or round_number <= self.to_round)


@dataclass(frozen=True, slots=True)
class Intervention:
    """An intervention of an experiment on one data set.

    Attributes:
        name, config: of the experiment file.
        targets: codes of the items it aims at.
    """

    name: str
    config: InterventionConfig
    targets: frozenset[int]

    def treats(self, user_id: str, stream: Stream) -> bool:
        """Whether a person is in the treated group (of an intervention on people).

        Args:
            user_id: the data set's id of the person. stream: of the run; the name of the group and the id do the rest.
        """
        return _uniform(stream.child("intervention", self.config.group or self.name, "person", user_id)) < self.config.share


def aimed(configs: Mapping[str, InterventionConfig], train: Dataset, stream: Stream) -> tuple[Intervention, ...]:
    """The interventions of an experiment with the items that they aim at.

    Args:
        configs: by name. train: the training part; popularity and ratings are read from it.
        stream: of the run; names the hash of items for `share`.

    Raises:
        ConfigError: an item or a genre is not in the data, or the data has no ratings to find the best or worst by.
    """
    return tuple(Intervention(name, config, frozenset(_targets(name, config.items, train, stream))) for name, config in configs.items())


def assignments(interventions: Sequence[Intervention], people: Sequence[UserProfile], stream: Stream) -> pl.DataFrame:
    """Who is treated: the table ``treatments`` of a run.

    Returns:
        Columns user, intervention, treated; one row per person and intervention on people, sorted.
    """
    rows = [
        {"user": person.user_id, "intervention": one.name, "treated": one.treats(person.user_id, stream)}
        for one in interventions
        if one.config.unit == "person"
        for person in people
    ]
    schema = {"user": pl.String(), "intervention": pl.String(), "treated": pl.Boolean()}
    return pl.DataFrame(rows, schema=schema).sort("user", "intervention")


class Intervened:
    """An environment whose pages carry the notes of interventions; it serves what the environment within serves.

    Args:
        environment: what makes the pages.
        interventions: all of the experiment; those that do not act in this round do nothing.
        round_number: from 0.
        user_ids: the data set's id of each person who may ask, by user code.
        stream: of the run.
    """

    def __init__(
        self,
        environment: Environment,
        interventions: Sequence[Intervention],
        round_number: int,
        user_ids: Mapping[int, str],
        stream: Stream,
    ) -> None:
        self._environment = environment
        self._acting = [one for one in interventions if one.config.acts_in(round_number)]
        treated = {user: {one.name for one in self._acting if one.treats(user_id, stream)} for user, user_id in user_ids.items()}
        self._treated: Mapping[int, set[str]] = treated

    def serve(self, requests: Sequence[PageRequest]) -> list[Page | None]:
        """See `simulator.protocols.Environment.serve`."""
        pages = self._environment.serve(requests)
        return [page and self._noted(page, request) for page, request in zip(pages, requests, strict=True)]

    def _noted(self, page: Page, request: PageRequest) -> Page:
        return replace(page, impressions=tuple(self._with_notes(impression, request) for impression in page.impressions))

    def _with_notes(self, impression: Impression, request: PageRequest) -> Impression:
        notes = tuple(self._note(one, impression.item, request) for one in self._acting if impression.item in one.targets)
        return replace(impression, notes=notes) if notes else impression

    def _note(self, one: Intervention, item: int, request: PageRequest) -> Note:
        config = one.config
        if config.unit == "person":
            treated = one.name in self._treated[request.user]
        else:
            treated = _uniform(request.stream.child("intervention", config.group or one.name, item)) < config.share
        if isinstance(config.response, float):
            return Note(one.name, config.kind, treated, "", config.response if treated else 0.0)
        return Note(one.name, config.kind, treated, config.text if treated else config.control_text, 0.0)


def _targets(name: str, rule: TargetConfig, train: Dataset, stream: Stream) -> list[int]:
    where, n = f"[interventions.{name}] items", train.n_items
    if rule.ids is not None:
        codes = {str(item): code for code, item in enumerate(train.catalog.item_ids)}
        unknown = [str(item) for item in rule.ids if str(item) not in codes]
        if unknown:
            raise ConfigError(f"{where}: there is no item '{unknown[0]}' in {train.name}; use the data set's own item ids.")
        return [codes[str(item)] for item in rule.ids]
    if rule.share is not None:
        hashed = stream.child("intervention", "items", name)
        return [code for code, item in enumerate(train.catalog.item_ids) if _uniform(hashed.child(str(item))) < rule.share]
    if rule.genre is not None:
        genres = train.catalog.genre_names
        if rule.genre not in genres:
            raise ConfigError(f"{where}: {with_suggestion('genre', rule.genre, genres)}")
        return [int(item) for item in np.flatnonzero(train.catalog.genre_matrix[:, genres.index(rule.genre)])]
    items = train.interactions["item"].to_numpy()
    counts = np.bincount(items, minlength=n).astype(np.float64)
    if rule.popular is not None or rule.unpopular is not None:
        order = np.argsort(-counts if rule.popular is not None else counts, kind="stable")
        return [int(item) for item in order[: rule.popular or rule.unpopular]]
    if not train.has_ratings:
        raise ConfigError(f"{where}: {train.name} has no ratings, so there are no best or worst items; use popular, share, genre or ids.")
    ratings = train.interactions["rating"].to_numpy().astype(np.float64)
    mean = (np.bincount(items, weights=ratings, minlength=n) + PSEUDO_RATINGS * ratings.mean()) / (counts + PSEUDO_RATINGS)
    rated = np.flatnonzero(counts > 0)
    order = rated[np.argsort(-mean[rated] if rule.best is not None else mean[rated], kind="stable")]
    return [int(item) for item in order[: rule.best or rule.worst]]


def _uniform(stream: Stream) -> float:
    """A stable hash of a stream's name in [0, 1), with 53 bits."""
    return (stream.key() >> 75) / 2**53
