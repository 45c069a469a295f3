"""A headless Chromium, driven through chromedriver by the WebDriver protocol, which is JSON over HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_ports, started, wait_until

TAB, ENTER = "\ue004", "\ue007"
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


@dataclass(frozen=True)
class Browser:
    """One session. An element is the id that WebDriver gave it."""

    url: str

    def call(self, method: str, path: str, **body: object) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {json.load(error)['value']['message']}") from error

    def open(self, url: str) -> None:
        self.call("POST", "/url", url=url)

    def find(self, css: str) -> str:
        return str(self.call("POST", "/element", using="css selector", value=css)[_ELEMENT])

    def text(self, css: str) -> str:
        return str(self.call("GET", f"/element/{self.find(css)}/text"))

    def click(self, css: str) -> None:
        self.call("POST", f"/element/{self.find(css)}/click")

    def follow(self, css: str) -> None:
        """Click what leads to another page, and wait for that."""
        before = self.address
        self.click(css)
        self.wait(lambda: self.address != before, f"another page than {before}")
        self.find("footer")  # its end

    @property
    def address(self) -> str:
        return str(self.call("GET", "/url"))

    def fill(self, css: str, text: str) -> None:
        element = self.find(css)
        self.call("POST", f"/element/{element}/clear")
        self.call("POST", f"/element/{element}/value", text=text)

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def run(self, script: str, *arguments: object) -> Any:
        return self.call("POST", "/execute/sync", script=script, args=arguments)

    def devtools(self, command: str, **parameters: object) -> Any:
        return self.call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def screen(self, width: int, height: int, scheme: str = "light", *, phone: bool = False) -> None:
        """The window as a page sees it, and the colours that its user prefers."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """What the console has said since it was asked last: errors, warnings, refusals of the content policy."""
        return [entry["message"] for entry in self.call("POST", "/se/log", type="browser")]

    def picture(self, *, whole: bool = False) -> bytes:
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(taken["data"])

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(lambda: bool(condition()), what, 20)


@contextlib.contextmanager
def browser(arguments: Sequence[str] = ARGUMENTS) -> Iterator[Browser]:
    """A browser with nothing in it. Skips the test where there is none."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("chromium and chromedriver are not here: tools/setup.sh browser")
    with _directory() as directory, (Path(directory) / "log").open("wb") as log:
        (port,) = free_ports(1)
        with contextlib.ExitStack() as stack:
            driven = started(
                [driver, f"--port={port}"], stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"HOME": directory, "NO_PROXY": "*"},
            )  # fmt: skip
            stack.callback(_end, stack.enter_context(driven))
            base = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(base), "chromedriver")
            options = {"binary": chromium, "args": [*arguments, f"--user-data-dir={directory}/profile"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = Browser(base).call("POST", "/session", capabilities={"alwaysMatch": wanted})
            session = Browser(f"{base}/session/{made['sessionId']}")
            stack.callback(session.call, "DELETE", "")
            session.call("POST", "/timeouts", implicit=10_000)  # of a page that is not whole yet
            yield session


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/status", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """The driver, and whatever is left of the browser that it started."""
    process.terminate()
    process.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _directory() -> tempfile.TemporaryDirectory[str]:
    """The last of the browser's processes may still write to its profile."""
    return tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
