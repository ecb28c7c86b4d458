"""The dashboard and the report as a browser shows them; skipped where there is no Chromium or no Solara."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _browser_module():
    spec = importlib.util.spec_from_file_location("dashboard_browser", HERE / "browser.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


browser = _browser_module()
needs_browser = pytest.mark.skipif(
    browser.PROGRAM is None, reason="there is no chromium on this machine (Debian: apt-get install chromium)"
)
needs_solara = pytest.mark.skipif(importlib.util.find_spec("solara") is None, reason="the extra usersim[dashboard] is not installed")

EXPERIMENT = """
name = "shown"
[dataset]
path = "{data}"
[population]
users = 6
[language_model]
use = "simulator.llm.scripted:ScriptedLanguageModel"
[decision]
use = "agents.decisions:LanguageModelDecisions"
[recommender]
use = "environments.recommenders.popularity:Popularity"
page_size = 3
"""


@pytest.fixture
def address(tmp_path: Path, film_files: Path) -> Iterator[str]:
    file = tmp_path / "shown.toml"
    file.write_text(EXPERIMENT.format(data=film_files), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "experiments.cli", "dashboard", str(file), "--port", "0", "--people", "4", "--json"]
    with open(tmp_path / "errors", "w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=tmp_path)
        try:
            document = ""
            for line in server.stdout:
                document += line
                if line.rstrip() == "}":
                    break
            assert document, (tmp_path / "errors").read_text()
            told = json.loads(document)
            assert told["process"] == server.pid
            yield told["address"]
            # of Solara and Mesa too: whoever starts it sees the address, and nothing to wonder about
            assert "Warning" not in (tmp_path / "errors").read_text()
        finally:
            server.terminate()
            server.communicate(timeout=20)


@needs_browser
@needs_solara
def test_people_browse_in_the_browser(address: str) -> None:
    with browser.Browser() as tab:
        tab.open(address)
        tab.wait("4 of 4 people browse")
        tab.wait("Everybody is in front of the first page")
        tab.press("Step")
        seen = tab.wait("page 1")
        assert seen.count("% to watch") == 12
        assert "Step: 1" in seen
        tab.press("Measures")
        tab.wait("By page turn, newest first")
        tab.press("People")
        tab.wait("remembers, newest first")
        tab.press("Interview")
        tab.wait("Question")
        tab.press("Ask")
        tab.wait("To person")
        tab.press("Settings")
        tab.wait("Items on a page")
        tab.press("Start over with these")
        tab.wait("everybody starts over")
        assert "token" not in tab.run("location.href")
        if os.environ.get("USERSIM_PICTURES"):
            for panel in ("Pages", "People", "Measures", "Interview", "Settings"):
                tab.press(panel)
                time.sleep(1)
                tab.picture(Path(os.environ["USERSIM_PICTURES"]) / f"{panel}.png")
        assert tab.errors == []
        # nothing is fetched from elsewhere
        site = address.partition("?")[0]
        assert all(url.startswith((site, "data:", "blob:", "about:")) for url in tab.requested), tab.requested


@needs_browser
def test_the_report_fits_a_phone_and_a_desk(make_run: Callable[..., Path], tmp_path: Path) -> None:
    from experiments.analysis.report import write_report

    report = write_report(make_run(tmp_path / "run", people=10))
    with browser.Browser(width=1200) as tab:
        for width in (360, 1200):
            tab.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
            tab.open(report.as_uri())
            assert "How it was made" in tab.wait("Make it again")
            assert tab.run("document.documentElement.scrollWidth") <= width
            pictures = tab.run("[...document.images].filter(i => i.naturalWidth > 0 && i.alt).length")
            assert pictures == tab.run("document.images.length") > 0
        assert {url for url in tab.requested if not url.startswith(("file:", "data:"))} == set()
        assert tab.errors == []


@needs_solara
def test_the_page_is_for_those_who_have_the_address_alone(address: str) -> None:
    import httpx
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    site, _, token = address.partition("?token=")
    with httpx.Client(trust_env=False, follow_redirects=True) as tab:
        assert tab.get(site).status_code == 403
        page = tab.get(address)
        assert page.status_code == 200
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
        cookie = "; ".join(f"{name}={value}" for name, value in tab.cookies.items())
    kernel = f"{site.replace('http', 'ws')}jupyter/api/kernels/0b5e8fd2-6d0c-4e5e-9d5a-111111111111/channels?session_id=x"
    own = site.rstrip("/")
    for origin, told in (("http://evil.example", cookie), ("null", cookie), (own, None), (own, "usersim-dashboard=x"), (None, None)):
        with pytest.raises(InvalidStatus) as refused:
            connect(kernel, origin=origin, additional_headers={"Cookie": told} if told else {}, proxy=None)
        assert refused.value.response.status_code == 403
    with connect(kernel, origin=own, additional_headers={"Cookie": cookie}, proxy=None) as socket:
        socket.send("{}")
    assert token not in page.text
