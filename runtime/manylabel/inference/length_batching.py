"""Which sequences go together, and whose answer is whose: plain numpy, knowing nothing of models.

A batch holds sequences of exactly one length, so it needs no padding and no mask, and a text's answer cannot depend on
its neighbours.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BATCH_TOKENS = 512
"""Tokens in a batch at most, unless one sequence alone is longer. On a CPU core the activations of 256 to 512 tokens
stay in the second-level cache; more buys nothing (measured on two cores of Zen 4, MiniLM-L6 in int8)."""

USUAL_TOKENS = {"cpu": BATCH_TOKENS, "cuda": 16_384}
"""The same by device. A GPU is idle with a few hundred; how many fill it was not measured, `manylabel tune` finds it. A
batch that does not fit into its memory is run in halves."""

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]


class Map(Protocol):
    """Calls a function on every item, in order: `map`, or the `map` of an executor."""

    def __call__(self, function: Callable[[Ids], Scores], items: Iterable[Ids], /) -> Iterable[Scores]:
        """What the function gives for each item."""
        ...


def score(
    texts: Sequence[Sequence[Ids]],
    run: Callable[[Ids], Scores],
    *,
    n_labels: int,
    max_tokens: int = BATCH_TOKENS,
    map: Map = map,
) -> Scores:
    """Probabilities of texts that come as windows: each label's maximum over a text's windows.

    Args:
        texts: For each text its windows, each of shape `(n,)`; at least one.
        run: Ids of shape `(batch, n)` to probabilities of shape `(batch, n_labels)`.
        n_labels: Columns of the result.
        max_tokens: Tokens in a batch at most; a longer window goes alone.
        map: How the batches are run: one after the other, or on the threads of a pool.

    Returns:
        Shape `(len(texts), n_labels)`, in the order of `texts`.
    """
    work = Work.of(texts, max_tokens=max_tokens)
    return work.gather(map(run, work.batches), n_labels=n_labels)


@dataclass(frozen=True)
class Work:
    """The batches of some texts, and whose windows they hold.

    Attributes:
        batches: Ids, each of shape `(batch, n)`, the longest first.
        owners: For each batch the texts that its rows belong to, shape `(batch,)`.
        n_texts: How many texts there are.
    """

    batches: list[Ids]
    owners: list[NDArray[np.intp]]
    n_texts: int

    @classmethod
    def of(cls, texts: Sequence[Sequence[Ids]], *, max_tokens: int = BATCH_TOKENS) -> "Work":
        """Group the windows of texts, each of shape `(n,)`. A text without windows has no part in it."""
        windows = [window for text in texts for window in text]
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        grouped = list(batches(windows, max_tokens=max_tokens))
        return cls([ids for _, ids in grouped], [owner[places] for places, _ in grouped], len(texts))

    def gather(self, scores: Iterable[Scores], *, n_labels: int) -> Scores:
        """Each label's maximum over a text's windows, shape `(n_texts, n_labels)`; 0 for a text without windows."""
        result = np.zeros((self.n_texts, n_labels), dtype=np.float32)
        for owner, rows in zip(self.owners, scores, strict=True):
            np.maximum.at(result, owner, rows)
        return result


def batches(sequences: Sequence[Ids], *, max_tokens: int = BATCH_TOKENS) -> Iterator[tuple[NDArray[np.intp], Ids]]:
    """Group sequences of equal length.

    Longest first, so that several workers end together.

    Args:
        sequences: Token ids, each of shape `(n,)`, `n >= 1`.
        max_tokens: Tokens in a batch at most; a longer sequence goes alone.

    Yields:
        The sequences' places, shape `(batch,)`, and their ids, shape `(batch, n)`. Every place comes once.
    """
    lengths = np.fromiter((len(ids) for ids in sequences), dtype=np.intp, count=len(sequences))
    for length in sorted(set(lengths.tolist()), reverse=True):
        places = np.flatnonzero(lengths == length)
        size = max(1, max_tokens // length)
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            yield chosen, np.stack([sequences[place] for place in chosen])
