"""`report.html`: one self-contained file that says what happened in a run, how sure that is, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli_w

from experiments.analysis import html_page, report_sections
from experiments.analysis.fidelity_section import section
from experiments.analysis.figure_style import Made, Skipped
from experiments.analysis.figures import make_figures
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.key_numbers import UNMOVED, KeyNumber, key_numbers, notes
from experiments.analysis.stories import examples, story
from experiments.model_effect import first_words
from simulator.files import write_atomically

TITLES: Mapping[str, str] = {
    "ratings": "Ratings, simulated against real",
    "pages-per-session": "Length of sessions",
    "watch-rate-by-position": "Choices by position",
    "traits": "Traits against behaviour",
    "genres": "Genres",
    "popularity": "Popularity",
    "satisfaction": "Satisfaction by round",
}
"""Headings of the figures."""

SECTIONS: Mapping[str, str] = {"traits": "people", "popularity": "recommender"}
"""Where figures stand; all others stand under "behaviour"."""

NOT_SHOWN = ("timeline",)
"""Figures that the report leaves out: the stories of people tell more than the figure of one."""


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
    shown = [
        ({"title": TITLES.get(name, name), "section": SECTIONS.get(name, "behaviour")}, found)
        for name, found in figures.items()
        if name not in NOT_SHOWN
    ]
    numbers = key_numbers(run)
    return html_page.render(
        "report.html.j2",
        title=f"{run.name}: a simulation on {run.data_name}",
        lead=_lead(run),
        domain=run.domain,
        tiles=_tiles(run, numbers),
        setting=report_sections.setting(run),
        notes=notes(run),
        crowd=report_sections.crowd(run),
        traits=report_sections.traits(run),
        stories=[(why, story(run, user)) for why, user in examples(run)],
        numbers=[(row.name, row.value, row.interval, row.remark) for row in numbers],
        figures=[
            {**place, **html_page.picture(place["title"], found.caption, found.path)} for place, found in shown if isinstance(found, Made)
        ],
        skipped=[{**place, "reason": found.reason} for place, found in shown if isinstance(found, Skipped)],
        fidelity=section(run.path),
        fidelity_command="usersim fidelity THIS-FOLDER",
        recommender=report_sections.recommender(run),
        rounds=report_sections.rounds(run),
        most_shown=report_sections.most_shown(run),
        cost=report_sections.cost(run),
        cost_by_round=report_sections.cost_by_round(run),
        made=_how_made(run),
        config=tomli_w.dumps(run.config),
        command="usersim run THIS-FOLDER/config.toml --output NEW-FOLDER",
    )


def _tiles(run: FinishedRun, numbers: Sequence[KeyNumber]) -> list[KeyNumber]:
    """The counts of the run, and the first of its key numbers."""
    counts = [("People", run.people.height), ("Sessions", run.sessions.height), ("Pages", run.pages.height)]
    known = [row for row in numbers if row.name.startswith(("Share of shown", "Mean rating", "Satisfaction")) and UNMOVED not in row.remark]
    changed = (run.summary.get("language_model") or {}).get("decisions_changed_share")
    model = [] if changed is None else [KeyNumber("Decisions that the language model changed", f"{changed:.1%}")]
    return [*(KeyNumber(name, f"{count:,}") for name, count in counts), *(KeyNumber(row.name, row.value) for row in known), *model]


def _lead(run: FinishedRun) -> str:
    rounds, shown, chosen = run.sessions["round"].n_unique(), run.impressions.height, run.chosen.height
    words = first_words(run.summary)
    model = f" The language model: {words}." if run.summary.get("language_model") else f" {words.capitalize()}." if words else ""
    return (
        f"{run.people.height:,} people, {run.sessions.height:,} sessions in {rounds} {'round' if rounds == 1 else 'rounds'}, "
        f"{run.pages.height:,} pages, {shown:,} shown {run.domain.items}, of which {chosen:,} were {run.domain.chosen}.{model}"
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
    ]
    rows += [(f"SHA-256 of {table}", digest) for table, digest in (summary.get("sha256") or {}).items()]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M:%S %Z").strip()
    except ValueError:
        return text


def _revision(revision: object) -> str:
    return f"(git {str(revision)[:12]})" if revision else ""
