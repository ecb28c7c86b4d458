from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from experiments.analysis.figure_style import Made
from experiments.analysis.figures import FIGURES, Drawing
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.html_page import without_places
from experiments.analysis.key_numbers import key_numbers, notes
from experiments.analysis.report import render, write_report
from experiments.analysis.report_sections import cost, cost_by_round, most_shown, rounds
from experiments.analysis.stories import examples, ordinary_person, story
from experiments.analysis.timeline import timeline_rows
from simulator.llm.limits import Ledger
from simulator.tables import TABLES, Table

MakeRun = Callable[..., Path]
INSIGHT = "I enjoy slow dramas in the evening more than I thought, and leave when comedies pile up."


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


VOID = {"meta", "img", "br", "hr", "input", "link"}


class Structure(HTMLParser):
    """Collects what makes a page invalid or hard to use: tags that do not match, ids and links, pictures and tables without words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [(given["href"] or "")[1:]] if tag == "a" else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not given.get("alt"):
            self.faults.append("a picture without words")
        if tag == "th" and "scope" not in given:
            self.faults.append("a heading of a table without scope")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


@pytest.mark.parametrize("missing", [{}, {"has_ratings": False}, {"has_times": False}, {"has_ratings": False, "has_genres": False}])
def test_the_report_is_valid_and_can_be_read_aloud(make_run: MakeRun, tmp_path: Path, missing: dict[str, bool]) -> None:
    html = write_report(make_run(tmp_path / "run", people=10, **missing)).read_text(encoding="utf-8")
    found = Structure()
    found.feed(html)
    assert found.faults == []
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert set(found.links) <= set(found.ids)
    assert found.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(found.headings))
    assert html.startswith("<!doctype html>")
    assert 'name="viewport"' in html


def test_the_report_tells_the_stories_of_three_different_people(report: tuple[Path, str]) -> None:
    run, html = report
    told = examples(FinishedRun(run))
    assert [why for why, _ in told] == ["Somebody ordinary", "Who took most", "Who was least content"]
    assert len({user for _, user in told}) == 3
    for why, user in told:
        assert f"{why}: person {user}" in html
        of_person = FinishedRun(run).impressions.filter(pl.col("user") == user)
        telling = story(FinishedRun(run), user)
        items = [item for visit in telling.visits for page in visit.pages for item in page.items]
        assert len(items) == of_person.height
        assert sum(item.chosen for item in items) == of_person["chosen"].sum()
    assert INSIGHT in html
    assert "I saw &lt;b&gt;much&lt;/b&gt; that I like." in html


def test_the_report_says_what_each_round_showed(report: tuple[Path, str]) -> None:
    run = FinishedRun(report[0])
    headings, rows = rounds(run)
    assert [row[0] for row in rows] == ["1", "2"]
    assert sum(int(row[headings.index("Shown")].replace(",", "")) for row in rows) == run.impressions.height
    assert [row[-1] for row in rows] == ["nothing", "short 2"]
    chosen = run.impressions.filter(pl.col("round") == 0)["chosen"].mean()
    assert rows[0][headings.index("Share watched")] == f"{chosen:.1%}"
    most = run.impressions["item"].value_counts()["count"].max()
    assert most_shown(run)[0][1] == f"{most:,}"


def test_rounds_are_counted_from_one_wherever_people_look(report: tuple[Path, str]) -> None:
    """Only the log counts them from 0, as codes are."""
    run = FinishedRun(report[0])
    assert sorted(run.sessions["round"].unique().to_list()) == [0, 1]
    assert set(re.findall(r"<summary>Session \d+, round (\d+),", report[1])) == {"1", "2"}
    headings = [row.text for row in timeline_rows(run, ordinary_person(run)) if row.kind == "heading"]
    assert {re.search(r"round (\d+)", text)[1] for text in headings} <= {"1", "2"}  # type: ignore[index]
    drawn = FIGURES["satisfaction"](run)
    assert isinstance(drawn, Drawing)
    (bars,) = drawn.figure.axes[0].containers
    assert bars.lines[0].get_xdata().tolist() == [1, 2]  # type: ignore[union-attr]


def test_the_report_says_what_the_run_cost(report: tuple[Path, str], make_run: MakeRun, tmp_path: Path) -> None:
    rows = dict(cost(FinishedRun(report[0])))
    assert rows["Time"] == "180 s, of which 150 s simulation"
    assert rows["Tokens in prompts"] == "120,000, of which 30,000 (25%) had to be computed"
    assert rows["Money"].startswith("none")
    run = make_run(tmp_path / "paid", people=5)
    ledger = Ledger(run / "ledger.sqlite", prices=(0.001, 0.01))
    ledger.add(1_000, 50)
    ledger.add_lost()
    ledger.close()
    paid = dict(cost(FinishedRun(run)))["Money"]
    assert paid.startswith("1.5000 in the currency")
    assert "1 more were never answered" in paid
    shard = run / "rounds" / "000" / "cohort-0000"
    shard.mkdir(parents=True)
    usage = {"prompt_tokens": 70, "computed_tokens": 30, "generated_tokens": 5, "calls": 2}
    (shard / "result.json").write_text(json.dumps({"pages": 12, "seconds": 1.5, "usage": usage}))
    assert cost_by_round(FinishedRun(run)) == [("1", "1", "12", "1.5 s", "70", "30", "5")]
    assert "Work of all processes" in write_report(run).read_text(encoding="utf-8")


def test_a_run_without_a_language_model_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", people=5)
    for name, change in (("manifest", {"model": None}), ("summary", {"tokens": {"prompt_tokens": 0}})):
        document = json.loads((run / f"{name}.json").read_text())
        (run / f"{name}.json").write_text(json.dumps({**document, **change}))
    html = write_report(run).read_text(encoding="utf-8")
    assert "none: no language model was asked" in html
    assert "without a language model" in html
    assert "Money" not in dict(cost(FinishedRun(run)))


def test_fidelity_is_shown_if_it_was_measured_and_otherwise_how_to(report: tuple[Path, str], make_run: MakeRun, tmp_path: Path) -> None:
    assert "usersim fidelity THIS-FOLDER" in report[1]
    run = make_run(tmp_path / "run", people=5)
    line = {"title": "Accuracy of <choices>", "value": 0.71, "low": 0.69, "high": 0.73, "controls": {"popularity": 0.7}, "floor": None}
    line |= {"wanted": "at least", "target": 0.85, "met": False}
    document = {"headline": {"accuracy": line}, "people": 1234, "data": "ml-made-up", "model": "evidence", "split": {"method": "random"}}
    (run / "fidelity").mkdir()
    (run / "fidelity" / "fidelity.json").write_text(json.dumps(document))
    html = write_report(run).read_text(encoding="utf-8")
    for text in ("1,234 held-out people", "Accuracy of &lt;choices&gt;", "0.710 [0.690, 0.730]", "at least 0.85: no", "popularity 0.700"):
        assert text in html, text
    assert "Not measured" not in html


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
    _, html = report
    for text in (
        "Small-1",
        "llama.cpp 1",
        "a" * 64,
        "f" * 64,
        "polars 2.1.0",
        "01 January 2026",
        "usersim run THIS-FOLDER/config.toml",
        "page_size = 5",
    ):
        assert text in html, text


def test_no_report_tells_where_on_a_machine_it_was_made(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "My Runs" / "run", people=5)
    config = run / "config.toml"
    places = f'''[places]\na = "{tmp_path}/My Runs/films"\nb = "C:\\\\Users\\\\somebody\\\\films"\nc = ['/home/some body/x.toml']\n'''
    config.write_text(config.read_text(encoding="utf-8") + places, encoding="utf-8")
    text = re.sub(r"base64,[^\"]*", "", write_report(run).read_text(encoding="utf-8"))
    for piece in (str(tmp_path), "My Runs", "somebody", "some body", str(Path.home())):
        assert piece not in text, piece
    assert "…/films" in text
    assert "…/x.toml" in text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("use = &#34;/home/me/my file.py:Mine&#34;", "use = &#34;…/my file.py:Mine&#34;"),
        ("<dd>/tmp/a/b.toml</dd>", "<dd>…/b.toml</dd>"),
        ("at http://127.0.0.1:8000/v1/x and and/or 3/4 of items/pages", "at http://127.0.0.1:8000/v1/x and and/or 3/4 of items/pages"),
        ("<h2>AC/DC</h2></section>", "<h2>AC/DC</h2></section>"),
        ("data:image/png;base64,iVBOR/w0/KG+go/AA==", "data:image/png;base64,iVBOR/w0/KG+go/AA=="),
    ],
)
def test_only_absolute_paths_are_shortened(text: str, left: str) -> None:
    assert without_places(text) == left


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


def test_an_item_whose_propensity_nobody_knows_is_shown_as_that(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = run / "impressions.parquet"
    unknown = pl.when(pl.col("position") == 1).then(pl.lit(None, dtype=pl.Float64)).otherwise(0.25).alias("propensity")
    pl.read_parquet(file).with_columns(unknown, score=pl.lit(None, dtype=pl.Float64)).write_parquet(file)
    text = write_report(run).read_text(encoding="utf-8")
    assert "shown with unknown probability" in text
    assert "shown with probability 0.25" in text


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_whatever_a_table_may_not_know_is_no_reason_not_to_report(make_run: MakeRun, tmp_path: Path, table: Table) -> None:
    run = make_run(tmp_path / "run")
    file = run / f"{table.name}.parquet"
    whole = pl.read_parquet(file)
    unknown = [column.name for column in table.columns if "null" in column.meaning and column.name in whole.columns]
    assert unknown or table.name == "texts"
    for known in (0, 1):  # of nobody, and of every second row
        some = pl.when(pl.int_range(pl.len()) % 2 < known)
        whole.with_columns(some.then(pl.col(name)).otherwise(None).alias(name) for name in unknown).write_parquet(file)
        html = write_report(run).read_text(encoding="utf-8")
        assert "nan" not in re.sub(r"base64,[^\"]*", "", html).lower()


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


def test_a_satisfaction_that_nothing_moves_is_no_headline(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", has_ratings=False)
    sessions = pl.read_parquet(run / "sessions.parquet")
    sessions.with_columns(satisfaction_expected=pl.lit(5.5)).write_parquet(run / "sessions.parquet")
    html = write_report(run).read_text(encoding="utf-8")
    assert "tells nothing: everybody draws it from the same chances, whatever is shown" in html
    tiles = re.findall(r"<dt>([^<]*)</dt>|class=\"tile[^>]*>(.*?)</div>", html.partition("<nav")[0], re.DOTALL)
    assert not any("Satisfaction" in "".join(tile) for tile in tiles)
    lively = sessions.with_columns(satisfaction_expected=5.5 + 0.1 * pl.col("interactions"))
    lively.write_parquet(run / "sessions.parquet")
    assert "tells nothing" not in write_report(run).read_text(encoding="utf-8")
