"""How a label is spelled in tokens, and how the probabilities of labels are read from a model's next-token distribution.

A probe sits after some text. Its labels continue that text with a space, unless the text ends in white space or an opening
bracket or quote. Tokenisers differ in where they put that space: SmolLM2 writes " yes" as one token but " 5" as two, a
space and a digit. Tokens that all labels begin with carry no information, so they are moved into the text before the probe.

The probability of a label is that of its spelling. For labels of one token, other spellings that are one token too
("Yes", "yes" without the space) count as well. Labels of several tokens, or one that begins another ("1" and "10"), form a
trie, and the model is asked again after each inner node::

    P(label) = product over its tokens of P(token | text, tokens before)
    P("1")   = P(1 | text) * (1 - sum of P(continuations of "1" that lead to another label))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from simulator.errors import ModelError
from simulator.records import Probe

Tokens = tuple[int, ...]
Tokenize = Callable[[str, str], Sequence[int]]
"""(text before, text) -> tokens of the text where it continues the text before."""

OPENING = "([{<\"'“‘«/"
"""Behind these a label begins without a space."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """The labels of a probe in tokens.

    Attributes:
        prefix: tokens that all labels begin with; they belong to the text before the probe.
        labels: tokens of each label after the prefix; never empty, all different.
        first: for each label, the tokens that can begin it: its own first token, then other spellings of one token.
        inner: token sequences after which the model must be asked again, shortest first; empty if `first` tells all labels apart.
    """

    prefix: Tokens
    labels: tuple[Tokens, ...]
    first: tuple[Tokens, ...]
    inner: tuple[Tokens, ...]


def spell(probe: Probe, before: str, tokenize: Tokenize) -> Spelling:
    """Finds the tokens of a probe's labels.

    Args:
        probe: where the model is asked.
        before: the text before it, or its last characters; must not end in a space (see `stripped`).
        tokenize: of the model.

    Raises:
        ModelError: there are fewer than two labels, one is empty, or two are written with the same tokens.
    """
    if len(probe.labels) < 2:
        raise ModelError(f"probe '{probe.name}' needs at least two labels, not {list(probe.labels)}.")
    space = "" if not before or before[-1].isspace() or before[-1] in OPENING else " "
    written = [tuple(tokenize(before, space + label)) if label.strip() else () for label in probe.labels]
    for label, tokens in zip(probe.labels, written, strict=True):
        if not tokens:
            raise ModelError(f"label {label!r} of probe '{probe.name}' has no token in this model's vocabulary; choose another word.")
    if len(set(written)) < len(written):
        twins = [label for label, tokens in zip(probe.labels, written, strict=True) if written.count(tokens) > 1]
        raise ModelError(f"labels {twins} of probe '{probe.name}' are the same tokens for this model; choose words that differ.")
    shortest = min(len(tokens) for tokens in written)
    shared = len(list(takewhile(lambda i: len({tokens[i] for tokens in written}) == 1, range(shortest - 1))))
    labels = tuple(tokens[shared:] for tokens in written)
    return Spelling(written[0][:shared], labels, _first(probe, before, space, shared, labels, tokenize), _inner(labels))


def _first(probe: Probe, before: str, space: str, shared: int, labels: Sequence[Tokens], tokenize: Tokenize) -> tuple[Tokens, ...]:
    own = {tokens[0] for tokens in labels}
    first: list[Tokens] = []
    for label, tokens in zip(probe.labels, labels, strict=True):
        others: list[int] = []
        # After a moved prefix (a space) the other spellings would repeat it.
        if len(tokens) == 1 and not shared:
            for variant in (label, label.capitalize(), label.lower(), label.upper()):
                for lead in (space, "", " "):
                    spelled = tokenize(before, lead + variant)
                    if len(spelled) == 1 and spelled[0] not in own:
                        others.append(spelled[0])
                        own.add(spelled[0])
        first.append((tokens[0], *others))
    return tuple(first)


def _inner(labels: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """Sequences shared by at least two labels; a label that stands alone after its first tokens needs no further question."""
    found = {tokens[:n] for tokens in labels for n in range(1, len(tokens) + 1) if sum(other[:n] == tokens[:n] for other in labels) > 1}
    return tuple(sorted(found, key=lambda tokens: (len(tokens), tokens)))


def stripped(text: str) -> str:
    """A text before a probe without trailing spaces: the labels bring their own."""
    return text.rstrip(" ")


def log_softmax_at(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """Natural log of the probability of some tokens.

    Args:
        logits: float32, shape (vocabulary,). tokens: whose probability is wanted.

    Returns:
        float64, shape (len(tokens),).
    """
    highest = logits.max()
    total = np.exp(logits - highest).sum(dtype=np.float64)
    return np.asarray(logits[list(tokens)].astype(np.float64) - float(highest) - np.log(total))


def read(spelling: Spelling, logits: np.ndarray, ask: Callable[[Tokens], np.ndarray]) -> tuple[np.ndarray, float]:
    """Label probabilities at one probe.

    Args:
        spelling: of its labels. logits: float32, shape (vocabulary,), at the probe.
        ask: logits after the given tokens, which continue the text after the probe's prefix. Called only for `inner`.

    Returns:
        Natural log of the probability of each label, normalised over the labels (float64), and the probability of all
        labels together before that.
    """
    return combine(spelling, log_softmax_at(logits, wanted(spelling)), lambda start, tokens: log_softmax_at(ask(start), tokens))


def wanted(spelling: Spelling) -> list[int]:
    """The tokens whose probabilities at the probe decide, label by label."""
    return [token for tokens in spelling.first for token in tokens]


def following(spelling: Spelling, start: Tokens) -> list[int]:
    """The tokens whose probabilities behind an inner node decide, ascending."""
    n = len(start)
    return sorted({tokens[n] for tokens in spelling.labels if tokens[:n] == start and len(tokens) > n})


def combine(spelling: Spelling, at_probe: np.ndarray, ask: Callable[[Tokens, Sequence[int]], np.ndarray]) -> tuple[np.ndarray, float]:
    """Label probabilities from the probabilities of single tokens.

    Args:
        spelling: of the labels of a probe. at_probe: natural logs for `wanted`, at the probe.
        ask: natural logs for `following`, behind an inner node. Called only for `inner`.

    Returns:
        As `read`.
    """
    ends = np.cumsum([len(tokens) for tokens in spelling.first])
    chances = np.exp(np.asarray(at_probe, np.float64))
    weights = np.array([chances[end - len(tokens) : end].sum() for end, tokens in zip(ends, spelling.first, strict=True)])
    if spelling.inner:
        _resolve(spelling, weights, ask)
    mass = float(weights.sum())
    tiny = np.finfo(np.float64).tiny
    logs = np.log(np.maximum(weights, tiny))
    return logs - np.log(np.exp(logs).sum()), min(mass, 1.0)


def _resolve(spelling: Spelling, weights: np.ndarray, ask: Callable[[Tokens, Sequence[int]], np.ndarray]) -> None:
    """Replaces the weights of labels that share their first tokens by the exact ones."""
    for start in spelling.inner:
        n = len(start)
        members = [k for k, tokens in enumerate(spelling.labels) if tokens[:n] == start]
        longer = [k for k in members if len(spelling.labels[k]) > n]
        tokens = following(spelling, start)
        chance = dict(zip(tokens, np.exp(np.asarray(ask(start, tokens), np.float64)), strict=True))
        # All members carry the probability of `start` at this point; each takes its own share of it.
        for k in members:
            weights[k] *= chance[spelling.labels[k][n]] if k in longer else max(0.0, 1.0 - sum(chance.values()))
