"""int8 whose answer for a text does not depend on its neighbours.

Every row (one token) has its own scale, found while running, so that no row can change another's rounding:

    q = round(x / s) + zero         s = max|x| / 127 over that row, q uint8
    y = (q - zero) @ w_q * w_s * s  w_q int8 with a scale w_s for every column

Sums of integers are exact in any order. What stays in fp32 with one row a text (the classifier) is written so
that a row is summed alike alone and in company. Weights are signed and activations unsigned: the only pair
for which ONNX Runtime uses the processor's dot products of bytes (VNNI).

A row is quantised by one `QuantizeLinear` whose block is the row (opset 21). It gives the same bytes as `Div`
and a `QuantizeLinear` with one scale, in a third to a half of the time: 31 against 90 us for 256 rows of 1,536
and 15 against 27 us for 384 (one core of Zen 5, ONNX Runtime 1.32); a whole run gets 2 to 5 % faster.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter

from manylabel_export.graph.editor import CONTRIB, Editor, attribute, clone
from manylabel_export.graph.outputs import LOGITS

OPSET = 21  # the first with a scale for every block in QuantizeLinear
NOT_OF_THE_NAME = re.compile("^/(model/)*|/(MatMul|Gemm).*$")  # what tracing puts around a module's path


@dataclass(frozen=True)
class Quantiser:
    """How a row becomes bytes: divided by its scale, which is its peak / `steps`, rounded, plus `zero`.

    Attributes:
        zero: The byte that stands for 0.0.
        steps: How many bytes lie between `zero` and the peak.
        least_peak: The peak of a row counts as at least this.
        signed: Whether values as low as minus the peak occur. Otherwise none is below `-least_peak * zero / steps`.
    """

    zero: int
    steps: int
    least_peak: float
    signed: bool


# The least peak gives a row of zeros a scale: 0 / 0 would be no number.
SYMMETRIC = Quantiser(zero=128, steps=127, least_peak=1e-30, signed=True)

# GELU is never below -0.1700 (-0.1701 in its form by tanh), so 32 bytes are enough for what is negative if a
# step is at least 0.1701 / 32, and a row with a peak above 0.68 gets 223 steps instead of 127. One pass over
# memory less too: no absolute values. On goemotions with MiniLM the mean difference of a probability from
# PyTorch falls from 0.00099 to 0.00087.
AFTER_GELU = Quantiser(zero=32, steps=223, least_peak=0.1701 / 32 * 223, signed=False)
GELUS = ("Gelu", "BiasGelu", "FastGelu")


def raise_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in the opset that `quantise` needs; for a graph that is still of standard operators."""
    return version_converter.convert_version(proto, OPSET)


def products_of(proto: onnx.ModelProto) -> dict[str, int]:
    """What `quantise` quantises: the products by name, and how many weights each has.

    Names are the modules' paths, such as `bert/encoder/layer.0/output/dense`, whatever traced them.
    """
    editor = Editor(clone(proto))
    _split_gemms(editor)
    return {product_name(node): _weight(editor, node).size for node in editor.nodes if _is_product(editor, node)}


