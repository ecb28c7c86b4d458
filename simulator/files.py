"""Files that appear whole or not at all, and that are not believed when they are damaged.

Writing: `write_atomically` for files and `new_folder` for folders, both under a name of their own, brought to the disk, then renamed.
A folder of a run holds `SUMS`, the SHA-256 of its files in the form of ``sha256sum``, and a JSON document its own `CHECKSUM`.
Reading: `reading` turns whatever goes wrong into one sentence that names the file, what is wrong, and the way out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator import kill_points
from simulator.errors import RunError, UsersimError

if TYPE_CHECKING:
    import polars as pl

SUMS = "SHA256SUMS"
"""File of a folder that names its files with their SHA-256."""

CHECKSUM = "checksum"
"""Key of a JSON document that holds the SHA-256 of the rest of it."""

ROWS = "usersim.rows"
"""Key of a Parquet file's metadata that holds the SHA-256 of its rows."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How Polars names an error of the system."""

_SQLITE = {"disk is full": errno.ENOSPC, "disk I/O error": errno.EIO, "readonly database": errno.EROFS, "unable to open": errno.EACCES}
"""What SQLite says -> what the system said to it."""

# --- writing --------------------------------------------------------------------------------------------------------


def write_atomically(file: Path, content: bytes | Callable[[Path], object]) -> None:
    """Writes a file so that it appears whole or not at all, in place of an older one.

    Args:
        file: what is to be there; its folder exists.
        content: its bytes, or what writes them into a file of another name.

    Raises:
        OSError: it could not be written; the older file, if there was one, is as it was.
    """
    temporary = _beside(file)
    try:
        with naming(file):
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                content(temporary)
            _sync(temporary)
            kill_points.passed()
            temporary.replace(file)
            _sync_folder(file.parent)
            kill_points.passed()
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: Path, *, sums: bool = False, keep_other: bool = True) -> Iterator[Path]:
    """A folder to fill, renamed to its place when the block ends without an error.

    Args:
        target: where it is to be. sums: whether it gets a file `SUMS`.
        keep_other: whether a folder that has come to be there meanwhile is as good (another process was quicker with the same
            deterministic result), and is kept.

    Raises:
        OSError: it could not be filled, and nothing is left of it; or it could not be brought to its place, or that is taken: then what
            was filled stays under its temporary name.
    """
    temporary = _beside(target)
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            if sums:
                (temporary / SUMS).write_text(_listed(sums_of(temporary)), encoding="utf-8")
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        kill_points.passed()
        try:
            temporary.rename(target)
        except OSError as error:
            # Only a folder that is in the way with something in it means that another process was quicker.
            if not keep_other or error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.is_dir():
                raise
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(target.parent)
        kill_points.passed()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system in this block name `path`, what was to be written, whatever library met them.

    Raises:
        OSError: with number, reason and path.
    """
    try:
        yield
    except (UsersimError, ConnectionError, TimeoutError):
        raise
    except OSError as error:
        other = None if error.filename is None else Path(os.fsdecode(error.filename))
        if other is not None and not any(part.endswith(".part") for part in other.parts):
            raise
        raise OSError(error.errno or _number(error) or errno.EIO, error.strerror or str(error), str(path)) from error
    except Exception as error:
        refused = system_error(error)
        if refused is None:
            raise
        raise OSError(refused.errno, refused.strerror, str(path)) from error


def system_error(error: Exception) -> OSError | None:
    """What the system refused where a library says it in an error of its own (Polars, SQLite), else None."""
    number = _number(error)
    if number is None and isinstance(error, sqlite3.OperationalError):
        number = next((number for text, number in _SQLITE.items() if text in str(error)), None)
    return None if number is None else OSError(number, os.strerror(number))


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays as ``.npz``, whatever the name of the file ends with; for `write_atomically`.

    Args:
        file: where. arrays: name -> array; no Python objects.
    """
    import numpy as np  # noqa: PLC0415 - as with Polars

    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def remove(path: Path) -> None:
    """Removes a file or a folder with everything in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- sums -----------------------------------------------------------------------------------------------------------


def sha256(file: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sums_of(folder: Path) -> dict[str, str]:
    """Path below `folder` -> SHA-256 of every file there but `SUMS`, sorted by path."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: sha256(file) for name, file in sorted(files.items()) if name != SUMS}


