import pytest

from experiments.analysis.compared_metrics import Part
from experiments.studies import study_metrics
from experiments.studies.arm_metrics import ArmMetrics, ArmMetricsConfig

PEOPLE = ["1", "2", "3", "4"]


def found(findings, arm, metric, group, against=""):
    (row,) = (r for r in findings.rows if (r.arm, r.metric, r.group, r.against) == (arm, metric, group, against))
    return row


@pytest.fixture
def arms(write_arms, page):
    """One arm shows two genres at first and one later, the other always two; everybody likes dramas."""

    def shown(items_by_round):
        rows = []
        for turn, items in enumerate(items_by_round):
            for user in PEOPLE:
                rows += page(user, items, [item in "ab" for item in items], turn=turn)
        return rows

    tables = {"narrowing": shown([["a", "c"], ["a", "b"]]), "steady": shown([["a", "c"], ["a", "c"]])}
    return write_arms(tables, "steady", PEOPLE)


def test_a_bubble_that_is_there_is_found_by_round_and_beyond_the_control(arms):
    config = ArmMetricsConfig(metrics=("genre_entropy", "top_genre_share", "watch_rate"), by_round=True)
    findings = ArmMetrics(config).measure(arms)
    assert found(findings, "narrowing", "genre_entropy", "round 1").value == pytest.approx(1.0)
    assert found(findings, "narrowing", "genre_entropy", "round 2").value == pytest.approx(0.0)
    assert found(findings, "narrowing", "genre_entropy", "change").value == pytest.approx(-1.0)
    assert found(findings, "narrowing", "genre_entropy", "change", "steady").value == pytest.approx(-1.0)
    assert found(findings, "narrowing", "top_genre_share", "change", "steady").value == pytest.approx(0.5)
    assert found(findings, "narrowing", "watch_rate", "all", "steady").value == pytest.approx(0.25)
    assert found(findings, "steady", "genre_entropy", "change").value == pytest.approx(0.0)


def test_the_share_of_the_favourite_genre_and_of_the_long_tail(arms):
    part = Part(arms.runs["narrowing"])
    favourite = study_metrics.favourite_share(part)
    assert (favourite["a"].sum() / favourite["b"].sum()) == pytest.approx(0.75)
    tail = study_metrics.tail_share(part)
    # a holds 80 of 100 interactions: b, c and d are the tail
    assert (tail["a"].sum() / tail["b"].sum()) == pytest.approx(0.5)


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="unknown metric 'watchrate'; did you mean 'watch_rate'"):
        ArmMetricsConfig(metrics=("watchrate",))
