"""The dose curve of an augmentation, in the style of `figures`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from experiments.analysis.figure_style import REAL, SHOWN, SIMULATED, STYLE, THIRD, WIDTH, Made, write_figure

_LINES: Mapping[str, tuple[str, str, str]] = {
    "duplicated": ("duplicated (size control)", SHOWN, "--"),
    "synthetic": ("synthetic", THIRD, "-"),
    "confidence": ("confidence", SIMULATED, "-"),
    "fidelity": ("fidelity", "#CC79A7", "-"),
    "exposure": ("exposure (no people)", REAL, ":"),
    "evidence": ("evidence (no people)", "#009E73", ":"),
}
"""Source -> name in the legend, colour and line."""

_STRATA: Mapping[str, str] = {"all": "everybody", "cold_users": "people with few interactions"}


def dose_curve(document: Mapping[str, Any], file: Path) -> Made:
    """Gain of NDCG over the real data alone against the dose: a row per recommender, a column for everybody and for cold users.

    Args:
        document: of `experiments.augmentation.augment`. file: the PNG file to write.
    """
    rows = [row for row in document["rows"] if row["source"] in _LINES]
    recommenders = list(dict.fromkeys(row["recommender"] for row in rows))
    doses = sorted({row["dose"] for row in rows})
    with style.context(["default", dict(STYLE)]):
        figure = Figure(figsize=(2 * WIDTH, 0.7 + 1.6 * len(recommenders)), layout="constrained")
        grid = figure.subplots(len(recommenders), len(_STRATA), squeeze=False, sharex=True, sharey="row")
        for axes_of_row, recommender in zip(grid, recommenders, strict=True):
            for axes, (stratum, title) in zip(axes_of_row, _STRATA.items(), strict=True):
                for number, (source, (label, colour, line)) in enumerate(_LINES.items()):
                    which = (recommender, source, stratum)
                    mine = [row for row in rows if (row["recommender"], row["source"], row["stratum"]) == which]
                    mine = sorted((row for row in mine if row["gain_over_real"]["value"] is not None), key=lambda row: row["dose"])
                    if not mine:
                        continue
                    # a little apart, so that intervals do not hide each other
                    places = [doses.index(row["dose"]) + 0.05 * (number - 2.5) for row in mine]
                    values = [row["gain_over_real"]["value"] for row in mine]
                    below = [value - row["gain_over_real"]["low"] for value, row in zip(values, mine, strict=True)]
                    above = [row["gain_over_real"]["high"] - value for value, row in zip(values, mine, strict=True)]
                    axes.errorbar(places, values, yerr=[below, above], color=colour, linestyle=line, elinewidth=0.6, capsize=0, label=label)
                    axes.plot(places, values, "o", color=colour, markersize=2.5)
                axes.axhline(0.0, color="black", linewidth=0.6)
                axes.set_title(f"{recommender}: {title}")
                axes.set_xticks(range(len(doses)), [f"{dose:.0%}" for dose in doses])
            axes_of_row[0].set_ylabel(f"gain of NDCG@{document['k']}")
        for axes in grid[-1]:
            axes.set_xlabel("added interactions, share of the real ones")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        caption = (
            f"Gain of NDCG@{document['k']} on held-out interactions of {document['data']} by training on more than the real interactions, "
            f"against the number added, over {len(document['seeds'])} seeds; 95 % intervals resample people and seeds. The size control "
            "adds copies of real interactions; dotted: items that the exposing recommender or the people's evidence ranks first, without "
            "a decision."
        )
        return write_figure(figure, file, caption, document["rows"])
