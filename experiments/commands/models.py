"""`usersim models`: list, get, describe and prepare language models, and list adapters with their cards."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands.fetching import From, FromOption, fetched
from experiments.commands.options import Json, finite_number
from experiments.console import emit, emit_table, progress
from simulator.errors import ModelError
from simulator.llm import models

if TYPE_CHECKING:
    from simulator.llm.engines import Measurement

app = typer.Typer(help="List, fetch, describe and prepare language models; list adapters.", no_args_is_help=True, rich_markup_mode=None)


class Format(StrEnum):
    """How the weights are stored."""

    auto = "auto"
    as_is = "as-is"
    bf16 = "bf16"
    f16 = "f16"
    q8_0 = "q8_0"
    q4_0 = "q4_0"
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


@app.command("list")
def list_command(json: Json = False) -> None:
    """The models that can be fetched by name. Any other GGUF file works by its path."""
    rows = [
        {
            "name": model.name,
            "state": "here" if models.is_present(model.name) else "absent",
            "about": model.about,
            "MB": round(model.size / 1e6),
            "licence": model.licence,
            "sha256": model.sha256,
            "path": str(model.path),
        }
        for model in models.known().values()
    ]
    emit_table(rows, as_json=json, columns=("name", "state", "about", "MB", "licence"))


@app.command("get")
def get_command(
    name: Annotated[str, typer.Argument(help="A name that `usersim models list` shows.")] = models.DEFAULT,
    source: FromOption = From.auto,
    json: Json = False,
) -> None:
    """Fetch a model into the cache, once, verified."""
    fetched(name, lambda step: models.get(name, source.value, step), json)


@app.command("describe")
def describe_command(
    model: Annotated[str, typer.Argument(metavar="PATH-or-NAME", help="A known name or a GGUF file.")] = models.DEFAULT, json: Json = False
) -> None:
    """Read a model file's header."""
    emit(models.describe(model), as_json=json)


@app.command("adapters")
def adapters_command(
    name: Annotated[str | None, typer.Argument(metavar="[PATH-or-NAME]", help="Print this adapter's model card.")] = None,
    json: Json = False,
) -> None:
    """The adapters that come with usersim or were tuned here: data, its terms, who was learned from, figures; or one model card."""
    from experiments.tuning import model_card  # noqa: PLC0415
    from simulator.llm import adapters  # noqa: PLC0415

    if name is not None:
        folder = adapters.find(name)
        card, entries = adapters.card(folder), adapters.learned_from(folder)
        if not {"tuning", "data", "people", "model"} <= set(card):
            raise ModelError(f"the adapter in '{folder}' has no {adapters.CARD} of usersim tune, so nobody knows what it learned from.")
        if json:
            emit({"folder": str(folder), **card, "learned_from": entries}, as_json=True)
        else:
            typer.echo(model_card.text(card, entries))
        return
    rows = []
    for one in adapters.names():
        card = adapters.card(adapters.find(one))
        own = [str(before["data"]["name"]) for before in adapters.descent(card) if "data" in before]
        after = card.get("tuning", {}).get("after", {})
        rows.append(
            {
                "name": one,
                "data": ", after ".join(own) or "unknown",
                "users": card.get("people", {}).get("fit"),
                "AUC on validation users": round(after["choose_auc"], 3) if "choose_auc" in after else None,
                "terms": "; ".join(dict.fromkeys(model_card.terms(data) for data in own)) or model_card.UNKNOWN_TERMS,
            }
        )
    emit_table(rows, as_json=json)


@app.command("prepare")
def prepare_command(
    model: Annotated[str, typer.Argument(metavar="PATH-or-NAME", help="A known name or a GGUF file.")] = models.DEFAULT,
    format_: Annotated[
        Format, typer.Option("--format", help="auto: the fastest that is close enough; otherwise the one to convert to.")
    ] = Format.auto,
    max_divergence: Annotated[
        float,
        typer.Option("--max-divergence", min=0.0, callback=finite_number, help="Mean KL (nats) from the file as it is that auto accepts."),
    ] = 0.01,
    json: Json = False,
) -> None:
    """Measure which engine, in which format, computes a model fastest on this machine, and keep that one."""
    from simulator.execution import cores  # noqa: PLC0415
    from simulator.llm import engines, formats  # noqa: PLC0415
    from simulator.llm.llama_native import can_use_gpu  # noqa: PLC0415

    path = models.resolve(model)
    threads, layers = cores(), -1 if can_use_gpu() else 0
    with progress() as display:
        display.add_task(f"measuring {path.name}", total=None, detail="")
        measured: Mapping[str, Measurement] = {}
        if format_ is Format.auto and path.stat().st_size <= formats.MOST_BYTES:
            measured = engines.choose(path, threads=threads, gpu_layers=layers, max_divergence=max_divergence, anew=True).measured
        prepared, texts = engines.prepare(path, format_.value, threads=threads, gpu_layers=layers, max_divergence=max_divergence)
    rows = [
        {
            "engine": engines.engine_of(name),
            "format": name,
            "tokens/s": round(result.tokens_per_second),
            "texts, tokens/s": round(result.writing),
            "mean KL": None if result.fault else f"{result.divergence:.1e}",
            "taken": _verdict(name, result, prepared.format, max_divergence),
        }
        for name, result in measured.items()
    ]
    if json:
        kept = {"engine": prepared.engine, "format": prepared.format, "text_format": texts.format, "file": str(prepared.path)}
        emit({"model": str(path), "sha256": prepared.sha256, **kept, "measured": rows}, as_json=True)
        return
    if rows:
        emit_table(rows, as_json=False, title=f"{path.name}: speed of one thread with each engine and format")
    emit({}, as_json=False, rows=[("engine", prepared.engine), ("format", prepared.format), ("file", str(prepared.path))])


def _verdict(name: str, result: Measurement, taken: str, max_divergence: float) -> str:
    """Why a format was taken or not, in words."""
    if result.fault is not None:
        return f"left out: {result.fault}"
    if name == taken:
        return "taken: the fastest that is close enough"
    if name != "as-is" and result.divergence > max_divergence:
        return f"refused: further than {max_divergence:g} from the file as it is"
    return "not taken: slower"
