"""A headless Chromium, driven through its DevTools protocol; just enough to press buttons and to read the page."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class Browser:
    """One tab. Use it in a `with` block, which ends the process that it started."""

    def __init__(self, width: int = 1200, height: int = 900) -> None:
        assert PROGRAM is not None
        self._profile = Path(tempfile.mkdtemp(prefix="browser-"))
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars"]
        self._process = subprocess.Popen(
            [PROGRAM, *options, f"--window-size={width},{height}", f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._open = contextlib.ExitStack()
        self._open.callback(shutil.rmtree, self._profile, ignore_errors=True)
        self._open.callback(self._end)
        self._number = 0
        self.requested: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> Browser:
        try:
            self._connect()
        except BaseException:
            self._open.close()
            raise
        return self

    def _connect(self) -> None:
        from websockets.sync.client import connect

        port_file = self._profile / "DevToolsActivePort"
        end = time.monotonic() + 20
        while not (port_file.is_file() and port_file.read_text().strip()):
            assert time.monotonic() < end, "the browser does not start"
            time.sleep(0.05)
        port = int(port_file.read_text().splitlines()[0])
        tabs = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self._socket = self._open.enter_context(connect(address, max_size=None, proxy=None))
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=20))
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            if message.get("id") == self._number:
                result: dict[str, Any] = message.get("result", {})
                return result

    def open(self, address: str) -> None:
        """Goes to a page."""
        self.send("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.send("Runtime.evaluate", expression=script, returnByValue=True).get("result", {}).get("value")

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.run("document.body ? document.body.innerText : ''") or "")

    def wait(self, words: str, seconds: float = 15.0) -> str:
        """Waits until something can be read on the page."""
        end = time.monotonic() + seconds
        while words not in (found := self.text()):
            assert time.monotonic() < end, f"'{words}' does not appear; the page says: {found[:1500]}"
            time.sleep(0.1)
        return found

    def press(self, label: str) -> None:
        """Clicks the button or tab with this label."""
        find = "[...document.querySelectorAll('button, [role=tab], .v-tab')].find(b => b.innerText.trim().toLowerCase() === %s)"
        pressed = self.run(
            f"(() => {{ const b = {find % json.dumps(label.lower())}; if (!b || b.disabled) return false; b.click(); return true }})()"
        )
        assert pressed, f"there is no button '{label}' to press; the page says: {self.text()[:1500]}"

    def picture(self, file: Path) -> None:
        """Writes a screenshot of the whole page."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]))
