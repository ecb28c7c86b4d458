"""Settings that can be changed while people browse, or when they start over; checked as an experiment file is."""

from __future__ import annotations

from typing import Any

import solara
import solara.lab
from mesa.visualization.utils import force_update, update_counter

from experiments import build
from experiments.dashboard.changeable import EXPLORATION, RECOMMENDERS
from experiments.dashboard.live import LiveRun
from simulator.errors import UsersimError


@solara.component
def Settings(run: solara.Reactive[LiveRun]) -> None:
    """The settings in force, and what they are to become."""
    update_counter.get()
    world = run.value.world
    config = world.parts.config
    feed = config.recommender.feed_config()
    resolved = build.resolved(config)["decision"]
    rate = resolved.get("choose_rate")
    use, set_use = solara.use_state(config.recommender.use)
    size, set_size = solara.use_state(feed.page_size)
    exploration, set_exploration = solara.use_state(feed.exploration)
    choose_rate, set_choose_rate = solara.use_state(rate)
    other, set_other = solara.use_state("")
    wanted = solara.use_reactive(())
    told = solara.use_reactive(("", False))

    def overrides() -> tuple[str, ...]:
        found = [f'recommender.use="{use}"'] if use != config.recommender.use else []
        found += [f"recommender.page_size={size}"] if size != feed.page_size else []
        found += [f'recommender.exploration="{exploration}"'] if exploration != feed.exploration else []
        found += [f"decision.choose_rate={choose_rate:.2f}"] if rate is not None and round(choose_rate, 2) != round(rate, 2) else []
        return (*found, *(line.strip() for line in other.split(";") if line.strip()))

    def work() -> None:
        if not wanted.value:
            return
        how, changes = wanted.value
        try:
            if how == "start over":
                run.set(LiveRun.start_over(world, changes))
            elif changes:
                run.value.change(changes)
            listed = ", ".join(changes) or "the settings as they were"
            told.set((f"In force{' from the next page on' if how == 'next page' else ', and everybody starts over'}: {listed}.", False))
        except UsersimError as error:
            told.set((str(error), True))
        wanted.set(())
        force_update()

    task = solara.lab.use_task(work, dependencies=[wanted.value])
    offered = list(dict.fromkeys([world.began_with.recommender.use, *RECOMMENDERS]))
    solara.Select("Recommender", value=use, values=offered, on_value=set_use)
    solara.SliderInt("Items on a page", value=size, min=1, max=20, on_value=set_size)
    solara.Select("Exploration", value=exploration, values=list(EXPLORATION), on_value=set_exploration)
    if rate is not None:
        solara.SliderFloat(
            "Share of shown items that are chosen", value=choose_rate, min=0.05, max=0.9, step=0.05, on_value=set_choose_rate
        )
    solara.InputText("Other settings, section.key=value; section.key=value", value=other, on_value=set_other)
    with solara.Row(style={"flex-wrap": "wrap"}):
        solara.Button(
            "Use from the next page on", color="primary", disabled=task.pending, on_click=lambda: wanted.set(("next page", overrides()))
        )
        solara.Button("Start over with these", disabled=task.pending, on_click=lambda: wanted.set(("start over", overrides())))
    if task.pending and wanted.value:
        solara.ProgressLinear(True)
    text, wrong = told.value
    if text:
        (solara.Error if wrong else solara.Success)(text)
    _in_force(config, resolved)


def _in_force(config: Any, decision: dict[str, Any]) -> None:
    sections = {"recommender": build.resolved(config)["recommender"], "decision": decision}
    lines = [f"{section}.{key} = {value}" for section, content in sections.items() for key, value in content.items()]
    with solara.Details("In force now"):
        solara.Preformatted("\n".join(lines))
