"""What the figures of studies draw, and what they say of what they do not draw."""

import math

import numpy as np
import pytest

from experiments.analysis import study_figures
from experiments.studies.findings import Findings, Row
from experiments.studies.study_config import StudyConfig

NAMES = {"tail": "long tail's share (share of shown items)", "rate": "read rate (share of shown books read)"}
VALUES = {"base": (0.2, 0.3), "near": (0.25, 0.31), "far": (0.9, 0.05)}


def study(form, arms=(), **figure):
    section = {"form": form, "arms": arms, **figure}
    document = {"name": "made", "question": "What is it?", "base": "movielens", "control": "base", "arms": {key: {} for key in VALUES}}
    return StudyConfig.model_validate({**document, "analysis": {"use": "a:B"}, "figure": section})


def findings(*, differences=True, silent=""):
    rows = []
    for arm, values in VALUES.items():
        for key, value, base in zip(NAMES, values, VALUES["base"], strict=True):
            rows.append(Row(arm, key, "all", value, value - 0.1, value + 0.1, 10))
            if differences and arm != "base":
                note = silent if arm == "near" else ""
                rows.append(Row(arm, key, "all", value - base, value - base - 0.01, value - base + 0.01, 10, against="base", silent=note))
    return Findings(tuple(rows), (), NAMES)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws, and returns the figure's axes and the caption."""
    kept = []

    def draw(config, found):
        def keep(figure, file, caption, measured=None):
            kept.append((figure, caption))

        monkeypatch.setattr(study_figures, "write_figure", keep)
        study_figures.draw(config, found, tmp_path / "figure.png")
        return kept[-1][0].axes, kept[-1][1]

    return draw


def points(axes):
    return {container.get_label(): [float(v[0]) for v in container.lines[0].get_data()] for container in axes.containers}


def test_a_tradeoff_draws_paired_differences_with_the_control_at_the_origin(drawn):
    (axes,), caption = drawn(study("tradeoff", x="tail", y="rate"), findings())
    assert points(axes) == {"near": [pytest.approx(0.05), pytest.approx(0.01)], "far": [pytest.approx(0.7), pytest.approx(-0.25)]}
    bars = axes.containers[0].lines[2][0].get_segments()[0]
    assert np.diff(bars[:, 0])[0] == pytest.approx(0.02)
    assert "paired 95 % intervals" in caption
    assert "less that of base" in axes.get_xlabel().replace("\n", " ")
    assert "base" in [text.get_text() for text in axes.figure.legends[0].get_texts()]


def test_an_arm_that_the_file_leaves_out_is_named_with_where_it_is(drawn):
    _, caption = drawn(study("tradeoff", x="tail", y="rate", arms=("base", "near")), findings())
    assert "Not drawn: far (left out by [figure] arms: long tail's share +0.700 [0.690, 0.710], read rate -0.250" in caption


def test_an_analysis_without_differences_is_drawn_by_its_values(drawn):
    (axes,), caption = drawn(study("tradeoff", x="tail", y="rate"), findings(differences=False))
    assert points(axes)["far"] == [0.9, 0.05]
    assert "paired" not in caption


def test_intervals_say_which_differences_tell_nothing(drawn):
    axes, caption = drawn(study("intervals", against=True), findings(silent="nothing that is shown moves it"))
    assert [len(each.containers) for each in axes] == [1, 1]
    assert "Not drawn: near, all (nothing that is shown moves it)" in caption


@pytest.mark.parametrize("form", ["lines", "intervals"])
def test_every_form_names_the_arms_that_it_does_not_draw(drawn, form):
    rows = tuple(
        Row(row.arm, row.metric, f"round {x}", row.value, row.low, row.high, 10, x=x)
        for row in findings().rows
        for x in (1, 2)
        if not row.against
    )
    found = Findings(rows if form == "lines" else findings().rows, (), NAMES, "round")
    _, caption = drawn(study(form, arms=("base", "near")), found)
    assert "Not drawn: far (left out by [figure] arms)" in caption


def test_a_difference_that_tells_nothing_is_told_as_that():
    row = Row("a", "satisfaction", "all", 0.0, math.nan, math.nan, 9, against="b", silent="nothing that is shown moves it")
    assert row.told() == "+0.000 (tells nothing: nothing that is shown moves it)"
    assert not row.surely_not_zero
    assert not Row("a", "m", "all", 1.0, 1.0, 1.0, 9, against="b").surely_not_zero
    assert Row("a", "m", "all", 1.0, 0.9, 1.1, 9, against="b").surely_not_zero
