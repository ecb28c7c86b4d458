"""What passes between the parts during one page turn: frozen data, no logic.

    Slate ──expose──> Page ──perceive──> Situation ──decide──> Decision ──apply──> what the log keeps

Items and people are integer codes (see `simulator.dataset`). Times are whole seconds since 1970 UTC, simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from simulator.seeds import Stream

Level = Literal["low", "medium", "high"]

# --- where they are -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slate:
    """What a recommender returns for one person, best first.

    Attributes:
        items: item codes, int32, shape (n,), no duplicates.
        scores: float64, shape (n,), non-increasing, the recommender's own unit.
        propensities: probability with which the recommender put this item at this place given the items before it,
            float64 in (0, 1], shape (n,); None if the ranking is deterministic, which means 1 everywhere.
    """

    items: np.ndarray
    scores: np.ndarray
    propensities: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What an intervention does to one shown item (`environments.interventions`).

    Attributes:
        intervention: its name in the experiment file.
        kind: what it is, which decides how it is put into words.
        treated: True for the treatment, False for what the control group has instead.
        text: what stands beside the item for those who read; empty if nothing does.
        response: what is assumed to be added to the log-odds of choosing the item, natural log; 0 where the text is read instead.
    """

    intervention: str
    kind: Literal["advert", "price", "explanation"]
    treated: bool
    text: str
    response: float


@dataclass(frozen=True, slots=True)
class Impression:
    """One shown item.

    Attributes:
        position: place on the page, from 1.
        item: item code.
        score: the recommender's score; NaN where there is none.
        propensity: probability in (0, 1] that this item was shown at this place, given the person, the frozen
            recommender and the items above it on the page; NaN where it is not known, as with somebody else's pages.
        notes: of the interventions that aim at this item now; empty in an experiment without any.
    """

    position: int
    item: int
    score: float
    propensity: float
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The impressions a person sees at once.

    Attributes:
        number: page of the session, from 1.
        policy: id of the policy that filled the page (recommender, its configuration and the exposure rule).
        impressions: in order of position; never empty.
    """

    number: int
    policy: str
    impressions: tuple[Impression, ...]

    @property
    def items(self) -> np.ndarray:
        """Item codes in order of position, int32, shape (n,)."""
        return np.array([impression.item for impression in self.impressions], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Somebody wants the next page.

    Attributes:
        user: user code.
        number: which page of the session, from 1.
        history: item codes the person interacted with (training data, earlier rounds, this session), oldest first.
        shown: item codes already shown to this person in this session.
        stream: randomness of this page turn for the side of the recommender.
    """

    user: int
    number: int
    history: np.ndarray
    shown: np.ndarray
    stream: Stream


