"""Activations to uint8 with one scale per row, so that no row changes the rounding of another.

    q = round(x / c / s) + zero    s: the scale of a row, computed at run time; c: a constant for each channel, or 1

Every row (one token) has its own scale, so nothing saturates, whatever the text. With calibration texts, each channel
is first divided by a constant that gives channels a similar range, and the weights are multiplied by it (SmoothQuant,
Xiao et al. 2023, eq. 4): after a normalisation one channel dominates the rows of [CLS] and [SEP] and would determine
the step of all others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manylabel_export.graph.analysis.calibration_stats import CalibrationStats
from manylabel_export.graph.ir.editor import GraphEditor

SMOOTHING = 0.8  # SmoothQuant's alpha: how much of a channel's range moves from the activation into the weights


@dataclass(frozen=True)
class QuantisedActivation:
    """The tensor names of a quantised activation.

    Attributes:
        values: uint8 `(..., width)`.
        zero: The uint8 value that stands for 0.0, a scalar.
        scale: The step of each row, `(..., 1)`.
    """

    values: str
    zero: str
    scale: str


class ActivationQuantiser(Protocol):
    """A way to quantise activations."""

    def quantise(self, editor: GraphEditor, activation: str, width: int) -> QuantisedActivation:
        """Add the nodes that quantise an activation `(..., width)`."""
        ...

    def channel_divisors(self, width: int) -> NDArray[np.float32]:
        """Return what each channel is divided by, and the rows of the weights multiplied by, shape `(width,)`."""
        ...

    def rounding_variance(self, stats: CalibrationStats) -> float:
        """Return the variance that rounding adds to a channel."""
        ...


@dataclass(frozen=True)
class RowQuantiser:
    """Quantise each row by its own scale, its peak / `steps`.

    The graph uses one `QuantizeLinear` whose block is the row (opset 21). It gives the same bytes as `Div` and a
    `QuantizeLinear` with one scale in a third to a half of the time: 31 instead of 90 us for 256 rows of 1,536,
    and 15 instead of 27 us for 384 (one core of Zen 5, ONNX Runtime 1.32); a whole run is 2 to 5 % faster.

    Attributes:
        zero: The uint8 value that stands for 0.0.
        steps: The number of steps between `zero` and the peak.
        least_peak: A lower bound for the peak of a row.
        signed: Whether values down to minus the peak occur. Otherwise none is below `-least_peak * zero / steps`.
        divisors: What every channel is divided by first, `(width,)`, or None.
    """

    zero: int
    steps: int
    least_peak: float
    signed: bool
    divisors: NDArray[np.float32] | None = None

    def smoothed(self, stats: CalibrationStats, weights: NDArray[np.float32]) -> RowQuantiser:
        """Return the quantiser with divisors that give channels a similar range.

        Args:
            stats: The statistics of the activation.
            weights: The weights of all layers that read it, side by side, `(width, outputs)`.
        """
        return replace(self, divisors=smoothing_divisors(stats, weights))

    def quantise(self, editor: GraphEditor, activation: str, width: int) -> QuantisedActivation:
        """Add the nodes that quantise an activation `(..., width)`."""
        if self.divisors is not None:
            factors = editor.add_constant((1 / self.divisors).astype(np.float32), "evening")
            activation = editor.add_node("Mul", [activation, factors], "even")
        scale = self._row_scale(editor, activation)
        zero = editor.add_constant(np.uint8(self.zero), "zero")
        # the zero points must have the shape of the scales
        zeros = editor.add_node("Expand", [zero, editor.add_node("Shape", [scale], "scale_shape")], "zeros")
        inputs = [activation, scale, zeros]
        values = editor.add_node("QuantizeLinear", inputs, "quantised", axis=-1, block_size=width)
        return QuantisedActivation(values, zero, scale)

    def channel_divisors(self, width: int) -> NDArray[np.float32]:
        """Return what each channel is divided by, and the rows of the weights multiplied by, shape `(width,)`."""
        return np.ones(width, np.float32) if self.divisors is None else self.divisors

    def rounding_variance(self, stats: CalibrationStats) -> float:
        """Return an upper bound for the variance that rounding adds to a channel."""
        squared_peak = stats.squared_peaks / stats.rows
        if self.divisors is not None:
            squared_peak = float((np.maximum(stats.high, -stats.low) / self.divisors).max()) ** 2
        return squared_peak / self.steps**2 / 12

    def _row_scale(self, editor: GraphEditor, activation: str) -> str:
        values = editor.add_node("Abs", [activation], "absolute") if self.signed else activation
        last = editor.add_constant(np.array([-1], np.int64), "last_axis")
        peak = editor.add_node("ReduceMax", [values, last], "row_peak", keepdims=1)
        # Clip, not Max: 0.16 instead of 1.99 us for 256 rows.
        least_peak = editor.add_constant(np.float32(self.least_peak), "least_peak")
        peak = editor.add_node("Clip", [peak, least_peak], "row_peak")
        return editor.add_node("Mul", [peak, editor.add_constant(np.float32(1 / self.steps), "step")], "row_scale")


# The least peak gives a row of zeros a positive scale; 0 / 0 would be NaN.
SYMMETRIC = RowQuantiser(zero=128, steps=127, least_peak=1e-30, signed=True)

# GELU is never below -0.1700 (-0.1701 in its tanh form), so 32 steps suffice for negative values if a step is at least
# 0.1701 / 32, and a row with a peak above 0.68 gets 223 steps instead of 127. It also saves a pass over memory, as no
# absolute values are needed. On GoEmotions with MiniLM the mean difference of a probability from PyTorch's decreases
# from 0.00099 to 0.00087.
AFTER_GELU = RowQuantiser(zero=32, steps=223, least_peak=0.1701 / 32 * 223, signed=False)
GELUS = ("Gelu", "BiasGelu", "FastGelu")


def smoothing_divisors(stats: CalibrationStats, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return divisors that give channels a similar range, as far as the weights allow (SmoothQuant, eq. 4).

    Args:
        stats: The statistics of the activation.
        weights: The weights of all layers that read it, side by side, `(width, outputs)`.

    Returns:
        The divisors, with a geometric mean of 1, shape `(width,)`.
    """
    peaks = np.maximum(stats.high, -stats.low).clip(min=1e-5)
    divisors = peaks**SMOOTHING / np.abs(weights).max(axis=1).clip(min=1e-5) ** (1 - SMOOTHING)
    normalised: NDArray[np.float32] = (divisors / np.exp(np.log(divisors).mean())).astype(np.float32)
    return normalised
