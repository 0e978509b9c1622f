"""What a model predicts: `Prediction` for one text, `PredictionBatch` as arrays for many, and who produces them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import ManylabelError


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        labels: The labels whose probability reaches their threshold, the most probable first; often several, perhaps
            none.
        scores: Probabilities by label, the most probable first; all labels, or the first `top_k`. They need not sum
            to 1.
        n_tokens: The number of tokens, special tokens included; for a truncated text, of the part that was read.
        truncated: Whether part of the text was not read.

    Example:
        >>> from manylabel import Classifier
        >>> (prediction,) = Classifier.load("bundle").classify("The parcel arrived broken.", top_k=1)
        >>> len(prediction.scores), prediction.truncated
        (1, False)
    """

    labels: list[str]
    scores: dict[str, float]
    n_tokens: int
    truncated: bool


@dataclass(frozen=True)
class PredictionBatch:
    """Predictions for consecutive texts of a stream, as arrays.

    Attributes:
        probabilities: Shape `(n_texts, n_labels)`; 0 for a text that has an error.
        n_tokens: The number of tokens of each text, special tokens included; for a truncated text, of the part that
            was read; 0 for a text that has an error. Shape `(n_texts,)`.
        truncated: Whether part of a text was not read, shape `(n_texts,)`.
        errors: Why a text has no prediction, by its position in the batch.

    Example:
        >>> import numpy as np
        >>> batch = PredictionBatch(np.float32([[0.9, 0.2]]), np.array([7]), np.array([False]), errors={})
        >>> len(batch)
        1
    """

    probabilities: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    errors: Mapping[int, ManylabelError]

    def __len__(self) -> int:
        return len(self.probabilities)

    def raise_first_error(self) -> None:
        """Raise the error of the first text that has one."""
        if self.errors:
            raise self.errors[min(self.errors)]


class Predictor(Protocol):
    """What scoring, frames and explanations need of a classifier; `Classifier` implements it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in column order."""

    @property
    def thresholds_(self) -> NDArray[np.float32]:
        """The thresholds in column order, shape `(n_labels,)`."""

    def predict_chunks(self, chunks: Iterable[Sequence[object]], *, first_row: int = 0) -> Iterator[PredictionBatch]:
        """Yield a batch of predictions for every chunk of texts, in order, reading some chunks ahead.

        Args:
            chunks: Texts. One that is not a string gets an error in `PredictionBatch.errors`.
            first_row: The number of the first text in error messages.
        """
