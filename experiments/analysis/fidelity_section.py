"""What `report.html` says about fidelity, if `usersim fidelity` has measured the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.analysis import html_page
from experiments.analysis.fidelity_figures import CAPTIONS, PARTS
from experiments.analysis.figure_style import measurement, measurement_in
from experiments.fidelity import satisfaction
from experiments.fidelity.headline import table
from experiments.trait_sentences import of_report
from simulator.errors import RunError
from simulator.files import read_json, reading

_log = logging.getLogger("simulator.report")


def section(run: Path) -> dict[str, Any] | None:
    """The table, a sentence before it and the figures; None if nothing was measured, or, with a warning, if the file cannot be read.

    Args:
        run: folder of the run.
    """
    file = run / "fidelity" / "fidelity.json"
    if not file.exists():
        return None
    way_out = f"the report leaves it out; measure again with `usersim fidelity {run}`"
    try:
        document = read_json(file, way_out)
        with reading(file, way_out):
            return _section(run, document)
    except RunError as error:
        _log.warning("%s", error)
        return None


def _section(run: Path, document: dict[str, Any]) -> dict[str, Any]:
    figures = [(name, file) for name in CAPTIONS if _of(document, name, file := run / "fidelity" / "figures" / f"{name}.png")]
    parts = document.get("parts", {})
    return {
        "lead": (
            f"{document['people']:,} held-out people of {document['data']} ({document['split']['method']} split), whose held-out "
            f"interactions were used for nothing else; decision model '{document['model']}'. Intervals resample people."
        ),
        "sentences": [
            *document.get("warnings", []),
            *of_report(parts.get("traits", {}), document["model"]),
            *satisfaction.sentences(parts.get("satisfaction", {})),
        ],
        "rows": [
            (
                row["figure"],
                row["simulated"],
                row["noise floor"],
                row["target"] + (f": {row['met']}" if row["met"] else ""),
                row["controls"],
            )
            for row in table(document)
        ],
        "figures": [html_page.picture(name.replace("-", " ").capitalize(), CAPTIONS[name], file) for name, file in figures],
    }


def _of(document: Mapping[str, Any], name: str, file: Path) -> bool:
    """Whether a figure is there, and drawn from this document and no earlier one (as far as it says)."""
    if not file.is_file():
        return False
    held = measurement_in(file)
    return held is None or held == measurement(document.get("parts", {}).get(PARTS[name]))
