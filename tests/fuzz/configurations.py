"""Experiment files of every kind of right and wrong settings, each made from one seed."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from environments.feed import FeedConfig
from environments.interventions import InterventionConfig, TargetConfig
from experiments.config import ExperimentConfig
from experiments.evaluate_recommenders import EvaluationConfig
from experiments.sections import AugmentationSection, DatasetSection, DecisionSection, MemorySection, PopulationSection, RecommenderSection
from experiments.studies.study_config import FigureSection, StudyConfig
from experiments.studies.study_metrics import METRICS
from experiments.tuning.examples_config import ExamplesConfig
from simulator.plugins import load
from simulator.seeds import Stream

ODD: tuple[Any, ...] = (
    *(0, 1, -1, 2**62, 10**30, 0.5, -0.5, 1e308, -0.0, float("nan"), float("inf"), True, False),
    *("", " ", "x", "nan", "all", "none", "0", "../..", "/", "~", "a" * 3_000, "é😀", "\x00", "\n", "[bold]", "{data}", "a.b:C", ":", "%s"),
    *([], [[]], [1, "x"], ["a", "a"], [0.5, float("nan")], {}, {"a": 1}, {"use": "x:Y"}, {"": {"": 0}}, date(1979, 5, 27), time(7, 32)),
)
"""What stands in files where something else should."""

USES = (
    *(
        "",
        "x",
        "x:Y",
        ":",
        "os:system",
        "builtins:int",
        "json:JSONDecoder",
        "environments.recommenders.ease",
        "environments.recommenders.ease:",
    ),
    *("environments.recommenders.ease:EASEE", "environments.recommenders.eas:EASE", "agents.memory:NoMemory", "no_such.py:X", "tests:X"),
    *(
        "environments.recommenders.lenskit_library:LensKitLibrary",
        "agents.controls:RandomDecisions",
        "simulator.errors:UsersimError",
        "..:X",
    ),
)
"""Import paths that lead nowhere, or to something else."""

RECOMMENDERS = (
    *("als:ALS", "biases:Biases", "bpr:BPR", "content_based:ContentBased", "ease:EASE", "gru4rec:GRU4Rec", "item_knn:ItemKNN"),
    *("lightgcn:LightGCN", "mult_vae:MultVAE", "neumf:NeuMF", "ngcf:NGCF", "popularity:Popularity", "random:Random", "sasrec:SASRec"),
    *("user_knn:UserKNN", "bert4rec:BERT4Rec", "deepconn:DeepCoNN", "narre:NARRE"),
)
RERANKERS = ("popularity_penalty:PopularityPenalty", "mmr:MMR", "calibrated:Calibrated", "cold_start:ColdStart", "interleaved:Interleaved")
DECISIONS = ("controls:RandomDecisions", "controls:EvidenceDecisions", "controls:PopularityDecisions", "calibrated:CalibratedDecisions")
MEMORIES = ("NoMemory", "RecentMemory", "RetrievalMemory")
DATASETS = ("environments.datasets.movielens:MovieLens100K", "environments.datasets.tables:InteractionTables")

SMALL: dict[str, int] = {
    **dict.fromkeys(("epochs", "warm_epochs", "iterations", "rounds", "max_pages", "layers", "blocks", "heads", "patience", "warm_up"), 2),
    **dict.fromkeys(
        ("users", "synthetic", "people", "reference_pages", "dimension", "factors", "hidden", "negatives", "packs", "seeds"), 8
    ),
    **dict.fromkeys(("samples", "length", "threads", "workers", "steps", "candidates", "neighbours", "words", "max_length", "draws"), 60),
}
"""Numbers that time grows with, and the largest that is tried; of every other both bounds are."""


@dataclass(frozen=True)
class Case:
    """One experiment file.

    Attributes:
        file: where it is. command: what is done with it. changes: what makes it unlike a right one.
    """

    file: Path
    command: str
    changes: tuple[str, ...]


def make(seed: int, folder: Path, data: Path, tables: Path) -> Case:
    """Writes the experiment file of a seed.

    Args:
        seed: of everything. folder: an empty one. data: films in the layout of MovieLens-100K. tables: a folder with ``log.csv``.
    """
    rng = Stream(seed).child("configurations").generator()
    command = ("run", "run", "run", "run", "run", "evaluate-recommenders", "study")[int(rng.integers(7))]
    document = {"run": _experiment, "evaluate-recommenders": _evaluation, "study": _study}[command](rng, folder, data, tables)
    changes: list[str] = []
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        how = CHANGES[int(rng.integers(len(CHANGES)))]
        told = how(rng, document)
        if told:
            changes.append(f"{how.__name__.lstrip('_')} {told}")
    file = folder / "experiment.toml"
    file.write_bytes(_toml(document))
    if rng.random() < 0.05:
        raw = file.read_bytes()
        place = int(rng.integers(len(raw) + 1))
        file.write_bytes(raw[:place] + bytes(rng.integers(256, size=3, dtype=np.uint8)) + raw[place + int(rng.integers(3)) :])
        changes.append(f"other bytes at {place}")
    return Case(file, command, tuple(changes))


def _toml(document: dict[str, Any]) -> bytes:
    return tomli_w.dumps(document).encode("utf-8", "surrogatepass")


def _one(rng: np.random.Generator, values: typing.Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


# --- right files -------------------------------------------------------------------------------------------------------


def _experiment(rng: np.random.Generator, folder: Path, data: Path, tables: Path) -> dict[str, Any]:
    """An experiment without a language model, with some settings of every section."""
    document: dict[str, Any] = {"name": "fuzzed", "rounds": int(rng.integers(1, 3)), "cohort_size": int(rng.integers(1, 9))}
    document["language_model"] = False
    if rng.random() < 0.2:
        document |= _some(rng, ExperimentConfig, ("seed", "round_days"))
    document["dataset"] = _dataset(rng, data, tables)
    document["population"] = {"users": int(rng.integers(2, 7))} | _some(rng, PopulationSection, without=("users", "taste"))
    decision = f"agents.{_one(rng, DECISIONS)}"
    document["decision"] = {"use": decision} | _own(rng, decision) | _some(rng, DecisionSection, without=("use",))
    if decision.endswith("CalibratedDecisions"):
        document["decision"]["language_model"] = False
    if rng.random() < 0.3:
        memory = f"agents.memory:{_one(rng, MEMORIES)}"
        document["memory"] = {"use": memory} | _own(rng, memory) | _some(rng, MemorySection, without=("use",))
    document["recommender"] = _recommender(rng) | {"page_size": int(rng.integers(1, 6)), "max_pages": 2}
    document["recommender"] |= _some(rng, FeedConfig, without=("max_pages",)) | _some(rng, RecommenderSection, without=("use",))
    if rng.random() < 0.2:
        document["interventions"] = {"a": _intervention(rng)}
    if rng.random() < 0.1:
        document["augmentation"] = _some(rng, AugmentationSection, without=("recommenders",))
    if rng.random() < 0.1:
        document["tuning"] = {"examples": _some(rng, ExamplesConfig)}
    return document


def _dataset(rng: np.random.Generator, data: Path, tables: Path) -> dict[str, Any]:
    use = _one(rng, DATASETS)
    section: dict[str, Any] = {"use": use, "path": str(data)}
    if use.endswith("InteractionTables"):
        section |= {"path": str(tables), "interactions": "log.csv"}
        if rng.random() < 0.5:
            section["items"] = "items.csv"
    return section | _some(rng, DatasetSection, without=("use",), share=0.1)


def _recommender(rng: np.random.Generator, share: float = 0.25) -> dict[str, Any]:
    if rng.random() < 0.2:
        use = f"environments.rerankers.{_one(rng, RERANKERS)}"
        base = {"base": _recommender(rng, share=0)}
        if "Interleaved" in use:
            base = {"bases": [_recommender(rng, share=0), _recommender(rng, share=0)]}
        if "ColdStart" in use:
            base = {}
        known = getattr(getattr(load(use), "Config", None), "model_fields", {})
        return {"use": use} | _own(rng, use) | {key: value for key, value in base.items() if key in known}
    use = f"environments.recommenders.{_one(rng, RECOMMENDERS)}"
    known = getattr(getattr(load(use), "Config", None), "model_fields", {})
    few = {key: SMALL[key] for key in ("epochs", "warm_epochs", "dimension", "factors") if key in known}
    return {"use": use} | few | (_own(rng, use) if rng.random() < share * 4 else {})


def _intervention(rng: np.random.Generator) -> dict[str, Any]:
    rule = _one(rng, [name for name in TargetConfig.model_fields if name not in ("ids", "genre")])
    made = {"kind": _one(rng, ("advert", "price", "explanation")), "text": "new", "response": float(np.round(rng.normal(), 2))}
    return made | {"items": {rule: 0.5 if rule == "share" else 3}} | _some(rng, InterventionConfig, without=("kind", "items", "response"))


def _evaluation(rng: np.random.Generator, folder: Path, data: Path, tables: Path) -> dict[str, Any]:
    document: dict[str, Any] = {"name": "fuzzed", "dataset": _dataset(rng, data, tables)} | _some(rng, EvaluationConfig, ("seed", "k"))
    document["recommenders"] = {name: _recommender(rng) for name in ("a", "b")[: int(rng.integers(1, 3))]}
    if rng.random() < 0.3:
        document["recommenders"]["a"]["tune"] = {
            _one(rng, ("l2", "shrink", "neighbours", "x")): [_one(rng, (1, 2.0, 5)), _one(rng, (3, 4))]
        }
    return document


def _study(rng: np.random.Generator, folder: Path, data: Path, tables: Path) -> dict[str, Any]:
    base = folder / "base.toml"
    base.write_bytes(_toml(_experiment(rng, folder, data, tables)))
    analysis = _one(
        rng,
        (
            *["arm_metrics:ArmMetrics"] * 6,
            "discovery:Discovery",
            "treatment:Treatment",
            "fatigue:Fatigue",
            "cold_start:ColdStart",
        ),
    )
    some = [str(name) for name in rng.permutation(sorted(METRICS))[:3]]
    metrics = {"metrics": some, "by_round": bool(rng.integers(2))} if "ArmMetrics" in analysis else {}
    return {
        "name": "fuzzed",
        "question": "What?",
        "base": str(base),
        "control": "a",
        "settings": {"rounds": 1},
        "arms": {"a": {}, "b": {"recommender": {"use": "environments.recommenders.random:Random"}}},
        "analysis": {"use": f"experiments.studies.{analysis}"} | metrics,
        "figure": _some(rng, FigureSection, ("form", "against")),
    } | _some(rng, StudyConfig, ("name",), share=0.1)


def _own(rng: np.random.Generator, use: str) -> dict[str, Any]:
    """Some options of a component."""
    config = getattr(load(use), "Config", None)
    return {} if config is None else _some(rng, config, without=("base", "bases", "weights", "exposures", "prompt"), share=0.2)


def _some(
    rng: np.random.Generator,
    config: type[BaseModel],
    names: typing.Sequence[str] = (),
    *,
    without: typing.Sequence[str] = (),
    share: float = 0.25,
) -> dict[str, Any]:
    """Some keys of a class of settings, with values that their types allow."""
    found = {}
    for name, field in config.model_fields.items():
        if name not in without and (not names or name in names) and rng.random() < share:
            value = _allowed(rng, field.annotation, _bounds(field), name)
            if value is not None:
                found[name] = value
    return found


def _bounds(field: FieldInfo) -> dict[str, float]:
    return {kind: getattr(one, kind) for one in field.metadata for kind in ("ge", "gt", "le", "lt") if getattr(one, kind, None) is not None}


def _allowed(rng: np.random.Generator, annotation: Any, bounds: dict[str, float], name: str) -> Any:  # noqa: PLR0911 - a value per kind
    """A value of a type, within its bounds and sometimes at them; None where there is none to be made."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _allowed(rng, parts[0], bounds | _bounds(FieldInfo.from_annotation(annotation)), name)
    if origin is typing.Literal:
        return _one(rng, parts)
    if origin in (typing.Union, types.UnionType):
        return _allowed(rng, _one(rng, [part for part in parts if part is not type(None)]), bounds, name)
    if origin in (tuple, list):
        inner = _allowed(rng, parts[0], {}, name) if parts else None
        return None if inner is None else [inner]
    if annotation is bool:
        return bool(rng.integers(2))
    if annotation in (int, float):
        low = bounds.get("ge", bounds.get("gt", 0))
        high = bounds.get("le", bounds.get("lt", low + 100))
        largest = min(high, SMALL[name]) if name in SMALL else high
        if annotation is int:
            tried = [int(low) + ("gt" in bounds), int(low) + 1, int(low) + 3, int(largest) - ("lt" in bounds and largest == high)]
            return int(np.clip(_one(rng, tried), int(low), largest))
        tried = [low + 1e-9, low + 0.1, (low + min(largest, low + 1)) / 2, largest - 1e-9]
        return float(_one(rng, tried))
    if annotation is str:
        return "x"
    return None


