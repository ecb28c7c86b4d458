"""Published evaluation protocols: how each divides its data, whom it ranks what for, and what it measures.

The data is read from one folder that holds, by these names, the original files of ``ml-100k`` (u.data), ``ml-1m`` (ratings.dat, or
a table ratings_reconstructed.csv.gz with the columns user_id, movie_id, rating in the same order; and ncf-loo/ml-1m.test.rating,
ml-1m.test.negative.gz of the NCF authors) and ``lastfm-hetrec-2k`` (user_artists.dat).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from experiments.analysis import ranking_metrics as metrics
from experiments.ranked_lists import histories_of, ranked_lists
from simulator.dataset import INTERACTIONS_SCHEMA, ITEMS_SCHEMA, Catalog
from simulator.errors import DataError
from simulator.protocols import Recommender
from simulator.seeds import Stream

K = 10
"""Every protocol here measures at 10."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A divided data set in integer codes.

    Attributes:
        train, valid, test: `INTERACTIONS_SCHEMA`; valid may be empty.
        n_items: size of the catalog.
        candidates: for each test person, in order of code, the items that are ranked, the test item first; None ranks all unseen.
    """

    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame
    n_items: int
    candidates: np.ndarray | None = None

    def catalog(self) -> Catalog:
        """Items without text."""
        names = [str(item) for item in range(self.n_items)]
        columns = {"item": range(self.n_items), "item_id": names, "title": names, "year": [None] * self.n_items}
        rest = {"genres": [[]] * self.n_items, "description": [None] * self.n_items}
        return Catalog(pl.DataFrame(columns | rest, schema=dict(ITEMS_SCHEMA)))


@dataclass(frozen=True)
class Protocol:
    """A way to divide and measure.

    Attributes:
        dataset, name: for the table.
        divide: folder of the data -> parts.
        metrics: metric -> function of (hits, numbers of relevant items), one value per person.
    """

    dataset: str
    name: str
    divide: Callable[[Path], Parts]
    metrics: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]


def _ndcg(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    return metrics.ndcg(hits, metrics.ones_below(relevant), K)


PRECISION_AND_RECALL = {
    "nDCG@10": _ndcg,
    "P@10": lambda hits, relevant: metrics.precision(hits, K),
    "R@10": lambda hits, relevant: metrics.recall(hits, relevant, K),
}
MAP = {"MAP@10": lambda hits, relevant: metrics.average_precision(hits, relevant, K, "relevant")}
RECALL_AND_NDCG = {"Recall@10": lambda hits, relevant: metrics.recall(hits, relevant, K), "NDCG@10": _ndcg}
HIT_AND_NDCG = {"HR@10": lambda hits, relevant: metrics.hit_rate(hits, K), "NDCG@10": _ndcg}


def measure(recommender: Recommender, protocol: Protocol, parts: Parts, *, knows_valid: bool) -> dict[str, float]:
    """The protocol's metrics of a fitted recommender, means over people.

    Args:
        recommender: fitted.
        protocol: what to measure.
        parts: what it was fitted on and is tested on.
        knows_valid: whether the validation part counts as history; in either case it is not ranked.
    """
    users = np.sort(parts.test["user"].unique().to_numpy())
    relevant = histories_of(parts.test, users)
    known = pl.concat((parts.train, parts.valid)).sort("user", maintain_order=True) if knows_valid else parts.train
    histories, hidden = histories_of(known, users), histories_of(parts.valid, users)
    rng = Stream(42).child("rank")
    if parts.candidates is None:
        n = K + (0 if knows_valid else max((len(items) for items in hidden), default=0))
        ranked = ranked_lists(recommender, users, histories, n, rng)
        if not knows_valid:
            ranked = metrics.padded([row[~np.isin(row, items)] for row, items in zip(ranked, hidden, strict=True)], K)
    else:
        ranked = np.empty((len(users), parts.candidates.shape[1]), dtype=np.int64)
        for start in range(0, len(users), 256):
            part = slice(start, start + 256)
            whole = ranked_lists(recommender, users[part], histories[part], parts.n_items, rng)
            places = np.full((len(whole), parts.n_items + 1), parts.n_items)  # the last column takes the padding
            np.put_along_axis(places, np.where(whole >= 0, whole, parts.n_items), np.arange(whole.shape[1])[None], axis=1)
            own = parts.candidates[part]
            ranked[part] = np.take_along_axis(own, np.argsort(np.take_along_axis(places, own, axis=1), axis=1, kind="stable"), axis=1)
    hits, counts = metrics.hit_matrix(ranked[:, :K], relevant), np.array([len(items) for items in relevant])
    if parts.candidates is not None:
        hits &= np.cumsum(hits, axis=1) == 1  # in 156 of the NCF authors' lists the test item is among the negatives too
    return {name: metrics.mean(metric(hits, counts)) for name, metric in protocol.metrics.items()}


# --- how they divide ------------------------------------------------------------------------------------------------


def ml_100k(folder: Path) -> pl.DataFrame:
    """u.data in file order, coded by id - 1."""
    log = pl.read_csv(_there(folder / "ml-100k/u.data"), separator="\t", has_header=False, new_columns=list(INTERACTIONS_SCHEMA))
    return log.with_columns(pl.col("user", "item") - 1).cast(pl.Schema(INTERACTIONS_SCHEMA))


def ml_1m(folder: Path) -> pl.DataFrame:
    """Ratings in file order; items coded by first appearance, as in the NCF files."""
    original, table = folder / "ml-1m/ratings.dat", folder / "ml-1m/ratings_reconstructed.csv.gz"
    if original.is_file():
        lines = np.array([line.split("::") for line in original.read_text(encoding="latin-1").splitlines()], dtype=np.int64)
        log = pl.DataFrame(dict(zip(("user_id", "movie_id", "rating"), lines.T[:3], strict=True)))
    else:
        log = pl.read_csv(_there(table)).select("user_id", "movie_id", "rating")
    codes = {item: code for code, item in enumerate(log["movie_id"].unique(maintain_order=True).to_list())}
    coded = log.select(
        user=pl.col("user_id") - 1, item=pl.col("movie_id").replace_strict(codes), rating="rating", timestamp=pl.lit(None, dtype=pl.Int64)
    )
    return coded.cast(pl.Schema(INTERACTIONS_SCHEMA))


def lastfm(folder: Path) -> pl.DataFrame:
    """Who listened to whom; play counts are left out."""
    log = pl.read_csv(_there(folder / "lastfm-hetrec-2k/user_artists.dat"), separator="\t")
    dense = [pl.col(name).rank("dense").cast(pl.Int32) - 1 for name in ("userID", "artistID")]
    empty = (pl.lit(None, dtype=pl.Float32).alias("rating"), pl.lit(None, dtype=pl.Int64).alias("timestamp"))
    return log.select(dense[0].alias("user"), dense[1].alias("item"), *empty)


def random_three_quarters(folder: Path) -> Parts:
    """scikit-learn's random 75 % of all ratings, seed 42."""
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - packed parts can be used where it is not installed

    log = ml_100k(folder)
    train, test = train_test_split(np.arange(log.height), train_size=0.75, random_state=42)
    return _parts(log[np.sort(train)], log[np.sort(test)], 1_682)


