"""What a comparison comes to, in plain words: does an arm get more use, does it please less, what range does it show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ALPHA = 0.05
"""Of claims that there is a difference, after Holm's correction."""

Row = Mapping[str, Any]


def verdict(
    arm: str, baseline: str, rows: Sequence[Row], metrics: Mapping[str, Mapping[str, Any]], no_less: bool, margin: float, chosen: str
) -> dict[str, Any]:
    """The verdict on one arm.

    Args:
        arm, baseline: names.
        rows: the arm's differences (`experiments.comparison.compare`), one per metric; those with a `no_verdict` ground nothing.
        metrics: key -> kind, name, better.
        no_less: whether a loss of `margin` is ruled out for every metric of pleasure at once.
        margin: share of the baseline's value.
        chosen: the domain's word, such as "watched".

    Returns:
        arm; claims: kind -> better and worse, the metrics with a difference that stands after correction; no_less; sentence.
    """
    told = [row for row in rows if row.get("no_verdict") is None]
    claims = {kind: _claims(told, metrics, kind) for kind in ("use", "pleasure", "range")}
    use, pleasure, breadth = claims["use"], claims["pleasure"], claims["range"]
    by_key = {row["metric"]: row for row in told}
    if all(row["value"] == 0 and row["standard_error"] == 0 for row in rows):
        sentence = f"{arm} and {baseline} did the same to everybody: the runs are equal in everything that is compared."
        return {"arm": arm, "claims": claims, "no_less": False, "sentence": sentence}
    parts = []
    if use["better"] and not use["worse"]:
        parts.append(f"more is {chosen} ({_told(use['better'], by_key, metrics)})")
    elif use["worse"] and not use["better"]:
        parts.append(f"less is {chosen} ({_told(use['worse'], by_key, metrics)})")
    elif use["better"]:
        parts.append(f"use changes both ways ({_told([*use['better'], *use['worse']], by_key, metrics)})")
    pleased = _pleasure(pleasure, no_less, by_key, metrics, margin)
    if parts or pleasure["better"] or pleasure["worse"]:
        parts += [pleased]
    else:
        parts += [_undecided(told, metrics), *([pleased] if pleased else [])]
    if breadth["better"]:
        parts.append(f"shows a broader range ({_told(breadth['better'], by_key, metrics)})")
    if breadth["worse"]:
        also = "but in part a narrower one" if breadth["better"] else "shows a narrower range"
        parts.append(f"{also} ({_told(breadth['worse'], by_key, metrics)})")
    parts += unmeasured([row for row in rows if metrics[row["metric"]]["kind"] != "range"], metrics)
    sentence = f"{arm} against {baseline}: {'; '.join(part for part in parts if part)}."
    return {"arm": arm, "claims": claims, "no_less": no_less, "sentence": sentence}


def unmeasured(rows: Sequence[Row], metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was not measured and why, one part of a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reason = row.get("no_verdict")
        if reason is not None:
            reasons.setdefault(str(reason), []).append(metrics[row["metric"]]["name"])
    return [f"{' and '.join(names)} {'tell' if len(names) > 1 else 'tells'} nothing ({reason})" for reason, names in reasons.items()]


def _claims(rows: Sequence[Row], metrics: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"better": [], "worse": []}
    for row in rows:
        metric = metrics[row["metric"]]
        if metric["kind"] == kind and row["p_holm"] is not None and row["p_holm"] <= ALPHA and row["value"]:
            found["better" if row["value"] * metric["better"] > 0 else "worse"].append(row["metric"])
    return found


def _pleasure(
    claims: Mapping[str, list[str]], no_less: bool, rows: Mapping[str, Row], metrics: Mapping[str, Mapping[str, Any]], margin: float
) -> str:
    names = [metric["name"] for key, metric in metrics.items() if metric["kind"] == "pleasure" and key in rows]
    if not names:
        return "whether it pleases was not measured"
    if claims["better"] and not claims["worse"]:
        return f"it pleases more ({_told(claims['better'], rows, metrics)})"
    if claims["worse"]:
        small = f", though by less than {margin:.0%}" if no_less else ""
        return f"it pleases less ({_told(claims['worse'], rows, metrics)}{small})"
    if no_less:
        return f"it pleases no less (a loss of {margin:.0%} in {' and '.join(names)} is ruled out)"
    return f"whether it pleases less cannot be told (a loss of {margin:.0%} in {' or '.join(names)} is not ruled out)"


def _undecided(rows: Sequence[Row], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """What it would take to see a difference in use; of the metrics with one, the first."""
    row = next((row for row in rows if metrics[row["metric"]]["kind"] == "use" and row["people_needed"] is not None), None)
    if row is None:
        return "no difference can be told in what people do"
    name, size = metrics[row["metric"]]["name"], _size(row, metrics)
    return (
        f"no difference can be told in what people do; about {_about(row['people_needed'])} people would be needed to see one of this size "
        f"({name} {size})"
    )


def _told(keys: Sequence[str], rows: Mapping[str, Row], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(f"{metrics[key]['name']} {_size(rows[key], metrics)}" for key in keys)


def _size(row: Row, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if row["relative"] is not None:
        return f"{row['relative']:+.1%}"
    return f"{row['value']:+.3f}" + (" of 1" if metrics[row["metric"]]["percent"] else "")


def _about(number: int) -> str:
    """Two significant digits: more would be pretence."""
    digits = max(0, len(str(number)) - 2)
    return f"{round(number, -digits):,}"
