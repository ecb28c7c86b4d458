"""A split of the data's own: a second file of held-out interactions, or a column that says of each row what it is for.

Such a column holds words, ``train``, ``validation`` (or ``valid``, ``dev``) and ``test``, in any case; or whole numbers, of which
`dataset.test_fold` names those that are held out, the greatest if it names none. Rows for validation belong to the training part: usersim
sets thresholds and weights on hidden training rows of validation users, and opens nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from environments.datasets.raw_table import LINE, RawTable
from environments.datasets.reading import Reader
from simulator.dataset import HELD_OUT
from simulator.errors import DataError

FOLD: Final[str] = "fold"
TRAINING: Final[tuple[str, ...]] = ("train", "training")
VALIDATION: Final[tuple[str, ...]] = ("validation", "valid", "val", "dev")
TEST: Final[tuple[str, ...]] = ("test", "testing")


def by_line(reader: Reader, table: RawTable, known: int) -> RawTable:
    """Picked interactions with `HELD_OUT`: the rows after line `known` are held out."""
    return _told(reader, table.with_column(HELD_OUT, pl.col(LINE) > known), "the file of held-out interactions")


def by_fold(reader: Reader, table: RawTable, numbers: Sequence[int] | None) -> RawTable:
    """Picked interactions with `HELD_OUT` in place of the column `FOLD`.

    Args:
        reader: for the checks. table: with `FOLD`, as text. numbers: those that are held out, None for the greatest.

    Raises:
        DataError: a value is neither of the words nor, as all others, a whole number, or a number to hold out does not occur.
    """
    name = table.names[FOLD]
    table = table.with_column(FOLD, pl.col(FOLD).fill_null("").str.strip_chars().str.to_lowercase())
    words = pl.col(FOLD).is_in([*TRAINING, *VALIDATION, *TEST])
    counted = table.frame[FOLD].str.replace(r"^([+-]?\d+)\.0*$", "${1}").cast(pl.Int64, strict=False)
    if counted.null_count() < table.frame.select((~words).sum()).item() or not table.frame.height:
        allowed = "a whole number, as in other rows"
        table = reader.check(table, pl.lit(counted.is_null()), column=FOLD, reason="unknown fold", allowed=allowed)
        table = table.with_column(FOLD, pl.lit(counted.drop_nulls()))
        found = table.frame[FOLD].unique().sort().to_list()
        missing = [number for number in numbers or () if number not in found]
        if missing or not found:
            shown = ", ".join(map(str, found[:20])) + (" ..." if len(found) > 20 else "")
            raise DataError(
                f"{table.path}, column '{name}': dataset.test_fold names {missing[0] if missing else 'no fold'}, which no row has; the "
                f"column holds {shown or 'nothing'}."
            )
        held = tuple(numbers) if numbers is not None else (found[-1],)
        how = f"{', '.join(map(str, held))} of the folds {found[0]} to {found[-1]} in column '{name}'"
        table = table.with_column(HELD_OUT, pl.col(FOLD).is_in(list(held)))
    else:
        if numbers is not None:
            raise DataError(
                f"{table.path}, column '{name}': dataset.test_fold = {list(numbers)} names numbers, but the column holds words; "
                "leave it out, then 'test' is held out."
            )
        allowed = "train, validation or test, or whole numbers in all rows"
        table = reader.check(table, ~words, column=FOLD, reason="unknown fold", allowed=allowed)
        how = f"'test' in column '{name}'; validation rows belong to the training part"
        table = table.with_column(HELD_OUT, pl.col(FOLD).is_in(list(TEST)))
    return _told(reader, replace(table, frame=table.frame.drop(FOLD)), how)


def _told(reader: Reader, table: RawTable, how: str) -> RawTable:
    reader.tell("held out", f"{int(table.frame[HELD_OUT].sum()):,} rows ({how})")
    return table
