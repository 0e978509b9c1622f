"""Splits: train, validation and test by iterative stratification, and the hold-out split for guarantees.

Near-duplicates stay in one split, and every label has the same share in each split as far as its rows allow.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError, InputError
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.leakage import drop_leaked_rows, find_leaks, warn_about_leaks
from manylabel_train.data.near_duplicates import find_near_duplicates
from manylabel_train.thresholds.learn_then_test import min_sample_size
from manylabel_train.thresholds.objectives import Objectives

SPLITS = ("train", "validation", "test")
MIN_ROWS = 10

GUARANTEE_SPLIT = "aside"
"""Texts that are held out to test guarantees on: neither trained on nor used for any other choice."""

Numbers = NDArray[np.intp]


def prepare_splits(data: Dataset, *, seed: int, drop_leaked: bool = False) -> tuple[Dataset, dict[str, Any]]:
    """Assign every row a split, and report leakage. Warns about near-duplicates across given splits.

    Args:
        data: Labelled texts.
        seed: Seed of splits that are made here.
        drop_leaked: Leave rows out of training that are near-duplicates of validation or test rows.

    Returns:
        The data with splits, and the `splits` section of `run.json`: how they were made (`"made"`), each label's share
        of positives by split (`"shares"`), near-duplicates across splits (`"leaks"`), and how many rows were left out
        of training (`"dropped"`).

    Raises:
        DataError: Only some rows have a split, or there are no rows for training or for validation.
    """
    given = any(data.split)
    data, before = assign_splits(data, seed=seed), len(data)
    duplicates = find_near_duplicates(data.texts) if given else None
    leaks = find_leaks(data, duplicates) if duplicates else {}
    if duplicates and drop_leaked:
        data = assign_splits(drop_leaked_rows(data, duplicates), seed=seed)
    warn_about_leaks(data, leaks, dropped=drop_leaked)
    made = "given" if given else "iterative stratification of groups of near-duplicates"
    return data, {"made": made, "shares": label_frequencies(data), "leaks": leaks, "dropped": before - len(data)}


def assign_splits(data: Dataset, *, seed: int) -> Dataset:
    """Keep the splits that the data has, else assign 80 % train, 10 % validation and 10 % test, stratified.

    Raises:
        DataError: Only some rows have a split, or there are no rows for training or for validation.

    Example:
        >>> texts = [f"{word} review" for word in "one two three four five six seven eight nine ten".split()]
        >>> data = Dataset.from_matrix(texts, [[row % 2] for row in range(10)], ["odd"])
        >>> split = assign_splits(data, seed=0).split
        >>> [split.count(name) for name in SPLITS]
        [8, 1, 1]
    """
    unnamed = data.split.count("")
    if unnamed == len(data):
        return _split_randomly(data, seed)
    if unnamed:
        raise DataError(
            f"{unnamed} of {len(data)} rows have no split. "
            "Fill the split column with train, validation and test, or leave it out."
        )
    for name in ("train", "validation"):
        if name not in data.split:
            raise DataError(
                f"the data has no {name} rows. Mark some rows as {name} in the split column, or leave it out."
            )
    return data


def label_frequencies(data: Dataset) -> dict[str, dict[str, float]]:
    """Return for each label and split the share of positives among the rows where the label is known.

    Example:
        >>> split = ["train", "train", "validation"]
        >>> label_frequencies(Dataset.from_matrix(["a", "b", "c"], [[1], [0], [1]], ["speed"], split=split))
        {'speed': {'train': 0.5, 'validation': 1.0}}
    """
    result: dict[str, dict[str, float]] = {label: {} for label in data.labels}
    for name in SPLITS:
        if name not in data.split:
            continue
        targets = data.part(name).targets
        known = np.maximum((~np.isnan(targets)).sum(axis=0), 1)
        for label, share in zip(data.labels, (targets == 1).sum(axis=0) / known, strict=True):
            result[label][name] = round(float(share), 6)
    return result


def stratify(
    positives: NDArray[np.bool_], groups: NDArray[np.intp], sizes: Sequence[int], *, seed: int
) -> NDArray[np.intp]:
    """Divide rows into parts of given sizes so that every part gets its share of every label.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1): the label with the fewest remaining
    rows goes first, and each of its rows goes to the part that lacks the label most. Beyond the paper, a group of rows
    stays together, large groups go before small ones, and no part takes a group that exceeds its remaining size while
    another has room. A label of one or two rows goes to the largest part; rows without labels fill up at the end.

    Args:
        positives: Which rows have which labels, shape `(n, n_labels)`.
        groups: A number for each row; rows with the same number stay together, shape `(n,)`.
        sizes: How many rows each part is to have; they add up to `n`.
        seed: Determines the order of rows, and the choice between equally suitable parts.

    Returns:
        Each row's part, shape `(n,)`.

    Example:
        >>> import numpy as np
        >>> positives = np.array([[True], [True], [False], [False]])
        >>> parts = stratify(positives, np.arange(4), sizes=(2, 2), seed=0)
        >>> np.bincount(parts[positives[:, 0]]).tolist(), np.bincount(parts).tolist()
        ([1, 1], [2, 2])
    """
    rng = np.random.default_rng(seed)
    _, group_of_row = np.unique(groups, return_inverse=True)
    group_of_row = rng.permutation(int(group_of_row.max()) + 1)[group_of_row]
    weights = np.bincount(group_of_row)
    counts = np.zeros((len(weights), positives.shape[1]), dtype=np.intp)
    np.add.at(counts, group_of_row, positives)
    allocator = _Allocator(counts.sum(axis=0), sizes, rng)
    result = np.full(len(weights), -1, dtype=np.intp)
    while (result < 0).any():
        label, members = _find_rarest_label(counts, np.flatnonzero(result < 0))
        for group in members[np.argsort(-weights[members], kind="stable")]:
            result[group] = allocator.allocate(label, int(weights[group]), counts[group])
    return np.asarray(result[group_of_row])


def hold_out_for_guarantees(data: Dataset, objectives: Objectives) -> Dataset:
    """Move half of the validation rows, drawn at random, to a hold-out split if an objective needs a guarantee.

    Drawn at random and not stratified, because the guarantee is about random draws.

    Args:
        data: Rows with splits.
        objectives: What thresholds are for.

    Returns:
        The same rows in the same order.

    Raises:
        UnknownLabel: An objective is for a label that the data lacks.
        InputError: The held-out rows have too few texts with a label for its guarantee.
    """
    if not objectives.need_guarantee:
        return data
    rows = np.random.default_rng(0).permutation([row for row, name in enumerate(data.split) if name == "validation"])
    held_out = set(rows[: (len(rows) + 1) // 2].tolist())
    split = tuple(GUARANTEE_SPLIT if row in held_out else name for row, name in enumerate(data.split))
    data = replace(data, split=split)
    check_holdout_size(data.part(GUARANTEE_SPLIT), objectives)
    return data


def check_holdout_size(holdout: Dataset, objectives: Objectives) -> None:
    """Reject guarantees that no scores could satisfy, before any time is spent.

    Raises:
        UnknownLabel: An objective is for a label that the data lacks.
        InputError: There are too few texts with a label.
    """
    short = []
    by_label = objectives.for_labels(holdout.labels)
    for label, objective, target in zip(holdout.labels, by_label, holdout.targets.T, strict=True):
        if not objective.confidence:
            continue
        positives, needed = int((target == 1).sum()), min_sample_size(objective.value, objective.confidence)
        if positives < needed:
            most = (1 - objective.confidence) ** (1 / positives) if positives else 0.0
            short.append(f"{label!r} ({objective}) needs {needed} and has {positives}, enough for {most:.2f} at most")
    if short:
        raise InputError(
            f"too few of the {len(holdout):,} held-out texts have the label for its guarantee: {'; '.join(short)}. "
            "Half of the validation texts are held out: add validation texts, ask for less, or limit the guarantee to "
            "labels that have enough: LABEL=number."
        )


class _Allocator:
    """Assigns groups of rows to parts, and tracks what each part still lacks: rows, and rows of every label."""

    def __init__(self, positives: NDArray[np.intp], sizes: Sequence[int], rng: np.random.Generator) -> None:
        self._room = list(sizes)
        self._lacks = np.outer(np.asarray(sizes) / sum(sizes), positives)
        self._rng = rng

    def allocate(self, label: int | None, weight: int, counts: NDArray[np.intp]) -> int:
        """Return the part for a group with `label`: of those with room, the one that lacks it most, then most rows."""
        parts = range(len(self._room))
        fitting = [part for part in parts if self._room[part] >= weight] or [int(np.argmax(self._room))]
        lacks = self._room if label is None else self._lacks[:, label].tolist()
        best = max((lacks[part], self._room[part]) for part in fitting)
        tied = [part for part in fitting if (lacks[part], self._room[part]) == best]
        part = tied[0] if len(tied) == 1 else int(self._rng.choice(tied))
        self._room[part] -= weight
        self._lacks[part] -= counts
        return part


def _find_rarest_label(counts: NDArray[np.intp], left: Numbers) -> tuple[int | None, Numbers]:
    """Return the label with the fewest rows in the remaining groups, and its groups; None and all without labels."""
    totals = counts[left].sum(axis=0)
    if not totals.any():
        return None, left
    label = int(np.argmin(np.where(totals > 0, totals, np.iinfo(np.intp).max)))
    return label, left[counts[left, label] > 0]


def _split_randomly(data: Dataset, seed: int) -> Dataset:
    if len(data) < MIN_ROWS:
        raise DataError(
            f"{len(data)} rows are too few for a random split, which needs at least {MIN_ROWS}. "
            "Add rows, or a split column with train and validation."
        )
    groups, tenth = find_near_duplicates(data.texts).near, len(data) // 10
    parts = stratify(data.targets == 1, groups, (len(data) - 2 * tenth, tenth, tenth), seed=seed)
    split = tuple(SPLITS[part] for part in parts)
    if set(split) != set(SPLITS):
        raise DataError(
            f"only {len(np.unique(groups))} of the {len(data)} texts are distinct, and near-duplicates stay in one "
            "split: that is too few for a split. Add other texts, or a split column with train and validation."
        )
    return replace(data, split=split)