# --- who they are ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trait:
    """One measured property of a person.

    Attributes:
        value: in the unit of the trait's formula.
        percentile: share of the real population with a lower value, midpoint for ties, in [0, 1].
        level: "low", "medium" or "high" third of the population.
    """

    value: float
    percentile: float
    level: Level


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """Values with weights.

    Attributes:
        values: whole numbers >= 1, int64, shape (n,). weights: > 0, float64, shape (n,).
    """

    values: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class VisitPool:
    """Visits of everybody, from which those of one person are completed.

    Attributes:
        first, later: interactions in the first and in the other visits, of all people.
        gaps: seconds between two visits, ascending.
        gap_shares: their distribution function, each person weighing the same, shape of `gaps`.
        strength, gap_strength: how many own observations the pool is worth, > 0.
        pace_between_visits, pace_between_pages: standard deviations of the log seconds per item: of one person's visits, one visit's pages.
        pace_slope: change of the log seconds per item with the log of a visit's length; below 0, long visits are quicker.
    """

    first: Weighted
    later: Weighted
    gaps: np.ndarray
    gap_shares: np.ndarray
    strength: float
    gap_strength: float
    pace_between_visits: float
    pace_between_pages: float
    pace_slope: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """The visits of one person (`agents.visits`).

    Attributes:
        start: time of the first training interaction, seconds since 1970 UTC.
        first, later: own lengths in interactions. gaps: own seconds between visits, float64.
        returns: parameters of the beta distribution of the chance to come back after a visit.
        pace: natural log of the usual seconds per item of a visit of one item (see `VisitPool.pace_slope`).
        pool: of everybody.
    """

    start: int
    first: Weighted
    later: Weighted
    gaps: np.ndarray
    returns: tuple[float, float]
    pace: float
    pool: VisitPool


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a person comes and how long they stay, from the time gaps of their training history.

    Attributes:
        sessions_per_week: mean number of sessions per week while active, > 0.
        gap_log_mean, gap_log_sd: mean and standard deviation of the natural log of the seconds between the end of a
            session and the start of the next.
        items_per_session: mean number of interactions in a session, >= 1.
        seconds_per_item: median seconds between two interactions within a session, > 0.
        hours: probability of starting a session in each hour of the day (UTC), 24 numbers that sum to 1.
        source: "own" if fitted mostly on this person's gaps, "population" if shrunk there, "default" if the data has no times.
        visits: the sittings themselves, for people who come and stay as in the data; None if the data has no times.
        gap_factor: what gaps are multiplied by, > 0, for people to come as often, compared with others, as until the end of the log,
            and not only while they were active.
    """

    sessions_per_week: float
    gap_log_mean: float
    gap_log_sd: float
    items_per_session: float
    seconds_per_item: float
    hours: tuple[float, ...]
    source: Literal["own", "population", "default"]
    visits: Visits | None = field(default=None, compare=False, repr=False)
    gap_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A person, as far as their training history tells.

    Attributes:
        user: user code; codes from `Dataset.n_users` on belong to synthetic people.
        user_id: the data set's own id, or "synthetic-0000" and so on.
        synthetic: True if drawn from the fitted distribution instead of read from the data.
        history: item codes of the training interactions, oldest first (int32); for a synthetic person, a plausible one.
        ratings: ratings of `history` in the data's units (float32), or None where the data has no ratings.
        liked, disliked: item codes that show the taste best, strongest first.
        genres: genre -> lift: share of the genre in the person's history over its share in the population's; strongest first.
        activity, conformity, diversity: traits.
        pickiness: own mean rating as a trait ("high" is picky, that is a low mean), or None without ratings.
        rating_histogram: probability of 1..5 stars, shrunk towards the population (5 numbers), or None without ratings.
        rhythm: when the person comes.
        age: years or None; gender, occupation: a word or None.
        taste: one paragraph written once, or None. taste_status: as `Closing.reason_status`.
    """

    user: int
    user_id: str
    synthetic: bool
    history: np.ndarray
    ratings: np.ndarray | None
    liked: tuple[int, ...]
    disliked: tuple[int, ...]
    genres: Mapping[str, float]
    activity: Trait
    conformity: Trait | None
    diversity: Trait
    pickiness: Trait | None
    rating_histogram: tuple[float, ...] | None
    rhythm: Rhythm
    age: int | None = None
    gender: str | None = None
    occupation: str | None = None
    taste: str | None = None
    taste_status: str = ""


MemoryKind = Literal["seen", "chosen", "rated", "feeling", "insight"]


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """One thing a person remembers.

    Attributes:
        record: number of this record for this person, counting from 0 over the whole run.
        kind: "seen", "chosen" and "rated" are factual, "feeling" is emotional (satisfaction, fatigue), "insight" a reflection.
        round, session: when it was made (session counts per person over the run, from 0); time: simulated seconds.
        text: one short sentence in the first person.
        item: the item code it is about, or -1.
        importance: in [0, 1].
        references: numbers of the records an insight rests on.
        recalls: how often it was recalled; last_recall: when last, simulated seconds (its own time if never).
        forgotten: simulated time at which it was dropped, or None while it is held.
    """

    record: int
    kind: MemoryKind
    round: int
    session: int
    time: int
    text: str
    item: int = -1
    importance: float = 0.0
    references: tuple[int, ...] = ()
    recalls: int = 0
    last_recall: int = 0
    forgotten: int | None = None


