"""A run from beginning to end: data, people, preparation, rounds, tables, figures, report."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from agents.arrivals import Sessions
from agents.exposures import people_split
from agents.population import choose_people
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from agents.synthetic import synthesise
from agents.taste import write_tastes
from environments.datasets.splits import Split
from environments.interventions import aimed, assignments
from experiments import anchor, anchoring, build, manifest, memory, note_reading
from experiments import config as configuration
from experiments.config import ExperimentConfig
from experiments.mending import mend
from experiments.model_effect import effect
from experiments.people_tables import items_table, people_table, real_table
from experiments.round_recommender import fit_recommender
from experiments.run_work import told
from experiments.same_settings import take_over
from experiments.stored_settings import CHANGEABLE, changed_settings, check_settings
from experiments.told import read_told, write_told
from simulator.dataset import Dataset, require
from simulator.errors import ConfigError
from simulator.execution import end_if_importing_main, execution, release_memory
from simulator.files import write_atomically
from simulator.llm.openai_api import address
from simulator.records import UserProfile
from simulator.run_directory import RunDirectory
from simulator.run_lock import locked
from simulator.seeds import Stream
from simulator.simulation import CohortResult, Plan, simulate

Report = Callable[[str, int, int, "CohortResult | None"], None]
"""Called with (what is going on, done, total, result of the last cohort or None); total 0 means unknown."""

ORIGIN_WITHOUT_TIMES = 946_684_800
"""2000-01-01 UTC: where simulated time starts if the data has none."""

_log = logging.getLogger(__name__)


def start(config: ExperimentConfig, output: Path | None, workers: int, report: Report, prepared: Sequence[Path] = ()) -> RunDirectory:
    """Runs an experiment from the start.

    Args:
        config: checked.
        output: folder of the run, or None for ``results/<name>/<date and time>``.
        workers: processes that simulate cohorts, >= 1; changes nothing but the speed.
        report: told of the progress.
        prepared: folders of other runs, whose fitted decision model and tastes are taken over if this run's would come out the same
            (see `experiments.same_settings`); changes nothing but the speed.

    Raises:
        UsersimError: anything the user can mend, see `simulator.errors`. Where it is wrong input, found before anybody was simulated,
            nothing is left in `output`.
    """
    end_if_importing_main()
    options = build.resolved(config)
    path = output or new_path(config.name)
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    run = RunDirectory.create(path)
    with locked(run.path, "usersim run"):
        RunDirectory.create(path)  # another process may have been quicker
        run.remove_leftovers()
        try:
            with told(run.path, "usersim run"):
                write_atomically(run.config_path, configuration.dump(config, options))
                return _carry_out(run, config, workers, report, prepared)
        except Exception as error:
            # What the system refused may be allowed a minute later: that is kept.
            if getattr(error, "exit_status", 1) == 2 and not (run.has_any_shard or (run.path / "tastes.json").is_file()):
                _leave_nothing(run, new)
            raise


def resume(
    path: Path,
    workers: int,
    report: Report,
    overrides: Sequence[str] = (),
    prepared: Sequence[Path] = (),
    *,
    accept_changes: bool = False,
) -> RunDirectory:
    """Continues an interrupted run; a complete one only gets figures and report again.

    Args:
        path: folder of the run.
        workers, prepared: as in `start`.
        report: told of the progress.
        overrides: settings ``section.key=value`` that are changed from now on; only those of `CHANGEABLE`.
        accept_changes: whether other code, packages or another processor than it was started with are recorded instead of refused.

    Raises:
        RunError: there is no run at `path`, or another process writes into it, or settings, data, model, code, packages or processor
            are not those it was started with.
        ConfigError: a setting cannot be changed, or its value is not allowed.
    """
    end_if_importing_main()
    run = RunDirectory.open(path)
    with locked(run.path, "usersim resume"), told(run.path, "usersim resume"):
        mend(run)
        begun = run.is_begun
        if begun:
            check_settings(run, changeable=not run.is_complete)
        if overrides:
            _change(run, overrides)
        elif begun and changed_settings(run):
            manifest.change_settings(run, ())
        config = configuration.of_run(run.config_path)
        run.remove_leftovers()
        return _carry_out(run, config, workers, report, prepared, accept_changes=accept_changes)


def _leave_nothing(run: RunDirectory, new: Sequence[Path]) -> None:
    """Removes what a refused start has written, and the folders that it made (innermost first) where they are empty."""
    for entry in run.path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    with suppress(OSError):
        for folder in new:
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What there is before the first round.

    Attributes:
        blueprint: what workers need. train: the training part. profiles: everybody in it, before any taste was written.
        people: who takes part.
    """

    blueprint: build.Blueprint
    train: Dataset
    profiles: list[UserProfile]
    people: list[UserProfile]

    @property
    def plan(self) -> Plan:
        """What is to be simulated."""
        config = self.blueprint.config
        return Plan(
            people=self.people,
            actions=self.blueprint.actions,
            item_ids=self.train.catalog.item_ids,
            rounds=config.rounds,
            cohort_size=config.cohort_size,
            origin=origin(self.train, config.population.sessions),
            round_seconds=int(config.round_days * 86_400),
            refit=config.recommender.refit != "never",
            max_fallback_share=config.decision.max_fallback_share,
            interventions=bool(self.blueprint.interventions),
        )


