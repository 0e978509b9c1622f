"""int8 whose answer for a text does not depend on its neighbours.

    y = (q - zero) @ w_q * w_s * s  q: a row as bytes, with its scale s and its zero, see `activations`
                                    w_q: int8 with a scale w_s for every column, see `weights`

Sums of integers are exact in any order. What stays in fp32 (the classifier, with one row a text) is written so
that a row is summed alike alone and in company. Weights are signed and activations unsigned: the only pair
for which ONNX Runtime uses the processor's dot products of bytes (VNNI).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter

from manylabel_export.graph.activations import AFTER_GELU, GELUS, SYMMETRIC, Bytes, Fixed, Quantiser
from manylabel_export.graph.editor import CONTRIB, Editor, clone
from manylabel_export.graph.moments import Moments
from manylabel_export.graph.products import (
    linear_layers,
    product_name,
    products,
    split_gemms,
    sum_in_fixed_order,
    weight_of,
)
from manylabel_export.graph.weights import Rounded, round_for, round_weight

OPSET = 21  # the first with a scale for every block in QuantizeLinear


def raise_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in the opset that `quantise` needs; for a graph that is still of standard operators."""
    return version_converter.convert_version(proto, OPSET)


def quantise(
    proto: onnx.ModelProto, *, keep: Collection[str] = (), moments: Mapping[str, Moments] | None = None
) -> onnx.ModelProto:
    """Replaces every product with a constant matrix by its int8 form; the classifier stays in fp32.

    Args:
        proto: A fused graph for CPU, without a mask, of opset `OPSET`.
        keep: Names of products that stay in fp32, see `products_of`.
        moments: What real texts do to its activations, see `measure`. Without them every row has a scale of its own
            and weights are rounded to the nearest byte.

    Returns:
        A new model with the same inputs and outputs. For equal inputs its outputs are the same bits whatever
        else is in the batch, as long as texts have the same number of tokens.
    """
    editor = Editor(clone(proto))
    split_gemms(editor)
    chosen = {node.output[0]: node for node in products(editor) if product_name(node) not in keep}
    for node in linear_layers(editor):
        if node.output[0] not in chosen:
            sum_in_fixed_order(editor, node)
    for family in _families(list(chosen.values())):
        _quantise_family(editor, family, moments or {})
    return editor.finish()


@dataclass
class Family:
    """Products that are quantised together: query, key and value read one activation, ALBERT's layers share weights.

    Attributes:
        nodes: The products.
        activations, weights: The names of what they read.
    """

    nodes: list[onnx.NodeProto]
    activations: list[str]
    weights: list[str]


def _families(nodes: list[onnx.NodeProto]) -> list[Family]:
    """Joins products that share an activation or a weight."""
    families: list[Family] = []
    for node in nodes:
        activation, weight = node.input[:2]
        related = [each for each in families if activation in each.activations or weight in each.weights]
        families = [each for each in families if each not in related]
        joined = Family([node], [activation], [weight])
        for each in related:
            joined.nodes = each.nodes + joined.nodes
            joined.activations += [name for name in each.activations if name not in joined.activations]
            joined.weights += [name for name in each.weights if name not in joined.weights]
        families.append(joined)
    return families


def _quantise_family(editor: Editor, family: Family, known: Mapping[str, Moments]) -> None:
    found = [known[name] for name in family.activations if name in known]
    moments = reduce(add, found) if found else None
    weights = {node.input[1]: weight_of(editor, node) for node in family.nodes}
    beside = np.concatenate(list(weights.values()), axis=1)
    form = _form(editor, family, moments, beside)
    values, scales = _round(beside, form, moments)
    ends = np.cumsum([weight.shape[1] for weight in weights.values()])[:-1]
    rounded = dict(zip(weights, zip(np.split(values, ends, axis=1), np.split(scales, ends), strict=True), strict=True))
    quantised = {name: form.quantise(editor, name, len(beside)) for name in family.activations}
    for node in family.nodes:
        _quantise_product(editor, node, quantised[node.input[0]], rounded[node.input[1]])


def _form(editor: Editor, family: Family, moments: Moments | None, weights: NDArray[np.float32]) -> Quantiser:
    producers = [editor.producer(name) for name in family.activations]
    if all(producer is not None and producer.op_type in GELUS for producer in producers):
        return AFTER_GELU
    return SYMMETRIC if moments is None else Fixed.for_texts(moments, weights)


def _round(weights: NDArray[np.float32], form: Quantiser, moments: Moments | None) -> Rounded:
    """The weights that read one activation, side by side."""
    widths = form.widths(len(weights))
    if moments is None:
        return round_weight(weights * widths[:, None])
    second = moments.second / moments.rows / np.outer(widths, widths)
    noise = np.eye(len(weights), dtype=np.float32) * form.noise(moments)
    return round_for(weights * widths[:, None], second + noise)


def _quantise_product(editor: Editor, node: onnx.NodeProto, row: Bytes, weight: Rounded) -> None:
    values, scale = weight
    inputs = [row.values, editor.add_constant(values, "weight_int8"), row.scale]
    inputs += [editor.add_constant(scale, "weight_scale"), row.zero]
    if row.row_scale is None:
        _with_bias(editor, node, inputs)
    else:
        product = editor.add("MatMulIntegerToFloat", inputs, "product_int8", domain=CONTRIB)
        editor.supersede(node.output[0], editor.add("Mul", [product, row.row_scale], "rescaled"))


def _with_bias(editor: Editor, node: onnx.NodeProto, inputs: list[str]) -> None:
    """Adds the bias that follows a product within it: a pass over memory less."""
    reader = editor.sole_consumer(node.output[0])
    bias = _bias(editor, node, reader)
    inputs += ["", bias] if bias else []
    product = editor.add("MatMulIntegerToFloat", inputs, "product_int8", domain=CONTRIB)
    if reader is None or not bias:
        editor.supersede(node.output[0], product)
    elif reader.op_type == "Add":
        editor.supersede(reader.output[0], product)
    else:
        editor.supersede(reader.output[0], editor.add("Gelu", [product], "gelu"))


def _bias(editor: Editor, node: onnx.NodeProto, reader: onnx.NodeProto | None) -> str:
    """What the only reader of a product adds to every row of it, or ""."""
    if reader is None or reader.op_type not in ("Add", "BiasGelu"):
        return ""
    width = weight_of(editor, node).shape[1]
    values = {name: editor.constant(name) for name in reader.input}
    return next((name for name, value in values.items() if value is not None and value.shape == (width,)), "")