# --- what makes them wrong ----------------------------------------------------------------------------------------------


def _tables(document: dict[str, Any], where: str = "") -> typing.Iterator[tuple[str, dict[str, Any]]]:
    """Every section with its place."""
    yield where, document
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _tables(value, f"{where}.{key}".lstrip("."))


def _a_key(rng: np.random.Generator, document: dict[str, Any]) -> tuple[str, dict[str, Any], str] | None:
    places = [(f"{where}.{key}".lstrip("."), table, key) for where, table in _tables(document) for key in table]
    return _one(rng, places) if places else None


def _an_odd_value(rng: np.random.Generator, document: dict[str, Any]) -> str:
    found = _a_key(rng, document)
    if found is None:
        return ""
    where, table, key = found
    table[key] = _one(rng, ODD)
    return f"{where} = {table[key]!r:.40}"


def _an_odd_value_of_a_new_key(rng: np.random.Generator, document: dict[str, Any]) -> str:
    """Of a key that there is, but not in the file."""
    sections = {"": ExperimentConfig, "dataset": DatasetSection, "population": PopulationSection, "memory": MemorySection}
    sections |= {"decision": DecisionSection, "recommender": FeedConfig, "augmentation": AugmentationSection}
    where, table = _one(rng, list(_tables(document)))
    config = getattr(_loaded(table), "Config", None) if rng.random() < 0.6 and "use" in table else sections.get(where)
    if config is None:
        return ""
    key = _one(rng, sorted(config.model_fields) or ["x"])
    table[key] = _one(rng, ODD)
    return f"{where}.{key} = {table[key]!r:.40}"


