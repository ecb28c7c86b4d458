"""The only wiring place: makes every part of a simulation from an experiment's configuration."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mesa
import polars as pl
import psutil

from agents.actions import actions_for, on_scale
from agents.arrivals import Window
from agents.memory import NoMemory
from agents.user import Habits, UserAgent
from environments.datasets.splits import Split, split
from environments.datasets.understood import told
from environments.feed import Feed
from environments.interventions import Intervened, Intervention
from experiments import anchor
from experiments import config as configuration
from experiments.config import ExperimentConfig
from experiments.sections import Section
from experiments.without_model import other_switches, refuse_switch
from simulator.dataset import Catalog, Dataset
from simulator.errors import ConfigError, RunError, UsersimError
from simulator.execution import release_memory
from simulator.files import damage, reading
from simulator.llm.cache import CachedLanguageModel
from simulator.llm.timed import Timed
from simulator.log import CohortLog
from simulator.one_thread import one_thread
from simulator.paths import cache_folder
from simulator.plugins import build, load, portable, resolve
from simulator.protocols import DataChecker, DecisionContext, DecisionModel, Environment, LanguageModel, Memory, Recommender
from simulator.records import Action, Usage
from simulator.run_directory import RunDirectory
from simulator.run_log import join_log
from simulator.seeds import Stream
from simulator.session import Cohort
from simulator.simulation import CohortResult, CohortTask, write_shard

_LOG = logging.getLogger("simulator.data")

METHODS = {
    "dataset": ("load",),
    "recommender": ("fit", "recommend", "save", "load"),
    "memory": ("remember", "recall", "records", "restore"),
    "decision": ("fit", "decide", "close_sessions", "save", "load"),
    "language_model": ("score", "generate", "count_tokens", "close"),
}
"""What the component of each section must define."""

LEDGER = "ledger.sqlite"
"""File of a run in which a language model on a server counts what was spent."""


def resolved(config: ExperimentConfig) -> dict[str, dict[str, Any]]:
    """The options of every component with defaults filled in; checks all of them.

    Raises:
        ConfigError, PluginError: the first thing that is wrong.
    """
    feed = config.recommender.feed_config().model_dump(mode="json")
    sections: dict[str, tuple[Section, dict[str, Any]]] = {
        "dataset": (config.dataset, config.dataset.options),
        "memory": (config.memory, config.memory.options),
        "decision": (config.decision, config.decision.options),
        "recommender": (config.recommender, _recommender_options(config)),
    }
    if config.anchor is not None:
        sections["anchor"] = (config.anchor, config.anchor.options_of_recommender)
    if config.language_model is not None:
        sections["language_model"] = (config.language_model, config.language_model.options)
    refuse_switch(config.decision, asks=decides_with_language_model(config))
    options = {
        name: {
            **resolve(section.use, given, where=name, methods=METHODS[name.replace("anchor", "recommender")], also=section.own_keys),
            "use": portable(section.use),
        }
        for name, (section, given) in sections.items()
    }
    if uses_language_model(config) and config.language_model is None:
        raise ConfigError(other_switches(config, decides=decides_with_language_model(config)))
    _check_interventions(config)
    options["recommender"] |= feed
    if config.anchor is not None:
        options["anchor"] |= config.anchor.feed_config().model_dump(mode="json")
    if config.language_model is not None and config.language_model.cache_path is not None:
        options["language_model"]["cache_path"] = str(config.language_model.cache_path.expanduser().resolve())
    return options


def _check_interventions(config: ExperimentConfig) -> None:
    """Interventions must have a round in which they act, and people who read them must be able to read.

    Raises:
        ConfigError: names the intervention, and what to write instead.
    """
    for name, one in config.interventions.items():
        where = f"[interventions.{name}]"
        if one.from_round >= config.rounds:
            rounds = f"rounds = {config.rounds}, counted from 0"
            raise ConfigError(f"{where} from_round = {one.from_round}, but the experiment has {rounds}, so it would never act.")
        if one.response == "read" and not decides_with_language_model(config):
            raise ConfigError(
                f"{where} response = 'read', but people of {config.decision.use} ask no language model here and cannot read; use one, "
                "or state the response that you assume as a number of log-odds, for example response = 0.5."
            )


def uses_language_model(config: ExperimentConfig) -> bool:
    """Whether this experiment asks a language model anything."""
    return decides_with_language_model(config) or config.population.taste


def decides_with_language_model(config: ExperimentConfig) -> bool:
    """Whether a language model has a part in what people decide."""
    decision = load(config.decision.use, methods=METHODS["decision"])
    asks = getattr(decision, "uses_language_model", True)
    return bool(asks(config.decision.options) if callable(asks) else asks)


def dataset(config: ExperimentConfig) -> Dataset:
    """The data set of an experiment, read and not split."""
    section = config.dataset
    found: Dataset = build(section.use, section.options, where="dataset", methods=METHODS["dataset"], also=section.own_keys).load()
    return found


def data(config: ExperimentConfig, whole: Dataset | None = None) -> Split:
    """The data set of an experiment, read unless it is given, and split; the log says how it was understood, and what must be known."""
    whole = dataset(config) if whole is None else whole
    for line in told(whole):
        _LOG.info("%s", line)
    parts = split(whole, config.dataset.split_config(), Stream(config.seed).child("split"))
    for note in parts.train.notes[len(whole.notes) :]:
        _LOG.info("note: %s", note)
    return parts


def actions(dataset: Dataset) -> tuple[Action, ...]:
    """The actions for a data set, with ratings in the data's own units and on its own values."""
    return tuple(on_scale(action, dataset) if action.needs_ratings and dataset.rating_scale else action for action in actions_for(dataset))


