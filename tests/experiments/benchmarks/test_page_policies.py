"""`usersim benchmark pages` on a made-up world; whether it judges rightly is tested in fidelity/test_given.py."""

import json

from experiments.benchmarks.page_policies import agreement
from experiments.cli import call


def test_every_population_is_judged_on_the_pages_of_every_recommender_and_other_data_stays(film_experiment, tmp_path):
    output = tmp_path / "pages.json"
    output.write_text(json.dumps({"data": {"other": {"users": 1}}}))
    arguments = [
        "benchmark",
        "pages",
        str(film_experiment),
        "--output",
        str(output),
        "--population",
        "traits",
        "--population",
        "calibrated",
    ]
    assert call([*arguments, "--recommender", "ease", "--recommender", "random"]) == 0
    found = json.loads(output.read_text())["data"]
    assert found.pop("other") == {"users": 1}
    own = next(iter(found.values()))
    assert list(own["populations"]) == ["traits", "calibrated"]
    for population in own["populations"].values():
        assert list(population["pages"]) == ["ease", "random"]
        for page in population["pages"].values():
            assert page["exposures"] > 0
            assert page["verdict"]["good"] is None  # seven held-out users are too few
        assert population["same_verdict"] is False


def test_an_unknown_population_is_one_sentence(film_experiment, capsys):
    assert call(["benchmark", "pages", str(film_experiment), "--population", "trait"]) == 2
    assert "unknown population 'trait'; did you mean 'traits'?" in capsys.readouterr().err


def test_the_verdict_is_the_same_if_all_are_and_intervals_agree_if_they_have_a_point_in_common():
    def page(good, low, high):
        return {"verdict": {"good": good}, "figures": {"taste": {"low": low, "high": high}}}

    assert agreement({"a": page(True, 1, 2), "b": page(True, 1.5, 3)}) == {"same_verdict": True, "overlap": {"taste": True}}
    assert agreement({"a": page(False, 1, 2), "b": page(True, 2.5, 3)}) == {"same_verdict": False, "overlap": {"taste": False}}
    assert agreement({"a": page(None, None, None), "b": page(None, 1, 2)}) == {"same_verdict": False, "overlap": {"taste": False}}
