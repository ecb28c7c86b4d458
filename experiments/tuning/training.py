"""Tuning a language model on packs: torch, transformers and peft, and next to nothing else of this project.

The loss is read where the simulation reads: at the probes. For a probe with true label l and label token sets S::

    loss = log sum_v exp(logit_v)  -  log sum_{v in S_l} exp(logit_v)

(or, where only a share of the answer is to be the true label, the mean of this over the labels, each with its share),
so the labels keep the probability mass that the simulation wants to find there. `language_loss` times the mean next-token loss over
the text about the person is added: it keeps the model a language model, and liked titles that predict each other are
knowledge about taste.

Weights stay frozen. Learned are low-rank updates of all linear layers (LoRA, Hu et al. 2022, equation 3, scaled by alpha / rank), or
vectors that the prompts hold (`experiments.tuning.learned`), or both, as `TrainingConfig.method` says.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.analysis.ranking_metrics import auc_of
from experiments.tuning.learned import LearnedVectors
from experiments.tuning.packs import Pack, alike, batches, steps
from experiments.tuning.page_attention import Pages
from experiments.tuning.page_attention import use as take_pages_apart
from experiments.tuning.settings import FACTORS, START, Progress, TrainingConfig
from simulator.files import reading, write_arrays, write_atomically
from simulator.llm.vectors import FIRST
from simulator.seeds import Stream

TOKENS = {"cpu": (4_096, 1_024), "cuda": (16_384, 4_096)}
"""`batch_tokens` and `micro_tokens` by kind of device, where a `TrainingConfig` leaves them open. In minutes a CPU would take few large
steps; more at once is no faster there, and gradients want 1.3 MB per token (SmolLM2-135M)."""

MEASURING_SHARE = 0.2
"""Where time is limited, measurements on the way take at most this part of it."""

ONE_MEASUREMENT = 0.1
"""Where time is limited, one measurement takes about this part of it at most: it is made on fewer validation people then."""

TRIED = 8
"""People on whom the time of a measurement is estimated."""

SAVED_EVERY = 120.0
"""Seconds after which a checkpoint is written, measured or not."""

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama-like block, by their names in transformers."""


Report = Callable[[Progress], None]


def device_of(name: str) -> torch.device:
    """The device of a name; "auto" takes a GPU if there is one.

    Raises:
        RuntimeError: a GPU is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError("device = 'cuda', but PyTorch sees no GPU here; use device = 'cpu' or 'auto'.")
    return torch.device(name)


def complete(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """The configuration with numbers of tokens for its device."""
    batch, micro = TOKENS.get(device.type, TOKENS["cpu"])
    return replace(config, batch_tokens=config.batch_tokens or batch, micro_tokens=config.micro_tokens or micro)


def give_back() -> None:
    """Returns freed memory to the system where the C library can: tensors of ever other sizes leave holes that are not filled."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def load_model(gguf: Path, config: TrainingConfig) -> Any:
    """The model of a GGUF file as a transformers model, frozen, on its device."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - slow to import
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    dtype = getattr(torch, config.dtype)
    device = device_of(config.device)
    if device.type == "cpu":
        # Every length of a row has kernels of its own, and torch keeps those of a thousand shapes.
        for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(name, "64")
    # Reading a GGUF file draws progress bars of its own.
    with contextlib.redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, attn_implementation="sdpa")
    return model.to(device=device, dtype=dtype).eval()


def with_updates(model: Any, config: TrainingConfig) -> Any:
    """The model with trainable low-rank updates, float32."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    torch.manual_seed(config.seed)
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules=list(LINEAR), bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of peft about transformers
        peft = get_peft_model(model, lora, autocast_adapter_dtype=True)
    for name, parameter in peft.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            raise AssertionError(f"{name} should be frozen")
    return peft


