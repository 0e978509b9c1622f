"""Why a text has a label: which words its score hangs on, and which passage of a long text carried it.

Occlusion (Zeiler and Fergus 2014, for pictures; Li et al. 2016, for words): a text is scored once more without the
tokens of each of its words, and a word's effect is what the score loses. Knows nothing of models: a function that
scores is handed in.
"""

import re
from collections.abc import Callable, Iterator, Sequence
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
        from manylabel.explaining.page import render

        return render(self)


def explain(
    text: str,
    label: str,
    threshold: float,
    passages: Sequence[Passage],
    *,
    window: Ids,
    tokens: Sequence[Span],
    first: int,
    score: Callable[[list[Ids]], NDArray[np.float32]],
) -> Explanation:
    """Score the passage that carried a label without each of its words.

    Args:
        text: The text.
        label: The label that `score` speaks of.
        threshold: Its threshold.
        passages: The windows that the text was read in.
        window: The ids of the one with the greatest score, the first of several, shape `(n,)`.
        tokens: Where each of its tokens lies in the text, special ones left out.
        first: The place of the first of them in `window`.
        score: From ids to the label's probability of each, shape `(n_windows,)`. Called once.
    """
    groups = list(_words(text, tokens))
    shorter = [np.delete(window, [first + place for place in places]) for _, places in groups]
    without = score(shorter).tolist() if shorter else []
    best = carried_by(passages)
    return Explanation(
        text=text,
        label=label,
        score=passages[best].score,
        threshold=threshold,
        passages=tuple(passages),
        carried_by=best,
        words=tuple(
            Word(start, end, text[start:end], passages[best].score - left)
            for ((start, end), _), left in zip(groups, without, strict=True)
        ),
    )


def carried_by(passages: Sequence[Passage]) -> int:
    """The place of the passage with the greatest score, the first of several."""
    return max(range(len(passages)), key=lambda at: passages[at].score)


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
