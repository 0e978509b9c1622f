"""Diagnose an endpoint's activation function: compare its scores with PyTorch's for the bundle's probes.

A server that treats a multi-label model as multi-class returns a softmax over the logits. It can be recognised, as it
can be computed from the right probabilities; so can raw logits, and a sigmoid that is applied twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.variants import PROBE_TOLERANCE
from manylabel.inference.thresholding import logit, sigmoid

Scores = NDArray[np.float64]

LARGEST_DEVIATION = PROBE_TOLERANCE["int8"]
"""Scores within this distance count as equal: the tolerance of the probes for int8."""


@dataclass(frozen=True)
class Activation:
    """A function that an endpoint may have applied to the logits.

    Attributes:
        description: Completes the sentence "The scores are ...".
        next: What to do; empty for the right scores.
        deviation: The distance of an endpoint's scores from what this activation gives. Takes the right and the
            endpoint's scores, each of shape `(n_texts, n_labels)`.
    """

    description: str
    next: str
    deviation: Callable[[Scores, Scores], Scores]


ACTIVATIONS: Mapping[str, Activation] = {
    "right": Activation("right", "", lambda expected, scores: scores - expected),
    "softmax": Activation(
        "a softmax over the logits of a multi-label model: labels compete, and a text with several gets none of them",
        "manylabel serve BUNDLE, which speaks the same protocol and returns an independent probability for each label",
        lambda expected, scores: scores - _softmax(logit(expected, clip=1e-7)),
    ),
    "logits": Activation(
        "logits, not probabilities",
        "apply the sigmoid to each: 1 / (1 + exp(-x))",
        lambda expected, scores: sigmoid(scores) - expected,
    ),
    "twice": Activation(
        "a sigmoid of probabilities: it was applied twice, so that no score is below 0.5",
        "make the server apply no activation: the bundle's graph includes the sigmoid",
        lambda expected, scores: scores - sigmoid(expected),
    ),
}


@dataclass(frozen=True)
class Diagnosis:
    """How an endpoint's scores compare with the right ones.

    Attributes:
        kind: A key of `ACTIVATIONS`, or `"unknown"`.
        greatest: The largest difference from the right scores.
        mean: The mean difference.
        decisions: The number of decisions, one for each label of each text.
        turned: The decisions that differ by the bundle's thresholds, the largest differences first.
    """

    kind: str
    greatest: float
    mean: float
    decisions: int
    turned: Sequence[Mapping[str, Any]]


def diagnose(bundle: Bundle, scores: Scores) -> Diagnosis:
    """Compare an endpoint's scores of the bundle's probes with PyTorch's.

    Args:
        bundle: The bundle; the thresholds are those of its most exact variant.
        scores: Shape `(n_probes, n_labels)`.
    """
    probes, labels = bundle.manifest.probes, bundle.labels
    expected = np.array([[probe.probabilities[label] for label in labels] for probe in probes])
    thresholds = np.array(bundle.manifest.variants[0].thresholds)
    rows, columns = np.nonzero((expected >= thresholds) != (scores >= thresholds))
    difference = np.abs(scores - expected)
    order = np.argsort(-difference[rows, columns], kind="stable")
    return Diagnosis(
        kind=recognise_activation(expected, scores),
        greatest=float(difference.max()),
        mean=float(difference.mean()),
        decisions=scores.size,
        turned=[
            {
                "text": probes[row].text,
                "label": labels[column],
                "right": float(expected[row, column]),
                "found": float(scores[row, column]),
                "threshold": float(thresholds[column]),
            }
            for row, column in zip(rows[order], columns[order], strict=True)
        ],
    )


def recognise_activation(expected: Scores, scores: Scores) -> str:
    """Return the activation that explains the scores best, if it explains them well enough; else `"unknown"`.

    Args:
        expected: The right probabilities, shape `(n_texts, n_labels)`.
        scores: The endpoint's scores, same shape.

    Example:
        >>> expected = np.array([[0.9, 0.8, 0.1]])
        >>> recognise_activation(expected, np.log(expected / (1 - expected)))
        'logits'
    """
    deviations = {name: np.abs(each.deviation(expected, scores)) for name, each in ACTIVATIONS.items()}
    nearest = min(deviations, key=lambda name: float(deviations[name].mean()))
    return nearest if deviations[nearest].max() <= LARGEST_DEVIATION else "unknown"


def _softmax(logits: Scores) -> Scores:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
