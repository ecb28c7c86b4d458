"""Answers of recommenders and of language models' servers with lies in them, each drawn from one seed. Nothing but the standard library.

Run as a program (``lies.py SEED SHARE``) it is a recommender that speaks JSON lines and lies in a share of its answers.
"""

import importlib.util
import json
import random
import sys
import time
from pathlib import Path

ODD = (
    *(None, True, False, 0, -1, 1, 7, 10**30, 1e308, -0.5, 1.5, float("nan"), float("inf"), float("-inf")),
    *("", "x", "0.5", "nan", "1e999", "a" * 5_000, "é😀\u2028", "\x00", "\n", "Trace", "[bold]", "</script>"),
    *([], [[]], [1], ["x"], [None], {}, {"a": 1}, {"error": "no"}, [0.5] * 1_000),
)
"""What stands in answers where something else should."""


def places(value):
    """Every holder with every key or place in it, of a document."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(entry)


def odd_value(rng, document):
    """A value, a key or an entry is another one, or gone."""
    found = list(places(document))
    if not found:
        return rng.choice(ODD)
    holder, key = rng.choice(found)
    how = rng.randrange(4)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.insert(key, holder[rng.randrange(len(holder))])
    elif how == 2 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = rng.choice(ODD)
    return document


def whole(rng, document):
    """Another document altogether."""
    return rng.choice(ODD)


def shuffled(rng, document):
    """A list in another order, cut, or twice as long."""
    lists = [holder[key] for holder, key in places(document) if isinstance(holder[key], list) and holder[key]]
    if lists:
        one = rng.choice(lists)
        how = rng.randrange(4)
        if how == 0:
            rng.shuffle(one)
        elif how == 1:
            del one[rng.randrange(len(one)) :]
        elif how == 2:
            one.extend(one)
        else:
            one[rng.randrange(len(one))] = one[0]
    return document


def slate(rng, document):
    """A recommender's slate with what is not to be shown, or with numbers that cannot be."""
    slates = document.get("slates") or [{}]
    one = rng.choice(slates)
    items = one.get("items") or ["1"]
    how = rng.randrange(7)
    if how == 0:
        items[rng.randrange(len(items))] = rng.choice(["no such item", 3, None, items[0], 1.0, "１"])
    elif how == 1:
        one["propensities"] = [rng.choice([1.5, 0, -1, float("nan"), "1", 1e-320, True]) for _ in items]
    elif how == 2:
        one["propensities"] = [1.0] * len(items)
    elif how == 3:
        one["scores"] = [rng.choice([float("nan"), "high", 1e308, -1e308, None, 10**400]) for _ in items]
    elif how == 4:
        one["scores"] = list(range(len(items)))
    elif how == 5:
        one["scores"] = [1.0] * len(items)
    else:
        one.pop("scores", None)
    return document


LIES = (odd_value, odd_value, whole, shuffled, slate, slate)

PACKED = (
    lambda text: text.encode("utf-16"),
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode("latin-1", "replace").replace(b"e", b"\xe9", 1),
    lambda text: text.encode()[: len(text) // 2],
    lambda text: text.encode() + b"\n{}",
    lambda text: b"data: " + text.encode() + b"\n\n",
    lambda text: b"",
    lambda text: b"<html>gateway</html>",
    lambda text: b"[" * 100_000,
    lambda text: b"9" * 10_000,
)
"""An answer as bytes that are not its JSON."""


def told(rng, document):
    """The bytes of an answer with one lie in it."""
    if rng.random() < 0.2:
        return rng.choice(PACKED)(json.dumps(document))
    return json.dumps(rng.choice(LIES)(rng, document)).encode()


def example():
    """The recommender that tells the truth."""
    file = Path(__file__).resolve().parents[1] / "environments" / "recommenders" / "example_service.py"
    spec = importlib.util.spec_from_file_location("fuzz_example_service", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(seed, share):
    rng, service = random.Random(seed), example()
    for line in sys.stdin:
        message = json.loads(line)
        do = message.pop("do")
        if do == "save":
            (Path(message["folder"]) / "states.json").write_text(json.dumps(service.STATES))
            reply = {}
        elif do == "load":
            service.STATES.update(json.loads((Path(message["folder"]) / "states.json").read_text()))
            reply = {"state": list(service.STATES)[-1]}
        else:
            reply = {"fit": service.fit, "recommend": service.recommend}[do](message)
        lying = rng.random() < share
        how = rng.randrange(8) if lying else -1
        if how == 0:
            sys.stderr.write("out of ideas\n")
            raise SystemExit(rng.choice([0, 1, 3]))
        if how == 1:
            time.sleep(5)
        out = told(rng, reply).replace(b"\n", b" ") if lying and how > 2 else json.dumps(reply).encode()
        sys.stdout.buffer.write(out + b"\n" * (2 if how == 2 else 1))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
