"""The page of the dashboard: Mesa's controls of a live run above four panels. The file that Solara shows."""

from __future__ import annotations

import threading
from typing import Any

import solara
import solara.lab
from mesa.visualization.solara_viz import ModelController, ShowSteps
from mesa.visualization.utils import force_update, update_counter

from experiments.analysis import html_page
from experiments.dashboard import current
from experiments.dashboard.panels import Interview, Measures, Pages, People
from experiments.dashboard.settings_panel import Settings

POLL_SECONDS = 0.5
"""How often a tab looks whether another tab has moved the run on."""


@solara.component
def Page() -> None:
    """Everything."""
    world = current.world()
    run = solara.use_reactive(current.run())
    parameters = solara.use_reactive({"world": world})
    between_steps = solara.use_reactive(200)
    steps_at_once = solara.use_reactive(1)
    update_counter.get()

    def watch(cancel: threading.Event) -> None:
        seen: Any = None
        while not cancel.wait(POLL_SECONDS):
            newest = current.run()
            state = (id(newest), len(newest.turns), newest.trouble)
            if seen is not None and state != seen:
                if newest is not run.value:
                    run.set(newest)
                force_update()
            seen = state

    solara.use_thread(watch, dependencies=[], intrusive_cancel=False)
    live = run.value
    solara.Title(f"usersim: {world.parts.config.name}")
    solara.Style(html_page.style(".usersim", ".theme--dark"))
    with solara.AppBar():
        solara.AppBarTitle(f"{world.parts.config.name}: {len(world.people)} people of {world.parts.begun.train.name}")
        solara.lab.ThemeToggle()
    with solara.Column(style={"max-width": "72rem", "margin": "0 auto", "padding": "0.5rem 0.8rem 3rem"}):
        with solara.Card():
            with solara.Row(justify="start", style={"flex-wrap": "wrap", "align-items": "center"}):
                ModelController(
                    run, model_parameters=parameters, play_interval=between_steps, render_interval=steps_at_once, use_threads=False
                ).key(f"controls-{id(live)}-{live.last_round}")
                ShowSteps(live)
                solara.Text(_state(live), classes=["usersim-state"])
            if live.trouble:
                solara.Error(live.trouble)
        with solara.lab.Tabs(grow=True, lazy=True):
            with solara.lab.Tab("Pages"):
                Pages(live)
            with solara.lab.Tab("People"):
                People(live)
            with solara.lab.Tab("Measures"):
                Measures(live)
            with solara.lab.Tab("Interview"):
                Interview(live)
            with solara.lab.Tab("Settings"):
                Settings(run)


def _state(live: Any) -> str:
    if live.running:
        return f"Round {live.round + 1}: {live.here} of {len(live.cohort.users)} people browse"
    return f"Round {live.round + 1} is over, and with it the run. Reset begins it again; more rounds are a setting."
