"""The linear layers of a graph: which products they are, what they are called, how fp32 sums one in a fixed order."""

from __future__ import annotations

import re

import numpy as np
import onnx
from numpy.typing import NDArray

from manylabel_export.graph.ir.editor import Editor, attribute, clone
from manylabel_export.graph.passes.append_sigmoid import LOGITS

NOT_OF_THE_NAME = re.compile("^/(model/)*|/(MatMul|Gemm).*$")  # what tracing puts around a module's path


def products_of(proto: onnx.ModelProto) -> dict[str, int]:
    """What int8 quantises: the products by name, and how many weights each has.

    Names are the modules' paths, such as `bert/encoder/layer.0/output/dense`, whatever traced them.
    """
    editor = Editor(clone(proto))
    split_gemms(editor)
    return {product_name(node): weight_of(editor, node).size for node in products(editor)}


def products(editor: Editor) -> list[onnx.NodeProto]:
    """Every product of an activation with a constant matrix, but the classifier's."""
    return [node for node in linear_layers(editor) if not _is_classifier(editor, node)]


def linear_layers(editor: Editor) -> list[onnx.NodeProto]:
    """The classifier's product too."""
    return [node for node in editor.nodes if node.op_type == "MatMul" and _has_weight(editor, node)]


def product_name(node: onnx.NodeProto) -> str:
    """The path of the module that a product is computed for."""
    return NOT_OF_THE_NAME.sub("", node.name or node.output[0])


def weight_of(editor: Editor, node: onnx.NodeProto) -> NDArray[np.float32]:
    """The constant matrix of a product, `(inputs, outputs)`."""
    weight = editor.constant(node.input[1])
    assert weight is not None
    return weight


def split_gemms(editor: Editor) -> None:
    """Spells `Gemm` as product and sum, so that one rule treats every linear layer."""
    for node in editor.nodes:
        weight = editor.constant(node.input[1]) if node.op_type == "Gemm" else None
        plain = attribute(node, "alpha", 1.0) == 1 and attribute(node, "beta", 1.0) == 1
        if weight is None or not plain or attribute(node, "transA", 0):
            continue
        kernel = editor.add_constant(weight.T if attribute(node, "transB", 0) else weight, "kernel")
        result = editor.add("MatMul", [node.input[0], kernel], f"{node.name}/MatMul")
        if len(node.input) > 2:
            result = editor.add("Add", [result, node.input[2]], "linear")
        editor.supersede(node.output[0], result)


def sum_in_fixed_order(editor: Editor, node: onnx.NodeProto) -> None:
    """Computes `x @ w` as a batch of `w.T @ x.T`, one product a text, of the same dimensions in any batch.

    For a single product ONNX Runtime may choose its kernel by the number of rows, and with it the order of the
    sums. (With AVX-512 the two were never seen to differ; other processors have other kernels.)
    """
    activation, weight = node.input[0], weight_of(editor, node)
    rows = editor.add_constant(np.array([0, -1, weight.shape[0]], np.int64), "rows")  # of a text: its tokens, or one
    columns = editor.add("Transpose", [editor.add("Reshape", [activation, rows], "rows")], "columns", perm=[0, 2, 1])
    product = editor.add("MatMul", [editor.add_constant(weight.T, "fixed_order"), columns], "columns_out")
    product = editor.add("Transpose", [product], "rows_out", perm=[0, 2, 1])
    width = editor.add_constant(np.array([weight.shape[1]], np.int64), "width")
    shape = editor.add("Concat", [editor.add("Shape", [activation], "leading", end=-1), width], "shape_out", axis=0)
    editor.supersede(node.output[0], editor.add("Reshape", [product, shape], "fixed_order_out"))


def _has_weight(editor: Editor, node: onnx.NodeProto) -> bool:
    weight = editor.constant(node.input[1])
    return weight is not None and weight.ndim == 2 and weight.dtype == np.float32


def _is_classifier(editor: Editor, node: onnx.NodeProto) -> bool:
    """Whether a product makes the logits, with at most a bias in between."""
    name = node.output[0]
    reader = editor.sole_consumer(name)
    return name == LOGITS or (reader is not None and reader.op_type == "Add" and reader.output[0] == LOGITS)
