"""Off-policy estimators against what is known: published values, a made-up world with a known truth, and a clock.

    usersim benchmark offline-evaluation [--vectors FILE] [--open-bandit FOLDER --action-distribution FILE]

``--vectors`` is a JSON file of inputs (reward, action, pscore, action_dist, q_hat) and expected values by estimator;
``--open-bandit`` the folder of the Open Bandit Dataset's random logs (Saito et al., NeurIPS 2021 datasets track) with ``all.csv.gz``, and
``--action-distribution`` the probabilities of the policy to evaluate on them, an .npy file of shape (items, positions).
What is not given is null in the result, with the reason beside it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis.offline import policy_estimators as single
from experiments.analysis.offline import slate_estimators as slates
from experiments.analysis.offline.estimates import OfflineEstimate, asymptotic, bootstrap
from experiments.analysis.offline.reward_models import RewardModel, Rows
from simulator.run_directory import write_atomically
from simulator.seeds import Stream

IMPRESSIONS = 1_000_000
OUTPUT = Path("results/benchmarks/offline_evaluation.json")


@dataclass(frozen=True)
class World:
    """A world with a known truth, and a log from it: people of some kinds, actions, a logging and a target policy.

    Attributes:
        kinds: kind of each person's rows, shape (n,). people: whose row. actions: logged, shape (n,). rewards: 0 or 1, shape (n,).
        logging, target: probability of each action by kind, shape (kinds, actions). mean_reward: by kind and action.
        truth: the target's mean reward.
    """

    kinds: np.ndarray
    people: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    logging: np.ndarray
    target: np.ndarray
    mean_reward: np.ndarray
    truth: float


def world(number: int, people: int = 400, rows: int = 4, kinds: int = 20, actions: int = 8) -> World:
    """Draws a world and a log. The rows of a person share a kind, so they are not independent.

    Policies are softmaxes of tastes and noise; the target is nearer to the tastes than the logging policy.
    """
    rng = Stream(number).child("off-policy world").generator()
    taste = rng.normal(-1.0, 1.0, size=(kinds, actions))
    mean_reward = 1.0 / (1.0 + np.exp(-taste))
    logging = _softmax(0.5 * rng.normal(size=taste.shape))
    target = _softmax(0.7 * taste + 0.5 * rng.normal(size=taste.shape))
    kind = np.repeat(rng.integers(0, kinds, size=people), rows)
    drawn = (rng.random(len(kind))[:, None] > np.cumsum(logging[kind], axis=1)).sum(axis=1).clip(max=actions - 1)
    rewards = (rng.random(len(kind)) < mean_reward[kind, drawn]).astype(np.float64)
    truth = float((target * mean_reward).sum(axis=1).mean())
    return World(kind, np.repeat(np.arange(people), rows), drawn, rewards, logging, target, mean_reward, truth)


def estimates_of(made: World) -> dict[str, OfflineEstimate]:
    """IPS, SNIPS and DR of a world's target; the reward model is cross-fitted and knows the kind as a feature only."""
    pi, mu = made.target[made.kinds, made.actions], made.logging[made.kinds, made.actions]
    features = np.eye(len(made.target))[made.kinds]
    model = RewardModel("logistic", Rows(made.people, made.actions, features), made.rewards, Stream(0))
    n, actions = len(pi), made.target.shape[1]
    every = Rows(np.repeat(made.people, actions), np.tile(np.arange(actions), n), np.repeat(features, actions, axis=0))
    predicted = model.predict(every).reshape(n, actions)
    expected = (made.target[made.kinds] * predicted).sum(axis=1)
    logged = predicted[np.arange(n), made.actions]
    return {
        "ips": single.ips(made.rewards, pi, mu),
        "snips": single.snips(made.rewards, pi, mu),
        "dr": single.doubly_robust(made.rewards, pi, mu, logged, expected),
    }


def coverage(worlds: int) -> dict[str, float]:
    """Share of the worlds whose 95 % interval holds the truth, by estimator, normal and bootstrap."""
    hits: dict[str, int] = {}
    for number in range(worlds):
        made = world(number)
        found = estimates_of(made)
        resampled = bootstrap(found, made.people, Stream(number).child("bootstrap"))
        for name, one in found.items():
            for kind, interval in (("", asymptotic(one, made.people)), ("_bootstrap", resampled[name])):
                hits[name + kind] = hits.get(name + kind, 0) + int(interval.low <= made.truth <= interval.high)
    return {name: count / worlds for name, count in hits.items()}


