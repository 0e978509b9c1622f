"""Batching for training: texts tokenized once, batches of similar length, padded to the longest window."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.data.dataset import Dataset

POOL = 50
"""Number of batches whose rows are sorted by length together."""


class TokenizedDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Per row the windows of a text, float targets (NaN for unknown) and the row's number.

    Args:
        tokenizer: Tokenizes texts, and applies the policy for long ones.
        data: The rows.
        max_windows: How many windows of a text are kept, from its beginning; None for all.
    """

    def __init__(self, tokenizer: Tokenizer, data: Dataset, *, max_windows: int | None = None) -> None:
        self._windows = [encoding.windows[:max_windows] for encoding in tokenizer.encode(data.texts)]
        self._targets = data.targets

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Tokens of each row in all its windows, shape `(n,)`."""
        return np.array([sum(map(len, windows)) for windows in self._windows])

    @property
    def single_window(self) -> bool:
        """Whether every row has exactly one window."""
        return all(len(windows) == 1 for windows in self._windows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"windows": self._windows[row], "labels": self._targets[row], "rows": np.int64(row)}


class LengthGroupedSampler(torch.utils.data.Sampler[int]):
    """Random order in which the rows of a batch have similar lengths, so that there is little padding.

    The Trainer's own grouping sorts within an eighth of a small data set at most, and its first batches are always the
    longest: an epoch of 600 reviews took twice as long. Uses torch's global generator, which the Trainer restores when
    it resumes.

    Args:
        lengths: Tokens of each row, shape `(n,)`.
        batch_size: Rows per batch.

    Example:
        >>> import numpy as np, torch
        >>> _ = torch.manual_seed(0)
        >>> order = list(LengthGroupedSampler(np.array([9, 1, 8, 2]), batch_size=2))
        >>> sorted(sorted(order[at : at + 2]) for at in (0, 2))
        [[0, 2], [1, 3]]
    """

    def __init__(self, lengths: NDArray[np.intp], batch_size: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        batches = list(self._group(torch.randperm(len(self._lengths)).numpy()))
        full = [rows for rows in batches if len(rows) == self._batch_size]
        rest = [rows for rows in batches if len(rows) < self._batch_size]  # last, or all later batches would shift
        for rows in [*(full[place] for place in torch.randperm(len(full)).tolist()), *rest]:
            yield from rows.tolist()

    def _group(self, order: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        pool = POOL * self._batch_size
        for rows in np.split(order, range(pool, len(order), pool)):
            by_length = rows[np.argsort(self._lengths[rows], kind="stable")]
            for at in range(0, len(by_length), self._batch_size):
                yield by_length[at : at + self._batch_size]


class Collator:
    """Pads the windows of a batch to the longest. Targets stay float, as BCE with logits needs them.

    Args:
        pad_token_id: The id that fills up short windows.

    Example:
        >>> import numpy as np
        >>> row = {"windows": [[5, 6], [7]], "labels": np.array([1.0]), "rows": np.int64(0)}
        >>> batch = Collator(pad_token_id=0)([row])
        >>> batch["input_ids"].tolist(), batch["owners"].tolist()
        ([[5, 6], [7, 0]], [0, 0])
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch of texts.

        Returns:
            Per text `labels`, float32 `(batch, n_labels)`, and `rows` `(batch,)`; per window `input_ids` and
            `attention_mask`, int64 `(windows, longest)`, and `owners` `(windows,)`, the place of its text in the batch.
        """
        windows = [(place, ids) for place, row in enumerate(rows) for ids in row["windows"]]
        ids = np.full((len(windows), max(len(ids) for _, ids in windows)), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for at, (_, window) in enumerate(windows):
            ids[at, : len(window)] = window
            mask[at, : len(window)] = 1
        return {
            # first: the Trainer takes the batch size from the first tensor
            "labels": torch.from_numpy(np.stack([row["labels"] for row in rows])),
            "rows": torch.from_numpy(np.stack([row["rows"] for row in rows])),
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "owners": torch.tensor([place for place, _ in windows]),
        }
