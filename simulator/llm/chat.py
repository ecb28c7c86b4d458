"""From a conversation to the text that a chat model was trained on, without letting a message imitate the markers.

The template that comes with a model is rendered around placeholders. What stands between the placeholders is the
template's own text, in which control tokens are real; what goes into them is plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from simulator.errors import ModelError
from simulator.records import Message

PLAIN = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
"""For models that bring no template of their own (base models)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered conversation; `control` says whether it is the template's own text. `turn` counts messages."""

    text: str
    control: bool
    turn: int


class ChatTemplate:
    """A model's chat template.

    Args:
        source: the Jinja template, or None for `PLAIN`.
        start, end: text of the tokens that begin and end a text, which templates may use.

    Raises:
        ModelError: the template cannot be read.
    """

    def __init__(self, source: str | None, start: str = "", end: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _refuse
        self._tokens = {"bos_token": start, "eos_token": end}
        try:
            self._template = environment.from_string(source or PLAIN)
        except TemplateError as error:
            raise ModelError(f"the model's chat template cannot be read: {error}.") from error

    def render(self, messages: Sequence[Message]) -> list[Piece]:
        """The conversation up to where the model answers.

        A template that has no place for a system turn (Gemma's refuses it, others leave it out) gets its text before the next turn of
        the user, where people who use such models put it.

        Raises:
            ModelError: the template does not allow this conversation.
        """
        try:
            return self._rendered(messages, [[number] for number in range(len(messages))], [message.role for message in messages])
        except ModelError as error:
            if all(message.role != "system" for message in messages):
                raise
            refused = error
        groups = _without_system(messages)
        try:
            return self._rendered(messages, groups, [_role(messages[group[-1]]) for group in groups])
        except ModelError:
            raise refused from None

    def _rendered(self, messages: Sequence[Message], groups: Sequence[Sequence[int]], roles: Sequence[str]) -> list[Piece]:
        """The conversation with the messages of each group in one turn."""
        holders = [f"\ue000{number}\ue001" for number in range(len(messages))]
        contents = ["\n\n".join(holders[number] for number in group) for group in groups]
        turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        try:
            rendered = self._template.render(messages=turns, add_generation_prompt=True, **self._tokens)
        except _FAILURES as error:
            raise ModelError(f"the model's chat template does not allow this conversation: {error}.") from error
        pieces: list[Piece] = []
        for number, (message, holder) in enumerate(zip(messages, holders, strict=True)):
            before, found, rendered = rendered.partition(holder)
            if not found:
                raise ModelError(f"the model's chat template leaves out message {number + 1} ({message.role}) of a conversation.")
            pieces += [Piece(before, True, number), Piece(message.text, False, number)]
        pieces.append(Piece(rendered, True, len(messages)))
        return [piece for piece in pieces if piece.text]


_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a template can raise: it is a program."""


def _without_system(messages: Sequence[Message]) -> list[list[int]]:
    """Numbers of the messages of each turn, where what the system says goes into the user's next turn, or makes one of its own."""
    groups: list[list[int]] = []
    waiting: list[int] = []
    for number, message in enumerate(messages):
        if message.role == "user":
            groups.append([*waiting, number])
            waiting = []
        elif message.role == "system":
            waiting.append(number)
        else:
            groups += [[*waiting]] if waiting else []
            groups.append([number])
            waiting = []
    return [*groups, waiting] if waiting else groups


def _role(last: Message) -> str:
    return "user" if last.role == "system" else last.role


def _refuse(reason: Any) -> None:
    raise TemplateError(str(reason))
