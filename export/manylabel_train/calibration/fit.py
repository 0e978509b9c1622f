"""Calibration: probabilities that mean what they say, at no cost at run time.

A label's logit is scaled and shifted (Platt 1999), or all logits are divided by one temperature (Guo et al. 2017,
section 4.2). Both are linear in the logit, and so are folded into the last linear layer: the checkpoint that is saved
and every graph made of it give calibrated probabilities by themselves. A scale is above 0, so texts keep their order
within a label, and a long text's maximum over windows stays that of the same window.

As with thresholds, held-out folds decide: which labels get a scale and shift, how far these are drawn toward leaving
the label as it is where it has few positives, and whether there is a temperature. Platt's way is the default by
benchmarks/experiments/calibration/goemotions and calibration-mobasa.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from manylabel_train.calibration.platt import log_loss, logits_of, platt, probabilities_of, temperature_scale

Method = Literal["platt", "temperature", "none"]

SHRINKAGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Positives at which a label's own scale and shift weigh as much as leaving it as it is."""
FOLDS, REPEATS = 5, 2
EVIDENCE = 1.5
"""Standard errors that held-out log-loss has to fall by, as F1 for a label's threshold."""
LEAST_SCALE = 0.1
"""A label whose scores say less than that is left alone, never turned upside down."""

Scores = NDArray[np.float32]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A scale above 0 and a shift for the logit of every label.

    Attributes:
        scale: Shape `(n_labels,)`.
        shift: Shape `(n_labels,)`.
    """

    scale: Numbers
    shift: Numbers

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which labels it does anything to, shape `(n_labels,)`."""
        return np.asarray((self.scale != 1) | (self.shift != 0))

    def apply(self, probabilities: Scores) -> Scores:
        """Calibrated probabilities, shape `(n_texts, n_labels)`."""
        return probabilities_of(self.scale * logits_of(probabilities) + self.shift)

    def undo(self, probabilities: Scores) -> Scores:
        """What calibrated probabilities were before, shape `(n_texts, n_labels)`."""
        return probabilities_of((logits_of(probabilities) - self.shift) / self.scale)

    def fold(self, layer: nn.Linear) -> None:
        """Write scale and shift into the layer that gives the logits, in place.

        Args:
            layer: Has `n_labels` outputs, and biases.
        """
        with torch.no_grad():
            scale = torch.from_numpy(self.scale).to(layer.weight.device)
            shift = torch.from_numpy(self.shift).to(layer.weight.device)
            layer.weight.copy_(scale[:, None] * layer.weight.double())
            layer.bias.copy_(scale * layer.bias.double() + shift)

    def as_dict(self, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Scale and shift of the labels that it does something to, as JSON holds them."""
        columns = zip(labels, self.scale.tolist(), self.shift.tolist(), self.changed.tolist(), strict=True)
        return {label: {"scale": scale, "shift": shift} for label, scale, shift, changed in columns if changed}


def read_calibration(content: dict[str, dict[str, float]], labels: Sequence[str]) -> Calibration:
    """A calibration from what `as_dict` gave."""
    said = [content.get(label, {"scale": 1.0, "shift": 0.0}) for label in labels]
    scale, shift = (np.array([one[name] for one in said], dtype=np.float64) for name in ("scale", "shift"))
    return Calibration(scale, shift)


def fit_calibration(probabilities: Scores, targets: Scores, method: Method) -> Calibration:
    """Scales and shifts that lower the log-loss on texts not seen.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries have no say.
        method: `"platt"` for a scale and shift of every label that gains by its own, `"temperature"` for one scale of
            all labels if they gain by it, `"none"` to leave all as it is.
    """
    logits, n_labels = logits_of(probabilities), probabilities.shape[1]
    as_it_is = Calibration(np.ones(n_labels), np.zeros(n_labels))
    if method == "none" or len(logits) < 2 * FOLDS:
        return as_it_is
    if method == "platt":
        return _by_label(logits, targets)
    if not _temperature_helps(logits, targets):
        return as_it_is
    return Calibration(np.full(n_labels, temperature_scale(logits, targets)), np.zeros(n_labels))


def held_out(probabilities: Scores, targets: Scores, method: Method) -> Scores:
    """Every text's calibrated probabilities, by a calibration that was fitted and decided on without it.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.
        method: See `fit_calibration`.

    Returns:
        Same shape.
    """
    result = probabilities.copy()
    for fold, rest in _folds(len(targets), repeats=1, seed=1):
        result[fold] = fit_calibration(probabilities[rest], targets[rest], method).apply(probabilities[fold])
    return result


def _temperature_helps(logits: Numbers, targets: Scores) -> bool:
    gain = np.zeros((len(logits), 1))
    for rows, rest in _folds(len(logits)):
        cooled = temperature_scale(logits[rest], targets[rest]) * logits[rows]
        gain[rows, 0] += (log_loss(logits[rows], targets[rows]) - log_loss(cooled, targets[rows])).sum(axis=1)
    return bool(_proved(gain / REPEATS)[0])


def _by_label(logits: Numbers, targets: Scores) -> Calibration:
    """Give labels that gain by it a scale and shift, by the shrinkage under which they gain most."""
    folds = [(rows, _Own.fit(logits[rest], targets[rest])) for rows, rest in _folds(len(logits))]
    own, before, greatest = _Own.fit(logits, targets), log_loss(logits, targets), 0.0
    result = Calibration(np.ones(logits.shape[1]), np.zeros(logits.shape[1]))
    for shrinkage in SHRINKAGES:
        after = np.zeros_like(logits)
        for rows, of_rest in folds:
            scale, shift = of_rest.drawn(shrinkage)
            after[rows] += log_loss(scale * logits[rows] + shift, targets[rows]) / REPEATS
        scale, shift = own.drawn(shrinkage)
        moved = _proved(before - after) & (scale > LEAST_SCALE)
        if (gain := float((before - after)[:, moved].sum())) > greatest:
            greatest, result = gain, Calibration(np.where(moved, scale, 1), np.where(moved, shift, 0))
    return result


@dataclass(frozen=True)
class _Own:
    """Each label's own scale and shift, and how many positives (or negatives, if fewer) they come from."""

    scale: Numbers
    shift: Numbers
    evidence: Numbers

    @classmethod
    def fit(cls, logits: Numbers, targets: Scores) -> "_Own":
        positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
        return cls(*platt(logits, targets), np.minimum(positives, negatives).astype(np.float64))

    def drawn(self, shrinkage: float) -> tuple[Numbers, Numbers]:
        """Scale and shift drawn toward leaving the label as it is, in logits."""
        weight = self.evidence / np.maximum(self.evidence + shrinkage, 1)
        return weight * self.scale + (1 - weight), weight * self.shift


def _proved(gain: Numbers) -> NDArray[np.bool_]:
    """Which columns of gains, a row a text, have a sum that is more than noise."""
    error = np.sqrt(((gain - gain.mean(axis=0)) ** 2).sum(axis=0))
    return np.asarray(gain.sum(axis=0) > np.maximum(EVIDENCE * error, 0))


def _folds(n: int, *, repeats: int = REPEATS, seed: int = 0) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows that are held out, and all others."""
    rng = np.random.default_rng(seed)  # the same scores give the same calibration
    for _ in range(repeats):
        for rows in np.array_split(rng.permutation(n), FOLDS):
            yield rows, np.setdiff1d(np.arange(n), rows)
