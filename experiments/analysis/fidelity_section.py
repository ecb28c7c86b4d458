"""What `report.html` says about fidelity, if `usersim fidelity` has measured the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.analysis import html_page
from experiments.analysis.fidelity_figures import CAPTIONS
from experiments.fidelity.headline import table


def section(run: Path) -> dict[str, Any] | None:
    """The table, a sentence before it and the figures; None if nothing was measured or the file cannot be read.

    Args:
        run: folder of the run.
    """
    try:
        document = json.loads((run / "fidelity" / "fidelity.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    figures = [(name, run / "fidelity" / "figures" / f"{name}.png") for name in CAPTIONS]
    return {
        "lead": (
            f"{document['people']:,} held-out people of {document['data']} ({document['split']['method']} split), whose held-out "
            f"interactions were used for nothing else; decision model '{document['model']}'. Intervals resample people."
        ),
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
        "figures": [
            html_page.picture(name.replace("-", " ").capitalize(), CAPTIONS[name], file) for name, file in figures if file.is_file()
        ],
    }
