"""Texts on both sides of given splits: what was trained on proves nothing when it is asked again."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel_train.data.dataset import Dataset
from manylabel_train.data.near_duplicates import Copies

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
ROWS_LISTED = 100


def find_leaks(data: Dataset, copies: Copies) -> dict[str, Any]:
    """Rows of a later split that an earlier split has too, or nearly.

    Args:
        data: Labelled texts with splits.
        copies: Which of its texts say the same.

    Returns:
        By `"train/test"` and so on how many rows of the second split have an `exact` copy in the first, how many more
        a `near` one, and under `rows` the first hundred with a copy each, counted from 1. Pairs without are left out.
    """
    split, result = np.array(data.split), {}
    for former, later in PAIRS:
        before, after = np.flatnonzero(split == former), np.flatnonzero(split == later)
        exact, near = (np.isin(group[after], group[before]) for group in (copies.exact, copies.near))
        if near.any():
            leaked = after[near]
            result[f"{former}/{later}"] = {
                "exact": int(exact.sum()),
                "near": int((near & ~exact).sum()),
                "rows": [[_copy_of(row, before, copies), row + 1] for row in leaked[:ROWS_LISTED].tolist()],
            }
    return result


def drop_leaked_rows(data: Dataset, copies: Copies) -> Dataset:
    """The data without the training rows that say the same as a validation or test row, or nearly."""
    trained = np.array(data.split) == "train"
    leaked = trained & np.isin(copies.near, copies.near[~trained])
    return data.take(np.flatnonzero(~leaked).tolist())


def warn_of_leaks(data: Dataset, leaks: Mapping[str, Any], *, dropped: bool) -> None:
    """One sentence with all counts; leaks out of training that were dropped are none any more."""
    told = {pair: found for pair, found in leaks.items() if not (dropped and pair.startswith("train/"))}
    if not told:
        return
    parts = []
    for pair, found in told.items():
        former, later = pair.split("/")
        parts.append(
            f"of {data.split.count(later):,} {later} texts {found['exact']:,} are also in {former} "
            f"and {found['near']:,} more nearly so"
        )
    cure = " --drop-leaked leaves such rows out of training." if any(pair.startswith("train/") for pair in told) else ""
    warnings.warn(
        f"the splits share texts, which makes figures look better than they are: {'; '.join(parts)}.{cure}",
        stacklevel=3,
    )


def _copy_of(row: int, among: NDArray[np.intp], copies: Copies) -> int:
    """The first equal row, else the first nearly equal one, counted from 1."""
    for groups in (copies.exact, copies.near):
        found = among[groups[among] == groups[row]]
        if len(found):
            return int(found[0]) + 1
    raise AssertionError("a leaked row has a copy")
