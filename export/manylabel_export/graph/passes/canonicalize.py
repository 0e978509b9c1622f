"""The graph for everyone: standard operators only, constants folded, nothing fused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

from manylabel.errors import ExportError
from manylabel_export.graph.ir.editor import Editor
from manylabel_export.graph.ir.serialization import lifted, put_back

# Both replace what a later pass recognises: sharing merges scalars of unequal meaning into one
# initializer, and MatMul + Add as Gemm hides a linear layer from the attention fusion.
LEFT_OUT = ["ConstantSharing", "MatMulAddFusion"]


def clean(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Folds constants and drops no-ops by ONNX Runtime's basic level, which stays within the standard.

    Args:
        proto: A traced graph with its outputs named.

    Returns:
        A new model that computes the same.

    Raises:
        ExportError: ONNX Runtime refuses the graph, or left the standard operators.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder, lifted(proto) as tensors:
        path = Path(folder) / "clean.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                proto.SerializeToString(), options, ["CPUExecutionProvider"], disabled_optimizers=LEFT_OUT
            )
        except Exception as exc:
            raise ExportError(f"ONNX Runtime cannot load the traced graph: {exc}") from exc
        loaded = onnx.load(str(path))
        put_back(loaded, tensors)
        cleaned = Editor(loaded).finish()
    _assert_standard(cleaned)
    return cleaned


def _assert_standard(proto: onnx.ModelProto) -> None:
    foreign = {f"{node.domain}::{node.op_type}" for node in proto.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign:
        raise ExportError(f"The fp32 graph must use standard ONNX operators only, and has {', '.join(foreign)}.")
