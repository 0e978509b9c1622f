"""How the rows of an activation become bytes, so that no row can change another's rounding.

    q = round(x / e / s) + zero    s: a row's scale, found while running; e: a constant for every channel, or 1

Every row (one token) has its own scale, so nothing saturates, whatever the text. Where real texts are at hand, each
channel is first divided by a constant that makes channels alike wide, and weights are multiplied by it (SmoothQuant,
Xiao et al. 2023, eq. 4): after a normalisation one channel dominates in the rows of [CLS] and [SEP], and would set
the step of all others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manylabel_export.graph.ir.editor import Editor
from manylabel_export.graph.quantization.calibration_stats import Moments

MIGRATED = 0.8  # SmoothQuant's alpha: how much of a channel's width goes from the activation into the weights


@dataclass(frozen=True)
class Bytes:
    """A quantised activation: the names of its tensors.

    Attributes:
        values: The bytes, `(..., width)`.
        zero: The byte that stands for 0.0, a scalar.
        scale: What a byte is worth in each row, `(..., 1)`.
    """

    values: str
    zero: str
    scale: str


class Quantiser(Protocol):
    """A way for rows to become bytes."""

    def quantise(self, editor: Editor, activation: str, width: int) -> Bytes:
        """Adds the nodes that quantise an activation `(..., width)`."""
        ...

    def widths(self, width: int) -> NDArray[np.float32]:
        """What each channel is divided by and the weights' rows multiplied by, `(width,)`."""
        ...

    def noise(self, moments: Moments) -> float:
        """The variance that rounding adds to a quantised channel."""
        ...


@dataclass(frozen=True)
class RowWise:
    """A row is divided by its scale, which is its peak / `steps`.

    It is one `QuantizeLinear` whose block is the row (opset 21). That gives the same bytes as `Div` and a
    `QuantizeLinear` with one scale, in a third to a half of the time: 31 against 90 us for 256 rows of 1,536
    and 15 against 27 us for 384 (one core of Zen 5, ONNX Runtime 1.32); a whole run gets 2 to 5 % faster.

    Attributes:
        zero: The byte that stands for 0.0.
        steps: How many bytes lie between `zero` and the peak.
        least_peak: The peak of a row counts as at least this.
        signed: Whether values as low as minus the peak occur. Otherwise none is below `-least_peak * zero / steps`.
        divisors: What every channel is divided by first, `(width,)`, or None.
    """

    zero: int
    steps: int
    least_peak: float
    signed: bool
    divisors: NDArray[np.float32] | None = None

    def evened(self, moments: Moments, weights: NDArray[np.float32]) -> RowWise:
        """The same, once channels are made alike wide.

        Args:
            moments: Of the activation.
            weights: Of all products that read it, side by side, `(width, outputs)`.
        """
        return replace(self, divisors=even(moments, weights))

    def quantise(self, editor: Editor, activation: str, width: int) -> Bytes:
        """Adds the nodes that quantise an activation `(..., width)`."""
        if self.divisors is not None:
            factors = editor.add_constant((1 / self.divisors).astype(np.float32), "evening")
            activation = editor.add("Mul", [activation, factors], "even")
        scale = self._row_scale(editor, activation)
        zero = editor.add_constant(np.uint8(self.zero), "zero")
        # the zero points must have the shape of the scales
        zeros = editor.add("Expand", [zero, editor.add("Shape", [scale], "scale_shape")], "zeros")
        inputs = [activation, scale, zeros]
        values = editor.add("QuantizeLinear", inputs, "quantised", axis=-1, block_size=width)
        return Bytes(values, zero, scale)

    def widths(self, width: int) -> NDArray[np.float32]:
        """The divisors of the channels."""
        return np.ones(width, np.float32) if self.divisors is None else self.divisors

    def noise(self, moments: Moments) -> float:
        """The variance that rounding adds to a quantised channel, at most."""
        peak = moments.peaks / moments.rows
        if self.divisors is not None:
            peak = float((np.maximum(moments.high, -moments.low) / self.divisors).max()) ** 2
        return peak / self.steps**2 / 12

    def _row_scale(self, editor: Editor, activation: str) -> str:
        values = editor.add("Abs", [activation], "absolute") if self.signed else activation
        last = editor.add_constant(np.array([-1], np.int64), "last_axis")
        peak = editor.add("ReduceMax", [values, last], "row_peak", keepdims=1)
        # Clip, not Max: 0.16 against 1.99 us for 256 rows.
        peak = editor.add("Clip", [peak, editor.add_constant(np.float32(self.least_peak), "least_peak")], "row_peak")
        return editor.add("Mul", [peak, editor.add_constant(np.float32(1 / self.steps), "step")], "row_scale")


# The least peak gives a row of zeros a scale: 0 / 0 would be no number.
SYMMETRIC = RowWise(zero=128, steps=127, least_peak=1e-30, signed=True)

# GELU is never below -0.1700 (-0.1701 in its form by tanh), so 32 bytes are enough for what is negative if a
# step is at least 0.1701 / 32, and a row with a peak above 0.68 gets 223 steps instead of 127. One pass over
# memory less too: no absolute values. On goemotions with MiniLM the mean difference of a probability from
# PyTorch falls from 0.00099 to 0.00087.
AFTER_GELU = RowWise(zero=32, steps=223, least_peak=0.1701 / 32 * 223, signed=False)
GELUS = ("Gelu", "BiasGelu", "FastGelu")


def even(moments: Moments, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divisors that make channels alike wide, as far as the weights that read them allow, shape `(width,)`."""
    reach = np.maximum(moments.high, -moments.low).clip(min=1e-5)
    divisors = reach**MIGRATED / np.abs(weights).max(axis=1).clip(min=1e-5) ** (1 - MIGRATED)
    centred: NDArray[np.float32] = (divisors / np.exp(np.log(divisors).mean())).astype(np.float32)
    return centred
