"""The served model: a classifier with a name and a version, and its results for batches of texts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from manylabel.classifier import Classifier
from manylabel.errors import ManylabelError
from manylabel.inference.tokenizer import Encoding

ModelInput = str | Encoding
"""A text from a client, or an input that is already tokenized, such as a perturbed text of an explanation."""

CHARACTERS_PER_TOKEN = 4
"""For the estimate of a text's tokens before it is tokenized; English and German have 4 to 5."""

SPECIAL_TOKENS = 2
"""Special tokens per text in that estimate."""


@dataclass(frozen=True)
class TextResult:
    """The model's result for one text.

    Attributes:
        windows: Probabilities per window of the text, shape `(n_windows, n_labels)`.
        n_tokens: Tokens in the text, special tokens included; if `truncated`, in the part that was read.
        truncated: Whether a part of the text was not read.
        is_client_text: Whether the text came from a client, and counts in the metrics.
    """

    windows: NDArray[np.float32]
    n_tokens: int
    truncated: bool
    is_client_text: bool = True

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Maximum over the windows per label, shape `(n_labels,)`."""
        return self.windows[0] if len(self.windows) == 1 else np.asarray(self.windows.max(axis=0), dtype=np.float32)


@dataclass(frozen=True)
class BatchResult:
    """The results of texts that were computed together.

    Attributes:
        results: A result or an error per text.
        tokenize: Seconds of tokenization.
        inference: Seconds of inference.
    """

    results: list[TextResult | Exception]
    tokenize: float
    inference: float


class ServedModel:
    """A classifier and the name it is served under.

    Attributes:
        name: The model's name in URLs and responses.
        classifier: The classifier.
        version: The first digits of the bundle's digest.
        labels: The labels in column order.
        thresholds: The bundle's thresholds, shape `(n_labels,)`.

    Example:
        >>> from manylabel import Classifier
        >>> model = ServedModel("reviews", Classifier.load("bundle", device="cpu"))
        >>> batch = model.compute(["The parcel was late.", "Too expensive."])
        >>> [result.probabilities.shape for result in batch.results]
        [(4,), (4,)]
    """

    def __init__(self, name: str, classifier: Classifier) -> None:
        self.name = name
        self.classifier = classifier
        self.version = classifier.bundle.digest[:12]
        self.labels = classifier.bundle.labels
        self.thresholds = classifier.thresholds_
        manifest = classifier.bundle.manifest
        windows = manifest.long_text.max_windows if manifest.long_text.policy == "window" else 1
        self._max_tokens = manifest.max_length * windows

    def estimate_tokens(self, text: ModelInput) -> int:
        """Estimate the tokens that the model will read of a text, from its number of characters."""
        if isinstance(text, Encoding):
            return sum(len(window) for window in text.windows)
        return min(len(text) // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS, self._max_tokens)

    def compute(self, texts: Sequence[ModelInput]) -> BatchResult:
        """Compute a batch on the calling thread; if it fails, compute its texts one by one to isolate the error."""
        start = time.perf_counter()
        try:
            encodings = self._encode(texts)
            tokenized = time.perf_counter()
            scores = self.classifier.score_windows([window for each in encodings for window in each.windows])
        except ManylabelError as exc:
            if len(texts) == 1:
                return BatchResult([exc], 0.0, time.perf_counter() - start)
            return _concatenate([self.compute([text]) for text in texts])
        ends = np.cumsum([len(each.windows) for each in encodings])
        rows = np.split(scores, ends[:-1]) if len(texts) > 1 else [scores]
        results: list[TextResult | Exception] = [
            TextResult(windows, each.n_tokens, each.truncated, isinstance(text, str))
            for text, each, windows in zip(texts, encodings, rows, strict=True)
        ]
        return BatchResult(results, tokenized - start, time.perf_counter() - tokenized)

    def _encode(self, texts: Sequence[ModelInput]) -> list[Encoding]:
        encodings = iter(self.classifier.encode([text for text in texts if isinstance(text, str)]))
        return [next(encodings) if isinstance(text, str) else text for text in texts]


def _concatenate(parts: Sequence[BatchResult]) -> BatchResult:
    return BatchResult(
        [result for part in parts for result in part.results],
        sum(part.tokenize for part in parts),
        sum(part.inference for part in parts),
    )
