"""An endpoint's scores beside the right ones: what they are, where they differ, and which decisions that turns.

The right ones are those that PyTorch gave for the bundle's probes. A server that takes a multi-label model for a
multi-class one gives what can be computed from them, and so be recognised: a softmax over the logits, for one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Bundle

Scores = NDArray[np.float64]

TOLERANCE = 0.1
"""Within which scores count as the same: what `Classifier.check_probes` grants int8."""

SURE = 1e-7
"""Probabilities are kept this far from 0 and 1 before the logit is taken: float32 has no number nearer to 1."""


@dataclass(frozen=True)
class Kind:
    """What an endpoint's scores may be.

    Attributes:
        says: What they are, as the rest of "the scores are ...".
        next: What to do; empty for the right ones.
        off: How far scores are from being of this kind, of right and found scores, each of shape
            `(n_texts, n_labels)`.
    """

    says: str
    next: str
    off: Callable[[Scores, Scores], Scores]


def _logits(probabilities: Scores) -> Scores:
    clipped = np.clip(probabilities, SURE, 1 - SURE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(logits: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -100, 100))))


def _softmax(logits: Scores) -> Scores:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


KINDS: Mapping[str, Kind] = {
    "right": Kind("right", "", lambda right, found: found - right),
    "softmax": Kind(
        "a softmax over the logits of a multi-label model: labels compete, and a text with several has none clearly",
        "manylabel serve BUNDLE, which speaks the same protocol and gives each label its own probability",
        lambda right, found: found - _softmax(_logits(right)),
    ),
    "logits": Kind(
        "logits, not probabilities",
        "take the sigmoid of each, 1 / (1 + exp(-x))",
        lambda right, found: _sigmoid(found) - right,
    ),
    "twice": Kind(
        "a sigmoid of probabilities: it was applied twice, so that no score is below 0.5",
        "have the server apply nothing: the bundle's graph has the sigmoid inside",
        lambda right, found: found - _sigmoid(right),
    ),
}


@dataclass(frozen=True)
class Comparison:
    """An endpoint's scores beside the right ones.

    Attributes:
        kind: A name of `KINDS`, or `"unknown"`.
        greatest: The greatest difference from the right scores.
        mean: The mean difference.
        decisions: How many decisions, a label of a text each, there are.
        turned: Those that come out otherwise by the bundle's thresholds, the greatest differences first.
    """

    kind: str
    greatest: float
    mean: float
    decisions: int
    turned: Sequence[Mapping[str, Any]]


def right_scores(bundle: Bundle) -> Scores:
    """What PyTorch gave for the bundle's probes, shape `(n_probes, n_labels)`."""
    return np.array([[probe.probabilities[label] for label in bundle.labels] for probe in bundle.manifest.probes])


def compare(bundle: Bundle, found: Scores) -> Comparison:
    """Hold an endpoint's scores of the bundle's probes against the right ones.

    Args:
        bundle: The bundle; decisions are those of its most exact variant.
        found: Shape `(n_probes, n_labels)`.
    """
    right = right_scores(bundle)
    thresholds = np.array(bundle.manifest.variants[0].thresholds)
    rows, columns = np.nonzero((right >= thresholds) != (found >= thresholds))
    off = np.abs(found - right)
    order = np.argsort(-off[rows, columns], kind="stable")
    return Comparison(
        kind=recognise(right, found),
        greatest=float(off.max()),
        mean=float(off.mean()),
        decisions=found.size,
        turned=[
            {
                "text": bundle.manifest.probes[row].text,
                "label": bundle.labels[column],
                "right": float(right[row, column]),
                "found": float(found[row, column]),
                "threshold": float(thresholds[column]),
            }
            for row, column in zip(rows[order], columns[order], strict=True)
        ],
    )


def recognise(right: Scores, found: Scores) -> str:
    """What scores are: the kind that they are nearest to, if that is near enough, or `"unknown"`.

    Args:
        right: Probabilities, shape `(n_texts, n_labels)`.
        found: What an endpoint gave, of the same shape.
    """
    off = {name: np.abs(kind.off(right, found)) for name, kind in KINDS.items()}
    nearest = min(off, key=lambda name: float(off[name].mean()))
    return nearest if off[nearest].max() <= TOLERANCE else "unknown"
