"""What is served: a classifier under a name, and what it says of texts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from manylabel.classifier import Classifier
from manylabel.errors import ManylabelError
from manylabel.inference.tokenizer import Encoding

Asked = str | Encoding
"""What is computed: a text as it was sent, or what was tokenised before, such as a part of an explanation."""

CHARACTERS_PER_TOKEN = 4
"""By which a text's tokens are estimated before it is tokenised; English and German run at 4 to 5."""

SPECIAL_TOKENS = 2
"""Around a text, in that estimate."""


@dataclass(frozen=True)
class Answer:
    """What the model says of one text.

    Attributes:
        windows: Probabilities of every window that the text was read in, shape `(n_windows, n_labels)`.
        n_tokens: Tokens of the text, special ones included; where `truncated`, of the part that was read.
        truncated: Whether some of the text was not read.
        sent: Whether it is of a text that somebody sent, to be counted as such.
    """

    windows: NDArray[np.float32]
    n_tokens: int
    truncated: bool
    sent: bool = True

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Each label's greatest, shape `(n_labels,)`."""
        return self.windows[0] if len(self.windows) == 1 else np.asarray(self.windows.max(axis=0), dtype=np.float32)


@dataclass(frozen=True)
class Computed:
    """What became of texts that were computed together: an answer or an error for each, and the seconds it took."""

    results: list[Answer | Exception]
    tokenize: float
    inference: float


class Model:
    """A classifier under the name that it is served by.

    Attributes:
        version: Names the bundle: the first digits of its digest.
    """

    def __init__(self, name: str, classifier: Classifier) -> None:
        self.name = name
        self.classifier = classifier
        self.version = classifier.bundle.digest[:12]
        self.labels = classifier.bundle.labels
        self.thresholds = classifier.thresholds_
        manifest = classifier.bundle.manifest
        windows = manifest.long_text.max_windows if manifest.long_text.policy == "window" else 1
        self._most = manifest.max_length * windows

    def estimate_tokens(self, text: Asked) -> int:
        """Tokens that a text will cost, by its characters."""
        if isinstance(text, Encoding):
            return sum(len(window) for window in text.windows)
        return min(len(text) // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS, self._most)

    def compute(self, texts: Sequence[Asked]) -> Computed:
        """Answer texts on the calling thread. An error of one of them is that one's alone."""
        start = time.perf_counter()
        try:
            encodings = self._encode(texts)
            tokenized = time.perf_counter()
            scores = self.classifier.score_windows([window for each in encodings for window in each.windows])
        except ManylabelError as exc:
            if len(texts) == 1:
                return Computed([exc], 0.0, time.perf_counter() - start)
            return _together([self.compute([text]) for text in texts])
        ends = np.cumsum([len(each.windows) for each in encodings])
        rows = np.split(scores, ends[:-1]) if len(texts) > 1 else [scores]
        results: list[Answer | Exception] = [
            Answer(windows, each.n_tokens, each.truncated, isinstance(text, str))
            for text, each, windows in zip(texts, encodings, rows, strict=True)
        ]
        return Computed(results, tokenized - start, time.perf_counter() - tokenized)

    def _encode(self, texts: Sequence[Asked]) -> list[Encoding]:
        read = iter(self.classifier.encode([text for text in texts if isinstance(text, str)]))
        return [next(read) if isinstance(text, str) else text for text in texts]


def _together(parts: Sequence[Computed]) -> Computed:
    return Computed(
        [result for part in parts for result in part.results],
        sum(part.tokenize for part in parts),
        sum(part.inference for part in parts),
    )
