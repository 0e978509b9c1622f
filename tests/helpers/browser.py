"""A headless Chromium, driven through chromedriver over plain HTTP (W3C WebDriver); Selenium would add eight packages.

`python tests/helpers/browser.py PAGE.html FOLDER` takes screenshots for a person to look at.
"""

import base64
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromedriver")
DESKTOP, PHONE = (1280, 900), (390, 844)


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name)]


class Browser:
    """One tab."""

    def __init__(self, url: str) -> None:
        self._url = url
        options = {
            "binary": shutil.which("chromium"),
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        }
        logs = {"browser": "ALL"}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._url = f"{url}/session/{session['sessionId']}"

    def open(self, page: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> "Browser":
        """Open a page on a screen of the given size."""
        device = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.devtools("Emulation.setDeviceMetricsOverride", device)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._ask("POST", "/url", {"url": page.absolute().as_uri()})
        return self

    def run(self, script: str) -> Any:
        """Return the value of a script."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def messages(self) -> list[str]:
        """Return the messages in the browser's console since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, *, whole: bool = True) -> bytes:
        """Return the page as PNG; by default, all of it."""
        options = {"format": "png", "captureBeyondViewport": whole}
        return base64.b64decode(self.devtools("Page.captureScreenshot", options)["data"])

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """Send a command of the Chrome DevTools Protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self) -> None:
        """End the session, which closes Chromium."""
        self._ask("DELETE", "", None)

    def _ask(self, method: str, path: str, content: dict[str, Any] | None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            self._url + path, data=body, method=method, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    """Run Chromium for the duration of the block."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        tab = Browser(f"http://127.0.0.1:{_port(driver)}")
        try:
            yield tab
        finally:
            tab.close()
    finally:
        driver.terminate()
        driver.communicate()


def _port(driver: "subprocess.Popen[str]") -> int:
    """Return the port that chromedriver reports."""
    assert driver.stdout
    end = time.monotonic() + 60
    while time.monotonic() < end:
        line = driver.stdout.readline()
        if "started successfully on port" in line:
            return int(line.rstrip().rstrip(".").rpartition(" ")[2])
    raise TimeoutError("chromedriver did not start within a minute")


def main(page: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with browser() as tab:
        for name, size, dark in (("desktop", DESKTOP, False), ("phone", PHONE, False), ("dark", DESKTOP, True)):
            (folder / f"{name}.png").write_bytes(tab.open(page, size, dark=dark).screenshot())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
