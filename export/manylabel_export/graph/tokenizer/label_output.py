"""The end of a graph that takes text: each label's maximum over the windows, and the names of those that apply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from manylabel_export.graph.ir.editor import Editor
from manylabel_export.graph.passes.append_sigmoid import LOGITS, PROBABILITIES

LABELS = "labels"


def add_labels(editor: Editor, labels: Sequence[str], thresholds: NDArray[Any]) -> None:
    """Makes `labels` and `probabilities` of all windows the outputs.

    Args:
        editor: A graph with the output `probabilities`, float32 `(windows, n_labels)`.
        labels: In column order.
        thresholds: Shape `(n_labels,)`; a label applies from there on.
    """
    first = editor.add_constant(np.array([0], np.int64), "first_axis")
    greatest = editor.add("ReduceMax", [LOGITS, first], "greatest", keepdims=1)  # as the sigmoid rises, so of both
    editor.supersede(PROBABILITIES, editor.add("Sigmoid", [greatest], "of_text"))
    limits = editor.add_constant(np.asarray(thresholds, dtype=np.float32), "thresholds")
    row = editor.add("Squeeze", [PROBABILITIES, first], "row")
    applies = editor.add("GreaterOrEqual", [row, limits], "applies")
    names = editor.add_constant(np.array(list(labels)), "names")
    editor.add("Compress", [names, applies], LABELS, axis=0)
    del editor.graph.output[:]
    editor.graph.output.append(helper.make_tensor_value_info(LABELS, TensorProto.STRING, [None]))
    editor.graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [1, len(labels)]))
