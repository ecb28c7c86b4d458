"""The bytes of data files: plain or compressed, whole or in a folder of parts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from simulator.archives import LARGEST_RATIO_OF_OWN, BombError, most_unpacked, read_up_to
from simulator.errors import DataError
from simulator.web import size_of

TEXT = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".dat": None, ".txt": None, ".data": None}
"""Endings of text files, with the separator that an ending promises."""

JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
TABLES = (*TEXT, *JSON, *PARQUET)
"""Endings of files that hold a table, each also compressed."""

COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
_SHEETS = (".xlsx", ".xls", ".ods")


def find_file(folder: Path, names: Iterable[str], what: str) -> Path:
    """The first of `names` that exists in `folder`.

    Raises:
        DataError: the folder or all of the files are missing.
    """
    wanted = list(names)
    if not os.path.isdir(folder):
        raise DataError(f"there is no folder '{folder}' to read {what} from; allowed is a folder that holds {' or '.join(wanted)}.")
    for name in wanted:
        if os.path.isfile(folder / name):
            return folder / name
    present = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise DataError(f"there is no file {' or '.join(wanted)} in '{folder}', which {what} needs; the folder holds {present}.")


def kind(path: Path) -> str:
    """The ending that tells what a file holds, lower case: ``.csv`` of ``log.csv.gz``; of a ``.zip`` that of the file in it; "" if none."""
    name = path.name
    if path.suffix.lower() == ".zip":
        inner = Path(name[: -len(".zip")]).suffix.lower()
        return inner if inner in TABLES else Path(_member(path).filename).suffix.lower()
    if path.suffix.lower() in COMPRESSED:
        name = name[: -len(path.suffix)]
    return Path(name).suffix.lower()


def parts(path: Path) -> list[Path]:
    """The files of a table: `path` itself, or the parts in a folder of that name, in order of their numbers.

    Spark, Dask and others write tables as folders of parts (``part-00000.csv``); files whose name starts with a dot or an underscore are
    notes of theirs.

    Raises:
        DataError: nothing is there, or the folder is not one of parts of one kind.
    """
    if not os.path.isdir(path):
        return [path]
    found = [Path(entry.path) for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith((".", "_"))]
    files = sorted((file for file in found if kind(file) in TABLES), key=_by_number)
    kinds = sorted({kind(file) for file in files})
    if not files:
        raise DataError(
            f"the folder '{path}' holds no file with one of the endings {', '.join(TABLES)}; allowed is a file, or a folder of parts."
        )
    if len(kinds) > 1:
        raise DataError(f"the folder '{path}' holds files of the kinds {', '.join(kinds)}; allowed are parts of one table; name a file.")
    return files


def read_bytes(path: Path) -> bytes:
    """The contents of a file, unpacked if its name ends in ``.gz``, ``.bz2``, ``.xz`` or ``.zip`` (of one file).

    Raises:
        DataError: the file is missing, empty, unreadable, or a damaged archive.
    """
    suffix = path.suffix.lower()
    if suffix in _SHEETS:
        raise DataError(f"'{path}' is a workbook of a spreadsheet; allowed is a table as text: save the sheet as .csv.")
    raw = _unpacked(path, suffix) if suffix in COMPRESSED else _raw(path)
    if not raw.strip():
        raise DataError(f"'{path}' is empty; allowed is a file with at least one row, fetch it again.")
    return raw


def _raw(path: Path) -> bytes:
    try:
        if path.is_char_device() or path.is_block_device():  # a pipe ends, these need not
            raise DataError(f"'{path}' is a device; allowed is a file.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no file '{path}'; check the path, or fetch the data again.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"'{path}' cannot be read: {reason}; allowed is a readable file.") from error


def _unpacked(path: Path, suffix: str) -> bytes:
    if suffix == ".zip":
        return _unzipped(path)
    raw, name = _raw(path), {".gz": "gzip", ".bz2": "bzip2"}.get(suffix, "xz")
    unpacking: Mapping[str, Callable[[IO[bytes]], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open}  # type: ignore[dict-item]
    try:
        with unpacking.get(suffix, lzma.open)(io.BytesIO(raw)) as content:
            return read_up_to(content, most_unpacked(len(raw), LARGEST_RATIO_OF_OWN))
    except BombError as error:
        raise _bomb(path, error, len(raw)) from error
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"'{path}' is not a complete {name} file ({error}); it was probably cut off, fetch it again.") from error


def _unzipped(path: Path) -> bytes:
    member, raw = _member(path), _raw(path)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive, archive.open(member) as content:
            return read_up_to(content, most_unpacked(len(raw), LARGEST_RATIO_OF_OWN))
    except BombError as error:
        raise _bomb(path, error, len(raw)) from error
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error, lzma.LZMAError) as error:
        # a password is a RuntimeError, an unknown method a NotImplementedError, which is one too
        raise DataError(
            f"'{path}': its file {member.filename} cannot be unpacked ({error}); unpack it yourself and name the file."
        ) from error


def check_size(path: Path, unpacked: int, packed: int) -> None:
    """Passes if a file of one's own may become as large as it says that it will.

    Raises:
        DataError: no table that people write does.
    """
    most = most_unpacked(packed, LARGEST_RATIO_OF_OWN)
    if unpacked > most:
        raise _bomb(path, BombError(f"would unpack to {size_of(unpacked)}, more than {size_of(most)}"), packed)


def _bomb(path: Path, error: BombError, packed: int) -> DataError:
    return DataError(
        f"'{path}' {error}, and it has {size_of(packed)} itself: that is no table as people pack them. If it is right, unpack it yourself "
        "and name the file."
    )


def _member(path: Path) -> zipfile.ZipInfo:
    """The only file of a zip; what macOS adds does not count."""
    try:
        with zipfile.ZipFile(io.BytesIO(_raw(path))) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"'{path}' is not a complete zip file ({error}); it was probably cut off, fetch it again.") from error
    files = [
        entry
        for entry in entries
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/") and not Path(entry.filename).name.startswith(".")
    ]
    if len(files) != 1:
        names = ", ".join(entry.filename for entry in files[:8]) or "nothing"
        raise DataError(f"'{path}' holds {len(files)} files ({names}), allowed is one; unpack it and name the folder or the file.")
    return files[0]


def _by_number(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Order in which part-2 comes before part-10."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], path.name
