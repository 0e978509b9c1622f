"""Which rows learn and which judge: train, validation and test, made where the data does not say.

Rows that say the same, or nearly, stay on one side, and every label has the same share on each side as far as its
rows allow.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.leakage import drop_leaked_rows, find_leaks, warn_of_leaks
from manylabel_train.data.near_duplicates import find_copies

PARTS = ("train", "validation", "test")
FEWEST_TO_SPLIT = 10

Numbers = NDArray[np.intp]


def settle_splits(data: Dataset, *, seed: int, drop_leaked: bool = False) -> tuple[Dataset, dict[str, Any]]:
    """Give every row a split, and see how honest it is. Warns of texts that are on both sides of given splits.

    Args:
        data: Labelled texts.
        seed: Of the splits that are made here.
        drop_leaked: Leave rows out of training that say the same as a validation or test row, or nearly.

    Returns:
        The data with splits, and what a run tells of them: how they were made (`"made"`), each label's share of
        positives a split (`"shares"`), texts on both sides (`"leaks"`), and rows left out of training (`"dropped"`).

    Raises:
        DataError: Only some rows name a split, or there are no rows for training or for validation.
    """
    given = any(data.split)
    data, before = with_splits(data, seed=seed), len(data)
    copies = find_copies(data.texts) if given else None
    leaks = find_leaks(data, copies) if copies else {}
    if copies and drop_leaked:
        data = with_splits(drop_leaked_rows(data, copies), seed=seed)
    warn_of_leaks(data, leaks, dropped=drop_leaked)
    made = "given" if given else "iterative stratification of groups of near-duplicates"
    return data, {"made": made, "shares": label_shares(data), "leaks": leaks, "dropped": before - len(data)}


def with_splits(data: Dataset, *, seed: int) -> Dataset:
    """Give every row a split: what the data says, else 80 % train, 10 % validation, 10 % test, stratified.

    Raises:
        DataError: Only some rows name a split, or there are no rows for training or for validation.
    """
    unnamed = data.split.count("")
    if unnamed == len(data):
        return _split(data, seed)
    if unnamed:
        raise DataError(
            f"{unnamed} of {len(data)} rows name no split. "
            "Fill the split column with train, validation and test, or leave it out."
        )
    for name in ("train", "validation"):
        if name not in data.split:
            raise DataError(
                f"no row of the data is for {name}. Mark some rows as {name} in the split column, or leave it out."
            )
    return data


def label_shares(data: Dataset) -> dict[str, dict[str, float]]:
    """For each label and split the share of rows that have it, among those that say whether they do."""
    result: dict[str, dict[str, float]] = {label: {} for label in data.labels}
    for part in PARTS:
        if part not in data.split:
            continue
        targets = data.part(part).targets
        known = np.maximum((~np.isnan(targets)).sum(axis=0), 1)
        for label, share in zip(data.labels, (targets == 1).sum(axis=0) / known, strict=True):
            result[label][part] = round(float(share), 6)
    return result


def stratify(
    positives: NDArray[np.bool_], groups: NDArray[np.intp], sizes: Sequence[int], *, seed: int
) -> NDArray[np.intp]:
    """Deal rows out to parts of given sizes, so that every part gets its share of every label.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1): the label with the fewest rows left
    goes first, and each of its rows to the part that lacks it most. Beyond the paper, a group of rows goes as one,
    large groups before small ones, and no part takes a group that it has no room for while another has. A label of
    one or two rows goes to the largest part; rows without labels fill up at the end.

    Args:
        positives: Which rows have which labels, shape `(n, n_labels)`.
        groups: A number for each row; rows of the same number stay together, shape `(n,)`.
        sizes: How many rows each part is to have; they add up to `n`.
        seed: Decides the order of rows and between parts that are alike.

    Returns:
        Each row's part, shape `(n,)`.
    """
    draw = np.random.default_rng(seed)
    _, rows_group = np.unique(groups, return_inverse=True)
    rows_group = draw.permutation(int(rows_group.max()) + 1)[rows_group]
    weights = np.bincount(rows_group)
    counts = np.zeros((len(weights), positives.shape[1]), dtype=np.intp)
    np.add.at(counts, rows_group, positives)
    table = _Table(counts.sum(axis=0), sizes, draw)
    result = np.full(len(weights), -1, dtype=np.intp)
    while (result < 0).any():
        label, having = _rarest(counts, np.flatnonzero(result < 0))
        for group in having[np.argsort(-weights[having], kind="stable")]:
            result[group] = table.seat(label, int(weights[group]), counts[group])
    return np.asarray(result[rows_group])


class _Table:
    """What each part still lacks: rows, and rows of every label."""

    def __init__(self, positives: NDArray[np.intp], sizes: Sequence[int], draw: np.random.Generator) -> None:
        self._room = list(sizes)
        self._lacks = np.outer(np.asarray(sizes) / sum(sizes), positives)
        self._draw = draw

    def seat(self, label: int | None, weight: int, counts: NDArray[np.intp]) -> int:
        """The part for a group that has `label`: of those with room the one that lacks it most, then most rows."""
        parts = range(len(self._room))
        fitting = [part for part in parts if self._room[part] >= weight] or [int(np.argmax(self._room))]
        lacks = self._room if label is None else self._lacks[:, label].tolist()
        best = max((lacks[part], self._room[part]) for part in fitting)
        alike = [part for part in fitting if (lacks[part], self._room[part]) == best]
        part = alike[0] if len(alike) == 1 else int(self._draw.choice(alike))
        self._room[part] -= weight
        self._lacks[part] -= counts
        return part


def _rarest(counts: NDArray[np.intp], left: Numbers) -> tuple[int | None, Numbers]:
    """The label with the fewest rows in the groups that are left, and those that have it; None and all if none has."""
    totals = counts[left].sum(axis=0)
    if not totals.any():
        return None, left
    label = int(np.argmin(np.where(totals > 0, totals, np.iinfo(np.intp).max)))
    return label, left[counts[left, label] > 0]


def _split(data: Dataset, seed: int) -> Dataset:
    if len(data) < FEWEST_TO_SPLIT:
        raise DataError(
            f"{len(data)} rows are too few to be split at random; {FEWEST_TO_SPLIT} are the least. "
            "Add rows, or a split column with train and validation."
        )
    groups, tenth = find_copies(data.texts).near, len(data) // 10
    parts = stratify(data.targets == 1, groups, (len(data) - 2 * tenth, tenth, tenth), seed=seed)
    split = tuple(PARTS[part] for part in parts)
    if set(split) != set(PARTS):
        raise DataError(
            f"the {len(data)} texts are copies, or nearly, of {len(np.unique(groups))} only, and copies stay on one "
            "side: that is too few to be split. Add other texts, or a split column with train and validation."
        )
    return replace(data, split=split)
