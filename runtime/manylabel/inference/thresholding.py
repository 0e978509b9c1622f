"""Probabilities and thresholds to labels."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manylabel.errors import InputError, UnknownLabel
from manylabel.system.did_you_mean import nearest

Thresholds = float | Mapping[str, float] | Sequence[float] | NDArray[np.floating]


def resolve_thresholds(
    thresholds: Thresholds | None, labels: Sequence[str], default: Sequence[float]
) -> NDArray[np.float32]:
    """Thresholds in column order from what a user passes.

    Args:
        thresholds: `None` for the bundle's own, one number for all, a number a label, or numbers by name (the others
            keep their own).
        labels: The labels in column order.
        default: The bundle's own.

    Returns:
        Shape `(n_labels,)`.

    Raises:
        UnknownLabel: A name is not among `labels`.
        InputError: A threshold is no number between 0 and 1, or there are too many or too few.
    """
    result = np.array(default, dtype=np.float32)
    if isinstance(thresholds, Mapping):
        for label, threshold in thresholds.items():
            result[column_of(label, labels)] = _number(threshold)
    elif isinstance(thresholds, Sequence | np.ndarray) and not isinstance(thresholds, str):
        if len(thresholds) != len(labels):
            raise InputError(
                f"{len(thresholds)} thresholds were given for {len(labels)} labels. "
                "Give one each, or name them: {label: threshold}."
            )
        result[:] = [_number(threshold) for threshold in thresholds]
    elif thresholds is not None:
        result[:] = _number(thresholds)
    return result


def _number(threshold: object) -> float:
    if isinstance(threshold, Real) and 0 <= float(threshold) <= 1:  # NaN is not
        return float(threshold)
    raise InputError(f"a threshold is a probability between 0 and 1; found {repr(threshold)[:40]}.")


def column_of(label: str, labels: Sequence[str]) -> int:
    """A label's column.

    Raises:
        UnknownLabel: It has none.
    """
    if label in labels:
        return labels.index(label)
    close = nearest(str(label), labels)
    hint = f"Did you mean {close!r}?" if close else f"The labels are {', '.join(labels)}."
    raise UnknownLabel(f"there is no label {label!r}. {hint}")


def decide(probabilities: NDArray[np.float32], thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Which labels apply: those whose probability is at least the threshold.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.

    Returns:
        Shape `(n_texts, n_labels)`.
    """
    return np.asarray(probabilities >= np.asarray(thresholds, dtype=np.float32))


def ranked(
    row: NDArray[np.float32], thresholds: NDArray[np.float32], labels: Sequence[str], top_k: int | None = None
) -> tuple[list[str], dict[str, float]]:
    """The labels that apply to one text, and its scores, both by falling probability.

    Args:
        row: Probabilities, shape `(n_labels,)`.
        thresholds: Shape `(n_labels,)`.
        labels: The labels in column order.
        top_k: Keep this many scores at most; the labels that apply are all named all the same.
    """
    order = np.argsort(-row, kind="stable")
    applies = decide(row, thresholds)
    return [labels[column] for column in order if applies[column]], {
        labels[column]: float(row[column]) for column in order[:top_k]
    }
