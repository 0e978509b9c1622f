"""fp16 for CUDA: half the bytes and the tensor cores, with fp32 where half a float is too little."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST
from onnxruntime.transformers.onnx_model import OnnxModel

from manylabel_export.graph.analysis.linear_layers import product_name
from manylabel_export.graph.ir.editor import Editor, clone
from manylabel_export.graph.ir.external_data import hold, value_of
from manylabel_export.graph.passes.append_sigmoid import LOGITS, PROBABILITIES
from manylabel_export.graph.passes.fusion import quiet_optimizer
from manylabel_export.graph.quantization.calibration_stats import watch

# Kept in fp32 beside what the converter keeps anyway. The kernels of the normalisations accumulate in fp32
# themselves, so those can take halves.
KEPT_OPERATORS = ["Sigmoid", "Softmax"]
WEIGHED = ("MatMul", "Gemm", "Attention")  # fused attention holds the products of query, key and value
LARGEST = float(np.finfo(np.float16).max)
SAFE = LARGEST / 4  # for what was seen: other texts may reach further


def halve(proto: onnx.ModelProto, large: Collection[str] = (), keep: Collection[str] = ()) -> onnx.ModelProto:
    """Converts a fused graph to fp16; its inputs and outputs keep their types.

    There is no mask, so no mask's lowest number can overflow. What happens inside a fused operator on CUDA, such as
    attention's scores, cannot be seen here.

    Args:
        proto: A graph fused for CUDA.
        large: Names of tensors that are near the end of fp16's range, see `large_activations`.
        keep: Names of parts that stay in fp32, see `parts_of`.

    Returns:
        A new model: int64 `input_ids` in, float32 `probabilities` and `logits` out. The classifier and the
        sigmoid are computed in fp32, and so are kept parts, and whatever has a weight beyond the range of fp16, or
        reads or makes a tensor near its end, or reads what a kept part makes, which may be beyond it.
    """
    made = {name for node in proto.graph.node if product_name(node) in keep for name in node.output}
    model = OnnxModel(hold(proto))
    with quiet_optimizer():
        model.convert_float_to_float16(
            use_symbolic_shape_infer=True,
            keep_io_types=[PROBABILITIES, LOGITS],
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_OPERATORS],
            node_block_list=_kept_nodes(proto, {*large, *made}),
        )
    return Editor(model.model).finish()


def parts_of(proto: onnx.ModelProto, large: Collection[str] = ()) -> dict[str, int]:
    """What is rounded to halves, by name, and how many weights each has: products, and attention with its three."""
    kept = set(_kept_nodes(proto, large))
    size = {tensor.name: int(np.prod(tensor.dims)) for tensor in proto.graph.initializer if len(tensor.dims) > 1}
    sizes = {
        product_name(node): sum(size.get(name, 0) for name in node.input)
        for node in proto.graph.node
        if node.op_type in WEIGHED and node.name not in kept
    }
    return {name: count for name, count in sizes.items() if count}


def large_activations(proto: onnx.ModelProto, batches: Sequence[NDArray[np.int64]]) -> set[str]:
    """The names of tensors that reach beyond `SAFE` for one of some texts.

    Args:
        proto: A graph fused for CUDA.
        batches: Token ids of real texts, each `(batch, sequence)`.
    """
    names = [name for node in proto.graph.node for name in node.output if name]
    large: set[str] = set()
    if not batches:
        return large
    session = watch(proto, names)
    for ids in batches:
        for name, value in zip(names, session.run(names, {"input_ids": ids}), strict=True):
            if value.dtype == np.float32 and value.size and not float(np.abs(value).max()) <= SAFE:
                large.add(name)
    return large


def _kept_nodes(proto: onnx.ModelProto, large: Collection[str]) -> list[str]:
    """The classifier, and every node with a weight that fp16 cannot hold or with activations that it may not."""
    editor = Editor(clone(proto))
    wide = {*large, *(tensor.name for tensor in proto.graph.initializer if _exceeds(tensor))}
    kept = [node.name for node in proto.graph.node if wide & {*node.input, *node.output}]
    last = editor.producer(LOGITS)
    sources = [editor.producer(name) for name in last.input] if last is not None and last.op_type == "Add" else []
    return kept + [node.name for node in (last, *sources) if node is not None]


def _exceeds(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = value_of(tensor)
    return bool(values.size) and float(np.abs(values).max()) > LARGEST
