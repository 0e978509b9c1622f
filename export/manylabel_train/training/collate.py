"""Rows to batches: token ids made once, rows of like lengths together, padding to the longest window."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.data.dataset import Dataset

POOL = 50
"""Batches whose rows are sorted by length together."""


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The windows of a text, float targets (NaN for unknown) and the row's number, row by row.

    Args:
        tokenizer: Says what becomes of a long text.
        data: The rows.
        most_windows: Windows of a text that are kept at most, its first ones; None for all.
    """

    def __init__(self, tokenizer: Tokenizer, data: Dataset, *, most_windows: int | None = None) -> None:
        self._windows = [encoding.windows[:most_windows] for encoding in tokenizer.encode(data.texts)]
        self._targets = data.targets

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Tokens of each row in all its windows, shape `(n,)`."""
        return np.array([sum(map(len, windows)) for windows in self._windows])

    @property
    def single(self) -> bool:
        """Whether every row is one window."""
        return all(len(windows) == 1 for windows in self._windows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"windows": self._windows[row], "labels": self._targets[row], "rows": np.int64(row)}


class LikeLengths(torch.utils.data.Sampler[int]):
    """Random order in which the rows of a batch have like lengths, and so little padding.

    The Trainer's own grouping sorts within an eighth of a small set at most, and its first batches are always the
    longest: an epoch of 600 reviews took twice as long. Draws from torch's global generator, which the Trainer
    restores on resuming.
    """

    def __init__(self, lengths: NDArray[np.intp], batch_size: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        batches = list(self._batches(torch.randperm(len(self._lengths)).numpy()))
        whole = [rows for rows in batches if len(rows) == self._batch_size]
        rest = [rows for rows in batches if len(rows) < self._batch_size]  # last, or it would shift the others' bounds
        for rows in [*(whole[place] for place in torch.randperm(len(whole)).tolist()), *rest]:
            yield from rows.tolist()

    def _batches(self, order: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        pool = POOL * self._batch_size
        for rows in np.split(order, range(pool, len(order), pool)):
            by_length = rows[np.argsort(self._lengths[rows], kind="stable")]
            for at in range(0, len(by_length), self._batch_size):
                yield by_length[at : at + self._batch_size]


class Collator:
    """Pads the windows of a batch to the longest. Targets stay float, as BCE with logits needs them."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of texts.

        Returns:
            By text `labels`, float32 `(batch, n_labels)`, and `rows` `(batch,)`; by window `input_ids` and
            `attention_mask`, int64 `(windows, longest)`, and `owners` `(windows,)`, the place of its text in the batch.
        """
        windows = [(place, ids) for place, row in enumerate(rows) for ids in row["windows"]]
        ids = np.full((len(windows), max(len(ids) for _, ids in windows)), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for at, (_, window) in enumerate(windows):
            ids[at, : len(window)] = window
            mask[at, : len(window)] = 1
        return {
            "labels": torch.from_numpy(np.stack([row["labels"] for row in rows])),  # first: the Trainer counts by it
            "rows": torch.from_numpy(np.stack([row["rows"] for row in rows])),
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "owners": torch.tensor([place for place, _ in windows]),
        }
