"""Prompts as one flat array of tokens: what a language model is tuned on, and what it is asked.

A row is one person: the prefix (rules, who they are, what they remember) and, behind it, several pages. Every page is a
branch: its tokens see the prefix and their own page, and their positions continue the prefix. So each page is exactly the
prompt of one page turn, while the prefix is computed once for all of them::

    prefix: rules person          positions 0 .. p-1     branch 0
    page A                        positions p .. p+a-1   branch 1
    page B                        positions p .. p+b-1   branch 2

Only numpy is needed to read a pack, so that the tuning itself can run on a machine that has little else than torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulator.files import reading


@dataclass(frozen=True, eq=False)
class Pack:
    """Rows of tokens with probes.

    Attributes:
        tokens: token ids, int32, shape (n,). positions: place in the own prompt, int32, shape (n,).
        branches: 0 for the prefix, then 1, 2 ... per row, int16, shape (n,).
        personal: whether a token describes the person (the prefix without the rules), bool, shape (n,).
        starts: first token of each row and the end of the last, int64, shape (rows + 1,).
        probe_at: token behind which a probe is read, as index into `tokens`, ascending, int64, shape (p,).
        probe_kind: which entry of `kinds`, int8, shape (p,).
        probe_label: which label is true, int8, shape (p,); -1 where that is not known. probe_share: how much of the answer that is
            taught is this label, the other labels having equal parts of the rest, float32 in [0, 1], shape (p,); 1: all of it.
        probe_user, probe_item: whose probe it is, and about which item (-1: none), int32, shape (p,).
        probe_place: place of the item on its page, from 1 (0: none), int16, shape (p,).
        kinds: names of the actions. label_tokens: per kind and label, the tokens that can begin the label.
    """

    tokens: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    personal: np.ndarray
    starts: np.ndarray
    probe_at: np.ndarray
    probe_kind: np.ndarray
    probe_label: np.ndarray
    probe_user: np.ndarray
    probe_item: np.ndarray
    probe_place: np.ndarray
    probe_share: np.ndarray
    kinds: tuple[str, ...]
    label_tokens: tuple[tuple[tuple[int, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64, shape (rows,)."""
        return np.diff(self.starts)

    @property
    def labels(self) -> int:
        """Probes whose true label is known."""
        return int((self.probe_label >= 0).sum())

    @property
    def users(self) -> np.ndarray:
        """Whose each row is, from its first probe; int32, shape (rows,)."""
        return self.probe_user[np.searchsorted(self.probe_at, self.starts[:-1])]

    def only(self, rows: np.ndarray) -> Pack:
        """Some of the rows, in their order here."""
        token = np.repeat(rows, self.lengths)
        probe = rows[np.searchsorted(self.starts, self.probe_at, side="right") - 1]
        moved = np.cumsum(token) - 1
        found = {name: getattr(self, name)[token] for name in ("tokens", "positions", "branches", "personal")}
        found |= {name: getattr(self, name)[probe] for name in _ARRAYS if name.startswith("probe_")}
        found |= {"probe_at": moved[self.probe_at[probe]], "starts": np.concatenate([[0], np.cumsum(self.lengths[rows])])}
        return Pack(**found, kinds=self.kinds, label_tokens=self.label_tokens)

    def save(self, path: Path) -> None:
        """Writes one ``.npz`` file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with path.open("wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps({"kinds": self.kinds, "label_tokens": self.label_tokens})), **arrays)

    @classmethod
    def load(cls, path: Path) -> Pack:
        """Reads what `save` wrote.

        Raises:
            RunError: the file is missing or damaged.
        """
        with reading(path, f"remove {path.with_name('prepared.json')} or the folder above, and the examples are written again"):
            return cls._loaded(path)

    @classmethod
    def _loaded(cls, path: Path) -> Pack:
        with np.load(path) as stored:
            header = json.loads(str(stored["header"]))
            arrays = {name: stored[name] for name in _ARRAYS if name in stored.files}
            arrays.setdefault("probe_share", np.ones(len(arrays["probe_at"]), np.float32))
        tokens = tuple(tuple(tuple(label) for label in kind) for kind in header["label_tokens"])
        return cls(**arrays, kinds=tuple(header["kinds"]), label_tokens=tokens)


_ARRAYS = (
    "tokens",
    "positions",
    "branches",
    "personal",
    "starts",
    "probe_at",
    "probe_kind",
    "probe_label",
    "probe_user",
    "probe_item",
    "probe_place",
    "probe_share",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One probe of a page.

    Attributes:
        offset: token of the page behind which it is read (-1: the last token of the prefix). kind, label: see `Pack`.
        item, place: what it is about.
    """

    offset: int
    kind: int
    label: int
    item: int
    place: int


@dataclass(frozen=True, slots=True)
class Branch:
    """One page: its tokens, int32, and its probes in order."""

    tokens: np.ndarray
    asks: tuple[Ask, ...]