def recorded_sums(folder: Path) -> dict[str, str] | None:
    """What the file `SUMS` of a folder says; None if there is none (older runs), or if it is damaged."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    pairs = [line.split("  ", 1) for line in lines]
    return {pair[1]: pair[0] for pair in pairs} if all(len(pair) == 2 for pair in pairs) else None


def damage(folder: Path) -> str:
    """What is wrong with a folder that was written with its sums, in a few words; empty if it is whole, or has no sums to tell by."""
    if not folder.is_dir():
        return "it is not a folder"
    if not (folder / SUMS).exists():
        return "" if any(folder.iterdir()) else "it is empty"
    recorded = recorded_sums(folder)
    if not recorded:
        return f"{SUMS} is damaged"
    try:
        found = sums_of(folder)
    except OSError as error:
        return f"{Path(os.fsdecode(error.filename)).name} cannot be read: {error.strerror}"
    wrong = next((name for name, digest in recorded.items() if found.get(name) != digest), None)
    return "" if wrong is None else f"{wrong} is {'not what was written' if wrong in found else 'missing'}"


def check_sum(file: Path, way_out: str, error: type[UsersimError] = RunError) -> None:
    """Checks that a file is the one that its folder was written with, as far as the folder has sums.

    Raises:
        UsersimError: it is not.
    """
    recorded = recorded_sums(file.parent)
    if recorded is None or file.name not in recorded or not file.is_file():
        return
    if sha256(file) != recorded[file.name]:
        raise error(f"{file} is not what was written, as {SUMS} beside it says; {way_out}.")


# --- reading --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading(file: Path, way_out: str, error: type[UsersimError] = RunError) -> Iterator[None]:
    """Whatever goes wrong in this block, in which `file` is read and made sense of, becomes one sentence.

    Args:
        file: a file or folder that usersim wrote. way_out: what to do if it is damaged, an imperative.
        error: what is raised.

    Raises:
        UsersimError: of the kind `error`.
    """
    try:
        yield
    except (UsersimError, MemoryError):
        raise
    except BaseException as found:
        # A panic of Polars on damaged bytes is no Exception.
        if not isinstance(found, Exception) and type(found).__name__ != "PanicException":
            raise
        raise error(f"{file} cannot be read ({_reason(found, file)}); {way_out}.") from found


def read_json(file: Path, way_out: str, error: type[UsersimError] = RunError, kind: type = dict, *, unlimited: bool = False) -> Any:
    """A JSON file that holds a value of this kind.

    Args:
        file: UTF-8. way_out, error: see `reading`. kind: dict or list. unlimited: whether numbers may be NaN or infinite.

    Raises:
        UsersimError: it is missing, no JSON, has a number that is none (NaN, or Infinity), or holds something else.
    """
    with reading(file, way_out, error):
        try:
            found = json.loads(file.read_text(encoding="utf-8"), parse_constant=float if unlimited else _no_number)
        except json.JSONDecodeError as wrong:
            raise error(f"{file} line {wrong.lineno} is not JSON: {wrong.msg}; {way_out}.") from wrong
        if not isinstance(found, kind):
            raise ValueError(f"it holds {_kind(found)} where {'an object' if kind is dict else 'a list'} is expected")
    return found


def write_document(file: Path, document: Mapping[str, Any], *, indent: int = 2) -> None:
    """Writes a JSON object atomically, with its `CHECKSUM`; one that the document has from before is replaced.

    Raises:
        OSError: it could not be written.
    """
    plain = {key: value for key, value in document.items() if key != CHECKSUM}
    text = json.dumps({**plain, CHECKSUM: checksum(plain)}, indent=indent, ensure_ascii=False, default=_as_list)
    write_atomically(file, (text + "\n").encode())


def read_document(
    file: Path, way_out: str, error: type[UsersimError] = RunError, *, unlimited: bool = False
) -> tuple[dict[str, Any], bool]:
    """A JSON object that `write_document` wrote.

    Args:
        file, way_out, error, unlimited: see `read_json`.

    Returns:
        The object without its checksum, and whether it is what was written; True where there is no checksum (older files).

    Raises:
        UsersimError: see `read_json`.
    """
    document: dict[str, Any] = read_json(file, way_out, error, unlimited=unlimited)
    told = document.pop(CHECKSUM, None)
    return document, told is None or told == checksum(document)


def write_table(file: Path, frame: pl.DataFrame) -> None:
    """Writes a Parquet file atomically, which names the SHA-256 of its rows among its metadata (`ROWS`).

    Raises:
        OSError: it could not be written.
    """
    metadata = {ROWS: rows_sha256(frame)}
    write_atomically(file, lambda path: frame.write_parquet(path, metadata=metadata))


def checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever the order of its keys and the white space between them."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_as_list)
    # As it will be read: keys are text by then, and tuples lists.
    text = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_table(file: Path, way_out: str, error: type[UsersimError] = RunError) -> pl.DataFrame:
    """A Parquet file; its path is no pattern, whatever brackets or stars are in it.

    Raises:
        UsersimError: it is missing or damaged, see `reading`, or its rows are not those that `write_table` wrote.
    """
    import polars as pl  # noqa: PLC0415 - who only writes files needs none

    with reading(file, way_out, error):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        frame = pl.read_parquet(file, glob=False)
        with file.open("rb") as stream:
            told = pl.read_parquet_metadata(stream).get(ROWS)
        if told is not None and told != rows_sha256(frame):
            raise ValueError("its rows are not those that were written")
    return frame


def rows_sha256(frame: pl.DataFrame) -> str:
    """SHA-256 of a table's rows in order: its header and rows as CSV, floats in shortest exact notation, lists joined by ';'."""
    import polars as pl  # noqa: PLC0415 - see `read_table`

    lists = [name for name, dtype in frame.schema.items() if dtype.base_type() is pl.List]
    flat = frame.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(";") for name in lists)
    digest = hashlib.sha256()
    digest.update(",".join(flat.columns).encode() + b"\n")
    for part in flat.iter_slices(100_000):
        digest.update(part.write_csv(include_header=False, null_value="\\N").encode())
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    """A new name in the same folder; short, since the longest name that a file system takes may be wanted."""
    return path.parent / f".{path.name[:40].encode()[:80].decode(errors='ignore')}.{uuid.uuid4().hex[:16]}.part"


def _listed(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def _number(error: BaseException) -> int | None:
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def _reason(error: BaseException, file: Path) -> str:
    """What happened, in one line without the path, which stands before it."""
    if isinstance(error, OSError) and error.strerror:
        other = Path(os.fsdecode(error.filename)) if error.filename is not None else file
        return error.strerror if other == file else f"{other.name}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no text"
    short = text if len(text) <= 200 else text[:200] + "..."
    return short if type(error) is ValueError and short else f"{type(error).__name__}: {short}" if short else type(error).__name__


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


def _as_list(value: Any) -> Any:
    """Arrays as lists; other things cannot be written as JSON."""
    listed = getattr(value, "tolist", None)
    if listed is None:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
    return listed()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Brings a new name to the disk, where folders can be synchronised."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.EBADF, errno.ENOTSUP):
            raise
