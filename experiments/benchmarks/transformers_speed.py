"""How fast torch scores pages and writes texts, on a CPU or with CUDA; needs torch, transformers, numpy and jinja2 only.

    python -m experiments.benchmarks.transformers_speed [--device cuda] [--model PATH] [--json]

Without a model, one of random weights with the shape of SmolLM2-135M is made (``--shape tiny`` is for trying this script): its speed is
that of the real one, its answers mean nothing. The mean divergence is that of the device's own numbers from float32 on the CPU, on the
same pages.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.errors import UsersimError
from simulator.records import GenerationRequest, Probe, Prompt, Scores, Segment
from simulator.seeds import Stream

if TYPE_CHECKING:
    from simulator.llm.torch_batches import Batches
    from simulator.llm.torch_network import Network

NEEDED = ("torch", "transformers", "numpy", "jinja2")

SHAPES: dict[str, dict[str, int]] = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
}
VOCABULARY = 49_152
ITEMS = 4

_RULES = "Below is what one person did on a film site. Each line is a film that was shown, then whether the person did watch it.\n"
_FIRST = ("The Silent", "A Distant", "Two Crimson", "Our Last", "Beyond the", "Midnight", "The Broken", "Little", "An Honest", "Seven")
_SECOND = ("Harbour", "Winter", "Lanterns", "Promise", "Orchard", "Detective", "Mirror", "Rebels", "Thief", "Summers")
_GENRES = ("Drama", "Comedy", "Crime, Thriller", "Romance", "Animation, Children", "Science Fiction", "Horror", "War, Drama")


def page(person: int, number: int) -> Prompt:
    """An invented page in front of an invented person, with the probes of the real ones."""
    rng = Stream(person).child("page", number).generator()

    def title() -> str:
        return f"{_FIRST[rng.integers(10)]} {_SECOND[rng.integers(10)]} ({rng.integers(1950, 2024)})"

    liked = Stream(person).child("liked").generator()
    told = ", ".join(f"{_FIRST[liked.integers(10)]} {_SECOND[liked.integers(10)]} ({liked.integers(1950, 2024)})" for _ in range(8))
    recalls = "a good evening, " * (person % 5)
    who = f"The person: {18 + person % 60} years old; loves {_GENRES[person % 8]}; liked {told}. Remembers {recalls}.\n"
    parts: list[str | Probe] = [f"Page {number}.\n"]
    for place in range(1, ITEMS + 1):
        parts += [f"{place}. {title()} {_GENRES[rng.integers(8)]} | watch:", Probe(f"watch {place}", ("yes", "no"))]
        parts += [" stars:", Probe(f"stars {place}", ("1", "2", "3", "4", "5")), "\n"]
    parts += ["After this page I go:", Probe("leave", ("leave", "next"))]
    return Prompt((Segment((_RULES,)), Segment((who,)), Segment(tuple(parts))))


def random_model(shape: str) -> tuple[Any, Any]:
    """A model of random weights and a byte-level tokenizer that was trained on the pages; the same each time."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")]
    trainer = trainers.BpeTrainer(
        vocab_size=2_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=marks, show_progress=False
    )
    tokenizer.train_from_iterator([page(person, number).text for person in range(50) for number in range(2)], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=8_192, tie_word_embeddings=True, initializer_range=0.04, **SHAPES[shape]
    )
    return transformers.LlamaForCausalLM(config), fast


def network(arguments: argparse.Namespace, device: Any, dtype: Any) -> Network:
    """The model on a device."""
    import torch  # noqa: PLC0415

    from simulator.llm.torch_loading import choose_device, choose_dtype  # noqa: PLC0415
    from simulator.llm.torch_network import Network  # noqa: PLC0415

    if arguments.model is not None:
        return Network(arguments.model, device=device, dtype=dtype, threads=arguments.threads)
    torch.set_num_threads(arguments.threads)
    model, tokenizer = random_model(arguments.shape)
    chosen = choose_device(device)
    return Network.of(
        model.to(getattr(torch, choose_dtype(dtype, chosen))), tokenizer, f"random-{arguments.shape}", "cuda" if chosen == "cuda" else "cpu"
    )


def measured(network: Network, batches: Batches, work: Callable[[], Any], turns: int) -> tuple[float, int, int, Any]:
    """Seconds of the quickest turn (after one that is not counted), tokens computed and generated in it, and what it returned."""
    best, used, result = float("inf"), batches.usage, None
    for turn in range(turns + 1):
        before, started = batches.usage, time.perf_counter()
        result = work()
        took = time.perf_counter() - started
        if turn and took < best:
            best, used = took, batches.usage - before
    return best, used.computed_tokens, used.generated_tokens, result


