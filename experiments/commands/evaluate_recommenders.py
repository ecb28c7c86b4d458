"""`usersim evaluate-recommenders`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.options import Json, Seed, Set
from experiments.console import emit, emit_table, note, progress, stderr

Config = Annotated[Path, typer.Argument(help="Evaluation file (.toml), or the name of one that comes with usersim.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the results [default: results/<name>].")]

ACCURACY = {"ndcg": "ndcg", "recall": "recall", "hit_rate": "hit rate", "map": "map/min"}
LISTS = {"coverage": "cover", "novelty": "bits", "tail_share": "tail", "diversity": "diverse", "miscalibration": "off"}

LEGEND = (
    "cover: share of the catalog; bits: novelty; tail: share of unpopular items; diverse: unlike genres in a list; off: genres unlike the "
    "history's, nats; ms: time for one list"
)

SHORT_LEGEND = (
    "map/min: mean average precision over min(k, relevant items), as RecBole; over all relevant items, as RecTools and ranx: "
    "map_all_relevant in the file. All means are over the same people: those with something held out that they did not have."
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate-recommenders", help="Fit, tune and test recommenders on held-out data; a table with intervals over people.")(
        evaluate_recommenders
    )


def evaluate_recommenders(config: Config, set_: Set = None, output: Output = None, seed: Seed = None, json: Json = False) -> None:
    """Compares recommenders on held-out interactions."""
    import json as json_module  # noqa: PLC0415 - the option has its name

    from experiments import evaluate_recommenders as evaluation  # noqa: PLC0415 - slow imports, and only here
    from simulator.files import write_atomically  # noqa: PLC0415

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    checked = evaluation.read(config, overrides)
    folder = output or Path("results") / checked.name
    folder.mkdir(parents=True, exist_ok=True)
    with progress() as display:
        task = display.add_task("starting", total=None, detail="")

        def report(what: str, done: int, total: int) -> None:
            display.update(task, description=what, completed=done, total=total)
            if not stderr.is_terminal:
                note(f"{what} ({done} of {total})")

        results = [evaluation.record(result) for result in evaluation.evaluate(checked, report)]
    document = {
        "name": checked.name,
        "config": checked.model_dump(mode="json", exclude_none=True),
        "conventions": evaluation.CONVENTIONS,
        "recommenders": results,
    }
    file = folder / "recommenders.json"
    write_atomically(file, (json_module.dumps(document, indent=2) + "\n").encode())
    if json:
        emit({"file": str(file), **document}, as_json=True)
        return
    title = f"{checked.name}: lists of {checked.k}, 95 % intervals over people"
    emit_table([_accuracy(result) for result in results], as_json=False, title=title)
    note(SHORT_LEGEND)
    rated = [_ratings(result) for result in results if _known(result["metrics"].get("rmse"))]
    if rated:
        emit_table(rated, as_json=False, title="errors of the predicted ratings, in their units")
    emit_table([_lists(result) for result in results], as_json=False, title=LEGEND)
    note(f"all metrics with their limits: {file}")


def _accuracy(result: dict[str, Any]) -> dict[str, str]:
    difference = result["difference"]
    row = {"recommender": result["name"], **{name: _number(result["metrics"][metric]) for metric, name in ACCURACY.items()}}
    return {**row, "ndcg - first": _number(difference, sign="+") if difference else "", "fit s": f"{result['fit_seconds']:.1f}"}


def _ratings(result: dict[str, Any]) -> dict[str, str]:
    difference = result["rating_difference"]
    row = {"recommender": result["name"], **{metric: _number(result["metrics"][metric]) for metric in ("rmse", "mae")}}
    return {**row, "mse - first": _number(difference, sign="+") if difference else ""}


def _lists(result: dict[str, Any]) -> dict[str, str]:
    known = {metric: name for metric, name in LISTS.items() if _known(result["metrics"].get(metric))}
    row = {name: f"{result['metrics'][metric]['value']:.3f}" for metric, name in known.items()}
    return {"recommender": result["name"], **row, "ms": f"{result['milliseconds_per_person']:.2f}"}


def _known(estimate: dict[str, Any] | None) -> bool:
    return estimate is not None and estimate["value"] is not None


def _number(estimate: dict[str, Any], sign: str = "") -> str:
    if estimate["value"] is None:
        return "-"
    if estimate["low"] is None or estimate["people"] < 2:
        return f"{estimate['value']:{sign}.4f}"  # one person has no interval
    return f"{estimate['value']:{sign}.4f} ±{(estimate['high'] - estimate['low']) / 2:.4f}"
