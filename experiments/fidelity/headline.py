"""The figures that decide whether to believe a simulation: what is wanted of each, what was measured, what controls reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Parts = Mapping[str, Mapping[str, Any]]
Estimated = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    Attributes:
        key: name in ``fidelity.json``. title: what it is, for people.
        find: takes the parts and the name of a decision model, and returns an estimate (``value``, ``low``, ``high``) or None.
        wanted: "at least", "at most" or "above" (then the whole interval must be). target: the number, or None if nothing is wanted.
        per_model: whether `find` depends on the model, so that the controls have it too.
        controls: takes the parts and returns further controls, name -> value. floor: the noise floor, or None.
        of_run: the same figure from the log of the run, which has many more pages than are asked about; it goes before that of the model
            that is judged. None if a log has no such figure.
    """

    key: str
    title: str
    find: Callable[[Parts, str], Estimated | None]
    wanted: Literal["at least", "at most", "above", ""] = ""
    target: float | None = None
    per_model: bool = True
    controls: Callable[[Parts], Mapping[str, float]] | None = None
    floor: Callable[[Parts, str], float | None] | None = None
    of_run: Callable[[Parts], Estimated | None] | None = None


def _at(parts: Any, *path: str) -> Any:
    for step in path:
        parts = parts.get(step) if isinstance(parts, Mapping) else None
    return parts


def _choice(mix: str, figure: str) -> Callable[[Parts, str], Estimated | None]:
    return lambda parts, model: _at(parts, "choose", "models", model, mix, figure)


def _probe(*path: str) -> Callable[[Parts, str], Estimated | None]:
    return lambda parts, model: _at(parts, "probes", "models", model, *path)


def _rating(figure: str) -> Callable[[Parts, str], Estimated | None]:
    return lambda parts, model: _at(parts, "ratings", "models", model, figure)


def _rating_controls(figure: str) -> Callable[[Parts], Mapping[str, float]]:
    def controls(parts: Parts) -> Mapping[str, float]:
        found = _at(parts, "ratings", "controls") or {}
        return {name: found[name][figure]["value"] for name in found if found[name][figure]["value"] is not None}

    return controls


def _worst(parts: Parts, model: str) -> Estimated | None:
    found = _at(parts, "distributions", "worst")
    return None if found is None else {"value": found["ratio"], "low": found["low"], "high": found["high"]}


def _worst_given(parts: Parts, model: str) -> Estimated | None:
    found = _at(parts, "given", "worst")
    return None if found is None else {"value": found["ratio"], "low": found["low"], "high": found["high"]}


def _llm_alone(parts: Parts, model: str) -> Estimated | None:
    found: Estimated | None = _at(parts, "choose", "models", "llm", "matched_1_1", "auc")
    return found


def _one_moment(value: str, low: str = "", high: str = "") -> Callable[[Parts, str], Estimated | None]:
    def find(parts: Parts, model: str) -> Estimated | None:
        found = _at(parts, "one_moment") or {}
        return None if found.get(value) is None else {"value": found[value], "low": found.get(low), "high": found.get(high)}

    return find