def _loaded(table: dict[str, Any]) -> Any:
    try:
        return load(str(table["use"]))
    except Exception:
        return None


def _a_misspelt_key(rng: np.random.Generator, document: dict[str, Any]) -> str:
    found = _a_key(rng, document)
    if found is None:
        return ""
    where, table, key = found
    place = int(rng.integers(len(key) + 1))
    other = _one(rng, (key[:place] + "x" + key[place:], key[:place] + key[place + 1 :], key.upper(), f" {key}", f"{key}.{key}", ""))
    table[other] = table.pop(key)
    return f"{where} -> {other!r}"


def _a_key_gone(rng: np.random.Generator, document: dict[str, Any]) -> str:
    found = _a_key(rng, document)
    if found is None or found[0] in ("language_model", "recommender.max_pages", "population.users", "recommender.epochs", "base"):
        return ""
    del found[1][found[2]]
    return found[0]


def _another_use(rng: np.random.Generator, document: dict[str, Any]) -> str:
    places = [(where, table) for where, table in _tables(document) if "use" in table]
    if not places:
        return ""
    where, table = _one(rng, places)
    others = [entry["use"] for _, entry in places] + [f"environments.recommenders.{name}" for name in RECOMMENDERS]
    table["use"] = _one(rng, USES) if rng.random() < 0.7 else _one(rng, others)
    return f"{where}.use = {table['use']!r}"


