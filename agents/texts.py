"""The sentences of people: a language model's where it can write true ones, else made from facts.

A model is tried first, on visits that are made up of the data's own people and items. If less than a stated share of its sentences
passes the checker (`agents.text_check`), it is not asked again. What it writes later is checked sentence by sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agents import text_facts
from agents.facts import Facts, of_visit
from agents.prompts import PromptBuilder
from agents.text import clean
from agents.text_check import UNFINISHED, check, sentences
from simulator.protocols import LanguageModel
from simulator.records import Action, Closing, Completion, GenerationRequest, Situation
from simulator.seeds import Stream

FROM_FACTS = "facts"
"""Status of a sentence for which no model was asked."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that is shown, how it came about (`Closing.reason_status`), and what the model wrote if that is not it."""

    text: str
    status: str
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """How a model did when it was tried: sentences asked for, and passed."""

    asked: int
    passed: int

    @property
    def share(self) -> float:
        """Of the sentences that passed, in [0, 1]; 1 where none was asked for."""
        return self.passed / self.asked if self.asked else 1.0


class TextWriter:
    """Writes reasons and insights of visits that are over.

    Args:
        model: the language model. prompts: of the people. actions: of the experiment. scale: of the ratings, or None.
        texts: whether the model may be asked and reasons are written. least: share of its sentences that must pass in the trial.

    Attributes:
        trial: how the model did, None before it was tried.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: PromptBuilder,
        actions: Sequence[Action],
        scale: tuple[float, float] | None,
        *,
        texts: bool,
        least: float,
    ) -> None:
        self._model, self._prompts, self._scale = model, prompts, scale
        self._actions = [action for action in actions if action.scope == "session"]
        self._texts, self._least = texts, least
        self.trial: Trial | None = None

    @property
    def asks(self) -> bool:
        """Whether the model is asked for texts."""
        return self._texts and (self.trial is None or self.trial.share >= self._least)

    @property
    def told(self) -> str:
        """What a run says of it, one sentence; empty where no text was to be written by a model."""
        if not self._texts or self.trial is None or not self.trial.asked:
            return ""
        passed = f"{self.trial.passed} of {self.trial.asked} sentences that the language model wrote for a trial were complete and true"
        if self.asks:
            return f"{passed}: it is asked for texts, and what is not true is replaced by a sentence made from facts."
        return f"{passed}, which is below {self._least:.0%}: all texts are made from facts, and the model is not asked for any."

    def test(self, situations: Sequence[Situation], closings: Sequence[Closing]) -> None:
        """Tries the model: a reason of each visit with an even number, an insight of the others."""
        if not self._texts or not self._least or not situations:
            return
        visits = list(zip(situations, closings, strict=True))
        requests = [self._insight(one) if number % 2 else self._reason(one, closing) for number, (one, closing) in enumerate(visits)]
        written = self._model.generate(requests)
        passed = sum(
            self._checked(completion, of_visit(self._prompts.catalog, self._scale, one, closing)).status == "ok"
            for completion, (one, closing) in zip(written, visits, strict=True)
        )
        self.trial = Trial(len(visits), passed)

    def write(self, situations: Sequence[Situation], closings: Sequence[Closing]) -> list[Closing]:
        """The closings with their texts; the model is asked for all of them together, since more texts at once cost less each."""
        reasons = list(range(len(situations))) if self._texts else []
        insights = [number for number, situation in enumerate(situations) if situation.reflects]
        wanted = [("reason", number) for number in reasons] + [("insight", number) for number in insights]
        written: list[Completion | None] = [None] * len(wanted)
        if self.asks and wanted:
            written = list(
                self._model.generate(
                    [
                        self._reason(situations[number], closings[number]) if kind == "reason" else self._insight(situations[number])
                        for kind, number in wanted
                    ]
                )
            )
        ended = list(closings)
        for (kind, number), completion in zip(wanted, written, strict=True):
            facts = of_visit(self._prompts.catalog, self._scale, situations[number], closings[number])
            made = self._sentence(kind, completion, facts, situations[number].stream.child(kind))
            parts: dict[str, Any] = {kind: made.text, f"{kind}_status": made.status, f"{kind}_rejected": made.rejected}
            parts |= {f"{kind}_items": check(made.text, facts).items if made.text else ()}
            ended[number] = replace(ended[number], **parts)
        return ended

    def _reason(self, situation: Situation, closing: Closing) -> GenerationRequest:
        answers = [action.labels[action.values.index(closing.outcomes[action.name].values[0])] for action in self._actions]
        return self._prompts.reason(situation, answers, situation.stream.child("reason"))

    def _insight(self, situation: Situation) -> GenerationRequest:
        return self._prompts.insight(situation, situation.stream.child("insight"))

    def _sentence(self, kind: str, completion: Completion | None, facts: Facts, stream: Stream) -> Sentence:
        checked = self._checked(completion, facts) if completion is not None else Sentence("", FROM_FACTS)
        if checked.status == "ok" or not facts.met:
            return checked
        make = text_facts.reason if kind == "reason" else text_facts.insight
        return replace(checked, text=make(facts, stream))

    @staticmethod
    def _checked(completion: Completion, facts: Facts) -> Sentence:
        """The sentence if it is whole and true; else none, with the status and what was written."""
        text = clean(completion.text, 160) if completion.status in ("ok", "length") else ""
        if completion.status != "ok" or not text:
            return Sentence("", "empty" if completion.status in ("ok", "length") and not text else completion.status, text and f"I {text}")
        verdict = check(f"I {text}.", facts)
        return Sentence(f"I {text}.", "ok") if verdict.passed else Sentence("", verdict.reason, f"I {text}.")


def checked_text(text: str, facts: Facts, *, cut: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """The sentences of a longer text that are true, and the others with what is against them.

    Args:
        text: of a language model, about a person in the first or the third one. facts: of that person. cut: whether its end is missing.
    """
    kept: list[str] = []
    refused: list[tuple[str, str]] = []
    parts = sentences(clean(text, 2_000), facts.catalog, facts.shown)
    for number, sentence in enumerate(parts):
        reason = UNFINISHED if cut and number == len(parts) - 1 else check(text_facts.in_first_person(sentence), facts).reason
        if reason:
            refused.append((sentence, reason))
        elif sentence not in kept:
            kept.append(sentence)
    return kept, refused
