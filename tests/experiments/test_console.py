"""Tables on narrow terminals."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiments import console

FIDELITY = [
    {
        "figure": "1:1 random negatives: accuracy",
        "simulated": "0.858 [0.848, 0.867]",
        "controls": "popularity 0.778, evidence 0.790, global_histogram 0.839",
        "noise floor": "0.037",
        "target": "at least 0.85",
        "met": "yes",
    }
] * 2
ESTIMATES = [
    {"estimator": name, "value": "0.2911", "normal": "0.219–0.355", "bootstrap": "0.219–0.355", "eff. n": "1,234", "max w": "12.1"}
    | {"unsup.": "3%", "error": "+0.011"}
    for name in ("independent DR", "IPS *")
]


@pytest.fixture
def printed(monkeypatch):
    """What a table looks like on a terminal of some width."""

    def show(records, width):
        made = Console(width=width, record=True, file=open("/dev/null", "w", encoding="utf-8"), color_system=None)  # noqa: SIM115
        monkeypatch.setattr(console, "stdout", made)
        console.emit_table(records, as_json=False, title="A title that is a good deal longer than a terminal of forty columns is wide")
        made.file.close()
        return made.export_text()

    return show


@pytest.mark.parametrize("records", [FIDELITY, ESTIMATES], ids=["fidelity", "estimates"])
@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_number_or_interval_is_broken_at_any_width(printed, records, width):
    text = printed(records, width)
    assert max(map(len, text.splitlines())) <= width
    for record in records:
        for value in record.values():
            for number in re.findall(r"[-+]?\d[\d.,%–]*\d|\S*\d\S* \[[^\]]*\]", value):
                assert number.rstrip(",") in text, number


def test_a_wide_terminal_shows_one_table_and_a_narrow_one_a_block_per_row(printed):
    assert printed(ESTIMATES, 120).count("estimator") == 1
    narrow = printed(ESTIMATES, 50)
    assert "estimator" not in narrow
    assert narrow.count("bootstrap") == len(ESTIMATES)
    assert "independent DR" in narrow


def test_markup_in_a_cell_is_text(printed):
    assert "[bold]x[/bold]" in printed([{"a": "[bold]x[/bold]", "b": "1 [0, 2]"}], 80)


@given(
    st.lists(st.lists(st.sampled_from(["0.123", "a b c", "", "x" * 12, "1.5 [0.1, 2.2]"]), min_size=3, max_size=3), min_size=1, max_size=4)
)
def test_widths_hold_every_unit_and_use_no_more_room_than_there_is(rows):
    for room in (5, 20, 40, 80):
        widths = console._widths(rows, room)
        if widths is not None:
            assert sum(widths) <= room
            for column, width in zip(zip(*rows, strict=True), widths, strict=True):
                assert all(len(unit) <= width for cell in column for unit in console._UNITS.findall(cell))
