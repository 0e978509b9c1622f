"""Occlusion: how much each word of a text contributes to a label's score.

The text is scored again without the tokens of each of its words; a word's effect is the drop of the score (Zeiler and
Fergus 2014 for images; Li et al. 2016 for words). This module runs no model: `plan_occlusion` takes the scores of the
text and returns the windows to score next, `build_explanation` takes their scores and returns the explanation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manylabel.explain.html_report import render
from manylabel.inference.length_batching import TokenIds

__all__ = ["Explanation", "Passage", "Word"]  # what users see: the classifier and the server call the functions

Span = tuple[int, int]

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|(?:(?![{_IDEOGRAPH}])\w)+(?:['\u2019\-]\w+|(?<=\d)[.,]\d+)*|[^\w\s]+")
"""Matches a word with its inner punctuation ("don't", "3.5"), a run of other characters ("!!", an emoji), or one
character of a script that is written without spaces."""


@dataclass(frozen=True)
class Word:
    """A word of a text and its effect on a label's score.

    Attributes:
        start: Offset of its first character in the text.
        end: Offset after its last character.
        text: The characters from `start` to `end`.
        effect: The score with the word minus the score without it; above 0 if the word supports the label.

    Example:
        >>> Word(start=4, end=10, text="parcel", effect=0.31).effect > 0
        True
    """

    start: int
    end: int
    text: str
    effect: float


@dataclass(frozen=True)
class Passage:
    """The part of a text that one window of the model covers.

    Attributes:
        start: Offset of its first character in the text.
        end: Offset after its last character.
        score: The label's probability for this window.

    Example:
        >>> passage = Passage(start=0, end=11, score=0.75)
        >>> "late parcel, rude courier"[passage.start : passage.end]
        'late parcel'
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Explanation:
    """The words and passages that a label's score of one text depends on.

    Attributes:
        text: The text.
        label: The label.
        score: Its probability: the maximum over the passages.
        threshold: The label applies if the score reaches this value.
        passages: The text's windows in order; a single one if the text fits into one window.
        carried_by: Index in `passages` of the one with the maximum score. Its words are explained.
        words: The words of that passage in order.

    Example:
        >>> from manylabel import Classifier
        >>> explanation = Classifier.load("bundle").explain("the parcel was late.", "delivery")
        >>> [word.text for word in explanation.words]
        ['the', 'parcel', 'was', 'late', '.']
        >>> explanation.to_html()[:15]
        '<!doctype html>'
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
        """The words by decreasing effect: the strongest support first, the strongest opposition last."""
        return sorted(self.words, key=lambda word: -word.effect)

    def to_html(self) -> str:
        """Return a self-contained HTML page: no scripts, no external resources, light and dark mode."""
        return render(
            text=self.text,
            label=self.label,
            score=self.score,
            threshold=self.threshold,
            passages=[(passage.start, passage.end, passage.score) for passage in self.passages],
            carried_by=self.carried_by,
            words=[(word.start, word.end, word.effect) for word in self.words],
        )


@dataclass(frozen=True)
class OcclusionInput:
    """A tokenized text and the label to explain.

    Attributes:
        text: The text.
        windows: Token ids of each window with special tokens, each of shape `(n,)`.
        spans: The part of the text that each window covers, in characters.
        tokens: For each window, the span in the text of every token except special tokens.
        n_prefix_tokens: Number of special tokens before the first of these in a window.
        labels: All labels in column order.
        thresholds: Their thresholds, shape `(n_labels,)`.
        column: The column of the label to explain; `None` for the most probable label.
    """

    text: str
    windows: Sequence[TokenIds]
    spans: Sequence[Span]
    tokens: Sequence[Sequence[Span]]
    n_prefix_tokens: int
    labels: Sequence[str]
    thresholds: NDArray[np.float32]
    column: int | None


@dataclass(frozen=True)
class OcclusionPlan:
    """The occluded windows to score, and what is known before they are scored.

    Attributes:
        windows: Token ids of the best passage without each of its words, in the order of `words`.
        words: The spans of these words in the text.
        text: The text.
        label: The label to explain.
        column: Its column.
        threshold: Its threshold.
        passages: The text's windows with the label's score.
        carried_by: Index in `passages` of the one with the maximum score.
    """

    windows: Sequence[TokenIds] = field(repr=False)
    words: Sequence[Span] = field(repr=False)
    text: str = field(repr=False)
    label: str
    column: int
    threshold: float
    passages: tuple[Passage, ...]
    carried_by: int


def plan_occlusion(request: OcclusionInput, scores: NDArray[np.float32]) -> OcclusionPlan:
    """Choose the label and the passage to explain, and build the passage without each of its words.

    Args:
        request: The tokenized text and the label.
        scores: The probabilities of `request.windows`, shape `(n_windows, n_labels)`.

    Returns:
        A plan whose `windows` are to be scored next; there are none if the text has no words.

    Example:
        >>> request = OcclusionInput(
        ...     text="late parcel", windows=[np.array([2, 7, 8, 3])], spans=[(0, 11)], tokens=[[(0, 4), (5, 11)]],
        ...     n_prefix_tokens=1, labels=["delivery"], thresholds=np.array([0.5], dtype=np.float32), column=None,
        ... )
        >>> plan = plan_occlusion(request, np.array([[0.75]], dtype=np.float32))
        >>> [window.tolist() for window in plan.windows]
        [[2, 8, 3], [2, 7, 3]]
        >>> explanation = build_explanation(plan, np.array([[0.25], [0.5]], dtype=np.float32))
        >>> [(word.text, word.effect) for word in explanation.words]
        [('late', 0.5), ('parcel', 0.25)]
    """
    column = int(scores.max(axis=0).argmax()) if request.column is None else request.column
    passages = [Passage(*span, score) for span, score in zip(request.spans, scores[:, column].tolist(), strict=True)]
    best = max(range(len(passages)), key=lambda index: passages[index].score)
    words = _split_words(request.text, request.tokens[best])
    first = request.n_prefix_tokens
    return OcclusionPlan(
        windows=[np.delete(request.windows[best], [first + index for index in indices]) for _, indices in words],
        words=[span for span, _ in words],
        text=request.text,
        label=request.labels[column],
        column=column,
        threshold=float(request.thresholds[column]),
        passages=tuple(passages),
        carried_by=best,
    )


def build_explanation(plan: OcclusionPlan, scores: NDArray[np.float32]) -> Explanation:
    """Return the explanation, given the scores of the occluded windows.

    Args:
        plan: A plan from `plan_occlusion`, whose docstring has an example.
        scores: The probabilities of `plan.windows`, shape `(len(plan.windows), n_labels)`.
    """
    score = plan.passages[plan.carried_by].score
    return Explanation(
        text=plan.text,
        label=plan.label,
        score=score,
        threshold=plan.threshold,
        passages=plan.passages,
        carried_by=plan.carried_by,
        words=tuple(
            Word(start, end, plan.text[start:end], score - occluded)
            for (start, end), occluded in zip(plan.words, scores[:, plan.column].tolist(), strict=True)
        ),
    )


def _split_words(text: str, tokens: Sequence[Span]) -> list[tuple[Span, list[int]]]:
    """Return the span of each word that the tokens cover, and the indices of the word's tokens.

    A word that the window cuts is reduced to the part inside the window. Words that share a token form one word. Tokens
    that consist of whitespace belong to no word.
    """
    start = min((first for first, _ in tokens), default=0)
    end = max((last for _, last in tokens), default=0)
    words: list[tuple[Span, list[int]]] = []
    for match in _WORD.finditer(text, start, end):
        indices = [index for index, (first, last) in enumerate(tokens) if first < match.end() and match.start() < last]
        if words and set(indices) & set(words[-1][1]):
            (word_start, _), shared = words.pop()
            words.append(((word_start, match.end()), sorted({*shared, *indices})))
        else:
            words.append((match.span(), indices))
    return [(span, indices) for span, indices in words if indices]
