"""`usersim tune`."""

from __future__ import annotations

from json import dumps as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import config as configuration
from experiments.commands.options import Config, Json, Seed, Set, finite_number, opens_runs
from experiments.console import emit, emit_table, note, progress, stderr

Name = Annotated[str | None, typer.Option("--name", help="Name of the adapter [default: the experiment's name].")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the adapter [default: in the cache, by name].")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.01, callback=finite_number, help="Be done after this time, everything included.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
PrepareOnly = Annotated[
    bool,
    typer.Option("--prepare-only", help="Only write the examples, to tune on another machine (python -m experiments.tuning.training)."),
]


VECTORS = ("item_vectors", "history_vectors")
"""Options of the prompts that a model with vectors of items must be asked with."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("tune", help="Fine-tune the language model on the training part of an experiment's data.")(tune)


@opens_runs
def tune(
    config: Config,
    set_: Set = None,
    name: Name = None,
    output: Output = None,
    minutes: Minutes = None,
    device: Device = None,
    prepare_only: PrepareOnly = False,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Makes an adapter; an interrupted tuning continues when the command is given again."""
    from experiments.tuning import tune as tuning  # noqa: PLC0415 - slow imports, and only here
    from simulator.llm import adapters  # noqa: PLC0415

    given = {"seed": seed, "tuning.training.minutes": minutes, "tuning.training.device": device, "name": name}
    options = [f"{key}={json_text(value)}" for key, value in given.items() if value is not None]
    checked = configuration.read(config, [*(set_ or []), *options])
    folder = output or adapters.tuned_folder() / checked.name
    folder.mkdir(parents=True, exist_ok=True)
    training = checked.tuning.training
    with progress() as display:
        task = display.add_task("starting", total=None, detail="")
        said = ""

        def say(what: str, done: int, total: int) -> None:
            nonlocal said
            display.update(task, description=what, completed=done, total=total or None)
            kind = what.partition(":")[0]
            if not stderr.is_terminal and (kind != said or done % 20 == 0):
                note(f"{what} ({done} of {total})" if total else what)
            said = kind

        card = tuning.tune(checked, folder, training, say, prepare_only=prepare_only)
    if json:
        emit({"folder": str(folder), **card}, as_json=True)
        return
    if prepare_only:
        note(f"examples: {folder}; tune them with: python -m experiments.tuning.training {folder} MODEL.gguf, then give this command again")
        return
    emit_table(
        _table(card["tuning"]),
        as_json=False,
        title=f"{card['name']}: {card['tuning']['steps']} steps, {card['tuning']['tokens']:,} tokens, {card['tuning']['seconds']:.0f} s",
    )
    use = f"--set language_model.adapter={folder.name if output is None else folder}"
    if training.method != "lora":
        use += " --set language_model.use=simulator.llm.transformers_model:TransformersModel"
        use += "".join(f" --set decision.prompt.{name}={str(card['prompt'][name]).lower()}" for name in VECTORS if name in card["prompt"])
    note(f"adapter: {folder}; use it with: {use}")


def _table(result: dict[str, Any]) -> list[dict[str, str]]:
    before, after = result["before"], result["after"]
    return [{"on validation people": key, "before": f"{before[key]:.4f}", "after": f"{after[key]:.4f}"} for key in before]
