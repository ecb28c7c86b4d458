"""SVD++, SVD and the baseline of Surprise on Surprise's own folds, in an environment of its own.

This file imports nothing of this project and is run by another Python::

    python3 -m venv surprise-env
    surprise-env/bin/pip install scikit-surprise==1.1.5
    surprise-env/bin/python experiments/benchmarks/surprise_worker.py RATINGS.csv [--model SVDpp] [--folds 5]

RATINGS.csv has the columns user, item and rating, in the order of the data set's own file. The answer is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import metadata
from typing import Any

MODELS = ("SVDpp", "SVD", "BaselineOnly")


def main() -> None:
    """Trains each model, with its defaults and seed 0, on each fold."""
    import surprise  # type: ignore[import-not-found]  # noqa: PLC0415 - of the other environment
    from surprise.model_selection import KFold  # type: ignore[import-not-found]  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this one; may be repeated")
    parser.add_argument("--folds", type=int, default=5, help="the first so many of five")
    asked = parser.parse_args()
    with open(asked.ratings, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split(",") for line in file][1:]
    given = [float(row[2]) for row in rows]
    data = surprise.Dataset(reader=surprise.Reader(rating_scale=(min(given), max(given))))
    data.raw_ratings = [(user, item, float(rating), None) for user, item, rating in rows]
    found: dict[str, Any] = {"surprise": metadata.version("scikit-surprise"), "numpy": metadata.version("numpy"), "models": {}}
    for name in asked.model or MODELS:
        judged = []
        for number, (train, test) in enumerate(KFold(n_splits=5, random_state=0).split(data)):
            if number >= asked.folds:
                break
            options: dict[str, Any] = {"verbose": False} if name == "BaselineOnly" else {"random_state": 0}
            started = time.perf_counter()
            model = getattr(surprise, name)(**options)
            model.fit(train)
            seconds = time.perf_counter() - started
            told = model.test(test)
            judged.append(
                {
                    "rmse": surprise.accuracy.rmse(told, verbose=False),
                    "mae": surprise.accuracy.mae(told, verbose=False),
                    "fit_seconds": seconds,
                }
            )
        found["models"][name] = {key: sum(one[key] for one in judged) / len(judged) for key in judged[0]} | {"folds": len(judged)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
