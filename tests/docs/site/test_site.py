"""The site that `make docs` built: complete, without external resources, readable on a phone."""

import re
from pathlib import Path

import pytest
from tests.helpers.browser import DESKTOP, PHONE, Browser, browser, missing

import manylabel
from manylabel.cli.main import main

SITE = Path(__file__).parents[3] / "build" / "site"
PAGES = sorted(page for page in SITE.rglob("*.html") if "_static" not in page.parts)
WIDE = (
    "README",
    "docs/tutorial",
    "docs/commands",
    "docs/api",
    "docs/exporting",
    "benchmarks/experiments/int8_bakeoff/README",
)


def test_the_site_is_built() -> None:
    assert len(PAGES) > 50, "make docs builds it"


def test_site_covers_public_names_and_commands() -> None:
    api, commands = ((SITE / "docs" / f"{page}.html").read_text(encoding="utf-8") for page in ("api", "commands"))
    assert [name for name in manylabel.__all__ if not re.search(rf'id="manylabel\.([\w.]+\.)?{name}"', api)] == []
    assert [name for name in main.list_commands(None) if f'id="{name}"' not in commands] == []  # type: ignore[arg-type]
    assert 'id="cmdoption-manylabel-train-from"' in commands


def test_site_loads_no_external_resources() -> None:
    for page in PAGES:
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)\"|<link\b[^>]*\bhref=\"([^\"]*)\"", html
        )
        assert [one for pair in loaded for one in pair if re.match(r"(https?:)?//", one)] == [], page
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.fixture(scope="module")
def tab() -> Browser:
    if missing():
        pytest.skip(f"needs {' and '.join(missing())}")
    with browser() as tab:
        yield tab


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", WIDE)
def test_site_pages_fit_the_screen(tab: Browser, page: str, size: tuple[int, int], dark: bool) -> None:
    tab.open(SITE / f"{page}.html", size, dark=dark)
    assert tab.run("return document.documentElement.scrollWidth") <= size[0]
    assert tab.messages() == []
