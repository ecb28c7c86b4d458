"""Parts of the table of the language model: each measures some of its figures, keeps them, and measures them again only if they may differ.

Figures are flat: a name, and the name with ``_low``, ``_high`` (95 %) and ``_users``; null where there are none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from experiments import arms, build
from experiments import config as configuration
from experiments.analysis.intervals import wilson
from experiments.benchmarks import stored_texts
from experiments.config import ExperimentConfig
from experiments.fidelity import cold_items, satisfaction, sentence_encoder
from experiments.fidelity import report as reports
from experiments.fidelity.cold_language import Reader
from experiments.fidelity.context import Report
from experiments.fidelity.estimates import row_ratio
from experiments.fidelity.scores import adapter_sha256
from experiments.fidelity.storage import read_part, write_part
from experiments.ingredients import ingredients
from simulator.errors import ConfigError
from simulator.execution import cores
from simulator.paths import cache_folder
from simulator.run_directory import RunDirectory
from simulator.seeds import Stream

CONFIGS: Final[Path] = Path(__file__).parent.parent / "configs" / "language"
MAIN: Final[str] = "ml-100k"
MIX: Final[str] = "matched_1_1"
RUN: Final[Path] = Path("movielens")
"""The experiment that is simulated to see what the model does in a run: that of ``make run``."""

PAGE: Final[int] = 10
"""New items on a page that a language model is asked about."""

ENDS: Final[tuple[str, ...]] = satisfaction.ENDS

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured with.

    Attributes:
        folder: holds the data sets, each in a folder of its own, or None. run: a complete run that is read instead of simulating one.
        people: held-out users at most. cold_people: those whom the language model is asked about new items; 0 asks it nothing of these.
        bootstrap: resamples of users. seed: of planted faults and of the choice of texts. set_: settings of all experiments.
        report: told of the progress.
    """

    folder: Path | None
    run: Path | None
    people: int
    cold_people: int
    bootstrap: int
    seed: int
    set_: Sequence[str]
    report: Report

    def experiment(self, name: str, own: str | None = None, more: Sequence[str] = ()) -> ExperimentConfig:
        """An experiment of `CONFIGS` with all settings; `own`: folder of its data in `folder`, None where `usersim data get` has it."""
        place = [] if own is None or self.folder is None else [f"dataset.path={self.folder / own}"]
        return configuration.read(CONFIGS / f"{name}.toml", [*place, *more, *self.set_])

    def told(self, prefix: str) -> Report:
        """The same report with the part before what is being done."""
        return lambda what, done, total: self.report(f"{prefix}: {what}", done, total)


def kept() -> Path:
    """Folder of what was measured, in the cache."""
    return cache_folder() / "language"


def choices(wanted: Wanted, name: str, own: str | None) -> Figures:
    """What held-out users choose among items of the same popularity: the model alone, and what it adds."""
    document = _of_report(wanted, name, own, "choose")
    choose = document["parts"]["choose"]
    models, lift = choose.get("models", {}), choose.get("lift", {}).get(MIX, {})
    alone, with_it, without = (models.get(kind, {}).get(MIX, {}).get("auc") for kind in ("llm", "calibrated", "calibrated_no_llm"))
    return {
        "held_out_users": document["people"],
        "seed": document["seed"],
        **spread("alone_auc_matched", alone),
        **spread("auc_matched", with_it),
        **spread("auc_matched_without", without),
        **spread("lift", lift.get("auc")),
        **spread("lift_within", lift.get("auc_per_person")),
        "why": choose.get("not_measured"),
    }


def glad(wanted: Wanted, name: str, own: str | None) -> Figures:
    """Satisfaction by what happened, beside what real held-out users did next; nobody asks the language model."""
    found = _of_report(wanted, name, own, "satisfaction")["parts"]["satisfaction"]
    reason = found["not_measured"] if isinstance(found.get("not_measured"), str) else None
    if reason is None and found["satisfaction_rho_outcome"] is None:
        reason = f"data set '{name}' has too few held-out sessions with times and ratings"
    return {key: found.get(key) for key in (*(f"satisfaction_rho_outcome{end}" for end in ENDS), "satisfaction_outcomes")} | {"why": reason}


def notes(wanted: Wanted, name: str, own: str | None) -> Figures:
    """What notes beside items do to how often users with the model choose them."""
    found = _of_report(wanted, name, own, "notes")["parts"]["notes"]
    reason = found.get("not_measured") or (None if found["note_effects"] else found["why"])
    told = {"note_effects": found.get("note_effects") or None, "notes_response": found.get("response"), "notes_why": found.get("why")}
    return told | {"why": reason}


def new_items(wanted: Wanted, name: str) -> Figures:
    """The rows of one data set about items that nobody met, the language model's among them (`experiments.fidelity.cold_items`)."""
    config = wanted.experiment(MAIN, more=[f"recommender.page_size={PAGE}"])
    if wanted.folder is not None:
        data = cold_items.dataset(name, wanted.folder)
    elif name == MAIN:
        data = build.dataset(config)
    else:
        raise ConfigError(f"the data set '{name}' needs the folder that holds it; name that folder.")
    about = {
        **ingredients(config, data, "experiments.fidelity.cold_items"),
        "adapter": adapter_sha256(config),
        "people": wanted.cold_people,
        "encoder": sentence_encoder.installed(),
    }

    def measured() -> Figures:
        asks = wanted.cold_people and config.language_model is not None
        reader = Reader(config, wanted.cold_people, kept() / f"cold-{name}", wanted.told(f"cold-items of {name}")) if asks else None
        return cold_items.measure(data, reader=reader)

    return _stored(f"cold-items-{name}", about, measured)


