"""People whose decisions weigh the language model and behavioural evidence as real people's choices say they should."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from agents import addends, kept_ratings
from agents.addends import evidence_parts
from agents.behaviour import Behaviour
from agents.calibration import Calibration, weights_table
from agents.calibration_fit import activity, estimate, evidence_log_odds, expected_ratings, expected_stars, fit_said, gather, log_odds
from agents.choices import close, decide, unlike, unusable
from agents.cold_items import ColdItems
from agents.controls import closing_probabilities
from agents.decisions import LanguageModelConfig, LanguageModelDecisions, Reading
from agents.exposures import hide, items_by_user, people_split
from agents.hazard import fit_hazard
from agents.kept_weights import FILE, keep, kept, key_of, named
from agents.margins import over_catalog
from agents.moods import Moods, Visit
from agents.priors import Priors, VisitConfig, intercept_for, leaving_by_visits, visits_known
from agents.profiles import fit_profiles
from agents.prompts import PromptConfig
from agents.rated_results import Raters, onto_results
from agents.rating_model import FORESEEN, RatingModel
from agents.rhythm import SESSION_GAP
from agents.sampled_pages import Exposures, catalog_log_odds, recommended_exposures, sampled_exposures, true_exposures
from agents.satisfaction import Satisfaction, fit_satisfaction
from agents.staying import Staying
from agents.user_slopes import UserSlopes
from simulator.dataset import Dataset
from simulator.errors import ConfigError
from simulator.one_thread import one_thread
from simulator.protocols import DecisionContext
from simulator.records import Closing, Decision, Situation, UserProfile
from simulator.seeds import Stream

EXPOSED_FILE = "exposed.npy"
HIDDEN_SHARE = 0.25
MOST_PEOPLE = 1_000
"""The evidence's weights are fitted on at most so many people, and at most half of all."""

ANCHOR_PEOPLE, ANCHOR_POOL, ANCHOR_PAGE = 100, 300, 20
BALANCE_PEOPLE = 150
QUADRATURE = np.polynomial.hermite_e.hermegauss(7)
USUAL = (np.arange(32) + 0.5) / 32
"""Quantiles of the probabilities of choosing on a good recommender's pages that are kept, to tell what somebody usually chooses."""


class CalibratedConfig(VisitConfig):
    """Options of `CalibratedDecisions`.

    Attributes:
        language_model: whether the language model is asked; without it the evidence decides alone.
        weights: "fit" estimates them, a path reads those of an earlier run (its folder, or a calibration.json), and "auto" takes
            those that come with the model's adapter, or that were estimated before with the same seed, data, options, prompts, model and
            code (`agents.kept_weights`), else estimates and keeps them.
        people: the language model is asked about sampled pages of so many people, four pages each (of five items).
        hide: which interactions are hidden to learn from: "random" ones, the "latest" ones, or "auto": the latest where the data
            has times. It should be as the held-out part was chosen.
        among: what the hidden ones have to be told from: "sampled" items, random ones and ones of the same popularity, or
            "recommended" ones, the best of a linear item model. Weights from the first tell what somebody would ever choose, those from
            the second what is chosen from a recommender's pages, where everything is plausible.
        exposures: Parquet or CSV file of true impressions to fit on instead (`agents.sampled_pages.true_exposures`).
        activity_share: how much of the difference in activity between people shows in how often they choose what they see,
            rather than in how long and often they come, in [0, 1]: the share of the log of their activity that is added to the
            log-odds. A log without exposures cannot tell; with 0 the active, for whom less is left, choose less often than others.
        stars: whether the language model is also asked how many stars each item would get. The answer had no weight wherever it was
            estimated, and the question is a sixth of a page's tokens.
        moods: whether visits of one person differ as they do in the log (`agents.moods`), where it has times.
        whole_log: whether everything the log tells is used where a sample would do to order items: over all visits as much of each item
            is chosen as in the log (`agents.margins.over_visits`), and the ratings of one visit have something in common (`agents.moods`).
        foreseen: share of what is not predictable of somebody's ratings that they foresee when they pick, in [0, 1]: it says how much less
            than the log says items are liked that nobody picked (`agents.rating_selection`). No log shows it; random ratings do.
        random_ratings: Parquet or CSV file of ratings of items that people were given and did not pick (user, item, rating), from
            which that difference is read in place of the assumption.
        recentre, reference_pages, texts, texts_trial, least_texts_share, prompt: as in `agents.decisions.LanguageModelConfig`.
    """

    language_model: bool = True
    weights: str = "auto"
    people: int = Field(200, ge=1, le=10_000_000)
    hide: Literal["auto", "random", "latest"] = "auto"
    among: Literal["sampled", "recommended"] = "sampled"
    exposures: Path | None = None
    activity_share: float = Field(0.4, ge=0, le=1)
    stars: bool = False
    moods: bool = True
    whole_log: bool = False
    foreseen: float = Field(FORESEEN, ge=0, le=1)
    random_ratings: Path | None = None
    recentre: bool = True
    reference_pages: int = Field(32, ge=1, le=10_000)
    texts: bool = True
    texts_trial: int = Field(16, ge=1, le=1_000)
    least_texts_share: float = Field(0.5, ge=0, le=1)
    prompt: PromptConfig = PromptConfig()


