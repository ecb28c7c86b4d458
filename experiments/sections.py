"""The sections of an experiment file; `experiments.config` reads the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agents.arrivals import History, Sessions
from agents.population import PopulationConfig
from environments.datasets.splits import Method, SplitConfig
from environments.feed import FeedConfig
from experiments.tuning.examples_config import ExamplesConfig
from experiments.tuning.settings import TrainingConfig
from simulator.errors import ConfigError
from simulator.plugins import distinct, explain

DEFAULT_DATASET = "environments.datasets.movielens:MovieLens100K"
DEFAULT_MEMORY = "agents.memory:RetrievalMemory"
DEFAULT_DECISION = "agents.decisions:LanguageModelDecisions"
DEFAULT_LANGUAGE_MODEL = "simulator.llm.llama_cpp:LlamaCpp"
DEFAULT_RECOMMENDER = "environments.recommenders.bpr:BPR"


class Section(BaseModel):
    """A section that names a component: its own keys are fields, the component's options are extra keys."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    use: str

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})

    @property
    def own_keys(self) -> frozenset[str]:
        """The keys of the section that are not its component's."""
        return frozenset(type(self).model_fields)


class DatasetSection(Section):
    """[dataset]: where the data comes from, and how it is split (`environments.datasets.splits.SplitConfig`).

    Attributes:
        use: import path or short name of the loader.
        split: which interactions are held out of each user: the latest ("temporal"), the last one ("leave-one-out"), "random" ones, or of
            all users what happened after one moment ("global_time").
        test_share: share of the interactions that is held out.
        k_core: users and items with fewer interactions are left out, again and again until none is left; 0 keeps all.
        min_rating: interactions with a lower rating are left out; None keeps all.
    """

    use: str = DEFAULT_DATASET
    split: Method = "temporal"
    test_share: float = Field(0.2, gt=0, lt=1)
    k_core: int = Field(0, ge=0, le=1_000_000)
    min_rating: float | None = Field(None, ge=-1e9, le=1e9)

    @model_validator(mode="after")
    def _own_split_is_used(self) -> DatasetSection:
        given = [key for key in ("fold", "held_out") if self.options.get(key) is not None]
        if given and self.split != "own":
            raise ValueError(f"{given[0]} says what is held out, and split = '{self.split}' would not use it; set split = 'own'")
        return self

    def split_config(self) -> SplitConfig:
        """The split's own configuration."""
        return SplitConfig(method=self.split, test_share=self.test_share, k_core=self.k_core, min_rating=self.min_rating)


class PopulationSection(PopulationConfig):
    """[population]: who takes part and how often they come.

    Attributes:
        sessions: "one" session per person and round; as many as the person's own "rhythm" gives; or "relived": everybody's first session is
            when their first one in the data was, and others follow as in the data (`agents.visits`), while the rounds last.
        history: "behind": what the training part has of somebody they have met, and it is not shown to them again. "ahead": they live
            that time again, so that all of it may be shown and chosen once more. What is known about them stays, but an item is judged
            by the rest of their history.
        taste: whether the language model writes a paragraph about each person's taste before the first round.
    """

    sessions: Sessions = "one"
    history: History = "behind"
    taste: bool = False


class MemorySection(Section):
    """[memory]: what users remember.

    Attributes:
        use: import path or short name of the memory.
        recall_at: whether they recall once per "session" or anew at each "page".
    """

    use: str = DEFAULT_MEMORY
    recall_at: Literal["session", "page"] = "session"


class DecisionSection(Section):
    """[decision]: how users decide.

    Attributes:
        use: import path or short name of the decision model.
        max_fallback_share: share of pages that may have an unusable reply of the language model before the run is refused.
    """

    use: str = DEFAULT_DECISION
    max_fallback_share: float = Field(0.02, ge=0, le=1)


class LanguageModelSection(Section):
    """[language_model]: the model behind the people; leave the section out for people without one.

    Attributes:
        use: import path or short name of the language model.
        cache: "read-write" keeps the model's answers and asks only for what is missing, "replay-only" never asks a model.
        cache_path: SQLite file of the answers; None is one in the cache folder, shared by all experiments.
    """

    use: str = DEFAULT_LANGUAGE_MODEL
    cache: Literal["off", "read-write", "replay-only"] = "off"
    cache_path: Path | None = None


