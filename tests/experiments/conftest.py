"""A made-up finished run: right in form, known in content, with titles that try to break what shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from agents.actions import ACTIONS
from experiments.cli import call
from simulator.seeds import Stream
from simulator.tables import IMPRESSIONS, MEMORIES, PAGES, SESSIONS, TEXTS, Table, with_actions

NASTY_TITLES = (
    "<script>alert('x')</script>",
    "From $5 to $9",
    'The "quoted" \tfilm\n',
    "東京物語",
    "a" * 120,
    "_underscored_ {braces} 100%",
)
GENRES = ("Drama", "Comedy", "Film Noir", "Sci-Fi", "Children's", "$ & <b>")
INSIGHT = "I enjoy slow dramas in the evening more than I thought, and leave when comedies pile up."
PAGE_SIZE = 5
MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    return write_run


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> Callable[[str, str], Path]:
    """Runs the experiment of a name and a text; its file, beside which the folder ``run`` lies."""

    def simulate(name: str, text: str) -> Path:
        file = Path(tmp_path_factory.mktemp(name)) / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        assert call(["run", str(file), "--output", str(file.parent / "run"), "--workers", "1"]) == 0
        return file

    return simulate


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test draw no figures at their end; those of fixtures of the module do."""
    monkeypatch.setattr("experiments.analysis.report.write_report", lambda run, _=None: run / "report.html")


