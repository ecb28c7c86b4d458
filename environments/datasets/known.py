"""What is known of a data set that can be fetched by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.downloads import Source
from simulator.paths import data_folder


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """A data set that can be fetched by name.

    Attributes:
        name: for commands and the cache folder. about: one line. terms: of use. loader: import path of its loader.
        sources: where it can be had, in order of preference.
    """

    name: str
    about: str
    terms: str
    loader: str
    sources: tuple[Source, ...]

    @property
    def folder(self) -> Path:
        """Where it is kept on this machine."""
        return data_folder(self.name)

    @property
    def is_present(self) -> bool:
        """Whether all files of one of the sources are there (not verified: `get` does that)."""
        return any(all((self.folder / file.name).is_file() for file in source.files) for source in self.sources)
