"""What a model says of some texts, as arrays: the form in which answers travel before someone asks for names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import ManylabelError


@dataclass(frozen=True)
class Answers:
    """Answers to neighbouring texts of a stream, in order.

    Attributes:
        probabilities: Shape `(n_texts, n_labels)`; 0 for a text that has an error.
        n_tokens: Tokens of each text, special ones included; of a truncated one, of the part that was read; 0 for a
            text that has an error. Shape `(n_texts,)`.
        truncated: Whether some of a text was not read, shape `(n_texts,)`.
        errors: Why a text has no answer, by its place here.
    """

    probabilities: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    errors: Mapping[int, ManylabelError]

    def __len__(self) -> int:
        return len(self.probabilities)

    def check(self) -> None:
        """Raise the first text's error, if there is one."""
        for _, error in sorted(self.errors.items(), key=lambda item: item[0]):
            raise error

    @classmethod
    def none(cls, n_labels: int) -> "Answers":
        """Answers to no text."""
        return cls(
            np.empty((0, n_labels), dtype=np.float32), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_), {}
        )

    def followed_by(self, others: "Answers") -> "Answers":
        """These and those behind them."""
        return Answers(
            np.concatenate([self.probabilities, others.probabilities]),
            np.concatenate([self.n_tokens, others.n_tokens]),
            np.concatenate([self.truncated, others.truncated]),
            {**self.errors, **{len(self) + place: error for place, error in others.errors.items()}},
        )

    def split(self, rows: int) -> "tuple[Answers, Answers]":
        """The first rows, and the others."""
        head, tail = (
            Answers(self.probabilities[part], self.n_tokens[part], self.truncated[part], {})
            for part in (slice(rows), slice(rows, None))
        )
        return (
            replace(head, errors={place: error for place, error in self.errors.items() if place < rows}),
            replace(tail, errors={place - rows: error for place, error in self.errors.items() if place >= rows}),
        )
