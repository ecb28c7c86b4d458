"""`usersim interview`: a conversation with one simulated person, in character, from their profile and memories."""

from __future__ import annotations

from typing import Annotated

import typer

from experiments.commands.options import Run, opens_runs
from experiments.console import emit, note, stages, stdout

User = Annotated[str, typer.Option("--user", help="Id of the person, as in the log.")]
Ask = Annotated[
    list[str] | None, typer.Option("--ask", help="A question; may be repeated. Without it, questions are read from the terminal.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout; needs --ask.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("interview", help="Ask a simulated person questions; they answer from their profile and memories.")(interview)


@opens_runs
def interview(run: Run, user: User, ask: Ask = None, json: Json = False) -> None:
    """Interviews one person of a run."""
    from experiments.interview import Interview  # noqa: PLC0415 - slow imports, and only here
    from simulator.errors import ConfigError  # noqa: PLC0415

    if json and not ask:
        raise ConfigError("--json needs at least one --ask, since questions cannot be read from the terminal then.")
    with stages() as tell:
        tell("waking up the person", 0, 0)
        session = Interview(run, user)
    try:
        if ask:
            answers = []
            with stages() as tell:
                for number, question in enumerate(ask, start=1):
                    tell(f"question {number} of {len(ask)}", number - 1, len(ask))
                    answers.append((question, session.ask(question)))
            if json:
                turns = [
                    {"question": question, "answer": answer, "status": how.status, "items": list(how.items)}
                    for (question, answer), how in zip(answers, session.answers, strict=True)
                ]
                emit({"run": str(run), "user": user, "person": session.person, "turns": turns}, as_json=True)
            else:
                for question, answer in answers:
                    stdout.print(f"[bold]> {_escaped(question)}[/bold]\n{_escaped(answer)}", highlight=False)
            return
        note(f"{session.person}\nAsk; an empty line ends the interview.")
        while question := _question():
            stdout.print(_escaped(session.ask(question)), highlight=False)
    finally:
        session.close()


def _question() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