def stratified_by_item(folder: Path) -> Parts:
    """A random 75 % of each item's ratings, as in Microsoft's recommenders; our own draw, seed 42."""
    log = ml_100k(folder)
    rng = Stream(42).child("split").generator()
    shuffled = log.with_columns(order=pl.Series(rng.permutation(log.height))).sort("order")
    rank = (shuffled.select(pl.col("item").cum_count().over("item"))["item"] - 1).to_numpy()
    size = shuffled.select(pl.len().over("item"))["len"].to_numpy()
    is_train = pl.Series(rank < np.round(0.75 * size))
    log = shuffled.drop("order")
    return _parts(log.filter(is_train), log.filter(~is_train), 1_682)


def ncf_leave_one_out(folder: Path) -> Parts:
    """The NCF authors' test: one item of each person among 99 that they have not."""
    log = ml_1m(folder)
    place = folder / "ml-1m/ncf-loo"
    rows = np.array([line.split("\t")[:2] for line in _there(place / "ml-1m.test.rating").read_text().splitlines()], dtype=np.int64)
    with gzip.open(_there(place / "ml-1m.test.negative.gz"), "rt") as lines:
        negatives = np.array([line.rstrip("\n").split("\t")[1:] for line in lines], dtype=np.int64)
    keys = rows[:, 0] * 10_000 + rows[:, 1]
    is_test = np.isin(log["user"].to_numpy().astype(np.int64) * 10_000 + log["item"].to_numpy(), keys)
    parts = _parts(log.filter(~pl.Series(is_test)), log.filter(pl.Series(is_test)), log["item"].n_unique())
    return Parts(parts.train, parts.valid, parts.test, parts.n_items, np.column_stack((rows[:, 1], negatives)))