def quantise(proto: onnx.ModelProto, *, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Replaces every product with a constant matrix by its int8 form; the classifier stays in fp32.

    Args:
        proto: A fused graph for CPU, without a mask, of opset `OPSET`.
        keep: Names of products that stay in fp32, see `products_of`.

    Returns:
        A new model with the same inputs and outputs. For equal inputs its outputs are the same bits whatever
        else is in the batch, as long as texts have the same number of tokens.
    """
    editor = Editor(clone(proto))
    _split_gemms(editor)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in editor.nodes:
        if _is_product(editor, node) and product_name(node) not in keep:
            readers[node.input[0]].append(node)
        elif node.op_type == "MatMul" and _has_weight(editor, node):
            _sum_in_fixed_order(editor, node)
    for activation, products in readers.items():
        _quantise_products(editor, activation, products)
    return editor.finish()


def quantise_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds a matrix to bytes, symmetrically, with a scale for every column.

    Args:
        weight: Shape `(inputs, outputs)`.

    Returns:
        The bytes, `(inputs, outputs)`, and the scales, `(outputs,)`, whose product is close to `weight`.
    """
    peak = np.abs(weight).max(axis=0)
    scale = np.maximum(peak / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def _split_gemms(editor: Editor) -> None:
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


def product_name(node: onnx.NodeProto) -> str:
    """The path of the module that a product is computed for."""
    return NOT_OF_THE_NAME.sub("", node.name or node.output[0])


def _is_product(editor: Editor, node: onnx.NodeProto) -> bool:
    return node.op_type == "MatMul" and _has_weight(editor, node) and not _is_classifier(editor, node)


def _has_weight(editor: Editor, node: onnx.NodeProto) -> bool:
    weight = editor.constant(node.input[1])
    return weight is not None and weight.ndim == 2 and weight.dtype == np.float32


def _weight(editor: Editor, node: onnx.NodeProto) -> NDArray[np.float32]:
    weight = editor.constant(node.input[1])
    assert weight is not None
    return weight


def _is_classifier(editor: Editor, node: onnx.NodeProto) -> bool:
    """Whether a product makes the logits, with at most a bias in between."""
    name = node.output[0]
    reader = editor.sole_consumer(name)
    return name == LOGITS or (reader is not None and reader.op_type == "Add" and reader.output[0] == LOGITS)


def _sum_in_fixed_order(editor: Editor, node: onnx.NodeProto) -> None:
    """Computes `x @ w` as a batch of `w.T @ x.T`, one product a text, of the same dimensions in any batch.

    For a single product ONNX Runtime may choose its kernel by the number of rows, and with it the order of the
    sums. (With AVX-512 the two were never seen to differ; other processors have other kernels.)
    """
    activation, weight = node.input[0], _weight(editor, node)
    rows = editor.add_constant(np.array([0, -1, weight.shape[0]], np.int64), "rows")  # of a text: its tokens, or one
    columns = editor.add("Transpose", [editor.add("Reshape", [activation, rows], "rows")], "columns", perm=[0, 2, 1])
    product = editor.add("MatMul", [editor.add_constant(weight.T, "fixed_order"), columns], "columns_out")
    product = editor.add("Transpose", [product], "rows_out", perm=[0, 2, 1])
    width = editor.add_constant(np.array([weight.shape[1]], np.int64), "width")
    shape = editor.add("Concat", [editor.add("Shape", [activation], "leading", end=-1), width], "shape_out", axis=0)
    editor.supersede(node.output[0], editor.add("Reshape", [product, shape], "fixed_order_out"))


def _quantise_products(editor: Editor, activation: str, products: list[onnx.NodeProto]) -> None:
    """Quantises an activation once for all products that read it: query, key and value share theirs."""
    producer = editor.producer(activation)
    form = AFTER_GELU if producer is not None and producer.op_type in GELUS else SYMMETRIC
    scale = _row_scale(editor, activation, form)
    zero = editor.add_constant(np.uint8(form.zero), "zero")
    quantised = _quantise_rows(editor, activation, scale, zero, width=len(_weight(editor, products[0])))
    one = editor.add_constant(np.float32(1), "one")
    for node in products:
        values, column_scale = quantise_weight(_weight(editor, node))
        inputs = [quantised, editor.add_constant(values, "weight_int8"), one]
        inputs += [editor.add_constant(column_scale, "weight_scale"), zero]
        product = editor.add("MatMulIntegerToFloat", inputs, "product_int8", domain=CONTRIB)
        editor.supersede(node.output[0], editor.add("Mul", [product, scale], "rescaled"))


def _row_scale(editor: Editor, activation: str, form: Quantiser) -> str:
    """The scale of every row, `(..., 1)`."""
    values = editor.add("Abs", [activation], "absolute") if form.signed else activation
    last = editor.add_constant(np.array([-1], np.int64), "last_axis")
    peak = editor.add("ReduceMax", [values, last], "row_peak", keepdims=1)
    # Clip, not Max: 0.16 against 1.99 us for 256 rows.
    peak = editor.add("Clip", [peak, editor.add_constant(np.float32(form.least_peak), "least_peak")], "row_peak")
    return editor.add("Mul", [peak, editor.add_constant(np.float32(1 / form.steps), "step")], "row_scale")


def _quantise_rows(editor: Editor, activation: str, scale: str, zero: str, *, width: int) -> str:
    """The bytes of an activation `(..., width)`; the zero points must have the shape of the scales."""
    zeros = editor.add("Expand", [zero, editor.add("Shape", [scale], "scale_shape")], "zeros")
    inputs = [activation, scale, zeros]
    return editor.add("QuantizeLinear", inputs, "quantised", axis=-1, block_size=width)
