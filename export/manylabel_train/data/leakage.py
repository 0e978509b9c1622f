"""Leakage: near-duplicates of a text on both sides of given splits, which make metrics look better than they are."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel_train.data.dataset import Dataset
from manylabel_train.data.near_duplicates import DuplicateGroups

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
MAX_LISTED_ROWS = 100


def find_leaks(data: Dataset, duplicates: DuplicateGroups) -> dict[str, Any]:
    """Find rows of a later split with an equal or nearly equal text in an earlier split.

    Args:
        data: Labelled texts with splits.
        duplicates: Groups of equal and nearly equal texts.

    Returns:
        By pair such as `"train/test"`: how many rows of the second split have an `exact` duplicate in the first, how
        many more have a `near` one, and under `rows` the first hundred such pairs of rows, counted from 1. Pairs of
        splits without duplicates are left out.

    Example:
        >>> data = Dataset.from_matrix(["Too slow", "too  slow", "fine"], [[1], [1], [0]], ["speed"],
        ...                            split=["train", "test", "test"])
        >>> from manylabel_train.data.near_duplicates import find_near_duplicates
        >>> find_leaks(data, find_near_duplicates(data.texts))
        {'train/test': {'exact': 1, 'near': 0, 'rows': [[1, 2]]}}
    """
    split, result = np.array(data.split), {}
    for former, later in PAIRS:
        before, after = np.flatnonzero(split == former), np.flatnonzero(split == later)
        exact, near = (np.isin(group[after], group[before]) for group in (duplicates.exact, duplicates.near))
        if near.any():
            leaked = after[near]
            result[f"{former}/{later}"] = {
                "exact": int(exact.sum()),
                "near": int((near & ~exact).sum()),
                "rows": [
                    [_find_original(row, before, duplicates), row + 1] for row in leaked[:MAX_LISTED_ROWS].tolist()
                ],
            }
    return result


def drop_leaked_rows(data: Dataset, duplicates: DuplicateGroups) -> Dataset:
    """Return the data without the training rows that are near-duplicates of validation or test rows."""
    in_training = np.array(data.split) == "train"
    leaked = in_training & np.isin(duplicates.near, duplicates.near[~in_training])
    return data.take(np.flatnonzero(~leaked).tolist())


def warn_about_leaks(data: Dataset, leaks: Mapping[str, Any], *, dropped: bool) -> None:
    """Warn once, with all counts, except about leaks from training rows that were dropped."""
    remaining = {pair: leak for pair, leak in leaks.items() if not (dropped and pair.startswith("train/"))}
    if not remaining:
        return
    parts = []
    for pair, leak in remaining.items():
        former, later = pair.split("/")
        parts.append(
            f"of {data.split.count(later):,} {later} texts, {leak['exact']:,} are also in {former} "
            f"and {leak['near']:,} more are near-duplicates of texts there"
        )
    from_training = any(pair.startswith("train/") for pair in remaining)
    remedy = " Pass --drop-leaked to leave such rows out of training." if from_training else ""
    warnings.warn(
        f"the splits share texts, which makes metrics look better than they are: {'; '.join(parts)}.{remedy}",
        stacklevel=3,
    )


def _find_original(row: int, among: NDArray[np.intp], duplicates: DuplicateGroups) -> int:
    """Return the first row equal to `row`, else the first nearly equal one, counted from 1."""
    for groups in (duplicates.exact, duplicates.near):
        matches = among[groups[among] == groups[row]]
        if len(matches):
            return int(matches[0]) + 1
    raise AssertionError("a leaked row has a duplicate")
