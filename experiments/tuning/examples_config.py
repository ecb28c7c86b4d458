"""What the examples of a tuning are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from simulator.plugins import ComponentConfig

PageSize = Annotated[int, Field(ge=1, le=50)]


class ExamplesConfig(ComponentConfig):
    """How examples are made.

    Attributes:
        hidden_shares: share of each person's training interactions that is hidden; pack after pack takes the next, so that
            people are met with short and with long histories.
        positives: hidden items used per person at most.
        negatives: items without interaction per positive; matched: the share of them that is matched in popularity to positives, in
            [0, 1], the others being random ones. With 1 popularity says nothing, and all that can be learned is taste.
        teacher: what is taught about choosing. "choices": what the person did. "evidence": how probable that was by the evidence in
            behaviour, so that one choice is not taken for more than it says. "taste": the same without what popularity says
            (`experiments.tuning.teacher`).
        page_sizes: smallest and largest number of items on a page.
        memories: share of people who remember something (people do, from their second session on).
        row_tokens: a person's pages share one prefix in rows of at most this many tokens.
    """

    hidden_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.3, 0.5, 0.2, 0.4, 0.6), min_length=1)
    positives: int = Field(40, ge=1, le=1_000)
    negatives: float = Field(1.5, gt=0, le=20)
    matched: float = Field(0.5, ge=0, le=1)
    teacher: Literal["choices", "evidence", "taste"] = "choices"
    page_sizes: tuple[PageSize, PageSize] = (4, 6)
    memories: float = Field(0.4, ge=0, le=1)
    row_tokens: int = Field(1_024, ge=256, le=32_768)

    @field_validator("page_sizes")
    @classmethod
    def _smallest_first(cls, sizes: tuple[int, int]) -> tuple[int, int]:
        if sizes[0] > sizes[1]:
            raise ValueError(f"must be [smallest, largest], not {list(sizes)}")
        return sizes

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What was made before these options existed was made with their defaults, and is found again.
        fields = type(self).model_fields
        written: dict[str, Any] = handler(self)
        return {name: value for name, value in written.items() if name not in ADDED or value != fields[name].default}


ADDED = ("matched", "teacher")
"""Options that are not written down while they have their defaults."""
