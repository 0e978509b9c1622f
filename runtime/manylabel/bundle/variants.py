"""A bundle's graphs: choose the one that runs on a device, and check its answers to the bundle's probes.

Probes are a few texts with the probabilities that PyTorch gave: they show on any machine that a graph, its tokenizer
and its labels belong together.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import Bundle, Variant
from manylabel.bundle.manifest import Probe
from manylabel.errors import InputError
from manylabel.inference.ort_loader import PROVIDERS

Precision = Literal["auto", "fp32", "int8", "fp16"]

PROBE_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 1e-1}
"""Largest accepted difference from PyTorch's probability: wide enough for another machine's rounding and for what a
precision costs (the certificate has the bundle's own figures), far below the effect of a wrong tokenizer or shuffled
labels."""


def choose_variant(bundle: Bundle, device: Literal["cpu", "cuda"], precision: Precision) -> Variant:
    """Return the graph of a precision, or with `"auto"` the fastest for the device.

    Raises:
        InputError: The bundle has no such variant, or it is made for another device.

    Example:
        >>> from manylabel import Bundle
        >>> choose_variant(Bundle.open("bundle"), "cpu", "auto").precision
        'int8'
    """
    suitable = variants_for(bundle, device)
    if precision == "auto" and suitable:
        return suitable[-1]  # the manifest lists the most exact first
    wanted = f"variant for {device}" if precision == "auto" else f"variant {precision!r}"
    if precision not in bundle.variants:
        raise InputError(f"{bundle.path} has no {wanted}; it has {', '.join(bundle.variants)}.")
    variant = bundle.variants[precision]
    if variant not in suitable:
        raise InputError(
            f"{variant.file} is made for {', '.join(variant.providers)}, not for {device}. "
            "Choose another precision or device."
        )
    return variant


def variants_for(bundle: Bundle, device: Literal["cpu", "cuda"]) -> list[Variant]:
    """Return the graphs that are made for a device, the most exact first.

    Example:
        >>> from manylabel import Bundle
        >>> [variant.precision for variant in variants_for(Bundle.open("bundle"), "cpu")]
        ['fp32', 'int8']
    """
    return [variant for variant in bundle.variants.values() if PROVIDERS[device] in variant.providers]


def probe_failure(
    probes: Sequence[Probe], labels: Sequence[str], probabilities: NDArray[np.float32], precision: str
) -> str:
    """Describe the answer to a probe that differs most from PyTorch's, or return "" if all are within the tolerance.

    Args:
        probes: The texts with PyTorch's probabilities.
        labels: The labels in column order.
        probabilities: The graph's, shape `(len(probes), n_labels)`.
        precision: The graph's.

    Returns:
        A sentence without its subject, or "".

    Example:
        >>> import numpy as np
        >>> probes = [Probe("late", {"delivery": 0.9})]
        >>> probe_failure(probes, ["delivery"], np.float32([[0.9]]), "fp32")
        ''
        >>> probe_failure(probes, ["delivery"], np.float32([[0.5]]), "fp32")
        "gives 0.5000 for 'delivery' where PyTorch gave 0.9000 (text 'late'); the tolerance is 0.001"
    """
    expected = np.array([[probe.probabilities[label] for label in labels] for probe in probes])
    difference = np.nan_to_num(np.abs(probabilities - expected), nan=np.inf)
    if not (difference > PROBE_TOLERANCE[precision]).any():
        return ""
    row, column = divmod(int(np.argmax(difference)), len(labels))
    return (
        f"gives {probabilities[row, column]:.4f} for {labels[column]!r} where PyTorch gave "
        f"{expected[row, column]:.4f} (text {probes[row].text[:40]!r}); the tolerance is {PROBE_TOLERANCE[precision]:g}"
    )
