"""The world and the live run of this process, which all browser tabs share: a page that is loaded again goes on where it was."""

from __future__ import annotations

from experiments.dashboard.live import LiveRun
from experiments.dashboard.world import World

_worlds: list[World] = []


def show(world: World) -> None:
    """Makes this the world that is shown, with a live run in front of its first pages."""
    _worlds[:] = [world]
    LiveRun(world)


def world() -> World:
    """The world that is shown."""
    return _worlds[0]


def run() -> LiveRun:
    """The newest live run of it."""
    newest = world().live
    assert isinstance(newest, LiveRun)
    return newest
