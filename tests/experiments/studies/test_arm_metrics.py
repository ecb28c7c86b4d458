import polars as pl
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


def test_a_satisfaction_that_nothing_moves_grounds_no_sentence(write_arms, page):
    """Everybody draws it from the same expectation whatever is shown; that one arm came out a little higher is luck."""
    people = [str(number) for number in range(8)]
    tables = {}
    for name, items in (("one", "ab"), ("two", "cd")):
        tables[name] = [
            row for user in people for row in page(user, items, [user in "0123", name == "one" and user in "0246"], rating=[None, None])
        ]
    arms = write_arms(tables, "two", people)
    for name, run in arms.runs.items():
        luck = pl.when(pl.col("user") == "3").then(7.0 if name == "one" else 5.0).otherwise(6.0)
        sessions = run.directory.read_table("sessions").with_columns(
            satisfaction=luck, satisfaction_expected=pl.lit(5.5), mean_rating=pl.lit(None, dtype=pl.Float64)
        )
        sessions.write_parquet(run.path / "sessions.parquet")
    findings = ArmMetrics(ArmMetricsConfig(metrics=("satisfaction", "watch_rate"))).measure(arms)
    row = found(findings, "one", "satisfaction", "all", "two")
    assert row.value > 0
    assert row.silent == "nothing that is shown moves it"
    assert "one +0.250 (tells nothing: nothing that is shown moves it) against it" in findings.sentences[0]
    assert found(findings, "one", "watch_rate", "all", "two").silent == ""


def test_metrics_are_told_in_the_words_of_the_data(arms):
    for run in arms.runs.values():
        domain = {"item": "book", "items": "books", "choose": "read", "chosen": "read"}
        run.directory.write_json("manifest", {"data": {"name": "books", "domain": domain}, "rating_scale": None})
    findings = ArmMetrics(ArmMetricsConfig(metrics=("watch_rate", "tail_share"))).measure(arms)
    assert findings.names["watch_rate"] == "read rate (share of shown books read)"
    assert findings.sentences[0].startswith("read rate (share of shown books read): steady")
    assert "share of shown books" in findings.names["tail_share"]