def texts(wanted: Wanted) -> Figures:
    """What the checker of texts lets through of planted faults."""
    config = configuration.read(RUN, wanted.set_)
    about = ingredients(config, build.data(config).train, "experiments.benchmarks.stored_texts") | {"planting": wanted.seed}
    found = _stored("texts", about, lambda: stored_texts.planted(RUN, wanted.set_, wanted.seed))
    caught = found["planted_false_caught"]
    return {
        **share("planted_false_caught", None if caught is None else round(caught * found["planted"]), found["planted"]),
        **share("true_rejected_share", round(found["true_rejected_share"] * found["true_sentences"]), found["true_sentences"]),
        "texts_paraphrases_rejected_share": found["paraphrases_rejected_share"],
        "planted": found["planted"],
        "planted_kinds": found["kinds"],
        "planted_missed": found["missed"],
    }


def run(wanted: Wanted) -> Figures:
    """What the model did in a run: decisions that it changed, texts that passed, satisfaction."""
    path = wanted.run or _simulated(wanted)
    directory = RunDirectory.open(path, complete=True)
    summary, stream = directory.read_json("summary"), Stream(wanted.seed).child("language", "run")
    pages, sessions, written = (directory.read_table(table) for table in ("pages", "sessions", "texts"))
    checked = stored_texts.of_run(path, wanted.seed)
    glad = satisfaction.of_run(sessions, stream.child("satisfaction"), wanted.bootstrap)
    false = round((checked["texts_false_share"] or 0.0) * checked["texts_checked"])
    return {
        **_changed(pages, stream.child("changed")),
        **_passed(written, summary, stream.child("texts")),
        **share("texts_false_share", false, checked["texts_checked"], checked["texts_users"]),
        "texts_checked": checked["texts_checked"],
        "texts_false_examples": checked["texts_false"],
        **glad,
        "run": {
            "experiment": str(RUN) if wanted.run is None else path.name,
            "seed": directory.read_json("manifest").get("seed"),
            "users": summary["people"],
        },
        "run_language_model": summary.get("language_model"),
        "why": None if summary.get("language_model") else "nobody in the run asks a language model",
    }


def spread(name: str, estimate: Mapping[str, Any] | None) -> Figures:
    """A figure of a report under four flat keys (`ENDS`)."""
    return dict(
        zip((f"{name}{end}" for end in ENDS), ((estimate or {}).get(key) for key in ("value", "low", "high", "people")), strict=True)
    )


def share(name: str, count: int | None, of: int, users: int | None = None) -> Figures:
    """A share of independent trials under four flat keys (`ENDS`), with Wilson's interval; null without a trial."""
    if count is None or not of:
        return spread(name, None)
    low, high = wilson(np.array([count]), np.array([of]))
    return spread(name, {"value": count / of, "low": float(low[0]), "high": float(high[0]), "people": users})


def _changed(pages: pl.DataFrame, stream: Stream) -> Figures:
    compared = pages.filter(pl.col("unlike_without_model").is_not_null()) if "unlike_without_model" in pages.columns else pages.clear()
    if not compared.height:
        return spread("decisions_changed_share", None)
    above, below = compared["unlike_without_model"].to_numpy(), compared["shown"].to_numpy() + 1
    return spread("decisions_changed_share", row_ratio(above, below, compared["user"].to_numpy(), stream))


def _passed(written: pl.DataFrame, summary: Mapping[str, Any], stream: Stream) -> Figures:
    """Share of the model's texts that were whole and true; of the sentences of its trial where it was asked for no more."""
    asked = written.filter(~pl.col("kind").str.starts_with("thought") & (pl.col("status") != "facts"))
    if asked.height:
        passed = (asked["status"] == "ok").to_numpy().astype(np.float64)
        figure = spread("texts_passed_share", row_ratio(passed, np.ones(asked.height), asked["user"].to_numpy(), stream))
        return figure | {"texts_passed_of": "texts of the run", "texts_asked": asked.height}
    trial = summary.get("figures") or {}
    of = int(trial.get("texts_trial_asked", 0))
    passed_trial = round(trial.get("texts_trial_passed_share", 0.0) * of)
    return share("texts_passed_share", passed_trial, of) | {"texts_passed_of": "sentences of the trial before the run", "texts_asked": of}


def _simulated(wanted: Wanted) -> Path:
    """The run of the experiment with these settings: made, continued, or found complete."""
    config = configuration.read(RUN, wanted.set_)
    about = ingredients(config, build.data(config).train, "experiments.run") | {"adapter": adapter_sha256(config)}
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    told = wanted.told("run")
    return arms.run_once(config, kept() / "runs" / name, cores(), lambda what, done, total, _: told(what, done, total))


def _of_report(wanted: Wanted, name: str, own: str | None, part: str) -> dict[str, Any]:
    """One part of a fidelity report, which keeps it."""
    config = wanted.experiment(name, own)
    options = reports.Options(wanted.people, (part,), wanted.bootstrap, None)
    return reports.measure(config, kept() / name, None, options, wanted.told(f"{part} of {name}"))


def _stored(part: str, about: Mapping[str, Any], measured: Callable[[], Figures]) -> Figures:
    folder = kept() / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    known = read_part(folder, part, about)
    return write_part(folder, part, about, measured()) if known is None else known
