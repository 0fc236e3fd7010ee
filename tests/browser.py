"""Headless Chromium, driven over its own pipe: what a page does in a browser, and what it asks the network for.

https://chromedevtools.github.io/devtools-protocol/: JSON messages that end in NUL, on descriptors 3 and 4. No driver
and no package is needed. EDGECXR_CHROMIUM names another Chromium than the one on PATH.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

CHROMIUM = os.environ.get("EDGECXR_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = 120.0  # seconds for one answer, on a machine that does other things as well
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """A Chromium with one tab and its workers; a context manager. `flags` are more of Chromium's."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="edgecxr-browser-", ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = 'exec "$0" "$@" 3<&%d 4>&%d' % (theirs_in, theirs_out)  # noqa: UP031  braces are the shell's
        home = f"--user-data-dir={self._home.name}"
        self._process = subprocess.Popen(
            ["bash", "-c", command, str(CHROMIUM), *FLAGS, *self._flags, home, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number, self._session = b"", 0, None
        self.requested: list[str] = []  # addresses that the page asked for, its own among them
        self.errors: list[str] = []  # what the page complained of
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._home.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(self._session, method, parameters)
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._message(end)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _send(self, session: str | None, method: str, parameters: dict[str, Any]) -> int:
        """Send a message; the number that its answer will have."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._number

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0], "the browser is silent"
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser ended"
            self._rest += piece
        whole, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(whole)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Target.attachedToTarget" if parameters["waitingForDebugger"]:  # a worker
                for domain in ("Network", "Runtime", "Log"):
                    self._send(parameters["sessionId"], f"{domain}.enable", {})
                workers = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
                self._send(parameters["sessionId"], "Target.setAutoAttach", workers)
                self._send(parameters["sessionId"], "Runtime.runIfWaitingForDebugger", {})
            case "Runtime.exceptionThrown":
                self.errors.append(str(parameters["exceptionDetails"].get("exception", parameters)))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.errors.append(parameters["entry"]["text"])
        return message

    def open(self, page: Path | str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show a file or an address, and wait until it is loaded."""
        phone = width < 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requested.clear()
        self.errors.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while self.js("document.readyState") != "complete":
            assert time.monotonic() < end

    def js(self, code: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def choose(self, field: str, paths: Sequence[Path]) -> None:
        """Give files to the file field with this id, as a person does in the browser's dialogue."""
        found = self.call("Runtime.evaluate", expression=f"document.getElementById({field!r})")["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(path.resolve()) for path in paths], objectId=found)

    def press(self, key: str, text: str = "") -> None:
        """One key, as a keyboard sends it."""
        codes = {"Tab": 9, "Enter": 13}
        code = codes.get(key, ord(key[0].upper()))
        down: dict[str, Any] = {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code}
        if text:
            down["text"] = text
        self.call("Input.dispatchKeyEvent", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, *, whole: bool = False) -> bytes:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])
