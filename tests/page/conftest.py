"""A real browser in headless mode, and the page it opens."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.helpers.serving import serving

from manylabel import Classifier

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Page:
    """The page in a browser, operated as a person would: with the mouse and the keyboard."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, *, width: int = 1280, height: int = 900, scheme: str = "light") -> "Page":
        """Load the page again, on a screen of the given size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get(self.url)
        self.until("return document.querySelectorAll('#labels li').length || !document.getElementById('alert').hidden")
        return self

    def run(self, script: str, *arguments: object) -> Any:
        """Return the value of a script."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str) -> None:
        """Wait until a script returns a true value."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20, 0.02).until(lambda driver: driver.execute_script(script))

    def find(self, selector: str) -> Any:
        """Return the first element that matches."""
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that match."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)  # type: ignore[no-any-return]

    def press(self, *keys: str) -> None:
        """Press keys in the focused element."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def classify(self, text: str, *, lines: bool = False) -> None:
        """Paste a text and press Ctrl+Enter."""
        from selenium.webdriver.common.keys import Keys

        self.run("document.querySelector(`input[value=${arguments[0]}]`).click()", "lines" if lines else "one")
        self.run(
            "const field = document.getElementById('texts'); field.focus(); field.select();"
            "document.execCommand('insertText', false, arguments[0])",
            text,
        )
        self.run("document.getElementById('status').textContent = ''")
        self.find("#texts").send_keys(Keys.CONTROL, Keys.ENTER)
        self.until(
            "return document.getElementById('form').ariaBusy === 'false'"
            " && (document.getElementById('status').textContent || !document.getElementById('alert').hidden)"
        )

    def labels(self) -> list[str]:
        """Return the labels that are shown as applying."""
        return self.texts("#said .chip")


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    """Return the URL of a server of the tiny bundle."""
    pytest.importorskip("uvicorn")
    with serving(bundle, "--name", "tiny") as started:
        yield started


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    """Return a classifier with the bundle that the server serves."""
    return Classifier.load(bundle, device="cpu")


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """Return a headless Chromium."""
    if not BROWSER or not DRIVER:
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver  # not at the top: without selenium, the tests of this folder are skipped

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def page(driver: Any, url: str) -> Page:
    """Return the page, freshly loaded."""
    return Page(driver, f"{url}/").open()


def ask(url: str, inputs: str | list[str], **options: object) -> list[dict[str, Any]]:
    """Return the server's predictions."""
    request = Request(
        f"{url}/v1/classify", json.dumps({"inputs": inputs, **options}).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=30) as response:
        return json.load(response)["predictions"]  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def api() -> Any:
    """Return a function that calls a server without the page."""
    return ask


@pytest.fixture(scope="session")
def open_page(driver: Any) -> Any:
    """Return a function that opens the page of another server."""
    return lambda url: Page(driver, f"{url}/").open()
