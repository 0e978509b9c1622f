"""The page at `/`, in a real browser, on a real server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.serving import serving
from tests.helpers.toy import LABELS

from manylabel import Classifier

pytest.importorskip("selenium")
pytest.importorskip("uvicorn")

KEY = "open-sesame-0123456789"
TEXT = "the courier was late and the invoice is very bad"
HOSTILE = (
    '<img src=x onerror="window.owned=1"><script>window.owned=1</script> <b>ä</b> it\'s $(touch owned) `id` \\n 💥'
)
LONG = " ".join(f"{('late', 'good', 'teuer')[n % 3]} parcel number {n}" for n in range(30))


def probabilities(page: Any) -> dict[str, float]:
    """Return the numbers beside the bars, top to bottom."""
    names, numbers = page.texts("#labels .name > span"), page.texts("#labels .probability")
    return dict(zip(names, map(float, numbers), strict=True))


def test_page_shows_model_and_thresholds_at_start(page: Any) -> None:
    assert page.texts("#model strong") == ["tiny"]
    assert page.texts("#labels .name > span") == list(LABELS)
    assert all(limit.startswith("≥ ") for limit in page.texts("#labels .limit"))


def test_page_shows_labels_and_probabilities(page: Any, url: str, api: Any) -> None:
    page.classify(TEXT)
    (expected,) = api(url, TEXT)
    assert page.labels() == expected["labels"]
    assert probabilities(page) == {label: round(p, 2) for label, p in expected["probabilities"].items()}
    assert list(probabilities(page)) == list(expected["probabilities"])  # most probable first
    assert page.texts("#labels li.applies .name > span") == expected["labels"]
    assert f"{expected['n_tokens']} tokens" in page.find("#status").text


def test_bar_length_matches_probability(page: Any, url: str, api: Any) -> None:
    page.classify(TEXT)
    (expected,) = api(url, TEXT)
    lengths = page.run("return [...document.querySelectorAll('.fill')].map((e) => e.style.getPropertyValue('--p'))")
    assert lengths == [f"{100 * p:.2f}%" for p in expected["probabilities"].values()]


def test_threshold_slider_by_keyboard(page: Any) -> None:
    page.classify(TEXT)
    before = page.labels()
    for slider in page.driver.find_elements("css selector", "#labels input"):
        slider.send_keys("\ue011")  # Home: 0
    assert sorted(page.labels()) == sorted(LABELS)
    first = page.find("#labels li input")
    name = page.texts("#labels .name > span")[0]
    first.send_keys("\ue010")  # End: 1
    assert name not in page.labels()
    assert first.get_attribute("aria-valuetext").startswith("1.00, probability 0.")
    assert first.get_attribute("aria-valuetext").endswith("does not apply")
    page.find("#reset").click()
    assert page.labels() == before
    assert not page.find("#reset").is_displayed()


def test_moved_threshold_decides_like_the_server(page: Any, url: str, api: Any) -> None:
    page.classify(TEXT)
    for slider in page.driver.find_elements("css selector", "#labels input"):
        slider.send_keys("\ue014" * 7)  # seven steps up
    body = json.loads(page.find("#snippet").text.split(" -d '")[1].removesuffix("'"))
    assert set(body["thresholds"]) == set(LABELS)
    assert page.labels() == api(url, **body)[0]["labels"]


def test_several_texts_are_listed_and_opened(page: Any, url: str, api: Any) -> None:
    texts = ["the parcel was late", "very good and cheap", "die rechnung war teuer"]
    page.classify("\n".join(["", texts[0], "  ", *texts[1:], ""]), lines=True)
    expected = api(url, texts)
    assert page.texts("#list .text") == texts
    for row, each in enumerate(expected):
        assert page.texts(f"#list li:nth-child({row + 1}) .chip") == each["labels"]
    page.run("document.querySelectorAll('#list button')[2].focus()")
    page.press("\ue007")
    assert probabilities(page) == {label: round(p, 2) for label, p in expected[2]["probabilities"].items()}
    assert page.labels() == expected[2]["labels"]


def test_page_does_not_interpret_text_as_html(page: Any) -> None:
    page.classify(HOSTILE)
    page.classify(f"{HOSTILE}\n{HOSTILE}", lines=True)
    assert page.texts("#list .text") == [HOSTILE, HOSTILE]
    assert page.run("return [window.owned, document.querySelectorAll('img, b').length]") == [None, 0]


def test_trusted_types_block_html(page: Any) -> None:
    refused = "try { document.body.insertAdjacentHTML('beforeend', '<p>x</p>'); return false } catch { return true }"
    assert page.run(refused)


def test_page_shows_window_of_each_maximum(page: Any, url: str, api: Any) -> None:
    page.classify(LONG)
    (expected,) = api(url, LONG, windows=True)
    windows = expected["windows"]
    assert len(windows) > 2
    assert page.texts("#map button") == [str(at + 1) for at in range(len(windows))]
    for label, shown in zip(page.texts("#labels .name > span"), page.texts("#labels .window"), strict=True):
        best = windows[int(shown) - 1]["probabilities"][label]
        assert best == max(each["probabilities"][label] for each in windows)
    for at in (2, 0):
        page.run("document.querySelectorAll('#map button')[arguments[0]].click()", at)
        passage = page.run("return document.getElementById('excerpt').textContent")
        assert passage == LONG[windows[at]["start"] : windows[at]["end"]]
        assert passage


def test_page_hides_windows_of_a_short_text(page: Any) -> None:
    page.classify(LONG)
    assert page.find("#windows").is_displayed()
    page.classify(TEXT)
    assert not page.find("#windows").is_displayed()
    assert not page.find("#labels .window").is_displayed()


def why(page: Any, label: str) -> None:
    """Explain a label, with the keyboard only."""
    page.run(
        "[...document.querySelectorAll('.name > span button')].find((e) => e.textContent === arguments[0]).focus()",
        label,
    )
    page.press("\ue007")
    page.until(
        "return document.getElementById('form').ariaBusy === 'false' && !document.getElementById('why').hidden"
        f" && document.getElementById('why-title').textContent === {json.dumps(f'Why {label}')}"
    )


@pytest.mark.parametrize("text", [TEXT, HOSTILE])
def test_click_on_label_explains_its_words(page: Any, classifier: Classifier, text: str) -> None:
    page.classify(text)
    for label in LABELS[:2]:
        why(page, label)
        expected = classifier.explain(text, label)
        assert page.texts("#why-text mark") == [word.text for word in expected.words]
        assert page.run("return document.getElementById('why-text').textContent") == text
        titles = page.run("return [...document.querySelectorAll('#why-text mark')].map((e) => e.title)")
        assert [float(title.replace("\u2212", "-")) for title in titles] == pytest.approx(
            [word.effect for word in expected.words], abs=6e-4
        )
        sides = page.run("return [...document.querySelectorAll('#why-text mark')].map((e) => e.classList[0])")
        assert sides == ["against" if word.effect < 0 else "for" for word in expected.words]
    page.find("#why-close").click()
    assert not page.find("#why").is_displayed()
    assert page.run("return document.activeElement.textContent") == LABELS[1]


def test_decisive_window_is_explained(page: Any, classifier: Classifier) -> None:
    page.classify(LONG)
    why(page, LABELS[2])
    expected = classifier.explain(LONG, LABELS[2])
    assert f"From window {expected.carried_by + 1} of {len(expected.passages)}" in page.find("#why-said").text
    assert page.texts("#why-text mark") == [word.text for word in expected.words]
    assert page.run("return document.getElementById('why-text').textContent") == LONG
    assert page.texts("#map button[aria-pressed=true]") == [str(expected.carried_by + 1)]
    page.classify(TEXT)
    assert not page.find("#why").is_displayed()


def test_page_cannot_explain_before_classifying(page: Any) -> None:
    assert page.run("return [...document.querySelectorAll('.name > span button')].every((e) => e.disabled)")


BLENDED = """
const parse = (colour) => {
  const found = colour.match(/[\\d.]+/g).map(Number);
  if (!colour.startsWith("color")) return [...found, 1].slice(0, 4);
  return [...found.slice(0, 3).map((v) => 255 * v), found[3] ?? 1];
};
const linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
const card = parse(getComputedStyle(document.getElementById("why")).backgroundColor);
return [...document.querySelectorAll("#why mark")].map((e) => {
  const over = parse(getComputedStyle(e).backgroundColor);
  const ground = over.slice(0, 3).map((v, at) => over[3] * v + (1 - over[3]) * card[at]);
  const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground)].sort((x, y) => y - x);
  return [(a + .05) / (b + .05), over[3]];
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_explained_words_have_enough_contrast(page: Any, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: the contrast is at least 4.5."""
    page.open(scheme=scheme)
    page.classify(TEXT)
    why(page, LABELS[0])
    found = page.run(BLENDED)
    assert max(opacity for _, opacity in found) == pytest.approx(0.45, abs=0.01)
    assert min(contrast for contrast, _ in found) >= 4.5


@pytest.mark.parametrize("text", [TEXT, HOSTILE])
def test_curl_example_matches_the_page(page: Any, tmp_path: Path, text: str) -> None:
    page.classify(text)
    page.find("#labels li input").send_keys("\ue010")
    line = page.run("return document.getElementById('snippet').textContent")
    done = subprocess.run(["bash", "-c", line], capture_output=True, cwd=tmp_path, timeout=30, check=True)
    assert json.loads(done.stdout)["predictions"][0]["labels"] == page.labels()
    assert list(tmp_path.iterdir()) == []  # no part of the text was executed


@pytest.mark.parametrize("text", [TEXT, HOSTILE])
def test_python_example_matches_the_page(page: Any, tmp_path: Path, text: str) -> None:
    page.classify(text)
    page.run("document.querySelector('input[value=python]').click()")
    lines = page.run("return document.getElementById('snippet').textContent")
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, cwd=tmp_path, timeout=30, check=True)
    assert done.stdout.decode().startswith(str(page.labels()))


def test_code_snippet_can_be_copied(page: Any) -> None:
    grant = {"permissions": ["clipboardReadWrite"], "origin": page.url.rstrip("/")}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    page.classify(TEXT)
    page.find("#copy").click()
    page.until("return document.getElementById('copy').textContent === 'Copied'")
    pasted = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert pasted == page.run("return document.getElementById('snippet').textContent")


def test_page_is_usable_by_keyboard(page: Any) -> None:
    page.classify(LONG)
    page.find("#texts").click()
    reached = set()
    for _ in range(40):
        page.press("\ue004")
        reached.add(page.run("const e = document.activeElement; return e.id || e.className || e.type"))
    assert {"go", "button", "range", "window", "excerpt", "snippet", "copy"} <= reached


def test_page_loads_no_external_resources(page: Any) -> None:
    page.driver.get_log("browser")  # drops the messages of other tests
    page.open()
    page.classify(LONG)
    fetched = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert len(fetched) >= 4
    assert all(name.startswith((page.url, "data:")) for name in fetched)
    assert page.driver.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_page_fits_the_screen(page: Any, width: int) -> None:
    page.open(width=width, height=800)
    for text, lines in ((LONG, False), (f"{HOSTILE}\n{'x' * 500}", True)):
        page.classify(text, lines=lines)
        why(page, LABELS[0])
        assert page.run("return document.documentElement.scrollWidth") <= width


CONTRAST = """
const linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => linear(v / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const ground = (e) => {
  const colour = getComputedStyle(e).backgroundColor;
  return /, 0\\)|transparent/.test(colour) ? ground(e.parentElement) : colour;
};
return [...document.querySelectorAll(arguments[0])].map((e) => {
  const [a, b] = [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((x, y) => y - x);
  return (a + .05) / (b + .05);
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_contrast_in_light_and_dark(page: Any, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: the contrast is at least 4.5."""
    page.open(scheme=scheme)
    page.classify(LONG)
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (int(ground.split("(")[1].split(",")[0]) > 128) == (scheme == "light")
    selector = "h1, h2, .quiet, .chip, .name, .limit, .probability, #go, #texts, #snippet, #excerpt, .choice span, a"
    contrasts = page.run(CONTRAST, selector)
    assert len(contrasts) > 20
    assert min(contrasts) >= 4.5


def test_page_asks_for_the_api_key(bundle: Path, open_page: Any) -> None:
    with serving(bundle, MANYLABEL_API_KEY=KEY) as url:
        page = open_page(url)
        assert "API key" in page.find("#alert").text
        page.find("#key").send_keys("wrong\ue007")
        page.until("return document.getElementById('form').ariaBusy === 'false'")
        page.find("#key").clear()
        page.find("#key").send_keys(KEY)
        page.classify(TEXT)
        assert len(page.texts("#labels .name > span")) == len(LABELS)
        assert not page.find("#alert").is_displayed()
        code = page.find("#snippet").text
        assert "$MANYLABEL_API_KEY" in code
        assert "sesame" not in code


def test_page_reports_unreachable_server(bundle: Path, open_page: Any) -> None:
    with serving(bundle) as url:
        page = open_page(url)
        page.classify(TEXT)
    page.classify(TEXT)
    assert page.find("#alert").text == "The server does not respond. Is it still running?"