def write_run(
    folder: Path,
    *,
    people: int = 30,
    items: int = 60,
    rounds: int = 2,
    has_ratings: bool = True,
    has_times: bool = True,
    has_genres: bool = True,
) -> Path:
    """Writes a run of `people` persons, the last fifth of them synthetic, and returns its folder."""
    rng = Stream(5).child("fake run").generator()
    folder.mkdir(parents=True)
    actions = tuple(action for action in ACTIONS if has_ratings or not action.needs_ratings)
    titles = [NASTY_TITLES[i] if i < len(NASTY_TITLES) else f"Film {i}" for i in range(items)]
    item_ids = [str(i + 1) for i in range(items)]
    genres = [sorted({GENRES[g] for g in rng.integers(0, len(GENRES), 1 + i % 3)}) if has_genres else [] for i in range(items)]
    attraction = 1.0 / np.arange(1, items + 1) ** 0.7
    attraction /= attraction.sum()
    n_real = people - people // 5
    users = [str(i + 1) for i in range(n_real)] + [f"synthetic-{i:04d}" for i in range(people - n_real)]

    real = []
    for user in users[:n_real]:
        time, session = 880_000_000, 0
        for place, item in enumerate(rng.choice(items, size=12, replace=False, p=attraction)):
            new = place > 0 and rng.random() < 0.2
            session, time = session + int(new), time + (90_000 if new else 30)
            stars = float(np.clip(round(rng.normal(3.6, 1.1)), 1, 5)) if has_ratings else None
            real.append((user, item_ids[item], stars, time if has_times else None, session if has_times else None))
    real_schema = {"user": pl.String, "item": pl.String, "rating": pl.Float32, "timestamp": pl.Int64, "session": pl.Int32}
    real_table = pl.DataFrame(real, schema=real_schema, orient="row")

    impressions, pages, sessions, memories, texts = [], [], [], [], []
    for number, user in enumerate(users):
        synthetic = number >= n_real
        records = session = 0
        for round_number in range(rounds):
            for _ in range(1 + int(rng.random() < 0.4)):
                start = 893_000_000 + round_number * 604_800 + session * 40_000 + number
                time, chosen_items, stars_given, last = start, [], [], 1 + int(min(4, rng.geometric(0.4)))
                for page in range(1, last + 1):
                    shown = rng.choice(items, size=PAGE_SIZE, replace=False, p=attraction)
                    on_page = 0
                    for position, item in enumerate(shown, start=1):
                        probability = 0.6 / position**0.4
                        chosen = bool(rng.random() < probability)
                        stars = float(np.clip(round(rng.normal(3.9, 0.8)), 1, 5)) if chosen else None
                        row = {"round": round_number, "user": user, "session": session, "page": page, "position": position}
                        row |= {"item": item_ids[item], "policy": "bpr-0", "score": -float(position), "propensity": 1.0, "time": time}
                        row |= {"synthetic": synthetic, "chosen": chosen, "chosen_probability": probability}
                        row |= {"rating": stars, "rating_expected": 3.9} if has_ratings else {}
                        impressions.append(row)
                        on_page += chosen
                        chosen_items += [item_ids[item]] if chosen else []
                        stars_given += [stars] if chosen and has_ratings else []
                    left = page == last and last < 5
                    row = {
                        "round": round_number,
                        "user": user,
                        "session": session,
                        "page": page,
                        "time": time,
                        "dwell": 40,
                        "policy": "bpr-0",
                    }
                    row |= {"shown": PAGE_SIZE, "chosen_count": on_page, "fatigue": 0.1 * page, "memories": 2, "leave": left}
                    pages.append(row | {"leave_probability": 0.3, "status": "ok" if number or page > 1 else "unreadable", "reply": ""})
                    time += 40
                mean = float(np.mean(stars_given)) if stars_given else None
                row = {"round": round_number, "user": user, "session": session, "start": start, "end": time, "pages": last}
                row |= {"impressions": last * PAGE_SIZE, "interactions": len(chosen_items), "mean_rating": mean, "synthetic": synthetic}
                row |= {"exit": "left" if last < 5 else "last_page", "status": "ok", "reply": ""}
                mood = float(np.clip(round(rng.normal(6.5 + 0.4 * round_number, 1.4)), 1, 10))
                sessions.append(row | {"satisfaction": mood, "satisfaction_expected": 6.5})
                where = {"round": round_number, "user": user, "session": session, "status": "ok"}
                texts.append(where | {"kind": "reason", "text": "I saw <b>much</b> that I like."})
                texts.append(where | {"kind": "insight", "text": INSIGHT})
                kinds = [("chosen", f"I watched item {item}.", item) for item in chosen_items]
                for kind, text, about in [
                    *kinds,
                    ("insight", INSIGHT, None),
                ]:
                    row = {
                        "user": user,
                        "record": records,
                        "kind": kind,
                        "round": round_number,
                        "session": session,
                        "time": time,
                        "text": text,
                    }
                    memories.append(
                        row | {"item": about, "importance": 0.5, "references": [], "recalls": 0, "last_recall": time, "forgotten": None}
                    )
                    records += 1
                session += 1

    for table, rows in ((IMPRESSIONS, impressions), (PAGES, pages), (SESSIONS, sessions), (MEMORIES, memories), (TEXTS, texts)):
        full: Table = with_actions(table, actions)
        pl.DataFrame(rows, schema=full.schema()).sort(full.key).write_parquet(folder / f"{table.name}.parquet")
    real_table.write_parquet(folder / "real.parquet")
    training = real_table.group_by("item").agg(
        train_count=pl.len().cast(pl.Int32), train_mean_rating=pl.col("rating").mean().cast(pl.Float64)
    )
    catalog = {"item": item_ids, "title": titles, "year": pl.Series([1950 + i for i in range(items)], dtype=pl.Int32)}
    catalog |= {"genres": pl.Series(genres, dtype=pl.List(pl.String))}
    joined = pl.DataFrame(catalog).join(training, on="item", how="left", maintain_order="left")
    joined.with_columns(pl.col("train_count").fill_null(0)).write_parquet(folder / "items.parquet")
    _people(users, n_real, real_table, rng, has_ratings).write_parquet(folder / "people.parquet")

    (folder / "config.toml").write_text(
        'name = "made-up"\nseed = 7\nrounds = 2\n\n[dataset]\nuse = "a:B"\n\n[decision]\nuse = "agents.decisions:LanguageModelDecisions"\n'
        'max_fallback_share = 0.02\n\n[recommender]\nuse = "environments.recommenders.bpr:BPR"\npage_size = 5\nmax_pages = 5\n'
    )
    data = {
        "name": "ml-made-up",
        "fingerprint": "f" * 64,
        "users": n_real,
        "items": items,
        "training_interactions": real_table.height,
        "skipped": {},
    }
    data["domain"] = {"item": "film", "items": "films", "choose": "watch", "chosen": "watched"}
    manifest = {
        "usersim": "0.1.0",
        "data": data,
        "model": {"name": "Small-1", "sha256": "a" * 64, "backend": "llama.cpp 1", "settings": {"threads": 2}},
    }
    manifest |= {"rating_scale": [1.0, 5.0] if has_ratings else None}
    manifest |= {
        "experiment": "made-up",
        "seed": 7,
        "people": people,
        "synthetic_people": people - n_real,
        "git_revision": "c" * 40,
        "resumed": 1,
    }
    manifest |= {
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:03:00+00:00",
        "packages": {"polars": "2.1.0"},
        "policy": "bpr-0",
    }
    manifest |= {"machine": {"system": "Linux", "python": "3.11", "processor": "<i>cpu</i>", "cores": 2, "memory_gb": 4.0}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    summary = {"people": people, "rounds": rounds, "sessions": len(sessions), "pages": len(pages), "impressions": len(impressions)}
    tokens = {"prompt_tokens": 120_000, "computed_tokens": 30_000, "generated_tokens": 3_000, "calls": 900}
    summary |= {"seconds": 180.0, "simulation_seconds": 150.0, "workers": 2, "pages_per_second": 1.5, "tokens": tokens}
    summary |= {"fallback_share": 0.01, "peak_memory_gb": 1.25, "repairs": [{}, {"short": 2}], "text_failures": {"empty": 3}, "texts": 40}
    summary |= {"sha256": {"impressions": "b" * 64}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _people(users: list[str], n_real: int, real: pl.DataFrame, rng: np.random.Generator, has_ratings: bool) -> pl.DataFrame:
    levels = ("low", "medium", "high")
    columns: dict[str, object] = {"user": users, "synthetic": [i >= n_real for i in range(len(users))]}
    for trait in ("activity", "conformity", "diversity", "pickiness"):
        known = has_ratings or trait in ("activity", "diversity")
        place = rng.random(len(users))
        columns[f"{trait}_value"] = pl.Series((1 + 3 * place) if known else [None] * len(users), dtype=pl.Float64)
        columns[f"{trait}_percentile"] = pl.Series(place if known else [None] * len(users), dtype=pl.Float64)
        columns[f"{trait}_level"] = pl.Series([levels[int(3 * p)] if known else None for p in place], dtype=pl.String)
    columns |= {
        "age": pl.Series([20 + i % 50 for i in range(len(users))], dtype=pl.Int32),
        "gender": ["female" if i % 2 else "male" for i in range(len(users))],
    }
    columns |= {"occupation": ["film critic" if i % 4 else None for i in range(len(users))], "taste": ["Likes\tslow films."] * len(users)}
    counts = real.group_by("user").agg(interactions=pl.len().cast(pl.Int32), mean_rating=pl.col("rating").mean().cast(pl.Float64))
    table = pl.DataFrame(columns).join(counts, on="user", how="left", maintain_order="left")
    ones = {"liked": pl.Series([["1"]] * len(users)), "sessions_per_week": pl.lit(1.5), "items_per_session": pl.lit(6.0)}
    return table.with_columns(pl.col("interactions").fill_null(10), **ones).sort("user")


@pytest.fixture
def cut_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the figures drawn in this test that do not lie wholly within their picture."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    found: list[str] = []
    save = Figure.savefig

    def watched(figure: Figure, target: Any, **options: Any) -> None:
        save(figure, target, **options)
        figure.draw_without_rendering()
        box, renderer = figure.bbox, figure._get_renderer()
        axes_of = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
        every = {label for axis in axes_of for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
        drawn = {label for axis in axes_of if axis.axes.axison for tick in axis._update_ticks() for label in (tick.label1, tick.label2)}
        for text in figure.findobj(Text):
            if not text.get_visible() or not text.get_text().strip() or text in every - drawn:
                continue
            if text.axes is not None and not text.axes.axison and text not in text.axes.texts:
                continue
            own = text.get_window_extent(renderer)
            if own.x0 < box.x0 - 1 or own.x1 > box.x1 + 1 or own.y0 < box.y0 - 1 or own.y1 > box.y1 + 1:
                found.append(text.get_text())

    monkeypatch.setattr(Figure, "savefig", watched)
    return found
