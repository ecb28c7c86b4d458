"""`usersim doctor`: what is installed, what this machine has, and whether the parts work together."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from experiments.commands.options import Json
from experiments.console import emit_table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor", help="Check the installation: versions, CPU and GPU, model files, data sets, speed.")(doctor)


def doctor(json: Json = False) -> None:
    """Checks the installation; exit status 1 if something is broken."""
    rows = [*_packages(), *_machine(), *_data(), *_model()]
    emit_table(rows, as_json=json, title="usersim doctor", columns=("check", "state", "found"))
    if any(row["state"] == "broken" for row in rows):
        raise typer.Exit(1)


def _row(check: str, state: str, found: object) -> dict[str, str]:
    return {"check": check, "state": state, "found": str(found)}


def _packages() -> list[dict[str, str]]:
    from experiments.cli import foreign_packages  # noqa: PLC0415
    from experiments.manifest import PACKAGES  # noqa: PLC0415

    foreign = foreign_packages()
    rows = [
        _row("usersim", "ok", f"{metadata.version('usersim')} at {Path(__file__).resolve().parents[2]}"),
        _row("packages", "broken" if foreign else "ok", foreign[0] if foreign else "simulator, agents, environments, experiments are ours"),
    ]
    for name in PACKAGES:
        try:
            rows.append(_row(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(_row(name, "broken", f"not installed; pip install {name}"))
    return rows


def _machine() -> list[dict[str, str]]:
    import psutil  # noqa: PLC0415

    from simulator.execution import cores  # noqa: PLC0415
    from simulator.paths import cache_folder  # noqa: PLC0415

    memory = psutil.virtual_memory()
    return [
        _row("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        _row("cores", "ok", cores()),
        _row("memory", "ok", f"{memory.total / 2**30:.1f} GB, {memory.available / 2**30:.1f} GB free"),
        _row("GPU", "ok", _gpu()),
        _row("cache", "ok", cache_folder()),
    ]


def _gpu() -> str:
    try:
        import llama_cpp  # noqa: PLC0415
        import torch  # noqa: PLC0415
    except (ImportError, OSError, RuntimeError) as error:
        return f"unknown ({error})"
    offload = "can" if llama_cpp.llama_supports_gpu_offload() else "cannot"
    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that torch can use"
    return f"{card} (torch {torch.__version__}); this build of llama.cpp {offload} use one"


def _data() -> list[dict[str, str]]:
    from simulator.paths import data_folder  # noqa: PLC0415

    rows = []
    for name in ("ml-100k", "ml-1m", "ml-latest-small"):
        folder = data_folder(name)
        there = folder.is_dir() and any(folder.iterdir())
        rows.append(_row(f"data {name}", "ok" if there else "absent", folder if there else f"usersim data get {name}"))
    return rows


def _model() -> list[dict[str, str]]:
    from simulator.errors import UsersimError  # noqa: PLC0415
    from simulator.llm.models import DEFAULT, is_present  # noqa: PLC0415

    if not is_present(DEFAULT):
        return [_row(f"model {DEFAULT}", "absent", f"usersim models get {DEFAULT}")]
    try:
        return [*_engines(), _row(f"model {DEFAULT}", "ok", _speed())]
    except UsersimError as error:
        return [_row(f"model {DEFAULT}", "broken", error)]


def _engines() -> list[dict[str, str]]:
    """Every engine and format, each tried in a process of its own: what a broken library would do to a run."""
    from simulator.execution import cores  # noqa: PLC0415
    from simulator.llm import engines, trials  # noqa: PLC0415
    from simulator.llm.llama_native import can_use_gpu  # noqa: PLC0415
    from simulator.llm.models import resolve  # noqa: PLC0415

    path, layers = resolve(), -1 if can_use_gpu() else 0
    choice = engines.choose(path, threads=cores(), gpu_layers=layers, max_divergence=0.01)
    rows = []
    for name, result in choice.measured.items():
        taken = " (taken)" if name == choice.format else ""
        found = f"{result.tokens_per_second:.0f} tokens/s a thread{taken}"
        # A file that is refused is no fault of the library; one that kills it is.
        state = "ok" if result.fault is None else "broken"
        rows.append(_row(f"{engines.engine_of(name)} {name}", state, found if result.fault is None else result.fault))
    if any(row["state"] == "broken" and row["check"].startswith(engines.LLAMA) for row in rows):
        rows.append(_row(engines.LLAMA, "broken", trials.REMEDY))
    if not any(engines.engine_of(name) == engines.TORCH for name in choice.measured):
        rows.append(_row(engines.TORCH, "absent", engines.why_not_torch(path) or "a GPU computes"))
    return rows


def _speed() -> str:
    """Prompt speed of the default model on one long text."""
    from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig  # noqa: PLC0415
    from simulator.records import Probe, Prompt, Segment  # noqa: PLC0415

    model: Any = LlamaCpp(LlamaCppConfig())
    try:
        text = "A person looks at a page of films and picks one to watch tonight. " * 24
        prompts = [Prompt((Segment((f"{number}. {text}Watch:", Probe("watch", ("yes", "no")))),)) for number in range(3)]
        model.score(prompts[:1])
        before, started = model.usage, time.perf_counter()
        model.score(prompts[1:])
        speed = (model.usage - before).computed_tokens / (time.perf_counter() - started)
        identity = model.identity
        layers = identity.settings["gpu_layers"]
        where = "on the CPU" if layers == 0 else "all layers on the GPU" if layers == -1 else f"{layers} layers on the GPU"
        return f"{speed:.0f} prompt tokens/s {where}, format {identity.settings.get('format')}, {identity.backend}"
    finally:
        model.close()
