"""From an experiment to a tuned model: examples, tuning, adapter, card.

Everything lives in one folder per adapter, in the cache unless another is named::

    tuned/<name>/prepared.json       what the examples were made from; examples are made again if it changes
                 packs/*.npz  validation.npz  training.json
                 checkpoint.pt       while the tuning goes on; an interrupted one continues
                 updates.npz  result.json
                 factors.npz         of the items, where their vectors are learned
                 start.npz  start.json       the adapter that it began with, where there is one
                 adapter_config.json  adapter_model.safetensors  vectors.safetensors  card.json       the adapter
                 README.md  learned_from.json        its model card, and whose choices were learned from
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.exposures import people_split
from agents.prompts import PromptBuilder, PromptConfig
from experiments import build
from experiments.config import ExperimentConfig
from experiments.tuning import model_card
from experiments.tuning.examples import examples
from experiments.tuning.item_factors import item_factors
from experiments.tuning.packs import Pack
from experiments.tuning.settings import FACTORS, START, Progress, TrainingConfig
from experiments.tuning.teacher import Teacher
from experiments.tuning.vocabulary import KeptVocabulary
from simulator.errors import ConfigError, ModelError
from simulator.files import read_json, reading, write_arrays, write_atomically
from simulator.llm import adapters, formats, models, vectors
from simulator.llm.vectors import VectorTokens
from simulator.plugins import load
from simulator.provenance import arithmetic, code_sha256
from simulator.seeds import Stream

Say = Callable[[str, int, int], None]
"""(what is done, steps done, steps in all)."""

FREE = ("device", "micro_tokens")
"""Settings that decide where a tuning is computed and not what it is."""

OPEN = ("minutes", "passes", "evaluations", "patience")
"""Settings that an unfinished tuning may go on with in other values."""

CONTEXT = 8_192
"""Longest prompt in tokens that examples may have; far above what any page needs."""


def prompt_config(config: ExperimentConfig) -> PromptConfig:
    """How the experiment's decision model writes prompts.

    Raises:
        ConfigError: the decision model writes none.
    """
    component = load(config.decision.use, methods=build.METHODS["decision"])
    if "prompt" not in getattr(getattr(component, "Config", None), "model_fields", {}):
        raise ConfigError(
            f"decision.use = {config.decision.use} writes no prompts, so there is nothing to tune; use one that does, such as "
            "agents.decisions:LanguageModelDecisions."
        )
    return PromptConfig.model_validate(config.decision.options.get("prompt", {}))


def _checked_prompt(config: ExperimentConfig) -> PromptConfig:
    """The prompts of a tuning, which must hold what is learned.

    Raises:
        ConfigError: they hold a thought, or vectors that the method does not learn, or none that it could learn.
    """
    prompt, method = prompt_config(config), config.tuning.training.method
    if prompt.thought_tokens:
        raise ConfigError("decision.prompt.thought_tokens must be 0 for a tuning: a thought is written by the model that is being tuned.")
    told = prompt.item_vectors or prompt.history_vectors > 0
    if config.tuning.training.items and not told:
        raise ConfigError(
            f"tuning.training.method = '{method}' learns vectors of items, and these prompts have none; set "
            "decision.prompt.item_vectors = true (and history_vectors = 16, say), here and in the runs that use the result."
        )
    if told and not config.tuning.training.items:
        raise ConfigError(
            f"decision.prompt has vectors of items, which tuning.training.method = '{method}' does not learn; use 'collaborative' or "
            "'collaborative-lora'."
        )
    return prompt


def base_model(config: ExperimentConfig) -> Path:
    """The model file that is tuned.

    Raises:
        ConfigError: the experiment has no model file of its own (a server, say).
        ModelError: the file is missing.
    """
    section = config.language_model
    if section is None or not section.use.endswith(("llama_cpp:LlamaCpp", "transformers_model:TransformersModel")):
        raise ConfigError("only a model in a GGUF file can be tuned; set language_model.use = simulator.llm.llama_cpp:LlamaCpp.")
    return models.resolve(section.options.get("path"))


def prepare(config: ExperimentConfig, folder: Path, say: Say) -> dict[str, Any]:
    """Makes the examples of a tuning, or finds that they are there.

    Args:
        config: the experiment; its data, split, prompts, page sizes and ``[tuning]`` decide.
        folder: of the adapter. say: told about the progress.

    Returns:
        What the examples were made from.

    Raises:
        UsersimError: the data, the model or the options are wrong.
    """
    tuning = config.tuning
    say("reading the data", 0, 0)
    train = build.data(config).train
    base, prompt, training = base_model(config), _checked_prompt(config), tuning.training
    split = people_split(train)
    order: Literal["random", "temporal"] = "temporal" if config.dataset.split == "temporal" else "random"
    told = {
        "data": {
            "name": train.name,
            "fingerprint": train.fingerprint(),
            "interactions": train.interactions.height,
            "split": config.dataset.split_config().model_dump(mode="json"),
        },
        "model": {"name": base.name, "sha256": formats.fingerprint(base)},
        "people": {"fit": len(split.fit), "validation": len(split.validation), "held_out": len(split.held_out)},
        "prompt": prompt.model_dump(mode="json"),
        "examples": tuning.examples.model_dump(mode="json"),
        "packs": tuning.packs,
        "validation_people": tuning.validation_people,
        "seed": config.seed,
        "words": asdict(train.catalog.domain),
        "actions": json.loads(json.dumps([asdict(action) for action in build.actions(train)])),
        **({"soft_tokens": training.soft} if training.soft else {}),
        **({"item_factors": training.item_factors} if training.items else {}),
    }
    packs = folder / "packs"
    made_by = {"code": code_sha256("experiments.tuning.tune"), "arithmetic": arithmetic()}
    known = _prepared(folder)
    # What was begun with these examples goes on with them; before that, other code writes them anew.
    if known is not None and _same(known, told if _begun(folder) else {**told, **made_by}):
        return known
    told |= made_by
    packs.mkdir(parents=True, exist_ok=True)
    for stale in (
        *packs.glob("*.npz"),
        *(folder / name for name in ("prepared.json", FACTORS, "checkpoint.pt", "updates.npz", "result.json")),
    ):
        stale.unlink(missing_ok=True)
    vocabulary = KeptVocabulary(base)
    try:
        items: tuple[str, ...] = ()
        if training.items:
            say("factors of the items", 0, 0)
            items = tuple(train.catalog.item_ids.tolist())
            factors = item_factors(train, split.fit, training.item_factors)
            np.savez(folder / FACTORS, factors=factors, items=np.array(items))
        compiler = vocabulary.compiler(CONTEXT, VectorTokens(training.soft, items))
        # When people leave is not in such data, and what is asked at the end of a page changes nothing before it.
        prompts = PromptBuilder(train.catalog, [action for action in build.actions(train) if action.scope != "page"], prompt, config.seed)
        stream, shares = Stream(config.seed).child("tune"), tuning.examples.hidden_shares
        some = split.validation[: tuning.validation_people]
        teacher = None
        if tuning.examples.teacher != "choices":
            say("fitting the evidence that teaches", 0, 0)
            net = tuning.examples.teacher == "taste"
            teacher = Teacher.fit(train, build.actions(train), order, stream.child("teacher"), net=net, seed=config.seed)
        say("writing examples", 0, tuning.packs + 1)
        fewer = tuning.examples.model_copy(update={"positives": min(20, tuning.examples.positives)})
        checked = examples(train, some, prompts, compiler, fewer, shares[0], order, stream.child("validation"))
        checked.save(folder / "validation.npz")
        for number in range(tuning.packs):
            say("writing examples", number + 1, tuning.packs + 1)
            # Where people are split by time, every other pack hides random interactions: more of what each person likes is met.
            which = order if number % 2 == 0 else "random"
            share = shares[number % len(shares)]
            pack = examples(train, split.fit, prompts, compiler, tuning.examples, share, which, stream.child("pass", number), teacher)
            if not len(pack):
                raise ConfigError("nobody of the people to learn from has two training interactions, so there is nothing to tune on.")
            pack.save(packs / f"{number:03d}.npz")
    finally:
        vocabulary.close()
    write_atomically(folder / "prepared.json", (json.dumps(told, indent=1) + "\n").encode())
    return told


def _prepared(folder: Path) -> dict[str, Any] | None:
    """What the examples in a folder were made from, or None if there are none.

    Raises:
        ConfigError: the file that says so is damaged.
    """
    file = folder / "prepared.json"
    return read_json(file, f"remove {folder} to begin anew", ConfigError) if file.is_file() else None


def _same(known: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether examples are those that are wanted, as far as it is known what they were made from (an older version kept less)."""
    return all(known.get(key, value) == value for key, value in told.items()) and set(known) <= {*told, "code", "arithmetic"}


