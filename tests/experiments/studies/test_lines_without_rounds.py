"""A figure of lines needs something over rounds or pages."""

import pytest

from experiments.analysis.study_figures import _lines
from experiments.studies.findings import Findings
from experiments.studies.study_config import StudyConfig
from simulator.errors import ConfigError


def test_lines_of_a_study_that_found_nothing_over_rounds_are_refused_with_the_way_out(tmp_path):
    arms = {"a": {}}
    study = StudyConfig(
        name="x", question="What?", base="movielens", control="a", arms=arms, analysis={"use": "x:Y"}, figure={"form": "lines"}
    )
    with pytest.raises(ConfigError, match="use form = 'intervals'"):
        _lines(study, Findings((), (), {}), [], tmp_path / "x.png")
