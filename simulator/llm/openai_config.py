"""Options of a language model behind the HTTP interface that OpenAI began."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from simulator.credentials import Address, Variable
from simulator.plugins import ComponentConfig


class OpenAIConfig(ComponentConfig):
    """Options of `OpenAIServer`.

    Attributes:
        base_url: where the interface begins, usually ending in /v1; without a name and password.
        model: its name on the server; None takes the only one the server lists.
        api_key_env: name of the environment variable that holds the key; None sends no key.
        mode: how pages are scored (see the module); "auto" takes the first way that works, "logprobs" tries echo first too.
        top_logprobs: likeliest tokens asked for at a probe; a server that allows fewer is asked for 20 or 5.
        smoothing: probability shared by the labels that a form does not name. temperature: of forms.
        concurrency: requests under way at once, per worker process.
        timeout_s: for one attempt. retries: further attempts. first_wait_s: before the first, doubled before each further one.
        longest_wait_s: most seconds between two attempts, also where the server asks for more.
        requests_per_minute: of all worker processes together; None sets no pace.
        price_per_million_prompt_tokens, price_per_million_completion_tokens: in any currency. budget: in the same; None sets none.
        ledger: SQLite file that counts requests, tokens and money; a run keeps its own by default.
        extra_body: further keys of every request's body. leave_out: keys that this server does not accept, such as "seed".
    """

    base_url: Address
    model: str | None = None
    api_key_env: Variable | None = None
    mode: Literal["auto", "logprobs", "schema"] = "auto"
    top_logprobs: int = Field(1_000, ge=2, le=100_000)
    smoothing: float = Field(0.02, gt=0, lt=0.5)
    temperature: float = Field(0.0, ge=0, le=2)
    concurrency: int = Field(8, ge=1, le=1_024)
    timeout_s: float = Field(60.0, gt=0, le=1e6)
    retries: int = Field(6, ge=0, le=100)
    first_wait_s: float = Field(0.5, ge=0, le=86_400)
    longest_wait_s: float = Field(120.0, gt=0, le=86_400)
    requests_per_minute: float | None = Field(None, gt=0, le=1e6)
    price_per_million_prompt_tokens: float = Field(0.0, ge=0, le=1e6)
    price_per_million_completion_tokens: float = Field(0.0, ge=0, le=1e6)
    budget: float | None = Field(None, gt=0, le=1e9)
    ledger: Path | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)
    leave_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.budget is not None and not (self.price_per_million_prompt_tokens or self.price_per_million_completion_tokens):
            raise ValueError("a budget needs price_per_million_prompt_tokens or price_per_million_completion_tokens")
        return self


def address(base_url: str) -> str:
    """What an identity says of a server's address: without a name and password before ``@``."""
    return base_url.rstrip("/").rpartition("@")[2]
