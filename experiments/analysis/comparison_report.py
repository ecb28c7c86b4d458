"""`report.html` of a comparison: verdicts, differences, figures, what a reader must know, how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.analysis import comparison_tables as tables
from experiments.analysis import html_page
from experiments.analysis.figure_style import Made
from simulator.files import write_atomically

TITLES: Mapping[str, str] = {"by-round": "By round", "differences": "Differences", "power": "People needed"}
"""Headings of the figures."""


def write_report(document: Mapping[str, Any], figures: Mapping[str, Made], folder: Path, command: str) -> Path:
    """Writes ``report.html`` into the folder of a comparison and returns where it is.

    Args:
        document: see `experiments.comparison.compare`. figures: of it. folder: of the comparison.
        command: what makes the comparison again.
    """
    arms = [arm for arm in document["arms"] if arm != document["baseline"]]
    verdicts = {verdict["arm"]: verdict["sentence"] for verdict in document["verdicts"]}
    rows = {arm: tables.rows_of(document, arm) for arm in arms}
    values = tables.values_of(document)
    counts = [
        [
            name,
            entry["policy"] or "",
            *(f"{entry['counts'][key]:,}" for key in ("sessions", "pages", "impressions", "interactions", "ratings")),
            runs,
        ]
        for (name, entry), runs in zip(document["arms"].items(), _runs(document), strict=True)
    ]
    html = html_page.render(
        "comparison.html.j2",
        title=f"{', '.join(arms)} against {document['baseline']} on {document['data']}",
        lead=(
            f"The same {document['people']:,} simulated people before {len(document['arms'])} recommenders, {document['rounds']} "
            f"{'round' if document['rounds'] == 1 else 'rounds'}, {'seed' if len(document['seeds']) == 1 else 'seeds'} "
            f"{', '.join(map(str, document['seeds']))}."
        ),
        verdicts=[verdicts[arm] for arm in arms],
        tables=[(arm, list(rows[arm][0]), [list(row.values()) for row in rows[arm]]) for arm in arms],
        values=(list(values[0]), [list(row.values()) for row in values]),
        counts=counts,
        figures=[html_page.picture(TITLES[name], made.caption, made.path) for name, made in figures.items()],
        notes=tables.notes(document),
        command=command,
    )
    write_atomically(folder / "report.html", html.encode())
    return folder / "report.html"


def _runs(document: Mapping[str, Any]) -> list[str]:
    return [", ".join(entry["runs"]) for entry in document["arms"].values()]
