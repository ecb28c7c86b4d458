"""What live runs share: data, people, fitted parts and language model, and the settings in force.

Everything is prepared as `usersim run` prepares it (`experiments.run.prepare`, `experiments.build`), in a temporary folder that is
removed at the end; a run that is continued here is only read.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from environments.feed import FeedConfig
from experiments import build
from experiments import config as configuration
from experiments.anchor import with_common_anchor
from experiments.config import ExperimentConfig
from experiments.dashboard.changeable import check_change
from experiments.interview import Conversation, interview_model, interview_prompts, writes_texts
from experiments.manifest import check_training_data
from experiments.round_recommender import fit_recommender
from experiments.run import Prepared, Report, prepare
from experiments.sections import RecommenderSection
from experiments.stored_settings import config_of
from experiments.told import read_told
from experiments.trust import own
from simulator.errors import ConfigError, RunError
from simulator.files import write_atomically
from simulator.protocols import LanguageModel
from simulator.records import Past, UserProfile
from simulator.run_directory import RunDirectory
from simulator.simulation import CohortTask, Plan, cohorts_of, join_round

FROM_THE_NEXT_PAGE = ("recommender", "decision")
"""Sections whose settings can be changed between two page turns."""

AT_THE_START = (*FROM_THE_NEXT_PAGE, "memory", "rounds", "round_days")
"""Sections and keys that can be changed when the people start over."""

NOT_BETWEEN_PAGES = ("recommender.max_pages", "recommender.repeat", "recommender.refit", "decision.max_fallback_share")
"""Of the settings above, those that only a new start takes up."""


@dataclass(frozen=True)
class Parts:
    """What one set of settings needs: its configuration, its folder, what was prepared, and the worker that makes cohorts."""

    config: ExperimentConfig
    run: RunDirectory
    begun: Prepared
    worker: build.CohortWorker


class World:
    """Prepares live runs and changes their settings.

    Args:
        config: of the experiment.
        people: how many people are simulated live, >= 1: the first by the stable hash that also makes cohorts.
        report: told of the progress.
        source: folder of a complete run that goes on here, or None to begin before the first round.

    Attributes:
        people: who is simulated. first_round: number of the first live round. pasts: what they bring into it, by id.
        interactions: what everybody did before it (codes). began_with: the experiment as it was given. parts: the settings in force.
        lock: held while anything is computed.
        live: the newest live run (`experiments.dashboard.live.LiveRun`), or None.

    Raises:
        UsersimError: anything the user can mend.
    """

    def __init__(self, config: ExperimentConfig, people: int, report: Report, source: Path | None = None) -> None:
        build.resolved(config)
        self.began_with = config
        self.lock = threading.RLock()
        self.source = source
        self.live: object | None = None
        self._report = report
        self._folder = Path(tempfile.mkdtemp(prefix="usersim-dashboard-"))
        self._variants = 0
        self._interviewer: LanguageModel | None = None
        self._conversations: dict[str, Conversation] = {}
        try:
            self.parts = self._parts(config, [source] if source else [])
            self.people = list(cohorts_of(self.parts.begun.people, people)[0])
            self.first_round, self.pasts, self.interactions = 0, dict[str, Past](), _nothing()
            if source is not None:
                check_training_data(RunDirectory(source), self.parts.begun.train)
                self.first_round = config.rounds
                self.pasts, self.interactions = _so_far(self.parts.begun.plan, source)
        except BaseException:
            self.close()
            raise

    @property
    def plan(self) -> Plan:
        """Of the live people alone, in one cohort."""
        return replace(self.parts.begun.plan, people=self.people, cohort_size=len(self.people))

    def task(self, round_number: int, pasts: dict[str, Past], interactions: pl.DataFrame) -> CohortTask:
        """The live cohort in one round, with the recommender of that round fitted.

        Args:
            round_number: from 0.
            pasts: what people bring, by id. interactions: what was done so far, which the recommender learns from.
        """
        plan = self.plan
        self._report(f"round {round_number + 1}: fitting the recommender", 0, 0, None)
        fitted = self._fit(round_number, interactions)
        start = plan.origin + round_number * plan.round_seconds
        past = tuple(pasts.get(person.user_id, Past()) for person in self.people)
        return CohortTask(round_number, fitted, 0, tuple(self.people), past, start, start + plan.round_seconds, plan.origin)

    def change(self, overrides: Sequence[str], allowed: Sequence[str], refused: Sequence[str] = ()) -> None:
        """Puts other settings in force.

        Args:
            overrides: settings ``section.key=value``.
            allowed: sections and keys that may be changed now. refused: keys among them that may not.

        Raises:
            ConfigError, PluginError: a setting may not be changed now, or not from the page (`experiments.dashboard.changeable`), or is not
                allowed; nothing has changed then.
        """
        for override in overrides:
            path, value = configuration.parsed_override(override)
            key = ".".join(path)
            if key in refused:
                raise ConfigError(f"{key} cannot change between two pages; start over with it.")
            if path[0] not in allowed:
                names = ", ".join(name if name.startswith("round") else f"{name}.*" for name in allowed)
                raise ConfigError(
                    f"{key} cannot be changed here; what can be is {names}. For anything else start the dashboard anew with --set."
                )
            check_change(key, value, self.began_with.recommender.use)
        config = with_common_anchor(changed(self.parts.config, overrides, self.began_with), self.began_with.recommender)
        build.resolved(config)
        before = self.parts
        with own(self.began_with, before.config):
            self.parts = self._parts(config, [before.run.path])
        before.worker.close()

    def conversation(self, person: UserProfile) -> Conversation:
        """The interview with one person, which goes on where it was.

        Raises:
            ConfigError: the experiment has no language model.
        """
        if self._interviewer is None and writes_texts(self.parts.config, read_told(self.parts.run.path).figures):
            self._interviewer = interview_model(self.parts.config, "of this experiment")
        if person.user_id not in self._conversations:
            prompts = interview_prompts(self.parts.begun.train)
            self._conversations[person.user_id] = Conversation(
                self._interviewer, prompts, person, (), self.parts.config.seed, self.parts.begun.train.rating_scale
            )
        return self._conversations[person.user_id]

    def forget_conversations(self) -> None:
        """Ends all interviews, because the people start over."""
        self._conversations.clear()

    def live_folder(self) -> RunDirectory:
        """A new folder for the shards of a live run."""
        return RunDirectory.create(Path(tempfile.mkdtemp(prefix="live-", dir=self._folder)))

    def close(self) -> None:
        """Frees the language models and removes the temporary folder."""
        parts: Parts | None = getattr(self, "parts", None)
        if parts is not None:
            parts.worker.close()
        if self._interviewer is not None:
            self._interviewer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _parts(self, config: ExperimentConfig, prepared: Sequence[Path]) -> Parts:
        run = RunDirectory.create(self._folder / f"settings-{self._variants}")
        self._variants += 1
        write_atomically(run.config_path, configuration.dump(config, build.resolved(config)))
        begun = prepare(run, config, None, self._report, prepared)
        return Parts(config, run, begun, build.CohortWorker(begun.blueprint))

    def _fit(self, round_number: int, interactions: pl.DataFrame) -> int:
        """Fits the recommender of a round under the settings in force, if it is not there; the round whose recommender serves."""
        config, run = self.parts.config, self.parts.run
        fitted = sorted(int(folder.name.removeprefix("round-")) for folder in (run.path / "recommenders").glob("round-*"))
        if config.recommender.refit == "never" and fitted:
            return fitted[0]
        learned = interactions.clear() if config.recommender.refit == "never" else interactions
        goes_on = round_number - 1 in fitted  # else what it would go on from was learned under other settings
        fit_recommender(run, config, self.parts.begun.train, round_number, learned, goes_on=goes_on)
        return round_number


def open_world(target: Path, overrides: Sequence[str], people: int, report: Report) -> World:
    """The world of an experiment file, or of a complete run that goes on.

    Raises:
        UsersimError: anything the user can mend.
    """
    if not target.is_dir():
        return World(configuration.read(target, overrides), people, report)
    run = RunDirectory.open(target, complete=True)
    config = config_of(run)
    return World(changed(config, overrides) if overrides else config, people, report, target)


def changed(config: ExperimentConfig, overrides: Sequence[str], began_with: ExperimentConfig | None = None) -> ExperimentConfig:
    """The experiment with other settings; options of a component that is exchanged for another one are dropped.

    Args:
        config: in force. overrides: settings ``section.key=value``.
        began_with: whose recommender gets its own options back where it is chosen again, or None.

    Raises:
        ConfigError: a setting is malformed or not allowed.
    """
    document = config.model_dump(mode="json", exclude_none=True)
    if config.language_model is None:
        document["language_model"] = False
    for override in overrides:
        (section, *keys), value = configuration.parsed_override(override)
        if keys == ["use"] and isinstance(document.get(section), dict):
            document[section] = _without_options(section, document[section], str(value))
            if began_with is not None and section == "recommender" and value == began_with.recommender.use:
                document[section] |= began_with.recommender.options_of_recommender
        configuration.apply_override(document, override)
    return configuration.check(document, "the dashboard")


def _without_options(section: str, content: dict[str, Any], use: str) -> dict[str, Any]:
    if content.get("use") == use:
        return content
    annotation = ExperimentConfig.model_fields[section].annotation
    own = set(getattr(annotation, "model_fields", {}))
    keep = own | (set(FeedConfig.model_fields) if annotation is RecommenderSection else set())
    return {key: value for key, value in content.items() if key in keep}


def _so_far(plan: Plan, source: Path) -> tuple[dict[str, Past], pl.DataFrame]:
    """What everybody brings out of a complete run, and everything that was done in it."""
    run, cohorts = RunDirectory(source), range(len(cohorts_of(plan.people, plan.cohort_size)))
    pasts: dict[str, Past] = {}
    done: list[pl.DataFrame] = [_nothing()]
    for number in range(plan.rounds):
        missing = _missing(run, number, cohorts)
        if missing:
            raise RunError(
                f"the run {source} no longer has {missing}, from which people's memories come; run it again, or give its config.toml."
            )
        pasts, simulated = join_round(plan, run, number, cohorts, pasts)
        done.append(simulated)
    return pasts, pl.concat(done)


def _missing(run: RunDirectory, round_number: int, cohorts: Iterable[int]) -> Path | None:
    return next((run.shard_folder(round_number, cohort) for cohort in cohorts if not run.has_shard(round_number, cohort)), None)


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"user": pl.Int32(), "item": pl.Int32(), "rating": pl.Float32(), "timestamp": pl.Int64()})