def _named(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


FIGURES: Sequence[Figure] = (
    Figure("accuracy_1_1", "who would choose what, 1:1: accuracy", _choice("random_1_1", "accuracy"), "at least", 0.85),
    Figure("f1_1_1", "1:1: F1", _choice("random_1_1", "f1"), "at least", 0.85),
    Figure("f1_1_9", "1:9: F1", _choice("random_1_9", "f1"), "at least", 0.59),
    Figure("auc_matched", "negatives matched in popularity: AUC", _choice("matched_1_1", "auc"), "at least", 0.79),
    Figure(
        "auc_matched_taste",
        "their taste alone in it (popularity left out)",
        lambda p, m: _at(p, "choose", "beside", "auc_matched"),
        "at least",
        0.83,
        per_model=False,
        controls=lambda p: _at(p, "choose", "beside", "auc_matched", "baselines") or {},
    ),
    Figure(
        "lift_matched",
        "lift of the taste over the best tuned baseline",
        lambda p, m: _at(p, "choose", "beside", "auc_matched", "lift"),
        "above",
        0.0,
        per_model=False,
    ),
    Figure(
        "auc_pairs",
        "chosen item before one of the same popularity",
        lambda p, m: _at(p, "choose", "beside", "auc_pairs"),
        per_model=False,
        controls=lambda p: _at(p, "choose", "beside", "auc_pairs", "baselines") or {},
    ),
    Figure(
        "lift_pairs",
        "lift in it over the best tuned baseline",
        lambda p, m: _at(p, "choose", "beside", "auc_pairs", "lift"),
        "above",
        0.0,
        per_model=False,
    ),
    Figure(
        "llm_lift",
        "lift of the language model in it",
        lambda p, m: _at(p, "choose", "lift", "matched_1_1", "auc"),
        "above",
        0.0,
        per_model=False,
    ),
    Figure("auc_matched_llm_alone", "language model alone in it", _llm_alone, "at least", 0.68, per_model=False),
    Figure(
        "rating_mae",
        "median rating: mean absolute error",
        _rating("mae_median"),
        "at most",
        0.66,
        controls=_rating_controls("mae_median"),
    ),
    Figure("rating_mae_of_mean", "expected rating: mean absolute error", _rating("mae"), controls=_rating_controls("mae")),
    Figure("rating_rmse", "expected rating: root mean squared error", _rating("rmse"), controls=_rating_controls("rmse")),
    Figure(
        "rating_tv",
        "sampled ratings: total variation",
        _rating("tv"),
        "at most",
        0.03,
        controls=_rating_controls("tv"),
        floor=lambda parts, model: _at(parts, "ratings", "models", model, "halves", "floor"),
    ),
    Figure(
        "worst_distribution_ratio",
        "worst distribution, times its noise floor",
        _worst,
        "at most",
        2.0,
        per_model=False,
        floor=lambda p, m: 1.0,
    ),
    Figure(
        "worst_given_shown_ratio",
        "the same given what was shown, repeats with it",
        _worst_given,
        per_model=False,
        floor=lambda p, m: 1.0,
    ),
    Figure(
        "c2st_auc",
        "classifier: simulated or real session, AUC",
        lambda parts, model: _at(parts, "realism", "classifier", "all", "auc"),
        "at most",
        0.65,
        per_model=False,
        floor=lambda parts, model: _at(parts, "realism", "classifier", "all", "floor", "value"),
    ),
    Figure(
        "c2st_auc_content", "the same without its length", lambda p, m: _at(p, "realism", "classifier", "content", "auc"), per_model=False
    ),
    Figure(
        "slot_ratio",
        "choices at top place / bottom place",
        lambda parts, model: _at(parts, "choose", "slots", "models", model, "ratio"),
        "at most",
        1.15,
        of_run=lambda parts: _at(parts, "choose", "slots", "log", "ratio"),
    ),
    Figure("variance_ratio_ratings", "variance between people, mean rating", lambda p, m: _variance(p, "ratings"), per_model=False),
    Figure(
        "variance_ratio_popularity",
        "variance between people, popularity",
        lambda p, m: _variance(p, "popularity_of_chosen"),
        per_model=False,
    ),
    Figure(
        "positivity_shift",
        "mean rating, simulated - real",
        lambda p, m: _at(p, "realism", "positivity", "mean_rating_shift"),
        per_model=False,
    ),
    Figure(
        "activity_ratio",
        "items per session, simulated / real",
        lambda p, m: _at(p, "realism", "activity", "items_per_session"),
        per_model=False,
    ),
    Figure(
        "profile_found",
        "own profile found among strangers by choices",
        _probe("profiles", "choices", "found"),
        floor=lambda parts, model: _at(parts, "probes", "models", model, "profiles", "choices", "found_by_chance"),
    ),
    Figure("order_change", "change of a choice when the page is shuffled", _probe("order", "change")),
    Figure("gain_of_titles", "AUC with titles - AUC with titles masked", _probe("titles", "gain_of_titles")),
    Figure("instruction_change", "change of a choice by an instruction in the item", _probe("instruction", "change")),
    Figure(
        "kendall_tau",
        "ranking of recommenders: Kendall tau",
        lambda parts, model: _at(parts, "ranking", "models", model, "kendall_tau"),
        "at least",
        0.7,
        floor=lambda parts, model: _at(parts, "ranking", "noise_floor", "value"),
    ),
    Figure(
        "one_moment_auc_matched",
        "one cut in time for everybody, no language model: taste, AUC",
        _one_moment("auc_matched", "low", "high"),
        per_model=False,
        controls=lambda p: _at(p, "one_moment", "baselines") or {},
    ),
    Figure(
        "one_moment_lift",
        "one cut: its lift over the best tuned baseline",
        _one_moment("lift", "lift_low", "lift_high"),
        per_model=False,
    ),
    Figure(
        "one_moment_pairs",
        "one cut: chosen item before one of the same popularity",
        _one_moment("auc_pairs", "auc_pairs_low", "auc_pairs_high"),
        per_model=False,
        controls=lambda p: _at(p, "one_moment", "baselines_pairs") or {},
    ),
    Figure(
        "one_moment_accuracy_1_1",
        "one cut: who would choose what, 1:1: accuracy",
        _one_moment("accuracy_1_1"),
        per_model=False,
        controls=lambda p: _named("counts", _at(p, "one_moment", "accuracy_1_1_counts")),
    ),
    Figure(
        "one_moment_rmse",
        "one cut: expected rating: root mean squared error",
        _one_moment("rmse"),
        per_model=False,
        controls=lambda p: _named("biases", _at(p, "one_moment", "rmse_biases")),
    ),
    Figure("tune_minutes", "minutes that tuning took", lambda p, m: _at(p, "tuning", "minutes"), "at most", 20.0, per_model=False),
)
"""All figures of the table, in order."""


def _variance(parts: Parts, name: str) -> Estimated | None:
    found: Estimated | None = _at(parts, "realism", "between_person_variance", name, "ratio")
    return found


def headline(parts: Parts, main: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Key -> value, limits, controls, floor, target, whether it is met (None: not measured, nothing wanted), and of times what took them.

    Args:
        parts: results of the parts; those that are missing give None.
        main: name of the decision model that is judged. names: of all of them; the others are its controls.
    """
    found: dict[str, dict[str, Any]] = {}
    for figure in FIGURES:
        measured = (figure.of_run(parts) if figure.of_run else None) or figure.find(parts, main)
        value = measured["value"] if measured else None
        low, high = (measured.get("low"), measured.get("high")) if measured else (None, None)
        controls: dict[str, float] = {}
        if figure.per_model:
            for name in names:
                other = figure.find(parts, name)
                if name != main and other is not None and other["value"] is not None:
                    controls[name] = other["value"]
        if figure.controls is not None:
            controls |= figure.controls(parts)
        found[figure.key] = {
            "title": figure.title,
            "value": value,
            "low": low,
            "high": high,
            "controls": controls,
            "floor": figure.floor(parts, main) if figure.floor else None,
            "wanted": figure.wanted,
            "target": figure.target,
            "met": is_met(figure, value, low),
            "device": (measured or {}).get("device"),
        }
    return found


def is_met(figure: Figure, value: float | None, low: float | None) -> bool | None:
    """Whether a value is what was wanted; None if it is unknown or nothing was wanted."""
    if value is None or figure.target is None:
        return None
    if figure.wanted == "above":
        return low is not None and low > figure.target
    return value >= figure.target if figure.wanted == "at least" else value <= figure.target


def table(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per figure that was measured, as text.

    Args:
        document: of `experiments.fidelity.report.measure`.
    """
    found = []
    for line in document["headline"].values():
        if line["value"] is None:
            continue
        interval = "" if line["low"] is None else f" [{line['low']:.3f}, {line['high']:.3f}]"
        found.append(
            {
                "figure": f"{line['title']} ({line['device']})" if line.get("device") else line["title"],
                "simulated": f"{line['value']:.3f}{interval}",
                "controls": ", ".join(f"{name} {value:.3f}" for name, value in line["controls"].items()),
                "noise floor": "" if line["floor"] is None else f"{line['floor']:.3f}",
                "target": f"{line['wanted']} {line['target']:g}" if line["wanted"] else "",
                "met": {True: "yes", False: "no", None: ""}[line["met"]],
            }
        )
    return found


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """The report as one object of ``results/benchmarks/fidelity.json``: a number per figure, controls in a sub-object.

    Args:
        document: of `experiments.fidelity.report.measure`.
    """
    lines = document["headline"]
    figures = {key: line["value"] for key, line in lines.items()}
    lift = lines["llm_lift"]
    figures["llm_lift_low"] = lift["low"]
    return {
        **{key: document[key] for key in ("data", "split", "model", "people", "seed")},
        **figures,
        "intervals": {key: [line["low"], line["high"]] for key, line in lines.items() if line["low"] is not None},
        "controls": {key: line["controls"] for key, line in lines.items() if line["controls"]},
        "floors": {key: line["floor"] for key, line in lines.items() if line["floor"] is not None},
        "targets": {
            key: {"wanted": line["wanted"], "target": line["target"], "met": line["met"]} for key, line in lines.items() if line["wanted"]
        },
        "not_measured": document["not_measured"],
    }
