"""Length batching: batches of token sequences of exactly the same length, and the scores back in the order of texts.

Without padding there is no mask, and scores are batch-invariant: they do not depend on the other texts in the batch.
Plain numpy; independent of the model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import OutOfMemory

BATCH_TOKENS = 512
"""Tokens in a batch at most, unless a single sequence is longer. On a CPU core the activations of 256 to 512 tokens
stay in the second-level cache; more does not help (measured on two cores of Zen 4, MiniLM-L6 in int8)."""

DEFAULT_BATCH_TOKENS = {"cpu": BATCH_TOKENS, "cuda": 16_384}
"""By device. A few hundred tokens leave a GPU idle; how many fill it was not measured, `manylabel tune` finds out. A
batch that does not fit into its memory is split."""

MAX_OOM_SPLITS = 4
"""How often a batch is halved when memory runs out: if a sixteenth does not fit, the batch is not the cause."""

TokenIds = NDArray[np.int64]
Probabilities = NDArray[np.float32]
RunBatch = Callable[[TokenIds], Probabilities]
"""From token ids, shape `(batch, n)`, to probabilities, shape `(batch, n_labels)`."""


class MapBatches(Protocol):
    """Calls a function on every item, in order: `map`, or an executor's `map`."""

    def __call__(self, function: RunBatch, items: Iterable[TokenIds], /) -> Iterable[Probabilities]:
        """Return the function's results in order."""
        ...


def score_texts(
    texts: Sequence[Sequence[TokenIds]],
    run: RunBatch,
    *,
    n_labels: int,
    max_tokens: int = BATCH_TOKENS,
    map: MapBatches = map,
) -> Probabilities:
    """Return the probabilities of texts given as windows: for each label the maximum over a text's windows.

    Args:
        texts: For each text its windows, each of shape `(n,)`; at least one.
        run: From token ids, shape `(batch, n)`, to probabilities, shape `(batch, n_labels)`.
        n_labels: The number of columns.
        max_tokens: Tokens in a batch at most; a longer window is a batch of its own.
        map: Runs the batches: one after the other, or on a pool's threads.

    Returns:
        Shape `(len(texts), n_labels)`, in the order of `texts`.

    Example:
        >>> import numpy as np
        >>> texts = [[np.array([1, 2])], [np.array([9]), np.array([4])]]
        >>> score_texts(texts, lambda ids: ids[:, :1] / np.float32(10), n_labels=1).tolist()
        [[0.10000000149011612], [0.8999999761581421]]
    """
    batches = LengthBatches.from_texts(texts, max_tokens=max_tokens)
    return batches.max_over_windows(map(run, batches.token_ids), n_labels=n_labels)


@dataclass(frozen=True)
class LengthBatches:
    """The windows of some texts in batches, and the text that each row belongs to.

    Attributes:
        token_ids: For each batch its token ids, shape `(batch, n)`, the longest first.
        owners: For each batch the position of each row's text, shape `(batch,)`.
        n_texts: The number of texts.

    Example:
        >>> import numpy as np
        >>> batches = LengthBatches.from_texts([[np.array([5, 6, 7])], [np.array([8])], [np.array([9])]])
        >>> [ids.shape for ids in batches.token_ids]
        [(1, 3), (2, 1)]
    """

    token_ids: list[TokenIds]
    owners: list[NDArray[np.intp]]
    n_texts: int

    @classmethod
    def from_texts(cls, texts: Sequence[Sequence[TokenIds]], *, max_tokens: int = BATCH_TOKENS) -> "LengthBatches":
        """Group the windows of texts, each of shape `(n,)`. A text may have no windows."""
        windows = [window for text in texts for window in text]
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        groups = list(group_by_length(windows, max_tokens=max_tokens))
        return cls([ids for _, ids in groups], [owner[places] for places, _ in groups], len(texts))

    def max_over_windows(self, probabilities: Iterable[Probabilities], *, n_labels: int) -> Probabilities:
        """Return for each text and label the maximum over its windows; 0 for a text without windows.

        Args:
            probabilities: For each batch in order, shape `(batch, n_labels)`.
            n_labels: The number of columns.

        Returns:
            Shape `(n_texts, n_labels)`.
        """
        result = np.zeros((self.n_texts, n_labels), dtype=np.float32)
        for owner, rows in zip(self.owners, probabilities, strict=True):
            np.maximum.at(result, owner, rows)
        return result


def group_by_length(
    sequences: Sequence[TokenIds], *, max_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[NDArray[np.intp], TokenIds]]:
    """Group sequences of equal length, the longest first, so that several workers finish together.

    Args:
        sequences: Token ids, each of shape `(n,)`, `n >= 1`.
        max_tokens: Tokens in a batch at most; a longer sequence is a batch of its own.

    Yields:
        The positions of the sequences, shape `(batch,)`, and their ids, shape `(batch, n)`. Every position occurs once.

    Example:
        >>> import numpy as np
        >>> for places, ids in group_by_length([np.array([1]), np.array([2, 3]), np.array([4])]):
        ...     print(places.tolist(), ids.tolist())
        [1] [[2, 3]]
        [0, 2] [[1], [4]]
    """
    lengths = np.fromiter((len(ids) for ids in sequences), dtype=np.intp, count=len(sequences))
    for length in sorted(set(lengths.tolist()), reverse=True):
        places = np.flatnonzero(lengths == length)
        size = max(1, max_tokens // length)
        for start in range(0, len(places), size):
            part = places[start : start + size]
            yield part, np.stack([sequences[place] for place in part])


def split_on_oom(run: RunBatch, ids: TokenIds, max_splits: int = MAX_OOM_SPLITS) -> Probabilities:
    """Run a batch, in halves if memory runs out.

    Args:
        run: From token ids, shape `(batch, n)`, to probabilities, shape `(batch, n_labels)`, independent of the batch.
        ids: The whole batch.
        max_splits: How often a part may be halved.

    Raises:
        OutOfMemory: A single row does not fit, or a part that was halved `max_splits` times.

    Example:
        >>> import numpy as np
        >>> def run(ids):
        ...     if len(ids) > 1:
        ...         raise OutOfMemory("too large")
        ...     return ids.astype(np.float32)
        >>> split_on_oom(run, np.array([[1], [2], [3]])).tolist()
        [[1.0], [2.0], [3.0]]
    """
    try:
        return run(ids)
    except OutOfMemory:
        if max_splits == 0 or len(ids) == 1:
            raise
    middle = len(ids) // 2
    return np.concatenate([split_on_oom(run, part, max_splits - 1) for part in (ids[:middle], ids[middle:])])