def prepare(
    run: RunDirectory,
    config: ExperimentConfig,
    threads: int | None,
    report: Report,
    prepared: Sequence[Path] = (),
    *,
    accept_changes: bool = False,
) -> Prepared:
    """Everything before the first round: data, people, manifest, tastes, the fitted decision model and the tables about people and items.

    Args:
        run: what is already there is kept.
        config: checked.
        threads: for inference in one process, or None.
        report: told of the progress.
        prepared: as in `start`. accept_changes: as in `resume`.

    Raises:
        UsersimError: anything the user can mend, see `simulator.errors`.
    """
    report("reading the data", 0, 0, None)
    parts = build.data(config)
    train = parts.train
    build.check_recommender(config, train)
    report("getting to know the people", 0, 0, None)
    profiles = fit_profiles(train)
    people = take_part(config, train, profiles)
    interventions = aimed(config.interventions, train, Stream(config.seed))
    blueprint = build.Blueprint(config, train.catalog, build.actions(train), train.rating_scale, run.path.resolve(), threads, interventions)
    people = _prepare(run, blueprint, parts, profiles, people, report, prepared, accept_changes=accept_changes)
    _write_tables(run, train, people, assignments(interventions, people, Stream(config.seed)) if interventions else None)
    return Prepared(blueprint, train, profiles, people)


def _carry_out(
    run: RunDirectory,
    config: ExperimentConfig,
    workers: int,
    report: Report,
    prepared: Sequence[Path],
    *,
    accept_changes: bool = False,
) -> RunDirectory:
    started = time.perf_counter()
    report = _logging(report)
    if not run.is_complete:
        memory.check(config, workers)
        begun = prepare(run, config, None if workers == 1 else 1, report, prepared, accept_changes=accept_changes)

        def fit(round_number: int, simulated: pl.DataFrame) -> None:
            fit_recommender(run, config, begun.train, round_number, simulated)
            release_memory()  # workers need it while people browse

        simulating = time.perf_counter()
        here = 0

        def on_progress(what: str, done: int, total: int, result: CohortResult | None) -> None:
            nonlocal here
            here += result.pages if result else 0
            report(what, done, total, result)

        workforce = execution(build.worker_factory(begun.blueprint), workers)
        try:
            summary = simulate(begun.plan, run, fit, workforce, on_progress)
        finally:
            workforce.close()
        seconds = time.perf_counter() - simulating
        summary |= (
            anchor.told(run.path)
            | asdict(read_told(run.path))
            | {
                "seconds": round(time.perf_counter() - started, 3),
                "simulation_seconds": round(seconds, 3),
                "pages_per_second": round(here / seconds, 3),
                "workers": workers,
            }
        )
        summary["language_model"] = effect(summary)
        run.write_json("manifest", {**run.read_json("manifest"), "finished": manifest.now()})
        run.write_json("summary", {**summary, "hashes_sha256": run.write_hashes()})
    report("drawing figures", 0, 0, None)
    from experiments.analysis.report import write_report  # noqa: PLC0415 - matplotlib is not needed before

    write_report(run.path)
    return run


def _logging(report: Report) -> Report:
    """The same, with every stage and every finished cohort told to the run's log."""
    last = ""

    def tell(what: str, done: int, total: int, result: CohortResult | None) -> None:
        nonlocal last
        if result is not None:
            bad = sum(result.fallbacks.values())
            _log.info("%s: cohort %d, %d pages, %d unusable; %d of %d cohorts", what, result.cohort, result.pages, bad, done, total)
        elif what != last:
            _log.info("%s", what)
        last = what
        report(what, done, total, result)

    return tell