def divergence(scores: Sequence[Scores], reference: Sequence[Scores]) -> float:
    """Mean Kullback-Leibler divergence of the label distributions from the reference, nats per probe."""
    rows = [
        float(np.exp(right) @ (right - mine))
        for score, other in zip(scores, reference, strict=True)
        for mine, right in zip(score.logprobs, other.logprobs, strict=True)
    ]
    return max(0.0, float(np.mean(rows)))


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything in one document."""
    from simulator.llm.llama_prompts import Compiler  # noqa: PLC0415
    from simulator.llm.torch_batches import Batches  # noqa: PLC0415
    from simulator.llm.torch_network import VERSION  # noqa: PLC0415

    net = network(arguments, arguments.device, arguments.dtype)
    on_gpu = net.device == "cuda"
    most = arguments.max_batch_tokens or ([8_192, 32_768, 131_072] if on_gpu else [512])
    people = arguments.people or (512 if on_gpu else 8)
    prompts = [page(person, 1) for person in range(people)]
    rows: list[dict[str, Any]] = []
    scores: list[Scores] = []
    for depth, tokens in [(depth, tokens) for depth in ((1, 2) if arguments.depths else (None,)) for tokens in most]:
        batches = Batches(net, context=2_048, most_tokens=tokens, sequences=1, kept_bytes=2**31, depth=depth)
        batches.score(prompts[:2])
        batches.sizes.clear()
        seconds, computed, _, scores = measured(net, batches, partial(batches.score, prompts), arguments.turns)
        again = batches.score(prompts)
        sizes = [size for size, _ in batches.sizes]
        row: dict[str, Any] = {"max_batch_tokens": tokens, "kept_segments": batches.depth if depth else "by device"}
        row |= {"pages_per_second": round(people / seconds, 1), "tokens_per_second": round(computed / seconds)}
        row |= {"seconds": round(seconds, 4), "rows_of_largest_batch": max(sizes), "repeats_to_the_bit": equal(scores, again)}
        rows.append(row)
    few = prompts[: arguments.checked]
    compiler = Compiler(net.vocabulary, 2_048)
    result: dict[str, Any] = {
        "model": net.name,
        "device": net.device,
        "device_name": net.device_name,
        "dtype": net.dtype,
        "backend": VERSION,
        "machine": {"system": platform.platform(), "python": platform.python_version(), "threads": arguments.threads},
        "pages": people,
        "tokens_per_page": round(sum(compiler.prompt(prompt).length for prompt in few) / len(few), 1),
        "scoring": rows,
        "texts": texts(net, people if on_gpu else 4, arguments.turns),
    }
    mine = Batches(net, context=2_048, most_tokens=most[-1], sequences=1, kept_bytes=2**28).score(few)
    net.close()
    exact = network(arguments, "cpu", "float32")
    reference = Batches(exact, context=2_048, most_tokens=512, sequences=1, kept_bytes=2**28).score(few)
    result["mean_kl_from_cpu_float32"] = divergence(mine, reference)
    exact.close()
    return result


def texts(net: Network, count: int, turns: int) -> dict[str, Any]:
    """Short texts written together, each behind a person's page."""
    from simulator.llm.torch_batches import Batches  # noqa: PLC0415

    requests = [
        GenerationRequest((), 32, Stream(0, ("text", person)), prompt=Prompt((*page(person, 2).segments[:2], Segment(("I think that",)))))
        for person in range(count)
    ]
    batches = Batches(net, context=2_048, most_tokens=32_768, sequences=min(count, 256), kept_bytes=2**31)
    seconds, _, generated, first = measured(net, batches, partial(batches.generate, requests), turns)
    return {
        "texts": count,
        "generated_tokens_per_second": round(generated / seconds, 1),
        "repeats_to_the_bit": first == batches.generate(requests),
    }


def equal(one: Sequence[Scores], other: Sequence[Scores]) -> bool:
    """Whether two lists of scores are the same bits."""
    both = [[[row.tobytes() for row in score.logprobs] for score in scores] for scores in (one, other)]
    return both[0] == both[1]


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder in Hugging Face layout, or GGUF file (needs the package gguf)")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="135m", help="of the random model, without --model")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--people", type=int, help="pages scored at once [default: 512 on CUDA, 8 on a CPU]")
    parser.add_argument("--max-batch-tokens", type=int, action="append", help="may be repeated [default: several on CUDA, 512 on a CPU]")
    parser.add_argument("--depths", action="store_true", help="measure with the rules kept and with everything before the page kept")
    parser.add_argument("--checked", type=int, default=16, help="pages computed in float32 on the CPU too")
    parser.add_argument("--turns", type=int, default=3, help="the quickest is reported")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else on stdout")
    parser.add_argument("--output", type=Path, help="also write the document there")
    arguments = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"this benchmark needs {', '.join(missing)}; install with: pip install {' '.join(missing)}\n")
        return 2
    try:
        result = benchmark(arguments)
    except UsersimError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    document = json.dumps(result, indent=2)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(document + "\n", encoding="utf-8")
    if arguments.json:
        print(document)
        return 0
    print(f"{result['model']} on {result['device_name']} in {result['dtype']}, {result['tokens_per_page']:.0f} tokens a page")
    for row in result["scoring"]:
        print("  " + ", ".join(f"{name} {value}" for name, value in row.items()))
    print(f"  texts: {result['texts']}")
    print(f"  mean KL from float32 on the CPU: {result['mean_kl_from_cpu_float32']:.2e} nats")
    return 0


if __name__ == "__main__":
    sys.exit(main())