class PackBuilder:
    """Collects rows.

    Args:
        kinds: names of the actions, in the order of `Ask.kind`. label_tokens: see `Pack`.
        row_tokens: a person's pages are spread over several rows of at most this many tokens (one page always fits).
    """

    def __init__(self, kinds: Sequence[str], label_tokens: Sequence[Sequence[Sequence[int]]], row_tokens: int) -> None:
        self._kinds, self._label_tokens = tuple(kinds), tuple(tuple(tuple(label) for label in kind) for kind in label_tokens)
        self._row_tokens = row_tokens
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in ("tokens", "positions", "branches", "personal")}
        self._starts = [0]
        self._probes: list[tuple[int, int, int, int, int, int]] = []

    def add(self, user: int, prefix: np.ndarray, shared: int, pages: Sequence[Branch]) -> None:
        """Adds a person.

        Args:
            user: user code. prefix: token ids; the first `shared` of them say nothing about the person.
            pages: the person's pages.
        """
        for group in _groups([len(page.tokens) for page in pages], self._row_tokens - len(prefix)):
            start = self._starts[-1]
            self._append(prefix, 0, 0, np.arange(len(prefix)) >= shared)
            end = start + len(prefix)
            for number, index in enumerate(group, start=1):
                page = pages[index]
                self._append(page.tokens, len(prefix), number, np.zeros(len(page.tokens), dtype=bool))
                for ask in page.asks:
                    at = end + ask.offset if ask.offset >= 0 else start + len(prefix) - 1
                    self._probes.append((at, ask.kind, ask.label, user, ask.item, ask.place))
                end += len(page.tokens)
            self._starts.append(end)

    def build(self) -> Pack:
        """The pack of all rows added."""
        joined = {name: np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32) for name, parts in self._parts.items()}
        probes = np.array(self._probes, dtype=np.int64).reshape(-1, 6)
        probes = probes[np.argsort(probes[:, 0], kind="stable")]
        return Pack(
            tokens=joined["tokens"].astype(np.int32),
            positions=joined["positions"].astype(np.int32),
            branches=joined["branches"].astype(np.int16),
            personal=joined["personal"].astype(bool),
            starts=np.array(self._starts, dtype=np.int64),
            probe_at=probes[:, 0],
            probe_kind=probes[:, 1].astype(np.int8),
            probe_label=probes[:, 2].astype(np.int8),
            probe_user=probes[:, 3].astype(np.int32),
            probe_item=probes[:, 4].astype(np.int32),
            probe_place=probes[:, 5].astype(np.int16),
            probe_share=np.ones(len(probes), np.float32),
            kinds=self._kinds,
            label_tokens=self._label_tokens,
        )

    def _append(self, tokens: np.ndarray, first: int, branch: int, personal: np.ndarray) -> None:
        self._parts["tokens"].append(np.asarray(tokens, dtype=np.int32))
        self._parts["positions"].append(np.arange(first, first + len(tokens), dtype=np.int32))
        self._parts["branches"].append(np.full(len(tokens), branch, dtype=np.int16))
        self._parts["personal"].append(personal)


def _groups(lengths: Sequence[int], room: int) -> list[list[int]]:
    groups: list[list[int]] = []
    used = room + 1
    for number, length in enumerate(lengths):
        if used + length > room:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += length
    return groups


def batches(pack: Pack, most_tokens: int, order: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in batches of about equal length.

    Args:
        pack: the rows. most_tokens: a batch of k rows has at most this many places, padding included (one row always fits).
        order: a permutation of the rows; rows are sorted by length within stretches of it, so that batches differ from one
            order to another.

    Yields:
        Row numbers, int64.
    """
    stretch = 256
    found = [some for first in range(0, len(order), stretch) for some in alike(pack.lengths, order[first : first + stretch], most_tokens)]
    # Short rows would otherwise always come before long ones.
    mixed = np.argsort([int(order[rows[0]]) for rows in found], kind="stable") if len(found) > 1 else range(len(found))
    for number in mixed:
        yield found[int(number)]


def alike(lengths: np.ndarray, rows: np.ndarray, most_tokens: int) -> list[np.ndarray]:
    """Rows sorted by length and cut into batches of at most `most_tokens` places, padding included (one row always fits)."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    found, begin = [], 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or lengths[rows[end]] * (end + 1 - begin) > most_tokens:
            found.append(rows[begin:end])
            begin = end
    return found


def steps(pack: Pack, step_tokens: int, order: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in an order, cut into steps of about equally many tokens; a step has one row at least.

    Args:
        pack: the rows. step_tokens: of one step, about. order: a permutation of the rows.
    """
    ends = np.cumsum(pack.lengths[order])
    count = max(1, round(int(ends[-1]) / step_tokens))
    number = (ends - 1) * count // ends[-1]
    yield from np.split(order, np.flatnonzero(np.diff(number)) + 1)