# --- what they do ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """Something a person can do, declared as data (the list is `agents.actions`).

    The prompt's question, the probe, the reply schema of backends without probabilities, and the log's columns are
    all derived from this declaration.

    Attributes:
        name: key in `Decision.outcomes`.
        scope: "item" asks at each item, "page" once at the end of the page, "session" once after the last page.
        labels: the answers, as the language model would write them.
        values: the logged value of each label: True/False for a binary action, numbers for an ordinal one.
        column: name of the log column of the value. A binary action also logs the probability of True in
            ``<column>_probability``, an ordinal one its expected value in ``<column>_expected``.
        question: text before the probe; may use {item}, {items}, {choose}, {chosen} of the domain.
        only_if: name of a binary action of the same item that must be True for this one to happen, or None.
        needs_ratings: True if the action makes sense only for data with ratings.
        meaning: one sentence for the documentation of the table.
        grades: what can come out, ascending, where the data has other values than those of the labels (halves, 1 to 10); else empty.
        within: where a grade stands for many values of a continuous scale, some of these for each grade, as many for each; else empty.
        shares: how the answer of each label is divided among the grades, a row each that sums to 1; empty without grades.
    """

    name: str
    scope: Literal["item", "page", "session"]
    labels: tuple[str, ...]
    values: tuple[bool | int | float, ...]
    column: str
    question: str
    only_if: str | None = None
    needs_ratings: bool = False
    meaning: str = ""
    grades: tuple[float, ...] = ()
    within: tuple[tuple[float, ...], ...] = ()
    shares: tuple[tuple[float, ...], ...] = ()

    @property
    def results(self) -> tuple[bool | int | float, ...]:
        """What can come out of it and is logged: the grades, or the values of the labels."""
        return self.grades or self.values

    def graded(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities of the labels as those of the results, shape (n, n_results)."""
        return np.asarray(np.einsum("nl,lg->ng", probabilities, np.array(self.shares))) if self.grades else probabilities

    @property
    def is_binary(self) -> bool:
        """True for yes/no actions, False for ordinal ones."""
        return all(isinstance(value, bool) for value in self.values)


@dataclass(frozen=True, slots=True)
class SessionState:
    """Where a person stands within a session when a page appears.

    Attributes:
        round: from 0; session: of this person over the whole run, from 0.
        time: simulated seconds at which the page appears; start: at which the session began.
        page: number of the page about to be seen, from 1.
        shown, chosen: impressions and positive choices so far in this session.
        mean_rating: mean rating given so far in this session, in the data's units, or None.
        fatigue: in [0, 1): 1 - exp(-shown / impressions this person usually takes).
        history: training history, earlier rounds and this session, item codes, oldest first.
        ratings: given so far in this session, in order, the data's units.
    """

    round: int
    session: int
    time: int
    start: int
    page: int
    shown: int
    chosen: int
    mean_rating: float | None
    fatigue: float
    history: np.ndarray
    ratings: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Met:
    """One item that was shown in a visit: its code, whether it was chosen, and the rating given (the data's units) or None."""

    item: int
    chosen: bool
    rating: float | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision may depend on.

    Attributes:
        profile: who decides; memories: what they recall now, most relevant first.
        page: what they see; state: where they stand.
        stream: randomness of this decision, keyed by (seed, round, user, session, page).
        reflects: at the end of a session, whether enough has happened to draw an insight from.
        visit: randomness that all pages of one session share; None if it is asked what somebody would do, outside of any session.
        met: at the end of a session, everything that was shown in it, in order, with what was done.
    """

    profile: UserProfile
    memories: tuple[MemoryRecord, ...]
    page: Page
    state: SessionState
    stream: Stream
    reflects: bool = False
    visit: Stream | None = None
    met: tuple[Met, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one action on one page.

    Attributes:
        values: for an item action one value per impression (float64; NaN where the action did not happen), otherwise shape (1,).
        probabilities: of each of `Action.results`, shape (n, n_results), rows sum to 1. This is the distribution that was sampled.
    """

    values: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person does on a page.

    Attributes:
        outcomes: action name -> outcome, for every item and page action of the experiment.
        status: "ok", or why the reply could not be used (then the outcomes are the documented fallback).
        reply: the raw unusable reply, for the log; empty if the status is "ok".
        memories_told: how many of the situation's memories the decision was based on, the most relevant ones; None where a decision
            model reads none.
        thought: what the person thought about the page before they decided, or empty. thought_status: "ok", "length" if it was cut,
            "empty" or an error word if there is none; empty if none was asked for.
        unlike_without_model: on how many items (and the leaving) the same draws without the language model come out otherwise; None
            where nobody compared.
    """

    outcomes: Mapping[str, Outcome]
    status: str = "ok"
    reply: str = ""
    memories_told: int | None = None
    thought: str = ""
    thought_status: str = ""
    unlike_without_model: int | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """How a person looks back on a finished session.

    Attributes:
        outcomes: outcomes of the session actions (satisfaction).
        reason: one true sentence in the person's words, or empty where the decision model writes no text.
        insight: one true sentence worth remembering, or empty.
        reason_status, insight_status: how the text came about: "ok" if the language model wrote it and a checker passed it; else it was
            made from facts: "facts" if no model was asked, "length" if its text was cut, "empty", an error word, or what the checker
            had against it. Empty if there is to be no text.
        reason_rejected, insight_rejected: what the language model wrote instead, for the log alone.
        reason_items, insight_items: codes of the items that the texts name.
        status, reply: as in `Decision`.
    """

    outcomes: Mapping[str, Outcome]
    reason: str = ""
    insight: str = ""
    status: str = "ok"
    reply: str = ""
    reason_status: str = ""
    insight_status: str = ""
    reason_rejected: str = ""
    insight_rejected: str = ""
    reason_items: tuple[int, ...] = ()
    insight_items: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PageTurn:
    """One page turn of one person, as the log keeps it: what they faced, what they did, how long it took (seconds)."""

    situation: Situation
    decision: Decision
    dwell: int


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The end of one session.

    Attributes:
        situation: the last one of the session, with `SessionState` as it is after the last page.
        exit: why it ended.
    """

    situation: Situation
    exit: Literal["left", "last_page", "exhausted"]


