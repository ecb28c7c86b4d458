"""Which sequences of different lengths are computed in one call."""

from __future__ import annotations

from collections.abc import Sequence

CALL_COST = 12
"""What a call costs before its first token, in tokens: reading all weights once. Measured on a CPU (experiments/LOG.md)."""


def batches(lengths: Sequence[int], outputs: Sequence[int], *, tokens: int, members: int, rows: int) -> list[list[int]]:
    """Divides sequences into calls so that the whole work is smallest.

    In a call all sequences are padded to the longest, so a call of k sequences costs ``CALL_COST + k * longest``. Neighbours
    in order of length are put together; where to cut between them is found exactly, by dynamic programming.

    Args:
        lengths: tokens of each sequence. outputs: rows of logits wanted of each.
        tokens: most padded tokens of a call. members: most sequences of a call. rows: most rows of logits of a call.

    Returns:
        Numbers of the sequences of each call, shortest sequences first. One that is beyond the limits by itself is alone.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    best, cut = [0.0], [0]
    for end in range(1, len(order) + 1):
        longest, wanted = lengths[order[end - 1]], 0
        cost, start = float("inf"), end - 1
        for begin in range(end - 1, -1, -1):
            count = end - begin
            wanted += outputs[order[begin]]
            if count > 1 and (count > members or count * longest > tokens or wanted > rows):
                break
            if (total := best[begin] + CALL_COST + count * longest) < cost:
                cost, start = total, begin
        best.append(cost)
        cut.append(start)
    calls: list[list[int]] = []
    end = len(order)
    while end:
        calls.append(order[cut[end] : end])
        end = cut[end]
    return calls[::-1]
