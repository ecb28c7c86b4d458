"""Where downloaded files are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """The cache: ``$USERSIM_CACHE`` if set, else the platform's user cache (``$XDG_CACHE_HOME`` is respected). May not exist yet."""
    chosen = os.environ.get("USERSIM_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("usersim", appauthor=False)


def without_places(text: str) -> str:
    """A sentence for a file that others read too: folders of this machine are named by what they are, the cache and the home folder."""
    return text.replace(str(cache_folder()), "the cache").replace(str(Path.home()), "~")


def data_folder(name: str) -> Path:
    """Where the data set of this name is kept. May not exist yet."""
    return cache_folder() / "data" / name


def model_folder() -> Path:
    """Where model files are kept. May not exist yet."""
    return cache_folder() / "models"
