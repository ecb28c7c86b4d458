"""Language models behind the HTTP interface that OpenAI began: vLLM, llama-server, llama-cpp-python, Ollama, hosted ones.

How a page is scored depends on what the server can do; `mode = "auto"` finds out with a few small requests:

============  =========================================================================================================
echo          one request per page: ``/completions`` with ``echo`` tells the likeliest tokens at every place of the
              prompt, so all probes are read at once. Costs the tokens of the page.
logprobs      one request per probe: ``/completions`` with the text up to it. Costs the text before each probe, so a page
              of 9 probes costs about 9 times the rules and the person, unless the server keeps prefixes.
schema        one request per page: the chat model fills in a form that a JSON schema describes. No probabilities: the
              label written is taken as near certain. Costs the tokens of the page and of the reply.
============  =========================================================================================================

With the first two, labels that are several tokens for the model ("10", or a digit behind a space) cost further requests
(`simulator.llm.replies.read_labels`). The same request need not get the same bits from a server twice; a run that must
come out again to the byte keeps the answers (`simulator.llm.cache`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from simulator.errors import ModelError, with_suggestion
from simulator.llm import openai_documents as documents
from simulator.llm import replies
from simulator.llm.http_server import HttpServer, Reply, Request, estimated_tokens, key_from, refuses_system, told_usage
from simulator.llm.limits import Ledger
from simulator.llm.openai_config import OpenAIConfig, address
from simulator.records import Completion, GenerationRequest, ModelIdentity, Prompt, Scores, Usage
from simulator.web import readable

T = TypeVar("T")
_log = logging.getLogger(__name__)

__all__ = ["OpenAIConfig", "OpenAIServer", "address"]

Mode = Literal["echo", "logprobs", "schema"]

_TRIAL = "The colours of the flag are blue, white and red – its stars are golden."
"""A text on which a server shows what it can do; with a letter of several bytes, since servers count places differently."""
_TRIAL_PLACE = len("The colours of the flag are blue, white and red – its")
_USUAL_LIMITS = (20, 5)
"""The most tokens that vLLM and OpenAI list where their operators did not allow more."""
_SAME = 0.05
"""Two servings of one distribution may differ by this total variation: batches change the last bits, formats a little more."""


class OpenAIServer:
    """A language model on a server (see `simulator.protocols.LanguageModel`).

    Args:
        config: which server and model, and what they may cost.

    Raises:
        ModelError: the key is missing or refused, the server has no such model or cannot do what `mode` wants.
        ServerError: there is no server.
    """

    Config = OpenAIConfig

    def __init__(self, config: OpenAIConfig) -> None:
        self.config = config
        prices = (config.price_per_million_prompt_tokens / 1e6, config.price_per_million_completion_tokens / 1e6)
        self.ledger = Ledger(config.ledger, prices=prices, budget=config.budget, requests_per_minute=config.requests_per_minute)
        self._server = HttpServer(
            config.base_url,
            key_from(config.api_key_env),
            f"${config.api_key_env}",
            concurrency=config.concurrency,
            timeout=config.timeout_s,
            retries=config.retries,
            first_wait=config.first_wait_s,
            longest_wait=config.longest_wait_s,
            ledger=self.ledger,
        )
        self._usage, self._open = Usage(), True
        self._impossible, self._merges_system = "", False  # what was wrong with its probabilities; whether it takes no system turn
        try:
            self._model = self._named()
            self._top = config.top_logprobs
            self._response_format = "json_schema"
            self.mode: Mode = self._find_mode()
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> ModelIdentity:
        """See `simulator.protocols.LanguageModel`; what the server computes with is not known."""
        config = self.config
        reading: dict[str, object] = {"top_logprobs": self._top}
        if self.mode == "schema":
            reading = {"smoothing": config.smoothing, "temperature": config.temperature, "response_format": self._response_format}
        settings = {"server": address(config.base_url), **reading, "extra_body": config.extra_body, "leave_out": list(config.leave_out)}
        return ModelIdentity(self._model, "", f"OpenAI-compatible server, {self.mode}", settings)

    @property
    def usage(self) -> Usage:
        """Work done since loading, as far as the server tells."""
        return self._usage

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in tokens, estimated: a server does not tell its tokeniser."""
        return estimated_tokens(text)

    def score(self, prompts: Sequence[Prompt]) -> list[Scores]:
        """The label probabilities at every probe of every prompt.

        A page for which the server has no usable answer gets a status: "unreadable", "refused", "timeout", "cut off" or
        "error 500" and so on.

        Raises:
            BudgetError: the budget is used up.
            ModelError: the server is gone, or a probe cannot be asked.
        """
        self._check_open()
        return self._score_forms(prompts) if self.mode == "schema" else self._score_texts(prompts)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """A completion for every request; one that fails has a status such as "timeout" and no text.

        Raises:
            BudgetError: the budget is used up.
            ModelError: the server is gone, or a request is empty.
        """
        self._check_open()
        answers = self._ask([self._wanted(request) for request in requests])
        return [self._completion(request, reply) for request, reply in zip(requests, answers, strict=True)]

    def close(self) -> None:
        """Closes the connections; further calls are errors."""
        if self._open:
            self._open = False
            self._server.close()
            self.ledger.close()

    def _check_open(self) -> None:
        if not self._open:
            raise ModelError("this language model was closed; make a new one.")

    # --- what the server is ---

    def _named(self) -> str:
        reply = self._server.ask([Request("models")])[0]
        entries = reply.document.get("data")
        names = (
            [readable(str(entry["id"]), 200) for entry in entries if isinstance(entry, dict) and "id" in entry][:1_000]
            if isinstance(entries, list)
            else []
        )
        wanted = self.config.model
        where = f"the server at {self.config.base_url}"
        if wanted is None:
            if len(names) != 1:
                listed = f"lists {len(names)} models: {', '.join(names[:20])}" if names else "does not say which models it has"
                raise ModelError(f"{where} {listed}; name one with model in [language_model].")
            return names[0]
        if names and not {wanted, f"{wanted}:latest"} & set(names):
            raise ModelError(f"{where} has no such model: {with_suggestion('model', wanted, names)}")
        return wanted

    def _find_mode(self) -> Mode:
        if self.config.mode != "schema":
            found = self._probabilities()
            if found is not None:
                return found
            why = f": {self._impossible}" if self._impossible else ""
            if self.config.mode == "logprobs":
                raise ModelError(
                    f"the server at {self.config.base_url} does not tell the probabilities of tokens (POST completions with logprobs)"
                    f'{why}; start it so that it does, or set mode = "schema".'
                )
            _log.info(
                'The server at %s does not tell the probabilities of tokens%s: people fill in forms (mode = "schema"), and what they '
                "write is taken as near certain.",
                self.config.base_url,
                why,
            )
        self._find_response_format()
        return "schema"

    def _probabilities(self) -> Mode | None:
        for top in dict.fromkeys(min(most, self._top) for most in (self._top, *_USUAL_LIMITS)):
            self._top = top
            plainly = self._try(self._reading(_TRIAL[:_TRIAL_PLACE]), "logprobs")
            try:
                expected = documents.last_listed(plainly.document, top)
            except replies.ImpossibleError as error:
                self._impossible = str(error)
                continue
            if not expected:
                continue
            echoed = self._try(self._reading(_TRIAL, echo=True), "echo")
            try:
                at_place = documents.echoed(echoed.document, _TRIAL, top).get(_TRIAL_PLACE, {})
            except replies.ImpossibleError:
                at_place = {}
            tokens = {*expected, *at_place}
            apart = 0.5 * sum(abs(expected.get(token, 0.0) - at_place.get(token, 0.0)) for token in tokens)
            # Some servers list what comes behind a token where others list what came before it; only a comparison tells.
            return "echo" if at_place and apart < _SAME else "logprobs"
        return None

    def _find_response_format(self) -> None:
        schema = {"type": "object", "properties": {"answer": {"type": "string", "enum": ["yes"]}}, "required": ["answer"]}
        said = ""
        for name in ("json_schema", "json_object"):
            self._response_format = name
            reply = self._try(self._chat([{"role": "user", "content": 'Reply with {"answer": "yes"}.'}], 40, schema), "response_format")
            if reply.status == "ok":
                return
            said = f"{reply.status}: {reply.text}"
        raise ModelError(
            f"the server at {self.config.base_url} neither tells probabilities nor accepts a JSON schema for '{self._model}' ({said}); "
            "check base_url (it usually ends in /v1) and model."
        )

    def _try(self, request: Request, asked_for: str) -> Reply:
        reply = self._server.ask([request], retries=2, trial=True)[0]
        # Only a clear answer may decide how a whole run is scored; some servers call what they do not support an error of theirs.
        refused = reply.status.startswith("error 4") or reply.status == "error 501" or asked_for in reply.text
        if reply.status != "ok" and not refused:
            raise ModelError(
                f"the server at {self.config.base_url} failed at a first small request with {asked_for}: {reply.status}, {reply.text}"
            )
        self._count(reply)
        return reply

    # --- requests ---

    def _body(self, path: str, body: Mapping[str, Any]) -> Request:
        full = {"model": self._model, **body, **self.config.extra_body}
        return Request(path, {key: value for key, value in full.items() if key not in self.config.leave_out})

    def _reading(self, text: str, *, echo: bool = False) -> Request:
        # At temperature 0 some servers tell the probabilities after it: all on one token.
        body = {"prompt": text, "max_tokens": 1, "temperature": 1.0, "logprobs": self._top}
        return self._body("completions", body | ({"echo": True} if echo else {}))

    def _chat(self, messages: Sequence[Mapping[str, str]], max_tokens: int, schema: Mapping[str, Any] | None, **body: Any) -> Request:
        formed: dict[str, Any] = {}
        if schema is not None and self._response_format == "json_schema":
            formed = {"response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}}
        elif schema is not None:
            formed = {"response_format": {"type": "json_object", "schema": schema}}
        return self._body("chat/completions", {"messages": list(messages), "max_tokens": max_tokens, "temperature": 0.0, **formed, **body})

    def _wanted(self, request: GenerationRequest) -> Request:
        body: dict[str, Any] = {"temperature": request.temperature, "seed": request.stream.integer()}
        if request.stop:
            body["stop"] = list(request.stop[:4])  # the most that all servers take; the text is cut here again
        if request.prompt is None:
            if not request.messages:
                raise ModelError("a text cannot be generated from nothing; give messages or a prompt.")
            messages = [{"role": message.role, "content": replies.plain(message.text)} for message in request.messages]
            return self._chat(messages, request.max_tokens, request.schema, **body)
        if request.prompt.probes:
            raise ModelError(f"a prompt that a text continues must have no probes, but it has '{request.prompt.probes[0].name}'.")
        text = replies.plain(request.prompt.text)
        if self.mode != "schema" and request.schema is None:
            return self._body("completions", {"prompt": text, "max_tokens": request.max_tokens, **body})
        system = {"role": "system", "content": "Continue the text. Write only what comes next, without repeating any of it."}
        return self._chat([system, {"role": "user", "content": text}], request.max_tokens, request.schema, **body)

    def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        answers = self._server.ask([self._mergeable(request) for request in requests])
        refused = [number for number, reply in enumerate(answers) if reply.status.startswith("error") and refuses_system(reply.text)]
        if refused and not self._merges_system:
            _log.info("The model at %s takes no system turn; it is put before the first turn of the user.", self.config.base_url)
            self._merges_system = True
            for number, reply in zip(refused, self._server.ask([self._mergeable(requests[number]) for number in refused]), strict=True):
                answers[number] = reply
        for reply in answers:
            if reply.status in ("error 404", "error 405"):
                raise ModelError(
                    f"the server at {self.config.base_url} no longer knows '{self._model}' or this request ({reply.text}); check base_url "
                    "(it usually ends in /v1) and model."
                )
            self._count(reply)
        return answers

    def _mergeable(self, request: Request) -> Request:
        """The request as it is sent to a model that takes no system turn, once that is known."""
        messages = None if request.body is None else request.body.get("messages")
        if not self._merges_system or request.body is None or not messages:
            return request
        return Request(request.path, {**request.body, "messages": documents.without_system(messages)})

    def _count(self, reply: Reply) -> None:
        told = told_usage(reply.document)
        prompt, computed, generated = (told.prompt, told.prompt - told.kept, told.completion) if told else (0, 0, 0)
        self._usage = Usage(
            self._usage.prompt_tokens + prompt,
            self._usage.computed_tokens + computed,
            self._usage.generated_tokens + generated,
            self._usage.calls + 1,
        )

    # --- probabilities ---

    def _score_texts(self, prompts: Sequence[Prompt]) -> list[Scores]:
        texts = [replies.unrolled(prompt) for prompt in prompts]
        known: dict[tuple[int, int], dict[str, dict[str, float]]] = {
            (i, k): {} for i, prompt in enumerate(prompts) for k in range(len(prompt.probes))
        }
        failed: dict[int, Reply] = {}
        if self.mode == "echo":
            asked = [i for i, prompt in enumerate(prompts) if prompt.probes]
            for i, reply in zip(asked, self._ask([self._reading(texts[i][0], echo=True) for i in asked]), strict=True):
                listed, wrong = _told(reply, partial(documents.echoed, text=texts[i][0], most=self._top))
                if wrong is not None:
                    failed[i] = wrong
                for k, place in enumerate(texts[i][1]):
                    # A token across the place of a probe hides the distribution there: that probe is asked alone.
                    if listed and place in listed:
                        known[i, k][""] = listed[place]
        results: dict[tuple[int, int], Any] = {}
        pending = list(known)
        while pending := [key for key in pending if key not in results and key[0] not in failed]:
            questions: list[tuple[tuple[int, int], str]] = []
            for i, k in pending:
                spaced = replies.wants_space(texts[i][0][: texts[i][1][k]])
                read = replies.read_labels(prompts[i].probes[k], known[i, k], spaced=spaced) if known[i, k] else [""]
                if isinstance(read, list):
                    questions += [((i, k), written) for written in read]
                else:
                    results[i, k] = read
            requests = [self._reading(texts[i][0][: texts[i][1][k]] + written) for (i, k), written in questions]
            for ((i, k), written), reply in zip(questions, self._ask(requests), strict=True):
                likely, wrong = _told(reply, partial(documents.last_listed, most=self._top))
                known[i, k][written] = likely or {}
                if wrong is not None:
                    failed[i] = wrong
                elif not likely:
                    failed[i] = Reply(status="unreadable", text=f"no logprobs in {str(dict(reply.document))[:300]}")
        return [
            Scores((), (), failed[i].status, failed[i].text)
            if i in failed
            else _gathered(prompt, [results[i, k] for k in range(len(prompt.probes))], [known[i, k] for k in range(len(prompt.probes))])
            for i, prompt in enumerate(prompts)
        ]

    # --- forms ---

    def _score_forms(self, prompts: Sequence[Prompt]) -> list[Scores]:
        asked = [i for i, prompt in enumerate(prompts) if prompt.probes]
        requests = []
        for i in asked:
            probes = prompts[i].probes
            messages = [{"role": "system", "content": replies.INSTRUCTIONS}, {"role": "user", "content": replies.form(prompts[i])}]
            room = 32 + 24 * len(probes)
            requests.append(self._chat(messages, room, replies.form_schema(probes), temperature=self.config.temperature))
        scores = [Scores((), ())] * len(prompts)
        for i, reply in zip(asked, self._ask(requests), strict=True):
            status, text = documents.written(reply)
            scores[i] = (
                replies.read_form(prompts[i].probes, text, self.config.smoothing)
                if status in ("ok", "length")
                else Scores((), (), status, text)
            )
        return scores

    def _completion(self, request: GenerationRequest, reply: Reply) -> Completion:
        status, text = documents.written(reply)
        if status not in ("ok", "length"):
            return Completion("", 0, status)
        told = told_usage(reply.document)
        tokens = told.completion if told else estimated_tokens(text)
        said = replies.without_thoughts(text)
        if text and not said:
            return Completion("", tokens, "length" if status == "length" else "unreadable")  # it only thought
        for stop in request.stop:
            said = said.partition(stop)[0]
        return Completion(said, tokens, status)


def _told(reply: Reply, read: Callable[[Mapping[str, Any]], T]) -> tuple[T | None, Reply | None]:
    """What is read from a reply, or the reply that says why nothing can be."""
    if reply.status != "ok":
        return None, reply
    try:
        return read(reply.document), None
    except replies.ImpossibleError as error:
        return None, Reply(status="unreadable", text=str(error))


def _gathered(prompt: Prompt, read: Sequence[Any], known: Sequence[Mapping[str, Mapping[str, float]]]) -> Scores:
    for probe, (_, mass), answers in zip(prompt.probes, read, known, strict=True):
        if not mass > 0:
            return Scores((), (), "unreadable", f"no label of '{probe.name}' is among the likeliest tokens: {list(answers[''])[:20]}")
    return Scores(tuple(logprobs for logprobs, _ in read), tuple(mass for _, mass in read))
