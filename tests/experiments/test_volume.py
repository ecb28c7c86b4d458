"""``-v`` and ``-q`` before a command and after it."""

import logging

import pytest

from experiments.cli import call
from experiments.console import set_volume


@pytest.fixture(autouse=True)
def _normal_again():
    yield
    set_volume("normal")


@pytest.mark.parametrize("place", [["-q", "data", "list"], ["data", "list", "--quiet"], ["--quiet", "data", "list", "-q"]])
def test_a_quiet_command_prints_its_result_and_nothing_else(place, capsys):
    assert call(place) == 0
    logging.getLogger("simulator.llm").info("something to tell")
    told = capsys.readouterr()
    assert "ml-100k" in told.out
    assert told.err == ""


def test_a_quiet_command_says_why_it_failed(tmp_path, capsys):
    assert call(["resume", str(tmp_path / "nowhere"), "-q"]) == 2
    assert capsys.readouterr().err.startswith("usersim: there is no run at")


@pytest.mark.parametrize("place", [["-v", "data", "list"], ["data", "list", "--verbose"]])
def test_a_verbose_command_tells_what_every_package_logs_with_time_and_origin(place, capsys):
    assert call(place) == 0
    capsys.readouterr()
    logging.getLogger("agents.memory").debug("a detail")
    assert "agents.memory: a detail" in capsys.readouterr().err
    assert call(["data", "list"]) == 0
    capsys.readouterr()
    logging.getLogger("agents.memory").debug("a detail")
    logging.getLogger("simulator.llm").info("a choice")
    assert capsys.readouterr().err == "a choice\n"


def test_both_at_once_are_refused(capsys):
    assert call(["data", "list", "-q", "-v"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_every_command_has_both():
    import typer

    from experiments.cli import application

    def names(command):
        return [name for parameter in command.params for name in parameter.opts]

    def below(command):
        children = getattr(command, "commands", {}).values()
        return [command] if not children else [leaf for child in children for leaf in below(child)]

    main = typer.main.get_command(application())
    assert {"-v", "-q"} <= set(names(main))
    leaves = below(main)
    assert len(leaves) > 15
    assert all({"-v", "--verbose", "-q", "--quiet"} <= set(names(leaf)) for leaf in leaves)
