"""An explanation as one HTML page."""

from collections.abc import Iterator
from html import escape

from manylabel.explain.occlusion import Explanation, Word
from manylabel.system.unicode import valid_unicode

STRONGEST = 0.45
"""Opacity of the strongest word's background: its text keeps a contrast of 7 to 1, in light and dark
(tests/runtime/explain/test_occlusion.py)."""

LISTED = 10
"""Words whose effects stand in figures below the text."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #16181d; --quiet: #4f545e; --for: 37 99 235; --against: 217 119 6; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14161a; --ink: #eceef2; --quiet: #a3a9b5; --for: 59 130 246; --against: 217 119 6; }
}
body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, sans-serif; }
p.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.unread, .quiet { color: var(--quiet); }
mark { color: inherit; border-radius: 0.2em; }
mark.for { background: rgb(var(--for) / var(--strength)); }
mark.against { background: rgb(var(--against) / var(--strength)); text-decoration: underline dashed; }
table { border-collapse: collapse; }
th, td { padding: 0.15rem 1rem 0.15rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def render(explanation: Explanation) -> str:
    """The whole page."""
    return "".join(valid_unicode(part) for part in _page(explanation))


def _page(explanation: Explanation) -> Iterator[str]:
    label = escape(explanation.label)
    applies = "applies" if explanation.score >= explanation.threshold else "does not apply"
    yield '<!doctype html>\n<html><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{label}</title><style>{STYLE}</style></head>\n<body><h1>{label}</h1>\n"
    yield f"<p>Probability {explanation.score:.3f}, threshold {explanation.threshold:.3f}: it {applies}.</p>\n"
    yield f'<p class="text" dir="auto">{"".join(_marked(explanation))}</p>\n'
    yield '<p class="quiet"><mark class="for" style="--strength: 0.3">Without such a word</mark> the probability '
    yield 'falls; <mark class="against" style="--strength: 0.3">without such a word</mark> it rises.'
    if len(explanation.passages) > 1:
        yield f" Effects are those within passage {explanation.carried_by + 1}."
    yield "</p>\n"
    yield from _table(["word", "effect"], [(word.text, f"{word.effect:+.3f}") for word in _listed(explanation)])
    if len(explanation.passages) > 1:
        yield "<h2>Passages</h2>\n"
        rows = [
            (f"{at + 1}: {explanation.text[each.start : each.start + 60]}…", f"{each.score:.3f}")
            for at, each in enumerate(explanation.passages)
        ]
        yield from _table(["passage", "probability"], rows)
    yield "</body></html>\n"


def _marked(explanation: Explanation) -> Iterator[str]:
    """The text with its words marked; what was not explained is quiet."""
    strongest = max((abs(word.effect) for word in explanation.words), default=0.0) or 1.0
    first, last = (explanation.words[0].start, explanation.words[-1].end) if explanation.words else (0, 0)
    at = 0
    for word in explanation.words:
        yield _between(explanation.text[at : word.start], unread=at < first)
        strength = STRONGEST * abs(word.effect) / strongest
        side = "for" if word.effect >= 0 else "against"
        yield f'<mark class="{side}" style="--strength: {strength:.3f}" title="{word.effect:+.3f}">'
        yield f"{escape(word.text)}</mark>"
        at = word.end
    yield _between(explanation.text[at:], unread=at >= last)


def _between(text: str, *, unread: bool) -> str:
    return f'<span class="unread">{escape(text)}</span>' if unread and text else escape(text)


def _listed(explanation: Explanation) -> list[Word]:
    """The words with the greatest effects either way, by falling effect."""
    strongest = sorted(explanation.words, key=lambda word: -abs(word.effect))[:LISTED]
    return sorted(strongest, key=lambda word: -word.effect)


def _table(head: list[str], rows: list[tuple[str, str]]) -> Iterator[str]:
    yield f"<table><tr><th>{escape(head[0])}</th><th>{escape(head[1])}</th></tr>\n"
    for name, number in rows:
        yield f'<tr><td dir="auto">{escape(name)}</td><td class="number">{escape(number)}</td></tr>\n'
    yield "</table>\n"
