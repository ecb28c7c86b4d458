"""What to set where people are to do without a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import component_names
from experiments.sections import DEFAULT_DECISION, DecisionSection
from simulator.errors import ConfigError, UsersimError
from simulator.plugins import load

if TYPE_CHECKING:
    from experiments.config import ExperimentConfig

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


ALONE = {"agents.decisions:LanguageModelDecisions": "agents.calibrated:CalibratedDecisions"}
"""People that only a language model can play -> who decides in their place."""


def spread(document: Mapping[str, Any]) -> dict[str, Any]:
    """An unchecked experiment with ``language_model = false``, which turns off everything that asks one, wherever that stands.

    People with a switch do without the model; people of the language model alone are replaced by calibrated ones (their options are kept
    as far as those have them); no tastes are written. What other classes do is theirs: `other_switches` says what is left to set.
    """
    changed = dict(document)
    population, decision = changed.get("population", {}), changed.get("decision", {})
    if isinstance(population, dict) and population.get("taste"):
        changed["population"] = {**population, "taste": False}
    if isinstance(decision, dict):
        use = decision.get("use", DEFAULT_DECISION)
        instead = ALONE.get(str(use))
        if instead is not None:
            lost = set(load(str(use)).Config.model_fields) - set(load(instead).Config.model_fields)
            options = {key: value for key, value in decision.items() if key not in lost}
            changed["decision"] = {**options, "use": instead, "language_model": False}
        elif isinstance(use, str) and _switched(use):
            changed["decision"] = {**decision, "language_model": False}
    return changed


def without_options_of_others(section: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """[decision] where another decision model was set than the file has: what the file wrote for its own is left out.

    Args:
        section: with what was set. written: as the file has it.
    """
    kept = dict(section)
    try:
        own, other = (load(_path(str(one.get("use", DEFAULT_DECISION)))).Config.model_fields for one in (written, section))
    except (UsersimError, AttributeError):  # said where the section is checked
        return kept
    for key in set(own) - set(other):
        if key in written and kept.get(key) == written[key]:
            del kept[key]
    return kept


def _path(use: str) -> str:
    return use if ":" in use else component_names.import_path(use, "decision")


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


def _switched(use: str) -> bool:
    """As `_has_switch`, of what may not be there at all, which is said later."""
    try:
        return "language_model" in getattr(getattr(load(use), "Config", None), "model_fields", {})
    except UsersimError:
        return False
