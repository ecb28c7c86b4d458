import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from simulator.dataset import FILMS, Catalog, Dataset
from simulator.kill_points import VARIABLE
from simulator.seeds import Stream

settings.register_profile("any machine", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("any machine")

GENRES = ("Crime", "Comedy", "Drama", "Western")


@pytest.fixture(scope="module", autouse=True)
def _only_new_objects_are_collected() -> None:
    """What earlier modules imported and keep is not searched again by each collection of garbage; a run asks for several."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Copies of public data sets beside the repository; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with copies of public data sets")
    return folder


def made_up_films(n_users: int = 24, n_items: int = 40) -> Dataset:
    """A small world with taste: people prefer items whose number leaves the same rest by 2; ratings 1-5, several sittings."""
    rng = Stream(11).child("made up films").generator()
    items = pl.DataFrame(
        {
            "item": np.arange(n_items, dtype=np.int32),
            "item_id": [str(100 + item) for item in range(n_items)],
            "title": [f"Film {item}" for item in range(n_items)],
            "year": pl.Series([1950 + item for item in range(n_items)], dtype=pl.Int32),
            "genres": [[GENRES[item % 2], GENRES[2 + item % 2]] for item in range(n_items)],
            "description": pl.Series([None] * n_items, dtype=pl.String),
        }
    )
    users = pl.DataFrame(
        {
            "user": np.arange(n_users, dtype=np.int32),
            "user_id": [f"u{user}" for user in range(n_users)],
            "age": pl.Series([20 + user for user in range(n_users)], dtype=pl.Int32),
            "gender": ["female" if user % 3 else "male" for user in range(n_users)],
            "occupation": ["writer"] * n_users,
        }
    )
    rows = []
    for user in range(n_users):
        own = [item for item in range(n_items) if item % 2 == user % 2]
        seen = rng.permutation(own)[: 8 + user % 8].tolist() + rng.permutation(n_items)[:4].tolist()
        time = 880_000_000 + user * 1_000
        for count, item in enumerate(dict.fromkeys(seen)):
            time += 4 * 86_400 if count % 6 == 5 else int(rng.integers(5, 60))
            rating = float(np.clip((4 if item % 2 == user % 2 else 2) + rng.integers(-1, 2), 1, 5))
            rows.append((user, item, rating, time))
    interactions = pl.DataFrame(
        rows, schema={"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}, orient="row"
    )
    return Dataset("made up films", Catalog(items, FILMS), users, interactions, (1.0, 5.0))


@pytest.fixture(scope="session")
def film_world() -> Dataset:
    return made_up_films()


@pytest.fixture(scope="session")
def film_files(tmp_path_factory: pytest.TempPathFactory, film_world: Dataset) -> Path:
    """The same world as files in the layout of MovieLens-100K."""
    folder = tmp_path_factory.mktemp("films")
    catalog = film_world.catalog
    (folder / "u.genre").write_text("".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)), encoding="latin-1")
    lines = []
    for row in catalog.items.iter_rows(named=True):
        flags = "|".join("1" if genre in row["genres"] else "0" for genre in GENRES)
        lines.append(f"{row['item_id']}|{row['title']} ({row['year']})|01-Jan-{row['year']}|||{flags}\n")
    (folder / "u.item").write_text("".join(lines), encoding="latin-1")
    people = film_world.users.iter_rows(named=True)
    (folder / "u.user").write_text(
        "".join(f"{p['user_id'][1:]}|{p['age']}|{p['gender'][0].upper()}|{p['occupation']}|00000\n" for p in people), encoding="latin-1"
    )
    ids = catalog.item_ids
    log = film_world.interactions.iter_rows()
    (folder / "u.data").write_text(
        "".join(f"{user}\t{ids[item]}\t{rating:.0f}\t{time}\n" for user, item, rating, time in log), encoding="latin-1"
    )
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden prompt files anew")


@pytest.fixture(scope="session")
def killed_at() -> Callable[..., int]:
    """Runs a command line in a process of its own that kills itself at a counted write (`simulator.kill_points`); its exit status."""

    def run(point: int, *arguments: str) -> int:
        root = Path(__file__).resolve().parents[1]
        command = [sys.executable, "-m", "experiments.cli", *arguments]
        return subprocess.run(command, cwd=root, env={**os.environ, VARIABLE: str(point)}, capture_output=True, check=False).returncode

    return run