def eight_to_one_to_one(read: Callable[[Path], pl.DataFrame], min_rating: float | None) -> Callable[[Path], Parts]:
    """RecBole's random 8:1:1 of each person's interactions; our own draw, seed 42."""

    def divide(folder: Path) -> Parts:
        log = read(folder)
        if min_rating is not None:
            log = log.filter(pl.col("rating") >= min_rating)
        codes = pl.Series(np.unique(log["item"].to_numpy()))
        log = log.with_columns(
            pl.col("item").replace_strict(codes, pl.Series(np.arange(len(codes), dtype=np.int32)), return_dtype=pl.Int32)
        )
        order = pl.Series(Stream(42).child("split").generator().permutation(log.height))
        log = log.with_columns(order=order).sort("user", "order")
        share = log.select(((pl.col("user").cum_count() - 1) / pl.len()).over("user"))["user"].to_numpy()
        log = log.drop("order")
        train, valid, test = (log.filter(pl.Series((share >= low) & (share < high))) for low, high in ((0, 0.8), (0.8, 0.9), (0.9, 1)))
        return Parts(train, valid, test, len(codes))

    return divide


def last_one_out(folder: Path) -> Parts:
    """The newest interaction of each person is the test."""
    log = ml_100k(folder).sort("user", "timestamp", maintain_order=True)
    is_last = log.select(pl.int_range(pl.len()).over("user") == pl.len().over("user") - 1).to_series()
    return _parts(log.filter(~is_last), log.filter(is_last), 1_682)


PROTOCOLS = {
    "random-75": Protocol("ML-100K", "random 75/25", random_three_quarters, MAP | PRECISION_AND_RECALL),
    "stratified-75": Protocol("ML-100K", "75/25 stratified by item", stratified_by_item, PRECISION_AND_RECALL),
    "ncf-loo": Protocol("ML-1M", "leave one out, 99 negatives", ncf_leave_one_out, HIT_AND_NDCG),
    "ml-1m-811": Protocol("ML-1M", "ratings >= 3, random 8:1:1", eight_to_one_to_one(ml_1m, 3.0), RECALL_AND_NDCG),
    "lastfm-811": Protocol("LastFM", "random 8:1:1", eight_to_one_to_one(lastfm, None), RECALL_AND_NDCG),
    "loo": Protocol("ML-100K", "leave one out, full ranking", last_one_out, HIT_AND_NDCG),
}
"""Name on the command line -> protocol."""


def pack(parts: Parts, file: Path) -> None:
    """Writes parts to an ``.npz`` file, for `unpacked` on a machine without the data sets; ratings are left out."""
    arrays: dict[str, np.ndarray] = {"n_items": np.array(parts.n_items)}
    if parts.candidates is not None:
        arrays["candidates"] = parts.candidates.astype(np.int32)
    for name, part in (("train", parts.train), ("valid", parts.valid), ("test", parts.test)):
        columns = ["user", "item"] if part["timestamp"].null_count() else ["user", "item", "timestamp"]
        arrays |= {f"{name}.{column}": part[column].to_numpy().astype(np.int32) for column in columns}
    np.savez_compressed(file, allow_pickle=False, **arrays)


def unpacked(file: Path) -> Parts:
    """The parts that `pack` wrote, with null ratings."""
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)

    def part(name: str) -> pl.DataFrame:
        schema = pl.Schema(INTERACTIONS_SCHEMA)
        given = {column: arrays[f"{name}.{column}"] for column in schema if f"{name}.{column}" in arrays}
        missing = [pl.lit(None).alias(column) for column in schema if column not in given]
        return pl.DataFrame(given).with_columns(missing).select(list(schema)).cast(schema)

    return Parts(part("train"), part("valid"), part("test"), int(arrays["n_items"]), arrays.get("candidates"))


def parts_of(protocol: str, folder: Path) -> Parts:
    """The parts of a protocol, from the data sets in a folder or from what `pack` wrote there as ``<protocol>.npz``."""
    packed = folder / f"{protocol}.npz"
    return unpacked(packed) if packed.is_file() else PROTOCOLS[protocol].divide(folder)


def _parts(train: pl.DataFrame, test: pl.DataFrame, n_items: int) -> Parts:
    return Parts(train.sort("user", maintain_order=True), train.clear(), test.sort("user", maintain_order=True), n_items)


def _there(file: Path) -> Path:
    if not file.is_file():
        raise DataError(f"there is no file {file}; give the folder that holds ml-100k, ml-1m and lastfm-hetrec-2k (see {__name__}).")
    return file