def _begun(folder: Path) -> bool:
    """Whether a tuning on the examples of a folder is under way or finished."""
    return any((folder / name).is_file() for name in ("checkpoint.pt", "result.json"))


def tune(config: ExperimentConfig, folder: Path, training: TrainingConfig, say: Say, *, prepare_only: bool = False) -> dict[str, Any]:
    """Tunes the language model of an experiment on the training part of its data.

    Only people of the fit part (`agents.exposures.people_split`) are learned from, and only their training interactions;
    validation people decide when to stop. An interrupted tuning continues; a finished one is not done again, and neither is taken for
    one with other settings. Other examples (data, prompts, ``[tuning.examples]``) replace what is there.

    Args:
        config: the experiment. folder: of the adapter. training: how.
        say: told about the progress. prepare_only: stops when the examples are written.

    Returns:
        The card: what the adapter was tuned on, with which settings, and how well label probabilities fit before and after.

    Raises:
        UsersimError: the data, the model or the options are wrong, a package is missing, or the folder holds a tuning with other settings.
    """
    started = time.perf_counter()
    told = prepare(config, folder, say)
    _refuse_others(folder, training)
    began = _begun_with(folder, training, told)
    write_atomically(folder / "training.json", (json.dumps(asdict(training), indent=1) + "\n").encode())
    if prepare_only:
        return {"prepared": str(folder), **told}
    result_path = folder / "result.json"
    if not result_path.is_file():
        write_atomically(result_path, (json.dumps(_trained(config, folder, training, say, started), indent=1) + "\n").encode())
    result = read_json(result_path, _anew(folder))
    _write_adapter(folder, told["model"]["name"])
    card = {"name": folder.name, **told, **({"start": began} if began else {}), "tuning": result}
    write_atomically(folder / adapters.CARD, (json.dumps(card, indent=1) + "\n").encode())
    model_card.write(folder, card, model_card.learned(build.data(config).train, training.start))
    return card


