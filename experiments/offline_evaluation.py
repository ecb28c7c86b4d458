"""Off-policy evaluation of a run: what another policy would have earned, by every estimator, with intervals and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from experiments import build
from experiments.analysis.offline import policy_estimators as single
from experiments.analysis.offline import slate_estimators as slates
from experiments.analysis.offline.estimates import Interval, OfflineEstimate, asymptotic, bootstrap
from experiments.analysis.offline.reward_models import Kind, RewardModel, Rows, columns
from experiments.analysis.person_sums import liked
from experiments.config import ExperimentConfig
from experiments.logged_pages import LoggedPages, read_logged_pages
from experiments.policy_on_log import PolicyOnLog, Report, blocks, logged_probabilities, policy_on_log, unsupported
from experiments.target_policy import fitted_target, on_target, recommenders_of_run
from simulator.errors import ConfigError, RunError, with_suggestion
from simulator.seeds import Stream

REWARDS: Mapping[str, str] = {
    "chosen": "share of shown items that are chosen",
    "rating": "rating per shown item (0 where it is not chosen)",
    "like": "share of shown items that are chosen and rated at least three quarters up the scale",
}
"""Reward -> its meaning; every value is the mean over shown items."""

GRID = (np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Thresholds of Switch-DR and strengths of DRos that are tried, least biased first."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    Attributes:
        reward: one of `REWARDS`.
        clip: largest weight of clipped IPS, or None for the square root of the number of rows.
        reward_model: of the direct and doubly robust estimators.
        minimum_effective_size: below it an evaluation is refused.
        maximum_unsupported: largest share of the target's actions that the log need not support.
        draws: per place, for a policy whose probabilities have no closed form.
        force: carry on where support is too small, with a warning.
    """

    reward: str = "chosen"
    clip: float | None = None
    reward_model: Kind = "boosting"
    minimum_effective_size: float = 30.0
    maximum_unsupported: float = 0.5
    draws: int = 100
    force: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One estimator's answer: the estimate without its rows, both intervals, and a word of warning or None."""

    value: float
    normal: Interval
    bootstrap: Interval
    effective_sample_size: float
    largest_weight: float
    unsupported: float
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a log says about a policy.

    Attributes:
        run: folder. policy, logging_policy: their ids. reward: see `REWARDS`.
        impressions, pages, people: counts.
        logged: the logging policy's own mean reward.
        answers: estimator -> answer. left_out: estimator -> why it does not apply.
        warnings: sentences about the support.
        unsupported: share of the target's actions that the log cannot show. reproduced: largest relative difference between the logged
            propensities and those of the run's own policy asked again, or None if it cannot be asked. monte_carlo_error: standard error of
            the IPS value that comes from probabilities without closed form, 0 if they are exact.
        places: items of the largest page. reacts: whether people read whole pages, and may react to what stands above an item.
    """

    run: Path
    policy: str
    logging_policy: str
    reward: str
    impressions: int
    pages: int
    people: int
    logged: Answer
    answers: dict[str, Answer]
    left_out: dict[str, str]
    warnings: tuple[str, ...]
    unsupported: float
    reproduced: float | None
    monte_carlo_error: float
    settings: dict[str, float | str] = field(default_factory=dict)
    places: int = 1
    reacts: bool = False


def evaluate(path: Path, target: ExperimentConfig, options: Options, report: Report) -> Evaluation:
    """Evaluates a policy on a run.

    Args:
        path: folder of a complete run.
        target: the run's experiment with the policy's recommender, see `experiments.target_policy.read_target`.
        options: how.
        report: told of the progress.

    Raises:
        RunError: the log cannot answer: no propensities, a deterministic log of another policy, too little support.
        ConfigError: the reward is unknown, or the data has no ratings for it.
    """
    log = read_logged_pages(path)
    reward = rewards(log, options.reward)
    own_id, target_id = build.policy_id(log.config), build.policy_id(target)
    if own_id != target_id and bool((log.propensity >= 1.0).all()):
        raise RunError(
            f"the run {path} shows what {own_id} ranks first and nothing else (every propensity is 1), so its log says nothing about what "
            f"{target_id} would show instead. Log with exploration: --set recommender.exploration=plackett-luce (or epsilon)."
        )
    logging = _logging(log, options, report)
    reproduced = _reproduced(logging, log, options)
    if not options.force:
        log.check()
    aimed = on_target(log, target)
    report("fitting the policy", 0, 0)
    policy = policy_on_log(aimed, fitted_target(aimed, target), target.recommender.feed_config(), options.draws, report)
    report("what the policy would show", 0, 0)
    probability = logged_probabilities(policy, aimed)
    missing = unsupported(policy, logging, aimed) if logging is not None else None
    weights = single.importance_weights(probability, log.propensity)
    share = max(0.0, 1.0 - float(weights.mean())) if missing is None else float(missing.mean())
    warnings = _support(weights, share, target_id, options)
    report("reward models", 0, 0)
    opinion = _models(log, policy, logging, reward, options)
    report("estimators", 0, 0)
    found, left_out, settings = _estimates(log, policy, logging, reward, probability, missing, opinion, options)
    logged = single.ips(reward, log.propensity, log.propensity, np.zeros(len(reward)))
    everything = {"logged": logged, **found}
    resampled = bootstrap(everything, log.people, Stream(log.config.seed).child("offline", "bootstrap"))
    answers = {
        name: _answer(one, asymptotic(one, log.people), resampled[name], options.minimum_effective_size) for name, one in everything.items()
    }
    return Evaluation(
        run=path,
        policy=target_id,
        logging_policy=own_id,
        reward=options.reward,
        impressions=len(reward),
        pages=len(log.requests),
        people=int(log.people[-1]) + 1,
        logged=answers.pop("logged"),
        answers=answers,
        left_out=left_out,
        warnings=warnings,
        unsupported=share,
        reproduced=reproduced,
        monte_carlo_error=_monte_carlo_error(policy, probability, log.propensity, reward),
        settings=settings,
        places=log.shown.shape[1],
        reacts=build.decides_with_language_model(log.config),
    )


def rewards(log: LoggedPages, name: str) -> np.ndarray:
    """The reward of every logged impression, float64, shape (n,).

    Raises:
        ConfigError: the name is unknown, or the run has no ratings.
    """
    if name not in REWARDS:
        raise ConfigError(with_suggestion("reward", name, REWARDS))
    return reward_of(log.impressions, name, log.train.rating_scale).to_numpy()


def reward_of(impressions: pl.DataFrame, name: str, scale: tuple[float, float] | None) -> pl.Series:
    """The reward of every impression of a run.

    Raises:
        ConfigError: the run has no ratings.
    """
    if name == "chosen":
        return impressions["chosen"].cast(pl.Float64)
    if "rating" not in impressions.columns or scale is None:
        raise ConfigError(f"the reward '{name}' needs ratings, which the data of this run does not have; use --reward chosen.")
    if name == "rating":
        return impressions["rating"].fill_null(0.0)
    return liked(impressions, scale).cast(pl.Float64)


def _logging(log: LoggedPages, options: Options, report: Report) -> PolicyOnLog | None:
    own = recommenders_of_run(log)
    return None if own is None else policy_on_log(log, own, log.config.recommender.feed_config(), options.draws, report)


def _reproduced(logging: PolicyOnLog | None, log: LoggedPages, options: Options) -> float | None:
    """How far the run's own policy, asked again, is from the logged propensities; refuses where it is far."""
    if logging is None or logging.draws:
        return None
    difference = float(np.abs(logged_probabilities(logging, log) / log.propensity - 1.0).max())
    if difference > 1e-6 and not options.force:
        raise RunError(
            f"the policy of the run {log.run.path}, asked again, gives other probabilities than its log (by up to {difference:.1%}), "
            "though its data is the same: the recommender's code, its stored state or the log itself has changed since. Make the run "
            "anew, or use --force."
        )
    return difference


