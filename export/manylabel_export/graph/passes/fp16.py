"""fp16 for CUDA: half-precision weights and activations, with fp32 where fp16 would overflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST
from onnxruntime.transformers.onnx_model import OnnxModel

from manylabel_export.graph.analysis.calibration_stats import open_session_with_outputs
from manylabel_export.graph.analysis.linear_layers import layer_name
from manylabel_export.graph.ir.editor import INPUT_IDS, LOGITS, PROBABILITIES, GraphEditor, copy_model
from manylabel_export.graph.ir.external_data import embed_weights, read_tensor
from manylabel_export.graph.passes.fusion import silence_optimizer

# Operators in fp32 besides the converter's default list. The kernels of normalisations accumulate in fp32, so they can
# read and write fp16.
FP32_OPERATORS = ["Sigmoid", "Softmax"]
WEIGHTED_OPERATORS = ("MatMul", "Gemm", "Attention")  # fused attention holds the layers of query, key and value
FP16_MAX = float(np.finfo(np.float16).max)
SAFE_MAX = FP16_MAX / 4  # for calibration texts: other texts may reach further


def convert_to_fp16(
    proto: onnx.ModelProto, large: Collection[str] = (), fp32_layers: Collection[str] = ()
) -> onnx.ModelProto:
    """Convert a fused graph to fp16; its inputs and outputs keep their types.

    There is no mask, so a mask's lowest number cannot overflow. What happens inside a fused CUDA operator, such as the
    scores of attention, cannot be observed here.

    Args:
        proto: A graph fused for CUDA.
        large: Names of tensors that come close to the maximum of fp16, see `find_large_activations`.
        fp32_layers: Names of layers that stay in fp32, see `fp16_layer_sizes`.

    Returns:
        A new model: int64 `input_ids` in, float32 `probabilities` and `logits` out. In fp32 are the classifier, the
        sigmoid, `fp32_layers`, the nodes that read their outputs (which may exceed the range of fp16), and every node
        that has a weight beyond this range or reads or computes one of `large`.
    """
    fp32_outputs = {name for node in proto.graph.node if layer_name(node) in fp32_layers for name in node.output}
    model = OnnxModel(embed_weights(proto))
    with silence_optimizer():
        model.convert_float_to_float16(
            use_symbolic_shape_infer=True,
            keep_io_types=[PROBABILITIES, LOGITS],
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *FP32_OPERATORS],
            node_block_list=_fp32_nodes(proto, {*large, *fp32_outputs}),
        )
    return GraphEditor(model.model).finish()


def fp16_layer_sizes(proto: onnx.ModelProto, large: Collection[str] = ()) -> dict[str, int]:
    """Return the layers that fp16 rounds, by name, with their numbers of weights; a fused attention is one layer."""
    fp32_nodes = set(_fp32_nodes(proto, large))
    weights = {tensor.name: int(np.prod(tensor.dims)) for tensor in proto.graph.initializer if len(tensor.dims) > 1}
    sizes = {
        layer_name(node): sum(weights.get(name, 0) for name in node.input)
        for node in proto.graph.node
        if node.op_type in WEIGHTED_OPERATORS and node.name not in fp32_nodes
    }
    return {name: size for name, size in sizes.items() if size}


def find_large_activations(proto: onnx.ModelProto, batches: Sequence[NDArray[np.int64]]) -> set[str]:
    """Return the names of tensors that exceed `SAFE_MAX` for one of the texts.

    Args:
        proto: A graph fused for CUDA.
        batches: Token ids of real texts, each `(batch, sequence)`.
    """
    names = [name for node in proto.graph.node for name in node.output if name]
    large: set[str] = set()
    if not batches:
        return large
    session = open_session_with_outputs(proto, names)
    for ids in batches:
        for name, value in zip(names, session.run(names, {INPUT_IDS: ids}), strict=True):
            if value.dtype == np.float32 and value.size and not float(np.abs(value).max()) <= SAFE_MAX:
                large.add(name)
    return large


def _fp32_nodes(proto: onnx.ModelProto, large: Collection[str]) -> list[str]:
    """Return the classifier and every node with a weight or an activation that fp16 may not hold."""
    editor = GraphEditor(copy_model(proto))
    wide = {*large, *(tensor.name for tensor in proto.graph.initializer if _exceeds_fp16(tensor))}
    names = [node.name for node in proto.graph.node if wide & {*node.input, *node.output}]
    last = editor.producer(LOGITS)
    sources = [editor.producer(name) for name in last.input] if last is not None and last.op_type == "Add" else []
    return names + [node.name for node in (last, *sources) if node is not None]


def _exceeds_fp16(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = read_tensor(tensor)
    return bool(values.size) and float(np.abs(values).max()) > FP16_MAX
