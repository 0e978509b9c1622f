"""Probes: a few texts with PyTorch's answers, by which a graph shows anywhere that it is the one that was made."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.manifest import Probe

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 1e-1}
"""How far a probability may lie from PyTorch's: wide enough for another machine's rounding, and for what a precision
costs (measured per bundle in its certificate), far below what a wrong tokenizer or shuffled labels do."""


def wrong_answer(probes: Sequence[Probe], labels: Sequence[str], found: NDArray[np.float32], precision: str) -> str:
    """The answer that is the furthest off, if one is too far, as a sentence without its subject; else "".

    Args:
        probes: The texts with what PyTorch says of them.
        labels: In column order.
        found: What a graph says of them, shape `(len(probes), n_labels)`.
        precision: Of the graph.
    """
    expected = np.array([[probe.probabilities[label] for label in labels] for probe in probes])
    difference = np.nan_to_num(np.abs(found - expected), nan=np.inf)
    if not (difference > TOLERANCE[precision]).any():
        return ""
    row, column = divmod(int(np.argmax(difference)), len(labels))
    return (
        f"gives {found[row, column]:.4f} for {labels[column]!r} where PyTorch gave {expected[row, column]:.4f} (text "
        f"{probes[row].text[:40]!r}), and {TOLERANCE[precision]:g} is allowed"
    )
