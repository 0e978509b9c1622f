"""The linear layers of a graph: which MatMuls they are, what they are called, and their batch-invariant fp32 form."""

from __future__ import annotations

import re

import numpy as np
import onnx
from numpy.typing import NDArray

from manylabel_export.graph.ir.editor import LOGITS, GraphEditor, copy_model, get_attribute

AROUND_MODULE_PATH = re.compile("^/(model/)*|/(MatMul|Gemm).*$")  # what tracing puts around a module's path


def linear_layer_sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the linear layers that int8 quantises, by name, with their numbers of weights.

    A name is the path of the module, such as `bert/encoder/layer.0/output/dense`, with either tracing engine.
    """
    editor = GraphEditor(copy_model(proto))
    split_gemms(editor)
    return {layer_name(node): layer_weight(editor, node).size for node in quantisable_layers(editor)}


def quantisable_layers(editor: GraphEditor) -> list[onnx.NodeProto]:
    """Return the linear layers without the classifier, which stays in fp32."""
    return [node for node in linear_layers(editor) if not _is_classifier(editor, node)]


def linear_layers(editor: GraphEditor) -> list[onnx.NodeProto]:
    """Return every MatMul of an activation with a constant fp32 matrix."""
    return [node for node in editor.nodes if node.op_type == "MatMul" and _has_weight(editor, node)]


def layer_name(node: onnx.NodeProto) -> str:
    """Return the path of the module that a MatMul belongs to.

    >>> node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="/bert/encoder/layer.0/output/dense/MatMul")
    >>> layer_name(node)
    'bert/encoder/layer.0/output/dense'
    """
    return AROUND_MODULE_PATH.sub("", node.name or node.output[0])


def layer_weight(editor: GraphEditor, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Return the weight of a linear layer, shape `(inputs, outputs)`."""
    weight = editor.constant(node.input[1])
    assert weight is not None
    return weight


def split_gemms(editor: GraphEditor) -> None:
    """Rewrite each `Gemm` as `MatMul` and `Add`, so that one rule covers every linear layer."""
    for node in editor.nodes:
        weight = editor.constant(node.input[1]) if node.op_type == "Gemm" else None
        is_plain = get_attribute(node, "alpha", 1.0) == 1 and get_attribute(node, "beta", 1.0) == 1
        if weight is None or not is_plain or get_attribute(node, "transA", 0):
            continue
        kernel = editor.add_constant(weight.T if get_attribute(node, "transB", 0) else weight, "kernel")
        result = editor.add_node("MatMul", [node.input[0], kernel], f"{node.name}/MatMul")
        if len(node.input) > 2:
            result = editor.add_node("Add", [result, node.input[2]], "linear")
        editor.replace_tensor(node.output[0], result)


def make_batch_invariant(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Rewrite `x @ w` as a batched MatMul `w.T @ x.T` with one product per text, of the same shape in any batch.

    ONNX Runtime may choose the kernel of a single MatMul by its number of rows, and with it the order of summation.
    (With AVX-512 no difference was ever measured; other processors have other kernels.)
    """
    activation, weight = node.input[0], layer_weight(editor, node)
    rows = editor.add_constant(np.array([0, -1, weight.shape[0]], np.int64), "rows")  # of a text: its tokens, or one
    rows = editor.add_node("Reshape", [activation, rows], "rows")
    columns = editor.add_node("Transpose", [rows], "columns", perm=[0, 2, 1])
    product = editor.add_node("MatMul", [editor.add_constant(weight.T, "fixed_order"), columns], "columns_out")
    product = editor.add_node("Transpose", [product], "rows_out", perm=[0, 2, 1])
    width = editor.add_constant(np.array([weight.shape[1]], np.int64), "width")
    leading = editor.add_node("Shape", [activation], "leading", end=-1)
    shape = editor.add_node("Concat", [leading, width], "shape_out", axis=0)
    editor.replace_tensor(node.output[0], editor.add_node("Reshape", [product, shape], "fixed_order_out"))


def _has_weight(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    weight = editor.constant(node.input[1])
    return weight is not None and weight.ndim == 2 and weight.dtype == np.float32


def _is_classifier(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Return whether a MatMul computes the logits, with at most a bias in between."""
    name = node.output[0]
    reader = editor.sole_consumer(name)
    return name == LOGITS or (reader is not None and reader.op_type == "Add" and reader.output[0] == LOGITS)
