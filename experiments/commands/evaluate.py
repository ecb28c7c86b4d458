"""`usersim evaluate`: what another policy would have earned, from a run's log, and how far that is from the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.commands.options import Json, Workers, finite_number, opens_runs
from experiments.console import emit, emit_table, finite, note, stages

if TYPE_CHECKING:
    from experiments.estimator_bench import Bench
    from experiments.offline_advice import Advice
    from experiments.offline_evaluation import Evaluation

Run = Annotated[Path, typer.Argument(help="Folder of a complete run whose recommender explored.")]
Policy = Annotated[
    Path, typer.Option("--policy", help="Experiment file (.toml) whose [recommender] is the policy, or a name that comes with usersim.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting of the policy; repeatable.")]
Reward = Annotated[str, typer.Option("--reward", help="chosen, rating (0 if not chosen) or like, per shown item.")]
Model = Annotated[Literal["boosting", "logistic"], typer.Option("--reward-model", help="Of the direct and doubly robust estimators.")]
Clip = Annotated[
    float | None,
    typer.Option("--clip", callback=finite_number, help="Largest weight of clipped IPS [default: root of the number of impressions]."),
]
Draws = Annotated[int, typer.Option("--draws", min=10, help="Draws per place for a policy whose probabilities have no closed form.")]
Least = Annotated[
    float,
    typer.Option("--minimum-effective-size", min=2, callback=finite_number, help="Below this effective sample size the answer is refused."),
]
Unsupported = Annotated[
    float,
    typer.Option(
        "--maximum-unsupported",
        min=0,
        max=1,
        callback=finite_number,
        help="Largest share of the policy's items that the log need not support.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Show numbers although the support is too small.")]
Truth = Annotated[bool, typer.Option("--truth", help="Run the policy in the simulator, and say how far each estimator was off.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="With --truth: runs of both policies, for bias, spread and coverage.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate", help="Estimate from a run's log what another policy would earn, with intervals; --truth checks it.")(evaluate)


@opens_runs
def evaluate(
    run: Run,
    policy: Policy,
    set_: Set = None,
    reward: Reward = "chosen",
    reward_model: Model = "boosting",
    clip: Clip = None,
    draws: Draws = 100,
    minimum_effective_size: Least = 30.0,
    maximum_unsupported: Unsupported = 0.5,
    force: Force = False,
    truth: Truth = False,
    seeds: Seeds = 1,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Evaluates a policy offline."""
    from experiments import estimator_bench, offline_evaluation  # noqa: PLC0415 - slow imports, and only here
    from experiments.analysis import offline_figures as figures  # noqa: PLC0415
    from experiments.analysis.finished_run import FinishedRun  # noqa: PLC0415
    from experiments.offline_advice import advice  # noqa: PLC0415
    from experiments.run_work import working_in  # noqa: PLC0415
    from experiments.stored_settings import config_of  # noqa: PLC0415
    from experiments.target_policy import policy_folder, read_target  # noqa: PLC0415
    from experiments.trust import own  # noqa: PLC0415
    from simulator.errors import ConfigError  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415
    from simulator.files import write_atomically  # noqa: PLC0415

    if seeds > 1 and not truth:
        raise ConfigError("--seeds is for --truth: without it nothing is run, so there is nothing to repeat.")
    if clip is not None and clip <= 0:
        raise ConfigError(f"--clip {clip:g} is not possible; the largest weight must be above 0.")
    finished = FinishedRun(run)
    target = read_target(policy, set_ or [], config_of(finished.directory))
    options = offline_evaluation.Options(reward, clip, reward_model, minimum_effective_size, maximum_unsupported, draws, force)
    folder = policy_folder(finished, target)
    with working_in(run, "usersim evaluate"), stages(every=math.inf) as report, own(target):
        bench = estimator_bench.bench(run, target, options, seeds, workers or cores(), report) if truth else None
        found = bench.evaluations[0] if bench else offline_evaluation.evaluate(run, target, options, report)
    made = [figures.estimates(found, folder / f"estimates-{reward}.png", bench.truths[0] if bench else None)]
    made += [figures.errors(bench, folder / f"errors-{reward}.png")] if bench and seeds > 1 else []
    file = folder / f"evaluation-{reward}.json"
    believe = advice(found, bench)
    document = (
        _document(found, bench)
        | {"believe": asdict(believe)}
        | {"figures": {figure.path.stem: str(figure.path) for figure in made}, "file": str(file)}
    )
    write_atomically(file, _text(document))
    if json:
        emit(document, as_json=True)
        return
    _show(found, bench, believe)
    for figure in made:
        note(f"figure: {figure.path}")
    note(f"all numbers: {file}")


