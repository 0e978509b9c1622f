"""Two forms of a model on made-up token ids: a guard for the steps of this package.

A tracer may freeze what depends on the length, and a fusion may overlook what it does not know. Either is
refused here, at shapes other than the traced one. Parity with PyTorch on real texts is proved later, elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from manylabel.errors import ExportError
from manylabel_export.graph.ir.serialization import session_of
from manylabel_export.graph.passes.append_sigmoid import PROBABILITIES
from manylabel_export.graph.passes.mask_elimination import FILLED

# Ids and mask, both int64 `(batch, sequence)`, to probabilities `(batch, num_labels)`.
Answer = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]

TOLERANCE = 1e-4  # of probability; tracing and fusing move it by less than 1e-6
UNSUPPORTED = "This architecture is not supported; the README's table lists those that are."
SHAPES = ((1, 3), (3, 11))  # batch and length; traced was another


def assert_agreement(expected: Answer, proto: onnx.ModelProto, *, vocabulary: int, padding: bool, step: str) -> None:
    """Compares a graph with what it was made from.

    Args:
        expected: How the original answers.
        proto: The graph.
        vocabulary: Number of token ids.
        padding: Whether to try texts of unequal length too, which only a graph with a mask can take.
        step: What made the graph, as the beginning of a sentence.

    Raises:
        ExportError: A probability differs by more than `TOLERANCE`, or the graph does not run.
    """
    found = answer_of(proto)
    generator = np.random.default_rng(0)
    for shape in SHAPES:
        ids = generator.integers(0, vocabulary, shape)
        masks = [np.ones_like(ids)]
        if padding and len(ids) > 1:
            masks.append(np.tril(np.ones_like(ids), k=ids.shape[1] // 2))
        for mask in masks:
            difference = _difference(expected, found, ids, mask, step)
            if not difference <= TOLERANCE:  # so written that NaN fails too
                raise ExportError(
                    f"{step} changed a probability by {difference:.2g} for {shape[0]} texts of {shape[1]} tokens, "
                    f"more than {TOLERANCE:g}. {UNSUPPORTED}"
                )


def answer_of(proto: onnx.ModelProto) -> Answer:
    """How a graph answers; it is fed the inputs that it declares."""
    session = session_of(proto, threads=1)
    names = [value.name for value in session.get_inputs()]

    def answer(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feeds = {"input_ids": ids, "attention_mask": mask}
        feeds["token_type_ids"] = np.full_like(ids, FILLED["token_type_ids"])
        probabilities: NDArray[np.float32] = session.run([PROBABILITIES], {name: feeds[name] for name in names})[0]
        return probabilities

    return answer


def _difference(expected: Answer, found: Answer, ids: NDArray[np.int64], mask: NDArray[np.int64], step: str) -> float:
    wanted = expected(ids, mask)
    try:
        return float(np.abs(found(ids, mask) - wanted).max())
    except Exception as exc:  # ONNX Runtime's errors have no common base but Exception
        raise ExportError(
            f"{step} gave a graph that does not run for {ids.shape[0]} texts of {ids.shape[1]} tokens: {exc}. "
            f"{UNSUPPORTED}"
        ) from exc
