"""Calibration statistics: the range and the covariance of a graph's activations on real texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from manylabel_export.graph.analysis.linear_layers import quantisable_layers, split_gemms
from manylabel_export.graph.ir.editor import INPUT_IDS, GraphEditor, copy_model
from manylabel_export.graph.ir.serialization import open_session


@dataclass(frozen=True)
class CalibrationStats:
    """Sums over the rows (tokens) of an activation. Statistics of several batches are added with `+`.

    Attributes:
        rows: The number of rows.
        low: The minimum of each channel, at most 0, shape `(width,)`.
        high: The maximum of each channel, at least 0, shape `(width,)`.
        gram: The sum of `x.T @ x`, shape `(width, width)`.
        squared_peaks: The sum over rows of the squared greatest absolute value.

    >>> stats = CalibrationStats.from_activation(np.array([[1, -2], [3, 4]], np.float32))
    >>> stats.rows, stats.low.tolist(), stats.high.tolist(), stats.squared_peaks
    (2, [0.0, -2.0], [3.0, 4.0], 20.0)
    """

    rows: int
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    gram: NDArray[np.float32]
    squared_peaks: float

    @classmethod
    def from_activation(cls, activation: NDArray[np.float32]) -> CalibrationStats:
        """Return the statistics of an activation, shape `(..., width)`."""
        x = activation.reshape(-1, activation.shape[-1])
        low, high = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
        return cls(len(x), low, high, x.T @ x, float((np.abs(x).max(axis=1) ** 2).sum()))

    def __add__(self, other: CalibrationStats) -> CalibrationStats:
        return CalibrationStats(
            self.rows + other.rows,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.gram + other.gram,
            self.squared_peaks + other.squared_peaks,
        )


def collect_calibration_stats(
    proto: onnx.ModelProto, batches: Iterable[NDArray[np.int64]]
) -> dict[str, CalibrationStats]:
    """Return the statistics of every activation that int8 will quantise.

    Args:
        proto: The fused fp32 graph that is to be quantised.
        batches: Token ids of real texts, each `(batch, sequence)`.

    Returns:
        The statistics by the name of the activation; empty without batches.
    """
    editor = GraphEditor(copy_model(proto))
    split_gemms(editor)
    names = list(dict.fromkeys(node.input[0] for node in quantisable_layers(editor)))
    session = open_session_with_outputs(proto, names)
    stats: dict[str, CalibrationStats] = {}
    for ids in batches:
        for name, activation in zip(names, session.run(names, {INPUT_IDS: ids}), strict=True):
            batch = CalibrationStats.from_activation(activation)
            stats[name] = stats[name] + batch if name in stats else batch
    return stats


def open_session_with_outputs(proto: onnx.ModelProto, names: Iterable[str]) -> onnxruntime.InferenceSession:
    """Open a session whose outputs include some tensors from inside the graph."""
    extended = copy_model(proto)
    outputs = {value.name for value in extended.graph.output}
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    return open_session(extended)
