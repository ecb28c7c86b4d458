"""`report.html`: one self-contained file that says what happened in a run, how sure that is, and how it was made."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis import html_page, metrics
from experiments.analysis.fidelity_section import section
from experiments.analysis.figure_style import Made, Skipped
from experiments.analysis.figures import make_figures
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.intervals import Estimate
from simulator.run_directory import write_atomically
from simulator.seeds import Stream

TITLES: Mapping[str, str] = {
    "ratings": "Ratings, simulated against real",
    "pages-per-session": "Length of sessions",
    "watch-rate-by-position": "Choices by position",
    "traits": "Traits against behaviour",
    "genres": "Genres",
    "popularity": "Popularity",
    "satisfaction": "Satisfaction by round",
    "timeline": "One person",
}
"""Headings of the figures."""


@dataclass(frozen=True, slots=True)
class KeyNumber:
    """One row of the table of key numbers: what, its value and interval as text, and the real counterpart or a remark."""

    name: str
    value: str
    interval: str = ""
    remark: str = ""


def write_report(run_dir: Path, made: Mapping[str, Made | Skipped] | None = None) -> Path:
    """Writes ``report.html`` of a complete run.

    Args:
        run_dir: folder of the run.
        made: its figures (`make_figures`); None draws them.

    Returns:
        Where the report is.

    Raises:
        RunError: there is no complete run at `run_dir`.
    """
    figures = make_figures(run_dir) if made is None else made
    run = FinishedRun(run_dir)
    write_atomically(run.path / "report.html", render(run, figures).encode())
    return run.path / "report.html"


def render(run: FinishedRun, figures: Mapping[str, Made | Skipped]) -> str:
    """The report as HTML."""
    drawn = [
        html_page.picture(TITLES.get(name, name), found.caption, found.path) for name, found in figures.items() if isinstance(found, Made)
    ]
    return html_page.render(
        "report.html.j2",
        title=f"{run.name}: a simulation on {run.data_name}",
        lead=_lead(run),
        numbers=[(row.name, row.value, row.interval, row.remark) for row in key_numbers(run)],
        notes=notes(run),
        figures=drawn,
        skipped=[(TITLES.get(name, name), found.reason) for name, found in figures.items() if isinstance(found, Skipped)],
        fidelity=section(run.path),
        made=_how_made(run),
        config=run.directory.config_path.read_text(encoding="utf-8"),
        command=f"usersim run {shlex.quote(str(run.path / 'config.toml'))} --output NEW-FOLDER",
    )


def key_numbers(run: FinishedRun) -> list[KeyNumber]:
    """What a reader asks first, with 95 % intervals that resample people, and the real counterpart where there is one."""
    stream = Stream(run.seed).child("report")
    impressions, sessions, items = run.impressions, run.sessions, run.items
    rows = [
        _row(f"Share of shown {run.domain.items} {run.domain.chosen}", metrics.watch_rate(impressions, stream), percent=True),
        _row("Pages per session", metrics.pages_per_session(sessions, stream)),
    ]
    real = _known(metrics.real_interactions_per_session(run.real, stream)) if run.has_times else ""
    remark = f"real: {real} (at least 1 by construction)" if real else ""
    rows.append(_row("Interactions per session", metrics.interactions_per_session(sessions, stream), remark=remark))
    if run.has_ratings:
        own = _known(metrics.mean_rating(run.real, stream.child("real")))
        rows.append(_row("Mean rating", metrics.mean_rating(impressions, stream), remark=f"real: {own}" if own else ""))
        histograms = [metrics.rating_histogram(ratings) for ratings in (run.real["rating"], run.chosen["rating"])]
        if all(table.height for table in histograms):
            distance = metrics.total_variation(*histograms, on="rating")
            rows.append(KeyNumber("Ratings, total variation distance from real", f"{distance:.3f}", remark="0 is equal, 1 is disjoint"))
    if "satisfaction" in sessions.columns:
        rows.append(_row("Satisfaction with a session (1–10)", metrics.satisfaction(sessions, stream)))
    for name, table in (("shown", impressions), (f"{run.domain.chosen}", run.chosen)):
        real = _known(metrics.average_popularity(run.real, items, stream.child("real")), percent=True)
        estimate = metrics.average_popularity(table, items, stream.child(name))
        rows.append(
            _row(f"Mean popularity percentile of {run.domain.items} {name}", estimate, percent=True, remark=f"real: {real}" if real else "")
        )
    if run.has_genres and run.chosen.height and run.real.height:
        shares = metrics.genre_shares(run.real, impressions, items)
        distance = metrics.total_variation(shares.select("genre", share="real"), shares.select("genre", share="chosen"), on="genre")
        rows.append(KeyNumber("Genres, total variation distance from real", f"{distance:.3f}", remark="0 is equal, 1 is disjoint"))
    rows.append(KeyNumber("Share of the catalog shown", _number(metrics.coverage(impressions, items), percent=True)))
    share = metrics.fallback_share(run.pages, sessions)
    rows.append(KeyNumber("Replies that could not be used", _number(share, percent=True), remark="answered by the documented fallback"))
    return rows


def notes(run: FinishedRun) -> list[str]:
    """What a reader must know before believing any of it: who decided, what failed, what the data cannot tell."""
    model, decision = run.manifest.get("model"), str(run.config.get("decision", {}).get("use", "unknown"))
    who = f"with the language model {model['name']}" if model else "without a language model"
    found = [f"Decisions were made by {decision} {who}. The people are simulated; nothing here was observed of anybody."]
    share = metrics.fallback_share(run.pages, run.sessions)
    if share > 0:
        found.append(
            f"{share:.2%} of the replies about pages and sessions could not be used and were answered by the fallback; tables pages and "
            "sessions hold the replies (column reply)."
        )
    synthetic = int(run.people["synthetic"].sum())
    if synthetic:
        found.append(
            f"{synthetic:,} of the {run.people.height:,} people are synthetic: drawn from the traits of real ones, marked in the log."
        )
    found.append(
        "Intervals resample people and hold the recommender, the model and the seed fixed; they say nothing about other seeds or "
        "models. Comparisons with real behaviour use training data, which profiles were fitted on; they are a description, not a test "
        "on held-out data."
    )
    found.append("The real data holds reactions, not what was shown: watch rate, positions and pages have no real counterpart.")
    name = run.data_name.lower()
    if run.has_times and (name.startswith("ml-") or "movielens" in name):
        found.append(
            "Real sessions in MovieLens are sittings in which people rated films they had seen before, not visits in which they watched; "
            "their length is no target for a simulated session."
        )
    elif run.has_times:
        found.append("Real sessions are runs of interactions less than 30 minutes apart; the data does not record visits.")
    else:
        found.append("The data has no times: real sessions are unknown, and the rhythm of people is a default.")
    if not run.has_ratings:
        found.append("The data has no ratings: nobody rates, and conformity and pickiness are unknown.")
    skipped = run.manifest.get("data", {}).get("skipped") or {}
    found += [f"{count:,} rows of the data were left out: {reason}." for reason, count in skipped.items()]
    return found


def _lead(run: FinishedRun) -> str:
    rounds, shown, chosen = run.sessions["round"].n_unique(), run.impressions.height, run.chosen.height
    return (
        f"{run.people.height:,} people, {run.sessions.height:,} sessions in {rounds} {'round' if rounds == 1 else 'rounds'}, "
        f"{run.pages.height:,} pages, {shown:,} shown {run.domain.items}, of which {chosen:,} were {run.domain.chosen}."
    )


def _how_made(run: FinishedRun) -> Sequence[tuple[str, str]]:
    """Rows of the table about the making of the run; only what the manifest knows."""
    manifest, summary = run.manifest, run.summary
    data, model, machine = manifest.get("data", {}), manifest.get("model") or {}, manifest.get("machine", {})
    started, finished = str(manifest.get("started", "")), str(manifest.get("finished", ""))
    rows: list[tuple[str, Any]] = [
        ("Run", run.path.resolve().name),
        ("usersim", " ".join(str(part) for part in (manifest.get("usersim"), _revision(manifest.get("git_revision"))) if part)),
        ("Started", _moment(started)),
        ("Finished", _moment(finished)),
        ("Continued after an interruption", f"{manifest['resumed']}×" if manifest.get("resumed") else ""),
        ("Seed", run.seed),
        ("Data", ", ".join(f"{data[key]:,} {key.replace('_', ' ')}" for key in ("users", "items", "training_interactions") if key in data)),
        ("Data fingerprint", data.get("fingerprint")),
        ("Split", ", ".join(f"{key} = {value}" for key, value in (manifest.get("split") or {}).items())),
        ("Policy", manifest.get("policy")),
        ("Decision model", run.config.get("decision", {}).get("use")),
        ("Language model", model.get("name") or "none"),
        ("Model file, SHA-256", model.get("sha256")),
        ("Inference", model.get("backend")),
        ("Inference settings", ", ".join(f"{key} = {value}" for key, value in (model.get("settings") or {}).items())),
        ("Machine", ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())),
        ("Packages", ", ".join(f"{name} {version}" for name, version in (manifest.get("packages") or {}).items())),
        ("Time", f"{summary['seconds']:,.0f} s" if "seconds" in summary else ""),
        ("Speed", f"{summary['pages_per_second']:.2f} pages per second" if "pages_per_second" in summary else ""),
    ]
    rows += [(f"SHA-256 of {table}", digest) for table, digest in (summary.get("sha256") or {}).items()]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _row(name: str, estimate: Estimate, *, percent: bool = False, remark: str = "") -> KeyNumber:
    interval = "" if np.isnan(estimate.low) else f"{_number(estimate.low, percent=percent)} to {_number(estimate.high, percent=percent)}"
    return KeyNumber(name, _number(estimate.value, percent=percent), interval, remark)


def _known(estimate: Estimate, *, percent: bool = False) -> str:
    return "" if np.isnan(estimate.value) else _number(estimate.value, percent=percent)


def _number(value: float, *, percent: bool = False) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.1%}" if percent else f"{value:.2f}"


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M:%S %Z").strip()
    except ValueError:
        return text


def _revision(revision: object) -> str:
    return f"(git {str(revision)[:12]})" if revision else ""
