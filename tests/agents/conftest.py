"""Small data sets for the tests of this folder."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from simulator.dataset import FILMS, INTERACTIONS_SCHEMA, ITEMS_SCHEMA, USERS_SCHEMA, Catalog, Dataset

Row = tuple[int, int, float | None, int | None]
MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """Builds a data set from rows (user, item, rating, timestamp) and the genres of each item."""

    def make(
        rows: Sequence[Row],
        genres: Sequence[Sequence[str]],
        scale: tuple[float, float] | None = (1.0, 5.0),
        ages: Sequence[int | None] | None = None,
    ) -> Dataset:
        n_users, n_items = max(row[0] for row in rows) + 1, len(genres)
        items = pl.DataFrame(
            {
                "item": np.arange(n_items, dtype=np.int32),
                "item_id": [f"i{i}" for i in range(n_items)],
                "title": [f"Film {i}" for i in range(n_items)],
                "year": [None] * n_items,
                "genres": [list(g) for g in genres],
                "description": [None] * n_items,
            },
            schema=dict(ITEMS_SCHEMA),
        )
        users = pl.DataFrame(
            {
                "user": np.arange(n_users, dtype=np.int32),
                "user_id": [f"u{i}" for i in range(n_users)],
                "age": ages or [None] * n_users,
                "gender": [None] * n_users,
                "occupation": [None] * n_users,
            },
            schema=dict(USERS_SCHEMA),
        )
        interactions = pl.DataFrame(sorted(rows, key=lambda row: row[0]), schema=dict(INTERACTIONS_SCHEMA), orient="row")
        return Dataset("small", Catalog(items, FILMS), users, interactions, scale)

    return make