def _show(found: Evaluation, bench: Bench | None, believe: Advice) -> None:
    """Tables for people."""
    from experiments.offline_advice import stands  # noqa: PLC0415
    from experiments.offline_evaluation import REWARDS  # noqa: PLC0415

    truth = bench.truths[0] if bench else None
    rows = [_row("(as logged)", found.logged, None)] + [_row(name, answer, truth) for name, answer in found.answers.items()]
    title = f"{found.policy} from {found.impressions:,} impressions of {found.people:,} people under {found.logging_policy}: {found.reward}"
    emit_table(rows, as_json=False, title=title, columns=list(rows[-1]))
    note(
        f"{REWARDS[found.reward]}; 95 % intervals, normal and by bootstrap over people; eff. n: effective sample size, max w: largest "
        "weight, unsup.: share of the policy's items that the log cannot show."
    )
    if truth is not None and bench is not None:
        note(f"truth: {truth:.4f}, the policy's own run of the same people ({bench.runs[0]}).")
    for name, reason in found.left_out.items():
        note(f"no {name}: {reason}.")
    for warning in found.warnings:
        note(f"warning: {warning}")
    if found.monte_carlo_error:
        note(
            f"the policy's probabilities are Monte Carlo estimates; they alone give IPS a standard error of {found.monte_carlo_error:.4f}."
        )
    few = [name for name, answer in found.answers.items() if answer.note is not None]
    if few:
        note(f"* effective sample size too small to trust the interval: {', '.join(few)}.")
    if bench is not None and len(bench.seeds) > 1:
        title = f"Against the truth over {len(bench.seeds)} seeds: {bench.truth:.4f} (standard error {bench.truth_error:.4f})"
        rows = [_verdict(name, verdict) | {"stands": "yes" if stands(verdict) else "no"} for name, verdict in bench.verdicts.items()]
        emit_table(rows, as_json=False, title=title)
        note(
            "cover, boot.: share of the normal and bootstrap intervals that hold the truth; enough n: seeds with enough effective rows; "
            "stands: both, in most seeds."
        )
    for sentence in believe.sentences:
        note(sentence)


def _row(name: str, answer: Any, truth: float | None) -> dict[str, str]:
    row = {
        "estimator": name + ("" if answer.note is None else " *"),
        "value": f"{answer.value:.4f}",
        "normal": f"{answer.normal.low:.3f}–{answer.normal.high:.3f}",
        "bootstrap": f"{answer.bootstrap.low:.3f}–{answer.bootstrap.high:.3f}",
        "eff. n": f"{answer.effective_sample_size:,.0f}",
        "max w": f"{answer.largest_weight:.1f}",
        "unsup.": f"{answer.unsupported:.0%}",
    }
    return row if truth is None else row | {"error": f"{answer.value - truth:+.3f}"}


def _verdict(name: str, verdict: Any) -> dict[str, str]:
    return {
        "estimator": name,
        "bias": f"{verdict.bias:+.4f}",
        "sd": f"{verdict.standard_deviation:.4f}",
        "rmse": f"{verdict.rmse:.4f}",
        "cover": f"{verdict.coverage:.0%}",
        "boot.": f"{verdict.bootstrap_coverage:.0%}",
        "width": f"{verdict.width:.4f}",
        "enough n": f"{verdict.trusted:.0%}",
    }


def _document(found: Evaluation, bench: Bench | None) -> dict[str, Any]:
    document: dict[str, Any] = _plain(found)
    if bench is not None:
        document["truth"] = {
            "value": bench.truths[0],
            "mean": bench.truth,
            "standard_error": bench.truth_error,
            "seeds": list(bench.seeds),
            "by_seed": list(bench.truths),
            "runs": [str(path) for path in bench.runs],
            "estimators": {name: asdict(verdict) for name, verdict in bench.verdicts.items()},
        }
    clean: dict[str, Any] = finite(document)
    return clean


def _plain(found: Evaluation) -> dict[str, Any]:
    document = asdict(found)
    document["answers"] = {
        name: {
            **{key: answer[key] for key in ("value", "effective_sample_size", "largest_weight", "unsupported", "note")},
            "normal": answer["normal"],
            "bootstrap": answer["bootstrap"],
        }
        for name, answer in document["answers"].items()
    }
    return document


def _text(document: Mapping[str, Any]) -> bytes:
    import json  # noqa: PLC0415 - the command's option has its name

    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