class CalibratedDecisions:
    """A discrete-choice model over the language model's log-odds and behavioural evidence, estimated on the training part.

    Choosing: ``logit p = c + a_u + s_i + b_ui + w_e * e(u, i) + w_m * m(u, i) + v_i``, with e the log-odds of the evidence
    (`agents.behaviour`), m the language model's corrected log-odds, a_u the person's own level, b_ui what their own slope of popularity
    adds (`agents.user_slopes`), v_i the mood of the visit (`agents.moods`; 0 for a page outside of one), and s_i what sampling took from
    popular items: its correction by formula (`agents.sampled_pages.catalog_log_odds`), and what all levels of popularity still lack to
    be met as often as they are (`agents.margins.over_catalog`; s and b are 0 with recommended and with true exposures). Where nothing was
    truly shown, sampling decides the intercept, so c is set instead such that the mean probability on a good recommender's pages is
    `choose_rate`, and w for place and fatigue is 0: MovieLens and its like cannot tell them. With true exposures c, a_u, place and fatigue
    are estimated.

    Ratings: `agents.rating_model`, on the data's own values; what is picked keeps the level of the log. Leaving: a hazard of fatigue,
    satisfaction and the appeal of the page around the person's own expected pages (`agents.staying`); the language model's answer to that
    question would have nothing it could be weighed against and is not asked for. Satisfaction follows from what happened in the session
    (`agents.satisfaction`); the language model is not asked for it, since no data gives its answer weight, and writes the texts.

    Weights are fitted on people of whom no language model was tuned (`agents.exposures.people_split`).

    Raises:
        ConfigError: the language model is wanted and the experiment has none.
    """

    Config = CalibratedConfig

    def __init__(self, config: CalibratedConfig, *, context: DecisionContext) -> None:
        self.config = config
        self._context = context
        self._actions = context.actions
        self._priors = Priors(config, context.actions, (), context.max_pages)
        self._choose = next(action for action in context.actions if action.name == "choose")
        self._model: LanguageModelDecisions | None = None
        if config.language_model:
            if context.language_model is None:
                raise ConfigError(
                    "[decision] agents.calibrated:CalibratedDecisions needs a section [language_model], or language_model = false."
                )
            options = config.model_dump(include=set(LanguageModelConfig.model_fields) - {"strength"})
            # What nothing is made of is not asked.
            unused = {"leave"} if config.stars else {"leave", "rate"}
            options["prompt"]["unasked"] = sorted({*config.prompt.unasked, *unused})
            self._model = LanguageModelDecisions(LanguageModelConfig.model_validate(options), context=context)
            self.prompts = self._model.prompts
        self._calibration: Calibration | None = None
        self._behaviour: Behaviour | None = None
        self._raters: Raters | None = None
        self._moods: Moods | None = None
        self._slopes: UserSlopes | None = None
        self._satisfaction: Satisfaction | None = None
        self._cold: ColdItems | None = None
        self._sampled = np.zeros(0)
        self._exposed = np.zeros(0)
        self._key: dict[str, Any] = {}
        self._intercept = self._shift = 0.0
        self._asks = True
        self._usual_pages = np.full(1, logit(config.choose_rate))
        self._usual_activity = 0.0
        self._level_slope = 1.0

    @staticmethod
    def uses_language_model(options: Mapping[str, Any]) -> bool:
        """Whether a section [decision] with these options asks a language model."""
        return bool(options.get("language_model", True))

    @staticmethod
    def reads_memories(options: Mapping[str, Any]) -> bool:
        """Whether what people remember is told to a language model; the evidence knows histories, not memories."""
        return bool(options.get("language_model", True))

    @property
    def assumptions(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`."""
        selection = self._raters.model.selection if self._raters is not None else None
        glad = self._satisfaction.assumptions if self._satisfaction is not None else ()
        texts = self._model.assumptions if self._model is not None else ()
        told = [] if selection is None or not round(selection.gap, 2) else [selection.sentence()]
        return (*self.config.assumptions(), *glad, *told, *texts)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `simulator.protocols.Candid`."""
        return tuple(self.calibration.report.get("warnings", ()))

    @property
    def figures(self) -> dict[str, float]:
        """What was measured of the language model before the run, for its summary."""
        if self._model is None:
            return {}
        choice = self.calibration.report.get("choice", {})
        test, lift = choice.get("likelihood_ratio") or {}, choice.get("lift") or {}
        return self._model.figures | {f"model_{name}": value for name, value in lift.items()} | ({"model_p": test["p"]} if test else {})

    @property
    def calibration(self) -> Calibration:
        """The estimated weights, with a report."""
        assert self._calibration is not None, "fit or load comes first"
        return self._calibration

    # --- fitting ---

    @one_thread()
    def fit(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> None:
        """Finds or estimates the weights; then computes the evidence from the whole training part."""
        visits_known(profiles, self.config.stay)
        self._priors = Priors(self.config, self._actions, profiles, self._context.max_pages)
        prompts = self._model.prompts if self._model is not None else None
        self._key = key_of(self.config, self._context, train, profiles, rng, prompts)
        stored = self._stored()
        if self._model is not None:
            # Answers are corrected as they were when their weight was estimated.
            if stored is not None and stored.reference:
                self._model.adopt(profiles, stored.reference)
                self._model.try_texts(train, profiles, rng.child("language model"))
            else:
                self._model.measure(train, profiles, rng.child("language model"))
        self._calibration = stored or self._estimated(train, profiles, rng)
        behaviour = self._behaviour_of(train)
        if behaviour.related.names != self._calibration.design.related:
            raise ConfigError(
                f"[decision] weights = '{self.config.weights}': these were fitted to scores of other kinds than data set '{train.name}' "
                "allows (it has times, words or genres that the other has not, or lacks them); write 'fit'."
            )
        self._knows(behaviour)
        self._cold = ColdItems.fit(train, rng.child("cold items"))
        if self._rates and train.has_ratings:
            anew, random = self.config.weights == "fit", self.config.random_ratings
            self._rate_by(kept_ratings.fitted(train, foreseen=self.config.foreseen, random=random, anew=anew))
        if self._from_a_sample:
            self._exposed = self._over_catalog(train, rng.child("levels").generator())
        if self.config.moods:
            # Whose interactions are hidden at random is judged by the rest of the same visits.
            same = self.config.whole_log and self._order(train) == "random"
            self._moods = Moods.fit(train, behaviour, SESSION_GAP, whole=self.config.whole_log, centred=same)
        self._usual_activity = float(np.median([activity(profile.history) for profile in profiles]))
        if self._from_a_sample:
            self._slopes = UserSlopes.fit(train, self._before_slopes, rng.child("slopes"), self._context.seed)
        split = people_split(train)
        self._satisfaction = fit_satisfaction(train, np.concatenate([split.fit, split.validation]))
        self.calibration.report["satisfaction"] = dict(self._satisfaction.report)
        self._intercept = self._anchored(profiles, rng.child("anchor").generator())

    def _stored(self) -> Calibration | None:
        if self.config.weights == "fit":
            return None
        return kept(self._key) if self.config.weights == "auto" else named(self.config.weights, with_model=self._model is not None)

    def _estimated(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> Calibration:
        exposures, behaviour, observed = self._exposures(train, profiles, rng)
        ask = self._model.read if self._model is not None else None
        rows = gather(exposures, behaviour, self._actions, ask, rng.child("pages"))
        found = estimate(
            rows,
            true=self.config.exposures is not None,
            with_model=ask is not None,
            ids={one.profile.user: one.profile.user_id for one in exposures},
        )
        if self.config.stars and self._rates and ask is not None and observed.has_ratings:
            found.rating_said, found.report["rating"] = fit_said(rows, expected_ratings(observed, exposures))
        found.reference = self._model.reference if self._model is not None else {}
        split = people_split(train)
        found.leaving = fit_hazard(train, np.concatenate([split.validation, split.fit]))
        if found.leaving is not None:
            found.report["leaving"] = {"rows": found.leaving.n, "weights": weights_table(found.leaving)}
            if found.leaving.trouble:
                found.report["warnings"].append(f"leaving of calibrated people: {found.leaving.trouble}.")
        found.report["fitted_on"] = {"data": train.name, "people": len(exposures), "asked": sum(bool(one.pages) for one in exposures)}
        if self.config.weights == "auto":
            keep(found, self._key)
        return found

    def _exposures(self, train: Dataset, profiles: Sequence[UserProfile], rng: Stream) -> tuple[list[Exposures], Behaviour, Dataset]:
        asked_count = self.config.people if self._model is not None else 0
        if self.config.exposures is not None:
            return true_exposures(self.config.exposures, train, profiles, asked_count), self._behaviour_of(train), train
        split = people_split(train)
        most = min(MOST_PEOPLE, (len(split.fit) + len(split.validation) + len(split.held_out)) // 2)
        # The language model may have been tuned on the others, so that it is asked about validation people only.
        ours = rng.child("validation").generator().permutation(split.validation)
        others = rng.child("others").generator().permutation(split.fit)[: max(0, most - len(ours))]
        people = np.sort(np.concatenate([ours, others]))
        parts = hide(train, people, HIDDEN_SHARE, self._order(train), rng.child("hide"))
        observed = parts.observed
        known_by = {profile.user: profile for profile in fit_profiles(observed)}
        asked = set(ours[:asked_count].tolist())
        behaviour = self._behaviour_of(observed)
        if self.config.among == "recommended":
            streams, size = rng.child("exposures"), self._context.page_size
            return recommended_exposures(parts.hidden, known_by, behaviour.linear, train.n_items, size, streams, asked), behaviour, observed
        popularity = np.bincount(observed.interactions["item"].to_numpy(), minlength=train.n_items)
        exposures = sampled_exposures(
            parts.hidden,
            known_by,
            items_by_user(train.interactions, train.n_users),
            popularity,
            self._context.page_size,
            rng.child("exposures"),
            asked,
        )
        return exposures, behaviour, observed

    def _order(self, train: Dataset) -> Literal["random", "temporal"]:
        """Which interactions are hidden to learn from."""
        return "temporal" if self.config.hide == "latest" or (self.config.hide == "auto" and train.has_times) else "random"

    def _behaviour_of(self, train: Dataset) -> Behaviour:
        """The evidence; a user's time is that of the newest interaction where what comes next is asked, and not what is missing."""
        return Behaviour.fit(train, newest=train.has_times and self._order(train) == "temporal")

    def _anchored(self, profiles: Sequence[UserProfile], generator: np.random.Generator) -> float:
        """The intercept at which the mean probability of choosing on a good recommender's pages is `choose_rate`.

        A person's pages are stood for by the `ANCHOR_PAGE` best of `ANCHOR_POOL` unseen items, drawn in proportion to popularity. What
        the language model would say there is a normal variable around its mean at the same evidence.
        """
        calibration, behaviour = self.calibration, self._behaviour
        assert behaviour is not None
        draw = np.exp(behaviour.popularity)
        best, own, levels, of_items = [], [], [], self._sampled + self._exposed
        for number in generator.permutation(len(profiles))[:ANCHOR_PEOPLE].tolist():
            profile = profiles[number]
            weights = draw.copy()
            weights[profile.history] = 0.0
            size = min(ANCHOR_POOL, int((weights > 0).sum()))
            if size == 0:
                continue
            pool = np.sort(generator.choice(len(weights), size=size, replace=False, p=weights / weights.sum()))
            evidence = self._evidence(profile, profile.history, pool)
            tilt = self._own_slope(profile, pool)
            order = np.argsort(evidence + of_items[pool] + tilt, kind="stable")[-ANCHOR_PAGE:]
            best.append(evidence[order])
            own.append(of_items[pool[order]] + tilt[order])
            levels.append(np.full(len(order), self._own_level(profile)))
        if not best:
            return float(logit(self.config.choose_rate) if calibration.sampled_share is not None else calibration.choice.weights[0])
        evidence = np.concatenate(best)[:, None]
        level, slope, spread = calibration.background
        said = level + slope * evidence + spread * QUADRATURE[0] if self._model is not None else None
        index = self._weighted(evidence, said, np.ones_like(evidence), 0.0) + np.concatenate(own)[:, None]
        index = np.broadcast_to(index, (len(index), len(QUADRATURE[0])))
        shares = QUADRATURE[1] / QUADRATURE[1].sum()
        level = float(calibration.choice.weights[0])
        if calibration.sampled_share is not None:
            level = intercept_for(index + np.concatenate(levels)[:, None], self.config.choose_rate, shares)
        chances = np.sort(expit(index + level) @ shares).clip(1e-9, 1.0 - 1e-9)
        self._usual_pages = logit(np.quantile(chances, USUAL))
        return level

    # --- deciding ---

    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """See `simulator.protocols.DecisionModel.decide`. One scored prompt per page, if the language model is asked."""
        return [self._decision(situation, reading) for situation, reading in zip(situations, self._readings(situations), strict=True)]

    def explained(self, situations: Sequence[Situation]) -> list[tuple[Decision, dict[str, np.ndarray]]]:
        """Decisions, each with the parts that the log-odds of choosing are the sum of (`agents.addends`), shape (n_impressions,) each."""
        pairs = list(zip(situations, self._readings(situations), strict=True))
        return [(self._decision(situation, reading), self._parts(situation, reading)) for situation, reading in pairs]

    def _readings(self, situations: Sequence[Situation]) -> Sequence[Reading | None]:
        return self._model.read(situations) if self._model is not None and self._asks else [None] * len(situations)

    def _parts(self, situation: Situation, reading: Reading | None) -> dict[str, np.ndarray]:
        """What `_decision` adds up, term by term; nothing where the language model's answer could not be used."""
        if reading is not None and reading.status != "ok":
            return {}
        assert self._behaviour is not None
        profile, state, items = situation.profile, situation.state, situation.page.items
        features = self._behaviour.features(profile, state.history, items)
        parts = evidence_parts(self.calibration, features, state.history)
        nothing, visit = np.zeros(len(items)), self._visit(situation)
        place = np.array([impression.position for impression in situation.page.impressions], dtype=np.float64)
        evidence = self._told(features, profile, state.history, items)
        said = self._stand_in(situation, evidence) if reading is None else log_odds(self._choose, reading.logprobs["choose"])
        parts[addends.LEVEL] = parts[addends.LEVEL] + self._intercept + self._shift
        parts[addends.OWN_LEVEL] = nothing + self._own_level(profile)
        top, plain = np.ones(len(items)), self._from(features, state.history)
        parts[addends.COLD] = self._weighted(evidence, None, top, 0.0) - self._weighted(plain, None, top, 0.0)
        parts[addends.OWN_SLOPE] = self._own_slope(profile, items)
        parts[addends.SAMPLING] = self._sampled[items]
        parts[addends.SITE] = self._exposed[items]
        parts[addends.MOOD] = self._moods.log_odds(items, visit) if self._moods is not None and visit is not None else nothing
        parts[addends.PLACE] = self._weighted(nothing, None, place, 0.0)
        parts[addends.FATIGUE] = self._weighted(nothing, None, top, state.fatigue)
        parts[addends.SAID] = nothing if said is None else self._weighted(nothing, said, top, 0.0)
        return parts

    def close_sessions(self, situations: Sequence[Situation]) -> list[Closing]:
        """See `simulator.protocols.DecisionModel.close_sessions`."""
        assert self._satisfaction is not None
        closings = []
        for situation in situations:
            usual = self._usual_share(situation.profile)
            found = closing_probabilities(self._actions, self._priors, self._satisfaction, situation, usual)
            closings.append(close(self._actions, situation, found))
        return closings if self._model is None or not self._asks else self._model.written(closings, situations)

    def preferences(self, profile: UserProfile, items: np.ndarray) -> np.ndarray:
        """Log-odds, up to a constant of the person, of choosing each item by the evidence alone, before a session; shape (len(items),).

        No page is made, no language model is asked and nothing is drawn: it is what the evidence alone would recommend of the catalog.
        """
        assert self._behaviour is not None
        features = self._behaviour.features(profile, profile.history, items)
        index = self._unasked(self._told(features, profile, profile.history, items)) + self._sampled[items] + self._exposed[items]
        return np.asarray(index + self._own_slope(profile, items))

    def preferences_drawn(self, profile: UserProfile, items: np.ndarray, stream: Stream, draws: int) -> np.ndarray:
        """`preferences` as they are, and then with slopes of popularity drawn anew from the user's posterior (`agents.user_slopes`).

        Args:
            profile: of the user. items: item codes. stream: draws by the user's id. draws: how many in all, >= 1.

        Returns:
            Shape (draws, len(items)), each row up to a constant of its own.
        """
        rows = np.tile(self.preferences(profile, items), (draws, 1))
        if self._slopes is not None and draws > 1:
            rows[1:] += self._slopes.drawn_again(profile, items, self._before_slopes, stream, draws - 1)
        return rows

    def _before_slopes(self, profile: UserProfile, items: np.ndarray) -> np.ndarray:
        """The preferences that slopes are fitted to, where what is written about new items changes nothing."""
        return np.asarray(self._unasked(self._evidence(profile, profile.history, items)) + self._sampled[items] + self._exposed[items])

    def _own_slope(self, profile: UserProfile, items: np.ndarray) -> np.ndarray:
        return np.zeros(len(items)) if self._slopes is None else self._slopes.log_odds(profile, items, self._before_slopes)

    def tastes(self, profile: UserProfile, items: np.ndarray) -> np.ndarray:
        """The taste alone, which tells items of the same popularity apart: log-odds up to a constant of all, shape (len(items),)."""
        assert self._behaviour is not None
        return self.calibration.design.tastes(self._behaviour.features(profile, profile.history, items))

    def save(self, folder: Path) -> None:
        """Writes the weights (``calibration.json``), the evidence, and what the language model's own preferences are."""
        assert self._behaviour is not None
        self.calibration.save(folder / FILE, self._key)
        self._behaviour.save(folder)
        if self._raters is not None:
            kept_ratings.save(self._raters.model, folder / kept_ratings.FILE)
        if self._moods is not None:
            self._moods.save(folder)
        if self._slopes is not None:
            self._slopes.save(folder)
        assert self._satisfaction is not None
        self._satisfaction.save(folder)
        if self._cold is not None:
            self._cold.save(folder)
        np.save(folder / EXPOSED_FILE, self._exposed)
        document = {
            "typical_items": self._priors.typical_items,
            "intercept": self._intercept,
            "usual_activity": self._usual_activity,
            "usual_pages": self._usual_pages.tolist(),
        }
        (folder / "calibrated_decisions.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if self._model is not None:
            self._model.save(folder)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""
        self._calibration, self._key = Calibration.load(folder / FILE)
        self._knows(Behaviour.load(folder))
        if self._rates and (folder / kept_ratings.FILE).is_file():
            self._rate_by(kept_ratings.load(folder / kept_ratings.FILE))
        if (folder / EXPOSED_FILE).is_file():  # runs of before had none
            self._exposed = np.load(folder / EXPOSED_FILE)
        self._moods = Moods.load(folder) if self.config.moods else None
        self._slopes = UserSlopes.load(folder, self._context.seed)
        self._satisfaction = Satisfaction.load(folder, len(self._context.catalog))
        self._cold = ColdItems.load(folder)
        document = json.loads((folder / "calibrated_decisions.json").read_text(encoding="utf-8"))
        self._priors.typical_items = document["typical_items"]
        self._intercept, self._usual_activity = document["intercept"], document["usual_activity"]
        self._usual_pages = np.array(document.get("usual_pages", [logit(self.config.choose_rate)]))  # runs of before had none
        if self._model is not None:
            self._model.load(folder)

    def _decision(self, situation: Situation, reading: Reading | None) -> Decision:
        if reading is not None and reading.status != "ok":
            unused = unusable(self._actions, situation, self._priors.page(situation), reading.status, reading.reply)
            return replace(unused, thought=reading.thought, thought_status=reading.thought_status)
        assert self._behaviour is not None
        profile, state, items = situation.profile, situation.state, situation.page.items
        features = self._behaviour.features(profile, state.history, items)
        evidence = self._told(features, profile, state.history, items)
        said = self._stand_in(situation, evidence) if reading is None else log_odds(self._choose, reading.logprobs["choose"])
        place = np.array([impression.position for impression in situation.page.impressions], dtype=np.float64)
        index = self._weighted(evidence, said, place, state.fatigue)
        index = index + self._own_level(profile) + self._own_slope(profile, items) + self._intercept + self._shift
        index = index + self._sampled[items] + self._exposed[items]
        visit = self._visit(situation)
        if self._moods is not None and visit is not None:
            index = index + self._moods.log_odds(items, visit)
        decision = self._drawn(situation, index, reading, visit)
        if reading is None or said is None:
            return decision
        without = self._drawn(situation, index - self._weight_of_model * (said - self._usually_said(evidence)), None, visit)
        return replace(
            decision,
            memories_told=self.prompts.told(situation.memories),
            thought=reading.thought,
            thought_status=reading.thought_status,
            unlike_without_model=unlike(decision, without),
        )

    def _drawn(self, situation: Situation, index: np.ndarray, reading: Reading | None, visit: Visit | None) -> Decision:
        """What is done on a page where choosing has the log-odds `index`, shape (n_items,)."""
        profile = situation.profile
        found = self._priors.page(situation)
        positive = expit(index)
        found["choose"] = np.column_stack([positive if value else 1.0 - positive for value in self._choose.values])
        rated = self._raters is not None and profile.ratings is not None
        if rated:
            found["rate"] = self._ratings(situation, positive, reading, visit)
        leave = next(action for action in self._actions if action.name == "leave")
        if self.config.stay == "visits":
            leaving = leaving_by_visits(leave, situation, positive)
        else:
            leaving = self._staying(profile).leaving(leave, situation)
        return decide(self._actions, situation, found, leaving, graded=("rate",) if rated else ())

    @property
    def _weight_of_model(self) -> float:
        choice = self.calibration.choice
        return float(sum(weight for name, weight in zip(choice.names, choice.weights, strict=True) if name == "language model"))

    def _usually_said(self, evidence: np.ndarray) -> np.ndarray:
        """What the language model says on average of items with this evidence."""
        level, slope, _ = self.calibration.background
        return np.asarray(level + slope * evidence)

    def _visit(self, situation: Situation) -> Visit | None:
        """The visit that a page belongs to, where visits have moods; None outside of any."""
        if self._moods is None or situation.visit is None:
            return None
        profile, known = situation.profile, situation.profile.rhythm.visits
        own = Stream(self._context.seed).child("visits", profile.user_id)
        sizes = np.ones(1) if known is None else np.concatenate([known.first.values, known.later.values]).astype(np.float64)
        return Visit(situation.visit, own, situation.state.session, sizes / sizes.sum())

    def _knows(self, behaviour: Behaviour) -> None:
        """Takes the evidence, and what the sampling of non-choices took from popular items."""
        self._behaviour = behaviour
        taken = catalog_log_odds(behaviour.popularity) if self._from_a_sample else np.zeros(len(behaviour.popularity))
        self._sampled = self.calibration.slope * taken
        self._exposed = np.zeros(len(behaviour.popularity))

    @property
    def _from_a_sample(self) -> bool:
        """Whether what is chosen was told apart from a sample of the catalog."""
        return self.calibration.sampled_share is not None and self.config.among == "sampled"

    def _over_catalog(self, train: Dataset, generator: np.random.Generator) -> np.ndarray:
        """What the log-odds of items lack for people to meet as much of each popularity as they did (`agents.margins.over_catalog`)."""
        split = people_split(train)
        some = set(generator.permutation(np.concatenate([split.fit, split.validation]))[:BALANCE_PEOPLE].tolist())
        people = [profile for profile in fit_profiles(train) if profile.user in some and len(profile.history)]
        assert self._behaviour is not None
        if not people:
            return np.zeros(train.n_items)
        items = np.arange(train.n_items)
        evidence = np.stack([self._evidence(profile, profile.history, items) for profile in people])
        index = self._unasked(evidence) + self._sampled
        met = np.stack([np.isin(items, profile.history) for profile in people])
        return over_catalog(index, met, self._behaviour.popularity)

    def _evidence(self, profile: UserProfile, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        assert self._behaviour is not None
        return self._from(self._behaviour.features(profile, history, items), history)

    def _told(self, features: np.ndarray, profile: UserProfile, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Log-odds of the evidence, that of items without interactions by their texts (`agents.cold_items`)."""
        evidence = self._from(features, history)
        return evidence if self._cold is None else self._cold.instead(evidence, self.calibration, features, profile.user, history, items)

    def _from(self, features: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Log-odds of the evidence, as in the sample that it was fitted on."""
        return evidence_log_odds(self.calibration, features, history)

    def _weighted(self, evidence: np.ndarray, said: np.ndarray | None, place: np.ndarray, fatigue: float) -> np.ndarray:
        choice = self.calibration.choice
        columns = {"evidence": evidence, "log place": np.log(place), "fatigue": np.full_like(evidence, fatigue)}
        if said is not None:
            columns["language model"] = said
        index = np.zeros_like(evidence)
        for name, weight in zip(choice.names[1:], choice.weights[1:].tolist(), strict=True):
            if name in columns:
                index = index + weight * columns[name]
        return self.calibration.slope * index

    def _unasked(self, evidence: np.ndarray) -> np.ndarray:
        """Log-odds where no page is made: what the language model would say is stood for by its mean at the same evidence."""
        said = self._usually_said(evidence) if self._model is not None else None
        return self._weighted(evidence, said, np.ones_like(evidence), 0.0)

    def _stand_in(self, situation: Situation, evidence: np.ndarray) -> np.ndarray | None:
        """What a language model that is not asked could say of a page; None without one."""
        level, slope, spread = self.calibration.background
        drawn = situation.stream.child("not asked").generator().standard_normal(len(evidence))
        return None if self._model is None else level + slope * evidence + spread * drawn

    @property
    def asked_share(self) -> float | None:
        """See `simulator.protocols.Anchorable`; true exposures tell it, and then `choose_rate` is not used."""
        return None if self.calibration.sampled_share is None else self.config.choose_rate

    def rehearsing(self) -> CalibratedDecisions:
        """See `simulator.protocols.Anchorable`."""
        found = copy(self)
        found._asks = False
        return found

    def own_level(self, profile: UserProfile) -> float:
        """See `simulator.protocols.Anchorable`."""
        return self._own_level(profile)

    def anchor(self, shift: float, usual: np.ndarray, level_slope: float = 1.0) -> None:
        """See `simulator.protocols.Anchorable`."""
        self._shift, self._usual_pages, self._level_slope = shift, usual, level_slope

    def _own_level(self, profile: UserProfile) -> float:
        known = self.calibration.people_effects.get(profile.user_id, 0.0)
        return known + self.config.activity_share * (activity(profile.history) - self._usual_activity)

    @property
    def _rates(self) -> bool:
        return any(action.name == "rate" for action in self._actions)

    def _rate_by(self, model: RatingModel) -> None:
        """Takes a rating model, and says in the report what was found."""
        rate = next(action for action in self._actions if action.name == "rate")
        self._raters = Raters(model, Stream(self._context.seed).child("own levels"), onto_results(model.own, rate))
        self.calibration.report["ratings"] = model.report

    @property
    def raters(self) -> Raters | None:
        """How people rate, or None without ratings."""
        return self._raters

    def expected_ratings(self, profile: UserProfile, items: np.ndarray, *, assigned: bool = False) -> np.ndarray:
        """What somebody is expected to give some items, the data's units, shape (len(items),).

        Args:
            profile: of somebody with ratings. items: item codes. assigned: whether they have to rate them, instead of having picked them.
        """
        assert self._raters is not None
        return self._raters.expected(profile, items, self._usual_pick(profile) if assigned else None)

    def _usual_pick(self, profile: UserProfile) -> float:
        """The probability with which somebody usually picked what they pick, on a good recommender's pages."""
        chances = self._usual_chances(profile)
        return float(np.square(chances).sum() / chances.sum())

    def _ratings(self, situation: Situation, picked: np.ndarray, reading: Reading | None, visit: Visit | None) -> np.ndarray:
        """Probabilities of the results of rating, if the items are picked, which happens with probability `picked`."""
        assert self._raters is not None
        profile, model = situation.profile, self._raters.model
        moved = model.selection.picked(picked, self._usual_pick(profile))
        if reading is not None and "rate" in reading.logprobs:
            shift, weight = self.calibration.rating_said
            moved = moved + shift + weight * expected_stars(reading.logprobs["rate"])
        glad, share = self._moods.gladness(visit) if self._moods is not None and visit is not None else (0.0, 0.0)
        return self._raters.probabilities(profile, situation.page.items, moved + glad * model.shape.spread, share)

    def _usual_share(self, profile: UserProfile) -> float:
        """Share of the items that a user usually chooses on a good recommender's pages."""
        return float(self._usual_chances(profile).mean())

    def _usual_chances(self, profile: UserProfile) -> np.ndarray:
        """Quantiles of the probability with which a user chooses what a good recommender shows, as far as their own level tells."""
        return np.asarray(expit(self._usual_pages + self._level_slope * self._own_level(profile)))

    def _staying(self, profile: UserProfile) -> Staying:
        """How a person leaves pages."""
        leaving = self.calibration.leaving
        _, tired, glad = leaving.weights.tolist() if leaving is not None else (0.0, 0.0, 0.0)
        return Staying(
            self._priors.expected_pages(profile),
            self._context.max_pages,
            self._context.page_size,
            self._usual_share(profile),
            profile.rhythm.items_per_session,
            self.config.leave_response,
            tired,
            glad,
            profile.pickiness.value if profile.pickiness is not None else None,
        )