def _change(run: RunDirectory, overrides: Sequence[str]) -> None:
    """Writes changed settings into the configuration of a run."""
    if run.is_complete:
        raise ConfigError(f"the run {run.path} is complete, so nothing can be changed in it; leave out --set, or start another run.")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in CHANGEABLE:
            raise ConfigError(
                f"--set {key}: a run is continued with the settings it was started with, so that its log stays one; what may be changed "
                f"is {', '.join(CHANGEABLE)}."
            )
    document = {key: value for key, value in configuration.document(run.config_path, overrides).items() if key != "tuning"}
    config = configuration.check(document, str(run.config_path))
    write_atomically(run.config_path, configuration.dump(config, build.resolved(config)))
    if (run.path / "manifest.json").is_file():
        options = config.language_model.options if config.language_model is not None else {}
        manifest.change_settings(run, overrides, **({"server": address(str(options["base_url"]))} if "base_url" in options else {}))


def origin(train: Dataset, sessions: Sessions = "one") -> int:
    """Start of the first round: midnight (UTC) after the last training interaction, or the year 2000 without times.

    Where people live their time in the data again, it is midnight before the first training interaction.

    Raises:
        DataError: they are to do so, and the data has no times.
    """
    if sessions == "relived":
        require(train, times="population.sessions = 'relived'")
        first = train.interactions["timestamp"].min()
        assert isinstance(first, int)
        return first // 86_400 * 86_400
    if not train.has_times:
        return ORIGIN_WITHOUT_TIMES
    last = train.interactions["timestamp"].max()
    assert isinstance(last, int)
    return (last // 86_400 + 1) * 86_400


def take_part(config: ExperimentConfig, train: Dataset, profiles: list[UserProfile]) -> list[UserProfile]:
    """Who takes part in an experiment: chosen real people, then synthetic ones.

    Raises:
        ConfigError: more people are wanted than there are, or nobody.
    """
    stream = Stream(config.seed).child("population")
    people = choose_people(profiles, config.population, stream.child("choose"), people_split(train))
    if config.population.synthetic:
        people = [*people, *synthesise(profiles, config.population.synthetic, train, stream.child("synthesise"))]
    return people


def _prepare(
    run: RunDirectory,
    blueprint: build.Blueprint,
    parts: Split,
    profiles: list[UserProfile],
    people: list[UserProfile],
    report: Report,
    prepared: Sequence[Path],
    *,
    accept_changes: bool,
) -> list[UserProfile]:
    """Everything before the first round that is done once: manifest, tastes, the decision model's own preparation."""
    config, train = blueprint.config, parts.train
    fixed = build.fixed_inference(config, [run.path, *prepared])
    model = build.language_model(config, ledger=blueprint.run / build.LEDGER, fixed=fixed)
    try:
        if run.is_begun:
            manifest.check(run, config, train, model, accept=accept_changes)
        else:
            if model is not None:
                note_reading.refuse(config.interventions, model.identity, config.decision.use)
            manifest.write(run, config, parts, model, people)
        take_over(run, config, prepared)
        if config.population.taste and model is not None:
            report("writing tastes", 0, 0, None)
            prompts = getattr(build.decisions(config, blueprint.context(model)), "prompts", None)
            builder = prompts if isinstance(prompts, PromptBuilder) else PromptBuilder(train.catalog, blueprint.actions)
            people = write_tastes(people, model, builder, Stream(config.seed).child("taste"), run.path / "tastes.json")

        def decide(folder: Path) -> None:
            report("preparing decisions", 0, 0, None)
            decisions = build.decisions(config, blueprint.context(model))
            decisions.fit(train, profiles, Stream(config.seed).child("decisions"))
            decisions.save(folder)
            write_told(folder, decisions)

        run.made_once(run.path / "decisions", decide, rest_on_it=run.has_shards())
        report("finding how often people choose", 0, 0, None)
        anchoring.make(run, blueprint, train, people, model, origin(train, config.population.sessions), prepared)
    finally:
        if model is not None:
            model.close()
    return people


def _write_tables(run: RunDirectory, train: Dataset, people: Sequence[UserProfile], treatments: pl.DataFrame | None) -> None:
    tables = {"people": people_table(train, people), "items": items_table(train), "real": real_table(train, people)}
    if treatments is not None:
        tables["treatments"] = treatments
    for name, frame in tables.items():
        # Written each time: they are what the data says, whatever an interrupted run left or somebody damaged.
        run.write_frame(name, frame)


def new_path(name: str) -> Path:
    """A folder that does not exist yet for something called `name`: ``results/<name>/<date and time>``."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path("results") / name / stamp
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stamp}-{number}")
    return path
