"""Pages of which it is known what was chosen, to fit choice models on: sampled from a log, or truly shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from agents.affinity import ItemWeights
from agents.exposures import Negatives
from simulator.dataset import Dataset
from simulator.errors import ConfigError, DataError
from simulator.files import read_table, reading
from simulator.records import UserProfile
from simulator.seeds import Stream

POSITIVES, RANDOM, MATCHED = 10, 18, 10
"""Of each person at most so many hidden items, random and matched negatives."""

RECOMMENDED = 100
"""Items that a recommender is taken to show a person."""

ASKED = (7, 7, 6)
"""How many of each the language model is asked about: 20 items, four pages of five."""


def catalog_log_odds(popularity: np.ndarray) -> np.ndarray:
    """What must be added to log-odds that were fitted on sampled non-choices, so that they hold for items drawn from the whole catalog.

    Of the non-choices a share is matched to what was chosen, so popular items are among them more often than in the catalog, by the
    factor ``random + matched * n_i / mean(n)`` (shares of the two kinds); its log is what is missing (McFadden, "Modelling the
    choice of residential location", 1978, on sampled alternatives; as for the intercept, `agents.choice_model`).

    Args:
        popularity: natural log of the share of people, or of any count proportional to it, of every item, shape (n_items,).

    Returns:
        Shape (n_items,).
    """
    if not len(popularity):
        return np.zeros(0)
    relative = np.exp(popularity - popularity.max())
    share = MATCHED / (MATCHED + RANDOM)
    return np.asarray(np.log((1.0 - share) + share * relative / relative.mean()))


@dataclass(frozen=True, eq=False)
class Exposures:
    """Items in front of one person, and what the person did.

    Attributes:
        profile: as known without what is asked about. history: item codes met, without those of `items`.
        items: item codes, shape (n,). chosen: bool. ratings: NaN where there is none.
        pages: index arrays into `items`: the pages that a language model is asked about, in order of position.
        place: position on the page, from 1; fatigue: in [0, 1); both 0 where nothing was truly shown. Shape (n,).
        matched: whether the item was drawn for being as popular as a chosen one, bool, shape (n,).
    """

    profile: UserProfile
    history: np.ndarray
    items: np.ndarray
    chosen: np.ndarray
    ratings: np.ndarray
    pages: tuple[np.ndarray, ...]
    place: np.ndarray
    fatigue: np.ndarray
    matched: np.ndarray


def sampled_exposures(
    hidden: pl.DataFrame,
    profiles: Mapping[int, UserProfile],
    known: Sequence[np.ndarray],
    popularity: np.ndarray,
    page_size: int,
    rng: Stream,
    asked: set[int],
) -> list[Exposures]:
    """Hidden interactions of each person among random items and items of the same popularity that they never met.

    Args:
        hidden: interactions, rows sorted by person. profiles: by user code, of the observed rest.
        known: by user code, items that cannot be negatives. popularity: observed interactions of each item.
        page_size: of the pages for the language model. rng: person u draws from ``rng.child(user_id)``.
        asked: user codes of those whom the language model is asked about.
    """
    negatives = Negatives(popularity, rng)
    found = []
    for profile, own, own_ratings in hidden_of_each(hidden, profiles):
        generator = rng.child(profile.user_id).generator()
        picked = generator.permutation(len(own))[:POSITIVES]
        positives, given = own[picked].astype(np.int64), own_ratings[picked]
        to_match = np.resize(positives, MATCHED * len(positives) // POSITIVES or 1)
        matched, random = negatives.both(to_match, max(1, RANDOM * len(positives) // POSITIVES), (known[profile.user], own), generator)
        items = np.concatenate([positives, random, matched])
        ends = np.cumsum([0, len(positives), len(random), len(matched)])
        few = np.concatenate([np.arange(start, end)[:most] for start, end, most in zip(ends[:-1], ends[1:], ASKED, strict=True)])
        shuffled = generator.permutation(few)
        pages = tuple(shuffled[start : start + page_size] for start in range(0, len(shuffled), page_size)) if profile.user in asked else ()
        nothing = np.zeros(len(items))
        found.append(
            Exposures(
                profile=profile,
                history=profile.history,
                items=items,
                chosen=np.arange(len(items)) < len(positives),
                ratings=np.concatenate([given, np.full(len(items) - len(given), np.nan)]),
                pages=pages,
                place=nothing,
                fatigue=nothing,
                matched=np.arange(len(items)) >= len(items) - len(matched),
            )
        )
    return found


def recommended_exposures(
    hidden: pl.DataFrame,
    profiles: Mapping[int, UserProfile],
    linear: ItemWeights,
    n_items: int,
    page_size: int,
    rng: Stream,
    asked: set[int],
) -> list[Exposures]:
    """What a recommender would show each person, with those items chosen that are among their hidden interactions.

    A linear item model of the observed part (`agents.affinity.ItemWeights`) stands for the recommender: its `RECOMMENDED` best items
    outside the observed history. To tell these apart is another question than to tell a hidden interaction from random items.

    Args:
        hidden: interactions, rows sorted by person. profiles: by user code, of the observed rest.
        linear: fitted on the observed rest. n_items: of the catalog. page_size: of the pages for the language model.
        rng: person u draws from ``rng.child(user_id)``. asked: user codes of those whom the language model is asked about.
    """
    found = []
    for profile, own, own_ratings in hidden_of_each(hidden, profiles):
        unseen = np.setdiff1d(np.arange(n_items), profile.history)
        best = np.argsort(-linear.scores(np.unique(profile.history), unseen), kind="stable")[:RECOMMENDED]
        items = unseen[best].astype(np.int64)
        chosen = np.isin(items, own)
        ratings = np.full(len(items), np.nan)
        ratings[chosen] = own_ratings[np.searchsorted(own, items[chosen])]
        generator = rng.child(profile.user_id).generator()
        told = np.concatenate([generator.permutation(np.flatnonzero(chosen))[: ASKED[0]], generator.permutation(np.flatnonzero(~chosen))])
        shuffled = generator.permutation(told[: sum(ASKED)])
        pages = tuple(shuffled[start : start + page_size] for start in range(0, len(shuffled), page_size)) if profile.user in asked else ()
        nothing = np.zeros(len(items))
        found.append(
            Exposures(
                profile=profile,
                history=profile.history,
                items=items,
                chosen=chosen,
                ratings=ratings,
                pages=pages,
                place=nothing,
                fatigue=nothing,
                matched=np.zeros(len(items), dtype=bool),
            )
        )
    return found


def _impressions(file: Path) -> pl.DataFrame:
    """The table of a file of impressions, its numbers as numbers.

    Raises:
        ConfigError: there is no such file. DataError: it cannot be read, or a value is no number.
    """
    if not file.is_file():
        raise ConfigError(f"[decision] exposures = '{file}': there is no such file.")
    if not file.name.lower().endswith((".csv", ".csv.gz")):
        return read_table(file, "give another one", DataError)
    numbers, yes = ("position", "rating", "fatigue", "round", "session", "page"), pl.col("chosen").str.strip_chars().str.to_lowercase()
    with reading(file, "user and item are ids, chosen is true or false, and the other columns are numbers", DataError):
        table = pl.read_csv(file.read_bytes(), infer_schema=False)
        table = table.with_columns(pl.col([name for name in numbers if name in table.columns]).cast(pl.Float64))
        if "chosen" in table.columns:
            table = table.with_columns(chosen=yes.replace_strict({"true": True, "1": True, "false": False, "0": False, "": False}))
    return table


def true_exposures(file: Path, train: Dataset, profiles: Sequence[UserProfile], asked: int) -> list[Exposures]:
    """What was really shown, from a Parquet or CSV file with one row per impression.

    Columns: `user` and `item` (the data's own ids), `position` (from 1), `chosen` (Boolean); if there, `rating` and `fatigue`; pages
    are told apart by whichever of `round`, `session` and `page` there are. A run's impressions.parquet is such a file.

    Args:
        file: with the ending .parquet, .csv or .csv.gz. train: its people and items count, others are left out. profiles: of the people.
        asked: the language model is asked about the pages of so many people.

    Raises:
        ConfigError: there is no such file. DataError: it cannot be read, a column is missing or no number, or no row is about people and
            items of the data.
    """
    table = _impressions(file)
    missing = [name for name in ("user", "item", "position", "chosen") if name not in table.columns]
    if missing:
        raise DataError(f"{file} has no column '{missing[0]}'; exposures need user, item, position and chosen.")
    keys = [name for name in ("round", "session", "page") if name in table.columns]
    for name in ("rating", "fatigue"):
        if name not in table.columns:
            table = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name))
    items = train.catalog.items.select(pl.col("item").alias("code"), pl.col("item_id").alias("item"))
    table = table.with_columns(pl.col("user", "item").cast(pl.String)).join(items, on="item", how="inner", maintain_order="left")
    by_id = {profile.user_id: profile for profile in profiles}
    table = table.filter(pl.col("user").is_in(list(by_id))).sort("user", *keys, "position")
    if table.is_empty():
        raise DataError(f"{file}: no row is about a person and an item of data set '{train.name}'.")
    found = []
    for number, ((user,), rows) in enumerate(table.group_by("user", maintain_order=True)):
        profile, codes = by_id[str(user)], rows["code"].to_numpy().astype(np.int64)
        starts = np.flatnonzero(rows.select(pl.struct(*keys, "user").rle_id()).to_series().diff().fill_null(1).to_numpy() != 0)
        pages = tuple(np.split(np.arange(len(codes)), starts[1:])) if number < asked else ()
        found.append(
            Exposures(
                profile=profile,
                history=profile.history[~np.isin(profile.history, codes)],
                items=codes,
                chosen=rows["chosen"].cast(pl.Boolean).fill_null(value=False).to_numpy(),
                ratings=rows["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
                pages=pages,
                place=rows["position"].cast(pl.Float64).to_numpy(),
                fatigue=rows["fatigue"].cast(pl.Float64).fill_null(0.0).to_numpy(),
                matched=np.zeros(len(codes), dtype=bool),
            )
        )
    return found


def hidden_of_each(hidden: pl.DataFrame, profiles: Mapping[int, UserProfile]) -> Iterator[tuple[UserProfile, np.ndarray, np.ndarray]]:
    """Of each person with a profile: who, the different items among the hidden interactions, ascending, and the first rating of each."""
    users, items = hidden["user"].to_numpy(), hidden["item"].to_numpy()
    ratings = hidden["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    for user in np.unique(users).tolist():
        if user in profiles:
            rows = slice(*np.searchsorted(users, [user, user + 1]).tolist())
            own, first = np.unique(items[rows], return_index=True)
            yield profiles[user], own, ratings[rows][first]
