"""Which estimates to believe: by the pages, by how far apart the policies are, and by the truth where it is known."""

from pathlib import Path

import pytest

from experiments.analysis.offline.estimates import Interval
from experiments.estimator_bench import Bench, Verdict
from experiments.offline_advice import advice, stands
from experiments.offline_evaluation import Answer, Evaluation

NAMES = ("IPS", "SNIPS", "DM", "DR", "page DM", "independent DR", "nRIPS", "cascade-DR")


def answer(value=0.3, size=400.0, half=0.02, note=None):
    interval = Interval(value - half, value + half, half / 2)
    return Answer(value, interval, interval, size, 3.0, 0.0, note)


def evaluation(*, places=5, share=0.4, reacts=False, r2=0.1, small=()):
    answers = {name: answer(size=1000 * share, note="small" if name in small else None) for name in NAMES}
    settings = {"reward_model_r2": r2}
    return Evaluation(
        Path("run"), "P", "L", "chosen", 1000, 200, 50, answer(), answers, {}, (), 0.02, 0.0, 0.0, settings, places=places, reacts=reacts
    )


def bench(found, coverage, truths=(0.3, 0.3)):
    verdicts = {name: Verdict(0, 0, 0, coverage.get(name, 1.0), 1.0, 0.04, 1.0, len(truths)) for name in NAMES}
    return Bench(tuple(range(len(truths))), truths, (found,) * len(truths), verdicts, (Path("r"),) * len(truths))


@pytest.mark.parametrize(
    ("case", "names", "because"),
    [
        ({"places": 1}, ("DR", "SNIPS"), "pages hold one item"),
        ({"places": 1, "r2": 0.0}, ("SNIPS", "DR"), "pages hold one item"),
        ({"share": 0.8}, ("DR", "SNIPS"), "near the logged one"),
        ({}, ("independent DR", "page DM"), "people judge each item by itself"),
        ({"reacts": True}, ("cascade-DR", "nRIPS"), "may react to what stands above"),
        ({"reacts": True, "small": ("nRIPS",)}, ("cascade-DR",), "may react"),
        ({"share": 0.01}, (), "far apart"),
        ({"reacts": True, "small": ("nRIPS", "cascade-DR")}, (), "may react"),
    ],
)
def test_what_to_believe_follows_from_pages_people_and_distance(case, names, because):
    found = advice(evaluation(**case))
    assert found.estimators == names
    assert because in found.sentences[0]
    assert f"worth {1000 * case.get('share', 0.4):,.0f} of 1,000 ({case.get('share', 0.4):.0%}) of P" in found.sentences[0]
    assert "2.0% of what it would show is never shown" in found.sentences[0]
    assert found.sentences[0].startswith("Believe none: " if not names else "Believe ")


def test_an_estimator_whose_intervals_miss_the_truth_is_named_whatever_its_effective_sample_size():
    found = evaluation()
    said = advice(found, bench(found, {"SNIPS": 0.0, "DR": 0.5})).sentences
    assert "held the truth in: independent DR 100%, page DM 100%." in said[1]
    assert "Not to be believed here" in said[2]
    assert "SNIPS 0%, DR 50%" in said[2]
    assert not stands(bench(found, {"SNIPS": 0.0}).verdicts["SNIPS"])
    assert stands(bench(found, {}).verdicts["SNIPS"])


def test_one_seed_says_only_which_intervals_hold_it():
    found = evaluation()
    (_, said) = advice(found, bench(found, {}, truths=(0.5,))).sentences
    assert "lies in the interval of none; of those to believe, in 0 of 2" in said
    assert "--seeds 5" in said
