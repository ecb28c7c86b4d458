"""The figures of a run, sized for one column of a paper. The only module that uses matplotlib.

Each function takes a `FinishedRun` and returns a `Drawing`, or `Skipped` with the reason where the data does not allow it.
The same run gives the same bytes: no date is stored, and the intervals draw from the run's seed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib import font_manager, style
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.analysis import metrics
from experiments.analysis.figure_style import DPI, REAL, SHOWN, SIMULATED, STYLE, THIRD, WIDTH, Made, Skipped
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.key_numbers import UNMOVED
from experiments.analysis.reactions import constant
from experiments.analysis.stories import ordinary_person
from experiments.analysis.timeline import timeline_rows
from experiments.trait_sentences import LEVELS, RISES, of_run, orders
from simulator.errors import ConfigError, with_suggestion
from simulator.files import write_atomically
from simulator.seeds import Stream

MAX_GENRES = 20
MAX_TIMELINE_ROWS = 42
MAX_TICKS = 12


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and the sentences to print under it, with the number of observations."""

    figure: Figure
    caption: str


def ratings(run: FinishedRun) -> Drawing | Skipped:
    """Distribution of the ratings that simulated people gave and that real people gave in the training data."""
    if not run.has_ratings:
        return Skipped("the data has no ratings")
    real, simulated = metrics.rating_histograms(run.real["rating"], run.chosen["rating"])
    if not simulated.height or not real.height:
        return Skipped("nobody gave a rating")
    figure, axes = _figure(2.2)
    levels = np.array(sorted(set(real["rating"]) | set(simulated["rating"])))
    gap = float(np.diff(levels).min()) if len(levels) > 1 else 1.0
    for offset, colour, name, table in ((-0.2, REAL, "real", real), (0.2, SIMULATED, "simulated", simulated)):
        label = f"{name} (n = {table['count'].sum():,})"
        axes.bar(table["rating"].to_numpy() + offset * gap, table["share"].to_numpy(), width=0.38 * gap, color=colour, label=label)
    if len(levels) <= MAX_TICKS:
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel("Rating")
    axes.set_ylabel("Share of ratings")
    _percent(axes.yaxis)
    axes.legend(loc="upper left")
    distance = metrics.total_variation(real, simulated, on="rating")
    return Drawing(
        figure,
        f"Ratings that simulated people gave (n = {simulated['count'].sum():,}) against the training ratings of the real ones among them "
        f"(n = {real['count'].sum():,}); total variation distance {distance:.2f}.",
    )


def pages_per_session(run: FinishedRun) -> Drawing | Skipped:
    """How long sessions are: pages by how the session ended, and interactions against real sessions."""
    if not run.sessions.height:
        return Skipped("there are no sessions")
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    table = metrics.pages_histogram(run.sessions)
    below: np.ndarray = np.zeros(int(run.sessions["pages"].cast(pl.Int64).to_numpy().max()) + 1)
    for ending, colour, label in (
        ("left", SIMULATED, "left"),
        ("last_page", THIRD, "last page reached"),
        ("exhausted", SHOWN, "nothing left"),
    ):
        part = table.filter(pl.col("exit") == ending)
        if part.height:
            pages, shares = part["pages"].to_numpy(), part["share"].to_numpy()
            upper.bar(pages, shares, width=0.8, bottom=below[pages], color=colour, label=label)
            below[pages] += shares
    upper.set_xlabel("Pages in a session")
    upper.set_ylabel("Share of sessions")
    upper.set_xlim(0.4, below.size - 0.4)
    upper.xaxis.set_major_locator(MaxNLocator(integer=True))
    _percent(upper.yaxis)
    upper.legend(loc="best", title="session ended", title_fontsize=7)
    simulated = run.sessions.filter(pl.col("interactions") > 0)["interactions"].sort()
    real = metrics.session_sizes(run.real) if run.has_times else pl.Series([], dtype=pl.Int64)
    for sizes, colour, label in ((real, REAL, "real"), (simulated, SIMULATED, "simulated")):
        if sizes.len():
            x = np.concatenate([[1], sizes.to_numpy()])
            lower.step(x, np.arange(x.size) / (x.size - 1), where="post", color=colour, label=f"{label} (n = {sizes.len():,})")
    lower.set_xscale("log")
    lower.set_xlabel("Interactions in a session (at least one)")
    lower.set_ylabel("Cumulative share")
    lower.xaxis.set_major_formatter("{x:g}")
    _percent(lower.yaxis)
    lower.set_ylim(0, 1.02)
    lower.legend(loc="lower right")
    compared = (
        f"{real.len():,} real ones, which are runs of interactions less than 30 minutes apart and may hold many pages"
        if real.len()
        else "none real, since the data has no times"
    )
    return Drawing(
        figure,
        f"Pages in {run.sessions.height:,} simulated sessions by how they ended (top); interactions in the {simulated.len():,} simulated "
        f"sessions that have any against {compared} (bottom).",
    )