def _support(weights: np.ndarray, share: float, policy: str, options: Options) -> tuple[str, ...]:
    """Refuses, or warns about, a log that says too little about the target."""
    size = float(weights.sum()) ** 2 / max(float(weights @ weights), 1e-300)
    sentences = []
    if size < options.minimum_effective_size:
        sentences.append(
            f"the {len(weights):,} logged impressions are worth only {size:.1f} of {policy} (effective sample size, at least "
            f"{options.minimum_effective_size:g} is asked for): the policies are too far apart. Log more, or explore more."
        )
    if share > options.maximum_unsupported:
        sentences.append(
            f"{share:.0%} of what {policy} would show is never shown by the logging policy (at most "
            f"{options.maximum_unsupported:.0%} is allowed), so no weighting can tell what it earns. "
            "Log with a larger recommender.candidates, or with environments.recommenders.random:Random."
        )
    if sentences and not options.force:
        raise RunError(" ".join(sentences) + " To see the numbers anyway: --force.")
    if 0.01 < share <= options.maximum_unsupported:
        sentences.append(f"{share:.0%} of what {policy} would show is never shown by the logging policy; IPS counts it as earning nothing.")
    return tuple(sentences)


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What cross-fitted reward models say about every place, shape (n,) each.

    Attributes:
        logged: of the logged item. below_logged: mean over what the target would show in its place below the logged items.
        own_pages: mean over what stands there on pages that the target fills from the top.
    """

    logged: np.ndarray
    below_logged: np.ndarray
    own_pages: np.ndarray


def _models(log: LoggedPages, policy: PolicyOnLog, logging: PolicyOnLog | None, reward: np.ndarray, options: Options) -> _Opinion:
    """Fits the reward models and asks them."""
    features = _Features(log, policy, logging)
    logged = Rows(log.people, log.items, np.zeros((len(log.items), features.width)))
    for rows, place, pages in blocks(log):
        shown: np.ndarray = log.items[rows]
        logged.features[rows] = features.of(rows, place, pages, shown[:, None])
    model = RewardModel(options.reward_model, logged, reward, Stream(log.config.seed).child("offline", "reward model"))
    below, own = np.zeros(len(reward)), np.zeros(len(reward))
    for rows, place, pages in blocks(log):
        items, probabilities = policy.next_items(place, pages)
        filled = policy.own_pages(pages)[:, :, place]
        for result, what, weights in ((below, items, probabilities), (own, filled, (filled >= 0) / filled.shape[1])):
            line, column = np.nonzero(weights > 0)
            wide = features.of(rows, place, pages, what).reshape(*what.shape, features.width)[line, column]
            values = model.predict(Rows(log.people[rows[line]], what[line, column], wide))
            result[rows] = np.bincount(line, weights=values * weights[line, column], minlength=len(rows))
    return _Opinion(model.predict(logged), below, own)


class _Features:
    """What a reward model is told about an item at a place of a page."""

    width = 8

    def __init__(self, log: LoggedPages, policy: PolicyOnLog, logging: PolicyOnLog | None) -> None:
        self._log, self._policies = log, [policy, logging]
        ids = pl.DataFrame({"item": log.train.catalog.item_ids.astype(str)})
        items = ids.join(log.run.items, on="item", how="left", maintain_order="left")
        self._popularity = np.log1p(items["train_count"].cast(pl.Float64).fill_null(0.0).to_numpy())
        self._quality = items["train_mean_rating"].cast(pl.Float64).to_numpy()
        people = log.impressions.select("user").join(log.run.people, on="user", how="left", maintain_order="left")
        self._activity = np.log1p(people["interactions"].cast(pl.Float64).fill_null(0.0).to_numpy())
        self._own_mean = people["mean_rating"].cast(pl.Float64).to_numpy()
        self._page = log.impressions["page"].cast(pl.Float64).to_numpy()

    def of(self, rows: np.ndarray, place: int, pages: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Features of items, shape (len(rows) * c, width), for `items` of shape (len(rows), c); those of padding are arbitrary."""
        c = items.shape[1]
        scores = [np.full(items.size, np.nan) if policy is None else policy.scores(pages, items).ravel() for policy in self._policies]
        flat = np.maximum(items.ravel(), 0)
        own = [np.repeat(values[rows], c) for values in (self._activity, self._own_mean, self._page)]
        return columns([*scores, self._popularity[flat], self._quality[flat], *own, np.full(items.size, float(place))])


