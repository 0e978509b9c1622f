"""What the training data says of its labels, where it does not say all: priors, labels a text, and the loss to take."""

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import listed
from manylabel.errors import InputError
from manylabel_train.data.dataset import Dataset
from manylabel_train.training.config import Recipe
from manylabel_train.training.losses import COUNTING, KNOWN_ONLY, LossName

FOR_POSITIVES: LossName = "weak-negative"
"""The loss where only positives are known: of those in benchmarks/experiments/losses/single-positive the best by
micro-F1 and average precision over three seeds, and within their spread of the best by macro-F1; it need not know how
many labels a text has."""

GREATEST_PRIOR = 0.9
"""Where a prior is estimated from positives alone."""


def settle(recipe: Recipe, data: Dataset) -> Recipe:
    """Choose the loss where none was, and fill in how many labels a text has.

    Args:
        recipe: How to train; its loss may be `"auto"`.
        data: All rows, with their splits.

    Raises:
        InputError: The loss cannot be learned by on this data.
    """
    only_positives = not (data.part("train").targets == 0).any() and not data.part("train").complete
    default: LossName = FOR_POSITIVES if only_positives else "bce"
    loss = default if recipe.loss == "auto" else recipe.loss
    if only_positives and loss in KNOWN_ONLY:
        raise InputError(
            f"no label is known to be absent from any text of the train split, so that by the loss {loss!r} every text "
            "would get every label. Leave --loss out, or choose one for positives such as role."
        )
    expected = recipe.labels_per_text or (labels_per_text(data) if loss in COUNTING else None)
    if loss in COUNTING and not expected:
        raise InputError(
            f"the loss {loss!r} has to know how many labels a text has on average, and no text of the validation split "
            "has all its labels known. Say it with --labels-per-text."
        )
    return replace(recipe, loss=loss, labels_per_text=expected)


def labels_per_text(data: Dataset) -> float | None:
    """Mean number of labels of the validation texts of which all are known; None where there is no such text."""
    targets = data.part("validation").targets
    whole = targets[~np.isnan(targets).any(axis=1)]
    return float(whole.sum(axis=1).mean()) if len(whole) else None


def priors(targets: NDArray[np.float32], loss: str, labels_per_text: float | None) -> NDArray[np.float64]:
    """Each label's share of positives that a loss tends to, from where the outputs' biases start.

    It is the share among known entries. Where none is known to be absent, it is the share among all entries for the
    losses that take the others to be absent, and for those that count, that share times `labels_per_text` over the
    labels that a text has noted.

    Args:
        targets: Of the training data, shape `(n_rows, n_labels)`.
        loss: The loss's name.
        labels_per_text: Labels that a text has on average.

    Returns:
        Shape `(n_labels,)`, each above 0 and below 1.
    """
    known = ~np.isnan(targets)
    positives = np.nansum(targets, axis=0, dtype=np.float64)
    of_known = (positives + 1) / (known.sum(axis=0) + 2)
    if loss in KNOWN_ONLY:
        return np.asarray(of_known)
    of_all = (positives + 1) / (len(targets) + 2)
    if loss.endswith("negative"):
        return np.asarray(of_all)
    noted = max(positives.sum() / max(len(targets), 1), 1e-9)
    scaled = np.minimum(of_all * (labels_per_text or noted) / noted, GREATEST_PRIOR)
    return np.asarray(np.where((targets == 0).any(axis=0), of_known, scaled))


def shown(targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    """By which rows a label's mean probability is held to its prior: those where it is known; all for positives alone.

    Args:
        targets: Shape `(n_rows, n_labels)`.

    Returns:
        Same shape.
    """
    return np.asarray(~np.isnan(targets) | ~(targets == 0).any(axis=0))


def warn_of_empty_labels(data: Dataset, splits: tuple[str, ...]) -> None:
    """Name the labels without a known positive, those of which nothing is known at all, and those of every text."""
    for name in splits:
        targets = data.part(name).targets
        if not len(targets):
            continue
        unknown = np.asarray(np.isnan(targets).all(axis=0))
        _warn(data, unknown, f"the {name} split says of no text whether it has", _left_at_half(name))
        without = np.asarray(~unknown & ~(targets == 1).any(axis=0))
        _warn(data, without, f"the {name} split has no text with", "nothing can be said of it there.")
    everywhere = np.asarray((data.part("train").targets == 1).all(axis=0))
    _warn(data, everywhere, "every text of the train split has", "nothing can be learned of it. Add texts without it.")


def _left_at_half(split: str) -> str:
    return "its threshold stays 0.5." if split == "validation" else "nothing can be said of it there."


def _warn(data: Dataset, which: NDArray[np.bool_], what: str, so: str) -> None:
    if which.any():
        names = [label for label, one in zip(data.labels, which, strict=True) if one]
        warnings.warn(f"{what} {listed(names)}; {so}", stacklevel=4)
