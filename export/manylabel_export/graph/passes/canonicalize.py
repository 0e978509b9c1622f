"""The canonical fp32 graph: sigmoid included, standard operators only, constants folded, nothing fused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, helper

from manylabel.errors import ExportError
from manylabel_export.graph.ir.editor import LOGITS, PROBABILITIES, GraphEditor
from manylabel_export.graph.ir.serialization import restore_weights, weights_as_inputs

# Both would hide what a later pass looks for: sharing merges scalars of different meaning into one
# initializer, and MatMul + Add as Gemm hides a linear layer from the attention fusion.
DISABLED_OPTIMIZERS = ["ConstantSharing", "MatMulAddFusion"]


def append_sigmoid(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Make `probabilities` the first output and `logits` the second.

    Args:
        proto: A graph whose only output is `logits`, float32 `(batch, num_labels)`. Edited in place.

    Returns:
        The same model with the outputs `probabilities` and `logits`, both float32 `(batch, num_labels)`.
    """
    editor = GraphEditor(proto)
    logits = editor.graph.output[0]
    editor.add_node("Sigmoid", [LOGITS], PROBABILITIES)
    shape = [dimension.dim_param or dimension.dim_value for dimension in logits.type.tensor_type.shape.dim]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (PROBABILITIES, LOGITS)]
    del editor.graph.output[:]
    editor.graph.output.extend(outputs)
    return editor.finish()


def canonicalize(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and remove no-ops with ONNX Runtime's basic optimisations, which keep to the standard.

    Args:
        proto: A traced graph with named outputs.

    Returns:
        A new model that computes the same.

    Raises:
        ExportError: ONNX Runtime cannot load the graph, or produced non-standard operators.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder, weights_as_inputs(proto) as tensors:
        path = Path(folder) / "clean.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                proto.SerializeToString(), options, ["CPUExecutionProvider"], disabled_optimizers=DISABLED_OPTIMIZERS
            )
        except Exception as exc:  # ONNX Runtime's errors have no common base but Exception
            raise ExportError(f"ONNX Runtime cannot load the traced graph: {exc}") from exc
        loaded = onnx.load(str(path))
        restore_weights(loaded, tensors)
        canonical = GraphEditor(loaded).finish()
    _require_standard_operators(canonical)
    return canonical


def _require_standard_operators(proto: onnx.ModelProto) -> None:
    foreign = {f"{node.domain}::{node.op_type}" for node in proto.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign:
        raise ExportError(
            f"The fp32 graph must contain only standard ONNX operators, but contains {', '.join(sorted(foreign))}."
        )
