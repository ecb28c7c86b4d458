"""Any model of RecBole 1.2.1 as a recommender of ours, in RecBole's own environment.

RecBole needs older libraries than this project, so this file imports nothing of it and is run by another Python, as a program that
speaks JSON lines (`environments.recommenders.program`)::

    python3 -m venv recbole-env
    recbole-env/bin/pip install recbole==1.2.1 numpy==1.26.4 pandas==2.1.4 scipy==1.11.4 'setuptools<81' torch==2.13.0

    [recommender]
    use = "environments.recommenders.program:Program"
    command = ["recbole-env/bin/python", "experiments/benchmarks/recbole_worker.py", "--model", "LightGCN", "--set", "epochs=50"]

Nine tenths of the log train the model and one tenth decides when to stop. General models rank people of the log by what they
learned about them; sequential models read the history that comes with the question, so new people and grown histories count.
Whoever the model cannot rank gets the most popular items.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # RecBole's checkpoints hold more than weights

Json = dict[str, Any]


class Worker:
    """One RecBole model, from the atomic files in a folder to ranked lists."""

    def __init__(self, model: str, settings: Json) -> None:
        self._model_name = model
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="recbole-"))
        self._about: Json = {}
        self._model: Any = None
        self._dataset: Any = None

    def fit(self, message: Json) -> Json:
        """Trains, and keeps the best weights."""
        trainer, parts = self.prepare(message)
        trainer.fit(parts[0], parts[1], saved=True, show_progress=False)
        shutil.copy(trainer.saved_model_file, self._folder / "weights.pth")
        self._restore_weights()
        return self._state()

    def prepare(self, message: Json) -> tuple[Any, Any]:
        """Writes the log as an atomic file; RecBole's trainer for it, and its parts to train on and to validate with."""
        log = message["interactions"]
        rows = sorted(
            zip(log["user"], log["item"], log["timestamp"], range(len(log["user"])), strict=True), key=lambda row: (row[0], row[3])
        )
        place = self._folder / "log"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        with (place / "log.inter").open("w", encoding="utf-8") as file:
            file.write("user_id:token\titem_id:token\ttimestamp:float\n")
            # the place in the log stands for missing times, so that the order is never lost
            file.writelines(f"{user}\t{item}\t{place if time is None else time}\n" for user, item, time, place in rows)
        counts = dict.fromkeys((item["id"] for item in message["items"]), 0)
        for item in log["item"]:
            counts[item] += 1
        self._about = {"seed": message["seed"], "popular": sorted(counts, key=lambda item: -counts[item])}
        return self._prepare(train=True)

    def save(self, message: Json) -> Json:
        """Copies the log, the weights and what else is needed."""
        target = Path(message["folder"])
        shutil.copytree(self._folder / "log", target / "log", dirs_exist_ok=True)
        shutil.copy(self._folder / "weights.pth", target / "weights.pth")
        (target / "about.json").write_text(json.dumps(self._about), encoding="utf-8")
        return {}

    def load(self, message: Json) -> Json:
        """Restores what `save` copied."""
        source = Path(message["folder"])
        shutil.copytree(source / "log", self._folder / "log", dirs_exist_ok=True)
        shutil.copy(source / "weights.pth", self._folder / "weights.pth")
        self._about = json.loads((source / "about.json").read_text(encoding="utf-8"))
        self._prepare(train=False)
        self._restore_weights()
        return self._state()

    def recommend(self, message: Json) -> Json:
        """One list per person."""
        return {"slates": [self._slate(person, message["n"]) for person in message["people"]]}

    def close(self) -> None:
        """Removes the working folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _state(self) -> Json:
        return {"state": f"{self._model_name}-{self._about['seed']}"}

    def _prepare(self, *, train: bool) -> tuple[Any, Any]:
        from recbole.config import Config  # type: ignore[import-not-found]  # noqa: PLC0415 - only in RecBole's own environment
        from recbole.data import create_dataset, data_preparation  # type: ignore[import-not-found]  # noqa: PLC0415
        from recbole.utils import get_model, get_trainer, init_seed  # type: ignore[import-not-found]  # noqa: PLC0415

        settings = {
            "data_path": str(self._folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "seed": self._about["seed"] % 2**31,
            "eval_args": {"split": {"RS": [0.9, 0.1, 0.0]}, "order": "TO", "mode": "full"},
            "checkpoint_dir": str(self._folder / "checkpoints"),
            "show_progress": False,
            "use_gpu": False,
            "state": "ERROR",
            "train_neg_sample_args": None if self._model_name in WITHOUT_NEGATIVES else {"distribution": "uniform", "sample_num": 1},
            **self._settings,
        }
        sys.argv = sys.argv[:1]  # RecBole reads the command line too
        config = Config(model=self._model_name, dataset="log", config_dict=settings)
        init_seed(config["seed"], config["reproducibility"])
        self._dataset = create_dataset(config)
        parts = data_preparation(config, self._dataset)
        self._model = get_model(config["model"])(config, parts[0].dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, self._model) if train else None
        return trainer, parts

    def _restore_weights(self) -> None:
        import torch  # noqa: PLC0415

        stored = torch.load(self._folder / "weights.pth", map_location="cpu", weights_only=False)
        self._model.load_state_dict(stored["state_dict"])
        self._model.load_other_parameter(stored.get("other_parameter"))
        self._model.eval()

    def _slate(self, person: Json, n: int) -> Json:
        hidden = {*person["history"], *person["exclude"]}
        scores = self._scores(person)
        tokens = self._dataset.field2id_token["item_id"]
        items, values = [], []
        if scores is not None:
            order = sorted(range(1, len(tokens)), key=lambda code: (-scores[code], code))
            kept = [code for code in order if tokens[code] not in hidden][:n]
            items, values = [str(tokens[code]) for code in kept], [float(scores[code]) for code in kept]
        # items that nobody has, and everything where the model cannot rank this person
        rest = [item for item in self._about["popular"] if item not in hidden and item not in set(items)][: n - len(items)]
        lowest = values[-1] if values else 0.0
        return {"items": items + rest, "scores": values + [lowest - 1.0 - place for place in range(len(rest))]}

    def _scores(self, person: Json) -> list[float] | None:
        """A score by RecBole's item code, or None where the model cannot rank this person."""
        import torch  # noqa: PLC0415
        from recbole.data.interaction import Interaction  # type: ignore[import-not-found]  # noqa: PLC0415
        from recbole.utils import ModelType  # noqa: PLC0415

        users, items = self._dataset.field2token_id["user_id"], self._dataset.field2token_id["item_id"]
        if self._model.type == ModelType.SEQUENTIAL:
            known = [items[item] for item in person["history"] if item in items][-self._model.max_seq_length :]
            if not known:
                return None
            padded = known + [0] * (self._model.max_seq_length - len(known))
            question = {self._model.ITEM_SEQ: torch.tensor([padded]), self._model.ITEM_SEQ_LEN: torch.tensor([len(known)])}
        elif str(person["user"]) in users:
            question = {"user_id": torch.tensor([users[str(person["user"])]])}
        else:
            return None
        with torch.no_grad():
            answer: list[float] = self._model.full_sort_predict(Interaction(question)).flatten().tolist()
        return answer


WITHOUT_NEGATIVES = {"SASRec", "BERT4Rec", "GRU4Rec", "MultiVAE", "MultiDAE", "EASE", "ItemKNN", "Pop"}
"""Models that RecBole trains without drawing items that people do not have."""


def main() -> None:
    """Answers lines until there are no more. Whatever RecBole prints goes to stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="name of a RecBole model, such as LightGCN")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a RecBole setting; the value is JSON or text")
    given = parser.parse_args()
    settings: Json = {}
    for setting in given.set:
        key, _, value = setting.partition("=")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    out, sys.stdout = sys.stdout, sys.stderr
    with contextlib.closing(Worker(given.model, settings)) as worker:
        for line in sys.stdin:
            message = json.loads(line)
            try:
                reply = {"fit": worker.fit, "recommend": worker.recommend, "save": worker.save, "load": worker.load}[message["do"]](message)
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            out.write(json.dumps(reply) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
