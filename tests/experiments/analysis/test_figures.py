from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer import Typer
from typer.testing import CliRunner

from experiments.analysis import figures
from experiments.analysis.figure_style import Made, Skipped
from experiments.analysis.figures import FIGURES, make_figures
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.stories import ordinary_person
from experiments.analysis.timeline import timeline_rows
from experiments.commands import plot
from simulator.errors import ConfigError, RunError

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def drawn(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Made | Skipped]]:
    run = make_run(tmp_path_factory.mktemp("figures") / "run")
    return run, make_figures(run)


def test_every_figure_is_drawn_one_column_wide_with_its_number_of_observations(drawn: tuple[Path, dict[str, Made | Skipped]]) -> None:
    run, made = drawn
    assert list(made) == list(FIGURES)
    for name, found in made.items():
        assert isinstance(found, Made), found
        assert found.path == run / "figures" / f"{name}.png"
        width, height = struct.unpack(">II", found.path.read_bytes()[16:24])
        assert width == 1020
        assert 300 < height < 2400
        assert any(letter.isdigit() for letter in found.caption)
        assert found.caption.endswith(".")


def test_the_same_run_gives_the_same_bytes(drawn: tuple[Path, dict[str, Made | Skipped]]) -> None:
    run, made = drawn
    before = {name: found.path.read_bytes() for name, found in made.items() if isinstance(found, Made)}
    make_figures(run)
    assert {name: (run / "figures" / f"{name}.png").read_bytes() for name in made} == before
    assert all(b"Software" not in content for content in before.values())


def test_figures_that_the_data_cannot_give_are_skipped_with_a_reason(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", has_ratings=False, has_times=False, has_genres=False)
    (run / "figures").mkdir()
    (run / "figures" / "ratings.png").write_bytes(b"of an earlier version")
    made = make_figures(run)
    skipped = {name: found.reason for name, found in made.items() if isinstance(found, Skipped)}
    assert skipped == {"ratings": "the data has no ratings", "genres": "the items have no genres"}
    assert not (run / "figures" / "ratings.png").exists()
    assert "the data has no times" in made["pages-per-session"].caption


def test_one_figure_can_be_drawn_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", people=5)
    assert list(make_figures(run, "popularity")) == ["popularity"]
    assert [file.name for file in (run / "figures").iterdir()] == ["popularity.png"]


def test_an_unknown_figure_names_the_nearest(drawn: tuple[Path, dict[str, Made | Skipped]]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ratings'"):
        make_figures(drawn[0], "rating")


def test_the_timeline_of_a_person_who_is_not_there_is_refused(drawn: tuple[Path, dict[str, Made | Skipped]]) -> None:
    with pytest.raises(ConfigError, match="no person 'nobody'"):
        make_figures(drawn[0], "timeline", "nobody")


def test_a_timeline_holds_every_page_choice_and_session_of_its_person(drawn: tuple[Path, dict[str, Made | Skipped]]) -> None:
    run = FinishedRun(drawn[0])
    user = ordinary_person(run)
    rows = timeline_rows(run, user)
    shown = run.impressions.filter(run.impressions["user"] == user)
    sessions = run.sessions.filter(run.sessions["user"] == user)
    assert sum(sum(row.squares) for row in rows) == shown["chosen"].sum() == sum("★" in row.text for row in rows)
    assert sum(len(row.squares) for row in rows) == shown.height
    assert [row.kind for row in rows].count("heading") == sessions.height
    assert any(row.kind == "insight" for row in rows)


def test_a_folder_without_a_complete_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run"):
        make_figures(tmp_path / "nothing")
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(RunError, match="not complete"):
        make_figures(tmp_path)


def command_line() -> Typer:
    app = Typer()
    app.command()(lambda: None)
    plot.register(app)
    return app


def test_the_command_draws_all_and_writes_the_report(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", people=5, has_genres=False)
    result = CliRunner().invoke(command_line(), ["plot", str(run), "--json"])
    assert result.exit_code == 0
    assert '"genres": "the items have no genres"' in result.stdout
    assert (run / "report.html").is_file()


def test_the_command_refuses_a_person_for_another_figure(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", people=5)
    result = CliRunner().invoke(command_line(), ["plot", str(run), "--figure", "genres", "--user", "1"])
    assert isinstance(result.exception, ConfigError)


@pytest.mark.parametrize("kind", [{}, {"has_ratings": False, "has_times": False}, {"people": 5, "items": 12}])
def test_no_text_of_a_figure_is_cut(make_run: MakeRun, tmp_path: Path, cut_texts: list[str], kind: dict[str, Any]) -> None:
    make_figures(make_run(tmp_path / "run", **kind))
    assert cut_texts == []


def test_bars_of_ratings_stand_at_the_levels_of_the_data(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for table in ("impressions", "real"):
        frame = pl.read_parquet(run / f"{table}.parquet")
        frame.with_columns(pl.col("rating") * 0.2).write_parquet(run / f"{table}.parquet")
    drawing = figures.ratings(FinishedRun(run))
    ticks = [label.get_text() for label in drawing.figure.axes[0].get_xticklabels()]
    assert ticks == ["0.2", "0.4", "0.6", "0.8", "1"]
    bars = [bar for container in drawing.figure.axes[0].containers for bar in container]
    assert len({round(bar.get_x(), 6) for bar in bars}) == len(bars)
    assert all(bar.get_width() < 0.1 for bar in bars)
    plain = make_run(tmp_path / "plain")
    assert drawing.caption.rpartition("distance")[2] == figures.ratings(FinishedRun(plain)).caption.rpartition("distance")[2]


def test_the_caption_of_traits_says_which_order_behaviour(make_run: MakeRun, tmp_path: Path) -> None:
    caption = make_figures(make_run(tmp_path / "run"), "traits")["traits"].caption
    assert re.search(r"[Ll]evels (do not )?order what people did for", caption)
