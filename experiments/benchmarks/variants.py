"""What each way of asking and of tuning that the literature names buys on one model, all judged on the same pages.

Whatever is tuned has the same examples, loss and minutes; whatever is asked is asked by the same backend. People who are learned from,
who decide when a tuning stops and who are judged are different ones (`agents.exposures.people_split`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.affinity import Factors
from agents.decisions import LanguageModelConfig, LanguageModelDecisions
from agents.exposures import people_split
from agents.profiles import fit_profiles
from agents.prompts import PromptConfig
from experiments import build
from experiments import config as configuration
from experiments.benchmarks.variant_pages import MATCHED, OF_EACH, RANDOM, Judged, against, figures, judged, summed_up
from experiments.config import ExperimentConfig
from experiments.tuning.item_factors import who_has_what
from experiments.tuning.settings import Method
from experiments.tuning.tune import base_model, tune
from simulator.dataset import Dataset
from simulator.errors import ConfigError, with_suggestion
from simulator.execution import cores
from simulator.llm import adapters, formats, vectors
from simulator.llm.models import is_present, resolve
from simulator.llm.transformers_model import TransformersConfig, TransformersModel
from simulator.protocols import DecisionContext
from simulator.run_directory import write_atomically
from simulator.seeds import Stream

OUTPUT: Final[Path] = Path("results/benchmarks/variants.json")
BASELINE: Final[str] = "zero-shot"
TOGETHER: Final[int] = 24
"""People asked in one call, as in a cohort."""


@dataclass(frozen=True)
class Variant:
    """A way of asking, or of tuning.

    Attributes:
        name: in the table. prompt: changes of `PromptConfig`. method: what is tuned before, or None. adapter: one that is there already.
        model: another language model than the experiment's, by name.
    """

    name: str
    prompt: Mapping[str, Any] = field(default_factory=dict)
    method: Method | None = None
    adapter: str | None = None
    model: str | None = None


LARGER: Final = "gemma-3-270m"

VECTORS: Final = {"item_vectors": True, "history_vectors": 16}

VARIANTS: Final[tuple[Variant, ...]] = (
    Variant(BASELINE),
    Variant("few-shot", {"examples": 8}),
    Variant("chain-of-thought", {"thought_tokens": 24}),
    Variant("soft-prompt", method="soft-prompt"),
    Variant("lora", method="lora"),
    Variant("collaborative", VECTORS, "collaborative"),
    Variant("collaborative-lora", VECTORS, "collaborative-lora"),
    Variant(f"{LARGER} zero-shot", model=LARGER),
    Variant(f"{LARGER} lora", method="lora", model=LARGER),
)
"""What is compared: asked cold, with examples in context (Brown et al. 2020), after a thought (Wei et al. 2022); a soft prompt (Lester et
al. 2021); low-rank updates (TALLRec, Bao et al. 2023); vectors of items from a recommender, without and with updates (LLaRA, Liao et al.
2024). The last two are a model of twice the size, where it is on this machine."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        people: judged. pages: of each. minutes: of each tuning, examples, loading and measurements on validation people included.
    """

    people: int
    pages: int
    minutes: float


FULL: Final[Size] = Size(people=100, pages=2, minutes=3.0)
QUICK: Final[Size] = Size(people=4, pages=1, minutes=0.05)

SETTINGS: Final = (
    'decision.prompt.unasked=["rate", "leave"]',
    "tuning.packs=1",
    "tuning.validation_people=6",
    "tuning.examples.positives=8",
    "tuning.training.batch_tokens=1024",
    "tuning.training.micro_tokens=1024",
    "tuning.training.passes=8",
    "tuning.training.evaluations=32",
    "tuning.training.patience=100",
)
"""Small tunings on few cores: many small steps over many people, only the question that is judged."""


def run(
    file: Path, overrides: Sequence[str], size: Size, wanted: Sequence[str], output: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measures variants and writes the result after each of them.

    Args:
        file: the experiment, whose data, split and model are used. overrides: further settings, ``section.key=value``.
        size: how much. wanted: names of variants, all if empty; others keep what was measured of them for the same people.
        output: JSON file. say: told what is going on.

    Raises:
        UsersimError: there is no such variant, or the data, the model or the options are wrong.
    """
    config = configuration.read(file, [*SETTINGS, *overrides])
    base, split = base_model(config), build.data(config)
    train, people = split.train, people_split(split.train)
    here = [variant for variant in VARIANTS if variant.model is None or variant.name in wanted or is_present(variant.model)]
    variants = [*here, *_own(config, train.fingerprint())]
    for name in wanted:
        if name not in [variant.name for variant in variants]:
            raise ConfigError(with_suggestion("variant", name, [variant.name for variant in variants]))
    for variant in variants:
        if variant.model is not None and (not wanted or variant.name in wanted):
            resolve(variant.model)  # says how to fetch it, before anything is measured
    profiles = {profile.user: profile for profile in fit_profiles(train)}
    stream = Stream(config.seed).child("variants")
    pages = judged(train, split.test, profiles, people.held_out, size.pages, size.people, stream)
    if not len(pages.kinds):
        raise ConfigError(
            f"nobody of the judged people has {OF_EACH * size.pages} held-out interactions; use fewer pages or another split."
        )
    told = {
        "data": {"name": train.name, "fingerprint": train.fingerprint(), "split": config.dataset.split_config().model_dump(mode="json")},
        "model": {"name": base.name, "sha256": formats.fingerprint(base)},
        "judged": {"people": len(pages.kinds), "pages": size.pages, "items_of_each_kind_per_page": OF_EACH},
        "learning_people": len(people.fit),
        "minutes_per_tuning": size.minutes,
        "seed": config.seed,
        "settings": [*SETTINGS, *overrides],
    }
    rows, own = _earlier(output, told)
    controls = _controls(train, people.fit, pages, config)
    for variant in variants:
        if wanted and variant.name not in wanted:
            continue
        row, found = _measured(variant, file, overrides, config, train, pages, base, size, say)
        rows[variant.name], own[variant.name] = row, found
        result = _result(told, variants, rows, own, controls, stream.child("intervals"))
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, _document(result).encode())
    return result