def vectors(file: Path) -> dict[str, float]:
    """Absolute error of each estimator on fixed inputs with published expected values, by the file's own names."""
    document = json.loads(file.read_text(encoding="utf-8"))
    given = {name: np.array(values) for name, values in document["inputs"].items()}
    rows = np.arange(len(given["reward"]))
    reward, pscore = given["reward"].astype(np.float64), given["pscore"]
    pi, predicted = given["action_dist"][rows, given["action"]], given["q_hat"][rows, given["action"]]
    model = (reward, pi, pscore, predicted, (given["action_dist"] * given["q_hat"]).sum(axis=1))
    made = {
        "ReplayMethod": single.replay(reward, pi, pscore),
        "IPW": single.ips(reward, pi, pscore),
        "SNIPW": single.snips(reward, pi, pscore),
        "DM": single.direct_method(model[4], pi, pscore),
        "DR": single.doubly_robust(*model),
        "SNDR": single.self_normalised_doubly_robust(*model),
        "SwitchDR_tau2": single.switch_doubly_robust(*model, 2.0),
        "DRos_lambda1": single.optimistic_shrinkage(*model, 1.0),
        "DRos_lambda10": single.optimistic_shrinkage(*model, 10.0),
    }
    return {name: abs(made[name].value - expected) for name, expected in document["expected"].items()}


def open_bandit(folder: Path, distribution: Path) -> dict[str, OfflineEstimate]:
    """IPS and SNIPS of a policy on the random logs of the Open Bandit Dataset."""
    log = pl.read_csv(folder / "all.csv.gz")
    place = log["position"].rank("dense").to_numpy().astype(np.int64) - 1
    pi = np.load(distribution)[log["item_id"].to_numpy(), place]
    reward, mu = log["click"].to_numpy().astype(np.float64), log["propensity_score"].to_numpy()
    return {"ips": single.ips(reward, pi, mu), "snips": single.snips(reward, pi, mu)}


def million(rows: int = IMPRESSIONS) -> dict[str, float]:
    """Seconds of the model-free estimators on made-up pages of five and of both kinds of intervals over people, and of the processor."""
    rng = Stream(1).child("million").generator()
    reward, mu, pi = (rng.random(rows) < 0.3).astype(np.float64), rng.uniform(0.05, 1.0, rows), rng.uniform(0.0, 1.0, rows)
    people, page = np.sort(rng.integers(0, max(1, rows // 20), rows)), np.arange(rows) // 5
    started, processor = time.perf_counter(), time.process_time()
    found = {
        "replay": single.replay(reward, pi, mu),
        "ips": single.ips(reward, pi, mu),
        "clipped": single.clipped_ips(reward, pi, mu),
        "snips": single.snips(reward, pi, mu),
        "independent": slates.independent_ips(reward, pi, mu),
        "rips": slates.reward_interaction_ips(reward, pi, mu, page),
        "nrips": slates.self_normalised_reward_interaction_ips(reward, pi, mu, page),
    }
    estimated = time.perf_counter()
    for one in found.values():
        asymptotic(one, people)
    bootstrap(found, people, Stream(2))
    done = time.perf_counter()
    return {"estimators": estimated - started, "intervals": done - estimated, "processor": time.process_time() - processor}


def measure(vector_file: Path | None, bandit: Path | None, distribution: Path | None, worlds: int) -> dict[str, Any]:
    """Everything, as it is written to ``offline_evaluation.json``."""
    result: dict[str, Any] = {"ope_vectors_max_error": None, "open_bandit_ips": None}
    missing = {}
    if vector_file is None or not vector_file.is_file():
        missing["ope_vectors_max_error"] = "no file of vectors was given (--vectors)"
    else:
        errors = vectors(vector_file)
        result["ope_vectors_max_error"] = max(errors.values())
        result["ope_vectors"] = len(errors)
    if bandit is None or distribution is None or not (bandit / "all.csv.gz").is_file() or not distribution.is_file():
        missing["open_bandit_ips"] = "no Open Bandit logs and action distribution were given (--open-bandit, --action-distribution)"
    else:
        found = open_bandit(bandit, distribution)
        result |= {"open_bandit_ips": found["ips"].value, "open_bandit_snips": found["snips"].value}
    covered = coverage(worlds)
    result |= {f"coverage_{name}": share for name, share in covered.items()}
    # The quickest of three: whatever else the machine does only ever makes it slower.
    seconds = min((million() for _ in range(3)), key=lambda parts: parts["estimators"] + parts["intervals"])
    result |= {
        "worlds": worlds,
        "million_impressions_seconds": round(seconds["estimators"] + seconds["intervals"], 3),
        "million_impressions_parts": {name: round(value, 3) for name, value in seconds.items()},
        "missing": missing,
    }
    return result


def run(vector_file: Path | None, bandit: Path | None, distribution: Path | None, worlds: int, output: Path) -> dict[str, Any]:
    """Measures and writes the result to `output`; the parameters are those of `measure`."""
    result = measure(vector_file, bandit, distribution, worlds)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
