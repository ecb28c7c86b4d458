"""`usersim augment`: is a recommender better when it is trained on what simulated people did, too?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.options import LARGEST_SEED, Json, Set, Workers, opens_runs, takes_settings
from experiments.console import emit, emit_table, note, stages

Config = Annotated[
    Path, typer.Argument(help="Experiment file (.toml) with a section [augmentation], or the name of one that comes with usersim.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Folder; one with the same settings is continued [default: results/<name>/augment-<settings>]."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="First seed, instead of the file's.")]
Benchmark = Annotated[bool, typer.Option("--benchmark", help="Also write results/benchmarks/augmentation.json.")]

BENCHMARK = Path("results/benchmarks/augmentation.json")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("augment", help="Train recommenders on real and synthetic interactions, and measure the gain on held-out real ones.")(
        augment
    )


@opens_runs
@takes_settings
def augment(
    config: Config,
    set_: Set = None,
    output: Output = None,
    workers: Workers = None,
    seed: Seed = None,
    benchmark: Benchmark = False,
    json: Json = False,
) -> None:
    """Measures what synthetic interactions are worth as training data."""
    from experiments import config as configuration  # noqa: PLC0415 - slow imports, and only here
    from experiments.analysis.augmentation_figures import dose_curve  # noqa: PLC0415
    from experiments.augmentation import augment as augmentation  # noqa: PLC0415
    from simulator.execution import cores  # noqa: PLC0415

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    experiment = augmentation.checked(configuration.read(config, overrides))
    folder = output or augmentation.default_folder(experiment)
    note(f"folder: {folder}; interrupted, the same command goes on where it was.")
    with stages() as tell:
        document = augmentation.augment(
            experiment,
            folder,
            workers or cores(),
            lambda what, done, total: tell(what, done, total, more=f": {done} of {total}" if total else ""),
        )
    made = dose_curve(document, folder / "figures" / "dose-curve.png")
    if benchmark:
        augmentation.add_to_benchmark(document, BENCHMARK)
    if json:
        emit({"folder": str(folder), "figure": str(made.path), **document}, as_json=True)
        return
    for stratum, title in (("all", "everybody"), ("cold_users", f"people with at most {document['cold_users_have_at_most']} interactions")):
        emit_table(_table(document["rows"], stratum), as_json=False, title=f"{document['data']}, {title}: NDCG@{document['k']}")
    added = _added_by_people(document["rows"])
    if added:
        emit_table(added, as_json=False, title="What people add to distillation: everybody (* interval excludes 0)")
    emit_table(_items(document["rows"]), as_json=False, title="Items: gain over the size control (* interval excludes 0)")
    for line in _said(document):
        note(line)
    note(f"all numbers: {folder / augmentation.FILE}; figure: {made.path}{f'; {BENCHMARK}' if benchmark else ''}")


def _table(rows: Sequence[Mapping[str, Any]], stratum: str) -> list[dict[str, str]]:
    return [
        {
            "recommender": row["recommender"],
            "trained on": _trained_on(row),
            "added": f"{row['added']:,.0f}",
            "NDCG": _number(row["ndcg"], ""),
            "- size control": _gain(row.get("gain_over_duplicated")),
            "- real": _gain(row.get("gain_over_real")),
        }
        for row in rows
        if row["stratum"] == stratum
    ]


def _added_by_people(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Gains of what people chose over as many items without anybody's decision."""
    return [
        {
            "recommender": row["recommender"],
            "trained on": _trained_on(row),
            "- exposure": _gain(row.get("gain_over_exposure")),
            "- evidence": _gain(row.get("gain_over_evidence")),
        }
        for row in rows
        if row["stratum"] == "all" and ("gain_over_exposure" in row or "gain_over_evidence" in row)
    ]


def _items(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One row per recommender, source and dose; a column per stratum of items."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        gain = row.get("gain_over_duplicated")
        if row["stratum"] in ("head_items", "tail_items", "cold_items") and gain is not None:
            key = (row["recommender"], _trained_on(row))
            line = found.setdefault(key, {"recommender": key[0], "trained on": key[1]})
            line[row["stratum"].replace("_", " ")] = _number(gain) + ("*" if _excludes_zero(gain) else "")
    return list(found.values())


def _trained_on(row: Mapping[str, Any]) -> str:
    if row["source"] in ("real", "alone"):
        return {"real": "real", "alone": f"confident alone, {row['dose']:.0%}"}[row["source"]]
    return f"+ {row['source']} {row['dose']:.0%}"


def _said(document: Mapping[str, Any]) -> list[str]:
    """The sentences below the tables."""
    headline, model = document["headline"], document["language_model"]
    lines = [
        f"people: {document['decision_model'].rpartition(':')[2]} "
        + (f"with the language model {model}" if model else "without a language model (decision.language_model = true asks one)")
        + f"; {sum(document['simulated_interactions']):,} synthetic interactions over {len(document['seeds'])} seeds.",
        "95 % intervals resample people and seeds; * excludes 0. size control: as many copies of real interactions. exposure, evidence: "
        "items that the exposing recommender or the people's evidence ranks first, without anybody's decision.",
    ]
    safe = headline["without_loss"]
    lines.append(
        f"people with few interactions gain over the size control in {len(headline['gains'])} of {headline['compared']} comparisons"
        + (": " + ", ".join(f"{one['recommender']} + {one['source']} {one['dose']:.0%}" for one in safe) if safe else "")
        + (" (those without a loss overall)." if safe else "; none without a loss overall.")
    )
    if document["sources_left_out"]:
        lines.append("no evidence control: the decision model has no method `preferences` that ranks the catalog.")
    return lines


def _gain(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return ""
    return f"{_number(gain)} [{_number(gain, part='low')}, {_number(gain, part='high')}]{'*' if _excludes_zero(gain) else ''}"


def _excludes_zero(gain: Mapping[str, Any]) -> bool:
    return gain["value"] is not None and (gain["low"] > 0 or gain["high"] < 0)


def _number(estimate: Mapping[str, Any], sign: str = "+", part: str = "value") -> str:
    return "-" if estimate[part] is None else f"{estimate[part]:{sign}.4f}"
