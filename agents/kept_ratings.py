"""Rating models as files, and where those are kept that were fitted before; ratings of random items.

A model is found again under a key that holds every ingredient of the fit, beside the weights of calibrated people
(`agents.kept_weights`). What is assumed of selection, and random ratings, come in afterwards, so the key does not hold them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from agents.rating_biases import Biases
from agents.rating_factors import Features, RatingFactors
from agents.rating_model import RatingModel, Ratings
from agents.rating_selection import Selection
from agents.rating_values import OwnValues, Shape
from simulator import caches
from simulator.dataset import Dataset
from simulator.errors import ConfigError, DataError
from simulator.files import read_table, reading, write_arrays, write_atomically
from simulator.paths import cache_folder
from simulator.provenance import arithmetic, code_sha256
from simulator.seeds import Stream

FILE = "ratings.npz"
VERSION = 1
COLUMNS = ("user", "item", "rating")
FIXED = Stream(0).child("ratings")


def ratings_of(train: Dataset) -> Ratings:
    """All ratings of the training part."""
    rows = train.interactions
    codes = (rows["user"].to_numpy(), rows["item"].to_numpy())
    return Ratings.of(*codes, rows["rating"].to_numpy(), (train.n_users, train.n_items))


def fitted(train: Dataset, rng: Stream = FIXED, *, foreseen: float, random: Path | None = None, anew: bool = False) -> RatingModel:
    """The rating model of a training part, found in the cache or fitted and kept there.

    Args:
        train: has ratings. rng: of the fit, the same for all runs. foreseen: phi, see `agents.rating_selection`.
        random: file of ratings of random items.
        anew: whether it is fitted whatever the cache holds.
    """
    key = _key(train, rng)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = cache_folder() / "calibration" / f"ratings-{digest[:24]}.npz"
    stored = None if anew else caches.found(file, load)
    model = stored or RatingModel.fit(ratings_of(train), rng)
    if stored is None:
        caches.keep(file, lambda place: save(model, place))
    selection = replace(model.selection, foreseen=foreseen)
    model = replace(model, selection=selection, report={**model.report, "selection": selection.told()})
    return model if random is None else model.measured_by(random_ratings(random, train))


def _key(train: Dataset, rng: Stream) -> dict[str, Any]:
    """Everything that a fit depends on, as JSON."""
    return {
        "data": train.fingerprint(),
        "seed": [int(rng.seed), *rng.path],
        "code": code_sha256("agents.kept_ratings"),
        "arithmetic": arithmetic(),
    }


def random_ratings(file: Path, train: Dataset) -> Ratings:
    """Ratings of items that people did not pick, from a Parquet or CSV file with the columns `COLUMNS`, users and items by the data's ids.

    Raises:
        ConfigError: there is no such file. DataError: it cannot be read, a column is missing or no number, or no row is about people and
            items of the data.
    """
    where = f"[decision] random_ratings = '{file}'"
    if not file.is_file():
        raise ConfigError(f"{where}: there is no such file.")
    if file.name.lower().endswith((".csv", ".csv.gz")):
        with reading(file, "user and item are ids, and rating is a number", DataError):
            table = pl.read_csv(file.read_bytes(), infer_schema=False)
    else:
        table = read_table(file, "give another one", DataError)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{file} has no column '{missing[0]}'; random ratings need {', '.join(COLUMNS)}.")
    with reading(file, "rating is a number", DataError):
        table = table.select(pl.col("user", "item").cast(pl.String), pl.col("rating").cast(pl.Float64)).drop_nulls()
    people = train.users.select(pl.col("user").alias("person"), pl.col("user_id").alias("user"))
    items = train.catalog.items.select(pl.col("item").alias("code"), pl.col("item_id").alias("item"))
    known = table.join(people, on="user", how="inner").join(items, on="item", how="inner")
    if known.is_empty():
        raise DataError(f"{file}: no row is about a person and an item of data set '{train.name}'.")
    given = known["rating"].to_numpy()
    low, high = train.rating_scale or (-np.inf, np.inf)
    if not ((given >= low) & (given <= high)).all():
        raise DataError(f"{file}: ratings from {given.min():g} to {given.max():g} on a scale from {low:g} to {high:g}.")
    return Ratings.of(known["person"].to_numpy(), known["code"].to_numpy(), given, (train.n_users, train.n_items))


def save(model: RatingModel, file: Path) -> None:
    """Writes a model as arrays, atomically."""
    biases, own, shape, factors = model.biases, model.own, model.shape, model.factors
    document = {
        "version": VERSION,
        "biases": [biases.mean, biases.noise, biases.user_variance, biases.item_variance],
        "trust": model.trust,
        "shape": [shape.spread, shape.pseudo_counts, shape.narrow],
        "selection": asdict(model.selection),
        "levelled": model.levelled,
        "report": model.report,
    }
    arrays = {
        "document": np.frombuffer(json.dumps(document).encode(), dtype=np.uint8),
        "of_user": biases.of_user,
        "of_item": biases.of_item,
        "values": own.values,
        "upper": own.upper,
        "within": own.within,
        "shares": shape.shares,
        "counts": model.counts,
    }
    if factors is not None:
        arrays |= {f"factors_{name}": np.asarray(getattr(factors, name)) for name in _FACTORS}
        arrays |= {f"features_{name}": np.asarray(getattr(factors.features, name)) for name in _FEATURES}
    write_atomically(file, lambda place: write_arrays(place, arrays))


_FACTORS = ("centre", "scale", "users", "items", "precision", "weights", "noise", "user_noise")
_FEATURES = ("users", "items", "scales", "item_roots", "usual")


def load(file: Path) -> RatingModel:
    """Restores what `save` wrote.

    Raises:
        ConfigError: the file is missing or damaged, or does not hold a model of this version.
    """
    with reading(file, "fit the ratings again", ConfigError):
        stored = np.load(BytesIO(file.read_bytes()), allow_pickle=False)
        arrays = {name: stored[name] for name in stored.files}
        document = json.loads(arrays["document"].tobytes())
        if document["version"] != VERSION:
            raise ConfigError(f"{file} holds a rating model of version {document['version']}, not {VERSION}; fit the ratings again.")
        mean, noise, user_variance, item_variance = document["biases"]
        spread, pseudo_counts, narrow = document["shape"]
        factors = None
        if "factors_users" in arrays:
            of = {name: arrays[f"factors_{name}"] for name in _FACTORS}
            about = {name: arrays[f"features_{name}"] for name in _FEATURES}
            about["usual"] = tuple(about["usual"].tolist())
            of |= {"centre": float(of["centre"]), "scale": float(of["scale"])}
            factors = RatingFactors(**of, features=Features(**about))
        return RatingModel(
            biases=Biases(mean, arrays["of_user"], arrays["of_item"], noise, user_variance, item_variance),
            factors=factors,
            trust=document["trust"],
            own=OwnValues(arrays["values"], arrays["upper"], arrays["within"]),
            shape=Shape(arrays["values"], arrays["shares"], spread, pseudo_counts, narrow),
            counts=arrays["counts"],
            selection=Selection(**document["selection"]),
            levelled=document["levelled"],
            report=document["report"],
        )
