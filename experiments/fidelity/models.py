"""The decision models that a fidelity report compares: the experiment's own and the controls, each fitted once.

=====================  ===============================================================================
``random``             people who follow their prior whatever is shown
``popularity``         the choice depends on the item's popularity alone
``evidence``           popularity, affinity and quality, no language model
``llm``                the language model alone
``calibrated_no_llm``  the calibrated choice model without the language model's terms
``calibrated``         the calibrated choice model with them
``experiment``         the experiment's own model, where it is none of these
=====================  ===============================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import build
from experiments.config import ExperimentConfig
from experiments.fidelity.pages import MOST_ASKED
from experiments.sections import DecisionSection, LanguageModelSection
from simulator.dataset import Catalog, Dataset
from simulator.errors import PluginError
from simulator.plugins import load
from simulator.protocols import DecisionModel, LanguageModel
from simulator.records import UserProfile
from simulator.seeds import Stream

CALIBRATED = "agents.calibrated:CalibratedDecisions"

COMPARED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random": ("agents.controls:RandomDecisions", {}),
    "popularity": ("agents.controls:PopularityDecisions", {}),
    "evidence": ("agents.controls:EvidenceDecisions", {}),
    "llm": ("agents.decisions:LanguageModelDecisions", {}),
    "calibrated_no_llm": (CALIBRATED, {"language_model": False}),
    "calibrated": (CALIBRATED, {"language_model": True}),
}
"""Name -> import path, and the options that make it this one."""

ASKS = ("llm", "calibrated")
"""Those that ask the language model."""

OF_PRIORS = ("choose_rate", "typical_pages")
"""Options that all compared models have: what the data cannot tell is the same for all."""

OF_PROMPTS = ("prompt", "recentre", "reference_pages")
"""Options of those that ask the language model: all are asked with the experiment's own prompts."""

WITHOUT = "the experiment has no language model"
"""The one reason for a missing model that trying again will not change."""

CACHE = "language_model.sqlite"
"""The answers of the language model, beside the report: what was asked once is not asked again."""


