"""The README's table of speed, written from `results/benchmarks/inference.json` between two marks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from experiments import marked_tables
from simulator.errors import RunError
from simulator.run_directory import write_atomically

START: Final[str] = "<!-- speed: written by `usersim benchmark table` -->"
END: Final[str] = "<!-- end of speed -->"

Row = tuple[str, str, str]
"""What it is, what was measured, what is wanted."""


def rows(result: Mapping[str, Any]) -> list[Row]:
    """The figures of a result for people; what is missing is left out."""

    def known(*keys: str) -> bool:
        return all(result.get(key) is not None for key in keys)

    table: list[Row] = []
    if known("thousand_people_seconds", "run_pages"):
        exact = result["people"] == 1000
        what = "1,000 people, up to 5 pages of 4 items, from start to report" + ("" if exact else f" (from a run of {result['people']})")
        table.append((what, f"{result['thousand_people_seconds']:.0f} s, {result['run_pages']:,} pages", "at most 250 s"))
    if known("make_run_seconds"):
        what = f"{result['make_run_people']} people of `make run` after set-up, with empty caches"
        table.append((what, f"{result['make_run_seconds']:.0f} s, {result['make_run_pages']:,} pages", "at most 220 s"))
    if known("speedup_over_llama"):
        what = f"pages per second of {result['engine']} in {result['engine_format']}, against llama.cpp in {result['llama_format']}"
        table.append((what, f"{result['speedup_over_llama']:.2f} times", "at least 1.5"))
    if known("share_of_machine"):
        rates = ", ".join(f"{kind} {rate:.0f}" for kind, rate in result["machine_gflops"].items())
        figures = f"{result['reached_gflops']:.0f} GFLOP/s a core; products reach {rates}"
        table.append(
            ("operations per second, over those of the faster float products", f"{result['share_of_machine']:.2f} ({figures})", "")
        )
        table.append(("operations per second, over those of products in the type that is used", f"{result['share_of_type']:.2f}", ""))
    if known("share_of_ceiling"):
        figures = f"{result['page_tokens_per_second']:.0f} of {result['ceiling_tokens_per_second']:.0f} tokens/s a core"
        table.append(
            (
                "pages by llama.cpp, as a share of its plain prompt speed",
                f"{result['share_of_ceiling']:.0%} ({figures})",
                "at least 85%",
            )
        )
    if known("speedup_over_chat"):
        figures = f"{result['pages_per_second']:.1f} against {result['chat_pages_per_second']:.2f} pages/s"
        table.append(
            ("pages per second, against one chat call per page", f"{result['speedup_over_chat']:.1f} times ({figures})", "at least 12")
        )
    if known("tokens_computed_share", "tokens_computed_floor"):
        floor = f"{result['tokens_computed_floor']:.0%} if every prefix that comes back were kept"
        table.append(("tokens computed, of those in the prompts", f"{result['tokens_computed_share']:.0%} ({floor})", ""))
    if known("peak_memory_gb"):
        table.append(("largest memory of all processes together", f"{result['peak_memory_gb']:.2f} GB", "at most 2.5 GB"))
    if known("mean_kl"):
        table.append(
            ("divergence from plain evaluation of the file as shipped (mean KL, nats)", f"{result['mean_kl']:.4f}", "at most 0.01")
        )
    if known("flip_rate"):
        table.append(("decisions that come out differently for it", f"{result['flip_rate']:.2%} of {result['decisions_compared']:,}", ""))
    if known("same_log"):
        table.append(
            (
                "same log with 1 and 2 workers, killed and resumed, cache cold and warm",
                "yes, to the byte" if result["same_log"] else "**no**",
                "yes",
            )
        )
    return table


def markdown(result: Mapping[str, Any]) -> str:
    """The table with what it was measured on."""
    model, machine = result["model"], result["machine"]
    lines = ["| what | measured | wanted |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows(result))]
    lines += [
        "",
        f"Measured on {result['date'][:10]} with {machine['cores']} cores of an {machine['processor']}, {result['processes']} processes of "
        f"{result['threads_each']} thread; {model['name']} in {model['format']}, {model['backend']}. "
        "`usersim benchmark inference` measures it again.",
    ]
    load = machine.get("load_before", 0.0)
    if load > machine["cores"]:
        lines[-1] += (
            f" The machine was busy with other work (load {load:.0f} on {machine['cores']} cores): seconds are too high, ratios hold."
        )
    return "\n".join(lines)


def read(file: Path) -> dict[str, Any]:
    """A result.

    Raises:
        RunError: there is none, or it is not JSON.
    """
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"there is no result at {file}; measure one with: usersim benchmark inference") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{file} line {error.lineno} is not JSON: {error.msg}; measure anew with: usersim benchmark inference") from error
    return found


def rewritten(text: str, table: str) -> str:
    """A document with the table between its marks replaced.

    Raises:
        RunError: the marks are not there once each, in order.
    """
    new = marked_tables.between(text, START, END, table)
    if new is None:
        raise RunError(f"the document must have the lines '{START}' and '{END}' once each, in this order; the table goes between them.")
    return new


def write(document: Path, result: Mapping[str, Any]) -> bool:
    """Writes the table into a document; whether that changed it.

    Raises:
        RunError: the document is missing or has no marks.
    """
    if not document.is_file():
        raise RunError(f"there is no document {document}; name one that has the line '{START}'.")
    old = document.read_text(encoding="utf-8")
    new = rewritten(old, markdown(result))
    if new != old:
        write_atomically(document, new.encode())
    return new != old
