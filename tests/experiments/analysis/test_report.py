from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from experiments.analysis.figure_style import Made
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.key_numbers import key_numbers, notes
from experiments.analysis.report import render, write_report

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def report(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = make_run(tmp_path_factory.mktemp("report") / "run")
    return run, write_report(run).read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_that_fetches_nothing(report: tuple[Path, str]) -> None:
    tags = Tags()
    tags.feed(report[1])
    assert "script" not in tags.names
    assert "link" not in tags.names
    pictures = [address for address in tags.addresses if not address.startswith("#")]
    assert len(pictures) == 7
    assert all(address.startswith("data:image/png;base64,") for address in pictures)
    assert not re.search(r"url\(|@import|https?://", report[1])


def test_text_from_strangers_is_escaped_everywhere(report: tuple[Path, str], tmp_path: Path) -> None:
    run, html = report
    assert "<i>cpu</i>" not in html
    assert "&lt;i&gt;cpu&lt;/i&gt;" in html
    nasty = "<script>alert('x')</script>"
    picture = tmp_path / "one.png"
    picture.write_bytes(b"png")
    changed = FinishedRun(run)
    changed.config["name"] = nasty
    changed.manifest["policy"] = nasty
    page = render(changed, {nasty: Made(picture, f'"{nasty}')})
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.names
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 7


def test_the_report_says_how_the_run_was_made_and_how_to_make_it_again(report: tuple[Path, str]) -> None:
    run, html = report
    for text in (
        "Small-1",
        "llama.cpp 1",
        "a" * 64,
        "f" * 64,
        "polars 2.1.0",
        "01 January 2026",
        f"usersim run {run / 'config.toml'}",
        "page_size = 5",
    ):
        assert text in html, text


def test_key_numbers_hold_intervals_and_real_counterparts(report: tuple[Path, str]) -> None:
    rows = {row.name: row for row in key_numbers(FinishedRun(report[0]))}
    watched = rows["Share of shown films watched"]
    low, high = (float(part) for part in re.findall(r"([\d.]+)%", watched.interval))
    assert low < float(watched.value.rstrip("%")) < high
    assert rows["Mean rating"].remark.startswith("real: 3.")
    assert all(row.name in report[1] for row in rows.values())


def test_the_notes_say_who_decided_what_failed_and_what_the_data_lacks(report: tuple[Path, str], make_run: MakeRun, tmp_path: Path) -> None:
    said = " ".join(notes(FinishedRun(report[0])))
    for text in (
        "LanguageModelDecisions",
        "Small-1",
        "could not be used",
        "synthetic",
        "not what was shown",
        "sittings in which people rated",
    ):
        assert text in said, text
    bare = " ".join(notes(FinishedRun(make_run(tmp_path / "run", has_ratings=False, has_times=False))))
    assert "no times" in bare
    assert "no ratings" in bare
    assert "sittings" not in bare


def test_a_run_without_ratings_times_and_genres_still_has_a_report_that_says_what_is_missing(make_run: MakeRun, tmp_path: Path) -> None:
    html = write_report(make_run(tmp_path / "run", has_ratings=False, has_times=False, has_genres=False)).read_text(encoding="utf-8")
    assert "not drawn, because the data has no ratings" in html
    assert "Mean rating" not in html


def test_a_run_in_which_nobody_chose_anything_still_has_a_report(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", people=5)
    impressions = pl.read_parquet(run / "impressions.parquet")
    nothing = impressions.with_columns(chosen=pl.lit(value=False), rating=pl.lit(None, dtype=pl.Float64))
    nothing.write_parquet(run / "impressions.parquet")
    sessions = pl.read_parquet(run / "sessions.parquet").with_columns(interactions=pl.lit(0, dtype=pl.Int32))
    sessions.write_parquet(run / "sessions.parquet")
    html = write_report(run).read_text(encoding="utf-8")
    assert "nobody gave a rating" in html
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html).lower()
