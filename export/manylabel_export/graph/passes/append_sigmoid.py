"""The sigmoid inside the graph, so that whoever runs it gets probabilities."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from manylabel_export.graph.ir.editor import Editor

PROBABILITIES = "probabilities"
LOGITS = "logits"


def append_sigmoid(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Makes `probabilities` the first output and keeps `logits` as the second.

    Args:
        proto: A graph whose only output is `logits`, float32 `(batch, num_labels)`. Edited in place.

    Returns:
        The same model with the outputs `probabilities` and `logits`, both float32 `(batch, num_labels)`.
    """
    editor = Editor(proto)
    logits = editor.graph.output[0]
    editor.add("Sigmoid", [LOGITS], PROBABILITIES)
    shape = [dimension.dim_param or dimension.dim_value for dimension in logits.type.tensor_type.shape.dim]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (PROBABILITIES, LOGITS)]
    del editor.graph.output[:]
    editor.graph.output.extend(outputs)
    return editor.finish()