def _a_section_elsewhere(rng: np.random.Generator, document: dict[str, Any]) -> str:
    sections = [key for key, value in document.items() if isinstance(value, dict)]
    if not sections:
        return ""
    one, other = _one(rng, sections), _one(rng, [*sections, "x", "tuning", "memory"])
    document[other] = json.loads(json.dumps(document[one], default=str))
    return f"{one} as {other}"


def _a_contradiction(rng: np.random.Generator, document: dict[str, Any]) -> str:
    """Settings that do not go together."""
    pairs: tuple[tuple[str, str, Any], ...] = (
        ("recommender", "refit", "warm"),
        ("recommender", "exploration", "plackett-luce"),
        ("recommender", "candidates", 1),
        ("recommender", "page_size", 50),
        ("recommender", "repeat", "never"),
        ("population", "history", "ahead"),
        ("population", "sessions", "relived"),
        ("population", "sessions", "rhythm"),
        ("population", "taste", True),
        ("population", "users", "all"),
        ("population", "users", 0),
        ("population", "among", "held-out"),
        ("population", "stratify", "activity"),
        ("dataset", "k_core", 3),
        ("dataset", "min_rating", 4.0),
        ("dataset", "min_rating", 9.0),
        ("dataset", "split", "random"),
        ("dataset", "split", "leave-one-out"),
        ("dataset", "test_share", 0.99),
        ("decision", "language_model", True),
        ("decision", "use", "agents.decisions:LanguageModelDecisions"),
        ("decision", "weights", "nowhere.json"),
        ("decision", "exposures", "nowhere.csv"),
        ("decision", "choose_rate", 0.999),
    )
    section, key, value = _one(rng, pairs)
    if not isinstance(document.setdefault(section, {}), dict):
        return ""
    document[section][key] = value
    return f"{section}.{key} = {value!r}"


CHANGES = (
    _an_odd_value,
    _an_odd_value,
    _an_odd_value_of_a_new_key,
    _an_odd_value_of_a_new_key,
    _a_misspelt_key,
    _a_key_gone,
    _another_use,
    _a_section_elsewhere,
    _a_contradiction,
    _a_contradiction,
    _a_contradiction,
)
