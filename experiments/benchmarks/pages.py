"""Page scoring against the plain prompt speed of the same model, side by side in one run.

    python -m experiments.benchmarks.pages [--people 16] [--pages 4] [--output results/benchmarks/pages.json]

The ceiling is one long text computed at once, through the same seam. Both are measured in turns, so that whatever else the machine does
hits both alike; the figure to read is the share, not the speeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

from agents.decisions import reference_situations
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder
from experiments import build, config
from simulator.execution import cores
from simulator.protocols import LanguageModel
from simulator.records import Probe, Prompt, Segment
from simulator.run_directory import write_atomically
from simulator.seeds import Stream

WORDS = "The person looks at a page of films, remembers what was good, and picks one of them to watch tonight. "


def long_prompt(model: LanguageModel, tokens: int, number: int) -> Prompt:
    """A text of about `tokens` tokens with one probe at its end; `number` makes it new to any cache."""
    text = f"{number}. "
    while model.count_tokens(text + WORDS) < tokens - 8:
        text += WORDS
    return Prompt((Segment((f"{text} Watch:", Probe("watch", ("yes", "no")))),))


def timed(model: LanguageModel, prompts: list[Prompt]) -> tuple[float, int]:
    """Seconds, and tokens computed."""
    before, started = model.usage, time.perf_counter()
    model.score(prompts)
    return time.perf_counter() - started, (model.usage - before).computed_tokens


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/pages.json"))
    arguments = parser.parse_args()
    experiment = config.read(Path("movielens"))
    train = build.data(experiment).train
    people = fit_profiles(train)
    prompts = PromptBuilder(train.catalog, build.actions(train))
    model = build.language_model(experiment)
    assert model is not None
    situations = reference_situations(train, people, 5, arguments.people * arguments.pages, Stream(1).child("benchmark"))
    seconds = {"pages": 0.0, "ceiling": 0.0}
    tokens = {"pages": 0, "ceiling": 0}
    timed(model, [long_prompt(model, 480, 0)])
    for turn in range(arguments.pages):
        # Everybody turns one page, with the person's own prefix kept from page to page.
        batch = [
            replace(situations[turn * arguments.people + person], profile=situations[person].profile) for person in range(arguments.people)
        ]
        for name, wanted in (
            ("pages", [prompts.page(situation) for situation in batch]),
            ("ceiling", [long_prompt(model, 480, 10 * turn + k + 1) for k in range(3)]),
        ):
            took, computed = timed(model, wanted)
            seconds[name] += took
            tokens[name] += computed
    pages = arguments.people * arguments.pages
    speed = {name: tokens[name] / seconds[name] for name in seconds}
    result = {
        "share_of_ceiling": round(speed["pages"] / speed["ceiling"], 3),
        "pages_per_second": round(pages / seconds["pages"], 2),
        "tokens_per_second": round(speed["pages"], 1),
        "ceiling_tokens_per_second": round(speed["ceiling"], 1),
        "tokens_per_page": round(tokens["pages"] / pages, 1),
        "pages": pages,
        "model": {"name": model.identity.name, **model.identity.settings},
        "machine": {"system": platform.platform(), "cores": cores()},
    }
    model.close()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.output, (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
