"""The HTML page of an explanation: the text with its words marked by their effect, and tables of words and passages."""

from collections.abc import Iterator, Sequence
from html import escape

from manylabel.system.unicode import valid_unicode

MAX_OPACITY = 0.45
"""Background opacity of the word with the strongest effect. The text keeps a contrast of 7 to 1 in light and dark mode
(tests/runtime/explain/test_occlusion.py)."""

MAX_TABLE_WORDS = 10
"""Number of words in the table below the text."""

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

WordEffect = tuple[int, int, float]
"""A word: its span in the text, in characters, and its effect."""

PassageScore = tuple[int, int, float]
"""A passage: its span in the text, in characters, and the label's probability."""


def render(
    *,
    text: str,
    label: str,
    score: float,
    threshold: float,
    passages: Sequence[PassageScore],
    carried_by: int,
    words: Sequence[WordEffect],
) -> str:
    """Return the page; the arguments are the fields of an `Explanation`.

    Example:
        >>> page = render(text="late parcel", label="delivery", score=0.75, threshold=0.5, passages=[(0, 11, 0.75)],
        ...               carried_by=0, words=[(0, 4, 0.5), (5, 11, 0.25)])
        >>> "<h1>delivery</h1>" in page
        True
    """
    parts = [*_summary(label, score, threshold), f'<p class="text" dir="auto">{"".join(_marked(text, words))}</p>\n']
    parts += _legend(carried_by if len(passages) > 1 else None)
    parts += _table(["word", "effect"], [(text[start:end], f"{effect:+.3f}") for start, end, effect in _top(words)])
    if len(passages) > 1:
        parts.append("<h2>Passages</h2>\n")
        rows = [
            (f"{number}: {text[start : start + 60]}…", f"{probability:.3f}")
            for number, (start, _, probability) in enumerate(passages, start=1)
        ]
        parts += _table(["passage", "probability"], rows)
    parts.append("</body></html>\n")
    return valid_unicode("".join(parts))


def _summary(label: str, score: float, threshold: float) -> Iterator[str]:
    name = escape(label)
    outcome = "applies" if score >= threshold else "does not apply"
    yield '<!doctype html>\n<html><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{name}</title><style>{STYLE}</style></head>\n<body><h1>{name}</h1>\n"
    yield f"<p>Probability {score:.3f}, threshold {threshold:.3f}: the label {outcome}.</p>\n"


def _legend(carried_by: int | None) -> Iterator[str]:
    yield '<p class="quiet">Without a word marked <mark class="for" style="--strength: 0.3">like this</mark> the '
    yield 'probability falls; without one marked <mark class="against" style="--strength: 0.3">like this</mark> it '
    yield "rises."
    if carried_by is not None:
        yield f" Effects are measured within passage {carried_by + 1}."
    yield "</p>\n"


def _marked(text: str, words: Sequence[WordEffect]) -> Iterator[str]:
    """Yield the text with its words marked; the parts outside the explained passage are dimmed."""
    strongest = max((abs(effect) for _, _, effect in words), default=0.0) or 1.0
    first, last = (words[0][0], words[-1][1]) if words else (0, 0)
    position = 0
    for start, end, effect in words:
        yield _between(text[position:start], unread=position < first)
        side = "for" if effect >= 0 else "against"
        opacity = MAX_OPACITY * abs(effect) / strongest
        yield f'<mark class="{side}" style="--strength: {opacity:.3f}" title="{effect:+.3f}">'
        yield f"{escape(text[start:end])}</mark>"
        position = end
    yield _between(text[position:], unread=position >= last)


def _between(text: str, *, unread: bool) -> str:
    return f'<span class="unread">{escape(text)}</span>' if unread and text else escape(text)


def _top(words: Sequence[WordEffect]) -> list[WordEffect]:
    """Return the words with the strongest effects in either direction, by decreasing effect."""
    strongest = sorted(words, key=lambda word: -abs(word[2]))[:MAX_TABLE_WORDS]
    return sorted(strongest, key=lambda word: -word[2])


def _table(head: list[str], rows: list[tuple[str, str]]) -> Iterator[str]:
    yield f"<table><tr><th>{escape(head[0])}</th><th>{escape(head[1])}</th></tr>\n"
    for name, number in rows:
        yield f'<tr><td dir="auto">{escape(name)}</td><td class="number">{escape(number)}</td></tr>\n'
    yield "</table>\n"
