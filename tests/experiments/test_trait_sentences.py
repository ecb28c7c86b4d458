"""Sentences about traits say what the rows show."""

import polars as pl
import pytest

from experiments.trait_sentences import of_report, of_run, orders


def levels(low, medium, high, half=0.1):
    rows = [(level, mean, mean - half, mean + half) for level, mean in zip(("low", "medium", "high"), (low, medium, high), strict=True)]
    return pl.DataFrame(rows, schema=["level", "mean", "low", "high"], orient="row")


@pytest.mark.parametrize(
    ("means", "rises", "half", "ordered"),
    [
        ((1.0, 2.0, 3.0), True, 0.1, True),
        ((3.0, 2.0, 1.0), False, 0.1, True),
        ((3.0, 2.0, 1.0), True, 0.1, False),
        ((4.24, 4.19, 4.22), True, 0.3, False),
        ((4.24, 4.25, 4.26), True, 0.3, False),  # in order, by less than the intervals tell
        ((1.0, 3.0, 2.0), True, 0.1, False),
    ],
)
def test_levels_order_what_people_did_only_if_means_are_in_order_and_intervals_apart(means, rises, half, ordered):
    assert orders(levels(*means, half=half), rises=rises) is ordered


def test_a_level_without_people_leaves_it_open():
    assert orders(levels(1, 2, 3).filter(pl.col("level") != "medium"), rises=True) is None


def test_the_sentence_of_a_run_names_what_is_flat():
    flat = {"low": 4.24, "medium": 4.19, "high": 4.22}
    falls = {"low": 3.9, "medium": 3.6, "high": 3.1}
    said = of_run(
        {"activity": False, "pickiness": True, "diversity": None}, {"activity": flat, "pickiness": falls, "diversity": {"low": 2.0}}
    )
    assert said == (
        "Levels order what people did for pickiness (3.9, 3.6, 3.1); they do not for activity (4.24, 4.19, 4.22); nothing can be told of "
        "diversity (2, –, –), since a level has nobody (means of low, medium, high)."
    )
    assert of_run({"activity": False}, {"activity": flat}).startswith("Levels do not order what people did for activity (4.24")


def test_the_sentences_of_a_report_are_its_rows():
    def side(*means):
        return {"levels": {level: {"value": mean} for level, mean in zip(("low", "medium", "high"), means, strict=True)}}

    entry = {"unit": "interactions per session", "real": side(26, 50, 98), "models": {}}
    share = {"value": 0.33, "low": 0.2, "high": 0.5}
    entry["models"]["calibrated"] = {**side(47, 54, 71), "acts": True, "reproduced": share}
    entry["models"]["random"] = {**side(9, 9, None), "acts": False, "reproduced": {"value": None, "low": None, "high": None}}
    part = {"traits": {"activity": entry}}
    assert of_report(part, "calibrated") == [
        "activity orders interactions per session: low, medium, high 47, 54, 71, really 26, 50, 98; "
        "0.33 of the real difference [0.20, 0.50]."
    ]
    assert of_report(part, "random") == ["activity does not order interactions per session: low, medium, high 9, 9, –, really 26, 50, 98."]
    assert of_report(part, "nobody") == of_report({}, "calibrated") == []
