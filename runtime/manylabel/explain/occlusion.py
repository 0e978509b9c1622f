"""Why a text has a label: which words its score hangs on, and which passage of a long text carried it.

Occlusion (Zeiler and Fergus 2014, for pictures; Li et al. 2016, for words): a text is scored once more without the
tokens of each of its words, and a word's effect is what the score loses. Knows nothing of models: it says what is to be
scored, and is told the scores.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Span = tuple[int, int]

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|(?:(?![{_IDEOGRAPH}])\w)+(?:['\u2019\-]\w+|(?<=\d)[.,]\d+)*|[^\w\s]+")
"""Words with what joins them ("don't", "3.5"), runs of other marks ("!!", an emoji), and of writing without blanks
each character."""


@dataclass(frozen=True)
class Word:
    """A part of a text, and what it does to a label's score.

    Attributes:
        start: Where it begins in the text, in characters.
        end: Where it ends, exclusive.
        text: What stands there.
        effect: The score with it less the score without it: above 0 where it speaks for the label.
    """

    start: int
    end: int
    text: str
    effect: float


@dataclass(frozen=True)
class Passage:
    """A window that a text was read in.

    Attributes:
        start: Where it begins in the text, in characters.
        end: Where it ends, exclusive.
        score: The label's probability of this window alone.
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Explanation:
    """What a label's score of one text hangs on.

    Attributes:
        text: The text.
        label: The label.
        score: Its probability, the greatest of the passages'.
        threshold: From where on the label applies.
        passages: The windows that the text was read in, in order; one where it was read at once.
        carried_by: The place in `passages` of the one with the greatest score, whose words are explained.
        words: The words of that passage, in order.
    """

    text: str = field(repr=False)
    label: str
    score: float
    threshold: float
    passages: tuple[Passage, ...]
    carried_by: int
    words: tuple[Word, ...] = field(repr=False)

    @property
    def ranked(self) -> list[Word]:
        """The words by falling effect: what speaks most for the label first, what speaks against it last."""
        return sorted(self.words, key=lambda word: -word.effect)

    def to_html(self) -> str:
        """A page of its own, without a script or anything from elsewhere, for light and dark."""
        from manylabel.explain.html_report import render

        return render(self)


Steps = Generator[Sequence[Ids], NDArray[np.float32], Explanation]
"""Yields windows of ids to be scored, is sent their scores, of shape `(n_windows, n_labels)`, returns the rest."""


@dataclass(frozen=True)
class Reading:
    """A text as the model reads it.

    Attributes:
        text: The text.
        windows: Token ids with special tokens, each of shape `(n,)`.
        spans: Which part of the text each of them reads.
        tokens: Where each token of each of them lies in the text, special ones left out.
        first: The place of the first of these tokens in a window.
    """

    text: str
    windows: Sequence[Ids]
    spans: Sequence[Span]
    tokens: Sequence[Sequence[Span]]
    first: int


def explain(read: Reading, labels: Sequence[str], thresholds: NDArray[np.float32], column: int | None) -> Steps:
    """Have a text scored, then the passage that carried a label without each of its words.

    Args:
        read: The text.
        labels: In column order.
        thresholds: Shape `(n_labels,)`.
        column: Which label; None for the most probable.
    """
    scores = yield read.windows
    column = int(scores.max(axis=0).argmax()) if column is None else column
    passages = [Passage(*span, score) for span, score in zip(read.spans, scores[:, column].tolist(), strict=True)]
    best = max(range(len(passages)), key=lambda at: passages[at].score)
    groups = list(_words(read.text, read.tokens[best]))
    shorter = [np.delete(read.windows[best], [read.first + place for place in places]) for _, places in groups]
    without = (yield shorter)[:, column].tolist() if shorter else []
    return Explanation(
        text=read.text,
        label=labels[column],
        score=passages[best].score,
        threshold=float(thresholds[column]),
        passages=tuple(passages),
        carried_by=best,
        words=tuple(
            Word(start, end, read.text[start:end], passages[best].score - left)
            for ((start, end), _), left in zip(groups, without, strict=True)
        ),
    )


def _words(text: str, tokens: Sequence[Span]) -> Iterator[tuple[Span, list[int]]]:
    """The words that tokens make up: where each lies, and which tokens are its own.

    A word of which a window has the beginning or the end alone is what the window has of it. Words that share a token
    are one. Tokens of blanks belong to no word.
    """
    start = min((one for one, _ in tokens), default=0)
    end = max((other for _, other in tokens), default=0)
    group: tuple[Span, list[int]] | None = None
    for found in _WORD.finditer(text, start, end):
        places = [place for place, (one, other) in enumerate(tokens) if one < found.end() and found.start() < other]
        if group and set(places) & set(group[1]):
            group = (group[0][0], found.end()), sorted({*group[1], *places})
        else:
            if group and group[1]:
                yield group
            group = found.span(), places
    if group and group[1]:
        yield group
