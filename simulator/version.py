"""The version of this project, from the installed distribution."""

from __future__ import annotations

from importlib import metadata

__version__: str = metadata.version("usersim")
