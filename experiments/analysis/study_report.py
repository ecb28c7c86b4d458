"""`report.html` of a study: the question, what was found, the figure, all numbers, how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.analysis import html_page
from experiments.analysis.figure_style import Made
from simulator.files import write_atomically

MOST_ROWS = 400
"""Rows that the table shows; ``study.json`` has all."""

NOTES = (
    "The people are simulated: what is found holds for them, and for real people as far as they are alike (usersim fidelity).",
    "Intervals resample people and hold recommender, model and seed fixed; they say nothing about other seeds, data or models.",
    "Many numbers are shown and none is corrected for being one of many.",
)


def write_report(document: Mapping[str, Any], figure: Made, folder: Path) -> Path:
    """Writes ``report.html`` into the folder of a study and returns where it is.

    Args:
        document: see `experiments.studies.study.document_of`. figure: of it. folder: of the study.
    """
    rows = [_cells(row) for row in document["rows"] if row["x"] is None][:MOST_ROWS]
    arms = [
        [
            name,
            entry["policy"] or "",
            entry["decided_by"],
            *(f"{entry[key] or 0:,}" for key in ("pages", "impressions", "interactions")),
            entry["run"],
        ]
        for name, entry in document["arms"].items()
    ]
    html = html_page.render(
        "study.html.j2",
        title=f"Study: {document['name']}",
        lead=(
            f"{document['question']} {document['people']:,} simulated people of {document['data']}, {len(arms)} arms, {document['rounds']} "
            f"{'round' if document['rounds'] == 1 else 'rounds'}; decided by {'; '.join(document['decided_by'])}."
        ),
        sentences=document["sentences"],
        figures=[html_page.picture(document["name"].replace("-", " ").capitalize(), figure.caption, figure.path)],
        rows=rows,
        arms=arms,
        notes=NOTES,
        command=f"usersim study {folder.name}/study.toml --output NEW-FOLDER",
    )
    write_atomically(folder / "report.html", html.encode())
    return folder / "report.html"


def _cells(row: Mapping[str, Any]) -> list[str]:
    interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
    if row["silent"]:
        interval = f"tells nothing: {row['silent']}"
    value = "–" if row["value"] is None else f"{row['value']:.3f}"
    truth = "" if row["truth"] is None else f"{row['truth']:.3f}"
    against = row["against"] or "(a value)"
    return [row["arm"], row["metric"].replace("_", " "), row["group"], against, value, interval, truth]
