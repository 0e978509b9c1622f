"""Texts to probabilities, on threads of the engine's own."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manylabel.classifier import Classifier


@dataclass(frozen=True)
class Answer:
    """What the model says of one text.

    Attributes:
        windows: Probabilities of every window that the text was read in, shape `(n_windows, n_labels)`.
        n_tokens: Tokens of the text, special ones included; where `truncated`, of the part that was read.
        truncated: Whether some of the text was not read.
    """

    windows: NDArray[np.float32]
    n_tokens: int
    truncated: bool

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Shape `(n_labels,)`: the greatest of each label's."""
        return self.windows.max(axis=0)  # type: ignore[no-any-return]  # numpy's reductions are Any


class Model:
    """A classifier under the name that it is served by."""

    def __init__(self, name: str, classifier: Classifier) -> None:
        self.name = name
        self.classifier = classifier
        self.version = classifier.bundle.digest[:12]
        self.labels = classifier.bundle.labels
        self.thresholds = classifier.thresholds_


@dataclass(frozen=True)
class Timings:
    """Where a request's seconds went: waiting, and summed over its texts, tokenising and inference."""

    queue: float
    tokenize: float
    inference: float


@dataclass(frozen=True)
class Answered:
    """An answer for every text of a request, in order, all of one model."""

    model: Model
    answers: Sequence[Answer]
    timings: Timings


class Engine:
    """Answers requests."""

    def __init__(self, model: Model, workers: int) -> None:
        self.model = model
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="manylabel-server")

    async def answer(self, texts: Sequence[str]) -> Answered:
        """Answer the texts of one request."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, texts)

    def _answer(self, texts: Sequence[str]) -> Answered:
        start = time.perf_counter()
        answers = []
        for encoding in self.model.classifier.encode(texts):
            windows = self.model.classifier.score_windows(encoding.windows)
            answers.append(Answer(windows, encoding.n_tokens, encoding.truncated))
        return Answered(self.model, answers, Timings(0, 0, time.perf_counter() - start))