@dataclass(frozen=True, slots=True)
class Past:
    """What a person brings into a round from earlier rounds; all of it can be read from the log.

    Attributes:
        sessions: sessions so far. last_end: end of the last one, simulated seconds, or None.
        chosen: item codes chosen so far, oldest first. shown: item codes shown so far.
        records: the memory records that are held. remembered: how many were ever made; a record that was forgotten is not carried on.
    """

    sessions: int = 0
    last_end: int | None = None
    chosen: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()
    records: tuple[MemoryRecord, ...] = ()
    remembered: int = 0


# --- inference ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """A place in a prompt where the model's next-token distribution over some labels is read.

    Attributes:
        name: for messages and reply schemas, such as "choose 3".
        labels: the possible continuations, without leading space.
    """

    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemVector:
    """A place in a prompt for the vector that a tuned model has learned for an item (`simulator.llm.vectors`).

    Attributes:
        item_id: the data set's own id of the item.
    """

    item_id: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a prompt that is computed, kept and replaced as a whole.

    Attributes:
        parts: text, vectors and probes in order. Text is plain text: it never becomes a control token of the model.
    """

    parts: tuple[str | Probe | ItemVector, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Segments from what changes least (the rules) to what changes most (the page)."""

    segments: tuple[Segment, ...]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All probes in reading order."""
        return tuple(part for segment in self.segments for part in segment.parts if isinstance(part, Probe))

    @property
    def text(self) -> str:
        """The whole prompt, each probe shown as ``<name: label|label>`` and each vector as ``[item id]``; for reading, not for a model."""
        return "".join(_shown(part) for segment in self.segments for part in segment.parts)


def _shown(part: str | Probe | ItemVector) -> str:
    if isinstance(part, str):
        return part
    return f"[item {part.item_id}]" if isinstance(part, ItemVector) else f"<{part.name}: {'|'.join(part.labels)}>"


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer to one scored prompt.

    Attributes:
        logprobs: per probe, natural log of the probability of each label, normalised over the labels.
        mass: per probe, the probability the model gave to all labels together before normalising, in [0, 1].
        status: "ok", or why there is no usable answer (then `logprobs` is empty). reply: the raw reply in that case.
    """

    logprobs: tuple[np.ndarray, ...]
    mass: tuple[float, ...]
    status: str = "ok"
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Free text wanted, as the next turn of a conversation or as the continuation of a plain prompt.

    Attributes:
        messages: the conversation, put into the model's chat template; texts are plain text and never become control
            tokens. Empty if `prompt` is given.
        max_tokens: at most this many new tokens.
        temperature: 0 takes the likeliest token.
        stop: the text ends before the first of these strings.
        stream: randomness of the sampler.
        schema: a JSON schema the text must satisfy, or None.
        prompt: a prompt without probes that the text continues (its kept prefix is reused), or None.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    stream: Stream
    temperature: float = 0.7
    stop: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """Generated text. `status` is "ok", "length" if cut at `max_tokens`, or an error word; `tokens` counts new tokens."""

    text: str
    tokens: int
    status: str = "ok"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What must be equal for two runs to be comparable to the byte.

    Attributes:
        name: the model's name; sha256: of its weights file, or empty for a server.
        backend: name and version of the inference library. settings: everything that can change a number.
    """

    name: str
    sha256: str
    backend: str
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Work done by a language model since it was loaded: tokens that prompts contain, tokens really computed, tokens generated, calls."""

    prompt_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    calls: int = 0

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens - other.prompt_tokens,
            self.computed_tokens - other.computed_tokens,
            self.generated_tokens - other.generated_tokens,
            self.calls - other.calls,
        )