def language_model(
    config: ExperimentConfig, *, always: bool = False, fixed: Mapping[str, str] | None = None, **settings: int | Path | None
) -> LanguageModel | None:
    """The language model of an experiment, or None if nothing asks one; behind its cache if the experiment wants one.

    Args:
        config: the experiment.
        always: makes it even if the simulation itself asks nothing.
        fixed: the inference settings of a run that goes on, from `fixed_inference`.
        settings: options to use instead of the experiment's, where the backend has such an option; None changes nothing.
            A ledger that the experiment names stays.
    """
    section = config.language_model
    if section is None or not (always or uses_language_model(config)):
        return None
    known = getattr(getattr(load(section.use, methods=METHODS["language_model"]), "Config", None), "model_fields", {})
    given = {**settings, **(fixed or {})}
    options = section.options | {name: value for name, value in given.items() if value is not None and name in known}
    if "ledger" in section.options:
        options["ledger"] = section.options["ledger"]
    make = partial(build, section.use, options, where="language_model", methods=METHODS["language_model"])
    if section.cache == "off":
        made: LanguageModel = make()
        return made
    resolved_options = resolve(section.use, options, where="language_model", methods=METHODS["language_model"])
    source = {"use": portable(section.use)} | {name: value for name, value in resolved_options.items() if name not in ("threads", "ledger")}
    ours = section.cache_path is None
    path = section.cache_path or cache_folder() / "language_model.sqlite"
    return CachedLanguageModel(make, path.expanduser(), section.cache, json.dumps(source, sort_keys=True, default=str), ours=ours)


def fixed_inference(config: ExperimentConfig, runs: Sequence[Path]) -> dict[str, str]:
    """The engine and formats that a run was begun with, so that it goes on with them wherever "auto" would take others now.

    Args:
        config: the experiment. runs: folders of runs, the first that has a manifest and the same language model decides.
    """
    for folder in runs:
        run = RunDirectory(folder)
        try:
            same = resolved(configuration.of_run(run.config_path)).get("language_model") == resolved(config).get("language_model")
            settings = (run.read_json("manifest").get("model") or {}).get("settings", {}) if same else {}
        except (UsersimError, OSError, ValueError, AttributeError):
            continue  # who reads the run itself says what is wrong with it
        if found := {name: str(settings[name]) for name in ("engine", "format", "text_format") if name in settings}:
            return found
    return {}


def recommender(config: ExperimentConfig) -> Recommender:
    """A new, unfitted recommender."""
    use = config.recommender.use
    made: Recommender = build(use, _recommender_options(config), where="recommender", methods=METHODS["recommender"])
    return made


def check_recommender(config: ExperimentConfig, train: Dataset) -> None:
    """Asks the recommender whether it can be fitted to the training part, if it knows that before (`simulator.protocols.DataChecker`).

    Raises:
        UsersimError: it cannot.
    """
    made = recommender(config)
    if isinstance(made, DataChecker):
        made.check_data(train.interactions, train.catalog)


def _recommender_options(config: ExperimentConfig) -> dict[str, Any]:
    """The recommender's own options; ``refit = "warm"`` turns its `warm_start` on, or that of the base of a reranker.

    Raises:
        ConfigError: it cannot start warm.
    """
    section = config.recommender
    options = section.options_of_recommender
    return options if section.refit != "warm" else _warm(section.use, options)


