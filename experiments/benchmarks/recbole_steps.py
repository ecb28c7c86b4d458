"""How long RecBole's training steps take: run by the Python of RecBole's own environment, for `recommender_speed`.

Reads one JSON document from stdin: {"model", "settings", "steps", "epochs", "threads", "seed", "items", "interactions"}, the last two as in
`environments.recommenders.replies`. Writes {"seconds": [per epoch], "steps": in each}.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from recbole_worker import Worker  # type: ignore[import-not-found]  # beside this file, and run from its folder


class FirstSteps:
    """The first batches of a data loader."""

    def __init__(self, loader: Any, steps: int) -> None:
        self._loader, self._steps = loader, steps

    def __len__(self) -> int:
        return min(self._steps, len(self._loader))

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self._loader), self._steps)


def main() -> None:
    """Answers the document."""
    import torch  # noqa: PLC0415

    asked = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # RecBole prints
    torch.set_num_threads(asked["threads"])
    with closing(Worker(asked["model"], asked["settings"])) as worker:
        trainer, parts = worker.prepare(asked)
        seconds = []
        first = FirstSteps(parts[0], asked["steps"])
        for epoch in range(asked["epochs"]):
            started = time.perf_counter()
            trainer._train_epoch(first, epoch, show_progress=False)
            seconds.append(time.perf_counter() - started)
    json.dump({"seconds": seconds, "steps": len(first)}, out)


if __name__ == "__main__":
    main()
