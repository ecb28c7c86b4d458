from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.llm.llama_cpp import LlamaCpp, LlamaCppConfig
from simulator.llm.models import DEFAULT, is_present, resolve


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The default model's file; tests that need it skip where it was not fetched."""
    if not is_present(DEFAULT):
        pytest.skip(f"the weights of {DEFAULT} are not on this machine; fetch them with: usersim models get")
    return resolve()


@pytest.fixture(scope="module", params=["bf16", "int8"], ids=["llama.cpp", "torch"])
def load(model_file: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., LlamaCpp]]:
    """Makes models with given options, one of each, and closes them all in the end; once with either engine."""
    made: dict[str, LlamaCpp] = {}

    def make(**options: object) -> LlamaCpp:
        config = LlamaCppConfig.model_validate({"format": request.param, "threads": 1, **options})
        key = config.model_dump_json()
        if key not in made:
            made[key] = LlamaCpp(config)
        return made[key]

    yield make
    for model in made.values():
        model.close()
