"""A headless Chromium, driven over a pipe by the DevTools protocol: no driver, no port, no library.

Each page says what its console heard (`problems`): errors, and whatever a Content-Security-Policy refused.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import UNIT_S, eventually

# Runs in the child first: puts the pipes where the protocol wants them, and asks the kernel to end the
# browser when this process ends, however it does.
_LAUNCHER = """
import ctypes, fcntl, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
reads, writes = (fcntl.fcntl(int(given), fcntl.F_DUPFD, 10) for given in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_ANSWER_UNITS = 30
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_command() -> str | None:
    """The program, where it is installed."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """One process; used on one thread."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._write = os.fdopen(to_browser, "wb", buffering=0)
        self._read = os.fdopen(from_browser, "rb", buffering=0)
        self._buffer = b""
        self._sent = 0
        self._events: list[dict[str, Any]] = []

    def page(self, width: int, height: int, *, dark: bool = False) -> Page:
        """Open an empty page of that size, in CSS pixels."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        return page

    def call(self, method: str, session: str | None = None, /, **parameters: object) -> dict[str, Any]:
        """Return the result of a command."""
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._write.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._sent:
            self._events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def events(self, session: str) -> list[dict[str, Any]]:
        """What was heard of a page so far."""
        return [event for event in self._events if event.get("sessionId") == session]

    def close(self) -> None:
        """Let go of the pipes."""
        self._write.close()
        self._read.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._read], [], [], _ANSWER_UNITS * UNIT_S)
            assert readable, "the browser does not answer"
            piece = self._read.read(1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the result of a command to this page."""
        return self._browser.call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        """Begin to load."""
        self.call("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """Return what JavaScript says."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        """All that can be read on it."""
        return str(self.ask("document.body ? document.body.innerText : ''"))

    def wait_for(self, text: str) -> None:
        """Return when the text can be read."""
        eventually(lambda: text in self.text(), f"the page says {text!r}", 20)

    def shot(self, file: Path) -> None:
        """Write what it looks like, all of it, as a PNG."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def problems(self) -> list[str]:
        """What the console heard that it should not."""
        found = []
        for event in self._browser.events(self._session):
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(str(parameters["entry"]["text"]))
        return found


@contextmanager
def start_browser(command: str, profile: Path) -> Iterator[Browser]:
    """A running browser; ended with the block."""
    child_reads, to_browser = os.pipe()
    from_browser, child_writes = os.pipe()
    flags = [
        "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
        "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
        "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
        "--ignore-certificate-errors", "--hide-scrollbars",
    ]  # fmt: skip
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(child_reads), str(child_writes)]
    process = subprocess.Popen(
        [*launcher, command, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(child_reads, child_writes),
        start_new_session=True,
    )
    os.close(child_reads)
    os.close(child_writes)
    browser = Browser(to_browser, from_browser)
    try:
        yield browser
    finally:
        browser.close()  # it ends when its pipe does
        try:
            process.wait(20 * UNIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
