"""The Amazon review data sets: reviews and product descriptions, one JSON object per line."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from environments.datasets.assembly import Duplicates, ItemText, Unlisted, assemble, item_table, none
from environments.datasets.fields import DatasetName, DomainWords, TimesConfig
from environments.datasets.ratings import read_ratings
from environments.datasets.raw_table import RawTable
from environments.datasets.reading import BadRows, Reader
from environments.datasets.times import TimeUnit, read_times
from environments.datasets.values import UNIT, known, lists
from simulator.dataset import PRODUCTS, REVIEW, Dataset, Domain
from simulator.errors import DataError

_REVIEW_FIELDS: Mapping[str, tuple[str, ...]] = {
    "user_id": ("reviewerID", "user_id"),
    "item_id": ("parent_asin", "asin"),
    "rating": ("overall", "rating"),
    "timestamp": ("unixReviewTime", "timestamp"),
    REVIEW: ("reviewText", "text"),
}
"""Our column -> its names in the editions of 2014 and 2018, and of 2023."""

_ITEM_FIELDS: Mapping[str, tuple[str, ...]] = {
    "item_id": ("parent_asin", "asin"),
    "title": ("title",),
    "description": ("description",),
    "category": ("category", "categories"),
    "brand": ("brand", "store"),
}
_OPTIONAL = (REVIEW, "title", "description", "category", "brand")
_MILLISECONDS = "timestamp"
"""The edition of 2023 counts time in milliseconds under this name."""

_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")


class AmazonReviews:
    """One category of the Amazon review data: ratings 1-5 with times and texts, and what the products are.

    Reads the JSON lines of the editions of 2014 and 2018 (McAuley et al., SIGIR 2015; Ni, Li and McAuley, EMNLP 2019) and of
    2023 (Hou et al., 2024), plain or ``.gz``. Texts lose their markup. The data may be used for research but not passed on.
    """

    class Config(TimesConfig):
        """Files and what to take from them; times are in the unit of the edition unless the copy was written otherwise.

        Attributes:
            time_unit: of times that are numbers; None is that of the edition.
            path: folder with the files.
            reviews: file of reviews; None takes the only one in the folder whose name does not start with "meta_".
            items: file of products; None takes the only one whose name does, if there is one; "" reads none.
            catalog: "reviewed" leaves out products that nobody in the file of reviews has reviewed, "all" keeps them.
            genres: what stands for an item's genres: its "category" path without repetitions, or its "brand".
            name: of the data set; None takes the file's.
            domain: "product", or one's own four words.
            duplicates: a person's further rows for the same item: "error", "keep" them, or keep only the "last".
            unlisted: reviewed products that are missing in the file of products: "error", or "add" them with nothing known.
            on_bad_rows: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
        """

        time_unit: TimeUnit | None = None  # type: ignore[assignment]  # None where the edition tells
        path: Path = Path()
        reviews: Path | None = None
        items: Path | Literal[""] | None = None
        catalog: Literal["reviewed", "all"] = "reviewed"
        genres: Literal["category", "brand"] = "category"
        name: DatasetName | None = None
        domain: Literal["product"] | DomainWords = "product"
        duplicates: Duplicates = "last"
        unlisted: Unlisted = "error"
        on_bad_rows: BadRows = "error"

    def __init__(self, config: Config) -> None:
        self.config = config

    def load(self) -> Dataset:
        """The validated data set.

        Raises:
            DataError: a file is missing or holds something that is not allowed.
        """
        config, reader = self.config, Reader(self.config.on_bad_rows)
        folder = config.path.expanduser()
        file = folder / config.reviews if config.reviews else _only(folder, "reviews")
        table = _json_lines(reader, file, _REVIEW_FIELDS)
        table = read_ratings(reader, table, scale=(1, 5), strict=True)
        edition: TimeUnit = "ms" if table.names["timestamp"] == _MILLISECONDS else "s"
        table = read_times(reader, table, unit=config.time_unit or edition, time_format=config.time_format)
        if REVIEW in table.columns:
            table = table.with_column(REVIEW, _plain(pl.col(REVIEW)))
        listed = self._listed(folder)
        return assemble(
            reader,
            config.name or file.name.partition(".")[0],
            table,
            items=self._items(reader, listed, table.frame["item_id"]) if listed else None,
            users=None,
            domain=PRODUCTS if isinstance(config.domain, str) else Domain(**config.domain.model_dump()),
            rating_scale=(1.0, 5.0),
            duplicates=config.duplicates,
            unlisted=config.unlisted,
            items_from=str(listed),
        )

    def _listed(self, folder: Path) -> Path | None:
        if self.config.items is None:
            return _only(folder, "items") if _candidates(folder, "items") else None
        return folder / self.config.items if self.config.items else None

    def _items(self, reader: Reader, file: Path, reviewed: pl.Series) -> pl.DataFrame:
        table = _json_lines(reader, file, _ITEM_FIELDS)
        if self.config.catalog == "reviewed":
            table = RawTable(table.path, table.frame.filter(pl.col("item_id").is_in(reviewed.implode())), table.names)

        def text(column: str) -> pl.Expr:
            return _plain(known(pl.col(column))) if column in table.columns else none(pl.String())

        genres = self.config.genres
        parts = pl.lit([], dtype=pl.List(pl.String))
        if genres in table.columns:
            found = lists(table.frame[genres], UNIT).values.list.eval(_plain(pl.element()))
            table, parts = table.with_column(genres, pl.lit(found)), pl.col(genres).list.unique(maintain_order=True)
        return item_table(reader, table, ItemText(text("title"), none(pl.Int32()), parts, text("description")))[1]


def is_amazon_folder(names: set[str]) -> bool:
    """Whether a folder with files of these names looks like a category of the Amazon review data."""
    files = {name for name in names if name.endswith(_ENDINGS)}
    return any(name.startswith("meta_") for name in files) and any(not name.startswith("meta_") for name in files)


def _candidates(folder: Path, what: Literal["reviews", "items"]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            f"there is no folder '{folder}' to read Amazon reviews from; set dataset.path to one that holds the .json.gz files."
        )
    return sorted(file for file in folder.iterdir() if file.name.endswith(_ENDINGS) and file.name.startswith("meta_") == (what == "items"))


def _only(folder: Path, what: Literal["reviews", "items"]) -> Path:
    files = _candidates(folder, what)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"found {found} in '{folder}', allowed is one file of {what} ({', '.join(_ENDINGS)}); name it with dataset.{what}.")
    return files[0]


def _json_lines(reader: Reader, path: Path, fields: Mapping[str, tuple[str, ...]]) -> RawTable:
    """The wanted fields of a file with one JSON object per line, as text; texts in a list are joined."""
    raw = reader.json_table(path)
    names = {}
    for ours, usual in fields.items():
        found = next((name for name in usual if name in raw.columns), None)
        if found:
            names[ours] = found
        elif ours not in _OPTIONAL:
            raise DataError(f"{path}: found no key {' or '.join(usual)} in its JSON objects, which hold the {ours}; is it the right file?")
    table = raw.pick(names)
    reader.tell(f"keys of {path.name}", ", ".join(f"{ours} = {name}" for ours, name in names.items()))
    for column in ("title", "description"):
        if column in names:
            joined = pl.col(column).map_elements(_joined, return_dtype=pl.String)
            table = table.with_column(column, joined)
    return table


def _joined(text: str) -> str:
    """A list of texts in JSON as one text."""
    if not text.startswith("["):
        return text
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return " ".join(part if isinstance(part, str) else json.dumps(part) for part in parts)


def _plain(text: pl.Expr) -> pl.Expr:
    """Text without markup and with single spaces."""
    return text.map_elements(_without_markup, return_dtype=pl.String)


def _without_markup(text: str) -> str:
    # unescaped first: some texts hold escaped tags
    return re.sub(r"\s+", " ", _TAG.sub(" ", html.unescape(text))).strip()
