"""The equivalence check: compare a graph with what it was made from, on random token ids.

A tracer may freeze what depends on the length, and a fusion may ignore what it does not recognise. Both are detected
here, at other shapes than the traced one. Parity with PyTorch on real texts is verified later, by `evaluator`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from manylabel.errors import ExportError
from manylabel_export.graph.ir.editor import ATTENTION_MASK, INPUT_IDS, PROBABILITIES, TYPE_IDS
from manylabel_export.graph.ir.serialization import open_session

GraphPredictor = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Maps ids and mask, both int64 `(batch, sequence)`, to probabilities, float32 `(batch, num_labels)`."""

FP32_TOLERANCE = 1e-4
"""Allowed difference of an fp32 probability from PyTorch's. Tracing, fusing and another order of summation change it by
less than 1e-6."""
UNSUPPORTED = "This architecture is not supported; docs/exporting.md lists those that are."
SHAPES = ((1, 3), (3, 11))  # batch and length; the traced shape is another


def check_equivalence(
    expected: GraphPredictor, proto: onnx.ModelProto, *, vocabulary: int, padding: bool, step: str
) -> None:
    """Compare a graph's probabilities with those of its original.

    Args:
        expected: The original.
        proto: The graph.
        vocabulary: The number of token ids.
        padding: Whether to also try texts of different length, which need a graph with a mask.
        step: What made the graph, as the beginning of a sentence.

    Raises:
        ExportError: A probability differs by more than `FP32_TOLERANCE`, or the graph does not run.
    """
    predict = graph_predictor(proto)
    generator = np.random.default_rng(0)
    for shape in SHAPES:
        ids = generator.integers(0, vocabulary, shape)
        masks = [np.ones_like(ids)]
        if padding and len(ids) > 1:
            masks.append(np.tril(np.ones_like(ids), k=ids.shape[1] // 2))
        for mask in masks:
            difference = _max_difference(expected, predict, ids, mask, step)
            if not difference <= FP32_TOLERANCE:  # NaN fails too
                raise ExportError(
                    f"{step} changed a probability by {difference:.2g} for {shape[0]} texts of {shape[1]} tokens; at "
                    f"most {FP32_TOLERANCE:g} is allowed. {UNSUPPORTED}"
                )


def graph_predictor(proto: onnx.ModelProto) -> GraphPredictor:
    """Return a function that runs a graph with the inputs that it declares."""
    session = open_session(proto, threads=1)
    names = [value.name for value in session.get_inputs()]

    def predict(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feeds = {INPUT_IDS: ids, ATTENTION_MASK: mask, TYPE_IDS: np.zeros_like(ids)}
        probabilities: NDArray[np.float32] = session.run([PROBABILITIES], {name: feeds[name] for name in names})[0]
        return probabilities

    return predict


def _max_difference(
    expected: GraphPredictor, predict: GraphPredictor, ids: NDArray[np.int64], mask: NDArray[np.int64], step: str
) -> float:
    reference = expected(ids, mask)
    try:
        return float(np.abs(predict(ids, mask) - reference).max())
    except Exception as exc:  # ONNX Runtime's errors have no common base but Exception
        raise ExportError(
            f"{step} gave a graph that does not run for {ids.shape[0]} texts of {ids.shape[1]} tokens: {exc}. "
            f"{UNSUPPORTED}"
        ) from exc
