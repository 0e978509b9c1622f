"""Logits to probabilities and back, and probabilities with thresholds to labels."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manylabel.errors import InputError, UnknownLabel
from manylabel.system.did_you_mean import suggest_name

Thresholds = float | Mapping[str, float] | Sequence[float] | NDArray[np.floating]
"""One threshold for all labels, one per label in column order, or some by label."""

LOWEST_LOGIT = -700.0
"""Below, exp overflows; the probability is 0 in float32 long before."""


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of logits, in float64 and in their shape.

    The function in scipy.special differs in the last bit. That bit decides how a threshold halfway between two float32
    scores is rounded, so it would change the thresholds of existing runs.

    Example:
        >>> sigmoid([-1000.0, 0.0, 1000.0]).round(3).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.asarray(1 / (1 + np.exp(-np.maximum(np.asarray(logits, dtype=np.float64), LOWEST_LOGIT))))


def logit(probabilities: ArrayLike, *, clip: float = 0.0) -> NDArray[np.float64]:
    """Return the logits (log-odds) of probabilities, in float64 and in their shape.

    Args:
        probabilities: From 0 to 1.
        clip: Probabilities closer to 0 or 1 than this are moved to this distance, so that their logits are finite.

    Example:
        >>> logit([0.5, 1.0], clip=1e-6).round(3).tolist()
        [0.0, 13.816]
    """
    bounded = np.clip(np.asarray(probabilities, dtype=np.float64), clip, 1 - clip)
    return np.asarray(np.log(bounded / (1 - bounded)))


def resolve_thresholds(
    thresholds: Thresholds | None, labels: Sequence[str], default: Sequence[float]
) -> NDArray[np.float32]:
    """Return thresholds in column order from what a user passes.

    Args:
        thresholds: `None` for the defaults, one number for all labels, one per label, or numbers by label (the other
            labels keep their defaults).
        labels: The labels in column order.
        default: The bundle's thresholds in column order.

    Returns:
        Shape `(n_labels,)`.

    Raises:
        UnknownLabel: A name is not among `labels`.
        InputError: A threshold is not a number between 0 and 1, or there are too many or too few.

    Example:
        >>> resolve_thresholds({"price": 0.25}, ["delivery", "price"], [0.5, 0.5]).tolist()
        [0.5, 0.25]
    """
    result = np.array(default, dtype=np.float32)
    if isinstance(thresholds, Mapping):
        for label, threshold in thresholds.items():
            result[column_of(label, labels)] = _check_threshold(threshold)
    elif isinstance(thresholds, Sequence | np.ndarray) and not isinstance(thresholds, str):
        if len(thresholds) != len(labels):
            raise InputError(
                f"{len(thresholds)} thresholds were given for {len(labels)} labels. "
                "Give one per label, or name them: {label: threshold}."
            )
        result[:] = [_check_threshold(threshold) for threshold in thresholds]
    elif thresholds is not None:
        result[:] = _check_threshold(thresholds)
    return result


def _check_threshold(threshold: object) -> float:
    if isinstance(threshold, Real) and 0 <= float(threshold) <= 1:  # rejects NaN
        return float(threshold)
    raise InputError(f"a threshold is a probability between 0 and 1; found {repr(threshold)[:40]}.")


def column_of(label: str, labels: Sequence[str]) -> int:
    """Return a label's column.

    Raises:
        UnknownLabel: There is no such label.

    Example:
        >>> column_of("price", ["delivery", "price"])
        1
        >>> column_of("prize", ["delivery", "price"])
        Traceback (most recent call last):
        manylabel.errors.UnknownLabel: there is no label 'prize'. Did you mean 'price'?
    """
    if label in labels:
        return labels.index(label)
    close = suggest_name(str(label), labels)
    hint = f"Did you mean {close!r}?" if close else f"The labels are {', '.join(labels)}."
    raise UnknownLabel(f"there is no label {label!r}. {hint}")


def decide(probabilities: NDArray[np.float32], thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Return which labels apply: those whose probability is at least the threshold.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.

    Returns:
        Shape `(n_texts, n_labels)`.

    Example:
        >>> decide(np.float32([[0.7, 0.3]]), [0.5, 0.4]).tolist()
        [[True, False]]
    """
    return np.asarray(probabilities >= np.asarray(thresholds, dtype=np.float32))


def rank_labels(
    row: NDArray[np.float32], thresholds: NDArray[np.float32], labels: Sequence[str], top_k: int | None = None
) -> tuple[list[str], dict[str, float]]:
    """Return the labels that apply to one text, and its scores, both the most probable first.

    Args:
        row: The text's probabilities, shape `(n_labels,)`.
        thresholds: Shape `(n_labels,)`.
        labels: The labels in column order.
        top_k: Keep at most this many scores; all labels that apply are returned in any case.

    Example:
        >>> rank_labels(np.float32([0.25, 0.75]), np.float32([0.5, 0.5]), ["delivery", "price"], top_k=1)
        (['price'], {'price': 0.75})
    """
    order = np.argsort(-row, kind="stable")
    applies = decide(row, thresholds)
    return [labels[column] for column in order if applies[column]], {
        labels[column]: float(row[column]) for column in order[:top_k]
    }
