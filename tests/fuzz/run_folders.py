"""Folders of runs with damage in them, each made from one seed: what a disk, a copy or a hand leaves of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulator.seeds import Stream

JOINED = ("impressions", "pages", "sessions", "memories", "texts")
DERIVED = ("run.log", "run.lock")
"""Files of a run that nobody reads a figure from."""

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 10**30, 1e308, -0.5, float("nan"), float("inf")),
    *("", "x", "é😀", "a" * 5_000, "../..", "\x00", "nan", "7", [], [[]], [1], ["x"], [None], {}, {"a": 1}, {"user": None}),
)
"""What stands in documents where something else should."""

ODD_BYTES = (
    *(
        b"",
        b"\n",
        b"null",
        b"{}",
        b"[]",
        b"[3]",
        b"3",
        b'"x"',
        b"{",
        b"NaN",
        b"PAR1",
        b"PAR1\x00\x00\x00\x00PAR1",
        b"PK\x03\x04",
        b"\x93NUMPY",
    ),
    *(
        b"<html><body>404</body></html>\n",
        b"\xff\xfe\x00",
        b"\x00" * 4_096,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ),
    *(b"[" * 100_000, b'{"a": ' * 50_000, b"x" * 100_000, b"a = [" * 1_000),
)
"""Whole files that something else is in place of."""


@dataclass(frozen=True)
class Case:
    """A damaged run.

    Attributes:
        state: "finished", or how far it had come. touched: what was damaged, by its path in the run's folder, with what was done.
    """

    state: str
    touched: tuple[tuple[str, str], ...]

    @property
    def told(self) -> str:
        """All of it in one line."""
        return f"{self.state}: " + ", ".join(f"{how} {name}" for name, how in self.touched)


def damage(seed: int, run: Path, spare: Path) -> Case:
    """Damages a finished run in place.

    Args:
        seed: of everything. run: the run's folder, a copy. spare: another finished run of the same experiment with another seed.
    """
    rng = Stream(seed).child("run folders").generator()
    state = ("finished", "finished", "finished", "all shards", "half", "half", "prepared")[int(rng.integers(7))]
    _cut_short(run, state)
    touched = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if rng.random() < 0.2:
            how = FOLDER_DAMAGES[int(rng.integers(len(FOLDER_DAMAGES)))]
            place = how(rng, run, spare)
        else:
            file = _a_file(rng, run)
            if file is None:
                continue
            place = file.relative_to(run).as_posix()
            kinds = [*FILE_DAMAGES, *FILE_DAMAGES, *(ROT.get(file.suffix, ()) * 6)]
            how = kinds[int(rng.integers(len(kinds)))]
            how(rng, file, spare / place)
        if place:
            touched.append((place, how.__name__.lstrip("_")))
    return Case(state, tuple(touched))


def _cut_short(run: Path, state: str) -> None:
    """Takes away what was not there yet when a run had come so far."""
    if state == "finished":
        return
    for name in ("summary.json", "hashes.json", *(f"{table}.parquet" for table in JOINED)):
        (run / name).unlink()
    if state == "half":
        shutil.rmtree(run / "rounds" / "001" / "cohort-0001")
    if state == "prepared":
        shutil.rmtree(run / "rounds")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and file.name not in DERIVED)


def _a_file(rng: np.random.Generator, run: Path) -> Path | None:
    """A file: those at the top as often as those of each folder."""
    groups: dict[str, list[Path]] = {}
    for file in _files(run):
        parts = file.relative_to(run).parts
        groups.setdefault(f"*{file.suffix}" if len(parts) == 1 else parts[0], []).append(file)
    if not groups:
        return None
    names = sorted(groups)
    group = groups[names[int(rng.integers(len(names)))]]
    return group[int(rng.integers(len(group)))]


# --- any file ----------------------------------------------------------------------------------------------------------


def _deleted(_: np.random.Generator, file: Path, __: Path) -> None:
    file.unlink()


def _cut(rng: np.random.Generator, file: Path, _: Path) -> None:
    raw = file.read_bytes()
    file.write_bytes(raw[: int(rng.integers(len(raw) + 1))])


def _flipped(rng: np.random.Generator, file: Path, _: Path) -> None:
    raw = bytearray(file.read_bytes() or b"x")
    for place in rng.integers(len(raw), size=int(rng.integers(1, 4))):
        raw[int(place)] ^= 1 << int(rng.integers(8))
    file.write_bytes(bytes(raw))


def _put_in(rng: np.random.Generator, file: Path, _: Path) -> None:
    raw = file.read_bytes()
    place = int(rng.integers(len(raw) + 1))
    file.write_bytes(raw[:place] + bytes(rng.integers(256, size=int(rng.integers(1, 30)), dtype=np.uint8)) + raw[place:])


def _doubled(_: np.random.Generator, file: Path, __: Path) -> None:
    file.write_bytes(file.read_bytes() * 2)


def _something_else(rng: np.random.Generator, file: Path, _: Path) -> None:
    file.write_bytes(ODD_BYTES[int(rng.integers(len(ODD_BYTES)))])


def _a_folder(rng: np.random.Generator, file: Path, _: Path) -> None:
    file.unlink()
    file.mkdir()
    if rng.random() < 0.5:
        (file / "x").write_bytes(b"x")


def _a_link(rng: np.random.Generator, file: Path, _: Path) -> None:
    """To nothing, or to itself."""
    file.unlink()
    file.symlink_to(file.name if rng.random() < 0.5 else "nothing")


def _swapped(rng: np.random.Generator, file: Path, _: Path) -> None:
    """With a file of the same ending, from anywhere in the run."""
    root = next(folder for folder in file.parents if (folder.parent / "spare").is_dir())
    others = [other for other in _files(root) if other.suffix == file.suffix and other != file]
    if others:
        other = others[int(rng.integers(len(others)))]
        own = file.read_bytes()
        file.write_bytes(other.read_bytes())
        if rng.random() < 0.5:
            other.write_bytes(own)


def _of_another_run(_: np.random.Generator, file: Path, spare: Path) -> None:
    if spare.is_file():
        shutil.copyfile(spare, file)


FILE_DAMAGES = (_deleted, _cut, _flipped, _put_in, _doubled, _something_else, _a_folder, _a_link, _swapped, _of_another_run)

# --- documents, settings, tables, arrays -------------------------------------------------------------------------------


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder with every key or place in it, of a JSON document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield value, key
        yield from _places(entry)


def _another_value(rng: np.random.Generator, file: Path, _: Path) -> None:
    document = json.loads(file.read_bytes() or b"{}")
    places = list(_places(document))
    if places:
        holder, key = places[int(rng.integers(len(places)))]
        how = int(rng.integers(4))
        if how == 0 and isinstance(holder, dict):
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        else:
            holder[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    file.write_text(json.dumps(document, ensure_ascii=bool(rng.integers(2))), encoding="utf-8")


def _another_setting(rng: np.random.Generator, file: Path, _: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    place = int(rng.integers(len(lines)))
    values = (
        "0",
        "1",
        "-1",
        "nan",
        "inf",
        '"x"',
        "[]",
        "{}",
        "true",
        "1e99",
        "'../..'",
        "1979-05-27",
        '"agents.controls:RandomDecisions"',
        "= 1",
    )
    key = lines[place].partition("=")[0].strip() or "seed"
    how = int(rng.integers(4))
    lines[place] = ("", f"{key}x = 1", f"{key} = {values[int(rng.integers(len(values)))]}", f"[{key}]")[how] if "[" not in key else "[x]"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _another_table(rng: np.random.Generator, file: Path, _: Path) -> None:
    frame = pl.read_parquet(file, glob=False)
    name = frame.columns[int(rng.integers(frame.width))]
    how = int(rng.integers(10))
    rows = max(1, frame.height)
    changed = (
        lambda: pl.DataFrame({"a": [1, 2, 3]}),
        lambda: frame.drop(name),
        lambda: frame.rename({name: f"{name}x"}),
        lambda: frame.head(0),
        lambda: frame.head(int(rng.integers(rows))),
        lambda: pl.concat([frame, frame.head(2)]),
        lambda: frame.sample(fraction=1.0, shuffle=True, seed=1),
        lambda: frame.with_columns(pl.lit(None).alias(name)),
        lambda: frame.with_columns(pl.col(name).reverse()),
        lambda: frame.with_columns(pl.lit("x").alias(name)),
    )[how]()
    changed.write_parquet(file)


def _another_array(rng: np.random.Generator, file: Path, _: Path) -> None:
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = sorted(arrays)[int(rng.integers(len(arrays)))]
    array = arrays[name]
    how = int(rng.integers(4))
    if how == 0:
        del arrays[name]
    else:
        arrays[name] = (array, array[..., :-1] if array.ndim else array + 1, np.zeros_like(array), array.astype(str))[how]
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


ROT: dict[str, tuple[Callable[[np.random.Generator, Path, Path], None], ...]] = {
    ".json": (_another_value,),
    ".toml": (_another_setting,),
    ".parquet": (_another_table,),
    ".npz": (_another_array,),
}

# --- folders -----------------------------------------------------------------------------------------------------------


def _a_folder_of(rng: np.random.Generator, run: Path) -> Path | None:
    folders = sorted(folder for folder in run.rglob("*") if folder.is_dir() and not folder.is_symlink())
    return folders[int(rng.integers(len(folders)))] if folders else None


def _folder_gone(rng: np.random.Generator, run: Path, _: Path) -> str:
    folder = _a_folder_of(rng, run)
    if folder is None:
        return ""
    shutil.rmtree(folder)
    if rng.random() < 0.3:
        folder.write_bytes(b"x")
    return folder.relative_to(run).as_posix()


def _folder_emptied(rng: np.random.Generator, run: Path, _: Path) -> str:
    folder = _a_folder_of(rng, run)
    if folder is None:
        return ""
    shutil.rmtree(folder)
    folder.mkdir()
    return folder.relative_to(run).as_posix()


def _folder_of_another_run(rng: np.random.Generator, run: Path, spare: Path) -> str:
    folder = _a_folder_of(rng, run)
    if folder is None or not (spare / folder.relative_to(run)).is_dir():
        return ""
    shutil.rmtree(folder)
    shutil.copytree(spare / folder.relative_to(run), folder)
    return folder.relative_to(run).as_posix()


def _folders_swapped(rng: np.random.Generator, run: Path, _: Path) -> str:
    """Two folders of the same kind, each under the other's name; or one twice."""
    kinds = [sorted(run.glob(pattern)) for pattern in ("rounds/*/cohort-*", "recommenders/round-*", "rounds/[0-9]*")]
    kind = [folder for folder in kinds[int(rng.integers(3))] if folder.is_dir()]
    if len(kind) < 2:
        return ""
    one, other = (kind[int(place)] for place in rng.choice(len(kind), 2, replace=False))
    aside = run / ".aside"
    one.rename(aside)
    if rng.random() < 0.5:
        other.rename(one)
        aside.rename(other)
    else:
        shutil.copytree(other, one)
        shutil.rmtree(aside)
    return one.relative_to(run).as_posix()


def _folder_too_many(rng: np.random.Generator, run: Path, _: Path) -> str:
    folder = _a_folder_of(rng, run)
    if folder is None:
        return ""
    names = ("cohort-0007", "cohort-x", "007", "x", "round-009", ".x.part")
    new = folder.parent / names[int(rng.integers(len(names)))]
    if new.exists():
        return ""
    shutil.copytree(folder, new)
    return new.relative_to(run).as_posix()


FOLDER_DAMAGES = (_folder_gone, _folder_emptied, _folder_of_another_run, _folders_swapped, _folder_too_many)