def _document(result: Mapping[str, Any]) -> str:
    """The result as JSON to read, but for the numbers of single people, which are a line per variant."""
    told = json.dumps({name: value for name, value in result.items() if name != "people"}, indent=1).removesuffix("\n}")
    people = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in result["people"].items())
    return f'{told},\n "people": {{\n{people}\n }}\n}}\n'


def _own(config: ExperimentConfig, data: str) -> list[Variant]:
    """The adapter that the experiment names, if it was tuned on the same training part."""
    name = (config.language_model.options if config.language_model else {}).get("adapter")
    if name is None or adapters.card(adapters.find(str(name))).get("data", {}).get("fingerprint") != data:
        return []
    return [Variant(f"adapter {name}", adapter=str(name))]


def _earlier(output: Path, told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """What was measured before of the same people with the same settings."""
    try:
        stored = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}, {}
    if {name: stored.get(name) for name in told} != json.loads(json.dumps(told)):
        return {}, {}
    own = {name: {key: np.array(values) for key, values in found.items()} for name, found in stored["people"].items()}
    kept = ("asked", "tuned")
    return {row["variant"]: {name: row[name] for name in kept if name in row} for row in stored["variants"]}, own


def _measured(
    variant: Variant,
    file: Path,
    overrides: Sequence[str],
    config: ExperimentConfig,
    train: Dataset,
    pages: Judged,
    base: Path,
    size: Size,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    changes = [f"decision.prompt.{name}={str(value).lower()}" for name, value in variant.prompt.items()]
    if variant.model is not None:
        changes += [f"language_model.path={variant.model}"]
        base = resolve(variant.model)
    adapter, row = None, {}
    if variant.method is not None:
        changes += [f"tuning.training.method={variant.method}"]
        own = configuration.read(file, [*SETTINGS, *overrides, *changes])
        training = replace(own.tuning.training, minutes=size.minutes)
        # A finished tuning is found again, but not one with other settings.
        digest = hashlib.blake2b(json.dumps(asdict(training)).encode(), digest_size=4).hexdigest()
        adapter = adapters.tuned_folder() / f"variants-{own.name}-{variant.name}-{digest}"
        adapter.mkdir(parents=True, exist_ok=True)
        said: list[str] = []

        def tell(what: str, done: int, total: int) -> None:
            if what.partition(":")[0] not in said or (total and done % 20 == 0):
                say(f"{variant.name}: {what}" + (f" ({done} of {total})" if total else ""))
            said.append(what.partition(":")[0])

        row["tuned"] = _tuning(tune(own, adapter, training, tell), adapter)
    elif variant.adapter is not None:
        adapter = adapters.find(variant.adapter)
        row["tuned"] = _tuning(adapters.card(adapter), adapter)
    say(f"{variant.name}: asking {len(pages.kinds)} people about {size.pages} pages each")
    prompt = PromptConfig.model_validate({**config.decision.options.get("prompt", {}), **variant.prompt})
    chances, row["asked"] = _asked(prompt, adapter, base, train, pages, config)
    return row, {name: np.round(values, 4) for name, values in figures(chances, pages.kinds).items()}


def _tuning(card: Mapping[str, Any], adapter: Path) -> dict[str, Any]:
    tuning = card.get("tuning", {})
    files = [adapter / name for name in (adapters.WEIGHTS, vectors.FILE) if (adapter / name).is_file()]
    return {
        **{name: tuning.get(name) for name in ("steps", "best_step", "tokens", "seconds", "device", "stopped", "before", "after")},
        "bytes": sum(file.stat().st_size for file in files),
    }


def _asked(
    prompt: PromptConfig, adapter: Path | None, base: Path, train: Dataset, pages: Judged, config: ExperimentConfig
) -> tuple[np.ndarray, dict[str, Any]]:
    """Log-probabilities of choosing and not, shape (people, items, 2), through the seam of the simulation; and what that cost."""
    model = TransformersModel(TransformersConfig(path=str(base), adapter=adapter, threads=cores(), context=2_048))
    context = DecisionContext(train.catalog, build.actions(train), model, train.rating_scale, 3 * OF_EACH, 1, config.seed)
    decisions = LanguageModelDecisions(LanguageModelConfig(recentre=False, texts=False, prompt=prompt), context=context)
    started, said, thoughts = time.process_time(), [], []
    try:
        together = TOGETHER * pages.kinds.shape[1] // (3 * OF_EACH)
        for first in range(0, len(pages.situations), together):
            for reading in decisions.read(pages.situations[first : first + together]):
                said.append(reading.logprobs["choose"])
                thoughts += [reading.thought] if reading.thought_status else []
        seconds, usage = time.process_time() - started, model.usage
    finally:
        model.close()
    n = len(pages.situations)
    cost = {
        "prompt_tokens_per_page": round(usage.prompt_tokens / n, 1),
        "computed_tokens_per_page": round(usage.computed_tokens / n, 1),
        "generated_tokens_per_page": round(usage.generated_tokens / n, 1),
        "processor_seconds_per_page": round(seconds / n, 3),
        "threads": cores(),
    }
    return np.array(said).reshape(*pages.kinds.shape, 2), cost | (
        {"thoughts_with_words": round(sum(map(bool, thoughts)) / len(thoughts), 3)} if thoughts else {}
    )


def _controls(train: Dataset, fit: np.ndarray, pages: Judged, config: ExperimentConfig) -> dict[str, dict[str, np.ndarray]]:
    """The same pages without a language model: popularity, and the factors that items' vectors are made of, asked directly."""
    popularity = np.bincount(train.interactions["item"].to_numpy(), minlength=train.n_items)
    factors = Factors.fit(who_has_what(train, fit), config.tuning.training.item_factors)
    told = {
        "popularity": [popularity[one.page.items] for one in pages.situations],
        "factors of the items": [factors.scores(one.profile.history, one.page.items) for one in pages.situations],
    }
    scores = {name: np.array(values, float).reshape(pages.kinds.shape) for name, values in told.items()}
    return {
        name: {"auc_matched": against(values, pages.kinds, MATCHED), "auc_random": against(values, pages.kinds, RANDOM)}
        for name, values in scores.items()
    }


def _result(
    told: Mapping[str, Any],
    variants: Sequence[Variant],
    rows: Mapping[str, Any],
    own: Mapping[str, dict[str, np.ndarray]],
    controls: Mapping[str, dict[str, np.ndarray]],
    stream: Stream,
) -> dict[str, Any]:
    share = 1 / 3
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **told,
        "loss_of_a_constant": round(-share * np.log(share) - (1 - share) * np.log(1 - share), 4),
        "variants": [
            {
                "variant": variant.name,
                "prompt": dict(variant.prompt),
                "method": variant.method,
                **summed_up(own[variant.name], own.get(BASELINE) if variant.name != BASELINE else None, stream),
                **rows[variant.name],
            }
            for variant in variants
            if variant.name in rows
        ],
        "controls": [{"control": name, **summed_up(found, own.get(BASELINE), stream)} for name, found in controls.items()],
        "people": {name: {key: values.tolist() for key, values in found.items()} for name, found in own.items()},
    }


def table(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The result as rows of texts: areas under the curve, the paired difference on matched items with its interval, and costs."""

    def told(row: Mapping[str, Any], name: str) -> str:
        return f"{row[name]['value']:.3f}" if name in row else ""

    lines = []
    for row in (*result["variants"], *result["controls"]):
        asked, apart = row.get("asked", {}), row.get("difference", {}).get("auc_matched")
        lines.append(
            {
                "variant": row.get("variant") or row["control"],
                "matched": told(row, "auc_matched"),
                "less zero-shot": "" if apart is None else f"{apart['value']:+.3f} [{apart['low']:+.3f}, {apart['high']:+.3f}]",
                "random": told(row, "auc_random"),
                "loss": told(row, "loss"),
                "tokens": f"{asked['prompt_tokens_per_page']:.0f}" if asked else "",
                "s": f"{asked['processor_seconds_per_page']:.2f}" if asked else "",
            }
        )
    return lines
