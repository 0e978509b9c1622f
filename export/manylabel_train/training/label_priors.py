"""Label priors: the share of positives per label where not everything is known, and the loss that fits the data."""

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import quote_names
from manylabel.errors import InputError
from manylabel_train.data.dataset import Dataset
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.losses import KNOWN_ONLY, NEED_LABELS_PER_TEXT, LossName

POSITIVES_ONLY_DEFAULT: LossName = "weak-negative"
"""The default loss where only positives are known: in benchmarks/experiments/losses/single-positive the best by
micro-F1 and average precision over three seeds, and within their spread of the best by macro-F1; it does not need the
mean number of labels of a text."""

MAX_PRIOR = 0.9
"""Upper bound of a prior that is estimated from positives alone."""


def resolve_loss(config: TrainConfig, data: Dataset) -> TrainConfig:
    """Return the configuration with a loss that fits the data, and the mean number of labels if the loss needs it.

    Args:
        config: The configuration; its loss may be `"auto"`.
        data: All rows, with their splits.

    Raises:
        InputError: The loss cannot learn from this data.
    """
    positives_only = not (data.part("train").targets == 0).any() and not data.part("train").complete
    default: LossName = POSITIVES_ONLY_DEFAULT if positives_only else "bce"
    loss = default if config.loss == "auto" else config.loss
    if positives_only and loss in KNOWN_ONLY:
        raise InputError(
            f"the train split has no known negative, so the loss {loss!r} would assign every label to every text. "
            "Leave --loss out, or choose a loss for positives only, such as role."
        )
    needed = loss in NEED_LABELS_PER_TEXT
    expected = config.labels_per_text or (mean_labels_per_text(data) if needed else None)
    if needed and not expected:
        raise InputError(
            f"the loss {loss!r} needs the mean number of labels of a text, and no text of the validation split has "
            "all its labels known. Set it with --labels-per-text."
        )
    return replace(config, loss=loss, labels_per_text=expected)


def mean_labels_per_text(data: Dataset) -> float | None:
    """Return the mean number of labels of the validation texts whose labels are all known; None without such texts.

    Example:
        >>> nan = float("nan")
        >>> data = Dataset.from_matrix(["a", "b"], [[1, 1], [1, nan]], ["x", "y"], split=["validation"] * 2)
        >>> mean_labels_per_text(data)
        2.0
    """
    targets = data.part("validation").targets
    complete = targets[~np.isnan(targets).any(axis=1)]
    return float(complete.sum(axis=1).mean()) if len(complete) else None


def estimate_priors(targets: NDArray[np.float32], loss: str, labels_per_text: float | None) -> NDArray[np.float64]:
    """Estimate each label's share of positives under a loss; the outputs' biases start there.

    It is the share among known entries. Where no entry is known to be absent, it is the share among all entries for
    losses that take the others to be absent, and for losses with an expected number of labels this share times
    `labels_per_text` over the mean number of labels that are noted.

    Args:
        targets: Targets of the training data, shape `(n_rows, n_labels)`.
        loss: The loss's name.
        labels_per_text: Mean number of labels of a text.

    Returns:
        Shape `(n_labels,)`, each above 0 and below 1.

    Example:
        >>> import numpy as np
        >>> estimate_priors(np.array([[1], [0], [np.nan]], dtype=np.float32), "bce", None)
        array([0.5])
    """
    known = ~np.isnan(targets)
    positives = np.nansum(targets, axis=0, dtype=np.float64)
    among_known = (positives + 1) / (known.sum(axis=0) + 2)
    if loss in KNOWN_ONLY:
        return np.asarray(among_known)
    among_all = (positives + 1) / (len(targets) + 2)
    if loss.endswith("negative"):
        return np.asarray(among_all)
    noted = max(positives.sum() / max(len(targets), 1), 1e-9)
    scaled = np.minimum(among_all * (labels_per_text or noted) / noted, MAX_PRIOR)
    return np.asarray(np.where((targets == 0).any(axis=0), among_known, scaled))


def prior_mask(targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the entries whose mean probability is fitted to the prior: known ones; all if a label has no negatives.

    Args:
        targets: Shape `(n_rows, n_labels)`.

    Returns:
        Same shape.
    """
    return np.asarray(~np.isnan(targets) | ~(targets == 0).any(axis=0))


def warn_about_uninformative_labels(data: Dataset, splits: tuple[str, ...]) -> None:
    """Warn about labels that are unknown for every text of a split, that no text has, or that every text has."""
    for name in splits:
        targets = data.part(name).targets
        if not len(targets):
            continue
        unknown = np.asarray(np.isnan(targets).all(axis=0))
        effect = "it cannot be learned." if name == "train" else "its quality cannot be measured there."
        threshold = "its threshold stays 0.5." if name == "validation" else effect
        _warn(data, unknown, f"for every text of the {name} split it is unknown whether it has", threshold)
        without = np.asarray(~unknown & ~(targets == 1).any(axis=0))
        _warn(data, without, f"no text of the {name} split has", effect)
    everywhere = np.asarray((data.part("train").targets == 1).all(axis=0))
    _warn(data, everywhere, "every text of the train split has", "it cannot be learned. Add texts without it.")


def _warn(data: Dataset, which: NDArray[np.bool_], problem: str, effect: str) -> None:
    if which.any():
        names = [label for label, affected in zip(data.labels, which, strict=True) if affected]
        warnings.warn(f"{problem} {quote_names(names)}; {effect}", stacklevel=4)
