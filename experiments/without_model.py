"""What to set where people are to do without a language model."""

from __future__ import annotations

from experiments.config import ExperimentConfig
from experiments.sections import DecisionSection
from simulator.errors import ConfigError
from simulator.plugins import load

_CALIBRATED = "decision.use = 'agents.calibrated:CalibratedDecisions' with decision.language_model = false"


def refuse_switch(section: DecisionSection, *, asks: bool) -> None:
    """People of a class that always asks a language model, or never does, have no switch for it.

    Args:
        section: [decision]. asks: whether its people ask one.

    Raises:
        ConfigError: ``decision.language_model`` is set for such people; names the class that has it.
    """
    if "language_model" in section.options and not _has_switch(section):
        raise ConfigError(
            f"[decision] {section.use} {'always' if asks else 'never'} asks a language model and has no option language_model; for people "
            f"without one set {_CALIBRATED}, beside language_model = false."
        )


def other_switches(config: ExperimentConfig, *, decides: bool) -> str:
    """The sentence about an experiment with ``language_model = false`` in which something asks a language model.

    Args:
        config: the experiment. decides: whether one has a part in what people decide.
    """
    asking, ways = [], []
    if decides:
        asking.append(config.decision.use)
        ways.append("decision.language_model = false" if _has_switch(config.decision) else _CALIBRATED)
    if config.population.taste:
        asking.append("population.taste = true")
        ways.append("population.taste = false")
    return (
        f"{' and '.join(asking)} needs a section [language_model], but language_model = false; for people without a language model "
        f"also set {' and '.join(ways)}."
    )


def _has_switch(section: DecisionSection) -> bool:
    return "language_model" in getattr(getattr(load(section.use), "Config", None), "model_fields", {})
