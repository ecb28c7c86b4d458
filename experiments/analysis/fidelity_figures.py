"""The figures of a fidelity report, from its document; beside `figures.py` the only module that uses matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.analysis.figure_style import REAL, SHOWN, SIMULATED, STYLE, THIRD, WIDTH, write_figure
from experiments.trait_sentences import LEVELS

Document = Mapping[str, Any]

NAMES: Mapping[str, str] = {
    "random": "random",
    "popularity": "popularity",
    "evidence": "evidence",
    "llm": "language model alone",
    "calibrated_no_llm": "calibrated, no language model",
    "calibrated": "calibrated",
    "experiment": "the experiment's own",
    "biases": "person and item bias",
    "global_histogram": "everybody's histogram",
}
"""Decision models and controls as readers know them."""

TRAIT_UNITS: Mapping[str, str] = {
    "activity": "choices\nper session",
    "conformity": "squared deviation\nfrom item means",
    "diversity": "genre entropy\nof choices, bits",
    "pickiness": "mean stars",
}


def areas(document: Document) -> Figure | None:
    """Area under the curve of every decision model, with random and with matched negatives, and intervals."""
    models = document["parts"].get("choose", {}).get("models", {})
    names = [name for name in NAMES if "matched_1_1" in models.get(name, {})]
    if not names:
        return None
    figure, axes = _figure(0.7 + 0.36 * len(names))
    places = np.arange(len(names))[::-1]
    for offset, mix, colour, label in (
        (0.17, "random_1_1", SHOWN, "random negatives"),
        (-0.17, "matched_1_1", SIMULATED, "matched in popularity"),
    ):
        found = [models[name][mix]["auc"] for name in names]
        values = np.array([entry["value"] for entry in found])
        axes.barh(places + offset, values - 0.5, left=0.5, height=0.3, color=colour, label=label)
        axes.errorbar(values, places + offset, xerr=_lengths(found), fmt="none", ecolor="black", elinewidth=0.8)
        for place, value, entry in zip(places, values, found, strict=True):
            axes.text(max(value, entry["high"] or value) + 0.008, place + offset, f"{value:.2f}", va="center", fontsize=6.5)
    axes.axvline(0.5, color="black", linewidth=0.6)
    axes.set_yticks(places, [NAMES[name] for name in names])
    axes.set_xlim(0.45, 1.02)
    axes.set_xlabel("AUC (0.5 is chance)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def calibration(document: Document) -> Figure | None:
    """Mean real rating where the expected rating is low or high: the decision model and the biases."""
    ratings = document["parts"].get("ratings", {})
    main = ratings.get("models", {}).get(document["model"])
    if main is None:
        return None
    figure, axes = _figure(2.6)
    lines = [(document["model"], main, SIMULATED, "o"), ("biases", ratings["controls"]["biases"], REAL, "s")]
    every = []
    for name, found, colour, marker in lines:
        x, y = [bin_["expected"] for bin_ in found["curve"]], [bin_["real"] for bin_ in found["curve"]]
        every += [*x, *y]
        slope = found["slope"]["value"]
        label = f"{NAMES[name]} (slope {slope:.2f})" if slope is not None else NAMES[name]
        axes.plot(x, y, marker=marker, color=colour, label=label)
    limits = (min(every) - 0.1, max(every) + 0.1)
    axes.plot(limits, limits, color=SHOWN, linewidth=0.8, linestyle="--", label="expected = real")
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_xlabel("Expected rating")
    axes.set_ylabel("Mean real rating")
    axes.legend(loc="upper left")
    return figure


def histograms(document: Document) -> Figure | None:
    """Sampled ratings of held-out interactions against the real ones."""
    found = document["parts"].get("ratings", {}).get("models", {}).get(document["model"])
    if found is None:
        return None
    figure, axes = _figure(2.1)
    table = found["histogram"]
    values = np.array(table["values"])
    width = 0.38 * (values[1] - values[0])
    axes.bar(values - width / 2, table["real"], width=width, color=REAL, label="real")
    axes.bar(
        values + width / 2,
        table["sampled"],
        width=width,
        color=SIMULATED,
        label=f"{NAMES[document['model']]} (distance {found['tv']['value']:.3f})",
    )
    axes.set_xticks(values)
    axes.set_xlabel("Rating")
    axes.set_ylabel("Share of held-out ratings")
    figure.legend(loc="outside upper center", ncols=1)
    return figure


def distributions(document: Document) -> Figure | None:
    """Every distribution's distance from real behaviour as a multiple of its noise floor."""
    found = document["parts"].get("distributions", {}).get("distributions", {})
    marks = {
        "jensen_shannon": ("o", SIMULATED, "Jensen-Shannon"),
        "wasserstein": ("s", REAL, "Wasserstein"),
        "kolmogorov_smirnov": ("D", THIRD, "Kolmogorov-Smirnov"),
    }
    names = [name for name, entry in found.items() if any(result["ratio"] for result in entry["distances"].values())]
    if not names:
        return None
    figure, axes = _figure(0.9 + 0.36 * len(names))
    for number, (distance, (marker, colour, label)) in enumerate(marks.items()):
        known = [
            (place, found[name]["distances"][distance])
            for place, name in enumerate(reversed(names))
            if distance in found[name]["distances"]
        ]
        known = [(place, result) for place, result in known if result["ratio"] is not None]
        x, y = np.array([result["ratio"] for _, result in known]), np.array([place for place, _ in known]) + 0.22 * (1 - number)
        errors = np.vstack([x - [result["low"] for _, result in known], [result["high"] for _, result in known] - x]).clip(min=0)
        axes.errorbar(x, y, xerr=errors, fmt=marker, color=colour, label=label, markersize=3.5, elinewidth=0.8)
    axes.axvline(1.0, color=SHOWN, linewidth=0.8)
    axes.axvline(2.0, color=SHOWN, linewidth=0.8, linestyle="--", label="wanted: at most 2")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in 2.0 ** np.arange(-4, 10) if low <= tick <= high])
    axes.minorticks_off()
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in reversed(names)])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("Distance / noise floor")
    figure.legend(loc="outside lower center", ncols=2, columnspacing=0.8, handletextpad=0.2)
    return figure


