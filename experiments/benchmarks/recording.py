"""A real small run whose situations, prompts and times are kept, so that benchmarks ask what people are really asked."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from agents.decisions import LanguageModelConfig, LanguageModelDecisions
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from experiments import build
from experiments import config as configuration
from experiments.config import ExperimentConfig
from experiments.run import start
from experiments.tuning.tune import prompt_config
from simulator.dataset import Dataset
from simulator.llm.timed import Timed
from simulator.protocols import DecisionContext, LanguageModel
from simulator.records import Closing, Completion, Decision, GenerationRequest, Prompt, Scores, Situation, UserProfile


class TimedModel(Timed):
    """A language model whose time is taken, and that keeps what it was asked.

    Attributes:
        scored, continued: the prompts of every call of `score` and `generate`.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        self.scored: list[list[Prompt]] = []
        self.continued: list[list[Prompt]] = []

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """Asks the model."""
        self.scored.append(list(prompts))
        return super().score(prompts)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Asks the model."""
        self.continued.append([request.prompt for request in requests if request.prompt is not None])
        return super().generate(requests)


class RecordedDecisions(LanguageModelDecisions):
    """`LanguageModelDecisions` that keep what they were asked; the newest is that of the people who browse."""

    Config = LanguageModelConfig
    made: ClassVar[list[RecordedDecisions]] = []

    def __init__(self, config: LanguageModelConfig, *, context: DecisionContext) -> None:
        self.timed = None if context.language_model is None else TimedModel(context.language_model)
        super().__init__(config, context=replace(context, language_model=self.timed))
        self.pages: list[list[Situation]] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.made.append(self)

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """Decides."""
        self.pages.append(list(situations))
        started = time.perf_counter()
        decisions = super().decide(situations)
        self.seconds["pages"] += time.perf_counter() - started
        return decisions

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """Looks back; of the time, what is not spent writing texts counts as closing."""
        assert self.timed is not None
        before, started = self.timed.seconds["generate"], time.perf_counter()
        closings = super().close_sessions(situations)
        texts = self.timed.seconds["generate"] - before
        self.seconds["texts"] += texts
        self.seconds["closings"] += time.perf_counter() - started - texts
        return closings


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished run of one process.

    Attributes:
        config: the experiment. train: its training data. profiles: of all real people there.
        pages: situations of every batch of pages, in order.
        prompts: all prompts scored or continued while people browsed, in order.
        seconds: part of the run -> seconds. summary: of the run.
    """

    config: ExperimentConfig
    train: Dataset
    profiles: list[UserProfile]
    pages: list[list[Situation]]
    prompts: list[Prompt]
    summary: dict[str, object]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def builder(self) -> PromptBuilder:
        """Writes the prompts that these people were asked."""
        return PromptBuilder(self.train.catalog, build.actions(self.train), prompt_config(self.config))


def experiment(people: int, *overrides: str) -> ExperimentConfig:
    """The benchmark's experiment: people of ML-100K, pages of 4 items, at most 5 of them, one round.

    Args:
        people: how many; where the data has fewer, the rest are synthetic.
        overrides: further settings.
    """
    settings = [f"population.users={people}", "rounds=1", "recommender.page_size=4", "recommender.max_pages=5"]
    return configuration.read(Path("movielens"), [*settings, *overrides])


def record(folder: Path, people: int, *overrides: str) -> Recorded:
    """Simulates some people in this process.

    Args:
        folder: new, for the run. people: how many. overrides: further settings.
    """
    use = f"{RecordedDecisions.__module__}:{RecordedDecisions.__name__}"
    config = experiment(people, f"decision.use={use}", "language_model.threads=1", *overrides)
    RecordedDecisions.made.clear()
    started = time.perf_counter()
    run = start(config, folder, 1, lambda what, done, total, result: None)
    whole = time.perf_counter() - started
    browsing = RecordedDecisions.made[-1]
    assert browsing.timed is not None
    prompts = [prompt for batch in (*browsing.timed.scored, *browsing.timed.continued) for prompt in batch]
    train = build.data(config).train
    seconds = dict(browsing.seconds)
    fitting = next(made.timed.seconds["score"] for made in RecordedDecisions.made if made.timed is not None and not made.pages)
    seconds["reference pages"] = fitting
    seconds["everything else"] = whole - sum(seconds.values())
    summary = run.read_json("summary")
    return Recorded(config, train, fit_profiles(train), browsing.pages, prompts, summary, seconds)
