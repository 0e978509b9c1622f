"""Occlusion: effects are the drops of the score without a word, and spans locate the words in the text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.toy import LABELS
from tests.runtime.conftest import Cli

from manylabel import Classifier, InvalidText, UnknownLabel
from manylabel.explain.html_report import MAX_OPACITY, STYLE
from manylabel.explain.occlusion import Explanation
from manylabel.system.unicode import valid_unicode

TEXT = "the parcel was late, and the invoice (3.5 money) wasn't good!!"
LONG = "the parcel was late and the invoice broken. " * 4 + "das paket war zu spät und sehr teuer. " * 4


def without(explanation: Explanation, at: int) -> str:
    word = explanation.words[at]
    return explanation.text[: word.start] + explanation.text[word.end :]


def test_effect_is_score_loss_without_the_word(classifier: Classifier) -> None:
    """Bit-identical: the toy tokenizer encodes a text without a word as the remaining tokens."""
    for label in LABELS:
        explanation = classifier.explain(TEXT, label)
        texts = [TEXT, *(without(explanation, at) for at in range(len(explanation.words)))]
        score, *left = classifier.predict_proba(texts)[:, LABELS.index(label)].tolist()
        assert explanation.score == score
        assert [word.effect for word in explanation.words] == [score - each for each in left]


def test_word_offsets_match_the_text(classifier: Classifier) -> None:
    words = classifier.explain(TEXT, "price").words
    expected = [
        "the",
        "parcel",
        "was",
        "late",
        ",",
        "and",
        "the",
        "invoice",
        "(",
        "3.5",
        "money",
        ")",
        "wasn't",
        "good",
    ]
    assert [word.text for word in words] == [*expected, "!!"]
    assert all(TEXT[word.start : word.end] == word.text for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)


@given(st.text(max_size=60))
def test_any_text_can_be_explained(classifier: Classifier, text: str) -> None:
    explanation = classifier.explain(text)
    ends = [0, *(word.end for word in explanation.words)]
    assert all(end <= word.start < word.end for end, word in zip(ends, explanation.words, strict=False))
    assert all(text[word.start : word.end] == word.text for word in explanation.words)
    assert explanation.score == classifier.predict_proba(text).max()
    assert shown(explanation) == valid_unicode(text)


def test_explains_most_probable_label_by_default(classifier: Classifier) -> None:
    explanation = classifier.explain(TEXT)
    ((label, score), *_) = classifier.classify(TEXT)[0].scores.items()
    assert (explanation.label, explanation.score) == (label, score)
    assert explanation.threshold == pytest.approx(classifier.variant.thresholds[LABELS.index(label)])


def test_ranked_words_are_sorted_by_effect(classifier: Classifier) -> None:
    effects = [word.effect for word in classifier.explain(TEXT, "billing").ranked]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 0 > effects[-1]


def test_explains_decisive_window_of_long_text(classifier: Classifier) -> None:
    for column, label in enumerate(LABELS):
        explanation = classifier.explain(LONG, label)
        passages = explanation.passages
        assert [(each.start, each.end) for each in passages] == classifier.window_spans(LONG)
        assert len(passages) > 2
        best = passages[explanation.carried_by]
        assert explanation.score == best.score == max(each.score for each in passages)
        assert explanation.score == classifier.predict_proba(LONG)[0, column]
        assert (explanation.words[0].start, explanation.words[-1].end) == (best.start, best.end)
        (encoding,) = classifier.encode(LONG)
        window, words = encoding.windows[explanation.carried_by], explanation.words
        assert len(words) == len(window) - 2  # each of these words is one token
        left = classifier.score_windows([np.delete(window, 1 + at) for at in range(len(words))])[:, column]
        assert [word.effect for word in words] == [explanation.score - each for each in left.tolist()]


def test_explains_truncated_text(own_bundle: Path, resign) -> None:  # type: ignore[no-untyped-def]  # a fixture
    resign(own_bundle, lambda manifest: manifest["long_text"].update(policy="truncate"))
    explanation = Classifier.load(own_bundle, threads=1).explain(LONG, "price")
    assert len(explanation.passages) == 1
    assert explanation.words[-1].end == explanation.passages[0].end < len(LONG)
    assert shown(explanation) == LONG


def test_text_without_words_has_no_effects(classifier: Classifier) -> None:
    for text in ("", "  \n"):
        explanation = classifier.explain(text, "price")
        assert explanation.words == ()
        assert explanation.score == classifier.predict_proba(text)[0, LABELS.index("price")]
        assert shown(explanation) == text


def test_explain_errors(classifier: Classifier) -> None:
    with pytest.raises(UnknownLabel, match=r"there is no label 'prise'\. Did you mean 'price'"):
        classifier.explain(TEXT, "prise")
    with pytest.raises(InvalidText, match="text 0 is int"):
        classifier.explain(7)  # type: ignore[arg-type]


# The page


class Page(HTMLParser):
    """Parses a page: the text that a reader sees, the tags and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside |= tag == "p" and ("class", "text") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "p"

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside else ""