def watch_rate_by_position(run: FinishedRun) -> Drawing | Skipped:
    """Share of shown items that were chosen, by place on the page, with Wilson intervals."""
    table = metrics.watch_rate_by_position(run.impressions)
    if not table.height:
        return Skipped("nothing was shown")
    figure, axes = _figure(2.1)
    errors = _errors(table, "rate")
    axes.errorbar(table["position"], table["rate"], yerr=errors, fmt="o-", color=SIMULATED)
    axes.set_xlabel("Position on the page")
    axes.set_ylabel(f"Share of shown {run.domain.items}\n{run.domain.chosen}")
    axes.set_xticks(table["position"].to_list()[:: max(1, table.height // 10)])
    axes.set_ylim(0, min(1.02, 1.15 * float(table["high"].to_numpy().max())))
    _percent(axes.yaxis)
    return Drawing(
        figure,
        f"Share of {run.impressions.height:,} shown {run.domain.items} that were {run.domain.chosen}, by place on the page, with "
        "Wilson 95 % intervals; the data has no exposures, so there is no real curve.",
    )


def traits(run: FinishedRun) -> Drawing | Skipped:
    """What people of each level of a trait do in the simulation; for formulas that apply to both, in the training data too."""
    labels = {
        "activity": "interactions\nper session",
        "conformity": "squared deviation\nfrom item means",
        "diversity": "genres for 80 %\nof choices",
    }
    labels["pickiness"] = "mean rating"
    panels = {}
    for trait in labels:
        if (trait in ("conformity", "pickiness") and not run.has_ratings) or (trait == "diversity" and not run.has_genres):
            continue
        behaviours = metrics.behaviour(trait, run.chosen, run.sessions, run.items)
        levels = metrics.behaviour_by_level(trait, run.people, behaviours, Stream(run.seed).child("figures", "traits"))
        if levels.height:
            panels[trait] = (behaviours, levels)
    if not panels:
        return Skipped("no trait is known of anybody who did anything")
    figure = Figure(figsize=(WIDTH, 1.75 * ((len(panels) + 1) // 2)), layout="constrained")
    grid = np.atleast_1d(figure.subplots((len(panels) + 1) // 2, min(2, len(panels)))).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (trait, (behaviours, levels)) in zip(grid, panels.items(), strict=False):
        x = np.array([LEVELS.index(level) for level in levels["level"]])
        errors = _errors(levels, "mean")
        axes.errorbar(x, levels["mean"], yerr=errors, fmt="o-", color=SIMULATED, label="simulated")
        if trait != "activity":
            values = (
                run.people.filter(~pl.col("synthetic"))
                .group_by(level=f"{trait}_level")
                .agg(mean=pl.col(f"{trait}_value").mean())
                .drop_nulls()
            )
            own = {str(level): float(mean) for level, mean in values.iter_rows()}
            known = [level for level in LEVELS if level in own]
            places = [LEVELS.index(level) for level in known]
            axes.plot(places, [own[level] for level in known], "s--", color=REAL, markerfacecolor="white", label="real")
        rho = metrics.trait_correlation(trait, run.people, behaviours)
        axes.set_title(trait.capitalize() + (f" (ρ = {rho:.2f})".replace("-", "−") if np.isfinite(rho) else ""), fontsize=7.5)
        axes.set_ylabel(labels[trait], fontsize=7)
        axes.set_xticks(range(3), LEVELS)
        axes.set_xlim(-0.3, 2.3)
        axes.margins(y=0.15)
    handles, names = grid[min(1, len(panels) - 1)].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    ordered = {trait: orders(levels, rises=RISES[trait]) for trait, (_, levels) in panels.items()}
    means = {trait: dict(levels.select("level", "mean").iter_rows()) for trait, (_, levels) in panels.items()}
    reversed_levels = " (a high level of conformity means a small deviation, of pickiness a low mean)" if run.has_ratings else ""
    return Drawing(
        figure,
        f"Behaviour of {run.people.height:,} simulated people by level of their traits, with bootstrap 95 % intervals of the mean, and "
        "where the formula is the same the training data of the real ones among them; ρ is the rank correlation of a trait's value with "
        f"the simulated behaviour{reversed_levels}. {of_run(ordered, means)}",
    )


def genres(run: FinishedRun) -> Drawing | Skipped:
    """Share of each genre in real interactions, shown items and chosen items."""
    if not run.has_genres:
        return Skipped("the items have no genres")
    table = metrics.genre_shares(run.real, run.impressions, run.items)
    distance = metrics.total_variation(table.select("genre", share="real"), table.select("genre", share="chosen"), on="genre")
    rest, table = max(0, table.height - MAX_GENRES), table.head(MAX_GENRES)
    figure, axes = _figure(0.8 + 0.155 * table.height)
    y = np.arange(table.height)
    spread = table.select(low=pl.min_horizontal("real", "shown", "chosen"), high=pl.max_horizontal("real", "shown", "chosen"))
    axes.hlines(y, spread["low"], spread["high"], color="#cccccc", linewidth=0.8, zorder=0)
    for name, colour, marker in (("real", REAL, "s"), ("shown", SHOWN, "|"), ("chosen", SIMULATED, "o")):
        label = {"real": "real", "shown": "shown", "chosen": f"{run.domain.chosen} (simulated)"}[name]
        axes.plot(table[name], y, marker, color=colour, markersize=6 if marker == "|" else 4, markeredgewidth=1.4, label=label)
    axes.set_yticks(y, [_plain(genre, 24) for genre in table["genre"]])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("Share")
    _percent(axes.xaxis)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3)
    left_out = f" ({rest} rarer genres not drawn)" if rest else ""
    return Drawing(
        figure,
        f"Genre shares{left_out} of {run.real.height:,} real training interactions, {run.impressions.height:,} shown and "
        f"{run.chosen.height:,} chosen items; total variation distance of real and chosen {distance:.2f}.",
    )


def popularity(run: FinishedRun) -> Drawing | Skipped:
    """How concentrated interactions, exposures and choices are on few items."""
    figure, axes = _figure(2.3)
    axes.plot([0, 1], [0, 1], color="#cccccc", linewidth=0.8)
    drawn = 0
    for name, colour, line, table in (
        ("real", REAL, "-", run.real),
        ("shown", SHOWN, "--", run.impressions),
        ("chosen", SIMULATED, "-", run.chosen),
    ):
        counts = metrics.item_counts(table, run.items)
        if counts.sum():
            label = f"{run.domain.chosen if name == 'chosen' else name} (Gini {metrics.gini(counts):.2f})"
            axes.plot(*metrics.lorenz(counts), line, color=colour, zorder=3 if name == "shown" else 2, label=label)
            drawn += 1
    if not drawn:
        return Skipped("there are no interactions")
    axes.set_xlabel(f"Share of {run.domain.items}, most popular first")
    axes.set_ylabel("Share of all counts")
    _percent(axes.xaxis, axes.yaxis)
    axes.legend(loc="lower right")
    return Drawing(
        figure,
        f"Concentration on popular items of {run.real.height:,} real training interactions, {run.impressions.height:,} shown and "
        f"{run.chosen.height:,} chosen items over a catalog of {run.items.height:,}; fewer counts alone already raise the curve.",
    )


def satisfaction(run: FinishedRun) -> Drawing | Skipped:
    """Mean satisfaction with a session in each round."""
    if "satisfaction" not in run.sessions.columns:
        return Skipped("nobody was asked for satisfaction")
    table = metrics.satisfaction_by_round(run.sessions, Stream(run.seed).child("figures", "satisfaction"))
    if not table.height:
        return Skipped("nobody said how satisfied they were")
    figure, axes = _figure(2.1)
    errors = _errors(table, "mean")
    rounds = table["round"].to_numpy() + 1  # people count from 1, the log from 0
    axes.errorbar(rounds, table["mean"], yerr=errors, fmt="o-", color=SIMULATED)
    low, high = float(table["low"].to_numpy().min()), float(table["high"].to_numpy().max())
    margin = max(0.3, (2 - (high - low)) / 2)
    axes.set_ylim(max(0.8, low - margin), min(10.2, high + margin))
    axes.set_xlim(rounds[0] - 0.5, rounds[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Round")
    axes.set_ylabel("Mean satisfaction (1–10)")
    return Drawing(
        figure,
        f"Satisfaction with a session (1 to 10) by round, mean and bootstrap 95 % interval over people; {table['sessions'].sum():,} "
        f"sessions of {run.sessions['user'].n_unique():,} people."
        + (f" It {UNMOVED}." if constant(run.sessions, "satisfaction_expected") else ""),
    )


def timeline(run: FinishedRun, user: str | None = None) -> Drawing | Skipped:
    """One person's sessions, pages, choices with ratings, satisfaction and insights, from top to bottom.

    Args:
        run: the run.
        user: whose; None takes somebody with an ordinary number of choices among those who came most often.

    Raises:
        ConfigError: `user` is not in the run.
    """
    sessions = run.sessions if user is None else run.sessions.filter(pl.col("user") == user)
    if user is not None and user not in run.people["user"]:
        raise ConfigError(f"there is no person '{user}' in the run {run.path}; people.parquet lists everybody.")
    if not sessions.height:
        return Skipped("there are no sessions" if user is None else f"person '{user}' had no session")
    who = user if user is not None else ordinary_person(run)
    rows = timeline_rows(run, who)
    hidden, rows = len(rows) - MAX_TIMELINE_ROWS, rows[:MAX_TIMELINE_ROWS]
    height = 0.155 * len(rows) + 0.1
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    for number, row in enumerate(rows):
        y = 0.05 + 0.155 * (number + 0.5)
        look: dict[str, Any] = {"heading": {"fontweight": "bold"}, "insight": {"fontstyle": "italic", "color": REAL}}.get(row.kind, {})
        axes.text(
            0.05 if row.kind == "heading" else 0.95,
            y,
            _plain(row.text, 48 if row.kind == "heading" else 38),
            va="center",
            fontsize=6.5,
            **look,
        )
        for place, chosen in enumerate(row.squares):
            size = min(0.105, 0.8 / len(row.squares) - 0.02)
            colour = SIMULATED if chosen else "white"
            corner = (0.08 + place * (size + 0.02), y - size / 2)
            axes.add_patch(Rectangle(corner, size, size, facecolor=colour, edgecolor=SIMULATED if chosen else SHOWN, linewidth=0.6))
    shown = run.impressions.filter(pl.col("user") == who)
    more = f"; {hidden} further lines are not drawn" if hidden > 0 else ""
    return Drawing(
        figure,
        f"What simulated person {who} did: each row of squares is a page, filled where the {run.domain.item} was {run.domain.chosen}, with "
        f"the rating; at the end of a session their satisfaction (1 to 10), in italics the insight they keep (n = {shown.height} shown, "
        f"{int(shown['chosen'].sum())} {run.domain.chosen}{more}).",
    )


FIGURES: Mapping[str, Callable[[FinishedRun], Drawing | Skipped]] = {
    "ratings": ratings,
    "pages-per-session": pages_per_session,
    "watch-rate-by-position": watch_rate_by_position,
    "traits": traits,
    "genres": genres,
    "popularity": popularity,
    "satisfaction": satisfaction,
    "timeline": timeline,
}
"""Name -> function, in the order of the report."""


def make_figures(run_dir: Path, only: str | None = None, user: str | None = None) -> dict[str, Made | Skipped]:
    """Draws the figures of a complete run into ``figures/<name>.png``.

    Args:
        run_dir: folder of the run.
        only: name of a single figure, or None for all.
        user: person of the timeline, or None for an ordinary one.

    Returns:
        Figure name -> where it is, or why it was not drawn; in the order of `FIGURES`.

    Raises:
        ConfigError: there is no figure `only` or no person `user`.
        RunError: there is no complete run at `run_dir`.
    """
    if only is not None and only not in FIGURES:
        raise ConfigError(with_suggestion("figure", only, FIGURES) + " Give one of them to --figure.")
    run = FinishedRun(run_dir)
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    made: dict[str, Made | Skipped] = {}
    for name in FIGURES if only is None else (only,):
        drawing = _styled(name, run, user)
        if isinstance(drawing, Skipped):
            (folder / f"{name}.png").unlink(missing_ok=True)
            made[name] = drawing
        else:
            write_atomically(folder / f"{name}.png", drawing[0])
            made[name] = Made(folder / f"{name}.png", drawing[1])
    return made


def _styled(name: str, run: FinishedRun, user: str | None) -> tuple[bytes, str] | Skipped:
    with style.context(["default", dict(STYLE)]):
        drawing = timeline(run, user) if name == "timeline" else FIGURES[name](run)
        if isinstance(drawing, Skipped):
            return drawing
        buffer = io.BytesIO()
        # The library's version would otherwise be stored, and with it a difference that is not the figure's.
        drawing.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, "Description": drawing.caption})
        return buffer.getvalue(), drawing.caption


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _errors(table: pl.DataFrame, middle: str) -> np.ndarray:
    """Lengths of the error bars below and above, shape (2, n); rounding must not make one negative."""
    below, above = table[middle] - table["low"], table["high"] - table[middle]
    lengths: np.ndarray = np.vstack([below.to_numpy(), above.to_numpy()]).clip(min=0.0)
    return lengths


def _percent(*axes: Any) -> None:
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _plain(text: str, width: int) -> str:
    """Text from the data as it is: no formula mark-up, no character that the font lacks, at most `width` characters."""
    clean = "".join(letter if ord(letter) in _letters() else "?" for letter in " ".join(text.split()))
    clean = clean if len(clean) <= width else clean[: width - 1] + "…"
    return clean.replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