def traits(document: Document) -> Figure | None:
    """Behaviour by level of each trait: real, of the experiment's own model, and of people who follow their prior alone."""
    found = document["parts"].get("traits", {}).get("traits", {})
    shown = [name for name in ("activity", "conformity", "diversity", "pickiness") if found.get(name, {}).get("models")]
    if not shown:
        return None
    main = document["model"]
    rows = (len(shown) + 1) // 2
    figure = Figure(figsize=(WIDTH, 0.35 + 1.6 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, min(2, len(shown)))).ravel()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, trait in zip(grid, shown, strict=False):
        entry = found[trait]
        lines = [("real", entry["real"], REAL, "s--"), (NAMES["random"], entry["models"].get("random"), SHOWN, "^:")]
        lines.append((NAMES.get(main, main), entry["models"].get(main) if main != "random" else None, SIMULATED, "o-"))
        for offset, (label, line, colour, form) in enumerate(lines):
            levels = [] if line is None else [name for name in LEVELS if line["levels"][name]["value"] is not None]
            if not levels:
                continue
            points = [line["levels"][name] for name in levels]
            places = [LEVELS.index(name) + 0.07 * (offset - 1) for name in levels]
            axes.errorbar(places, [point["value"] for point in points], yerr=_lengths(points), fmt=form, color=colour, label=label)
        if trait == "activity":
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set_title(trait.capitalize(), fontsize=7.5)
        axes.set_ylabel(TRAIT_UNITS[trait], fontsize=7)
        axes.set_xticks(range(3), LEVELS)
        axes.set_xlim(-0.35, 2.35)
        axes.margins(y=0.15)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def ranking(document: Document) -> Figure | None:
    """Recommenders in order of held-out NDCG, and in order of what the experiment's own model is expected to choose."""
    found, main = document["parts"].get("ranking", {}), document["model"]
    if main not in found.get("models", {}):
        return None
    real, simulated = found["recommenders"], found["models"][main]["gains"]
    names = [name for name in real if simulated[name]["value"] is not None]
    figure, axes = _figure(0.6 + 0.19 * len(names))
    orders = [[name for _, name in sorted((-side[name]["value"], name) for name in names)] for side in (real, simulated)]
    for name in names:
        heights = [-order.index(name) for order in orders]
        moved = abs(heights[1] - heights[0]) > 1
        axes.plot([0, 1], heights, "o-", color=SIMULATED if moved else SHOWN, markersize=3, linewidth=1.2)
        for side, place, form, aligned in ((real, 0, "{0}  {1:.2f}", "right"), (simulated, 1, "{1:.2f}  {0}", "left")):
            text = form.format(name.replace("_", " "), side[name]["value"])
            axes.text(place + (0.04 if place else -0.04), heights[place], text, ha=aligned, va="center", fontsize=7)
    axes.set_xlim(-0.75, 1.75)
    axes.set_xticks([0, 1], [f"real:\nheld-out NDCG@{found['places']}", "simulated: discounted share\nof shown items chosen"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


FIGURES: Mapping[str, Callable[[Document], Figure | None]] = {
    "choices": areas,
    "rating-calibration": calibration,
    "rating-histogram": histograms,
    "distributions": distributions,
    "ranking": ranking,
    "traits": traits,
}
"""Name -> function; None where the document has nothing to draw."""

PARTS: Mapping[str, str] = {
    "choices": "choose",
    "rating-calibration": "ratings",
    "rating-histogram": "ratings",
    "distributions": "distributions",
    "ranking": "ranking",
    "traits": "traits",
}
"""Name -> the part of the document that it shows."""

CAPTIONS: Mapping[str, str] = {
    "choices": "Held-out interactions told apart from items without interaction (1:1), with 95 % intervals over people.",
    "rating-calibration": "Mean real rating of held-out interactions by expected rating, ten equally full bins.",
    "rating-histogram": "Sampled ratings of held-out interactions against the real ones.",
    "distributions": "Distance of simulated from real behaviour as a multiple of its noise floor (real against real), with 95 % intervals.",
    "ranking": "Recommenders in order of held-out NDCG and of the expected share of their items that simulated people choose; "
    "orange: moved by more than one place.",
    "traits": "Behaviour by level of each trait (thirds of the people, from the training part), with 95 % intervals over people.",
}


def make_figures(document: Document, folder: Path) -> dict[str, Path]:
    """Draws what the document allows into ``<folder>/<name>.png``; name -> file, in the order of `FIGURES`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, draw in FIGURES.items():
        file = folder / f"{name}.png"
        with style.context(["default", dict(STYLE)]):
            figure = draw(document)
            if figure is None:
                file.unlink(missing_ok=True)
                continue
            made[name] = write_figure(figure, file, CAPTIONS[name], document["parts"][PARTS[name]]).path
    return made


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _lengths(found: list[Mapping[str, Any]]) -> np.ndarray:
    """Lengths of the error bars below and above, shape (2, n)."""
    sides = [(e["value"] - e["low"], e["high"] - e["value"]) if e["low"] is not None else (0.0, 0.0) for e in found]
    return np.array(sides).T.clip(min=0.0)
