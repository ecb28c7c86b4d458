import math

import pytest

from experiments.studies.fatigue import Fatigue, FatigueConfig


@pytest.fixture
def findings(write_arms, page):
    """Half the people always choose and stay for three pages; the others never choose and leave after the first."""
    people = [str(number) for number in range(10)]
    rows = []
    for number, user in enumerate(people):
        keen = number % 2 == 0
        for k in range(3 if keen else 1):
            rows += page(user, "ab", [keen, keen], number=k + 1, rating=[5.0 if keen else None] * 2)
    arms = write_arms({"one": rows, "two": rows}, "two", people)
    return Fatigue(FatigueConfig(pages=3)).measure(arms)


def by_page(findings, metric):
    return {row.x: row.value for row in findings.rows if row.arm == "one" and row.metric == metric and row.x is not None}


def test_a_rise_that_is_only_who_stays_vanishes_among_those_who_stay(findings):
    assert by_page(findings, "watch_rate") == {1: 0.5, 2: 1.0, 3: 1.0}
    assert by_page(findings, "stayers") == {1: 1.0, 2: 1.0, 3: 1.0}
    change = {row.metric: row.value for row in findings.rows if row.arm == "one" and row.group == "change"}
    assert change == {"watch_rate": pytest.approx(0.5), "stayers": pytest.approx(0.0)}


def test_leaving_is_counted_by_page(findings):
    assert by_page(findings, "leaving") == {1: 0.5, 2: 0.0, 3: 1.0}


def test_equal_arms_do_not_differ_in_satisfaction(findings):
    (row,) = (row for row in findings.rows if row.metric == "satisfaction" and row.against)
    assert row.value == 0.0
    assert row.silent == "it is the same for everybody in both arms"
    assert math.isnan(row.low)
    assert any("satisfaction +0.000 (tells nothing: it is the same for everybody in both arms)" in told for told in findings.sentences)
