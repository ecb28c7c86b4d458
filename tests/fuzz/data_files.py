"""Small data files with mistakes in them, each made from one seed: what is written, how it is damaged, and how it is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulator.seeds import Stream

ODD = (
    *(
        "",
        " ",
        "nan",
        "NaN",
        "None",
        "NULL",
        "N/A",
        "inf",
        "-inf",
        "1e999",
        "-1",
        "0",
        "1e16",
        "9.78E+12",
        "1.0",
        "007",
        "99999999999999999999",
        "-0.0",
    ),
    *(
        '"',
        '""',
        "'",
        "\\",
        "\\t",
        "\t",
        ",",
        ";",
        "|",
        "::",
        "\r",
        "\n",
        "\r\n",
        "\x1f",
        "\x00",
        "\ufeff",
        "\u2028",
        "é",
        "日本",
        "😀",
        "\u202e",
        "&amp;",
    ),
    *(
        "[",
        "]",
        "{",
        "['a', 'b']",
        '["a"',
        "[[[[[[",
        "{'a': 1}",
        "2024-01-31",
        "20240131",
        "31.12.2001",
        "12:30",
        "true",
        "x" * 3_000,
        "1,5",
        "<b>",
    ),
    *("=1+1", "../..", "user_id", "item_id", "rating", "timestamp", "#", "%", "_line", "1" * 400),
)
"""What stands in files where something else should."""

SETTINGS: dict[str, tuple[Any, ...]] = {
    "separator": (",", ";", "\t", r"\t", "::", " ", "|", "", "\n", "xx"),
    "quoted": (True, False),
    "columns": (("user_id", "item_id", "rating", "timestamp"), ("user_id", "item_id"), ("a", "a"), ()),
    "rating_scale": ((1, 5), (0, 10), (5, 1), (float("nan"), 5)),
    "unrated": ((0,), (0, ""), ("n.a.", 99), 0),
    "without_rating": ("keep", "leave-out"),
    "time_unit": ("s", "ms", "us", "ns", "h"),
    "time_format": ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y%m%d", "%d.%m.%Y", "%", "%Q", "%Z", "", "%s", "%H"),
    "encoding": ("utf-8", "latin-1"),
    "duplicates": ("error", "keep", "last"),
    "unlisted": ("error", "add"),
    "on_bad_rows": ("error", "skip", "skip", "skip"),
    "weight": ("rating", "weight", "timestamp"),
    "review": ("rating", "review"),
    "rating": ("", "rating", "timestamp", "item_id"),
    "timestamp": ("", "timestamp", "rating"),
    "user": ("user_id", "item_id"),
    "item": ("item_id", "user_id", "nothing"),
    "item_key": ("title", "item_id"),
    "list_separator": ("|", ",", "/"),
    "domain": ("film", "item", {"item": "a", "items": "b", "choose": "c", "chosen": "d"}, {"item": ""}),
    "max_genres": (1, 0, 5),
}


@dataclass(frozen=True)
class Case:
    """One data set on disk.

    Attributes:
        use: import path of the loader. options: of its configuration, paths included.
        path: the file or folder that could also be described by itself.
    """

    use: str
    options: dict[str, Any]
    path: Path


def make(seed: int, folder: Path) -> Case:
    """Writes the data set of a seed into an empty folder."""
    rng = Stream(seed).child("data files").generator()
    kind = KINDS[int(rng.integers(len(KINDS)))]
    case = kind(rng, folder)
    for _ in range(int(rng.integers(0, 4))):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        file = files[int(rng.integers(len(files)))]
        file.write_bytes(DAMAGES[int(rng.integers(len(DAMAGES)))](rng, file.read_bytes()))
    return case


# --- what is written ---------------------------------------------------------------------------------------------------


def _rows(rng: np.random.Generator) -> list[list[str]]:
    """Interactions as text: user, item, rating, time."""
    start = datetime(2020, 1, 1)
    rows = []
    for _ in range(int(rng.integers(0, 30))):
        when = start + timedelta(seconds=int(rng.integers(0, 10**7)))
        moment = (str(int(when.timestamp())), str(int(when.timestamp()) * 1000), when.isoformat(" "), when.strftime("%Y%m%d"))
        rows.append(
            [
                str(rng.integers(1, 6)),
                f"i{rng.integers(1, 9)}",
                str(rng.integers(1, 6)),
                moment[int(rng.integers(0, 1 + rng.integers(1, 4)))],
            ]
        )
    return rows


def _table(rng: np.random.Generator, names: list[str], rows: list[list[str]], separator: str) -> bytes:
    ends = ("\n", "\n", "\r\n", "\r")[int(rng.integers(4))]
    header = [names] if rng.random() < 0.9 else []
    return (ends.join(separator.join(row) for row in [*header, *rows]) + ends).encode()


def _items(rng: np.random.Generator) -> tuple[list[str], list[list[str]]]:
    genres = ("Action|Drama", '"Action, Drama"', "Action", "", "['Action']", "Arts & Crafts")
    rows = [[f"i{number}", f"Title {number} (19{70 + number})", str(rng.choice(genres)), "plot"] for number in range(1, 9)]
    return ["item_id", "title", "genres", "description"], rows


def _settings(rng: np.random.Generator) -> dict[str, Any]:
    names = sorted(SETTINGS)
    chosen = [names[int(rng.integers(len(names)))] for _ in range(int(rng.integers(0, 4)))]
    return {name: SETTINGS[name][int(rng.integers(len(SETTINGS[name])))] for name in chosen}


def _text(rng: np.random.Generator, folder: Path) -> Case:
    separator, ending = ((",", "csv"), ("\t", "tsv"), (";", "csv"), ("::", "dat"), ("|", "txt"))[int(rng.integers(5))]
    content = _table(rng, ["user_id", "item_id", "rating", "timestamp"], _rows(rng), separator)
    log = folder / f"r.{ending}"
    packed = int(rng.integers(6))
    if packed == 0:
        log, content = folder / f"r.{ending}.gz", gzip.compress(content)
    elif packed == 1:
        log, content = folder / f"r.{ending}.bz2", bz2.compress(content)
    elif packed == 2:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"r.{ending}", content)
        log, content = folder / "r.zip", buffer.getvalue()
    log.write_bytes(content)
    options = {"path": str(folder), "interactions": log.name, **_settings(rng)}
    if rng.random() < 0.6:
        (folder / "items.csv").write_bytes(_table(rng, *_items(rng), ","))
        options["items"] = "items.csv"
    if rng.random() < 0.3:
        (folder / "users.csv").write_bytes(b"user_id,age,gender,occupation\n" + b"".join(b"%d,30,F,nurse\n" % n for n in range(1, 6)))
        options["users"] = "users.csv"
    return Case("environments.datasets.tables:InteractionTables", options, folder if rng.random() < 0.5 else log)


def _json(rng: np.random.Generator, folder: Path) -> Case:
    write: Callable[[Any], str] = json.dumps if rng.random() < 0.5 else repr
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    rows = [dict(zip(names, (user, item, float(rating), time), strict=True)) for user, item, rating, time in _rows(rng)]
    (folder / "r.json").write_text("\n".join(write(row) for row in rows) + "\n")
    (folder / "meta_r.json").write_text(
        "".join(write({"asin": f"i{n}", "title": f"T{n}", "categories": [["A", "B"]]}) + "\n" for n in range(9))
    )
    if rng.random() < 0.5:
        return Case("environments.datasets.amazon:AmazonReviews", {"path": str(folder)}, folder)
    return Case("environments.datasets.tables:InteractionTables", {"path": str(folder), "interactions": "r.json", **_settings(rng)}, folder)


def _parquet(rng: np.random.Generator, folder: Path) -> Case:
    rows = _rows(rng)
    columns: dict[str, Any] = {
        "user_id": [float(row[0]) for row in rows] if rng.random() < 0.5 else [row[0] for row in rows],
        "item_id": [row[1] for row in rows],
        "rating": [float(row[2]) if rng.random() < 0.9 else None for row in rows],
        "timestamp": [datetime(2020, 1, 1) + timedelta(seconds=n) for n in range(len(rows))],
        "weight": [timedelta(seconds=n) for n in range(len(rows))],
        "review": [b"\xff"] * len(rows),
    }
    frame = pl.DataFrame({name: values for name, values in columns.items() if rng.random() < 0.9} or {"user_id": [1]})
    if rng.random() < 0.3:
        (folder / "r.parquet").mkdir()
        for number in range(2):
            frame.write_parquet(folder / "r.parquet" / f"part-{number}.parquet")
    else:
        frame.write_parquet(folder / "r.parquet")
    options = {"path": str(folder), "interactions": "r.parquet", **_settings(rng)}
    return Case("environments.datasets.tables:InteractionTables", options, folder / "r.parquet")


def _atomic(rng: np.random.Generator, folder: Path) -> Case:
    names = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    (folder / "x.inter").write_bytes(_table(rng, names, _rows(rng), "\t"))
    (folder / "x.item").write_bytes(
        b"item_id:token\ttitle:token_seq\tclass:token_seq\n" + b"".join(b"i%d\tT %d\ta b\n" % (n, n) for n in range(9))
    )
    known = (
        "rating_scale",
        "unrated",
        "time_unit",
        "time_format",
        "duplicates",
        "unlisted",
        "on_bad_rows",
        "rating",
        "timestamp",
        "domain",
    )
    options = {name: value for name, value in _settings(rng).items() if name in known}
    return Case("environments.datasets.atomic:RecBoleAtomic", {"path": str(folder), **options}, folder)


def _movielens(rng: np.random.Generator, folder: Path) -> Case:
    rows = [[user, item[1:], rating, time] for user, item, rating, time in _rows(rng)]
    skip = {"on_bad_rows": "skip"} if rng.random() < 0.5 else {}
    if rng.random() < 0.5:
        films = "".join(f"{n}|Film {n} (199{n})|01-Jan-1995||x|0|1\n" for n in range(1, 9))
        people = "".join(f"{n}|24|M|writer|1\n" for n in range(1, 6))
        for name, text in (("u.genre", "unknown|0\nAction|1\n"), ("u.item", films), ("u.user", people)):
            (folder / name).write_text(text)
        (folder / "u.data").write_text("".join("\t".join(row) + "\n" for row in rows))
        return Case("environments.datasets.movielens:MovieLens100K", {"path": str(folder), **skip}, folder)
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(f"{n},Film {n} (199{n}),A|B\n" for n in range(1, 9)))
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,1,good,100\n")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(",".join(row) + "\n" for row in rows))
    return Case("environments.datasets.movielens:MovieLensLatest", {"path": str(folder), **skip}, folder)


KINDS = (_text, _text, _text, _json, _parquet, _atomic, _movielens)


# --- how it is damaged -------------------------------------------------------------------------------------------------


def _a_place(rng: np.random.Generator, content: bytes) -> int:
    return int(rng.integers(0, len(content) + 1))


def _an_odd_field(rng: np.random.Generator, content: bytes) -> bytes:
    """A field, or what stands between two signs, is something else."""
    pieces = content.replace(b"\t", b",").replace(b";", b",").split(b",") if rng.random() < 0.5 else content.split(b",")
    pieces[int(rng.integers(len(pieces)))] = ODD[int(rng.integers(len(ODD)))].encode()
    return b",".join(pieces)


def _put_in(rng: np.random.Generator, content: bytes) -> bytes:
    place = _a_place(rng, content)
    return content[:place] + ODD[int(rng.integers(len(ODD)))].encode() + content[place:]


def _a_byte(rng: np.random.Generator, content: bytes) -> bytes:
    changed = bytearray(content or b"x")
    changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    return bytes(changed)


def _cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: _a_place(rng, content)]


def _taken_out(rng: np.random.Generator, content: bytes) -> bytes:
    start = _a_place(rng, content)
    return content[:start] + content[start + int(rng.integers(1, 20)) :]


def _lines(rng: np.random.Generator, content: bytes) -> bytes:
    """Lines in another order, twice, or one gone."""
    lines = content.split(b"\n")
    one = int(rng.integers(len(lines)))
    how = int(rng.integers(4))
    if how == 0:
        return b"\n".join(lines[place] for place in rng.permutation(len(lines)))
    if how == 1:
        return b"\n".join([*lines[:one], *lines[one + 1 :]])
    return b"\n".join([*lines, lines[one]]) if how == 2 else b"\n".join(line + b"," for line in lines)


def _another(rng: np.random.Generator, content: bytes) -> bytes:
    """Another file altogether."""
    return (
        b"",
        b"\n\n",
        b"<html><body>404</body></html>\n",
        b"PK\x03\x04",
        b"PAR1",
        b"{}",
        b"[]",
        b"\xff\xfe" + content,
        content * 2,
        b"a\n" * 9,
    )[int(rng.integers(10))]


DAMAGES = (_an_odd_field, _an_odd_field, _an_odd_field, _put_in, _put_in, _a_byte, _cut, _taken_out, _lines, _another)
