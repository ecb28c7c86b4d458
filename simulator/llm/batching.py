"""Which sequences of different lengths are computed in one call."""

from __future__ import annotations

from collections.abc import Sequence

CALL_COST = 12
"""What a call costs before its first token, in tokens: reading all weights once. Measured on a CPU (experiments/LOG.md)."""

CELLS = 256
"""llama.cpp lets every token of a call attend over a multiple of so many cells: enough for the longest sequence."""

CELLS_COST = 0.2
"""By what share every further multiple makes a token dearer. Measured as `CALL_COST`."""


def batches(
    lengths: Sequence[int], outputs: Sequence[int], *, tokens: int, members: int, rows: int, starts: Sequence[int] | None = None
) -> list[list[int]]:
    """Divides sequences into calls so that the whole work is smallest.

    In a call all sequences are padded to the longest, so a call of k sequences costs ``CALL_COST + k * longest``, times what the cells
    cost that the longest one fills. Neighbours in order of cells, then of length, are put together; where to cut between them is
    found exactly, by dynamic programming.

    Args:
        lengths: tokens of each sequence. outputs: rows of logits wanted of each.
        tokens: most padded tokens of a call. members: most sequences of a call. rows: most rows of logits of a call.
        starts: tokens that stand before them in each sequence; none if not given.

    Returns:
        Numbers of the sequences of each call, shortest sequences first. One that is beyond the limits by itself is alone.
    """
    starts = starts or [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda i: (_blocks(starts[i] + lengths[i]), lengths[i], i))
    best, cut = [0.0], [0]
    for end in range(1, len(order) + 1):
        longest, furthest, wanted = 0, 0, 0
        cost, start = float("inf"), end - 1
        for begin in range(end - 1, -1, -1):
            count = end - begin
            longest = max(longest, lengths[order[begin]])
            furthest = max(furthest, starts[order[begin]])
            wanted += outputs[order[begin]]
            if count > 1 and (count > members or count * longest > tokens or wanted > rows):
                break
            dearer = 1.0 + CELLS_COST * (_blocks(furthest + longest) - 1)
            if (total := best[begin] + CALL_COST + count * longest * dearer) < cost:
                cost, start = total, begin
        best.append(cost)
        cut.append(start)
    calls: list[list[int]] = []
    end = len(order)
    while end:
        calls.append(order[cut[end] : end])
        end = cut[end]
    return calls[::-1]


def _blocks(cells: int) -> int:
    """Multiples of `CELLS` that so many cells need, at least 1."""
    return max(1, -(-cells // CELLS))
