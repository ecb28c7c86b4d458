"""`usersim fidelity --log`: a log of somebody else's simulated users against held-out real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.console import emit, emit_table, note

if TYPE_CHECKING:
    from experiments.fidelity.context import Report

LogFile = Annotated[
    Path | None,
    typer.Option("--log", help="Judge this log (CSV, JSON, Parquet, or a run's folder) of simulated users, with --data, instead of a run."),
]
Data = Annotated[
    Path | None, typer.Option("--data", help="With --log: experiment file, or the name of one, whose [dataset] is the real data.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=NAME",
        help="With --log: column of user, item, rating, timestamp, session, page, position, chosen or probability, or how they are written "
        "(separator, time_unit, time_format, encoding); may be repeated.",
    ),
]
Users = Annotated[
    str,
    typer.Option("--users", help="With --log: 'id' where its users have the data's ids, 'none', or a table with the columns log and user."),
]
Days = Annotated[
    float | None, typer.Option("--days", min=0.01, help="With --log: how long it lasts [default: from its first row to its last].")
]
SkipUnknown = Annotated[bool, typer.Option("--skip-unknown", help="With --log: leave out rows of unknown users and items, and count them.")]

ROLES = ("user", "item", "rating", "timestamp", "session", "page", "position", "chosen", "probability")
HOW = ("separator", "time_unit", "time_format", "encoding")


def judge_log(
    log: Path,
    data: Path | None,
    columns: Sequence[str] | None,
    users: str,
    days: float | None,
    *,
    set_: list[str] | None,
    skip: bool,
    output: Path | None,
    people: int,
    bootstrap: int,
    seed: int | None,
    json: bool,
    tell: Report,
) -> None:
    """Judges a log and prints the report; arguments as the options of the command.

    Raises:
        UsersimError: an option, the log or the data cannot be used.
    """
    from experiments import config as configuration  # noqa: PLC0415 - slow imports, and only here
    from experiments.fidelity.headline import table  # noqa: PLC0415
    from experiments.fidelity.judged_log import judge  # noqa: PLC0415
    from simulator.errors import ConfigError  # noqa: PLC0415

    if data is None:
        raise ConfigError("--log needs --data with an experiment file, or the name of one, whose [dataset] is the real data.")
    config = configuration.read(data, set_ or [])
    folder = output or Path("results") / config.name / f"fidelity-of-{log.name.partition('.')[0]}"
    document = judge(
        log,
        config,
        columns=columns_of(columns or ()),
        users=users if users in ("id", "none") else Path(users),  # type: ignore[arg-type]
        days=days,
        skip=skip,
        folder=folder,
        people=people,
        bootstrap=bootstrap,
        seed=seed,
        tell=tell,
    )
    if json:
        emit({"file": str(folder / "fidelity.json"), **document}, as_json=True)
        return
    about = document["log"]
    title = f"{about['name']} beside {document['data']}: {about['users']} users, {about['choices']:,} choices, {about['days']:g} days"
    emit_table([*table(document), *rows(document)], as_json=False, title=title)
    for sentence in document["warnings"]:
        note(sentence)
    tell_missing(document, "not judged")
    note(f"all figures: {folder / 'fidelity.json'}")


def columns_of(given: Sequence[str]) -> dict[str, Any]:
    """Options of a log from ``ROLE=NAME``.

    Raises:
        ConfigError: a role is unknown or has no name.
    """
    from simulator.errors import ConfigError, with_suggestion  # noqa: PLC0415

    found: dict[str, Any] = {}
    for entry in given:
        role, equals, name = entry.partition("=")
        if not equals or not name:
            raise ConfigError(f"--column {entry}: write ROLE=NAME, for example --column user=customer.")
        if role not in (*ROLES, *HOW):
            raise ConfigError(f"--column {entry}: {with_suggestion('role', role, (*ROLES, *HOW))}")
        found[role] = name
    return found


def rows(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is said of choices without a decision model, in the form of the table of a report."""
    found, lines = document["parts"]["shown"], []

    def line(title: str, value: Any, controls: str = "") -> None:
        if value is None or value.get("value") is None:
            return
        interval = "" if value.get("low") is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
        lines.append(
            {
                "figure": title,
                "simulated": f"{value['value']:.3f}{interval}",
                "controls": controls,
                "noise floor": "",
                "target": "",
                "met": "",
            }
        )

    if "hits" in found:
        line("held-out items among the choices, times what their popularity explains", found["hits"]["lift"])
    if "among_shown" in found:
        own = found["among_shown"]
        baselines = ", ".join(f"{name} {value:.3f}" for name, value in own.get("baselines", {}).items())
        line("held-out item of those shown before another one: AUC", own["auc"], baselines)
        line("lift in it over the best baseline", own.get("lift"))
    line("share of shown items that is chosen", found.get("choose_rate"))
    return lines


def tell_missing(document: Mapping[str, Any], word: str) -> None:
    """Says of a report what has no figures, and why; `word` begins each line."""
    for part, reason in document["not_measured"].items():
        for what, why in reason.items() if isinstance(reason, Mapping) else [("", reason)]:
            note(f"{word}: {part}{': ' if what else ''}{what}: {why}")