def shown(explanation: Explanation) -> str:
    return Page(explanation.to_html()).text


def test_html_marks_words(classifier: Classifier) -> None:
    explanation = classifier.explain(TEXT, "billing")
    page = Page(explanation.to_html())
    assert page.text == TEXT
    marks = [attributes for tag, attributes in page.tags if tag == "mark" and "title" in attributes]
    assert [mark["title"] for mark in marks] == [f"{word.effect:+.3f}" for word in explanation.words]
    assert [mark["class"] for mark in marks] == ["for" if word.effect >= 0 else "against" for word in explanation.words]
    strengths = [float((mark["style"] or "").removeprefix("--strength: ")) for mark in marks]
    assert max(strengths) == pytest.approx(MAX_OPACITY)


def test_html_escapes_text_and_label(classifier: Classifier) -> None:
    from dataclasses import replace

    text = "<script>alert(1)</script> & <img src=x onerror=alert(1)> \" ' </p>"
    explanation = replace(classifier.explain(text, "price"), label="</title><script>")
    html = explanation.to_html()
    assert {tag for tag, _ in Page(html).tags}.isdisjoint({"script", "img", "link", "iframe"})
    assert Page(html).text == text
    assert not re.search(r"https?:|url\(|@import", html)


def test_html_contrast_in_light_and_dark() -> None:
    """The strongest mark has a contrast of at least 7 to 1 (WCAG 2.2, 1.4.6)."""
    light, dark = STYLE.split("prefers-color-scheme: dark")
    for style in (light, dark):
        paper, ink, quiet = (_hex(re.findall(rf"--{name}: #(\w{{6}})", style)[0]) for name in ("paper", "ink", "quiet"))
        assert _contrast(quiet, paper) >= 7
        for side in ("for", "against"):
            color = np.array([int(part) for part in re.findall(rf"--{side}: (\d+) (\d+) (\d+)", style)[0]])
            assert _contrast(ink, MAX_OPACITY * color + (1 - MAX_OPACITY) * paper) >= 7, (side, style)


def _hex(text: str) -> np.ndarray:
    return np.array([int(text[at : at + 2], 16) for at in (0, 2, 4)])


def _contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted(_luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: np.ndarray) -> float:
    part = color / 255
    return float(np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


# The command


def test_explain_command_matches_the_library(cli: Cli, bundle: Path, classifier: Classifier) -> None:
    done = cli("explain", bundle, TEXT, "--label", "billing", "--json")
    document, expected = json.loads(done.stdout), classifier.explain(TEXT, "billing")
    assert [word["effect"] for word in document["words"]] == [word.effect for word in expected.words]
    assert (document["label"], document["score"], document["text"]) == ("billing", expected.score, TEXT)


def test_explain_reads_whole_stdin(cli: Cli, bundle: Path) -> None:
    document = json.loads(cli("explain", bundle, "--json", stdin="the parcel\nwas late\n").stdout)
    assert document["text"] == "the parcel\nwas late"


def test_explain_table_output(cli: Cli, bundle: Path) -> None:
    first, *rest = cli("explain", bundle, TEXT, "--label", "price").stdout.splitlines()
    assert re.fullmatch(r"price: [01]\.\d{3}, threshold [01]\.\d{3}", first)
    assert sorted(line.split()[-1] for line in rest)[:3] == ["!!", "(", ")"]
    lines = cli("explain", bundle, LONG, "--label", "price").stdout.splitlines()
    assert sum("✓" in line for line in lines) == 1


def test_explain_html_does_not_overwrite(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert cli("explain", bundle, TEXT, "--html", page).exit_code == 0
    assert Page(page.read_text(encoding="utf-8")).text == TEXT
    again = cli("explain", bundle, "late", "--html", page)
    assert again.exit_code == 2
    assert "already exists" in again.stderr
    assert cli("explain", bundle, "late", "--html", page, "--force").exit_code == 0
    assert Page(page.read_text(encoding="utf-8")).text == "late"
