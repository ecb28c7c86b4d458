"""The naive way to ask a person about a page: one chat call that writes its answer as JSON."""

from __future__ import annotations

import json

from llama_cpp import Llama

from simulator.llm.models import resolve
from simulator.llm.replies import INSTRUCTIONS, form, form_schema
from simulator.records import Prompt


class ChatModel:
    """llama-cpp-python's own chat interface with the default model's file as shipped.

    Args:
        threads: of the computation.
    """

    def __init__(self, threads: int) -> None:
        self._model = Llama(str(resolve()), n_ctx=1024, n_threads=threads, n_threads_batch=threads, seed=0, verbose=False)

    def ask(self, prompt: Prompt) -> bool:
        """Asks one page; whether the reply is valid, which the forced schema should make certain."""
        schema = form_schema(prompt.probes)
        reply = self._model.create_chat_completion(
            messages=[{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": form(prompt)}],
            response_format={"type": "json_object", "schema": schema},
            max_tokens=300,
            temperature=0.7,
        )
        try:
            answers = json.loads(reply["choices"][0]["message"]["content"])
        except ValueError:
            return False
        return all(answers.get(probe.name) in probe.labels for probe in prompt.probes)

    def close(self) -> None:
        """Frees the model."""
        self._model.close()
