"""Opens an exported run in RecBole itself and trains a model on it, to see that the files are what RecBole wants.

RecBole 1.2.1 needs older libraries than this project, so it lives in an environment of its own::

    python3 -m venv recbole-env
    recbole-env/bin/pip install recbole==1.2.1 numpy==1.26.4 pandas==2.1.4 scipy==1.11.4 'setuptools<81' torch==2.13.0
    usersim export RUN --format recbole --include-real --output exported/films
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 recbole-env/bin/python experiments/benchmarks/open_in_recbole.py exported/films

This file imports nothing of this project. It prints one JSON document and fails if a count differs from the files.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def main(folder: Path) -> dict[str, Any]:
    """Loads, splits and trains one epoch of BPR.

    Args:
        folder: of the export, holding ``NAME.inter``, ``NAME.user``, ``NAME.item`` where NAME is the folder's name.

    Returns:
        Counts that RecBole found, and its test metrics.
    """
    from recbole.config import Config  # type: ignore[import-not-found]  # noqa: PLC0415 - only in RecBole's own environment
    from recbole.data import create_dataset, data_preparation  # type: ignore[import-not-found]  # noqa: PLC0415
    from recbole.model.general_recommender import BPR  # type: ignore[import-not-found]  # noqa: PLC0415
    from recbole.trainer import Trainer  # type: ignore[import-not-found]  # noqa: PLC0415
    from recbole.utils import init_seed  # type: ignore[import-not-found]  # noqa: PLC0415

    name = folder.resolve().name
    headers = {kind: (folder / f"{name}.{kind}").read_text(encoding="utf-8").splitlines() for kind in ("inter", "user", "item")}
    fields = {kind: [field.split(":")[0] for field in lines[0].split("\t")] for kind, lines in headers.items()}
    settings = {
        "data_path": str(folder.resolve().parent),
        "load_col": fields,
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "epochs": 1,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO" if "timestamp" in fields["inter"] else "RO", "mode": "full"},
        "checkpoint_dir": tempfile.mkdtemp(),
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    config = Config(model="BPR", dataset=name, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    rows = len(headers["inter"]) - 1
    if dataset.inter_num != rows:
        raise SystemExit(f"RecBole read {dataset.inter_num} interactions of {rows}.")
    # RecBole counts a padding token with the users and items, and all rows of the .user and .item files.
    for kind, found in (("user", dataset.user_num - 1), ("item", dataset.item_num - 1)):
        if found != len(headers[kind]) - 1:
            raise SystemExit(f"RecBole read {found} {kind}s of {len(headers[kind]) - 1}.")
    train, valid, test = data_preparation(config, dataset)
    trainer = Trainer(config, BPR(config, train.dataset).to(config["device"]))
    trainer.fit(train, valid, saved=True, show_progress=False)
    metrics = trainer.evaluate(test, load_best_model=True, show_progress=False)
    counts = {"interactions": dataset.inter_num, "users": dataset.user_num - 1, "items": dataset.item_num - 1, "fields": fields}
    return {"dataset": name, **counts, "test": {metric: float(value) for metric, value in metrics.items()}}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: open_in_recbole.py FOLDER-OF-THE-EXPORT")
    print(json.dumps(main(Path(sys.argv[1])), indent=2))
