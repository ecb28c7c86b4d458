import pytest

from experiments.studies.discovery import Discovery, DiscoveryConfig
from simulator.errors import ConfigError
from simulator.seeds import Stream

PEOPLE = [str(number) for number in range(200)]
BADGE = 'name = "x"\nseed = 3\n[interventions.badge]\nkind = "explanation"\n'
APPEAL = {"a": 0.7, "b": 0.35, "c": 0.3, "d": 0.25}


def log(page, *, shuffled=False, badge="popular"):
    """The best item stands first and has the badge, unless drawn; the item's appeal and the badge (+0.15) decide, places do nothing."""
    rng = Stream(9).child(str(shuffled), badge).generator()
    rows = []
    for user in PEOPLE:
        for number in range(4):
            items = list("abcd")
            if shuffled:
                rng.shuffle(items)
            marked = [(item == "a") if badge == "popular" else rng.random() < 0.5 for item in items]
            chosen = [rng.random() < APPEAL[item] + 0.15 * mark for item, mark in zip(items, marked, strict=True)]
            treated = ["badge" if mark else "" for mark in marked]
            rows += page(user, items, chosen, number=number + 1, treated=treated, targeted=["badge"] * 4)
    return rows


@pytest.fixture
def arms(write_arms, page):
    tables = {"observed": log(page), "shuffled": log(page, shuffled=True), "drawn": log(page, badge="drawn")}
    return write_arms(tables, "observed", PEOPLE, dict.fromkeys(tables, BADGE))


def test_what_looks_like_a_cause_and_is_none_is_told_apart_by_intervening(arms):
    config = DiscoveryConfig(observed="observed", intervened={"position": "shuffled", "explanation": "drawn"}, nothing=("score",))
    findings = Discovery(config).measure(arms)
    rows = {(row.metric, row.group): row for row in findings.rows}
    assert rows["position", "association"].high < -0.1
    assert rows["position", "intervened"].low < 0 < rows["position", "intervened"].high
    assert rows["explanation", "association"].value > 0.4
    assert rows["explanation", "intervened"].low < 0.15 < rows["explanation", "intervened"].high
    assert rows["explanation", "association"].truth == rows["explanation", "intervened"].value
    assert rows["score", "association"].truth == 0.0
    assert "the truth is no edge" in next(sentence for sentence in findings.sentences if sentence.startswith("position"))


def test_an_arm_that_does_not_vary_what_it_should_is_refused(arms):
    from dataclasses import replace

    import polars as pl

    run = arms.runs["drawn"]
    run.__dict__["impressions"] = run.impressions.with_columns(treated=pl.lit(""))
    with pytest.raises(ConfigError, match="the arm drawn shows no differences in explanation"):
        Discovery(DiscoveryConfig(observed="observed", intervened={"explanation": "drawn"})).measure(replace(arms))


def test_unknown_variables_and_arms_are_named(arms):
    with pytest.raises(ConfigError, match="unknown variable 'place'"):
        Discovery(DiscoveryConfig(observed="observed", intervened={"place": "shuffled"}))
    with pytest.raises(ConfigError, match="unknown arm 'observe'; did you mean 'observed'"):
        Discovery(DiscoveryConfig(observed="observe", intervened={"position": "shuffled"})).measure(arms)