def _estimates(
    log: LoggedPages,
    policy: PolicyOnLog,
    logging: PolicyOnLog | None,
    reward: np.ndarray,
    pi: np.ndarray,
    missing: np.ndarray | None,
    opinion: _Opinion,
    options: Options,
) -> tuple[dict[str, OfflineEstimate], dict[str, str], dict[str, float | str]]:
    """Every estimator that applies, why others do not, and the settings that were chosen."""
    mu, left_out = log.propensity, {}
    predicted, expected = opinion.logged, opinion.below_logged
    limit = options.clip or float(np.sqrt(len(reward)))
    found: dict[str, OfflineEstimate] = {}
    if bool(((pi < 1e-12) | (pi > 1 - 1e-12)).all()):
        found["replay"] = single.replay(reward, pi, mu, missing)
    else:
        left_out["replay"] = "the policy is random, and replay is for deterministic ones"
    found["IPS"] = single.ips(reward, pi, mu, missing)
    found["clipped IPS"] = single.clipped_ips(reward, pi, mu, limit, missing)
    found["SNIPS"] = single.snips(reward, pi, mu, missing)
    found["DM"] = single.direct_method(expected, pi, mu, missing)
    found["DR"] = dr = single.doubly_robust(reward, pi, mu, predicted, expected, missing)
    found["SNDR"] = single.self_normalised_doubly_robust(reward, pi, mu, predicted, expected, missing)

    def switch(threshold: float) -> OfflineEstimate:
        return single.switch_doubly_robust(reward, pi, mu, predicted, expected, threshold, missing)

    def shrunk(strength: float) -> OfflineEstimate:
        return single.optimistic_shrinkage(reward, pi, mu, predicted, expected, strength, missing)

    threshold, strength = single.tuned(GRID, switch, dr), single.tuned(GRID, shrunk, dr)
    found["Switch-DR"], found["DRos"] = switch(threshold), shrunk(strength)
    own_marginal, logged_marginal = policy.marginals(), None if logging is None else logging.marginals()
    found["page DM"] = single.direct_method(opinion.own_pages, pi, mu, missing)
    if own_marginal is None or logged_marginal is None:
        reason = "a policy draws its ranking in a way that only it knows, or the run's recommenders are gone"
        left_out |= {"independent IPS": reason, "independent DR": reason}
    else:
        found["independent IPS"] = slates.independent_ips(reward, own_marginal, logged_marginal, missing)
        found["independent DR"] = slates.independent_doubly_robust(
            reward, own_marginal, logged_marginal, predicted, opinion.own_pages, missing
        )
    found["RIPS"] = slates.reward_interaction_ips(reward, pi, mu, log.page, missing)
    agreeing = slates.cumulative(pi / mu, log.page) > 0
    never = [place + 1 for place in range(log.shown.shape[1]) if not agreeing[log.place == place].any()]
    if never:
        left_out["nRIPS"] = f"no logged page is one that the policy could have filled down to place {never[0]}"
    else:
        found["nRIPS"] = slates.self_normalised_reward_interaction_ips(reward, pi, mu, log.page, missing)
    found["cascade-DR"] = slates.cascade_doubly_robust(reward, pi, mu, log.page, predicted, expected, missing)
    settings: dict[str, float | str] = {
        "clip": limit,
        "switch_threshold": threshold,
        "shrinkage": strength,
        "reward_model": options.reward_model,
        "reward_model_r2": _explained(reward, predicted),
    }
    return found, left_out, settings


def _explained(reward: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the reward's variance that the reward model explains for people it has not seen; below 0 it is worse than the mean."""
    variance = float(reward.var())
    return 1.0 - float(((reward - predicted) ** 2).mean()) / variance if variance > 0 else 0.0


def _answer(found: OfflineEstimate, normal: Interval, resampled: Interval, least: float) -> Answer:
    small = found.effective_sample_size < least
    return Answer(
        value=found.value,
        normal=normal,
        bootstrap=resampled,
        effective_sample_size=found.effective_sample_size,
        largest_weight=found.largest_weight,
        unsupported=found.unsupported,
        note=f"effective sample size below {least:g}: the interval is not to be trusted" if small else None,
    )


def _monte_carlo_error(policy: PolicyOnLog, pi: np.ndarray, mu: np.ndarray, reward: np.ndarray) -> float:
    """Standard error of the IPS value from estimated probabilities: binomial in each row, rows independent; 0 if they are exact."""
    if not policy.draws:
        return 0.0
    return float(np.sqrt(((reward / mu) ** 2 * pi * (1.0 - pi) / policy.draws).sum()) / len(pi))
