"""Headline figures where everything after one moment is held out, for everybody: nobody's future is in the training part.

Other cuts let the training part know what other people did later (`environments.datasets.splits.future_known`), so these figures stand
beside those of the report's own split. They are measured as those of the shelf are, without a language model.
"""

from __future__ import annotations

from typing import Any

from agents.calibrated import CalibratedDecisions
from experiments.fidelity import shelf
from experiments.fidelity.context import FidelityContext
from simulator.dataset import require
from simulator.errors import ConfigError
from simulator.plugins import load


def measure(context: FidelityContext) -> dict[str, Any]:
    """The flat figures of `experiments.fidelity.shelf.measure` under ``split = "global_time"``, with a fifth held out.

    Raises:
        DataError: the data has no times, or nobody who came before the moment and after it.
        ConfigError: the report's own split is that one, or its people are none that evidence decides for.
    """
    config = context.config
    require(context.train, times="a cut at one moment")
    if config.dataset.split == "global_time":
        raise ConfigError("the report's own split is at one moment for everybody: its figures are these.")
    if load(config.decision.use, methods=("fit", "decide")) is not CalibratedDecisions:
        raise ConfigError(f"people of {config.decision.use} are not fitted to a log, so that no cut of it matters to them.")
    found = shelf.at_one_moment(config)
    assert found is not None, "times are required above"
    return found
