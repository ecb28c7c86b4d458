"""How far off-policy estimators are from the truth, which a simulator can tell: it runs the target policy on the same people.

Every run is kept under ``offline/truth`` of the evaluated run and is used again, or continued if it was interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import manifest
from experiments import run as runs
from experiments.analysis.finished_run import FinishedRun
from experiments.anchor import with_common_anchor
from experiments.arms import run_once
from experiments.config import ExperimentConfig
from experiments.offline_evaluation import Evaluation, Options, evaluate, reward_of
from experiments.policy_on_log import Report
from experiments.same_settings import made_by_others
from experiments.stored_settings import config_of
from experiments.target_policy import OFFLINE, policy_name
from simulator.errors import RunError
from simulator.run_directory import RunDirectory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One estimator against the truth over seeds.

    Attributes:
        bias: mean error, estimate less truth. standard_deviation: of the errors, 0 for one seed. rmse: root of the mean squared error.
        coverage: share of the 95 % normal intervals that hold the mean truth. bootstrap_coverage: of the bootstrap intervals.
        width: mean width of the normal intervals. trusted: share of the seeds in which the effective sample size was large enough.
        seeds: how many.
    """

    bias: float
    standard_deviation: float
    rmse: float
    coverage: float
    bootstrap_coverage: float
    width: float
    trusted: float
    seeds: int


@dataclass(frozen=True, slots=True)
class Bench:
    """Estimators against the truth.

    Attributes:
        seeds: of the runs. truths: the target's mean reward in the simulator, per seed. evaluations: of the logging runs, per seed.
        verdicts: estimator -> verdict. runs: folders of the target's runs, per seed.
    """

    seeds: tuple[int, ...]
    truths: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    verdicts: dict[str, Verdict]
    runs: tuple[Path, ...]

    @property
    def truth(self) -> float:
        """The target's mean reward over all seeds."""
        return float(np.mean(self.truths))

    @property
    def truth_error(self) -> float:
        """Standard error of `truth` over seeds; NaN for one seed."""
        return float(np.std(self.truths, ddof=1) / np.sqrt(len(self.truths))) if len(self.truths) > 1 else float("nan")


def bench(path: Path, target: ExperimentConfig, options: Options, seeds: int, workers: int, report: Report) -> Bench:
    """Runs the target policy, and for further seeds the logging policy too, and compares.

    With the same seed the same people come, with the same luck in front of the same item, so the error of an estimate is not the
    chance of having met other people.

    Args:
        path: folder of the evaluated run, whose seed is the first.
        target: its experiment with the target's recommender.
        options: of each evaluation.
        seeds: how many, counted up from the run's own.
        workers: processes that simulate.
        report: told of the progress.

    Raises:
        UsersimError: as `experiments.offline_evaluation.evaluate` and `experiments.run.start`.
    """
    logged = config_of(RunDirectory(path))
    if other := made_by_others(RunDirectory(path).read_json("manifest"), manifest.made_by(logged)):
        _log.warning("%s was made by other code or on another machine (%s) than the truth that it is held against.", path, other)
    numbers = tuple(range(logged.seed, logged.seed + seeds))
    truths, evaluations, folders = [], [], []
    for turn, seed in enumerate(numbers):
        here = f"seed {turn + 1} of {seeds}: "

        def tell(what: str, done: int, total: int, _result: object = None, prefix: str = here) -> None:
            report(prefix + what, done, total)

        kept = path / OFFLINE / "truth"
        own, aimed = (config.model_copy(update={"seed": seed}) for config in (logged, target))
        log = path if turn == 0 else _run_again(own, kept / "logging" / f"seed-{seed}", workers, tell)
        evaluations.append(evaluate(log, aimed, options, tell))
        same_people = with_common_anchor(aimed, logged.recommender)
        folders.append(_run_again(same_people, kept / policy_name(target, logged) / f"seed-{seed}", workers, tell, log))
        truths.append(true_value(folders[-1], options.reward))
    return Bench(numbers, tuple(truths), tuple(evaluations), verdicts(evaluations, truths), tuple(folders))


def _run_again(config: ExperimentConfig, folder: Path, workers: int, report: runs.Report, log: Path | None = None) -> Path:
    """A run that is kept, made or continued.

    Args:
        config, folder, workers, report: as in `experiments.arms.run_once`. log: the run that it is held against, or None.

    Raises:
        RunError: it was made by other code or from other data than it would be now.
    """
    run = RunDirectory(folder)
    if run.is_complete:
        stored = run.read_json("manifest")
        other = made_by_others(stored, manifest.made_by(config))
        if other is None and log is not None and stored.get("data") != RunDirectory(log).read_json("manifest").get("data"):
            other = "data"
        if other is not None:
            raise RunError(
                f"{folder} was made by other code, on another machine or from other data ({other}) than it would be now; remove it, and it "
                "is run again."
            )
    return run_once(config, folder, workers, report, [] if log is None else [log])


def true_value(path: Path, reward: str) -> float:
    """Mean reward of a shown item in a run.

    Where the log holds the probability or expectation that a reward was drawn from, its mean is taken: the same value with less
    noise.
    """
    run = FinishedRun(path)
    shown = run.impressions
    if reward == "chosen" and "chosen_probability" in shown.columns:
        return float(shown["chosen_probability"].to_numpy().mean())
    return float(reward_of(shown, reward, run.rating_scale).to_numpy().mean())


def verdicts(evaluations: Sequence[Evaluation], truths: Sequence[float]) -> dict[str, Verdict]:
    """Bias, spread and coverage of every estimator that answered for all seeds.

    Errors are against the truth of the same seed (the same people); intervals are asked to hold the mean truth.
    """
    truth, n = float(np.mean(truths)), len(truths)
    found = {}
    for name in evaluations[0].answers:
        answers = [evaluation.answers[name] for evaluation in evaluations if name in evaluation.answers]
        if len(answers) < n:
            continue
        errors = np.array([answer.value - own for answer, own in zip(answers, truths, strict=True)])
        found[name] = Verdict(
            bias=float(errors.mean()),
            standard_deviation=float(errors.std(ddof=1)) if n > 1 else 0.0,
            rmse=float(np.sqrt((errors**2).mean())),
            coverage=float(np.mean([answer.normal.low <= truth <= answer.normal.high for answer in answers])),
            bootstrap_coverage=float(np.mean([answer.bootstrap.low <= truth <= answer.bootstrap.high for answer in answers])),
            width=float(np.mean([answer.normal.high - answer.normal.low for answer in answers])),
            trusted=float(np.mean([answer.note is None for answer in answers])),
            seeds=n,
        )
    return found