def _anew(folder: Path) -> str:
    """The way out of a tuning whose files are damaged."""
    return f"remove {folder} and tune again"


def _refuse_others(folder: Path, training: TrainingConfig) -> None:
    """An adapter says in its card how it was tuned, and half of a tuning has the shapes that it began with."""
    finished = (folder / "result.json").is_file()
    if not _begun(folder):
        return
    before = asdict(TrainingConfig()) | read_json(folder / "training.json", _anew(folder))
    now = json.loads(json.dumps(asdict(training)))
    same = FREE if finished else (*FREE, *OPEN)
    others = [key for key, value in now.items() if key not in same and before[key] != value]
    if not others:
        return
    told = ", ".join(f"{key} = {json.dumps(before[key])} (now {json.dumps(now[key])})" for key in others)
    raise ConfigError(
        f"[tuning.training] '{folder.name}' {'was tuned' if finished else 'is half tuned'} with {told}; ask for the same again, take "
        f"another --name, or remove {folder} to begin anew."
    )


def _begun_with(folder: Path, training: TrainingConfig, told: dict[str, Any]) -> dict[str, Any] | None:
    """What is known of the adapter that a tuning begins with, whose updates are kept in the folder; None if it begins with none.

    Raises:
        ConfigError: updates like those cannot go on, or may have been learned from people who are held out here.
        ModelError: there is no such adapter, or it is damaged.
    """
    if training.start is None:
        return None
    kept = folder / "start.json"
    if _begun(folder):
        known: dict[str, Any] = read_json(kept, _anew(folder))
        return known
    where = f"tuning.training.start = '{training.start}'"
    if training.method != "lora":
        raise ConfigError(f"{where} goes with tuning.training.method = 'lora' only, not with '{training.method}'.")
    found = adapters.find(training.start)
    if vectors.present(found):
        raise ConfigError(f"{where} holds learned vectors, and only updates can be begun with; name an adapter of method 'lora'.")
    updates, card = adapters.read(found), adapters.card(found)
    rank = len(next(values for name, values in updates.items() if name.endswith(".a")))
    alpha = float(updates["scale"]) * rank
    if (rank, alpha) != (training.rank, training.alpha):
        raise ConfigError(
            f"{where} has rank {rank} and alpha {alpha:g}, and this tuning has {training.rank} and {training.alpha:g}; set "
            f"tuning.training.rank = {rank} and tuning.training.alpha = {alpha:g}."
        )
    if not {"model", "data", "tuning"} <= set(card):
        raise ConfigError(f"{where} has no {adapters.CARD} of usersim tune, so nobody knows what it learned from; name one that has.")
    if card["model"]["sha256"] != told["model"]["sha256"]:
        raise ConfigError(f"{where} belongs to {card['model']['name']}, and {told['model']['name']} is tuned; name an adapter of that one.")
    for data in (one["data"] for one in adapters.descent(card)):
        if data["name"] == told["data"]["name"] and data["fingerprint"] != told["data"]["fingerprint"]:
            raise ConfigError(
                f"{where} was tuned on another training part of '{data['name']}', so that it may have learned from what is held out here; "
                "name one that was tuned with the same data and split."
            )
    write_atomically(folder / START, lambda file: write_arrays(file, updates))
    kept_of_card = ("name", "data", "people", "examples", "start")
    about = {"sha256": adapters.identity(found), **{key: card[key] for key in kept_of_card if key in card}}
    about["tuning"] = {key: card["tuning"][key] for key in ("steps", "tokens", "seconds", "device") if key in card["tuning"]}
    write_atomically(kept, (json.dumps(about, indent=1) + "\n").encode())
    return about


