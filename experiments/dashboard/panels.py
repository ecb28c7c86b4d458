"""What the dashboard shows of a live run: pages as they were shown, people with their memories, measures, an interview."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import solara
import solara.lab
from mesa.visualization import make_plot_component
from mesa.visualization.utils import update_counter

from experiments.analysis import html_page
from experiments.dashboard.live import LiveRun
from simulator.errors import UsersimError

MEMORIES_SHOWN = 60
"""Newest records of a person in the table; older ones are counted."""

TURNS_SHOWN = 40
"""Newest page turns in the table."""


@solara.component
def Pages(run: LiveRun) -> None:
    """The pages of the last step, one card per person who saw one."""
    update_counter.get()
    if not run.turned:
        _html("<p>Everybody is in front of the first page. <b>Step</b> lets each of them turn one; <b>▶</b> goes on by itself.</p>")
        return
    cards = []
    for user in run.turned:
        told = run.story(user)
        visit = told.visits[-1] if told.visits else None
        if visit is None or not visit.pages:
            continue
        page = visit.pages[-1]
        goes_on = "Left after this page" if page.left else f"Goes on (would leave with {page.leave_probability:.0%})"
        after = f"Session over: {visit.ending}" if visit.ending else goes_on
        mood = f", satisfaction {visit.satisfaction:.0f} of 10" if visit.satisfaction is not None else ""
        head = f"<h3>Person {escape(user)}, page {page.number}</h3>"
        end = f'<p class="soft">{escape(after)}{mood}; looked for {page.dwell} s.</p>'
        said = f"<blockquote>{escape(visit.texts['reason'])}</blockquote>" if "reason" in visit.texts else ""
        cards.append(f'<article class="card">{head}{html_page.part("page", page, told.domain)}{end}{said}</article>')
    _html(f'<div class="cards">{"".join(cards)}</div>')


@solara.component
def People(run: LiveRun) -> None:
    """One person: who it is, the story so far, and what is remembered."""
    update_counter.get()
    users = [person.user_id for person in run.world.people]
    chosen, choose = solara.use_state(users[0])
    solara.Select("Person", value=chosen, values=users, on_value=choose)
    records = run.memories(chosen)
    kept = [record for record in reversed(records) if record.forgotten is None]
    _html(html_page.part("story", run.story(chosen), "Browsing" if run.browsing(chosen) else "Away", open=1))
    rows = [
        (record.text, record.kind, f"{record.round + 1}", f"{record.importance:.2f}", f"{record.recalls}")
        for record in kept[:MEMORIES_SHOWN]
    ]
    caption = f"What person {chosen} remembers, newest first: {len(kept)} records" + (
        f", {len(records) - len(kept)} more are forgotten" if len(records) > len(kept) else ""
    )
    _html(html_page.part("table", ["Memory", "Kind", "Round", "Importance", "Recalled"], rows, caption))


@solara.component
def Measures(run: LiveRun) -> None:
    """Numbers by page turn: Mesa's plots of its data collector, and the same in a table."""
    update_counter.get()
    if not run.turns:
        _html("<p>Nothing has happened yet.</p>")
        return
    names = [name for name in run.measures if name not in ("shown", "tokens", "seconds")]
    tokens = ["tokens"] if any(turn["tokens"] for turn in run.turns) else []
    with solara.ColumnsResponsive(12, 6, large=4):
        for name in [*names, "seconds", *tokens]:
            plot, _ = make_plot_component(name, post_process=_titled(name))
            plot(run)
    columns = ["Step", "Round", *run.measures]
    rows = [[_cell(turn[key]) for key in ("step", "round", *run.measures)] for turn in reversed(run.turns[-TURNS_SHOWN:])]
    _html(html_page.part("table", [name.capitalize() for name in columns], rows, "By page turn, newest first", stacked=False))
    solara.FileDownload(lambda: run.log.impressions.write_csv().encode(), filename="impressions.csv", label="Download the log (CSV)")


@solara.component
def Interview(run: LiveRun) -> None:
    """Questions to one person, who answers from what they remember now."""
    update_counter.get()
    users = [person.user_id for person in run.world.people]
    chosen, choose = solara.use_state(users[0])
    said = solara.use_reactive([])
    question, set_question = solara.use_state("What did you like, and why?")
    asked = solara.use_reactive("")

    def answer() -> None:
        if not asked.value:
            return
        try:
            said.set([*said.value, (chosen, asked.value, run.ask(chosen, asked.value))])
        except UsersimError as error:
            said.set([*said.value, (chosen, asked.value, f"({error})")])
        asked.set("")

    task = solara.lab.use_task(answer, dependencies=[asked.value])
    solara.Select("Person", value=chosen, values=users, on_value=choose)
    solara.InputText("Question", value=question, on_value=set_question)
    solara.Button("Ask", color="primary", disabled=task.pending, on_click=lambda: asked.set(question))
    if task.pending and asked.value:
        solara.ProgressLinear(True)
    turns = "".join(
        f'<article class="card"><h3>To person {escape(user)}: {escape(text)}</h3><p>{escape(reply)}</p></article>'
        for user, text, reply in reversed(said.value)
    )
    _html(f'<div class="cards">{turns}</div>')


def _html(content: str) -> None:
    solara.HTML(tag="div", unsafe_innerHTML=content, classes=["usersim"])


def _titled(name: str) -> Callable[[Any], None]:
    def title(axes: Any) -> None:
        axes.set_title(name.capitalize() + " by page turn")
        axes.set_ylabel("")
        axes.figure.set_size_inches(4.2, 2.6)

    return title


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
