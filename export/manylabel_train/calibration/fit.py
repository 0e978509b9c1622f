"""Calibration of scores and of models: which labels are scaled and shifted, decided on held-out folds.

A label's logit is scaled and shifted (Platt 1999), or all logits are divided by one temperature (Guo et al. 2017,
section 4.2). Both are linear in the logit, so they are folded into the last linear layer: the checkpoint that is saved
and every graph exported from it output calibrated probabilities. A scale is above 0, so texts keep their order within a
label, and a long text's maximum stays that of the same window.

As with thresholds, held-out folds decide: which labels get a scale and shift, how far these are shrunk toward no change
where a label has few positives, and whether there is a temperature. Platt scaling is the better of the two in
benchmarks/experiments/calibration (goemotions and mobasa).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.calibration.platt import (
    fit_platt_scaling,
    fit_temperature,
    log_loss,
    to_logits,
    to_probabilities,
)
from manylabel_train.data.dataset import Dataset
from manylabel_train.evaluation.metrics import CALIBRATION_BINS, calibration_errors
from manylabel_train.models.checkpoint import predict_proba
from manylabel_train.models.classification_head import output_layer

CalibrationMethod = Literal["platt", "temperature", "none"]

SHRINKAGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Positives at which a label's own scale and shift weigh as much as no change."""
FOLDS, REPEATS = 5, 2
MIN_GAIN = 1.5
"""Standard errors by which held-out log-loss must fall, as F1 must rise for a label's threshold."""
MIN_SCALE = 0.1
"""A label with a smaller scale has scores without information: it is left as it is, and never inverted."""

