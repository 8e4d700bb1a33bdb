"""A headless Chromium driven over the DevTools protocol, with the standard library alone."""

from __future__ import annotations

import base64
import contextlib
import glob
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
DOWNLOADED = "~/.cache/ms-playwright/chromium*/*/*chrom*", "~/.cache/ms-playwright/chromium*/*/headless_shell"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars about:blank"
).split()
MISSING = "no Chromium found: install one, or PySide6-WebEngine, or name a command in PAINTERS_BROWSER"
WAIT = 60.0  # seconds, for a busy machine


def find() -> list[str] | None:
    """The command of a browser: PAINTERS_BROWSER, an installed Chromium, or the one inside PySide6-WebEngine."""
    named = os.environ.get("PAINTERS_BROWSER")
    if named:
        return shlex.split(named)
    for path in itertools.chain(map(shutil.which, NAMES), *(glob.glob(os.path.expanduser(d)) for d in DOWNLOADED)):  # noqa: PTH111, PTH207
        if path and os.access(path, os.X_OK) and Path(path).is_file():
            return [path, *FLAGS]
    if importlib.util.find_spec("PySide6") and importlib.util.find_spec("PySide6.QtWebEngineCore"):
        return [sys.executable, str(Path(__file__).with_name("qt_browser.py"))]
    return None


class Page:
    """The one page of a running browser."""

    def __init__(self, address: str) -> None:
        self._socket = _WebSocket(address)
        self._ids = itertools.count(1)
        self.errors: list[str] = []  # of the console, and of scripts
        self.requests: list[str] = []  # addresses that the page asked for
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers; RuntimeError where that is an error."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.receive())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def open(self, path: Path) -> None:
        """Load the file; `errors` and `requests` are then of it alone."""
        self.errors, self.requests, self._loaded = [], [], False
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._until(lambda: self.evaluate("0") == 0 and self._loaded, f"{path} did not load")  # asking takes in events

    def wait(self, script: str) -> None:
        """Wait until the expression is true."""
        self._until(lambda: bool(self.evaluate(script)), f"{script} did not become true")

    @staticmethod
    def _until(met: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + WAIT
        while not met():
            assert time.monotonic() < end, otherwise
            time.sleep(0.02)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise; AssertionError where it throws."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release the key where the focus is."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def show(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Make the page so many pixels wide, in light or dark colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, top: int = 0, height: int | None = None) -> None:
        """Write a picture of the whole page, or of so many pixels from `top`."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(params["entry"]))


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[Page]:
    """The blank page of a browser, which is ended afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        port = _free_port()
        arguments = [*command, f"--remote-debugging-port={port}", f"--user-data-dir={folder}"]
        process = subprocess.Popen(
            arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
        )
        try:
            page = Page(_address(process, port))
            yield page
            page._socket.close()
        finally:
            # Its children too, all of which it started in a session of their own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
            assert process.stderr is not None
            process.stderr.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _address(process: subprocess.Popen[str], port: int) -> str:
    """Where the first page of this browser listens."""
    said: list[str] = []
    found = threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        with contextlib.suppress(ValueError):  # closed at the end
            for line in process.stderr:
                said.append(line)
                if "DevTools listening on" in line:
                    found.set()

    threading.Thread(target=listen, daemon=True).start()
    assert found.wait(WAIT), f"the browser did not start: {said}"
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=WAIT) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError(f"the browser opened no page: {said}")


class _WebSocket:
    """As much of RFC 6455 as the protocol needs: text messages, each of any length."""

    def __init__(self, address: str) -> None:
        host, port, path = re.fullmatch(r"ws://([^:/]+):(\d+)(/.*)", address).groups()  # type: ignore[union-attr]
        self._socket = socket.create_connection((host, int(port)), timeout=WAIT)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        assert b" 101 " in status, status
        while self._file.readline().strip():
            pass

    def send(self, text: str) -> None:
        data, mask = text.encode(), os.urandom(4)
        length = len(data)
        if length < 126:
            head = bytes([0x81, 0x80 | length])
        elif length < 65536:
            head = bytes([0x81, 0xFE]) + length.to_bytes(2, "big")
        else:
            head = bytes([0x81, 0xFF]) + length.to_bytes(8, "big")
        self._socket.sendall(head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(data)))

    def receive(self) -> str:
        parts = []
        while True:
            first, second = self._file.read(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(self._file.read(2 if length == 126 else 8), "big")
            data = self._file.read(length)
            if first & 0x0F in (0, 1):  # others: pings and the like
                parts.append(data)
                if first & 0x80:
                    return b"".join(parts).decode()

    def close(self) -> None:
        self._file.close()
        self._socket.close()
