"""A small recommender outside the process, in nothing but the standard library: by how many people have an item and one of the history.

Run as a program it speaks JSON lines; `serve` puts the same behind HTTP. An argument makes it misbehave in a chosen way.
"""

import inspect
import json
import random
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATES = {}


def fit(message):
    log = message["interactions"]
    owners = {}
    for user, item in zip(log["user"], log["item"], strict=True):
        owners.setdefault(item, set()).add(user)
    together = {one: {other: len(people & owners[other]) for other in owners if other != one} for one, people in owners.items()}
    state = f"state-{len(STATES)}-{message['seed']}"
    counts = {item["id"]: len(owners.get(item["id"], ())) for item in message["items"]}
    STATES[state] = {"together": together, "counts": counts}
    return {"state": state}


def recommend(message):
    if message["state"] not in STATES:
        return {"error": f"unknown state {message['state']}"}
    return {"slates": [slate(STATES[message["state"]], person, message["n"]) for person in message["people"]]}


def slate(model, person, n):
    scores = Counter({item: 1e-6 * count for item, count in model["counts"].items()})
    for item in person["history"]:
        scores.update(model["together"].get(item, {}))
    left = sorted((item for item in scores if item not in {*person["history"], *person["exclude"]}), key=lambda item: -scores[item])
    return {"items": left[:n], "scores": [scores[item] for item in left[:n]]}


def drawn(model, person, n):
    left = [item for item in sorted(model["counts"]) if item not in {*person["history"], *person["exclude"]}]
    items = random.Random(person["seed"]).sample(left, min(n, len(left)))
    return {"items": items, "scores": [0.0] * len(items), "propensities": [1 / (len(left) - place) for place in range(len(items))]}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = (self.path.rsplit("/", 1)[-1], message)
        status, reply = self.server.answer(*asked, self.headers) if self.server.wants_headers else self.server.answer(*asked)
        body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def serve(answer=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer = answer or (lambda path, message: (200, {"fit": fit, "recommend": recommend}[path](message)))
    server.wants_headers = len(inspect.signature(server.answer).parameters) == 3
    return server


def misbehave(do, behave):
    """What a program does instead of answering, where it is to misbehave."""
    if do == "recommend" and behave == "hang":
        time.sleep(60)
    if do == "recommend" and behave == "chat":
        print("recommending now", flush=True)  # noqa: T201
    if behave == "complain":
        sys.stderr.write("x" * 5_000_000 + "\n")
        raise SystemExit("out of ideas")
    for way, sign, pause in (("endless", " " * 1_000_000, 0), ("lines", "{}\n" * 100_000, 0), ("drip", " ", 0.02)):
        while behave == f"{way}-{do}":
            print(sign, end="", flush=True)  # noqa: T201
            time.sleep(pause)


def main(behave=""):
    if behave == "deaf":
        time.sleep(60)
    started = Path(behave.removeprefix("die-once:")) if behave.startswith("die-once:") else None
    for line in sys.stdin:
        message = json.loads(line)
        do = message.pop("do")
        misbehave(do, behave)
        if do == "recommend" and (behave == "die" or (started and not started.exists())):
            if started:
                started.touch()
            raise SystemExit("out of ideas")
        if do == "save":
            (Path(message["folder"]) / "states.json").write_text(json.dumps(STATES))
            reply = {}
        elif do == "load":
            STATES.update(json.loads((Path(message["folder"]) / "states.json").read_text()))
            reply = {"state": list(STATES)[-1]}
        else:
            reply = {"fit": fit, "recommend": recommend}[do](message)
        print(json.dumps(reply), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