def _write_adapter(folder: Path, base: str) -> None:
    with reading(folder / "updates.npz", _anew(folder)), np.load(folder / "updates.npz") as stored:
        updates = {name: stored[name] for name in stored.files}
    learned = {name.partition(".")[2]: updates.pop(name) for name in list(updates) if name.startswith("vectors.")}
    if updates:
        adapters.write(folder, updates, base)
    if learned:
        items = []
        if "factors" in learned:
            with reading(folder / FACTORS, _anew(folder)), np.load(folder / FACTORS) as stored:
                items = stored["items"].tolist()
        vectors.write(folder, learned, items)


def _trained(config: ExperimentConfig, folder: Path, training: TrainingConfig, say: Say, started: float) -> dict[str, Any]:
    try:
        from experiments.tuning import training as torch_side  # noqa: PLC0415 - torch is slow to import, and only needed here
    except ImportError as error:
        raise ModelError(f"tuning needs the package {error.name}; install it with: pip install 'usersim[adapters]'.") from error
    try:
        torch_side.device_of(training.device)
        if training.updates:
            import peft  # noqa: F401, PLC0415 - optional
    except ImportError as error:
        raise ModelError("tuning needs the package peft; install it with: pip install 'usersim[adapters]'.") from error
    except RuntimeError as error:
        raise ConfigError(f"[tuning.training] {error}") from error
    packs = sorted((folder / "packs").glob("*.npz"))

    def report(progress: Progress) -> None:
        best = f", best on validation people {progress.best:.4f}" if progress.best is not None else ""
        minutes = progress.seconds_left / 60
        say(f"tuning: loss {progress.loss:.4f}{best}, about {minutes:.1f} min left", progress.step, progress.steps)

    say("measuring the validation people before the first step", 0, 0)
    return torch_side.train(base_model(config), packs, Pack.load(folder / "validation.npz"), training, folder, report, started)
