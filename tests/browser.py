"""A headless Chromium, driven over its DevTools protocol through a pipe: no driver program and no library is needed.

https://chromedevtools.github.io/devtools-protocol/ has the methods. Messages are JSON, ended by a zero byte.
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
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY_NONE = "no Chromium is installed here (apt-get install chromium)"

# As root, without a GPU, and without asking anything of the network.
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE = 60.0  # seconds; the machine may be busy
_KEYS = {"Escape": 27, "Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Browser:
    """One browser with one page. ``errors`` collects what the page complained about."""

    def __init__(self) -> None:
        assert BROWSER is not None, WHY_NONE
        self._profile = tempfile.TemporaryDirectory(prefix="rooftile-browser-", ignore_cleanup_errors=True)
        theirs, self._to = os.pipe()
        self._from, back = os.pipe()
        self._process = _started([BROWSER, *_FLAGS, f"--user-data-dir={self._profile.name}"], theirs, back)
        self._unread = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A method's result. Raises RuntimeError with the browser's words if it fails."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._unread:
            if not select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0]:
                raise RuntimeError(f"the browser said nothing for {_PATIENCE:.0f} seconds")
            if not (read := os.read(self._from, 1 << 16)):
                raise RuntimeError("the browser has ended")
            self._unread += read
        message, self._unread = self._unread.split(b"\0", 1)
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith(("file:", "data:", "blob:")):
                self.errors.append(f"asked the network for {params['request']['url']}")

    def open(self, page: Path, fragment: str = "") -> float:
        """Load a report from disk, and give the seconds until it says that it is ready."""
        self._loaded = False
        start = time.monotonic()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.absolute().as_uri() + fragment)
        self.until("document.documentElement?.dataset.ready === 'true'")
        return time.monotonic() - start

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise's, when it is there.

        Raises:
            RuntimeError: the expression throws.
        """
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", script))
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for an expression to become true.

        Raises:
            AssertionError: it does not within a minute.
        """
        end = time.monotonic() + _PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, f"never: {condition}; errors: {self.errors}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def content(self, selector: str) -> str:
        """The text of an element, whether it is in sight or not."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def count(self, selector: str) -> int:
        """How many elements there are."""
        return int(self.run(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def click(self, selector: str) -> None:
        """Press an element with the mouse, where it is on the screen."""
        script = f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); \
            return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        self.click_at(*self.run(script))

    def click_at(self, x: float, y: float) -> None:
        """Press the mouse at a place in the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str) -> None:
        """Move the mouse over an element."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the mouse with its button down."""
        button = {"button": "left", "buttons": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], clickCount=1, **button)
        for step in range(1, 6):
            x, y = (a + (b - a) * step / 5 for a, b in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **button)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], clickCount=1, **button)

    def wheel(self, x: float, y: float, by: float) -> None:
        """Turn the wheel over a place."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    def key(self, name: str) -> None:
        """Press and release a key: a character, or one of those that have names."""
        described: dict[str, Any] = {"key": name}
        if name in _KEYS:
            described["windowsVirtualKeyCode"] = _KEYS[name]
        if len(name) == 1 or name == "Enter":
            described["text"] = "\r" if name == "Enter" else name
        self.call("Input.dispatchKeyEvent", type="keyDown", **described)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name)

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        for character in text:
            self.key(character)

    def window(self, width: int, height: int, *, phone: bool = False, scale: float = 1) -> None:
        """Give the window a size in pixels of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        """What the window shows, as a PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


def _started(command: list[str], read: int, write: int) -> subprocess.Popen[bytes]:
    """The browser, which reads its orders from descriptor 3 and answers on 4."""
    high = [os.dup(read), os.dup(write)]
    kept = [os.dup2(fd, 60 + n) for n, fd in enumerate(high)]

    def place() -> None:
        os.dup2(kept[0], 3)
        os.dup2(kept[1], 4)

    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, preexec_fn=place, pass_fds=(3, 4), stdin=quiet, stdout=quiet, stderr=quiet)
    for fd in (read, write, *high, *kept):
        os.close(fd)
    return process