class RecommenderSection(Section):
    """[recommender]: what fills the pages (`environments.feed.FeedConfig`), and how it learns from the rounds.

    Attributes:
        use: import path or short name of the recommender.
        refit: before every round from "scratch", or "warm" from what the round before learned; or "never" after the first.
    """

    use: str = DEFAULT_RECOMMENDER
    refit: Literal["scratch", "warm", "never"] = "scratch"

    def feed_config(self) -> FeedConfig:
        """The feed's own configuration, taken from this section."""
        given = {key: value for key, value in self.options.items() if key in FeedConfig.model_fields}
        try:
            return FeedConfig.model_validate(given)
        except ValidationError as error:
            raise ConfigError(explain(error, "recommender", FeedConfig)) from error

    @property
    def own_keys(self) -> frozenset[str]:
        """The keys of the section that are not the recommender's, those of the feed among them."""
        return super().own_keys | frozenset(FeedConfig.model_fields)

    @property
    def options_of_recommender(self) -> dict[str, Any]:
        """The recommender's own options: everything that is not the feed's."""
        return {key: value for key, value in self.options.items() if key not in FeedConfig.model_fields}


class TuningSection(BaseModel):
    """[tuning]: how `usersim tune` makes the language model a user model of this data.

    Attributes:
        packs: passes over the people, each with another part of their interactions hidden.
        validation_people: people on whom the tuning is measured while it goes on, at most.
        examples: what the pages are made of. training: how the weights are updated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    packs: int = Field(8, ge=1, le=1_000)
    validation_people: int = Field(250, ge=1, le=100_000)
    examples: ExamplesConfig = ExamplesConfig()
    training: TrainingConfig = TrainingConfig()


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""What can be the name of a folder and stand in a column of the log."""

Source = Literal["synthetic", "confidence", "fidelity", "exposure", "evidence"]


class AugmentationSection(BaseModel):
    """[augmentation]: what `usersim augment` trains, on what, and how it is tested (see `experiments.augmentation`).

    Attributes:
        seeds: the experiment's seed and the ones after it: of the split (if random), the simulation and the training.
        doses: added interactions as shares of the training interactions.
        sources: where they come from: what simulated people chose in "synthetic" order of chance, those of highest "confidence" first,
            or from people of enough "fidelity" only; and two controls without people's decisions: what the "exposure" recommender ranks
            first, and what the people's "evidence" ranks first in the whole catalog.
        alone_dose: share of synthetic interactions, highest confidence first, that a recommender is trained on alone.
        least_fidelity: area under the curve in [0, 1] at which a person's own hidden training interactions are told from others.
        k: places of the lists.
        cold_users: share of the people, those with the fewest training interactions, who count as cold.
        cold_items: items with at most so many training interactions are cold.
        head: the head of the items holds this share of the training interactions; the rest is the tail.
        recommenders: name -> what is trained; by default BPR, ItemKNN and EASE.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seeds: int = Field(5, ge=1, le=100)
    doses: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], AfterValidator(distinct)] = Field(
        (0.25, 0.5, 1.0, 2.0), min_length=1
    )
    sources: Annotated[tuple[Source, ...], AfterValidator(distinct)] = Field(
        ("synthetic", "confidence", "fidelity", "exposure", "evidence"), min_length=1
    )
    alone_dose: float = Field(1.0, gt=0, le=10)
    least_fidelity: float = Field(0.7, ge=0, le=1)
    k: int = Field(10, ge=1, le=1_000)
    cold_users: float = Field(0.25, gt=0, lt=1)
    cold_items: int = Field(5, ge=0, le=1_000_000)
    head: float = Field(0.8, gt=0, lt=1)
    recommenders: dict[Name, Section] = Field(
        default_factory=lambda: {
            "bpr": Section(use="environments.recommenders.bpr:BPR"),
            "item-knn": Section(use="environments.recommenders.item_knn:ItemKNN"),
            "ease": Section(use="environments.recommenders.ease:EASE"),
        },
        min_length=1,
    )