def begin_with(model: Any, path: Path) -> None:
    """Sets the low-rank updates of a model to those of a file that `save_updates` wrote, of the same rank and scale."""
    with np.load(path) as stored, torch.no_grad():
        for name, value in model.named_parameters():
            key = _update_key(name)
            if key is not None:
                value.copy_(torch.from_numpy(stored[key].astype(np.float32)))


def _update_key(name: str) -> str | None:
    """The name in ``updates.npz`` of a parameter, if it is part of an update."""
    if ".lora_A." not in name and ".lora_B." not in name:
        return None
    parts = name.split(".")
    layer, module = parts[parts.index("layers") + 1], next(part for part in parts if part in LINEAR)
    return f"{layer}.{module}.{'a' if '.lora_A.' in name else 'b'}"


def trainable(model: Any, config: TrainingConfig, pack: Pack, folder: Path) -> Any:
    """The model with what is to be learned, everything else frozen.

    Args:
        model: as loaded. config: what is learned. pack: any examples; a soft prompt starts from the rules in them.
        folder: holds `FACTORS` where vectors of items are learned, and `START` where updates begin with others.
    """
    if next(model.parameters()).device.type == "cpu":
        take_pages_apart(model)
    if config.updates:
        model = with_updates(model, config)
        if config.start is not None:
            begin_with(model, folder / START)
    else:
        torch.manual_seed(config.seed)
        model.requires_grad_(False)
    if config.soft or config.items:
        base = _base(model)
        inner, factors = base.get_input_embeddings(), None
        if config.items:
            with np.load(folder / FACTORS) as stored:
                factors = stored["factors"]
        rules = pack.tokens[(pack.branches == 0) & ~pack.personal & (pack.tokens < FIRST)]
        base.set_input_embeddings(LearnedVectors(inner, config, factors, rules[: max(1, config.soft)]).to(inner.weight.device))
    return model


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _vectors(model: Any) -> LearnedVectors | None:
    layer = _base(model).get_input_embeddings()
    return layer if isinstance(layer, LearnedVectors) else None


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a pack as tensors, padded on the right.

    Attributes:
        tokens, positions: shape (b, t). allowed: whether place i may see place j, bool, shape (b, 1, t, t).
        personal: places whose token is part of the text about the person, bool, shape (b, t).
        row, place: of each probe. kind, label, share: of each probe (see `Pack`). probes: their numbers in the pack.
        pages: the parts of the rows, on a CPU (see `experiments.tuning.page_attention`).
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    personal: torch.Tensor
    row: torch.Tensor
    place: torch.Tensor
    kind: torch.Tensor
    label: torch.Tensor
    share: torch.Tensor
    probes: np.ndarray
    pages: Pages | None

    @classmethod
    def of(cls, pack: Pack, rows: np.ndarray, device: torch.device) -> Batch:
        """Some rows of a pack."""
        lengths = pack.lengths[rows]
        width = int(math.ceil(int(lengths.max()) / 8) * 8)
        tokens, positions = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        branches, personal = np.full((len(rows), width), -1, np.int64), np.zeros((len(rows), width), bool)
        probes, row, place = [], [], []
        for number, (index, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
            part = slice(int(pack.starts[index]), int(pack.starts[index + 1]))
            tokens[number, :length], positions[number, :length] = pack.tokens[part], pack.positions[part]
            branches[number, :length], personal[number, :length] = pack.branches[part], pack.personal[part]
            first, last = np.searchsorted(pack.probe_at, [part.start, part.stop]).tolist()
            probes.append(np.arange(first, last))
            row.append(np.full(last - first, number))
            place.append(pack.probe_at[first:last] - part.start)
        chosen = np.concatenate(probes)

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        seen = tensor(branches)
        same = (seen[:, None, :] == 0) | (seen[:, None, :] == seen[:, :, None])
        causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        # Padding sees itself, so that no row of the softmax is empty.
        allowed = (same & causal & (seen[:, None, :] >= 0)) | torch.eye(width, dtype=torch.bool, device=device)
        return cls(
            tensor(tokens),
            tensor(positions),
            allowed[:, None],
            tensor(personal),
            tensor(np.concatenate(row)),
            tensor(np.concatenate(place)),
            tensor(pack.probe_kind[chosen].astype(np.int64)),
            tensor(pack.probe_label[chosen].astype(np.int64)),
            tensor(pack.probe_share[chosen]),
            chosen,
            Pages.of(branches) if device.type == "cpu" else None,
        )


class Reader:
    """Reads label probabilities of the probes of a batch.

    Args:
        pack: any pack with the same labels. device: of the model.
    """

    def __init__(self, pack: Pack, device: torch.device) -> None:
        self.kinds = pack.kinds
        self.most = max((len(labels) for labels in pack.label_tokens), default=0)
        most_tokens = max((len(tokens) for labels in pack.label_tokens for tokens in labels), default=1)
        index = np.zeros((len(pack.kinds), self.most, most_tokens), np.int64)
        valid = np.zeros(index.shape, bool)
        for kind, labels in enumerate(pack.label_tokens):
            for label, tokens in enumerate(labels):
                index[kind, label, : len(tokens)] = tokens
                valid[kind, label, : len(tokens)] = True
        self._index, self._valid = torch.from_numpy(index).to(device), torch.from_numpy(valid).to(device)

    def log_shares(self, logits: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        """Natural log of the probability of each label among all tokens, shape (probes, most labels); -inf where there is none."""
        index, valid = self._index[kind], self._valid[kind]
        at = logits.gather(1, index.flatten(1)).view(index.shape).masked_fill(~valid, -torch.inf)
        return torch.logsumexp(at, dim=2) - torch.logsumexp(logits, dim=1, keepdim=True)


def hidden_states(model: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states, shape (b, t, d)."""
    states: torch.Tensor = (
        _base(model)
        .model(input_ids=batch.tokens, attention_mask=batch.allowed, position_ids=batch.positions, use_cache=False, pages=batch.pages)
        .last_hidden_state
    )
    return states


def _head(model: Any) -> nn.Module:
    head: nn.Module = _base(model).lm_head
    return head


def losses(model: Any, batch: Batch, reader: Reader, weights: torch.Tensor, language: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of weighted probe losses and of language losses, and the sum of the probes' weights."""
    states = hidden_states(model, batch)
    known = batch.label >= 0
    weight = torch.where(known, weights[batch.kind], torch.zeros((), device=weights.device))
    used = weight > 0
    logits = _head(model)(states[batch.row[used], batch.place[used]]).float()
    shares = reader.log_shares(logits, batch.kind[used])
    true, share = shares.gather(1, batch.label[used][:, None])[:, 0], batch.share[used]
    if bool((share < 1).any()):
        there = torch.isfinite(shares)
        others = shares.masked_fill(~there, 0.0).sum(dim=1) - true
        true = share * true + (1 - share) / (there.sum(dim=1) - 1).clamp(min=1) * others
    total = -(true * weight[used]).sum()
    if language > 0:
        # A vector is not a word that could be predicted.
        words = batch.personal[:, 1:] & batch.personal[:, :-1] & (batch.tokens[:, 1:] < FIRST)
        row, place = torch.nonzero(words, as_tuple=True)
        if len(row):
            predicted = _head(model)(states[row, place]).float()
            each = nn.functional.cross_entropy(predicted, batch.tokens[row, place + 1], reduction="none")
            # A mean within each row, so that rows computed together do not matter.
            own = torch.zeros(len(batch.tokens), device=weight.device).index_add(0, batch.row, weight)
            total = total + language * (each * (own / torch.bincount(row, minlength=len(own)).clamp(min=1))[row]).sum()
    return total, weight.sum()


@torch.no_grad()  # type: ignore[untyped-decorator]
def score(model: Any, pack: Pack, most_tokens: int | None = None) -> np.ndarray:
    """Natural log of the probability of each label at every probe, normalised over the labels.

    Args:
        model: as loaded, or with what it learns. pack: what is asked. most_tokens: places computed at once; None is 2,048 on a CPU and
            16,384 elsewhere.

    Returns:
        float32, shape (probes, most labels of any kind); -inf beyond the labels of the kind.
    """
    device = next(model.parameters()).device
    most_tokens = most_tokens or (2_048 if device.type == "cpu" else 16_384)
    reader = Reader(pack, device)
    found = np.full((len(pack.probe_at), max(reader.most, 1)), -np.inf, np.float32)
    for rows in batches(pack, most_tokens, np.arange(len(pack))):
        batch = Batch.of(pack, rows, device)
        # As when it learns: what is not in half precision (updates) would otherwise be computed in whole.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_head(model).weight.dtype == torch.bfloat16):
            logits = _head(model)(hidden_states(model, batch)[batch.row, batch.place]).float()
        shares = reader.log_shares(logits, batch.kind)
        found[batch.probes] = (shares - torch.logsumexp(shares, dim=1, keepdim=True)).cpu().numpy()
    return found


def measured(pack: Pack, logprobs: np.ndarray) -> dict[str, float]:
    """How well label probabilities fit the true labels.

    Returns:
        Per kind with known labels: ``<kind>_loss`` (mean negative log-probability), and for two labels
        ``<kind>_auc`` (area under the ROC curve of the first label, over all probes).
    """
    found = {}
    for kind, name in enumerate(pack.kinds):
        rows = np.flatnonzero((pack.probe_kind == kind) & (pack.probe_label >= 0))
        if not len(rows):
            continue
        labels = pack.probe_label[rows].astype(np.int64)
        found[f"{name}_loss"] = float(-logprobs[rows, labels].mean())
        if len(pack.label_tokens[kind]) == 2 and 0 < (labels == 0).mean() < 1:
            odds = logprobs[rows, 0] - logprobs[rows, 1]
            found[f"{name}_auc"] = float(auc_of(odds[None], (labels == 0)[None])[0])
    return found


def train(
    gguf: Path,
    packs: Sequence[Path],
    validation: Pack,
    config: TrainingConfig,
    folder: Path,
    report: Report | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Tunes the model of a GGUF file; an interrupted tuning in the same folder continues.

    Args:
        gguf: the model. packs: examples, one file per pass over the people; gone through in order, `config.passes` times.
        validation: other people's examples, for early stopping.
        config: how. folder: gets ``updates.npz`` (the best updates so far) and ``checkpoint.pt``, which is removed at the end;
            holds `FACTORS` where vectors of items are learned, and `START` where updates begin with others.
        report: told about the progress.
        started: when it began (`time.perf_counter`), where work before this call counts too.

    Returns:
        before, after: `measured` on the validation pack. measured_people: on how many of its people. best_step, steps, tokens, stopped
        ("passes", "minutes" or "patience"), history (one entry per measurement), device, settings. seconds: from the beginning to the end
        of the last measurement, those of an interrupted tuning up to its checkpoint included. tokens_per_second: while it learned.
    """
    started = time.perf_counter() if started is None else started
    model = trainable(load_model(gguf, config), config, validation, folder)
    config = complete(config, next(model.parameters()).device)
    trainer = _Trainer(model, packs, validation, config, folder, started)
    stopped = trainer.run(report)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    state = trainer.state
    best = min(state.history, key=lambda entry: entry["loss"])
    return {
        "before": state.before,
        "after": {key: value for key, value in best.items() if key not in ("step", "loss", "training_loss", "seconds")},
        "measured_people": len(np.unique(validation.users)) if state.people is None else state.people,
        "best_step": best["step"],
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": round(trainer.elapsed(), 1),
        "tokens_per_second": round(state.tokens / max(state.learning, 1e-9), 1),
        "stopped": stopped,
        "history": state.history,
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else "cpu",
        "settings": asdict(config),
    }


class _Trainer:
    """Optimiser steps until the passes, the minutes or the patience are over."""

    def __init__(self, model: Any, packs: Sequence[Path], validation: Pack, config: TrainingConfig, folder: Path, started: float) -> None:
        self.device = next(model.parameters()).device
        self._model, self._packs, self._validation, self._config, self._folder = model, packs, validation, config, folder
        # `complete` has filled them in.
        self._step_tokens, self._most_tokens = config.batch_tokens or 1, config.micro_tokens or 1
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        layer = _vectors(model)
        vectors = layer.learned() if layer is not None else []
        own = {id(parameter) for parameter in vectors}
        updates = [parameter for parameter in self._trainable if id(parameter) not in own]
        groups = [(some, rate) for some, rate in ((updates, config.learning_rate), (vectors, config.vector_rate)) if some]
        self._peaks = [rate for _, rate in groups]
        self._optimiser = torch.optim.AdamW(
            [{"params": some, "lr": rate} for some, rate in groups], weight_decay=config.decay, betas=(0.9, 0.98)
        )
        self._reader = Reader(validation, self.device)
        self._weights = torch.tensor([config.weights.get(kind, 0.0) for kind in validation.kinds], device=self.device)
        self._steps = max(1, math.ceil(config.passes * sum(_tokens_of(path) for path in packs) / self._step_tokens))
        self.state = _State.start(folder, model, self._optimiser)
        self._clock = started - self.state.seconds
        self._gathered, self._losses = _Gathered(self.device), [0.0, 0.0]

    def elapsed(self) -> float:
        """Seconds since the beginning, without those between an interruption's last checkpoint and its continuation."""
        return time.perf_counter() - self._clock

    def run(self, report: Report | None) -> str:
        state = self.state
        if not state.before:
            self._begin()
        elif state.people is not None:
            self._validation = _some_people(self._validation, state.people, self._config.seed)
        measurements = self._measurements()
        for pack, rows in self._plan():
            began = time.perf_counter()
            for some in alike(pack.lengths, rows, self._most_tokens):
                self._add(pack, some)
            self._update()
            state.learning += time.perf_counter() - began
            share = self._share()
            if report:
                left = (1 - share) / max(share, 1e-6) * (self.elapsed() - state.began)
                report(Progress(state.step, self._steps, left, self._training_loss(), state.best))
            over = self._end is not None and self.elapsed() + state.learning / state.step > self._end
            if (over or share >= (len(state.history) + 1) / measurements) and not self._evaluate():
                return "patience"
            if over:
                return "minutes"
            if self.elapsed() - state.seconds > SAVED_EVERY:
                self._save()
        if not state.history or state.history[-1]["step"] != state.step:
            self._evaluate()
        return "passes"

    def _begin(self) -> None:
        """The measurement before the first step: updates and vectors are what they start from."""
        if self._config.minutes is not None:
            self.state.people = self._affordable(ONE_MEASUREMENT * 60 * self._config.minutes)
            self._validation = _some_people(self._validation, self.state.people, self._config.seed)
        began = time.perf_counter()
        self.state.before = measured(self._validation, score(self._model, self._validation))
        self.state.measuring = time.perf_counter() - began
        self.state.began = self.elapsed()
        self._save()

    def _affordable(self, seconds: float) -> int:
        """How many validation people can be measured in a time, at least a few; judged by some of them."""
        people, tried = len(np.unique(self._validation.users)), _some_people(self._validation, TRIED, self._config.seed)
        score(self._model, _some_people(self._validation, 2, self._config.seed))  # the first call of all is slow
        began = time.perf_counter()
        score(self._model, tried)
        each = (time.perf_counter() - began) / max(1, len(tried.tokens))
        return min(people, max(TRIED, int(people * seconds / max(each * len(self._validation.tokens), 1e-9))))

    @property
    def _end(self) -> float | None:
        """When the last step must be done, so that the last measurement fits in."""
        return None if self._config.minutes is None else 60 * self._config.minutes - self.state.measuring

    def _share(self) -> float:
        """How much of the tuning is done, of the passes or of the time."""
        state = self.state
        share = state.step / self._steps
        if self._end is not None:
            share = max(share, (self.elapsed() - state.began) / max(self._end - state.began, 1e-9))
        return min(1.0, share)

    def _measurements(self) -> int:
        """How often is measured after the beginning."""
        wanted = max(1, self._config.evaluations)
        if self._end is None:
            return wanted
        affordable = MEASURING_SHARE * (self._end - self.state.began) / max(self.state.measuring, 1e-9)
        return max(1, min(wanted, int(affordable)))

    def _plan(self) -> Iterator[tuple[Pack, np.ndarray]]:
        """The rows of each step of every pass in order, without those that an interrupted tuning has done."""
        turn = 0
        for number in range(self._config.passes * len(self._packs)):
            pack = Pack.load(self._packs[number % len(self._packs)])
            order = Stream(self._config.seed).child("rows", number).generator().permutation(len(pack))
            for rows in steps(pack, self._step_tokens, order):
                if turn >= self.state.step:
                    yield pack, rows
                turn += 1

    def _add(self, pack: Pack, rows: np.ndarray) -> None:
        batch = Batch.of(pack, rows, self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._config.dtype == "bfloat16"):
            total, weight = losses(self._model, batch, self._reader, self._weights, self._config.language_loss)
        # The mean over a whole step needs all its probes, so sums are added up here and divided in `_update`.
        total.backward()
        self._gathered.add(total.detach(), weight, int(pack.lengths[rows].sum()))
        if self.device.type == "cpu":
            give_back()

    def _update(self) -> None:
        """One step of the optimiser."""
        state, config = self.state, self._config
        fraction = self._share()
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * _schedule(fraction, config.warmup)
        divisor = self._gathered.weight.clamp(min=1.0)
        for parameter in self._trainable:
            if parameter.grad is not None:
                parameter.grad /= divisor
        nn.utils.clip_grad_norm_(self._trainable, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._losses = [self._losses[0] + float(self._gathered.loss / divisor), self._losses[1] + 1.0]
        state.step, state.tokens = state.step + 1, state.tokens + self._gathered.tokens
        self._gathered = _Gathered(self.device)

    def _training_loss(self) -> float:
        return self._losses[0] / max(self._losses[1], 1.0)

    def _evaluate(self) -> bool:
        found = measured(self._validation, score(self._model, self._validation))
        if self.state.note(found, self._config, self._training_loss(), self.elapsed()):
            save_updates(self._model, self._folder / "updates.npz", self._config)
        self._losses = [0.0, 0.0]
        self._save()
        return self.state.worse < self._config.patience

    def _save(self) -> None:
        self.state.seconds = self.elapsed()
        self.state.save(self._folder, self._model, self._optimiser)


class _Gathered:
    """Sums over the batches of one optimiser step."""

    def __init__(self, device: torch.device) -> None:
        self.loss, self.weight, self.tokens = torch.zeros((), device=device), torch.zeros((), device=device), 0

    def add(self, loss: torch.Tensor, weight: torch.Tensor, tokens: int) -> None:
        self.loss, self.weight, self.tokens = self.loss + loss, self.weight + weight, self.tokens + tokens


def _tokens_of(path: Path) -> int:
    with np.load(path) as stored:
        return int(stored["starts"][-1])


def _some_people(pack: Pack, count: int, seed: int) -> Pack:
    """The rows of some of the people, always the same ones, more of them holding all of fewer."""
    people = np.unique(pack.users)
    chosen = Stream(seed).child("measured").generator().permutation(len(people))[:count]
    return pack.only(np.isin(pack.users, people[chosen])) if count < len(people) else pack


def _schedule(fraction: float, warmup: float) -> float:
    if fraction < warmup:
        return max(fraction, 1e-3) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, (fraction - warmup) / (1 - warmup))))


@dataclass
class _State:
    """Where a tuning stands; lives in ``checkpoint.pt``.

    Attributes:
        step, tokens: steps of the optimiser and tokens done. seconds: since the beginning, when this was written.
        learning: seconds of steps. measuring: seconds of a measurement. began: seconds before the first step.
        people: validation people who are measured; None: all. before: the measurement before the first step. history: those after it.
        best: the lowest loss among them. worse: how many since then.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    learning: float = 0.0
    measuring: float = 0.0
    began: float = 0.0
    people: int | None = None
    before: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    worse: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, model: Any, optimiser: torch.optim.Optimizer) -> _State:
        path = folder / "checkpoint.pt"
        if not path.is_file():
            return cls()
        with reading(path, "remove it, and learning begins anew"):
            stored = torch.load(path, map_location="cpu", weights_only=True)
            model.load_state_dict(stored["updates"], strict=False)
            optimiser.load_state_dict(stored["optimiser"])
            return cls(**json.loads(stored["state"]))

    def note(self, found: dict[str, float], config: TrainingConfig, loss: float, seconds: float) -> bool:
        """Notes a measurement and the training loss before it; whether it is the best."""
        value = sum(weight * found.get(f"{kind}_loss", 0.0) for kind, weight in config.weights.items())
        self.history.append({"step": self.step, "loss": value, "training_loss": loss, "seconds": round(seconds, 1), **found})
        better = self.best is None or value < self.best
        self.best, self.worse = (value, 0) if better else (self.best, self.worse + 1)
        return better

    def save(self, folder: Path, model: Any, optimiser: torch.optim.Optimizer) -> None:
        """Writes the checkpoint."""
        updates = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        kept = {"updates": updates, "optimiser": optimiser.state_dict(), "state": json.dumps(asdict(self))}
        write_atomically(folder / "checkpoint.pt", lambda file: torch.save(kept, file))


def save_updates(model: Any, path: Path, config: TrainingConfig) -> None:
    """Writes what was learned.

    Low-rank updates in half precision, ``<layer>.<module>.a`` (rank, inputs), ``.b`` (outputs, rank), and ``scale``; vectors as
    `LearnedVectors.arrays` says.
    """
    arrays: dict[str, np.ndarray] = {"scale": np.array(config.alpha / config.rank)} if config.updates else {}
    learned = _vectors(model)
    arrays |= learned.arrays() if learned is not None else {}
    for name, value in model.state_dict().items():
        key = _update_key(name)
        if key is not None:
            arrays[key] = value.float().cpu().numpy().astype(np.float16)
    write_atomically(path, lambda file: write_arrays(file, arrays))


def main() -> None:
    """``python -m experiments.tuning.training FOLDER MODEL.gguf``: tunes on prepared packs, for a machine that has only torch."""
    parser = argparse.ArgumentParser(description="Tune a model on packs that `usersim tune --prepare-only` wrote.")
    parser.add_argument("folder", type=Path, help="the prepared folder")
    parser.add_argument("model", type=Path, help="the GGUF file that the folder was prepared for")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float)
    given = parser.parse_args()
    settings = json.loads((given.folder / "training.json").read_text(encoding="utf-8"))
    config = TrainingConfig(**{**settings, "device": given.device, "minutes": given.minutes or settings["minutes"]})
    validation = Pack.load(given.folder / "validation.npz")

    def report(progress: Progress) -> None:
        if progress.step % 20 == 0:
            logging.getLogger(__name__).info("%s", progress)

    logging.basicConfig(level=logging.INFO)
    result = train(given.model, sorted((given.folder / "packs").glob("*.npz")), validation, config, given.folder, report)
    (given.folder / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