def _warm(use: str, options: dict[str, Any]) -> dict[str, Any]:
    known = getattr(getattr(load(use, methods=METHODS["recommender"]), "Config", None), "model_fields", {})
    if "warm_start" in known:
        return {**options, "warm_start": True}
    base = options.get("base")
    if "base" in known and isinstance(base, dict) and isinstance(base.get("use"), str):
        return {**options, "base": _warm(base["use"], base)}
    raise ConfigError(
        f"[recommender] refit = 'warm', but {use} has no option warm_start, so it cannot go on from what it learned before; "
        "use refit = 'scratch' or 'never', or a recommender that is trained step by step, such as "
        "environments.recommenders.bpr:BPR or environments.recommenders.als:ALS."
    )


def policy_id(config: ExperimentConfig) -> str:
    """A short readable id of recommender, options and exposure rule, such as ``BPR-3f2a91``.

    Equal configurations have equal ids, whether a default is written out (as in a resumed run) or not.
    """
    section = config.recommender
    feed = config.recommender.feed_config()
    own = resolve(section.use, _recommender_options(config), where="recommender", methods=METHODS["recommender"])
    options = {"use": portable(section.use), **own, **feed.model_dump(mode="json")}
    digest = hashlib.blake2b(json.dumps(options, sort_keys=True, default=str).encode(), digest_size=3).hexdigest()
    explores = "" if feed.exploration == "none" else f"+{feed.exploration}"
    return f"{section.use.rpartition(':')[2]}{explores}-{digest}"


def reads_memories(config: ExperimentConfig) -> bool:
    """Whether anything that people decide can depend on what they remember (see `simulator.protocols.DecisionModel`)."""
    reads = getattr(load(config.decision.use, methods=METHODS["decision"]), "reads_memories", True)
    return bool(reads(config.decision.options) if callable(reads) else reads)


def memory(config: ExperimentConfig, catalog: Catalog) -> Memory:
    """The empty memory of one person; one that keeps nothing where nobody would read it."""
    if not reads_memories(config):
        return NoMemory(NoMemory.Config(), catalog=catalog)
    section = config.memory
    made: Memory = build(section.use, section.options, where="memory", methods=METHODS["memory"], catalog=catalog)
    return made


def habits(config: ExperimentConfig, catalog: Catalog, rating_scale: tuple[float, float] | None) -> Habits:
    """What is the same for all people of an experiment."""
    feed = config.recommender.feed_config()
    people, told = config.population, reads_memories(config)
    return Habits(catalog, rating_scale, feed.max_pages, people.sessions, config.memory.recall_at, people.history, feed.repeat, told)


def decisions(config: ExperimentConfig, context: DecisionContext) -> DecisionModel:
    """The decision model, before it is fitted or loaded."""
    section = config.decision
    made: DecisionModel = build(section.use, section.options, where="decision", methods=METHODS["decision"], context=context)
    return made


def restore(part: DecisionModel | Recommender, folder: Path, *, check: bool = True) -> None:
    """Loads what a decision model or a recommender saved in a run.

    Args:
        part: unfitted. folder: of the run. check: whether the sums of its files are compared first; False where that has just been done.

    Raises:
        RunError: the folder is missing or damaged.
    """
    way_out = "start the run again, or, if it is not complete, `usersim resume` computes what is damaged again"
    run = next((RunDirectory(above) for above in (folder.parent, folder.parent.parent) if (above / "config.toml").is_file()), None)
    problem = (damage(folder) if run is None else run.problem_of(folder)) if check else ""
    if problem:
        raise RunError(f"{folder} is damaged ({problem}); {way_out}.")
    with reading(folder, way_out):
        part.load(folder)
    if folder.name == "decisions":
        anchor.put_in_force(part, folder.parent)


@dataclass(frozen=True)
class Blueprint:
    """What a worker process needs to make its parts; travels to it pickled.

    Attributes:
        config: the experiment. catalog, actions, rating_scale: of its data.
        run: folder of the run. threads: for inference in one process, or None.
        interventions: with the items they aim at.
    """

    config: ExperimentConfig
    catalog: Catalog
    actions: tuple[Action, ...]
    rating_scale: tuple[float, float] | None
    run: Path
    threads: int | None = None
    interventions: tuple[Intervention, ...] = ()

    def context(self, model: LanguageModel | None) -> DecisionContext:
        """What a decision model is made with."""
        feed = self.config.recommender.feed_config()
        return DecisionContext(
            catalog=self.catalog,
            actions=self.actions,
            language_model=model,
            rating_scale=self.rating_scale,
            page_size=feed.page_size,
            max_pages=feed.max_pages,
            seed=self.config.seed,
        )