Scores = NDArray[np.float32]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A scale above 0 and a shift for the logit of every label.

    Attributes:
        scale: Shape `(n_labels,)`.
        shift: Shape `(n_labels,)`.

    Example:
        >>> import numpy as np
        >>> calibration = Calibration(np.array([1.0, 0.5]), np.array([0.0, 0.0]))
        >>> calibration.changed
        array([False,  True])
        >>> calibration.apply(np.array([[0.9, 0.9]], dtype=np.float32)).round(2)
        array([[0.9 , 0.75]], dtype=float32)
    """

    scale: Numbers
    shift: Numbers

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which labels the calibration changes, shape `(n_labels,)`."""
        return np.asarray((self.scale != 1) | (self.shift != 0))

    def apply(self, probabilities: Scores) -> Scores:
        """Return calibrated probabilities, shape `(n_texts, n_labels)`."""
        return to_probabilities(self.scale * to_logits(probabilities) + self.shift)

    def undo(self, probabilities: Scores) -> Scores:
        """Return the probabilities that `apply` calibrated, shape `(n_texts, n_labels)`."""
        return to_probabilities((to_logits(probabilities) - self.shift) / self.scale)

    def fold(self, layer: nn.Linear) -> None:
        """Fold scale and shift into the layer that computes the logits, in place.

        Args:
            layer: Has `n_labels` outputs, and biases.
        """
        with torch.no_grad():
            scale = torch.from_numpy(self.scale).to(layer.weight.device)
            shift = torch.from_numpy(self.shift).to(layer.weight.device)
            layer.weight.copy_(scale[:, None] * layer.weight.double())
            layer.bias.copy_(scale * layer.bias.double() + shift)

    def as_dict(self, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return scale and shift of the labels that are changed, as JSON content."""
        columns = zip(labels, self.scale.tolist(), self.shift.tolist(), self.changed.tolist(), strict=True)
        return {label: {"scale": scale, "shift": shift} for label, scale, shift, changed in columns if changed}


@dataclass(frozen=True)
class CalibrationResult:
    """The scores of a calibrated model.

    Attributes:
        scores: By split, each of shape `(n_texts, n_labels)`.
        details: Method, scales and shifts, and calibration error by split, as a run and a bundle store them.
    """

    scores: Mapping[str, Scores]
    details: Mapping[str, Any]


def calibrate_model(
    model: PreTrainedModel, tokenizer: Tokenizer, splits: Mapping[str, Dataset], method: CalibrationMethod
) -> CalibrationResult:
    """Calibrate a model in place on the validation split, and score every split with the calibrated model.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer, as the runtime has it.
        splits: Splits that were not trained on, including `"validation"`.
        method: The calibration method.
    """
    validation = splits["validation"]
    raw = predict_proba(model, tokenizer, validation.texts)
    calibration = fit_calibration(raw, validation.targets, method)
    scores = {"validation": raw}
    if calibration.changed.any():
        calibration.fold(output_layer(model))
        scores["validation"] = predict_proba(model, tokenizer, validation.texts)  # of the model that is saved
    for name, rows in splits.items():
        if name not in scores:
            scores[name] = predict_proba(model, tokenizer, rows.texts)
    errors = {
        name: _compare_errors(calibration.undo(scores[name]), scores[name], rows)
        for name, rows in splits.items()
        if name != "validation"
    }
    # on the texts that calibration is fitted on, each text by a calibration that was fitted without it
    held_out = raw if method == "none" else calibrate_held_out(raw, validation.targets, method)
    errors["validation"] = _compare_errors(raw, held_out, validation)
    details = {
        "method": method,
        "labels": calibration.as_dict(validation.labels),
        "bins": CALIBRATION_BINS,
        "error": errors,
    }
    return CalibrationResult(scores, details)


def fit_calibration(probabilities: Scores, targets: Scores, method: CalibrationMethod) -> Calibration:
    """Fit scales and shifts that lower the log-loss on new texts, as measured on held-out folds.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries are ignored.
        method: `"platt"` fits a scale and shift for every label that gains by it, `"temperature"` one scale for all
            labels if they gain by it, and `"none"` changes nothing.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.random((1000, 1)).astype(np.float32)
        >>> targets = (rng.random((1000, 1)) < scores**3).astype(np.float32)  # far too confident
        >>> calibrated = fit_calibration(scores, targets, "platt").apply(scores)
        >>> bool(abs(calibrated.mean() - targets.mean()) < abs(scores.mean() - targets.mean()))
        True
    """
    logits, n_labels = to_logits(probabilities), probabilities.shape[1]
    unchanged = Calibration(np.ones(n_labels), np.zeros(n_labels))
    if method == "none" or len(logits) < 2 * FOLDS:
        return unchanged
    if method == "platt":
        return _fit_per_label(logits, targets)
    if not _temperature_helps(logits, targets):
        return unchanged
    return Calibration(np.full(n_labels, fit_temperature(logits, targets)), np.zeros(n_labels))


def calibrate_held_out(probabilities: Scores, targets: Scores, method: CalibrationMethod) -> Scores:
    """Return every text's probabilities, calibrated by a fit on the other folds.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.
        method: See `fit_calibration`.

    Returns:
        Same shape.
    """
    result = probabilities.copy()
    for fold, rest in _split_folds(len(targets), repeats=1, seed=1):
        result[fold] = fit_calibration(probabilities[rest], targets[rest], method).apply(probabilities[fold])
    return result


def parse_calibration(content: dict[str, dict[str, float]], labels: Sequence[str]) -> Calibration:
    """Parse what `Calibration.as_dict` returned.

    Example:
        >>> parse_calibration({"price": {"scale": 2.0, "shift": 0.5}}, ["price", "speed"]).scale
        array([2., 1.])
    """
    entries = [content.get(label, {"scale": 1.0, "shift": 0.0}) for label in labels]
    scale, shift = (np.array([entry[name] for entry in entries], dtype=np.float64) for name in ("scale", "shift"))
    return Calibration(scale, shift)


def _compare_errors(before: Scores, after: Scores, rows: Dataset) -> dict[str, Any]:
    return {
        "before": calibration_errors(before, rows.targets, rows.labels),
        "after": calibration_errors(after, rows.targets, rows.labels),
    }


def _temperature_helps(logits: Numbers, targets: Scores) -> bool:
    gain = np.zeros((len(logits), 1))
    for rows, rest in _split_folds(len(logits)):
        cooled = fit_temperature(logits[rest], targets[rest]) * logits[rows]
        gain[rows, 0] += (log_loss(logits[rows], targets[rows]) - log_loss(cooled, targets[rows])).sum(axis=1)
    return bool(_exceeds_noise(gain / REPEATS)[0])


def _fit_per_label(logits: Numbers, targets: Scores) -> Calibration:
    """Fit a scale and shift for the labels that gain by it, with the shrinkage that gains most."""
    folds = [(rows, _LabelFits.fit(logits[rest], targets[rest])) for rows, rest in _split_folds(len(logits))]
    fits, before, greatest = _LabelFits.fit(logits, targets), log_loss(logits, targets), 0.0
    result = Calibration(np.ones(logits.shape[1]), np.zeros(logits.shape[1]))
    for shrinkage in SHRINKAGES:
        after = np.zeros_like(logits)
        for rows, fits_of_rest in folds:
            scale, shift = fits_of_rest.shrink(shrinkage)
            after[rows] += log_loss(scale * logits[rows] + shift, targets[rows]) / REPEATS
        scale, shift = fits.shrink(shrinkage)
        changed = _exceeds_noise(before - after) & (scale > MIN_SCALE)
        if (gain := float((before - after)[:, changed].sum())) > greatest:
            greatest, result = gain, Calibration(np.where(changed, scale, 1), np.where(changed, shift, 0))
    return result


@dataclass(frozen=True)
class _LabelFits:
    """Each label's own scale and shift, and the number of positives (or of negatives, if fewer) they are fitted on."""

    scale: Numbers
    shift: Numbers
    support: Numbers

    @classmethod
    def fit(cls, logits: Numbers, targets: Scores) -> "_LabelFits":
        positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
        return cls(*fit_platt_scaling(logits, targets), np.minimum(positives, negatives).astype(np.float64))

    def shrink(self, shrinkage: float) -> tuple[Numbers, Numbers]:
        """Return scale and shift, shrunk toward no change."""
        weight = self.support / np.maximum(self.support + shrinkage, 1)
        return weight * self.scale + (1 - weight), weight * self.shift


def _exceeds_noise(gain: Numbers) -> NDArray[np.bool_]:
    """Return which columns of gains, one row per text, have a sum that exceeds noise."""
    error = np.sqrt(((gain - gain.mean(axis=0)) ** 2).sum(axis=0))
    return np.asarray(gain.sum(axis=0) > np.maximum(MIN_GAIN * error, 0))


def _split_folds(
    n: int, *, repeats: int = REPEATS, seed: int = 0
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield held-out rows, each time with all others."""
    rng = np.random.default_rng(seed)  # the same scores give the same calibration
    for _ in range(repeats):
        for rows in np.array_split(rng.permutation(n), FOLDS):
            yield rows, np.setdiff1d(np.arange(n), rows)