class DecisionModels(Mapping[str, DecisionModel]):
    """Fitted decision models by name, made when first asked for.

    Iterating goes over the available names. If the run has stored what the experiment's own model learned, that one is loaded.

    Args:
        config: the experiment; its [decision] options are used for the model of the same class.
        train: the training part. profiles: of everybody, in order of user code.
        folder: the language model's answers are kept here, unless the experiment names a cache of its own.
        run: folder of a run, or None.
    """

    def __init__(
        self, config: ExperimentConfig, train: Dataset, profiles: Sequence[UserProfile], folder: Path, run: Path | None = None
    ) -> None:
        self.config = config
        self._train = train
        self._profiles = profiles
        self._folder = folder
        self._run = run
        self._made: dict[str, DecisionModel] = {}
        self._language_model: LanguageModel | None = None
        self.main = self._own()

    def __getitem__(self, name: str) -> DecisionModel:
        """The fitted model.

        Raises:
            KeyError: there is no model of this name.
            UsersimError: it cannot be made or fitted.
        """
        if name not in self._made:
            if name not in self.names:
                raise KeyError(name)
            model = self.unfitted(name)
            stored = None if self._run is None or name != self.main else self._run / "decisions"
            if stored is not None and stored.is_dir():
                build.restore(model, stored)
            else:
                model.fit(self._train, self._profiles, Stream(self.config.seed).child("decisions"))
            self._made[name] = model
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.available)

    def __len__(self) -> int:
        return len(self.available)

    def __contains__(self, name: object) -> bool:
        return name in self.available

    @property
    def names(self) -> tuple[str, ...]:
        """All names, available or not."""
        return (*COMPARED, *(["experiment"] if self.main == "experiment" else []))

    @property
    def available(self) -> tuple[str, ...]:
        """The names of the models that this experiment can have."""
        return tuple(name for name in self.names if self.why_not(name) is None)

    def why_not(self, name: str) -> str | None:
        """Why a model is not available, or None if it is."""
        if name in ASKS and self.config.language_model is None:
            return WITHOUT
        try:
            load(self.section(name).use, methods=build.METHODS["decision"])
        except PluginError as error:
            return str(error)
        return None

    def asks(self, name: str) -> bool:
        """Whether a model asks the language model."""
        if name in COMPARED:
            return name in ASKS
        return build.uses_language_model(self.config)

    @property
    def language_model(self) -> LanguageModel | None:
        """The one shared language model behind its cache, or None if the experiment has none."""
        if self._language_model is None and self.config.language_model is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._language_model = build.language_model(self._cached(), always=True)
        return self._language_model

    def unfitted(self, name: str, *, catalog: Catalog | None = None, **options: Any) -> DecisionModel:
        """A new model of this name.

        Args:
            name: one of `names`.
            catalog: the items as this model is told of them, or None for those of the data.
            options: of the decision model, instead of the experiment's.

        Raises:
            UsersimError: the class or an option is not usable.
        """
        section = self.section(name)
        section = DecisionSection.model_validate({**section.model_dump(), **options})
        config = self.config.model_copy(update={"decision": section})
        blueprint = build.Blueprint(
            config, catalog or self._train.catalog, build.actions(self._train), self._train.rating_scale, self._run or self._folder
        )
        if not self.asks(name):
            return build.decisions(config, blueprint.context(None))
        context = blueprint.context(self.language_model)
        return build.decisions(config, replace(context, page_size=min(context.page_size, MOST_ASKED)))

    def refitted(self, name: str, train: Dataset, profiles: Sequence[UserProfile]) -> DecisionModel:
        """The model for another training part, in which something was hidden; for setting thresholds.

        The language model alone reads nothing of the data but its reference pages, so it stays as it is.

        Args:
            name: one of `names`. train: with the codes of the training part. profiles: fitted on it.
        """
        if name == "llm":
            return self[name]
        options: dict[str, Any] = {}
        if self.section(name).use == CALIBRATED:
            # The weights stay; what is hidden now must only be out of the evidence.
            weights = self._folder / "parts" / f"weights-{name}"
            weights.mkdir(parents=True, exist_ok=True)
            self[name].save(weights)
            options["weights"] = str(weights)
        model = self.unfitted(name, **options)
        model.fit(train, profiles, Stream(self.config.seed).child("decisions"))
        return model

    def close(self) -> None:
        """Frees the language model."""
        if self._language_model is not None:
            self._language_model.close()
            self._language_model = None

    def _own(self) -> str:
        own = self.config.decision
        for name, (use, options) in COMPARED.items():
            given = {key: own.options.get(key, True) for key in options}
            if own.use == use and given == dict(options):
                return name
        return "experiment"

    def section(self, name: str) -> DecisionSection:
        """The section [decision] of a model: the experiment's own, or one that agrees with it in all but the kind of model."""
        own = self.config.decision
        if name == self.main:
            return own
        use, options = COMPARED[name]
        shared = (*OF_PRIORS, *(OF_PROMPTS if name in ASKS else ())) if self.main != "experiment" else ()
        inherited = {key: value for key, value in own.options.items() if key in shared}
        if use == CALIBRATED:
            # Weights are fitted on hidden interactions that are chosen as the held-out ones were.
            inherited["hide"] = "random" if self.config.dataset.split == "random" else own.options.get("hide", "auto")
        return DecisionSection.model_validate({"use": use, **inherited, **options})

    def _cached(self) -> ExperimentConfig:
        section = self.config.language_model
        assert section is not None
        if section.cache != "off":
            return self.config
        changed = {**section.model_dump(), "cache": "read-write", "cache_path": self._folder / CACHE}
        return self.config.model_copy(update={"language_model": LanguageModelSection.model_validate(changed)})
