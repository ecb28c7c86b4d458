"""Made-up arms whose answers are known: tiny logs written as runs."""

from __future__ import annotations

import json

import polars as pl
import pytest

from experiments.analysis.finished_run import FinishedRun
from experiments.studies.findings import Arms

ITEMS = pl.DataFrame(
    {
        "item": ["a", "b", "c", "d"],
        "title": ["A", "B", "C", "D"],
        "genres": [["Drama"], ["Drama"], ["Comedy"], ["Crime"]],
        "train_count": pl.Series([80, 10, 6, 4], dtype=pl.Int32),
        "train_mean_rating": [4.0, 3.0, 3.0, 2.0],
    }
)


@pytest.fixture
def write_arms(tmp_path):
    """Writes arms from rows (round, user, session, page, position, item, chosen, ...) and opens them."""

    def write(tables, control, people, configs=None, extra=None):
        runs, extra = {}, extra or {}
        for name, rows in tables.items():
            folder = tmp_path / name
            folder.mkdir()
            log = pl.DataFrame(rows)
            if "chosen_probability" not in log.columns:
                log = log.with_columns(chosen_probability=pl.col("chosen").cast(pl.Float64))
            if "rating" not in log.columns:
                log = log.with_columns(rating=pl.lit(None, dtype=pl.Float64))
            log.write_parquet(folder / "impressions.parquet")
            pages = log.group_by("round", "user", "session", "page", maintain_order=True).agg(chosen_count=pl.col("chosen").sum())
            last = pl.col("page") == pl.col("page").max().over("user", "session")
            pages.with_columns(leave=last).write_parquet(folder / "pages.parquet")
            sessions = log.group_by("round", "user", "session", maintain_order=True).agg(
                pages=pl.col("page").max(), interactions=pl.col("chosen").sum(), satisfaction=pl.col("chosen").mean() * 9 + 1
            )
            sessions.write_parquet(folder / "sessions.parquet")
            pl.DataFrame({"user": people, "mean_rating": [3.0] * len(people)}).write_parquet(folder / "people.parquet")
            ITEMS.write_parquet(folder / "items.parquet")
            real = {"user": people, "item": ["a"] * len(people), "rating": [3.0] * len(people)}
            pl.DataFrame(real).with_columns(timestamp=pl.lit(0), session=pl.lit(0)).write_parquet(folder / "real.parquet")
            (folder / "config.toml").write_text((configs or {}).get(name, 'name = "x"\nseed = 3\n'))
            counts = {"people": len(people), "sessions": sessions.height, "pages": pages.height, "impressions": log.height}
            (folder / "summary.json").write_text(json.dumps({"rounds": 1, **counts}))
            (folder / "manifest.json").write_text(json.dumps({"data": {"name": "made up"}, "rating_scale": [1.0, 5.0]}))
            for file, frame in extra.get(name, {}).items():
                frame.write_parquet(folder / f"{file}.parquet")
            runs[name] = FinishedRun(folder)
        return Arms(runs, control)

    return write


@pytest.fixture(scope="session")
def page():
    """Makes the rows of one page."""

    def make(user, items, chosen, *, turn=0, session=0, number=1, **columns):
        rows = []
        for place, (item, taken) in enumerate(zip(items, chosen, strict=True), start=1):
            row = {"round": turn, "user": user, "session": session, "page": number, "position": place, "item": item, "score": -float(place)}
            rows.append({**row, "chosen": bool(taken), **{name: values[place - 1] for name, values in columns.items()}})
        return rows

    return make
