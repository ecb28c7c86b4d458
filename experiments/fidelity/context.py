"""What every part of a fidelity report is measured with: the data, the people, the decision models, the randomness.

A part is a function ``measure(context) -> dict`` whose result is JSON. The held-out interactions (`FidelityContext.held_out`)
are opened by these parts and nowhere else: models and profiles come from the training part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from agents.exposures import PeopleSplit, people_split
from agents.profiles import fit_profiles
from environments.datasets.splits import Split
from experiments.config import ExperimentConfig
from experiments.fidelity.foreign import ForeignLog
from experiments.fidelity.models import DecisionModels
from experiments.fidelity.pages import MOST_ASKED
from experiments.run_data import data_of
from simulator.dataset import Dataset
from simulator.errors import DataError
from simulator.records import UserProfile
from simulator.seeds import Stream

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and of how much (0: unknown)."""


def silent(what: str, done: int, total: int) -> None:
    """A `Report` that says nothing."""


@dataclass(frozen=True, eq=False)
class FidelityContext:
    """Everything that a part of the report may use.

    Attributes:
        config: the experiment; ``config.recommender.feed_config().page_size`` is the size of a page.
        split: the training part (`split.train`) and the held-out interactions (`split.test`), the same people and items.
        profiles: user code -> profile from the training part, of everybody who has a training interaction.
        people: codes of the held-out people who are judged, int32, ascending; each has a profile and a held-out interaction.
        models: name -> fitted decision model (`experiments.fidelity.models`), made when first asked for, with one shared
            language model behind a cache. `models.available` lists the names, `models.main` is the experiment's own.
        folder: where the report is written and intermediate results are kept (``parts/``).
        run: folder of the complete run whose log is compared, or None. log: a log of somebody else that is compared instead, or None.
        stream: randomness of the whole report; take a child named after the part.
        bootstrap: resamples of people behind every interval.
        report: told of the progress.
    """

    config: ExperimentConfig
    split: Split
    profiles: Mapping[int, UserProfile]
    people: np.ndarray
    models: DecisionModels
    folder: Path
    run: Path | None
    stream: Stream
    bootstrap: int
    report: Report = field(default=silent)
    log: ForeignLog | None = None

    @property
    def train(self) -> Dataset:
        """The training part."""
        return self.split.train

    @property
    def page_size(self) -> int:
        """Items on a page of the experiment."""
        return self.config.recommender.feed_config().page_size

    @property
    def question_size(self) -> int:
        """Items on a page that is asked about outside of a run: as in the experiment, and at most `MOST_ASKED`."""
        return min(self.page_size, MOST_ASKED)

    @property
    def user_ids(self) -> list[str]:
        """The data's own ids by user code."""
        ids: list[str] = self.train.users["user_id"].to_list()
        return ids

    @cached_property
    def roles(self) -> PeopleSplit:
        """Who is for fitting, for thresholds and weights (validation), and held out."""
        return people_split(self.train)

    @cached_property
    def held_out(self) -> pl.DataFrame:
        """The held-out interactions of `people`, `INTERACTIONS_SCHEMA`, sorted by person."""
        return self.split.test.filter(pl.col("user").is_in(self.people.tolist())).sort("user", maintain_order=True)

    @property
    def parts(self) -> Path:
        """Folder of intermediate results; it exists."""
        folder = self.folder / "parts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def make_context(
    config: ExperimentConfig,
    folder: Path,
    *,
    run: Path | None,
    people: int,
    bootstrap: int,
    seed: int | None = None,
    report: Report = silent,
) -> FidelityContext:
    """Reads the data and gets to know the people; nothing is fitted or asked yet.

    Args:
        config: the experiment.
        folder: of the report.
        run: a complete run of the experiment, or None.
        people: at most so many held-out people are judged; the first by a draw of the seed.
        bootstrap: resamples of people.
        seed: of the report; the experiment's if None.
        report: told of the progress.

    Raises:
        DataError: the data has no held-out person with a held-out interaction.
    """
    report("reading the data", 0, 0)
    parts = data_of(config, run)
    profiles = fit_profiles(parts.train)
    stream = Stream(config.seed if seed is None else seed).child("fidelity")
    judged = judged_people(parts, profiles, people, stream.child("people"))
    return FidelityContext(
        config=config,
        split=parts,
        profiles={profile.user: profile for profile in profiles},
        people=judged,
        models=DecisionModels(config, parts.train, profiles, folder, run),
        folder=folder,
        run=run,
        stream=stream,
        bootstrap=bootstrap,
        report=report,
    )


def judged_people(parts: Split, profiles: Sequence[UserProfile], most: int, rng: Stream) -> np.ndarray:
    """Held-out people with a profile and a held-out interaction, at most so many, int32, ascending.

    Raises:
        DataError: there is none.
    """
    known = np.intersect1d(np.array([profile.user for profile in profiles]), parts.test["user"].unique().to_numpy())
    able = np.intersect1d(people_split(parts.train).held_out, known)
    if not len(able):
        raise DataError(
            f"data set '{parts.train.name}' with {parts.train.n_users} people has no held-out person with a held-out interaction; "
            "fidelity needs more people, or a split that holds something out of each person's interactions."
        )
    return np.sort(rng.generator().permutation(able)[:most]).astype(np.int32)
