"""`usersim ask`: what simulated users would do with given items, and what that is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.commands.options import Json, opens_runs
from experiments.console import emit, emit_table, finite, note, stages

if TYPE_CHECKING:
    import polars as pl

    from experiments.ask import Answers

Target = Annotated[Path, typer.Argument(metavar="RUN|CONFIG", help="Folder of a complete run; or an experiment file.")]
Pairs = Annotated[
    Path | None,
    typer.Option("--pairs", help="CSV or Parquet file with the columns user and item, and page where rows of a user are one page."),
]
Logged = Annotated[bool, typer.Option("--logged", help="Ask again about every page of the run, instead of --pairs.")]
When = Annotated[
    Literal["start", "end"] | None,
    typer.Option("--when", help="Users as they were before the run, or as it left them [default: end of a run, start of an experiment]."),
]
Visits = Annotated[
    int, typer.Option("--visits", min=0, max=10_000, help="Average over the moods of so many visits; 0 asks about the usual visit.")
]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write the answers to this CSV file; joints of pages beside it.")]
Parquet = Annotated[Path | None, typer.Option("--parquet", help="The same as Parquet files.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("ask", help="Ask users with what probability they would choose and how they would rate given items, and why.")(ask)


@opens_runs
def ask(
    target: Target,
    pairs: Pairs = None,
    logged: Logged = False,
    when: When = None,
    visits: Visits = 0,
    csv: Csv = None,
    parquet: Parquet = None,
    json: Json = False,
) -> None:
    """Asks simulated users."""
    from experiments import ask as asking  # noqa: PLC0415 - slow imports, and only here
    from simulator.errors import ConfigError  # noqa: PLC0415

    if logged == (pairs is not None):
        raise ConfigError("give either --pairs with a file of users and items, or --logged to ask again about the pages of a run.")
    if logged and (when is not None or visits):
        raise ConfigError("--logged asks each page as it was met; --when and --visits go with --pairs.")
    with stages() as tell:

        def report(what: str, done: int, total: int, result: object) -> None:
            tell(what, done, total)

        if logged:
            table = asking.ask_again(target, report)
            _write({"": table}, csv, parquet)
            _show_logged(target, table, json)
            return
        assert pairs is not None
        found = asking.ask(target, pairs, when=when, visits=visits, report=report)
    tables = {"": found.pairs, "-numbers": found.numbers, "-given-number": found.given_number, "-sets": found.sets}
    _write({name: table for name, table in tables.items() if not name or table.height}, csv, parquet)
    if json:
        emit(document(found), as_json=True)
        return
    emit_table(_short(found.pairs), as_json=False, title=_title(found))
    if found.numbers.height:
        emit_table(_pages(found), as_json=False, title="pages: how many of the items are chosen")
    for sentence in found.about["assumptions"]:
        note(f"assumed: {sentence}")


def document(found: Answers) -> dict[str, Any]:
    """The answers as one JSON document: `about`, and the rows of each table."""
    return {
        "about": dict(found.about),
        "pairs": finite(found.pairs.to_dicts()),
        "numbers": finite(found.numbers.to_dicts()),
        "given_number": finite(found.given_number.to_dicts()),
        "sets": finite(found.sets.to_dicts()),
    }


def _write(tables: dict[str, pl.DataFrame], csv: Path | None, parquet: Path | None) -> None:
    """Writes each table beside the others; lists in a CSV file are joined by '|'."""
    import io  # noqa: PLC0415

    import polars as pl  # noqa: PLC0415

    from simulator.files import write_atomically  # noqa: PLC0415

    for ending, table in tables.items():
        if csv is not None:
            lists = [name for name, kind in table.schema.items() if kind.base_type() is pl.List]
            text = table.with_columns(pl.col(lists).list.join("|")).write_csv()
            write_atomically(csv.with_name(f"{csv.stem}{ending}{csv.suffix or '.csv'}"), text.encode())
        if parquet is not None:
            stream = io.BytesIO()
            table.write_parquet(stream)
            write_atomically(parquet.with_name(f"{parquet.stem}{ending}{parquet.suffix or '.parquet'}"), stream.getvalue())


def _short(pairs: pl.DataFrame) -> list[dict[str, str]]:
    """What fits on a screen: probability, expected rating, and the parts of the log-odds by kind."""
    from agents.addends import kind  # noqa: PLC0415

    rows = []
    for row in pairs.iter_rows(named=True):
        shown = {"user": row["user"], "item": row["item"]}
        shown |= {"page": row["page"]} if row.get("page") is not None else {}
        shown |= {"choose": f"{row['choose']:.4f}"}
        if row.get("expected_rating") is not None:
            shown["rating"] = f"{row['expected_rating']:.2f}"
        shown["log-odds"] = f"{row['logit']:+.2f}" if "logit" in row else ""
        sums: dict[str, float] = {}
        for name, value in row.items():
            if name.startswith("part: "):
                what = kind(name.removeprefix("part: "))
                sums[what] = sums.get(what, 0.0) + value
        rows.append(shown | {name: f"{value:+.2f}" for name, value in sums.items()})
    return rows


def _pages(found: Answers) -> list[dict[str, str]]:
    rows = []
    for (user, page), own in found.numbers.group_by("user", "page", maintain_order=True):
        chances = own["probability"].to_list()
        rows.append({"user": str(user), "page": str(page), "expected": f"{sum(k * p for k, p in enumerate(chances)):.2f}"})
        rows[-1] |= {f"{number}": f"{chance:.3f}" for number, chance in enumerate(chances[:6])}
    return rows


def _title(found: Answers) -> str:
    about = found.about
    rate = "" if about["choose_rate"] is None else f", choose_rate {about['choose_rate']:g}"
    visit = f"mean over {about['visits']} visits" if about["visits"] else "in the usual visit"
    return f"{about['experiment']}: users at the {about['when']} of the run{rate}, {visit}; parts are log-odds that sum to 'log-odds'"


def _show_logged(target: Path, table: pl.DataFrame, json: bool) -> None:
    away = (table["choose"] - table["logged"]).abs().max() if table.height else None
    emit(
        {"run": str(target), "impressions": table.height, "largest_difference": away},
        as_json=json,
        title="probabilities of choosing, asked again and logged",
    )
