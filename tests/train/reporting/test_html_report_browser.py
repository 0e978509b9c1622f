"""The report in Chromium: on a desktop and on a phone, in light and in dark mode."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers import browser
from tests.helpers.pages import HOSTILE, content, scored

from manylabel_train.reporting.html_report import render_report

pytestmark = pytest.mark.skipif(
    bool(browser.missing()), reason=f"needs {' and '.join(browser.PROGRAMS)}: apt-get install chromium chromium-driver"
)

CONTRASTS = """
const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => numbers(colour).slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const behind = element => {
    for (let each = element; each; each = each.parentElement) {
        const colour = getComputedStyle(each).backgroundColor;
        if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
};
return [...document.querySelectorAll("body *")]
    .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .filter(each => each.getClientRects().length)
    .map(each => {
        const style = getComputedStyle(each), pair = [each.ownerSVGElement ? style.fill : style.color, behind(each)];
        const [low, high] = pair.map(light).sort((one, other) => one - other);
        return [(high + 0.05) / (low + 0.05), each.tagName, each.className.baseVal ?? each.className];
    })
    .sort((one, other) => one[0] - other[0])[0];
"""


PICTURES = """
return [...document.querySelectorAll("main svg[role=img]")].filter(each => each.checkVisibility()).map(each => {
    const own = each.getBoundingClientRect(), around = each.parentElement.getBoundingClientRect();
    return [each.getAttribute("aria-label").length, own.height, own.left - around.left, around.right - own.right];
});
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Browser]:
    with browser.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with 200 labels, some of them with markup in their names, and hostile texts."""
    labels = [*(text[:100].replace("\ud800", "").replace("\x00", "").replace("\x07", "") for text in HOSTILE[:3])]
    labels += [f"label {at}" for at in range(197)]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_report(content(scored(300, 200, texts=HOSTILE), labels)), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [browser.DESKTOP, browser.PHONE])
def test_report_has_no_script_and_fits_the_screen(
    tab: browser.Browser, run: Path, hostile: Path, size: tuple[int, int], dark: bool
) -> None:
    for page in (hostile, run / "report.html"):
        tab.open(page, size, dark=dark)
        assert tab.run("return document.title").endswith(" manylabel report")
        assert tab.run("return document.documentElement.scrollWidth") <= size[0]
        ratio, *where = tab.run(CONTRASTS)
        assert ratio >= 4.5, where
    assert tab.messages() == []


def test_report_follows_color_scheme(tab: browser.Browser, run: Path) -> None:
    colours = [
        tab.open(run / "report.html", dark=dark).run("return getComputedStyle(document.body).backgroundColor")
        for dark in (False, True)
    ]
    assert colours == ["rgb(246, 247, 249)", "rgb(14, 18, 23)"]


def test_charts_have_size_and_description(tab: browser.Browser, run: Path) -> None:
    tab.open(run / "report.html", browser.PHONE)
    pictures = tab.run(PICTURES)
    assert len(pictures) >= 2 * 4 + 3
    for description_length, height, left, right in pictures:
        assert description_length > 20
        assert height > 60
        assert left >= 0
        assert right >= 0


def test_certificate_fits_a_desktop_screen(tab: browser.Browser, run_bundle: Path) -> None:
    tab.open(run_bundle / "report.html")
    table = "document.querySelector('[aria-label=\"Parity of the variants\"]')"
    assert "macro-F1" in tab.run(f"return {table}.textContent")
    assert tab.run(f"return {table}.scrollWidth - {table}.clientWidth") <= 0


def test_scrollable_tables_are_keyboard_accessible(tab: browser.Browser, hostile: Path) -> None:
    tab.open(hostile, browser.PHONE)
    left_out = (
        "return [...document.querySelectorAll('.scroll')].filter(each => each.checkVisibility()"
        " && each.scrollWidth > each.clientWidth + 1 && each.tabIndex < 0).length"
    )
    assert tab.run(left_out) == 0
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert tab.run("return document.documentElement.scrollWidth") <= browser.PHONE[0]
    assert tab.run(left_out) == 0