class CohortWorker:
    """Simulates cohorts, one after another, with one language model loaded once.

    Attributes:
        decisions: the decision model, fitted.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        join_log(blueprint.run)
        self._blueprint = blueprint
        self._run = RunDirectory(blueprint.run)
        asked = (blueprint.config.language_model.options if blueprint.config.language_model else {}).get("threads")
        fixed = fixed_inference(blueprint.config, [blueprint.run])
        model = language_model(blueprint.config, threads=asked or blueprint.threads, ledger=blueprint.run / LEDGER, fixed=fixed)
        self._model = Timed(model) if model is not None else None
        self.decisions = decisions(blueprint.config, blueprint.context(self._model))
        restore(self.decisions, blueprint.run / "decisions", check=False)
        self._policy = policy_id(blueprint.config)
        self._feeds: dict[int, Feed] = {}
        release_memory()

    @one_thread()
    def __call__(self, task: CohortTask) -> CohortResult:
        """Simulates one cohort for one round and writes its shard."""
        started, before, feed = time.perf_counter(), self.usage, self._feed(task.fitted_round)
        asked = sum(self._model.seconds.values()) if self._model is not None else 0.0
        repaired = feed.repairs
        cohort = self.cohort(task)
        cohort.run()
        tables = cohort.log.tables()
        result = replace(
            result_of(task, tables),
            repairs=dict(feed.repairs - repaired),
            usage=self.usage - before,
            seconds=time.perf_counter() - started,
            model_seconds=sum(self._model.seconds.values()) - asked if self._model is not None else 0.0,
            peak_memory=peak_memory(),
        )
        write_shard(self._run, result, tables)
        return result

    def cohort(self, task: CohortTask) -> Cohort:
        """The people of a task, each in front of their first page. Whoever asks for it steps it."""
        blueprint, stream = self._blueprint, Stream(self._blueprint.config.seed)
        return Cohort(
            lambda model: [self._user(model, task, number, stream) for number in range(len(task.people))],
            self.environment(task),
            self.decisions,
            CohortLog(blueprint.actions, blueprint.catalog.item_ids, interventions=bool(blueprint.interventions)),
            stream.child("cohort", task.round, task.cohort),
        )

    def environment(self, task: CohortTask) -> Environment:
        """What serves the pages of a task."""
        feed, blueprint = self._feed(task.fitted_round), self._blueprint
        if not blueprint.interventions:
            return feed
        user_ids = {person.user: person.user_id for person in task.people}
        return Intervened(feed, blueprint.interventions, task.round, user_ids, Stream(blueprint.config.seed))

    @property
    def usage(self) -> Usage:
        """Work of the language model so far; nothing where there is none."""
        used: Usage = self._model.usage if self._model is not None else Usage()
        return used

    def close(self) -> None:
        """Frees the language model."""
        if self._model is not None:
            self._model.close()

    def _feed(self, fitted_round: int) -> Feed:
        if fitted_round not in self._feeds:
            fitted = recommender(self._blueprint.config)
            restore(fitted, self._run.recommender_folder(fitted_round), check=False)
            feed = Feed(fitted, self._policy, self._blueprint.config.recommender.feed_config(), len(self._blueprint.catalog))
            self._feeds = {fitted_round: feed}
        return self._feeds[fitted_round]

    def _user(self, model: mesa.Model, task: CohortTask, number: int, stream: Stream) -> UserAgent:
        blueprint, past = self._blueprint, task.pasts[number]
        own = memory(blueprint.config, blueprint.catalog)
        own.restore(past.records)
        return UserAgent(
            model,
            task.people[number],
            own,
            past,
            habits(blueprint.config, blueprint.catalog, blueprint.rating_scale),
            round_number=task.round,
            window=Window(task.start, task.end),
            origin=task.origin,
            stream=stream,
        )


def result_of(task: CohortTask, tables: Mapping[str, pl.DataFrame]) -> CohortResult:
    """What the tables of a finished cohort say about it."""
    pages, shown = tables["pages"], tables["impressions"]
    bad = Counter(f"{status}: {reply[:120]}" for status, reply in pages.select("status", "reply").iter_rows() if status != "ok")
    return CohortResult(
        task.round,
        task.cohort,
        pages.height,
        impressions=shown.height,
        interactions=int(shown["chosen"].sum()),
        fallbacks=dict(bad),
        people=tuple(person.user_id for person in task.people),
    )


def worker_factory(blueprint: Blueprint) -> partial[CohortWorker]:
    """A picklable maker of workers."""
    return partial(CohortWorker, blueprint)


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    try:
        import resource  # noqa: PLC0415 - not on every platform

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    except ImportError:
        return int(psutil.Process().memory_info().rss)
